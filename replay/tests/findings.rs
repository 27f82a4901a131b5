//! What somebody should look at: commands that destroy something, files with credentials, secrets that are sent to a model, loops,
//! TLS that was not seen. Each is told once, and does not give away what it is about.

mod common;

use common::run::{AGENT, Run};
use common::*;

/// Rule, severity and subject of each finding.
fn findings(seen: &Collected) -> Vec<(&str, &str, &str)> {
    let rows = seen.table("findings").into_iter();
    rows.map(|row| (row["rule_id"].as_str(), row["severity"].as_str(), row["subject_kind"].as_str())).collect()
}

const DELETE: (&str, &str, &str) = ("command/recursive-delete", "high", "tool_call");

// ---- commands ----

#[test]
fn a_command_that_is_asked_for_and_run_is_told_once() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"cd /w && sudo rm -rf ~"}"#)]);
    run.start(AGENT, 20, &["bash", "-c", "cd /w && sudo rm -rf ~"]);
    run.start(20, 21, &["sudo", "rm", "-rf", "/root"]);
    run.start(21, 22, &["rm", "-rf", "/root"]);
    run.answer(&["a"]);
    let seen = run.rows();
    assert_eq!(findings(&seen), [DELETE]);
    let finding = seen.table("findings")[0];
    assert_eq!(finding["subject_key"], "1");
    assert_eq!(finding["message"], "the model asks bash for a command that deletes a home folder");
    assert_eq!(finding["evidence"], "rm -rf ~");
}

#[test]
fn what_no_tool_call_asks_for_is_told_where_it_starts() {
    let mut run = Run::new();
    run.start(AGENT, 20, &["sh", "-c", "rm -rf /* && git push -f"]);
    run.start(20, 21, &["rm", "-rf", "/bin", "/usr"]);
    run.start(20, 22, &["git", "push", "-f"]);
    run.start(22, 23, &["git", "clean", "-fd"]);
    run.start(AGENT, 24, &["git", "push", "-f"]);
    let seen = run.rows();
    let expected = [
        ("command/recursive-delete", "high", "exec"),
        ("command/git-force-push", "high", "exec"),
        ("command/git-discard", "medium", "exec"),
        ("command/git-force-push", "high", "exec"),
    ];
    assert_eq!(findings(&seen), expected);
    let execs = seen.table("execs");
    let key = |at: usize| format!("{}@{}", execs[at]["proc_id"], execs[at]["ts"]);
    let keys: Vec<&str> = seen.table("findings").iter().map(|row| row["subject_key"].as_str()).collect();
    assert_eq!(keys, [key(1), key(1), key(4), key(5)]);
}

#[test]
fn text_that_names_a_command_is_no_finding() {
    let mut run = Run::new();
    let calls = [
        ("a", "bash", r#"{"command":"echo \"rm -rf /\"; grep -r 'rm -rf /' ."}"#),
        ("b", "write", r#"{"file_path":"/w/x.sh","content":"rm -rf /"}"#),
        ("c", "bash", r#"{"command":"cat > x.sh <<'E'\nrm -rf /\nE"}"#),
    ];
    run.ask(&calls);
    run.start(AGENT, 20, &["bash", "-c", "echo \"rm -rf /\"; grep -r 'rm -rf /' ."]);
    run.start(20, 21, &["grep", "-r", "rm -rf /", "."]);
    run.answer(&["a", "b", "c"]);
    assert_eq!(findings(&run.rows()), []);
}

// ---- credentials ----

#[test]
fn a_file_that_a_tool_call_reads_and_whose_content_goes_to_the_model() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"cat /home/me/.aws/credentials"}"#)]);
    run.start(AGENT, 20, &["bash", "-c", "cat /home/me/.aws/credentials"]);
    run.start(20, 21, &["cat", "/home/me/.aws/credentials"]);
    run.read(21, "/home/me/.aws/credentials", 116);
    run.read(21, "/home/me/.aws/credentials", 116);
    run.read(21, "/etc/hosts", 20);
    run.answer_with(&[("a", "[default]")]);
    let seen = run.rows();
    let expected = [("credential-file-read", "medium", "file"), ("credential-file-sent", "high", "tool_call")];
    assert_eq!(findings(&seen), expected);
    let rows = seen.table("findings");
    assert_eq!(rows[0]["message"], "cat read credentials of a cloud");
    assert_eq!(rows[0]["evidence"], "116 bytes of /home/me/.aws/credentials");
    assert_eq!(rows[1]["message"], "bash read credentials of a cloud, and its result went to the model with call 2");
    let classes: Vec<_> = seen.table("files").iter().filter_map(|row| row.get("sensitive_class")).collect();
    assert_eq!(classes, ["cloud"; 4]);
}

#[test]
fn a_file_that_is_used_or_not_read_is_not_sent() {
    let mut run = Run::new();
    // Nobody asked for it.
    run.start(AGENT, 20, &["ssh", "host"]);
    run.read(20, "/home/me/.ssh/id_ed25519", 400);
    run.read(AGENT, "/home/me/.netrc", 40);
    // It is for whom it is made; it is there, and empty; it is read too late.
    run.ask(&[("a", "bash", r#"{"command":"git push"}"#), ("b", "bash", r#"{"command":"ls"}"#)]);
    run.start(AGENT, 21, &["git", "push"]);
    run.start(21, 22, &["ssh", "git@host"]);
    run.read(22, "/home/me/.ssh/id_ed25519", 400);
    run.start(AGENT, 23, &["ls"]);
    run.read(23, "/w/.env", 0);
    run.answer(&["a", "b"]);
    run.read(23, "/w/.env", 40);
    let seen = run.rows();
    let expected = [
        ("credential-file-read", "low", "file"),
        ("credential-file-read", "low", "file"),
        ("credential-file-read", "medium", "file"),
    ];
    assert_eq!(findings(&seen), expected);
    let evidence: Vec<&str> = seen.table("findings").iter().map(|row| row["evidence"].as_str()).collect();
    assert_eq!(
        evidence,
        ["40 bytes of /home/me/.netrc", "400 bytes of /home/me/.ssh/id_ed25519", "40 bytes of /w/.env"]
    );
}
