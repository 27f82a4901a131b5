//! What goes on when recording ends: files and connections that nobody has closed.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use support::{AGENTSIGHT, TALK, agentsight, certificate, folder, kill, piped, python, query};
use tempfile::TempDir;

/// Lets the process that waits at the gate go on.
fn open_gate(folder: &TempDir) {
    std::fs::write(folder.path().join("gate"), "go\n").unwrap();
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
