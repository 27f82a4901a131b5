//! What goes on when recording ends: processes that the command leaves behind, files and connections that nobody has closed.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use support::{AGENTSIGHT, TALK, agentsight, certificate, folder, kill, piped, python, query};
use tempfile::TempDir;

/// Leaves a process behind that waits until the gate is opened, and then writes a file.
const LEAVES: &str = "mkfifo gate; (read word <gate; echo late >late) >/dev/null 2>&1 & echo started; exit 7";

/// Lets the process that waits at the gate go on.
fn open_gate(folder: &TempDir) {
    std::fs::write(folder.path().join("gate"), "go\n").unwrap();
}

#[test]
fn processes_that_run_on_when_the_command_has_ended_are_named() {
    let Some(folder) = folder() else { return };
    let output = agentsight(&folder, &["capture", "-o", "run.asc", "--", "sh", "-c", LEAVES]);
    open_gate(&folder);
    assert_eq!(output.status.code(), Some(7));
    let pid = query(&folder, "SELECT pid FROM processes WHERE exit_ts IS NULL")[0]["pid"].clone();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("a recorded process runs on, and is not recorded any more: sh ({pid}); --until-all-exit");
    assert!(said.contains(&expected), "{said}");
    let info = String::from_utf8(agentsight(&folder, &["info", "run.asc"]).stdout).unwrap();
    assert!(info.contains(&format!("sh ({pid}), not recorded any more")), "{info}");
    let json: Value = serde_json::from_slice(&agentsight(&folder, &["info", "--json", "run.asc"]).stdout).unwrap();
    let note = json!({"what": "runs_on", "processes": [{"pid": pid, "comm": "sh"}]});
    assert!(json["notes"].as_array().unwrap().contains(&note), "{json:#}");
    // Where all have ended with the command there is nothing to say.
    let output = agentsight(&folder, &["capture", "-f", "-o", "run.asc", "--", "sh", "-c", "true & wait"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("not recorded any more"));
}

/// Records [`LEAVES`] until all have ended; returns when the command has.
fn until_all_exit(folder: &TempDir) -> (Child, BufReader<ChildStderr>) {
    let mut capturer = Command::new(AGENTSIGHT)
        .current_dir(folder)
        .args(["capture", "-o", "run.asc", "--until-all-exit", "--", "sh", "-c", LEAVES])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(capturer.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("the command has ended; recording goes on") && line.contains("sh ("), "{line}");
    (capturer, said)
}

#[test]
fn until_all_exit_records_what_the_command_leaves_behind() {
    let Some(folder) = folder() else { return };
    let (mut capturer, mut said) = until_all_exit(&folder);
    open_gate(&folder);
    assert_eq!(capturer.wait().unwrap().code(), Some(7));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("not recorded any more"), "{rest}");
    let late = query(&folder, "SELECT bytes_written FROM files WHERE op = 'close' AND path LIKE '%/late'");
    assert_eq!(late, [json!({"bytes_written": 5})]);
    assert_eq!(query(&folder, "SELECT * FROM processes WHERE exit_ts IS NULL"), Vec::<Value>::new());
    assert_eq!(query(&folder, "SELECT exit_code FROM captures"), [json!({"exit_code": 7})]);
}

#[test]
fn a_signal_ends_the_wait_for_all_with_the_status_of_the_command() {
    let Some(folder) = folder() else { return };
    let (mut capturer, mut said) = until_all_exit(&folder);
    kill("-TERM", capturer.id());
    assert_eq!(capturer.wait().unwrap().code(), Some(7));
    open_gate(&folder);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("a recorded process runs on, and is not recorded any more: sh ("), "{rest}");
    assert!(!rest.contains("--until-all-exit"), "{rest}");
}

#[test]
fn what_went_into_the_capturers_own_standard_output_is_summed() {
    let Some(folder) = folder() else { return };
    let out = std::fs::File::create(folder.path().join("out.txt")).unwrap();
    let status = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-q", "-o", "run.asc", "--", "sh", "-c", "echo 12345; sh -c 'echo 678'"])
        .stdout(out)
        .status();
    assert!(status.unwrap().success());
    let sql =
        "SELECT proc_id, op, result, bytes_read, bytes_written FROM files WHERE path LIKE '%/out.txt' ORDER BY ts";
    let expected = [
        json!({"proc_id": 1, "op": "open", "result": 1, "bytes_read": null, "bytes_written": null}),
        json!({"proc_id": 1, "op": "close", "result": null, "bytes_read": 0, "bytes_written": 10}),
    ];
    assert_eq!(query(&folder, sql), expected);
}

/// A connection over loopback: both of its ends.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

const CONNECTIONS: &str = "SELECT bytes_sent, bytes_received, closed_at FROM connections WHERE transport = 'tcp'";

#[test]
fn a_connection_that_the_capturer_has_too_is_summed() {
    let Some(folder) = folder() else { return };
    let (near, mut far) = connection();
    far.write_all(b"hi\n").unwrap();
    let status = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-q", "-o", "run.asc", "--", "sh", "-c", "read word; echo got $word"])
        .stdin(OwnedFd::from(near.try_clone().unwrap()))
        .stdout(OwnedFd::from(near))
        .status();
    assert!(status.unwrap().success());
    assert_eq!(query(&folder, CONNECTIONS), [json!({"bytes_sent": 7, "bytes_received": 3, "closed_at": null})]);
}

#[test]
fn a_connection_that_a_process_has_which_runs_on_is_summed_and_open() {
    let Some(folder) = folder() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        "mkfifo gate; exec 3<>/dev/tcp/127.0.0.1/{}; printf hello-there >&3; (read word <gate) >/dev/null 2>&1 & exit 0",
        listener.local_addr().unwrap().port()
    );
    let output = agentsight(&folder, &["capture", "-o", "run.asc", "--", "bash", "-c", &script]);
    open_gate(&folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(query(&folder, CONNECTIONS), [json!({"bytes_sent": 11, "bytes_received": 0, "closed_at": null})]);
}

#[test]
fn connections_that_are_open_when_recording_ends_count_what_tls_adds() {
    let Some(folder) = certificate() else { return };
    let program = r#"
end, other = pair(); end.sendall(b"ping"); assert other.recv(100) == b"ping"
other.sendall(b"pong"); assert end.recv(100) == b"pong"
print("running", flush=True); sys.stdin.readline()"#;
    std::fs::write(folder.path().join("program.py"), format!("{TALK}\n{program}")).unwrap();
    let (mut capturer, stdin, mut lines) = piped(&folder, &[], &[&python(), "program.py"]);
    assert_eq!(lines.next().unwrap(), "running");
    kill("-TERM", capturer.id());
    capturer.wait().unwrap();
    drop(stdin);
    let sql = "SELECT role, bytes_sent > plaintext_sent AND bytes_received > plaintext_received AS more, closed_at,
        (SELECT sum(bytes_sent) - sum(bytes_received) FROM connections WHERE tls_seen) AS apart
        FROM connections WHERE tls_seen ORDER BY role";
    let expected = ["client", "server"].map(|role| json!({"role": role, "more": true, "closed_at": null, "apart": 0}));
    assert_eq!(query(&folder, sql), expected);
}
