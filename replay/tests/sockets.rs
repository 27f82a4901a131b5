//! Connections and what goes through them, over captures that are made here.

mod common;

use agentsight_formats::record::{
    Exit, Header, Socket, TlsClose, direction, family, kind, library, socket_content, socket_op, sums_of,
};
use common::log::*;
use common::*;
use zerocopy::{FromZeros, IntoBytes};

#[test]
fn the_two_directions_below_rustls_are_one_connection_of_their_socket() {
    for (library, name) in [(library::AWS_LC, "aws-lc"), (library::RING, "ring")] {
        directions_are_one_connection(library, name);
    }
}

fn directions_are_one_connection(library: u16, name: &str) {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library, 6, direction::SENT, GET);
    log.bind(6, 5);
    log.bind(7, 5);
    log.say(library, 7, direction::RECEIVED, OK);
    // The keys are changed: new objects, whose streams begin at 0.
    log.bind(8, 5);
    log.say(library, 8, direction::SENT, GET);
    log.say(library, 7, direction::RECEIVED, OK);
    log.socket(5, socket_op::CLOSE, |socket| {
        (socket.sent, socket.received) = (900.into(), 3000.into());
        (socket.local_port, socket.peer_port, socket.peer) = (0.into(), 0.into(), [0; 16]);
    });
    let seen = log.rows();
    let http = seen.cells("http", &["method", "status_code", "end_reason", "scheme"]);
    assert_eq!(http, [["GET", "200", "response", "https"], ["GET", "200", "response", "https"]]);
    let connections = seen.table("connections");
    assert_eq!(connections.len(), 1);
    let names = [
        "transport",
        "role",
        "local_address",
        "local_port",
        "peer_address",
        "peer_port",
        "server_name",
        "tls_library",
        "bytes_sent",
        "bytes_received",
        "plaintext_sent",
        "plaintext_received",
        "gap_bytes",
        "closed_at",
    ];
    let (sent, received) = ((2 * GET.len()).to_string(), (2 * OK.len()).to_string());
    assert_eq!(
        cells(connections[0], &names),
        [
            "tcp",
            "client",
            "10.0.0.1",
            "40000",
            "10.0.0.7",
            "443",
            "api.example.com",
            name,
            "900",
            "3000",
            &sent,
            &received,
            "0",
            "1000009",
        ]
    );
    let pieces = seen.cells("tls_data", &["conn_id", "direction", "stream_offset"]);
    let (first, second) = (GET.len().to_string(), OK.len().to_string());
    assert_eq!(pieces, [["1", "sent", "0"], ["1", "received", "0"], ["1", "sent", &first], ["1", "received", &second]]);
}

#[test]
fn a_socket_that_is_found_late_is_that_of_the_first_bytes_too() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library::OPENSSL, 6, direction::SENT, GET);
    log.say(library::OPENSSL, 6, direction::RECEIVED, OK);
    // Long after; records in between do not wait for it.
    log.script.time += 5_000_000_000;
    log.bind(6, 5);
    log.bind(6, 5);
    log.socket(5, socket_op::CLOSE, |_| {});
    let header = log.header(kind::TLS_CLOSE);
    // As older capturers wrote it: of how much went through it, nothing is known.
    let close = TlsClose { header, conn_id: 6.into(), sent: 9.into(), received: 9.into() };
    let before: [u8; size_of::<Header>() + size_of::<u64>()] = close.as_bytes()[..40].try_into().unwrap();
    log.push(&before, &[]);
    let seen = log.rows();
    let connections = seen.table("connections");
    assert_eq!(connections.len(), 1);
    assert_eq!(cells(connections[0], &["conn_id", "local_port", "tls_seen"]), ["1", "40000", "Boolean(true)"]);
    assert_eq!(cells(seen.table("http")[0], &["conn_id", "method", "status_code"]), ["1", "GET", "200"]);
}

#[test]
fn a_connection_whose_socket_is_not_known_has_a_row_of_its_own() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library::OPENSSL, 6, direction::SENT, GET);
    log.say(library::OPENSSL, 6, direction::RECEIVED, OK);
    let seen = log.rows();
    let connections = seen.cells("connections", &["local_port", "plaintext_seen"]);
    assert_eq!(connections, [["40000", "Boolean(false)"], ["", "Boolean(true)"]]);
}

#[test]
fn what_goes_through_a_socket_without_tls_is_http() {
    let mut log = Log::default();
    log.socket(5, socket_op::ACCEPT, |socket| socket.family = family::INET.into());
    log.say(library::PLAIN, 5, direction::RECEIVED, GET);
    log.say(library::PLAIN, 5, direction::SENT, OK);
    let seen = log.rows();
    assert_eq!(cells(seen.table("http")[0], &["scheme", "method", "status_code"]), ["http", "GET", "200"]);
    let row = cells(seen.table("connections")[0], &["role", "tls_seen", "plaintext_seen", "tls_library", "alpn"]);
    assert_eq!(row, ["server", "Boolean(false)", "Boolean(true)", "", "http/1.1"]);
}

/// A ClientHello that asks for `shown.example.com` and offers HTTP/2 alone.
const HELLO: &[u8] =
    b"\x16\x03\x01\x00\x57\x01\x00\x00\x53\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\x00\x02\x13\x01\x01\x00\
\x00\x28\x00\x00\x00\x16\x00\x14\x00\x00\x11shown.example.com\x00\x10\x00\x05\x00\x03\x02h2\x00\x17\x00\x01x";

#[test]
fn tls_that_nobody_could_look_into_is_named_by_its_hello() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.socket_data(5, socket_content::TLS_HELLO, direction::SENT, HELLO);
    let seen = log.rows();
    let row = cells(seen.table("connections")[0], &["server_name", "alpn", "tls_seen", "plaintext_seen"]);
    assert_eq!(row, ["shown.example.com", "h2", "Boolean(true)", "Boolean(false)"]);
}

#[test]
fn sockets_that_only_wait_or_carry_nothing_are_no_connections() {
    let mut log = Log::default();
    let nobody = |socket: &mut Socket| (socket.peer, socket.peer_port) = ([0; 16], 0.into());
    log.socket(3, socket_op::BIND, nobody);
    log.socket(3, socket_op::CLOSE, nobody);
    // How a resolver finds out which address to use first.
    log.socket(4, socket_op::CONNECT, udp);
    log.socket(4, socket_op::CLOSE, udp);
    // One end of a pair; a local server.
    log.socket(5, socket_op::CLOSE, |socket| (socket.family, socket.sent) = (family::UNIX.into(), 9.into()));
    log.socket(6, socket_op::CONNECT, |socket| socket.family = family::UNIX.into());
    let seen = log.rows();
    let connections = seen.cells("connections", &["transport", "peer_address"]);
    assert_eq!(connections, [["unix", "/run/bus"]]);
}

#[test]
fn a_process_that_ends_closes_its_connections_unless_another_has_them_too() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.socket(6, socket_op::CONNECT, |_| {});
    let mut exit = Exit::new_zeroed();
    exit.header = log.header(kind::EXIT);
    log.push(&exit, &[]);
    log.socket(6, socket_op::CLOSE, |socket| socket.header.tgid = 11.into());
    let seen = log.rows();
    let closed = seen.cells("connections", &["conn_id", "closed_at"]);
    assert!(closed.contains(&vec!["1", "1000003"]) && closed.contains(&vec!["2", "1000004"]), "{closed:?}");
    assert_eq!(seen.table("processes").len(), 2, "what is told of a process after its end makes no new one");
}

#[test]
fn bytes_of_a_connection_are_null_only_where_nobody_told() {
    let names = ["bytes_sent", "bytes_received", "closed_at"];
    let row = |log: &Log| {
        let seen = log.rows();
        let row = cells(seen.table("connections")[0], &names);
        row.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library::OPENSSL, 6, direction::SENT, GET);
    log.bind(6, 5);
    // The capturer was killed: how much has gone through the socket is not known.
    assert_eq!(row(&log), ["", "", ""]);
    log.exit();
    assert_eq!(row(&log), ["", "", "1000004"]);
    // Somebody else has it, and the capturer came to its end.
    log.sums(sums_of::SOCKET, 5, [900, 3000]);
    log.sums(sums_of::SOCKET, 77, [1, 1]);
    assert_eq!(row(&log), ["900", "3000", ""]);
    assert_eq!(log.rows().table("connections").len(), 1);
}

/// A client that has what it wants closes its socket, and leaves the last chunk unread; its library does not tell when the object is gone.
#[test]
fn an_exchange_ends_with_its_socket_where_the_library_does_not_tell_when_its_object_is_gone() {
    let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    let mut log = Log::default();
    for (socket, object, response) in [(5, 6, &cut[..]), (7, 8, OK)] {
        log.socket(socket, socket_op::CONNECT, |_| {});
        log.bind(object, socket);
        log.say(library::BORINGSSL, object, direction::SENT, GET);
        log.say(library::BORINGSSL, object, direction::RECEIVED, response);
        log.socket(socket, socket_op::CLOSE, |_| {});
        log.script.time += 50_000_000;
    }
    let seen = log.rows();
    let http = seen.cells("http", &["http_id", "end_reason", "body_state", "end_ts"]);
    assert_eq!(http, [["1", "close", "cut", "1000004"], ["2", "response", "complete", "51000009"]]);
}
