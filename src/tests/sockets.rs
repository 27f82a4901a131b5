//! Sockets that wait for others, those whose messages go to several peers, and the ways of TLS through several processes.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use support::{agentsight, certificate, folder, piped, python, query, record_command};

#[test]
fn a_port_that_is_opened_is_told_though_nobody_comes() {
    let Some(folder) = folder() else { return };
    let program = r#"
import socket
waits = socket.socket(); waits.bind(("0.0.0.0", 0)); waits.listen(); port = waits.getsockname()[1]
taken = socket.socket()
try: taken.bind(("127.0.0.1", port))
except OSError: pass
bound = socket.socket(); bound.bind(("127.0.0.2", 0)); bound.close()
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); datagrams.bind(("::1", port))
local = socket.socket(socket.AF_UNIX); local.bind("own.sock"); local.listen()
print(port, end="")"#;
    let port: u16 = record_command(&folder, &[&python(), "-c", program]).parse().unwrap();
    let sql = "SELECT role, transport, local_address AS at, local_port AS port, error, closed_at > opened_at AS closed
        FROM connections ORDER BY conn_id";
    let row = |role: Option<&str>, transport: &str, at: &str, port: Option<u16>, error: Option<&str>| json!({"role": role, "transport": transport, "at": at, "port": port, "error": error, "closed": true});
    let expected = [
        row(Some("listener"), "tcp", "0.0.0.0", Some(port), None),
        row(None, "tcp", "127.0.0.1", Some(port), Some("EADDRINUSE")),
        row(None, "udp", "::1", Some(port), None),
        row(Some("listener"), "unix", "own.sock", None, None),
    ];
    assert_eq!(query(&folder, sql), expected);
}

/// Sockets of datagrams that receive, at ports of their own.
const RECEIVERS: &str = r#"
import os, socket
def datagrams(family=socket.AF_INET): return socket.socket(family, socket.SOCK_DGRAM)
def receiver(): one = datagrams(); one.bind(("127.0.0.1", 0)); return one
one, other = receiver(), receiver(); first, second = one.getsockname(), other.getsockname()
"#;

const SENT: &str = "SELECT peer_port AS port, role, bytes_sent AS sent, bytes_received AS received FROM connections
    WHERE transport = 'udp' AND peer_port IS NOT NULL AND bytes_sent > 0 ORDER BY conn_id";

fn peer(port: &Value, role: Option<&str>, sent: i64, received: i64) -> Value {
    json!({"port": port, "role": role, "sent": sent, "received": received})
}

#[test]
fn each_peer_of_a_socket_of_datagrams_is_told_with_what_went_to_it() {
    let Some(folder) = folder() else { return };
    let program = format!(
        "{RECEIVERS}{}",
        r#"
sender = datagrams(); sender.bind(("127.0.0.1", 0))
for _ in range(3): sender.sendto(bytes(10), first); sender.sendto(bytes(7), second)
sender.sendmsg([bytes(100)], [], 0, second)
_, peer = other.recvfrom(100); other.sendto(bytes(5), peer); assert sender.recvfrom(100)[1] == second
# Connected elsewhere; and where nothing went there was no peer.
turns = datagrams(); turns.connect(("127.0.0.3", 9)); turns.connect(first); turns.send(bytes(1)); turns.connect(second); turns.send(bytes(2))
print(first[1], second[1], peer[1])"#
    );
    let ports = record_command(&folder, &[&python(), "-c", &program]);
    let ports: Vec<Value> = ports.split_whitespace().map(|port| json!(port.parse::<u16>().unwrap())).collect();
    let expected = [
        peer(&ports[2], None, 5, 7),
        peer(&ports[0], None, 30, 0),
        peer(&ports[1], None, 121, 5),
        peer(&ports[0], Some("client"), 1, 0),
        peer(&ports[1], Some("client"), 2, 0),
    ];
    let mut seen = query(&folder, SENT);
    // Whichever end is told of first.
    seen.sort_by_key(|row| (row["role"] != Value::Null, row["sent"].as_i64()));
    let mut sorted = expected.to_vec();
    sorted.sort_by_key(|row| (row["role"] != Value::Null, row["sent"].as_i64()));
    assert_eq!(seen, sorted);
}

#[test]
fn peers_beyond_those_that_are_told_apart_are_told_together_and_counted() {
    let Some(folder) = folder() else { return };
    let program = format!(
        "{RECEIVERS}{}",
        r#"
sender = datagrams()
for turn in range(2):
    for number in range(1, 41): sender.sendto(bytes(number), ("127.0.1.%d" % number, 9))"#
    );
    agentsight(&folder, &["capture", "-o", "run.asc", "--", &python(), "-c", &program]);
    let sql = "SELECT count(*) AS n, sum(bytes_sent) AS sent FROM connections
        WHERE transport = 'udp' AND local_address IS NULL AND peer_address IS ";
    let apart = json!({"n": 32, "sent": 2 * (1..=32).sum::<i64>()});
    assert_eq!(query(&folder, &format!("{sql} NOT NULL")), [apart]);
    assert_eq!(query(&folder, &format!("{sql} NULL")), [json!({"n": 1, "sent": 2 * (33..=40).sum::<i64>()})]);
    let dropped = query(&folder, "SELECT source, reason, records FROM drops");
    assert_eq!(dropped, [json!({"source": "net", "reason": "table_full", "records": 1})]);
}

#[test]
fn peers_of_a_socket_that_is_open_when_recording_ends_have_what_went_to_them_so_far() {
    let Some(folder) = folder() else { return };
    let program = format!(
        "{RECEIVERS}{}",
        r#"
sender = datagrams()
for to, size in (first, 10), (second, 20), (first, 1), (second, 2): sender.sendto(bytes(size), to)
print(first[1], second[1], flush=True)
if os.fork(): os._exit(0)
input()"#
    );
    // A child has the socket still.
    let (mut capturer, stdin, mut lines) = piped(&folder, &[], &[&python(), "-c", &program]);
    let ports = lines.next().unwrap();
    capturer.wait().unwrap();
    drop(stdin);
    let ports: Vec<Value> = ports.split_whitespace().map(|port| json!(port.parse::<u16>().unwrap())).collect();
    assert_eq!(query(&folder, SENT), [peer(&ports[0], None, 11, 0), peer(&ports[1], None, 22, 0)]);
}

#[test]
fn local_datagrams_are_told_with_the_names_that_they_go_to() {
    let Some(folder) = folder() else { return };
    let program = format!(
        "{RECEIVERS}{}",
        r#"
for name in "log.sock", "\0hidden": globals()[name] = datagrams(socket.AF_UNIX); globals()[name].bind(name)
sender = datagrams(socket.AF_UNIX); sender.sendto(bytes(5), "log.sock"); sender.sendto(bytes(6), "\0hidden"); sender.sendto(bytes(7), "log.sock")
turns = datagrams(socket.AF_UNIX)
for name, size in ("log.sock", 20), ("\0hidden", 30): turns.connect(name); turns.send(bytes(size))
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); here.send(bytes(3))"#
    );
    record_command(&folder, &[&python(), "-c", &program]);
    let sql = "SELECT local_address AS at, peer_address AS peer, bytes_sent AS sent, role FROM connections
        WHERE transport = 'unix' ORDER BY conn_id";
    let row = |at: Option<&str>, peer: Option<&str>, sent: i64, role: Option<&str>| json!({"at": at, "peer": peer, "sent": sent, "role": role});
    let (log, hidden) = (Some("log.sock"), Some("@hidden"));
    let expected = [
        row(log, None, 0, None),
        row(hidden, None, 0, None),
        row(None, log, 12, None),
        row(None, hidden, 6, None),
        row(None, log, 20, Some("client")),
        row(None, hidden, 30, Some("client")),
    ];
    assert_eq!(query(&folder, sql), expected);
}

#[test]
fn questions_to_several_name_servers_over_one_socket_have_their_answers() {
    let Some(folder) = folder() else { return };
    let program = r#"
import socket
def question(name): return b"\xab\xcd\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
def answer(name): return b"\xab\xcd\x81\x80\0\1\0\1\0\0\0\0" + name + b"\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\7"
asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); servers = []
for address, name in ("127.0.0.76", b"\3one\7example\0"), ("127.0.0.78", b"\3two\7example\0"):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind((address, 53)); servers.append((server, name))
def answered(server, name): _, peer = server.recvfrom(512); server.sendto(answer(name), peer); asks.recv(512)
for server, name in servers: asks.sendto(question(name), server.getsockname()); answered(server, name)
for server, name in servers: asks.connect(server.getsockname()); asks.send(question(name)); answered(server, name)"#;
    record_command(&folder, &[&python(), "-c", program]);
    let sql = "SELECT query_name, server_address, response_code, duration_ns > 0 AS timed FROM dns ORDER BY ts";
    let row = |name: &str, server: &str| json!({"query_name": name, "server_address": server, "response_code": "NOERROR", "timed": true});
    let each = [row("one.example", "127.0.0.76"), row("two.example", "127.0.0.78")];
    assert_eq!(query(&folder, sql), [&each[..], &each[..]].concat());
    let sql = "SELECT peer_address, bytes_sent AS sent, bytes_received AS received FROM connections
        WHERE peer_port = 53 ORDER BY conn_id";
    let row = |server: &str| json!({"peer_address": server, "sent": 58, "received": 90});
    assert_eq!(query(&folder, sql), [row("127.0.0.76"), row("127.0.0.78")]);
}

#[test]
fn names_that_systemd_resolved_is_asked_for_are_told() {
    let Some(folder) = folder() else { return };
    let program = r#"
import os, socket, threading
path = "/run/systemd/resolve/io.systemd.Resolve"; os.makedirs(os.path.dirname(path))
waits = socket.socket(socket.AF_UNIX); waits.bind(path); waits.listen()
question = b'{"method":"io.systemd.Resolve.ResolveHostname","parameters":{"name":"api.example","flags":0}}\0'
answer = b'{"parameters":{"addresses":[{"ifindex":1,"family":2,"address":[127,0,0,1]}],"name":"api.example","flags":1}}\0'
asks = socket.socket(socket.AF_UNIX); asks.connect(path); end, _ = waits.accept()
asks.sendall(question); end.recv(1000); end.sendall(answer[:20]); asks.recv(20); end.sendall(answer[20:]); asks.recv(1000)
server = socket.create_server(("127.0.0.1", 0)); socket.create_connection(server.getsockname())"#;
    std::fs::write(folder.path().join("program.py"), program).unwrap();
    // It has a /run of its own.
    let script = format!("mount -t tmpfs none /run && {} program.py", python());
    record_command(&folder, &["unshare", "-m", "sh", "-c", &script]);
    let sql = "SELECT query_name, query_type, answers, response_code, duration_ns > 0 AS timed FROM dns";
    let expected = json!({"query_name": "api.example", "query_type": "A/AAAA", "answers": ["127.0.0.1"],
        "response_code": "NOERROR", "timed": true});
    assert_eq!(query(&folder, sql), [expected]);
    let sql = "SELECT server_name FROM connections WHERE role = 'client' AND transport = 'tcp'";
    assert_eq!(query(&folder, sql), [json!({"server_name": "api.example"})]);
}

#[test]
fn machines_talk_over_vsock() {
    let Some(folder) = folder() else { return };
    // Who has no such sockets, or nobody at the other end, is told that.
    let program = r#"
import socket, sys
try: waits = socket.socket(socket.AF_VSOCK); waits.bind((socket.VMADDR_CID_ANY, 70001)); waits.listen()
except OSError: sys.exit(print("none", end=""))
guest = socket.socket(socket.AF_VSOCK)
try: guest.connect((2, 70002))
except OSError: pass"#;
    if record_command(&folder, &[&python(), "-c", program]) == "none" {
        return eprintln!("skipped: this kernel has no AF_VSOCK");
    }
    let sql = "SELECT role, transport, local_address, local_port, peer_address, peer_port
        FROM connections ORDER BY conn_id";
    let listener = json!({"role": "listener", "transport": "vsock", "local_address": "any", "local_port": 70001,
        "peer_address": null, "peer_port": null});
    let client = json!({"role": "client", "transport": "vsock", "local_address": null, "local_port": null,
        "peer_address": "2", "peer_port": 70002});
    assert_eq!(query(&folder, sql), [listener, client]);
}

/// Two processes that hand on the bytes of one connection: each has one side of it, and pipes to the other.
const HALVES: &str = r#"
import os, socket, sys, threading
def pump(read, write, end):
    try:
        while data := read(65536): write(data)
    except OSError: pass
    end()
def half(connection, incoming, outgoing):
    out = threading.Thread(target=pump, args=(connection.recv, lambda data: os.write(outgoing, data), lambda: os.close(outgoing))); out.start()
    pump(lambda size: os.read(incoming, size), connection.sendall, lambda: connection.shutdown(socket.SHUT_WR)); out.join()
to_far, from_far = os.pipe(), os.pipe()
if os.fork():
    os.close(to_far[0]); os.close(from_far[1])
    if sys.argv[2] == "local":
        listener = socket.socket(socket.AF_UNIX); listener.bind("relay.sock"); listener.listen(); print(flush=True)
    else:
        listener = socket.create_server(("127.0.0.1", 0)); print(listener.getsockname()[1], flush=True)
    half(listener.accept()[0], from_far[0], to_far[1]); os.wait()
else:
    os.close(to_far[1]); os.close(from_far[0])
    half(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), to_far[0], from_far[1]); os._exit(0)
"#;

#[test]
fn two_processes_that_only_forward_tls_are_no_unseen_plaintext() {
    for way in ["local", "tcp"] {
        let Some(folder) = certificate() else { return };
        std::fs::write(folder.path().join("relay.py"), HALVES).unwrap();
        let program = format!(
            "WAY = {way:?}\n{}",
            r#"
import subprocess
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    with server.wrap_socket(listener.accept()[0], server_side=True) as tls:
        while tls.recv(65536): pass
thread = threading.Thread(target=serve); thread.start()
relay = subprocess.Popen([sys.executable, "relay.py", str(listener.getsockname()[1]), WAY], stdout=subprocess.PIPE)
port = relay.stdout.readline()
if WAY == "local": near = socket.socket(socket.AF_UNIX); near.connect("relay.sock")
else: near = socket.create_connection(("127.0.0.1", int(port)))
client = ssl.create_default_context(cafile="cert.pem")
with client.wrap_socket(near, server_hostname="localhost") as tls:
    tls.sendall(b"x" * 50_000); tls.shutdown(socket.SHUT_WR); thread.join()
relay.wait()"#
        );
        support::record(&folder, &program);
        let sql = "SELECT c.role, other.role AS other, c.proc_id <> other.proc_id AS apart FROM connections c JOIN connections other
            ON other.conn_id = c.forwards_conn_id ORDER BY 1";
        let row = |role: &str, other: &str| json!({"role": role, "other": other, "apart": true});
        assert_eq!(query(&folder, sql), [row("client", "server"), row("server", "client")], "{way}");
        assert_eq!(query(&folder, "SELECT message FROM findings"), Vec::<Value>::new());
        let info = agentsight(&folder, &["info", "run.asc"]).stdout;
        assert!(!String::from_utf8_lossy(&info).contains("unseen TLS"), "{}", String::from_utf8_lossy(&info));
    }
}
