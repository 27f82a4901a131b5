//! Names that systemd-resolved is asked for, over its local socket.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{Socket, TlsData, family, kind, library, socket_op};
use common::*;
use zerocopy::FromZeros;

const PATH: &[u8] = b"/run/systemd/resolve/io.systemd.Resolve";

/// A connection to systemd-resolved, and to an address that it gives.
fn records(said: &[(u16, &[u8])]) -> Vec<Vec<u8>> {
    let mut script = Script { library: library::PLAIN, time: 1, ..Script::default() };
    let mut socket = Socket::new_zeroed();
    (socket.header, socket.socket_id) = (header(kind::SOCKET, 1, 10), 5.into());
    (socket.op, socket.family, socket.socket_type) = (socket_op::CONNECT.into(), family::UNIX.into(), 1.into());
    socket.path_len = (PATH.len() as u16).into();
    script.records.push(bytes(&socket, &[PATH]));
    said.iter().for_each(|(way, data)| script.say(5, *way, data));
    (socket.header, socket.socket_id) = (header(kind::SOCKET, 1000, 10), 6.into());
    (socket.family, socket.protocol, socket.peer_port, socket.path_len) =
        (family::INET.into(), 6.into(), 443.into(), 0.into());
    socket.peer[..4].copy_from_slice(&[10, 0, 0, 7]);
    script.records.push(bytes(&socket, &[]));
    script.records
}

const QUESTION: &[u8] =
    b"{\"method\":\"io.systemd.Resolve.ResolveHostname\",\"parameters\":{\"name\":\"API.example.com\",\"family\":2}}\0";
const ANSWER: &[u8] =
    b"{\"parameters\":{\"addresses\":[{\"family\":2,\"address\":[10,0,0,7]}],\"name\":\"edge.example.com\",\"flags\":1}}\0";
const REFUSED: &[u8] = b"{\"error\":\"io.systemd.Resolve.DNSError\",\"parameters\":{\"rcode\":3}}\0";
const OTHER: &[u8] = b"{\"method\":\"io.systemd.Resolve.ResolveAddress\",\"parameters\":{}}\0";

const NAMES: [&str; 5] = ["query_name", "query_type", "answers", "response_code", "duration_ns"];

#[test]
fn a_question_to_systemd_resolved_has_its_answer_and_that_names_the_connection() {
    let both = [QUESTION, QUESTION].concat();
    let seen = rows(&records(&[
        (SENT, &both[..30]),
        (SENT, &both[30..]),
        (SENT, OTHER),
        (SENT, QUESTION),
        (RECEIVED, &ANSWER[..9]),
        (RECEIVED, &ANSWER[9..]),
        (RECEIVED, REFUSED),
        (RECEIVED, b"{}\0"),
    ]));
    let asked = |answers, code, time| ["api.example.com", "A", answers, code, time];
    let expected = [
        asked("VarcharList([\"edge.example.com\", \"10.0.0.7\"])", "NOERROR", "4"),
        asked("VarcharList([])", "NXDOMAIN", "5"),
        asked("VarcharList([])", "", ""),
    ];
    assert_eq!(seen.cells("dns", &NAMES), expected);
    let connections = seen.cells("connections", &["transport", "server_name", "plaintext_seen"]);
    assert!(connections.contains(&vec!["tcp", "api.example.com", "Boolean(false)"]), "{connections:?}");
}

#[test]
fn behind_a_gap_no_answer_is_taken_for_that_of_a_question() {
    let mut lost = records(&[(SENT, QUESTION), (RECEIVED, b"{}\0"), (RECEIVED, ANSWER)]);
    lost.remove(2);
    assert_eq!(rows(&lost).cells("dns", &NAMES), [["api.example.com", "A", "VarcharList([])", "", ""]]);
}

#[test]
fn more_questions_than_are_remembered_and_what_is_cut_make_no_wrong_answers() {
    let many = QUESTION.repeat(70);
    let seen = rows(&records(&[(SENT, &many), (RECEIVED, ANSWER)]));
    assert_eq!(seen.table("dns").len(), 64);
    let mut cut = records(&[(SENT, QUESTION), (RECEIVED, ANSWER)]);
    let mut tls = TlsData::new_zeroed();
    (tls.header, tls.conn_id, tls.library) = (header(kind::TLS_DATA, 3, 10), 5.into(), library::PLAIN.into());
    (tls.direction, tls.len, tls.captured) = (RECEIVED.into(), (ANSWER.len() as u32).into(), 9.into());
    cut[2] = bytes(&tls, &[&ANSWER[..9]]);
    assert_eq!(rows(&cut).cells("dns", &["response_code"]), [[""]]);
}
