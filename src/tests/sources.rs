//! The sources beside TLS on the real kernel: files, standard streams, sockets, measurements; and who and how much is recorded.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use support::{AGENTSIGHT, agentsight, end, folder, kill, python, query, recorder};
use tempfile::TempDir;

/// Records a shell script, with options of `capture`.
#[track_caller]
fn record(folder: &TempDir, options: &[&str], script: &str) -> String {
    record_command(folder, options, &["sh", "-c", script])
}

#[track_caller]
fn record_command(folder: &TempDir, options: &[&str], command: &[&str]) -> String {
    let args = [&["capture", "-f", "-o", "run.asc"], options, &["--"], command].concat();
    let output = agentsight(folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn files_are_recorded_by_path_with_what_went_through_them() {
    let Some(folder) = folder() else { return };
    let script =
        "mkdir below && cd below && printf hello >a && mv a b && cat b >/dev/null && chmod 600 b && ln -s b c && rm c b
        cd .. && rmdir below; cat /no/such/file 2>/dev/null; truncate -s 3 short; true";
    record(&folder, &[], script);
    let here = folder.path().canonicalize().unwrap();
    let sql = format!(
        "SELECT op, replace(path, '{here}/', '') AS path, replace(new_path, '{here}/', '') AS new_path, error,
         bytes_read, bytes_written FROM files WHERE (path LIKE '{here}/%' OR path LIKE '/no/%' OR new_path LIKE '{here}/%')
         AND path NOT LIKE '%.asc' ORDER BY ts, op DESC",
        here = here.display()
    );
    let rows = query(&folder, &sql);
    let said = |op: &str, path: &str| {
        rows.iter().find(|row| row["op"] == op && row["path"] == path).cloned().unwrap_or_default()
    };
    assert_eq!(said("mkdir", "below")["error"], Value::Null, "{rows:#?}");
    assert_eq!(said("close", "below/a")["bytes_written"], 5);
    assert_eq!(said("rename", "below/a")["new_path"], "below/b");
    assert_eq!(said("close", "below/b")["bytes_read"], 5);
    assert!(said("chmod", "below/b").is_object() && said("unlink", "below/b").is_object(), "{rows:#?}");
    assert_eq!(said("symlink", "b")["new_path"], "below/c");
    assert!(said("rmdir", "below").is_object() && said("unlink", "below/c").is_object(), "{rows:#?}");
    assert_eq!(said("open", "/no/such/file")["error"], "ENOENT");
    assert!(said("truncate", "short").is_object() || said("open", "short").is_object(), "{rows:#?}");
}

#[test]
fn a_descriptor_that_two_processes_share_is_one_open_file() {
    let Some(folder) = folder() else { return };
    // The child opens in the table of descriptors that both have (clone with CLONE_FILES); the parent reads and closes.
    let program = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
open("shared", "w").write("0123456789")
stack = ctypes.create_string_buffer(1 << 16)
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def child(_): return os.open("shared", os.O_RDONLY)
CLONE_VM, CLONE_FS, CLONE_FILES, SIGCHLD = 0x100, 0x200, 0x400, 17
pid = libc.clone(child, ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16)), CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, None)
_, status = os.waitpid(pid, 0); fd = os.waitstatus_to_exitcode(status)
assert os.read(fd, 4) == b"0123"; os.close(fd)"#;
    record_command(&folder, &[], &[&python(), "-c", program]);
    let sql = "SELECT op, proc_id, file_id, bytes_read FROM files WHERE path LIKE '%/shared' AND file_id IN
        (SELECT file_id FROM files WHERE path LIKE '%/shared' AND flags LIKE '%O_RDONLY%') ORDER BY ts";
    let rows = query(&folder, sql);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!((&rows[0]["op"], &rows[0]["proc_id"]), (&json!("open"), &json!(2)));
    assert_eq!((&rows[1]["op"], &rows[1]["proc_id"], &rows[1]["bytes_read"]), (&json!("close"), &json!(1), &json!(4)));
}

/// A name server, and one who asks it: for one name over UDP, for another over TCP, where the answer comes in pieces.
const NAMES: &str = r#"
import socket, struct, threading
address = ("127.0.0.77", 53)
def question(name): return b"\xab\xcd\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
def answer(name): return b"\xab\xcd\x81\x80\0\1\0\1\0\0\0\0" + name + b"\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\7"
def framed(message): return struct.pack(">H", len(message)) + message
def whole(connection): return connection.recv(*struct.unpack(">H", connection.recv(2, socket.MSG_WAITALL)), socket.MSG_WAITALL)
udp, tcp = b"\3udp\7example\0", b"\3tcp\7example\0"
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); datagrams.bind(address)
listener = socket.create_server(address)
def serve():
    asked, peer = datagrams.recvfrom(512); assert asked == question(udp); datagrams.sendto(answer(udp), peer)
    connection, _ = listener.accept(); assert whole(connection) == question(tcp)
    said = framed(answer(tcp)); connection.sendall(said[:9]); connection.sendall(said[9:]); connection.close()
thread = threading.Thread(target=serve); thread.start()
asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); asks.sendto(question(udp), address); assert asks.recv(512) == answer(udp)
asks = socket.create_connection(address); asks.sendall(framed(question(tcp))); assert whole(asks) == answer(tcp)
thread.join()"#;

#[test]
fn names_that_are_asked_for_are_recorded_over_udp_and_tcp() {
    let Some(folder) = folder() else { return };
    record_command(&folder, &["--plain", "off"], &[&python(), "-c", NAMES]);
    let sql = "SELECT query_name, query_type, answers, response_code, server_address, truncated FROM dns ORDER BY ts";
    let expected = ["udp.example", "tcp.example"].map(|name| {
        json!({"query_name": name, "query_type": "A", "answers": ["10.0.0.7"], "response_code": "NOERROR",
            "server_address": "127.0.0.77", "truncated": false})
    });
    assert_eq!(query(&folder, sql), expected);
}

/// A server that answers one request, and a client: HTTP without TLS, over loopback.
const PLAIN: &str = r#"
import http.server, threading, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body[::-1])
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
thread = threading.Thread(target=server.handle_request); thread.start()
print(server.server_port, flush=True)
urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/echo", b"abc" * 20).read(); thread.join()"#;

#[test]
fn http_without_tls_is_recorded_unless_it_is_switched_off() {
    let Some(folder) = folder() else { return };
    let args = ["capture", "-f", "-o", "run.asc", "--", &python(), "-c", PLAIN];
    let output = agentsight(&folder, &args);
    let port: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    let sql = "SELECT scheme, method, path, status_code, text(response_body) AS body, body_state, role, peer_port, plaintext_seen
        FROM http JOIN connections USING (conn_id) WHERE role = 'client'";
    let expected = json!({"scheme": "http", "method": "POST", "path": "/echo", "status_code": 200, "body": "cba".repeat(20),
        "body_state": "complete", "role": "client", "peer_port": port, "plaintext_seen": true});
    assert_eq!(query(&folder, sql), [expected]);

    record_command(&folder, &["--plain", "off"], &[&python(), "-c", PLAIN]);
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM http"), [json!({"n": 0})]);
    let sql = "SELECT count(*) > 0 AS there, max(bytes_sent) > 60 AS sent FROM connections WHERE role = 'client'";
    assert_eq!(query(&folder, sql), [json!({"there": true, "sent": true})]);
}

#[test]
fn more_than_the_cap_of_a_write_is_counted_and_marked() {
    let Some(folder) = folder() else { return };
    record(&folder, &["--max-payload", "100"], "head -c 5000 /dev/zero | cat | wc -c >/dev/null");
    // A call may hand over a part only; the cap is on each.
    let sql = "SELECT sum(len) AS len, max(captured_len) AS captured FROM stdio WHERE direction = 'sent'";
    assert_eq!(query(&folder, sql), [json!({"len": 10_000, "captured": 100})]);
}

#[test]
fn tls_through_nothing_that_is_known_is_told() {
    let Some(folder) = folder() else { return };
    // What a client says first, and then more than a handshake.
    let program = "
import socket
listener = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(listener.getsockname())
body = bytes([1, 0, 0, 40, 3, 3]) + bytes(38)
client.sendall(bytes([0x16, 3, 1, 0, len(body)]) + body); client.sendall(bytes([0x17, 3, 3, 1, 0]) + bytes(256))";
    let summary = record_command(&folder, &[], &[&python(), "-c", program]);
    assert!(summary.contains("whose plaintext was not seen: `agentsight probes"), "{summary}");
    let sql = "SELECT tls_seen, plaintext_seen FROM connections WHERE role = 'client'";
    assert_eq!(query(&folder, sql), [json!({"tls_seen": true, "plaintext_seen": false})]);
    let info = agentsight(&folder, &["info", "run.asc"]).stdout;
    assert!(String::from_utf8_lossy(&info).contains("unseen TLS"), "{}", String::from_utf8_lossy(&info));
}

#[test]
fn cpu_and_memory_of_each_process_are_measured() {
    let Some(folder) = folder() else { return };
    let program = "import time\nx = bytearray(50_000_000)\nend = time.process_time() + 1.2\nwhile time.process_time() < end: pass";
    record_command(&folder, &[], &[&python(), "-c", program]);
    let sql = "SELECT name, unit, max(value) AS value FROM metrics WHERE proc_id = 1 AND name IN ('user_time', 'rss') GROUP BY 1, 2 ORDER BY 1";
    let rows = query(&folder, sql);
    assert_eq!((&rows[0]["name"], &rows[0]["unit"]), (&json!("rss"), &json!("bytes")));
    assert!(rows[0]["value"].as_i64().unwrap() > 50_000_000, "{rows:?}");
    assert!(rows[1]["value"].as_i64().unwrap() > 100_000_000, "{rows:?}");
    let at_exit = query(&folder, "SELECT user_ns + system_ns AS cpu, max_rss_bytes FROM processes WHERE proc_id = 1");
    assert!(at_exit[0]["cpu"].as_i64().unwrap() > 1_000_000_000, "{at_exit:?}");
    assert!(at_exit[0]["max_rss_bytes"].as_i64().unwrap() > 50_000_000, "{at_exit:?}");
}

#[test]
fn processes_are_recorded_by_name_present_and_future() {
    let Some(folder) = folder() else { return };
    let named = folder.path().join("named-agent");
    std::fs::copy("/bin/sh", &named).unwrap();
    let script = "echo running; read word; /bin/echo $word >/dev/null; echo done";
    let run = |program: &std::path::Path| {
        let mut child =
            Command::new(program).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "running");
        move |word: &str| {
            writeln!(child.stdin.take().unwrap(), "{word}").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), "done");
            child.wait().unwrap();
        }
    };
    let mut present = run(&named);
    let recorder = recorder(&folder, &["--comm", "named-agent"]);
    present("present");
    run(&named)("future");
    run(std::path::Path::new("/bin/sh"))("another");
    end(recorder);
    let said = query(&folder, "SELECT args[2] AS word FROM execs WHERE args[1] = '/bin/echo' ORDER BY ts");
    assert_eq!(said, [json!({"word": "present"}), json!({"word": "future"})]);
}

#[test]
fn processes_are_recorded_by_cgroup_present_and_future() {
    let Some(folder) = folder() else { return };
    // A mount of its own: what the machine has there stays as it is.
    let script = r#"
        mount -t cgroup2 cgroup2 /sys/fs/cgroup; group=/sys/fs/cgroup/agentsight-test-$$; mkdir $group
        trap 'rmdir $group' EXIT
        mkfifo go went
        sh -c "echo \$\$ >$group/cgroup.procs; read go <go; /bin/echo present >went" & present=$!
        until grep -q . $group/cgroup.procs; do :; done
        "$0" capture -q -o run.asc --cgroup ${group##*/} & capturer=$!
        until [ -s run.asc ]; do :; done
        echo go >go; cat went >/dev/null; wait $present
        /bin/echo outside >/dev/null
        sh -c "echo \$\$ >$group/cgroup.procs; exec /bin/echo future" >/dev/null
        kill $capturer; wait $capturer; true"#;
    let output =
        Command::new("unshare").args(["-m", "sh", "-c", script, AGENTSIGHT]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = query(&folder, "SELECT args[2] AS word FROM execs WHERE args[1] = '/bin/echo' ORDER BY ts");
    assert_eq!(said, [json!({"word": "present"}), json!({"word": "future"})]);
}

#[test]
fn a_capture_goes_through_a_pipe() {
    let Some(folder) = folder() else { return };
    let mut child = Command::new(AGENTSIGHT)
        .args(["capture", "-q", "-o", "-", "--", "sh", "-c", "echo said; /bin/true"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut capture = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut capture).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    // The command's output is not in between.
    assert_eq!(said, "said\n");
    std::fs::write(folder.path().join("run.asc"), capture).unwrap();
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM execs"), [json!({"n": 2})]);
    assert_eq!(query(&folder, "SELECT complete FROM captures"), [json!({"complete": true})]);
}

#[test]
fn rotated_files_are_whole_captures_and_together_one_recording() {
    let Some(folder) = folder() else { return };
    // Ended by the test, when there are enough files.
    let script = "echo running; while :; do /bin/echo $(head -c 3000 /dev/urandom | od -An -tx1 | tr -d ' \\n') | cat >/dev/null; done";
    let mut recorder = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-q", "-o", "run.asc", "--rotate-time", "1s", "--keep", "2", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(recorder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    while !folder.path().join("run-0003.asc").exists() {
        std::thread::yield_now();
    }
    let shell = Command::new("pgrep").args(["-P", &recorder.id().to_string()]).output().unwrap();
    for pid in String::from_utf8_lossy(&shell.stdout).split_whitespace() {
        kill("-TERM", pid.parse().unwrap());
    }
    assert_eq!(recorder.wait().unwrap().code(), Some(128 + 15));
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    let rows = |files: &[&str], sql: &str| -> Vec<Value> {
        let output = agentsight(&folder, &[&["query", "--format", "ndjson", sql], files].concat());
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    };
    let count =
        |files: &[&str]| rows(files, "SELECT count(*) AS n FROM execs WHERE NOT was_running")[0]["n"].as_i64().unwrap();
    let (first, second) = (names[0].as_str(), names[1].as_str());
    // Each alone; and together no row twice and none lost.
    assert!(count(&[first]) > 0);
    assert_eq!(count(&[first]) + count(&[second]), count(&[first, second]));
    let captures = rows(&[first, second], "SELECT first_part, last_part, complete FROM captures");
    assert_eq!(captures.len(), 1, "{captures:?}");
    assert_eq!(captures[0]["last_part"].as_i64(), captures[0]["first_part"].as_i64().map(|part| part + 1));
    let pids = rows(&[first, second], "SELECT count(*) AS n, count(DISTINCT proc_id) AS ids FROM processes");
    assert_eq!(pids[0]["n"], pids[0]["ids"]);
}

/// What `agentsight replay` says of these files.
fn replayed(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(AGENTSIGHT);
    command.current_dir(folder).args(["replay", "--table", "captures,execs,drops"]).args(args).stdin(Stdio::null());
    command
}

#[test]
fn a_capture_that_rotates_is_followed_from_file_to_file() {
    let Some(folder) = folder() else { return };
    // A new file as soon as there is anything in the last.
    let mut recorder = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-q", "-o", "run.asc", "--rotate-size", "1"])
        .args(["--", "sh", "-c", "while read word; do /bin/echo $word; done"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = recorder.stdin.take().unwrap();
    while !folder.path().join("run-0001.asc").exists() {
        std::thread::yield_now();
    }
    let mut follower = replayed(&folder, &["--follow", "run-0001.asc"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(follower.stdout.take().unwrap());
    let mut said = String::new();
    for word in ["one", "two", "three"] {
        writeln!(stdin, "{word}").unwrap();
        // It is told before the next is done; and the file that it is in is full by then.
        while !said.contains(&format!("\"/bin/echo {word}\"")) {
            assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
        }
    }
    drop(stdin);
    assert_eq!(recorder.wait().unwrap().code(), Some(0));
    while out.read_line(&mut said).unwrap() > 0 {}
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    let capture: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let files: Vec<&str> = capture["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.len() > 3 && capture["complete"] == true, "{capture}");
    let whole = replayed(&folder, &files).output().unwrap();
    assert_eq!(String::from_utf8(whole.stdout).unwrap(), said);
}

#[test]
fn what_would_be_probed_is_explained() {
    let Some(folder) = folder() else { return };
    let output = agentsight(&folder, &["probes", "curl"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("/usr/bin/curl\n  no TLS functions of its own\n"), "{text}");
    assert!(text.contains("libssl.so.3") && text.contains("ssl_write_internal"), "{text}");
    // Nothing to probe, and why.
    let output = agentsight(&folder, &["probes", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Nothing would be probed"));
    // This test itself, as a running process.
    let output = agentsight(&folder, &["probes", "--json", &std::process::id().to_string()]);
    let first: Value = serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["path"], std::env::current_exe().unwrap().to_str().unwrap());
    assert_eq!(agentsight(&folder, &["probes", "999999999"]).status.code(), Some(1));
    // A large program that a script of the command names.
    std::fs::write(folder.path().join("run.sh"), format!("exec {AGENTSIGHT} --version\n")).unwrap();
    let output = agentsight(&folder, &["probes", "--json", "--", "sh", "run.sh"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("\"path\":\"{AGENTSIGHT}\"")), "{text}");
}

#[test]
fn the_doctor_says_what_works_and_the_way_out() {
    let Some(folder) = folder() else { return };
    let checks = |output: std::process::Output| -> Vec<Value> {
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    };
    let output = agentsight(&folder, &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(checks(output).iter().all(|check| check["verdict"] != "fails"));
    // Without rights.
    let program = folder.path().join("agentsight");
    std::fs::copy(AGENTSIGHT, &program).unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "--bounding-set=-all"])
        .arg(&program)
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let rights = checks(output).into_iter().find(|check| check["feature"] == "rights").unwrap();
    assert_eq!(rights["verdict"], "fails");
    assert!(rights["way_out"].as_str().unwrap().contains("sudo"), "{rights}");
}
