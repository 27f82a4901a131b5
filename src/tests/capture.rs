//! `agentsight capture` on the real kernel, as a user runs it.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Output, Stdio};
use support::{AGENTSIGHT, agentsight, folder, kill, query, recorder};
use tempfile::TempDir;

/// Records a shell script, and expects its exit status.
#[track_caller]
fn record(folder: &TempDir, script: &str, status: i32) -> Output {
    let output = agentsight(folder, &["capture", "-o", "run.asc", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Starts a recording of a command that tells on its standard output that it runs.
fn start(folder: &TempDir, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(AGENTSIGHT)
        .current_dir(folder)
        .args(["capture", "-o", "run.asc"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "running\n");
    (child, lines)
}

#[test]
fn the_whole_tree_is_recorded_with_arguments_folders_and_exits() {
    let Some(folder) = folder() else { return };
    record(&folder, "mkdir below && cd below && sh -c '/bin/echo one two' && exit 3", 3);
    let execs = query(&folder, "SELECT args, working_directory, truncated FROM execs ORDER BY ts");
    let echo = execs.iter().find(|exec| exec["args"][0] == "/bin/echo").unwrap();
    assert_eq!(echo["args"], serde_json::json!(["/bin/echo", "one", "two"]));
    assert_eq!(echo["truncated"], false);
    let below = folder.path().canonicalize().unwrap().join("below");
    assert_eq!(echo["working_directory"], below.to_str().unwrap());
    let processes = query(&folder, "SELECT comm, depth, exit_code, exit_ts FROM processes ORDER BY proc_id");
    assert_eq!((&processes[0]["depth"], &processes[0]["exit_code"]), (&Value::from(0), &Value::from(3)));
    assert!(processes.iter().all(|process| process["exit_ts"].is_string()), "{processes:?}");
    assert_eq!(query(&folder, "SELECT * FROM drops"), Vec::<Value>::new());
    assert_eq!(
        query(&folder, "SELECT exit_code, complete FROM captures")[0],
        serde_json::json!({"exit_code": 3, "complete": true})
    );
}

#[test]
fn an_argument_vector_of_100_kb_is_kept_whole_and_a_longer_one_is_marked() {
    let Some(folder) = folder() else { return };
    let prompt = "prompt ".repeat(15_000);
    let output = agentsight(&folder, &["capture", "-o", "run.asc", "--", "/bin/true", &prompt]);
    assert_eq!(output.status.code(), Some(0));
    let execs = query(&folder, "SELECT args, truncated FROM execs");
    assert_eq!(execs, [serde_json::json!({"args": ["/bin/true", prompt], "truncated": false})]);

    let output = agentsight(&folder, &["capture", "-f", "-o", "run.asc", "--", "/bin/true", &prompt, &prompt]);
    assert_eq!(output.status.code(), Some(0));
    let execs = query(&folder, "SELECT truncated, length(args[2]) AS first FROM execs");
    assert_eq!(execs, [serde_json::json!({"truncated": true, "first": prompt.len()})]);
}

#[test]
fn exit_statuses_are_those_of_the_command_and_of_env() {
    let Some(folder) = folder() else { return };
    record(&folder, "exit 42", 42);
    std::fs::remove_file(folder.path().join("run.asc")).unwrap();
    record(&folder, "kill -TERM $$", 128 + 15);
    let say = |args: &[&str]| {
        let output = agentsight(&folder, args);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, message) = say(&["capture", "-o", "new.asc", "--", "no-such-command"]);
    assert_eq!((status, message.as_str()), (127, "agentsight: no-such-command: command not found\n"));
    let (status, message) = say(&["capture", "-o", "new.asc", "--", "/etc/passwd"]);
    assert_eq!(status, 126, "{message}");
    assert!(!folder.path().join("new.asc").exists());
    let (status, message) = say(&["capture", "-o", "run.asc", "--", "true"]);
    assert_eq!(status, 125);
    assert!(message.contains("run.asc exists") && message.contains("--force"), "{message}");
    let (status, message) = say(&["capture", "-o", "new.asc", "--pid", "999999999"]);
    assert_eq!(status, 125);
    assert!(message.contains("no process 999999999"), "{message}");
    let (status, message) = say(&["capture", "-o", "new.asc"]);
    assert_eq!(status, 2);
    assert!(message.contains("name a command after `--`, or processes with --pid"), "{message}");
}

#[test]
fn under_sudo_the_command_and_the_file_are_the_users() {
    let Some(folder) = folder() else { return };
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-o", "run.asc", "--", "sh", "-c", "id -u; id -g; echo $USER"])
        .envs([("SUDO_UID", "65534"), ("SUDO_GID", "65534")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "65534\n65534\nnobody\n");
    let metadata = folder.path().join("run.asc").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (65534, 65534, 0o600));
}

#[test]
fn sigterm_closes_the_file_and_leaves_the_command_running() {
    let Some(folder) = folder() else { return };
    let (child, mut lines) = start(&folder, &["--", "sh", "-c", "echo running; read word; echo got $word"]);
    kill("-TERM", child.id());
    let mut child = child;
    let mut stdin = child.stdin.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(query(&folder, "SELECT complete FROM captures")[0]["complete"], true);
    // The command goes on, and has the right result.
    stdin.write_all(b"word\n").unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "got word\n");
}

#[test]
fn after_kill_9_the_file_is_read_up_to_the_last_flush_and_the_command_goes_on() {
    let Some(folder) = folder() else { return };
    let script = "for i in 1 2 3 4 5; do /bin/true $i; done; echo running; read word; echo got $word";
    let (mut child, mut lines) = start(&folder, &["--", "sh", "-c", script]);
    let mut stdin = child.stdin.take().unwrap();
    let seen = |folder: &TempDir| query(folder, "SELECT count(*) AS n FROM execs")[0]["n"].as_i64().unwrap();
    // Live: another process reads what was flushed, while recording goes on.
    while seen(&folder) < 6 {
        std::thread::yield_now();
    }
    kill("-KILL", child.id());
    child.wait().unwrap();
    let output = agentsight(&folder, &["info", "--json", "run.asc"]);
    assert_eq!(output.status.code(), Some(3));
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["health"], "unfinished");
    assert!(seen(&folder) >= 6);
    stdin.write_all(b"word\n").unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "got word\n");
}

#[test]
fn a_full_disk_is_told_and_costs_the_command_nothing() {
    let Some(folder) = folder() else { return };
    let script = "mount -t tmpfs -o size=64k tmpfs . && cd \"$PWD\" && \
        \"$0\" capture -o run.asc -- sh -c 'i=0; while [ $i -lt 40 ]; do /bin/true $(head -c 9000 /dev/urandom | od -An -tx1 | tr -d \" \\n\"); i=$((i+1)); done; echo done'; \
        status=$?; \"$0\" info run.asc >/dev/null 2>&1; echo info $?; exit $status";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, AGENTSIGHT])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert_eq!(stdout, "done\ninfo 3\n", "{stderr}");
    assert!(stderr.contains("No space left") && stderr.contains("bytes are safe"), "{stderr}");
}

#[test]
fn a_running_process_is_recorded_by_pid_with_its_future_children() {
    let Some(folder) = folder() else { return };
    let mut target = Command::new("sh")
        .args(["-c", "while read word; do /bin/echo $word; done"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut recorder = recorder(&folder, &["--pid", &target.id().to_string()]);
    let mut lines = BufReader::new(target.stdout.take().unwrap());
    let mut stdin = target.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    drop(stdin);
    target.wait().unwrap();
    assert_eq!(recorder.wait().unwrap().code(), Some(0));
    let sql = "SELECT args[1] AS program, was_running, depth, parent_proc_id FROM execs JOIN processes USING (proc_id)
        ORDER BY execs.ts";
    let expected = [
        serde_json::json!({"program": "sh", "was_running": true, "depth": 0, "parent_proc_id": null}),
        serde_json::json!({"program": "/bin/echo", "was_running": false, "depth": 1, "parent_proc_id": 1}),
    ];
    assert_eq!(query(&folder, sql), expected);
    let root = query(&folder, "SELECT pid, exit_code FROM processes WHERE depth = 0");
    assert_eq!(root, [serde_json::json!({"pid": target.id(), "exit_code": 0})]);
}

#[test]
fn the_duration_ends_the_recording_not_the_command() {
    let Some(folder) = folder() else { return };
    let (mut child, _lines) = start(&folder, &["--duration", "300ms", "--", "sh", "-c", "echo running; read word"]);
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        query(&folder, "SELECT complete, exit_code FROM captures")[0],
        serde_json::json!({"complete": true, "exit_code": null})
    );
    drop(stdin);
}

#[test]
fn the_repository_and_its_commit_are_noted_without_credentials() {
    let Some(folder) = folder() else { return };
    let captured = |script: &str| {
        let output = agentsight(&folder, &["capture", "-f", "-o", "run.asc", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        query(&folder, "SELECT repo, vcs_commit FROM captures").remove(0)
    };
    assert_eq!(captured("true"), serde_json::json!({"repo": null, "vcs_commit": null}));
    let git = |args: &str| {
        let name = ["-c", "user.name=n", "-c", "user.email=e@example.com"];
        let output = Command::new("git").current_dir(&folder).args(name).args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git("init -q .");
    git("commit -q --allow-empty -m one");
    git("remote add origin https://me:t0ken@example.com/a/b.git");
    git("pack-refs --all");
    let head = git("rev-parse HEAD");
    // The command goes on from there: what it commits is no part of what was checked out.
    let seen = captured("git -c user.name=n -c user.email=e@example.com commit -q --allow-empty -m two");
    assert_eq!(seen, serde_json::json!({"repo": "https://example.com/a/b.git", "vcs_commit": head}));
    assert_ne!(git("rev-parse HEAD"), head);
    let info = String::from_utf8(agentsight(&folder, &["info", "run.asc"]).stdout).unwrap();
    assert!(info.contains(&format!("https://example.com/a/b.git at {head}")), "{info}");
}

#[test]
fn two_decodes_of_one_file_are_byte_identical() {
    let Some(folder) = folder() else { return };
    record(&folder, "for i in 1 2 3 4 5; do /bin/true $i & done; wait", 0);
    for table in ["captures", "processes", "execs"] {
        let sql = format!("SELECT * FROM {table}");
        let first = agentsight(&folder, &["query", "--format", "csv", &sql, "run.asc"]).stdout;
        assert!(!first.is_empty());
        assert_eq!(first, agentsight(&folder, &["query", "--format", "csv", &sql, "run.asc"]).stdout, "{table}");
    }
}
