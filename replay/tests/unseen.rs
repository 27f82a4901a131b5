//! TLS whose plaintext was not seen: who is to be told of, and who is not.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{Socket, SocketData, TlsBind, family, kind, socket_content, socket_op};
use common::*;
use zerocopy::FromZeros;

#[derive(Default)]
struct Log {
    script: Script,
}

impl Log {
    fn socket(&mut self, id: u64, (tgid, op): (u32, u16), ports: (u16, u16), bytes: [u64; 2]) {
        self.script.time += 1;
        let mut socket = Socket::new_zeroed();
        socket.header = header(kind::SOCKET, self.script.time, tgid);
        (socket.socket_id, socket.op, socket.family) = (id.into(), op.into(), family::INET.into());
        (socket.socket_type, socket.protocol) = (1.into(), 6.into());
        (socket.local_port, socket.peer_port) = (ports.0.into(), ports.1.into());
        (socket.local[0], socket.peer[0]) = (127, 127);
        (socket.sent, socket.received) = (bytes[0].into(), bytes[1].into());
        self.script.records.push(bytes_of(&socket));
    }

    /// The hello of a session passes a socket.
    fn hello(&mut self, id: u64, tgid: u32, direction: u16, session: u8) {
        self.script.time += 1;
        let mut hello = client_hello("api.example.com");
        hello[11..43].fill(session);
        let mut data = SocketData::new_zeroed();
        data.header = header(kind::SOCKET_DATA, self.script.time, tgid);
        (data.socket_id, data.direction) = (id.into(), direction.into());
        (data.content, data.len) = (socket_content::TLS_HELLO.into(), (hello.len() as u32).into());
        data.captured = data.len;
        self.script.records.push(bytes(&data, &[&hello]));
    }

    fn client(&mut self, id: u64, tgid: u32, session: u8) {
        self.socket(id, (tgid, socket_op::CONNECT), (40_000 + id as u16, 443), [0; 2]);
        self.hello(id, tgid, SENT, session);
    }

    fn server(&mut self, id: u64, tgid: u32, peer_port: u16, session: u8) {
        self.socket(id, (tgid, socket_op::ACCEPT), (443, peer_port), [0; 2]);
        self.hello(id, tgid, RECEIVED, session);
    }

    fn close(&mut self, id: u64, tgid: u32, bytes: [u64; 2]) {
        self.socket(id, (tgid, socket_op::CLOSE), (0, 0), bytes);
    }

    fn bind(&mut self, conn_id: u64, socket_id: u64) {
        self.script.time += 1;
        let header = header(kind::TLS_BIND, self.script.time, 10);
        self.script.records.push(bytes(&TlsBind { header, conn_id: conn_id.into(), socket_id: socket_id.into() }, &[]));
    }

    fn rows(&self) -> Collected {
        rows(&self.script.records)
    }
}

fn bytes_of(socket: &Socket) -> Vec<u8> {
    bytes(socket, &[])
}

/// The connection and the message of each finding.
fn findings(seen: &Collected) -> Vec<Vec<&str>> {
    seen.cells("findings", &["subject_key", "message"])
}

const BOTH: &str = "what went through TLS to api.example.com was not seen";
const MUCH: [u64; 2] = [50_000, 50_000];

#[test]
fn who_forwards_tls_is_not_told_of() {
    let mut log = Log::default();
    log.client(1, 10, 7);
    log.server(2, 11, 40_001, 7);
    log.client(3, 11, 7);
    [(1, 10), (2, 11), (3, 11)].into_iter().for_each(|(id, tgid)| log.close(id, tgid, MUCH));
    let seen = log.rows();
    assert_eq!(findings(&seen), [["1", BOTH]], "its origin is");
    let mut forwards = seen.cells("connections", &["conn_id", "forwards_conn_id"]);
    forwards.sort();
    assert_eq!(forwards, [["1", ""], ["2", "3"], ["3", "2"]]);
}

#[test]
fn two_processes_that_forward_tls_between_them_are_not_told_of() {
    let mut log = Log::default();
    log.client(1, 10, 7);
    log.server(2, 11, 40_001, 7);
    log.client(3, 12, 7);
    // The far end, too, is recorded.
    log.server(4, 13, 40_003, 7);
    [(1, 10), (2, 11), (3, 12), (4, 13)].into_iter().for_each(|(id, tgid)| log.close(id, tgid, MUCH));
    let seen = log.rows();
    let mut told: Vec<_> = findings(&seen).into_iter().map(|finding| finding[0]).collect();
    told.sort();
    assert_eq!(told, ["1", "4"]);
    let mut forwards = seen.cells("connections", &["conn_id", "forwards_conn_id"]);
    forwards.sort();
    assert_eq!(forwards, [["1", ""], ["2", "3"], ["3", "2"], ["4", ""]]);
}

#[test]
fn both_ends_of_unseen_tls_are_told_of() {
    for server in [11, 10] {
        let mut log = Log::default();
        // The server's hello may be told first.
        log.server(2, server, 40_001, 7);
        log.client(1, 10, 7);
        log.close(2, server, MUCH);
        log.close(1, 10, MUCH);
        let seen = log.rows();
        assert!(seen.cells("connections", &["forwards_conn_id"]).iter().all(|row| row == &[""]));
        // One finding for a process and a host.
        assert_eq!(findings(&seen).len(), if server == 10 { 1 } else { 2 });
    }
}

#[test]
fn a_short_request_with_a_long_answer_is_told_of() {
    let told = |bytes| {
        let mut log = Log::default();
        log.client(1, 10, 7);
        log.close(1, 10, bytes);
        findings(&log.rows()).len()
    };
    assert_eq!([[120, 4000], [120, 2_000_000], [2000, 4000]].map(told), [0, 1, 1]);
}

#[test]
fn a_direction_that_was_not_seen_is_told_of_and_its_answers_are_missing() {
    let run = |direction: u16, data: &[u8], bytes| {
        let mut log = Log::default();
        log.client(1, 10, 7);
        log.script.say(2, direction, data);
        log.bind(2, 1);
        log.script.close(2);
        log.close(1, 10, bytes);
        let seen = log.rows();
        let messages: Vec<String> = seen.table("findings").iter().map(|row| row["message"].clone()).collect();
        let states: Vec<String> = seen.table("http").iter().map(|row| row["body_state"].clone()).collect();
        (messages, states)
    };
    let (ask, answer) = (request("/v1", "", "{}"), response("", b"{}"));
    let told = |what: &str| vec![format!("{what} api.example.com was not seen")];
    let gap = vec!["gap".to_owned()];
    assert_eq!(run(RECEIVED, &answer, [21_742, 5000]), (told("what was sent over TLS to"), gap.clone()));
    assert_eq!(run(SENT, &ask, [900, 90_000]), (told("what was received over TLS from"), gap));
    // A server may close without a word.
    assert_eq!(run(SENT, &ask, [900, 5000]), (vec![], vec!["complete".to_owned()]));
}
