//! Ways of TLS libraries other than a read and a write of one buffer: every byte is told once, in order, and of its connection.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::{TALK, certificate, folder, library, python, query, record, record_command};
use tempfile::TempDir;

/// What went each way over connections of a library, as it was told.
fn said(folder: &TempDir, library: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT direction AS way, string_agg(text(data), '' ORDER BY seq) AS said FROM tls_data
         JOIN connections USING (capture_id, conn_id) WHERE tls_library = '{library}' GROUP BY 1 ORDER BY 1"
    );
    query(folder, &sql)
}

fn both(received: &str, sent: &str) -> [Value; 2] {
    [json!({"way": "received", "said": received}), json!({"way": "sent", "said": sent})]
}

/// A client that goes through GnuTLS, and is told `ANSWERS` in a record each; `send(bytes)`, `receive()` and the library `tls`.
const GNUTLS: &str = r#"
import ctypes
tls = ctypes.CDLL("libgnutls.so.30"); tls.gnutls_record_send.restype = tls.gnutls_record_recv_packet.restype = ctypes.c_ssize_t
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0)); asked = b""
def serve():
    global asked
    with context.wrap_socket(listener.accept()[0], server_side=True) as end:
        while not asked.endswith(b"end"): asked += end.recv(65536)
        for answer in ANSWERS: end.sendall(answer)
        while end.recv(100): pass
thread = threading.Thread(target=serve); thread.start()
session, credentials = ctypes.c_void_p(), ctypes.c_void_p()
tls.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)); tls.gnutls_init(ctypes.byref(session), 2)
tls.gnutls_set_default_priority(session); tls.gnutls_credentials_set(session, 1, credentials)
carrier = socket.create_connection(listener.getsockname())
tls.gnutls_transport_set_int2(session, carrier.fileno(), carrier.fileno())
def again(call):
    while (result := call()) == -28: pass
    assert result >= 0, result
    return result
def send(data): assert again(lambda: tls.gnutls_record_send(session, data, ctypes.c_size_t(len(data)))) == len(data)
def receive():
    packet = ctypes.c_void_p(); len = again(lambda: tls.gnutls_record_recv_packet(session, ctypes.byref(packet)))
    tls.gnutls_packet_deinit(packet); return len
def end(): tls.gnutls_bye(session, 1); carrier.shutdown(2); thread.join(); tls.gnutls_deinit(session)
again(lambda: tls.gnutls_handshake(session))
"#;

#[test]
fn what_gnutls_keeps_until_it_is_sent_is_told_once_and_of_its_socket() {
    let Some(folder) = certificate() else { return };
    let program = r#"
ANSWERS = []
tls.gnutls_record_cork(session)
for i in range(10): send(b"piece %d;" % i)
assert tls.gnutls_record_uncork(session, 1) == 80
tls.gnutls_record_cork(session); send(b"x" * 40000); assert tls.gnutls_record_uncork(session, 0) == 40000
send(b"end"); end(); assert len(asked) == 40083"#;
    record(&folder, &format!("{GNUTLS}{program}"));
    let pieces: String = (0..10).map(|i| format!("piece {i};")).collect();
    let sent = format!("{pieces}{}end", "x".repeat(40_000));
    assert_eq!(said(&folder, "gnutls"), [json!({"way": "sent", "said": sent})]);
    assert_eq!(said(&folder, "openssl"), [json!({"way": "received", "said": sent})]);
    assert_bound(&folder, [40_083, 0]);
}

#[test]
fn packets_that_gnutls_hands_out_are_read() {
    let Some(folder) = certificate() else { return };
    let program = r#"
ANSWERS = [b"first answer;", b"y" * 16000, b"last"]
send(b"end"); got = [receive() for answer in ANSWERS]; end(); assert got == [13, 16000, 4], got"#;
    record(&folder, &format!("{GNUTLS}{program}"));
    assert_eq!(said(&folder, "gnutls"), both(&format!("first answer;{}last", "y".repeat(16_000)), "end"));
    assert_bound(&folder, [3, 16_017]);
}

/// The client's connection is known by its socket, and nobody's plaintext is missing.
#[track_caller]
fn assert_bound(folder: &TempDir, [sent, received]: [u64; 2]) {
    let sql = "SELECT role, tls_seen AS tls, plaintext_sent AS sent, plaintext_received AS received FROM connections
        WHERE tls_library = 'gnutls'";
    assert_eq!(query(folder, sql), [json!({"role": "client", "tls": true, "sent": sent, "received": received})]);
    assert_eq!(query(folder, "SELECT message FROM findings"), Vec::<Value>::new());
}

/// As BoringSSL is, to who looks at errors and at what is pending: reads were compiled into their callers, peeks are called.
const INLINED: &str = r#"
#include <stdio.h>
#include <string.h>
#define ALONE __attribute__((noipa))
struct state { char before[0x80]; const char *pending; unsigned long len; };
struct ssl { char before[0x30]; struct state *state; };
ALONE void ERR_put_error(int library, int unused, int reason, const char *file, unsigned line) { fprintf(stderr, "%d %s", reason, file); }
#define ERROR(reason, line) (ERR_put_error(16, 0, reason, "ssl/ssl_lib.cc", line), -1)
const char *records[] = {"first record, ", "second record, ", "third"};
char record[64]; int next;

ALONE int SSL_do_handshake(struct ssl *ssl) { return ssl->state ? 1 : ssl ? ERROR(134, 700) : ERROR(215, 710); }
ALONE int read_record(struct ssl *ssl) {
    if (!ssl->state) return ERROR(226, 800);
    if (next == 3) return ERROR(215, 820);
    ssl->state->len = strlen(strcpy(record, records[next++])); ssl->state->pending = record;
    return 1;
}
ALONE int SSL_peek(struct ssl *ssl, void *to, int num) {
    if (!ssl->state) return ERROR(66, 900);
    while (!ssl->state->len) if (read_record(ssl) <= 0) return -1;
    if (ssl->state->len < num) num = ssl->state->len;
    memcpy(to, ssl->state->pending, num);
    return num;
}
static inline __attribute__((always_inline)) int SSL_read(struct ssl *ssl, void *to, int num) {
    int read = SSL_peek(ssl, to, num);
    if (read <= 0) return read;
    ssl->state->pending += read; ssl->state->len -= read;
    return read;
}
ALONE int SSL_write(struct ssl *ssl, const void *data, int num) {
    if (!ssl->state) return ERROR(226, 955);
    if (num < 0) return ERROR(111, 970);
    return num > 100 ? ERROR(215, 960) : num;
}

struct client { int reads; struct ssl *ssl; };
ALONE int once(struct client *client, char *to, int num) { client->reads++; return SSL_read(client->ssl, to, num); }
ALONE int some(struct ssl *ssl, char *to, int num) {
    int all = 0;
    for (int read; all < num && (read = SSL_read(ssl, to + all, num - all)) > 0; all += read) {}
    return all;
}
int main(void) {
    struct state state = {0}; struct ssl ssl = {.state = &state}; struct client client = {0, &ssl};
    char to[100];
    SSL_do_handshake(&ssl); SSL_write(&ssl, strcpy(to, "written"), 7);
    SSL_peek(&ssl, to, 3); SSL_peek(&ssl, to, 5); once(&client, to, 2); SSL_peek(&ssl, to, 100); SSL_peek(&ssl, to, 1);
    some(&ssl, to, 14); SSL_peek(&ssl, to, 100); once(&client, to, 100); once(&client, to, 2); SSL_peek(&ssl, to, 1);
    printf("%d", some(&ssl, to, 3));
    return 0;
}"#;

#[test]
fn what_was_peeked_at_and_then_read_is_told_once() {
    let Some(folder) = folder() else { return };
    std::fs::write(folder.path().join("inlined.c"), INLINED).unwrap();
    let made = Command::new("cc").args(["-O2", "-s", "-o", "inlined", "inlined.c"]).current_dir(&folder).status();
    assert!(made.unwrap().success());
    assert_eq!(record_command(&folder, &["./inlined"]), "3");
    assert_eq!(said(&folder, "boringssl"), both("first record, second record, third", "written"));
}

/// Connects to a port, says something and reads all of the answer.
const STATIC: &str = r#"
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char **arguments) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
    char data[100];
    if (connect(socket_, (void *)&to, sizeof(to)) || !SSL_set_fd(ssl, socket_) || SSL_connect(ssl) != 1) return 1;
    if (SSL_write(ssl, strcpy(data, "question"), 8) != 8) return 2;
    while (SSL_read(ssl, data, sizeof(data)) > 0) {}
    return 0;
}"#;

/// Nobody asks for its version, so that its text is not linked.
#[test]
fn openssl_without_symbols_and_version_is_seen() {
    let Some(folder) = certificate() else { return };
    std::fs::write(folder.path().join("static.c"), STATIC).unwrap();
    let script =
        "cc -O2 -ffunction-sections -Wl,--gc-sections -s -o static static.c -l:libssl.a -l:libcrypto.a 2>/dev/null";
    if !Command::new("sh").args(["-c", script]).current_dir(&folder).status().unwrap().success() {
        eprintln!("skipped: no static OpenSSL to link with");
        return;
    }
    let program = r#"
import subprocess
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
client = subprocess.Popen(["./static", str(listener.getsockname()[1])])
with context.wrap_socket(listener.accept()[0], server_side=True) as end:
    assert end.recv(100) == b"question"
    end.sendall(b"answer")
assert client.wait() == 0"#;
    // It is looked through beforehand: so it is named.
    std::fs::write(folder.path().join("server.py"), format!("{TALK}\n{program}")).unwrap();
    record_command(&folder, &[&python(), "server.py", "./static"]);
    let sql = "SELECT direction AS way, text(data) AS said FROM tls_data JOIN connections USING (capture_id, conn_id)
        WHERE role = 'client' ORDER BY 1";
    assert_eq!(query(&folder, sql), both("answer", "question"));
}

/// Both ends of TLS within TLS, as through a proxy that is spoken to over TLS; each end says something first and last.
const NESTED: &str = r#"
package main

import ("crypto/tls"; "io"; "net"; "strings")

func check(err error) { if err != nil { panic(err) } }
func talk(end net.Conn, first bool, text string) {
	if first { _, err := io.WriteString(end, text); check(err) }
	_, err := io.ReadFull(end, make([]byte, len(text))); check(err)
	if !first { _, err := io.WriteString(end, text); check(err) }
}
func main() {
	certificate, err := tls.LoadX509KeyPair("cert.pem", "key.pem"); check(err)
	server := &tls.Config{Certificates: []tls.Certificate{certificate}}
	client := &tls.Config{InsecureSkipVerify: true}
	listener, err := net.Listen("tcp", "127.0.0.1:0"); check(err)
	long := strings.Repeat("inner", 10000)
	done := make(chan bool)
	go func() {
		end, err := listener.Accept(); check(err)
		outer := tls.Server(end, server); talk(outer, false, "outer")
		inner := tls.Server(outer, server); talk(inner, false, long); talk(inner, false, "last")
		done <- true
	}()
	end, err := net.Dial("tcp", listener.Addr().String()); check(err)
	outer := tls.Client(end, client); talk(outer, true, "outer")
	inner := tls.Client(outer, client); talk(inner, true, long); talk(inner, true, "last")
	<-done
}"#;

#[test]
fn tls_within_tls_of_one_goroutine_is_two_connections() {
    let Some(folder) = certificate() else { return };
    std::fs::write(folder.path().join("nested.go"), NESTED).unwrap();
    if Command::new("go").arg("version").output().is_err() {
        eprintln!("skipped: there is no compiler of Go");
        return;
    }
    let made = Command::new("go").args(["build", "nested.go"]).current_dir(&folder).env("GO111MODULE", "off").status();
    assert!(made.unwrap().success());
    record_command(&folder, &["./nested"]);
    let inner = format!("{}last", "inner".repeat(10_000));
    let sql = format!(
        "SELECT peer_port IS NOT NULL AS bound, starts_with(said, 'outer') AS outer, said = '{inner}' AS whole, count(*) AS n FROM
         (SELECT conn_id, direction, string_agg(text(data), '' ORDER BY seq) AS said FROM tls_data GROUP BY 1, 2)
         JOIN connections USING (conn_id) GROUP BY 1, 2, 3 ORDER BY 1"
    );
    let ways = |bound: bool| json!({"bound": bound, "outer": bound, "whole": !bound, "n": 4});
    assert_eq!(query(&folder, &sql), [ways(false), ways(true)]);
}

/// A client of TLS within TLS, both by OpenSSL, one writing within the other; and a server that takes off the outer one and passes
/// on what is within.
const WITHIN: &str = r#"
import ctypes, select
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0)); near, far = socket.socketpair()
def relay():
    outer = context.wrap_socket(listener.accept()[0], server_side=True); assert outer.recv(5) == b"outer"; outer.sendall(b"ready")
    while True:
        ready = [outer] if outer.pending() else select.select([outer, near], [], [])[0]
        if outer in ready:
            if not (data := outer.recv(65536)): break
            near.sendall(data)
        if near in ready: outer.sendall(near.recv(65536))
def serve():
    inner = context.wrap_socket(far, server_side=True); got = b""
    while len(got) < 20004: got += inner.recv(65536)
    inner.sendall(b"answer")
threads = [threading.Thread(target=run) for run in (relay, serve)]
for thread in threads: thread.start()
lib = ctypes.CDLL(sys.argv[1]); pointer = ctypes.c_void_p
for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_f_ssl", "BIO_new"): getattr(lib, name).restype = pointer
carrier = socket.create_connection(listener.getsockname()); made = pointer(lib.SSL_CTX_new(pointer(lib.TLS_client_method())))
outer, inner = pointer(lib.SSL_new(made)), pointer(lib.SSL_new(made))
def write(end, data): assert lib.SSL_write(end, data, len(data)) == len(data)
def read(end): data = ctypes.create_string_buffer(100); size = lib.SSL_read(end, data, 100); return data.raw[:size]
lib.SSL_set_fd(outer, carrier.fileno()); assert lib.SSL_connect(outer) == 1; write(outer, b"outer"); assert read(outer) == b"ready"
layer = pointer(lib.BIO_new(pointer(lib.BIO_f_ssl()))); lib.BIO_ctrl(layer, 109, ctypes.c_long(0), outer)
lib.SSL_set_bio(inner, layer, layer); assert lib.SSL_connect(inner) == 1
write(inner, b"x" * 20000); write(inner, b"last"); assert read(inner) == b"answer"
carrier.shutdown(2)
for thread in threads: thread.join()"#;

#[test]
fn openssl_within_openssl_is_two_connections() {
    let Some(folder) = certificate() else { return };
    std::fs::write(folder.path().join("within.py"), format!("{TALK}{WITHIN}")).unwrap();
    record_command(&folder, &[&python(), "within.py", &library("libssl").to_string_lossy()]);
    let said = |which: &str| {
        let sql = format!(
            "SELECT direction AS way, string_agg(text(data), '' ORDER BY seq) AS said FROM tls_data
             JOIN connections USING (capture_id, conn_id) WHERE {which} GROUP BY 1 ORDER BY 1"
        );
        query(&folder, &sql)
    };
    assert_eq!(said("transport IS NULL"), both("answer", &format!("{}last", "x".repeat(20_000))));
    for way in said("role = 'client' AND transport = 'tcp'") {
        let start = if way["way"] == "sent" { "outer" } else { "ready" };
        assert!(way["said"].as_str().unwrap().starts_with(&format!("{start}\u{16}\u{3}")), "{way}");
    }
}
