//! Sockets that wait for others, and those whose messages go one by one, to several peers.

mod common;

use agentsight_formats::record::{CAPTURER_CPU, Header, Socket, Sums, family, kind, socket_op, sums_of};
use common::*;
use zerocopy::FromZeros;

const STREAM: (u16, u16) = (1, 6);
const DATAGRAM: (u16, u16) = (2, 17);

/// Records of sockets, each a nanosecond after the one before.
#[derive(Default)]
struct Log {
    records: Vec<Vec<u8>>,
}

impl Log {
    fn header(&self, kind: u16) -> Header {
        header(kind, self.records.len() as u64 + 1, 10)
    }

    /// A record of an IPv4 socket at 0.0.0.0:4000, with no peer.
    fn socket(&mut self, id: u64, op: u16, (kind_of, protocol): (u16, u16), change: impl FnOnce(&mut Socket)) {
        self.named(id, op, (kind_of, protocol), b"", change);
    }

    fn named(
        &mut self,
        id: u64,
        op: u16,
        (kind_of, protocol): (u16, u16),
        name: &[u8],
        change: impl FnOnce(&mut Socket),
    ) {
        let mut socket = Socket::new_zeroed();
        socket.header = self.header(kind::SOCKET);
        (socket.socket_id, socket.op, socket.family) = (id.into(), op.into(), family::INET.into());
        (socket.socket_type, socket.protocol, socket.local_port) = (kind_of.into(), protocol.into(), 4000.into());
        socket.path_len = (name.len() as u16).into();
        change(&mut socket);
        self.records.push(bytes(&socket, &[name]));
    }

    /// One of several peers, 10.0.0.`last`, and what went to it.
    fn peer(&mut self, number: u16, last: u8, sent: u64) {
        self.socket(5, socket_op::PEER, DATAGRAM, |socket| {
            (socket.result, socket.sent) = (i32::from(number).into(), sent.into());
            to(last)(socket);
        });
    }

    fn sums(&mut self, what: u16, number: u16, sent: u64) {
        let mut sums = Sums::new_zeroed();
        sums.header = Header { tgid: 0.into(), tid: 0.into(), cpu: CAPTURER_CPU.into(), ..self.header(kind::SUMS) };
        (sums.what, sums.id, sums.number, sums.sent) = (what.into(), 5.into(), number.into(), sent.into());
        self.records.push(bytes(&sums, &[]));
    }

    fn connections(&self, names: &[&'static str]) -> Vec<Vec<String>> {
        let seen = rows(&self.records);
        let mut found: Vec<Vec<String>> = seen
            .cells("connections", names)
            .into_iter()
            .map(|row| row.into_iter().map(str::to_owned).collect())
            .collect();
        found.sort();
        found
    }
}

/// Of 10.0.0.`last`:443; nobody if that is 0.
fn to(last: u8) -> impl Fn(&mut Socket) {
    move |socket| {
        if last > 0 {
            socket.peer[..4].copy_from_slice(&[10, 0, 0, last]);
            socket.peer_port = 443.into();
        }
    }
}

fn local(socket: &mut Socket) {
    (socket.family, socket.local_port) = (family::UNIX.into(), 0.into());
}

const ENDS: [&str; 4] = ["transport", "local_address", "local_port", "role"];

#[test]
fn who_listens_has_a_row_from_then_until_the_close() {
    let mut log = Log::default();
    log.socket(5, socket_op::BIND, STREAM, |_| {});
    log.socket(5, socket_op::LISTEN, STREAM, |_| {});
    log.socket(5, socket_op::LISTEN, STREAM, |_| {});
    log.socket(6, socket_op::ACCEPT, STREAM, to(7));
    log.socket(5, socket_op::CLOSE, STREAM, |_| {});
    log.named(7, socket_op::BIND, STREAM, b"/run/own.sock", local);
    log.named(7, socket_op::LISTEN, STREAM, b"/run/own.sock", local);
    let seen =
        log.connections(&["role", "transport", "local_address", "local_port", "opened_at", "closed_at", "error"]);
    let expected = [
        ["listener", "tcp", "0.0.0.0", "4000", "1000002", "1000005", ""],
        ["listener", "unix", "/run/own.sock", "", "1000007", "", ""],
        ["server", "tcp", "", "4000", "1000004", "", ""],
    ];
    assert_eq!(seen, expected);
}

#[test]
fn an_address_that_was_refused_is_told_and_one_that_was_had_in_the_end_is_no_failure() {
    let refused = |socket: &mut Socket| socket.result = (-98).into();
    let mut log = Log::default();
    log.socket(5, socket_op::BIND, STREAM, refused);
    log.socket(6, socket_op::BIND, STREAM, refused);
    log.socket(6, socket_op::BIND, STREAM, |socket| socket.local_port = 4001.into());
    log.socket(6, socket_op::LISTEN, STREAM, |socket| socket.local_port = 4001.into());
    log.socket(7, socket_op::LISTEN, STREAM, |socket| socket.result = (-13).into());
    // It has an address, and does nothing with it.
    log.socket(8, socket_op::BIND, STREAM, |_| {});
    let seen = log.connections(&["error", "local_address", "local_port", "role"]);
    let expected = [
        ["", "0.0.0.0", "4001", "listener"],
        ["EACCES", "0.0.0.0", "4000", "listener"],
        ["EADDRINUSE", "0.0.0.0", "4000", ""],
    ];
    assert_eq!(seen, expected);
}

#[test]
fn datagrams_find_a_socket_as_soon_as_it_has_an_address() {
    let mut log = Log::default();
    log.socket(5, socket_op::BIND, DATAGRAM, |_| {});
    log.named(6, socket_op::BIND, (2, 0), b"/run/log.sock", local);
    let expected = [["udp", "0.0.0.0", "4000", ""], ["unix", "/run/log.sock", "", ""]];
    assert_eq!(log.connections(&ENDS), expected);
}

const PEER: [&str; 4] = ["conn_id", "peer_address", "bytes_sent", "role"];

/// Three peers, of which the second was connected to.
fn three_peers() -> Log {
    let mut log = Log::default();
    log.socket(5, socket_op::USE, DATAGRAM, to(1));
    log.socket(5, socket_op::CONNECT, DATAGRAM, to(2));
    log.peer(0, 1, 10);
    log.peer(1, 2, 4);
    log.peer(2, 3, 5);
    log
}

#[test]
fn each_of_several_peers_has_what_went_to_it() {
    let mut log = three_peers();
    [(0, 1, 30), (1, 2, 4), (2, 3, 500)].into_iter().for_each(|(number, last, sent)| log.peer(number, last, sent));
    log.socket(5, socket_op::CLOSE, DATAGRAM, |socket| socket.sent = 534.into());
    let expected = [["1", "10.0.0.1", "30", ""], ["2", "10.0.0.2", "4", "client"], ["3", "10.0.0.3", "500", ""]];
    assert_eq!(log.connections(&PEER), expected);
    let opened = log.connections(&["opened_at", "closed_at", "peer_port"]);
    assert_eq!(opened, [["1000001", "1000009", "443"], ["1000004", "1000009", "443"], ["1000005", "1000009", "443"]]);
}

#[test]
fn what_went_with_nobody_who_was_told_is_told_of_others() {
    let mut log = three_peers();
    log.peer(socket_op::OTHER_PEERS, 0, 7);
    log.socket(5, socket_op::CLOSE, DATAGRAM, |socket| socket.sent = 26.into());
    assert_eq!(log.connections(&PEER)[3], ["4", "", "7", ""]);
    // The kernel side has forgotten them before the close.
    let mut log = three_peers();
    log.socket(5, socket_op::CLOSE, DATAGRAM, |socket| socket.sent = 119.into());
    assert_eq!(log.connections(&PEER)[3], ["4", "", "100", ""]);
}

#[test]
fn peers_of_a_socket_that_nobody_closes_are_told_by_the_sums_or_not_at_all() {
    let mut log = three_peers();
    let unknown = [["1", "10.0.0.1", "", ""], ["2", "10.0.0.2", "", "client"], ["3", "10.0.0.3", "", ""]];
    assert_eq!(log.connections(&PEER), unknown);
    log.sums(sums_of::PEER, 2, 50);
    log.sums(sums_of::SOCKET, 0, 64);
    let expected = [["1", "10.0.0.1", "10", ""], ["2", "10.0.0.2", "4", "client"], ["3", "10.0.0.3", "50", ""]];
    assert_eq!(log.connections(&PEER), expected);
}

#[test]
fn one_peer_that_two_threads_have_made_two_of_is_one() {
    let mut log = three_peers();
    log.peer(3, 3, 6);
    // Nothing went to it in the end.
    log.peer(4, 4, 0);
    log.socket(5, socket_op::CLOSE, DATAGRAM, |socket| socket.sent = 25.into());
    let seen = log.connections(&PEER);
    assert_eq!((seen.len(), &seen[2][..]), (3, &["3", "10.0.0.3", "11", ""].map(str::to_owned)[..]));
}

#[test]
fn local_datagrams_have_the_names_that_they_are_sent_to() {
    let mut log = Log::default();
    let peer = |number: i32, sent: u64| {
        move |socket: &mut Socket| {
            local(socket);
            (socket.result, socket.sent) = (number.into(), sent.into());
        }
    };
    log.named(5, socket_op::USE, (2, 0), b"/run/log.sock", local);
    log.named(5, socket_op::PEER, (2, 0), b"", peer(0, 5));
    log.named(5, socket_op::PEER, (2, 0), b"\0other", peer(1, 6));
    log.named(5, socket_op::PEER, (2, 0), b"", peer(1, 60));
    log.named(5, socket_op::CLOSE, (2, 0), b"", |socket| {
        local(socket);
        socket.sent = 65.into();
    });
    // One end of a pair: neither has a name.
    log.named(6, socket_op::CLOSE, (2, 0), b"", peer(0, 9));
    let seen = log.connections(&["transport", "peer_address", "bytes_sent"]);
    assert_eq!(seen, [["unix", "/run/log.sock", "5"], ["unix", "@other", "60"]]);
}

#[test]
fn numbers_that_no_kernel_side_gives_make_no_rows() {
    let mut log = three_peers();
    [socket_op::OTHER_PEERS + 1, u16::MAX].into_iter().for_each(|number| log.peer(number, 9, 1));
    log.socket(5, socket_op::PEER, DATAGRAM, |socket| socket.result = (-1).into());
    assert_eq!(log.connections(&PEER).len(), 3);
}
