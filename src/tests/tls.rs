//! The TLS source on the real kernel: both ends of a TLS connection in one recorded process, so that the test knows every byte.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use std::io::BufRead;
use std::process::{Command, Stdio};
use support::{AGENTSIGHT, certificate, query};
use tempfile::TempDir;

/// A server thread that reads what it is sent, and a client that runs `CLIENT`, over loopback.
const PEERS: &str = r#"
import hashlib, socket, ssl, sys, threading
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
client = ssl.create_default_context(cafile="cert.pem")
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = listener.accept()
    with server.wrap_socket(connection, server_side=True) as tls:
        while tls.recv(65536): pass
thread = threading.Thread(target=serve); thread.start()
with client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="localhost") as tls:
    CLIENT
    # The socket is closed after the server has read everything: closing it earlier would reset the connection.
    tls.shutdown(socket.SHUT_WR); thread.join()
"#;

/// Records the two peers, the client running this line of Python; returns what it printed.
fn record(folder: &TempDir, client: &str) -> String {
    record_program(folder, &PEERS.replace("CLIENT", client))
}

fn record_program(folder: &TempDir, program: &str) -> String {
    let output = Command::new(AGENTSIGHT)
        .current_dir(folder)
        .args(["capture", "-o", "run.asc", "--", "python3", "-c", program])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_write_of_2_mb_is_captured_whole_at_both_ends() {
    let Some(folder) = certificate() else { return };
    let sha = record(
        &folder,
        r#"body = bytes(i * i % 251 for i in range(2_000_000)); tls.sendall(b"POST /big HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n" + body); print(hashlib.sha256(body).hexdigest())"#,
    );
    let bodies = query(&folder, "SELECT path, body_state, encode(sha256(request_body), 'hex') AS sha FROM http");
    let expected = serde_json::json!({"path": "/big", "body_state": "complete", "sha": sha.trim()});
    assert_eq!(bodies, [expected.clone(), expected], "the client's and the server's side");
    let sent = query(&folder, "SELECT count(*) > 100 AS several FROM tls_data WHERE direction = 'sent'");
    assert_eq!(sent, [serde_json::json!({"several": true})]);
    assert_eq!(query(&folder, "SELECT sum(gap_bytes) AS gap FROM connections"), [serde_json::json!({"gap": 0})]);
}

#[test]
fn many_small_writes_are_captured_once_each_and_in_order() {
    let Some(folder) = certificate() else { return };
    record(&folder, r#"[tls.sendall(b"%05d" % i) for i in range(3000)]"#);
    let sql = "SELECT count(*) AS n, min(len) AS min, max(len) AS max, sum(CAST(text(data) AS BIGINT)) AS sum,
        max(stream_offset) AS last FROM tls_data WHERE direction = 'sent'";
    let expected = serde_json::json!({"n": 3000, "min": 5, "max": 5, "sum": 2999 * 3000 / 2, "last": 14_995});
    assert_eq!(query(&folder, sql), [expected]);
}

/// OpenSSL reads the head of a TLS record by itself, at both ends.
#[test]
fn what_each_side_says_in_its_hello_is_known_at_both_ends() {
    let Some(folder) = certificate() else { return };
    let agree = r#"
server.maximum_version = ssl.TLSVersion.TLSv1_2
server.set_alpn_protocols(["chosen", "other"]); client.set_alpn_protocols(["offered", "chosen"])
listener ="#;
    record_program(&folder, &PEERS.replace("CLIENT", "tls.sendall(b'x')").replace("listener =", agree));
    let rows = query(
        &folder,
        // The shell around an interpreter may ask the machine's name service, over a local socket.
        "SELECT role, alpn, server_name, tls_seen FROM connections WHERE role <> 'listener' AND transport = 'tcp' ORDER BY role",
    );
    let expected = ["client", "server"]
        .map(|role| serde_json::json!({"role": role, "alpn": "chosen", "server_name": "localhost", "tls_seen": true}));
    assert_eq!(rows, expected);
}

/// Of each connection: whether its plaintext is known, and how much was sent and received.
fn sides(folder: &TempDir) -> Vec<serde_json::Value> {
    let sql =
        "SELECT role, plaintext_seen AS seen, plaintext_sent AS sent, plaintext_received AS received FROM connections
        WHERE (transport = 'tcp' OR transport IS NULL) AND role IS DISTINCT FROM 'listener' ORDER BY role, conn_id";
    query(folder, sql)
}

fn side(role: &str, seen: bool, [sent, received]: [u64; 2]) -> serde_json::Value {
    serde_json::json!({"role": role, "seen": seen, "sent": sent, "received": received})
}

#[test]
fn who_only_reads_is_bound_to_the_socket_as_well() {
    let Some(folder) = certificate() else { return };
    support::record(&folder, "talk(b'x' * 50_000)");
    assert_eq!(sides(&folder), [side("client", true, [50_000, 0]), side("server", true, [0, 50_000])]);
    // The other way round: the client reads what the server greets with.
    support::record(&folder, "end, other = pair(); other.sendall(b'welcome'); assert end.recv(100) == b'welcome'");
    assert_eq!(sides(&folder), [side("client", true, [0, 7]), side("server", true, [7, 0])]);
}

#[test]
fn plaintext_is_not_taken_for_that_of_a_socket_that_sends_no_tls() {
    let Some(folder) = certificate() else { return };
    // The bytes are encrypted, and wait while the thread sends others (asyncio does so when a peer does not read).
    let program = r#"
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
context = ssl.create_default_context(cafile="cert.pem"); server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
secret, plain = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
def serve():
    with server.wrap_socket(secret.accept()[0], server_side=True) as tls: assert tls.recv(100) == b"secret"
thread = threading.Thread(target=serve); thread.start()
carrier, other = socket.create_connection(secret.getsockname()), socket.create_connection(plain.getsockname())
tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
while True:
    try: tls.do_handshake(); break
    except ssl.SSLWantReadError: carrier.sendall(outgoing.read()); incoming.write(carrier.recv(65536))
carrier.sendall(outgoing.read())
tls.write(b"secret"); other.sendall(b"plain" * 1000); carrier.sendall(outgoing.read()); thread.join()"#;
    support::record(&folder, program);
    let seen: Vec<_> = sides(&folder).into_iter().filter(|side| side["seen"] == true).collect();
    assert_eq!(seen, [side("client", true, [6, 0]), side("server", true, [0, 6])]);
}

#[test]
fn a_handshake_that_came_to_nothing_is_no_unseen_plaintext() {
    let Some(folder) = certificate() else { return };
    let program = r#"
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    try: server.wrap_socket(listener.accept()[0], server_side=True).recv(100)
    except ssl.SSLError: pass
thread = threading.Thread(target=serve); thread.start()
try: ssl.create_default_context().wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="localhost")
except ssl.SSLCertVerificationError: print("refused", end="")
thread.join()"#;
    assert_eq!(support::record(&folder, program), "refused");
    assert_eq!(sides(&folder), [side("client", false, [0, 0]), side("server", false, [0, 0])]);
    assert_eq!(query(&folder, "SELECT rule_id FROM findings"), Vec::<serde_json::Value>::new());
    let info = support::agentsight(&folder, &["info", "run.asc"]).stdout;
    assert!(!String::from_utf8_lossy(&info).contains("unseen TLS"), "{}", String::from_utf8_lossy(&info));
}

/// Hands on the bytes of one connection, both ways, to this port.
const RELAY: &str = r#"
import select, socket, sys
listener = socket.create_server(("127.0.0.1", 0)); print(listener.getsockname()[1], flush=True)
near, _ = listener.accept(); far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
other, open_ends = {near: far, far: near}, {near, far}
while open_ends:
    for end in select.select(list(open_ends), [], [])[0]:
        try:
            if data := end.recv(65536): other[end].sendall(data)
            else: open_ends.discard(end); other[end].shutdown(socket.SHUT_WR)
        except OSError: open_ends.clear(); break
"#;

#[test]
fn a_relay_that_only_forwards_tls_is_no_unseen_plaintext() {
    let Some(folder) = certificate() else { return };
    std::fs::write(folder.path().join("relay.py"), RELAY).unwrap();
    let program = r#"
import subprocess
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    with server.wrap_socket(listener.accept()[0], server_side=True) as tls:
        while tls.recv(65536): pass
thread = threading.Thread(target=serve); thread.start()
relay = subprocess.Popen([sys.executable, "relay.py", str(listener.getsockname()[1])], stdout=subprocess.PIPE)
port = int(relay.stdout.readline())
client = ssl.create_default_context(cafile="cert.pem")
with client.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as tls:
    tls.sendall(b"x" * 50_000); tls.shutdown(socket.SHUT_WR); thread.join()
relay.wait()"#;
    support::record(&folder, program);
    let sql = "SELECT c.role, other.role AS other FROM connections c JOIN connections other
        ON other.conn_id = c.forwards_conn_id AND other.proc_id = c.proc_id ORDER BY 1";
    let expected = [("client", "server"), ("server", "client")];
    assert_eq!(query(&folder, sql), expected.map(|(role, other)| serde_json::json!({"role": role, "other": other})));
    assert_eq!(query(&folder, "SELECT message FROM findings"), Vec::<serde_json::Value>::new());
    let info = support::agentsight(&folder, &["info", "run.asc"]).stdout;
    assert!(!String::from_utf8_lossy(&info).contains("unseen TLS"), "{}", String::from_utf8_lossy(&info));
}

#[test]
fn a_process_that_is_not_recorded_leaves_no_plaintext() {
    let Some(folder) = certificate() else { return };
    // The peers run beside the recorded command, on the same library, while its probes are attached.
    std::fs::write(folder.path().join("peers.py"), PEERS.replace("CLIENT", "tls.sendall(b'not recorded')")).unwrap();
    let mut recorder = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-o", "run.asc", "--", "sh", "-c", "echo running; read word"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(recorder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(Command::new("python3").arg("peers.py").current_dir(&folder).status().unwrap().success());
    drop(recorder.stdin.take());
    recorder.wait().unwrap();
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM tls_data"), [serde_json::json!({"n": 0})]);
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM execs"), [serde_json::json!({"n": 1})]);
}

/// Makes an authority and a certificate for localhost that it signed: rustls takes no certificate that is its own authority.
fn authority(folder: &TempDir) {
    let script = "
        ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $ec -days 2 -subj /CN=authority -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem
        openssl req $ec -subj /CN=localhost -keyout key.pem -out request.pem
        printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem";
    let made = Command::new("sh").args(["-ec", script]).current_dir(folder).stderr(Stdio::null()).status();
    assert!(made.unwrap().success());
}

/// Answers every request with its path, over TLS (with `SETTINGS`); says its port.
const SERVER: &str = r#"
import http.server, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"<html>{self.path}</html>".encode()
        self.send_response(200); self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("cert.pem", "key.pem")
SETTINGS
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()"#;

/// Records this stripped Rust program of the Python registry while it asks for a package that is not there. Its TLS is seen as that
/// of `library`. The server's context has these settings.
fn rust_program_is_seen(uv: &str, library: &str, settings: &str) {
    let Some(folder) = support::folder() else { return };
    let script = format!(
        "pip download -q --no-deps --disable-pip-version-check {uv} && python3 -m zipfile -e uv-*.whl . &&
        mv uv-*.data/scripts/uv program && chmod +x program"
    );
    assert!(Command::new("sh").args(["-ec", &script]).current_dir(&folder).status().unwrap().success());
    authority(&folder);
    let mut server = Command::new("python3")
        .args(["-c", &SERVER.replace("SETTINGS", settings)])
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let command = format!(
        "echo no-such-package | ./program pip compile --no-cache --index-url https://localhost:{}/simple -",
        port.trim()
    );
    let output = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["capture", "-o", "run.asc", "--", "sh", "-c", &command])
        .env("SSL_CERT_FILE", "ca.pem")
        .output()
        .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let sql = "SELECT path, text(response_body) AS body, body_state, tls_library, role, server_name, peer_port
        FROM http JOIN connections USING (conn_id)";
    let expected = serde_json::json!({"path": "/simple/no-such-package/", "body": "<html>/simple/no-such-package/</html>",
        "body_state": "complete", "tls_library": library, "role": "client", "server_name": "localhost",
        "peer_port": port.trim().parse::<i64>().unwrap()});
    assert_eq!(query(&folder, sql), [expected]);
}

#[test]
fn rustls_over_aws_lc_is_seen_below_it() {
    rust_program_is_seen("uv==0.13.9", "aws-lc", "");
}

#[test]
fn rustls_over_ring_is_seen_below_it() {
    rust_program_is_seen("uv==0.4.30", "ring", "");
}

/// It copies what it has received before it is opened; and TLS 1.2 has other records, those of ChaCha20-Poly1305 the shortest.
#[test]
fn older_rustls_in_tls_1_2_is_seen_below_it() {
    let settings =
        "context.maximum_version = ssl.TLSVersion.TLSv1_2; context.set_ciphers('ECDHE-ECDSA-CHACHA20-POLY1305')";
    rust_program_is_seen("uv==0.1.10", "ring", settings);
}
