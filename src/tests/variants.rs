//! The many forms in which programs do the same: descriptors that go together, addresses of every kind, bytes that come one by
//! one, or from a file without passing through memory. Each is told as what it is, and what was not seen is told as missing.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use support::{agentsight, folder, python, query};
use tempfile::TempDir;

/// Records a Python program.
#[track_caller]
fn record(folder: &TempDir, options: &[&str], program: &str) -> String {
    std::fs::write(folder.path().join("program.py"), program).unwrap();
    let python = python();
    let args = [&["capture", "-f", "-o", "run.asc"], options, &["--", &python, "program.py"]].concat();
    let output = agentsight(folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(query(folder, "SELECT * FROM drops"), Vec::<Value>::new());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_file_is_closed_with_the_last_of_its_descriptors_however_these_go() {
    let Some(folder) = folder() else { return };
    let program = r#"
import ctypes, mmap, os, threading
libc = ctypes.CDLL(None)
def written(name): fd = os.open(name, os.O_RDWR | os.O_CREAT); os.write(fd, b"12345"); return fd
first, second = written("range1"), written("range2"); os.dup2(second, second + 20)
libc.close_range(first, second + 20, 0)
fd = written("mapped"); mapping = mmap.mmap(fd, 5); os.close(fd)
if os.fork() == 0:
    os.dup2(written("both"), 1); os.dup2(1, 2); os.close(os.open("both", 0)); os._exit(0)
os.wait()
for i in range(6): threading.Thread(target=threading.Event().wait, daemon=True).start()
fd = written("at exit"); os.dup(fd); os._exit(0)"#;
    record(&folder, &[], program);
    let sql = "SELECT split_part(opened.path, '/', -1) AS name, closed.bytes_written AS n FROM files AS opened
        JOIN files AS closed USING (file_id) WHERE opened.op = 'open' AND closed.op = 'close' AND closed.bytes_written > 0
        ORDER BY 1";
    let expected = ["at exit", "both", "mapped", "range1", "range2"].map(|name| json!({"name": name, "n": 5}));
    assert_eq!(query(&folder, sql), expected);
}

#[test]
fn a_path_is_whole_however_deep_and_a_file_of_no_folder_has_a_name() {
    let Some(folder) = folder() else { return };
    let program = r#"
import os
for i in range(100): os.mkdir("d"); os.chdir("d")
open("deep", "w"); open(os.memfd_create("none"), "w").write("x")
try: os.fchmod(999, 0o600)
except OSError: pass"#;
    record(&folder, &[], program);
    let here = folder.path().canonicalize().unwrap();
    let deep = format!("{}{}/deep", here.display(), "/d".repeat(100));
    let sql = "SELECT path FROM files WHERE op = 'open' AND (path LIKE '%/deep' OR path LIKE '%none%') ORDER BY ts";
    let paths = query(&folder, sql);
    assert_eq!(paths, [json!({"path": deep}), json!({"path": "/memfd:none"})]);
    assert_eq!(query(&folder, "SELECT op FROM files WHERE error = 'EBADF'"), [json!({"op": "chmod"})]);
}

#[test]
fn a_connection_that_is_refused_after_the_call_says_so() {
    let Some(folder) = folder() else { return };
    let program = r#"
import asyncio, socket
gone = socket.create_server(("127.0.0.1", 0)); port = gone.getsockname()[1]; gone.close()
async def main():
    try: await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError: print(port, end="")
asyncio.run(main())"#;
    let port = record(&folder, &[], program);
    let seen = query(&folder, "SELECT peer_port, error FROM connections WHERE peer_port IS NOT NULL");
    assert_eq!(seen, [json!({"peer_port": port.parse::<u16>().unwrap(), "error": "ECONNREFUSED"})]);
}

#[test]
fn sockets_of_every_kind_have_their_addresses_and_only_those_of_agents_are_told() {
    let Some(folder) = folder() else { return };
    let program = r#"
import socket
for name in "path.sock", "\0abstract":
    server = socket.socket(socket.AF_UNIX); server.bind(name); server.listen()
    client = socket.socket(socket.AF_UNIX); client.connect(name); end, _ = server.accept()
    client.sendall(b"hello"); end.recv(5)
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); receiver.bind(("127.0.0.1", 0))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"datagram", receiver.getsockname()); receiver.recv(100)
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); kernel.bind((0, 0)); kernel.send(bytes(20))
print(receiver.getsockname()[1], end="")"#;
    let port = record(&folder, &[], program).parse::<u16>().unwrap();
    let sql = "SELECT transport, local_address AS here, peer_address AS there, peer_port AS port, bytes_sent AS sent
        FROM connections ORDER BY conn_id";
    let unix = |here: Option<&str>, there: Option<&str>, sent| json!({"transport": "unix", "here": here, "there": there, "port": null, "sent": sent});
    let (path, hidden) = (Some("path.sock"), Some("@abstract"));
    let mut seen = query(&folder, sql);
    let sender = seen.iter().position(|row| row["port"] == port).expect("it names the receiver");
    assert_eq!(seen.remove(sender)["sent"], 8);
    let rest: Vec<Value> = seen.into_iter().filter(|row| row["transport"] != "udp").collect();
    let each = |name| [unix(name, None, 0), unix(None, name, 5), unix(name, None, 0)];
    assert_eq!(rest, [each(path), each(hidden)].concat(), "the listener, the client, and the server's end");
}

#[test]
fn many_datagrams_of_one_call_are_counted_once_each() {
    let Some(folder) = folder() else { return };
    let program = r#"
import ctypes, socket
libc = ctypes.CDLL(None)
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_len", ctypes.c_uint), ("vector", ctypes.POINTER(Vector)), ("count", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_len", ctypes.c_size_t), ("flags", ctypes.c_long), ("len", ctypes.c_uint)]
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); receiver.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sender.connect(receiver.getsockname())
vector = Vector(b"x" * 100, 100); many = (Message * 20)()
for message in many: message.vector = ctypes.pointer(vector); message.count = 1
assert libc.sendmmsg(sender.fileno(), many, 20, 0) == 20
assert libc.recvmmsg(receiver.fileno(), many, 5, socket.MSG_PEEK, None) == 5
assert libc.recvmmsg(receiver.fileno(), many, 20, 0, None) == 20"#;
    record(&folder, &[], program);
    let seen = query(&folder, "SELECT sum(bytes_sent) AS sent, sum(bytes_received) AS received FROM connections");
    assert_eq!(seen, [json!({"sent": 2000, "received": 2000})]);
}

#[test]
fn a_question_in_pieces_is_read_from_all_of_them() {
    let Some(folder) = folder() else { return };
    let program = r#"
import socket, struct
question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"\6pieces\4test\0" + struct.pack(">2H", 1, 1)
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.sendmsg([question[:5], b"", question[5:]], [], 0, ("127.0.0.88", 53))"#;
    record(&folder, &[], program);
    let asked = query(&folder, "SELECT query_name, query_type FROM dns");
    assert_eq!(asked, [json!({"query_name": "pieces.test", "query_type": "A"})]);
}

/// A server and a client of plain HTTP: each case of `cases` sends a request for its name in its own way.
const HTTP: &str = r#"
import os, socket, threading
def serve(server):
    connection, _ = server.accept(); got = b""
    while not got.endswith(b"\r\n\r\n"): got += connection.recv(1)
    if b"/file" in got:
        body = os.memfd_create("body"); os.write(body, b"x" * 5000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        os.sendfile(connection.fileno(), body, 0, 5000)
    else: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    connection.close()
def ask(family, address, send):
    server = socket.socket(family); server.bind(address); server.listen()
    thread = threading.Thread(target=serve, args=(server,)); thread.start()
    client = socket.socket(family); client.connect(server.getsockname()); send(client)
    while client.recv(1000): pass
    thread.join()
TCP, LOCAL = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "http.sock")
def request(name, method=b"GET"): return method + b" /" + name + b" HTTP/1.1\r\nHost: x\r\n\r\n"
"#;

#[test]
fn http_is_known_by_its_first_bytes_in_whatever_pieces_they_come() {
    let Some(folder) = folder() else { return };
    let program = r#"
ask(*TCP, lambda client: [client.send(bytes([byte])) for byte in request(b"bytes")])
ask(*TCP, lambda client: client.sendmsg([b"GE", b"", request(b"vector")[2:]]))
ask(*TCP, lambda client: client.sendall(request(b"trace", b"TRACE")))
ask(*LOCAL, lambda client: client.sendall(request(b"local")))"#;
    record(&folder, &[], &format!("{HTTP}{program}"));
    let sql = "SELECT path, count(*) AS ends, min(response_bytes) AS n, min(body_state) AS state FROM http GROUP BY 1 ORDER BY 1";
    let whole = |path| json!({"path": path, "ends": 2, "n": 2, "state": "complete"});
    assert_eq!(query(&folder, sql), ["/bytes", "/local", "/trace", "/vector"].map(whole));
}

#[test]
fn a_body_that_is_sent_from_a_file_is_counted_and_said_to_be_missing() {
    let Some(folder) = folder() else { return };
    record(&folder, &[], &format!("{HTTP}\nask(*TCP, lambda client: client.sendall(request(b'file')))"));
    let sql = "SELECT role, body_state, response_bytes AS n, gap_bytes AS gap, plaintext_sent > 5000 AS sent FROM http
        JOIN connections USING (capture_id, conn_id) ORDER BY role";
    let client = json!({"role": "client", "body_state": "complete", "n": 5000, "gap": 0, "sent": false});
    let server = json!({"role": "server", "body_state": "gap", "n": 5000, "gap": 5000, "sent": true});
    assert_eq!(query(&folder, sql), [client, server]);
}

#[test]
fn what_goes_from_a_file_into_a_pipe_is_counted_and_its_writer_named() {
    let Some(folder) = folder() else { return };
    let program = r#"
import os, subprocess
open("text", "w").write("hello")
writer = "import os; os.sendfile(1, os.open('text', 0), 0, 5); os.write(1, b' world')"
subprocess.run(f'"$0" -c "{writer}" | cat', shell=True, executable="/bin/sh")
"#
    .replace("\"$0\"", &python());
    record(&folder, &[], &program);
    let sql = "SELECT p.comm AS comm, s.direction AS way, sum(len) AS len, sum(captured_len) AS kept,
        bool_and(s.peer_proc_id IS NOT NULL) AS known FROM stdio s JOIN processes p USING (capture_id, proc_id)
        WHERE (fd = 1 AND comm <> 'cat') OR fd = 0 GROUP BY 1, 2 ORDER BY 1";
    let reader = json!({"comm": "cat", "way": "received", "len": 11, "kept": 11, "known": true});
    let seen = query(&folder, sql);
    assert_eq!(seen[0], reader, "{seen:?}");
    assert_eq!(
        (&seen[1]["len"], &seen[1]["kept"], &seen[1]["known"]),
        (&json!(11), &json!(6), &json!(true)),
        "{seen:?}"
    );
}

#[test]
fn a_server_of_mcp_is_heard_that_says_something_else_first() {
    let Some(folder) = folder() else { return };
    let program = r#"
import subprocess, sys
server = "import sys; line = sys.stdin.readline(); line = line.strip() or sys.stdin.readline(); " \
    "print('starting'); print('{\"jsonrpc\": \"2.0\", \"id\": 1, \"result\": {\"tools\": []}}', flush=True)"
shell = "echo Compiling; exec \"$0\" -u -c \"$1\""
child = subprocess.Popen(["sh", "-c", shell, sys.executable, server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdin.write("\n"); child.stdin.flush()
child.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}\n'); child.stdin.flush()
while not child.stdout.readline().startswith("{"): pass
child.wait()"#;
    record(&folder, &["--stdio", "mcp"], program);
    let calls = query(&folder, "SELECT method, result IS NOT NULL AS answered FROM mcp");
    assert_eq!(calls, [json!({"method": "tools/list", "answered": true})]);
    let others = query(&folder, "SELECT count(*) AS n FROM stdio WHERE text(data) LIKE '%Compiling%'");
    assert_eq!(others, [json!({"n": 0})]);
}
