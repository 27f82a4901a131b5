//! Questions to name servers and their answers, over captures that are made here.

mod common;

use agentsight_formats::record::{direction, library, socket_content, socket_op};
use common::log::*;
use common::*;

/// `api.example.com` in a message; the answer is 10.0.0.7.
fn dns(response: bool, answer: bool) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, if response { 0x81 } else { 1 }, 0, 0, 1, 0, answer as u8, 0, 0, 0, 0];
    message.extend_from_slice(b"\x03api\x07EXAMPLE\x03com\x00\x00\x01\x00\x01");
    if answer {
        message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07");
    }
    if response && !answer {
        message[3] = 3;
    }
    message
}

#[test]
fn a_question_has_its_answer_and_the_answer_names_the_connection() {
    let mut log = Log::default();
    log.socket(4, socket_op::CONNECT, udp);
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    log.socket_data(4, socket_content::DNS, direction::RECEIVED, &dns(true, true));
    log.socket(5, socket_op::CONNECT, |socket| socket.result = (-115).into());
    log.socket(6, socket_op::CONNECT, |socket| socket.result = (-111).into());
    // It asks in vain, and does not wait for the third answer.
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    log.socket_data(4, socket_content::DNS, direction::RECEIVED, &dns(true, false));
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    let seen = log.rows();
    let names = ["query_name", "query_type", "answers", "response_code", "duration_ns"];
    let questions = seen.cells("dns", &names);
    assert_eq!(
        questions,
        [
            ["api.example.com", "A", "VarcharList([\"10.0.0.7\"])", "NOERROR", "2"],
            ["api.example.com", "A", "VarcharList([])", "NXDOMAIN", "1"],
            ["api.example.com", "A", "VarcharList([])", "", ""],
        ]
    );
    let connections = seen.cells("connections", &["transport", "server_name", "error"]);
    let name = "api.example.com";
    assert_eq!(connections, [["udp", "", ""], ["tcp", name, ""], ["tcp", name, "ECONNREFUSED"]]);
}

#[test]
fn a_question_over_tcp_is_a_row_however_it_is_cut() {
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let (question, answer) = (framed(dns(false, false)), framed(dns(true, true)));
    for cut in [1, 2, 9, answer.len() - 1] {
        let mut log = Log::default();
        log.socket(5, socket_op::CONNECT, |socket| socket.peer_port = 53.into());
        log.say(library::PLAIN, 5, direction::SENT, &question);
        log.say(library::PLAIN, 5, direction::RECEIVED, &answer[..cut]);
        log.say(library::PLAIN, 5, direction::RECEIVED, &answer[cut..]);
        let seen = log.rows();
        let names = ["query_name", "answers", "response_code", "server_address", "truncated", "duration_ns"];
        let row = cells(seen.table("dns")[0], &names);
        let answers = "VarcharList([\"10.0.0.7\"])";
        assert_eq!(row, ["api.example.com", answers, "NOERROR", "10.0.0.7", "Boolean(false)", "2"], "{cut}");
        assert_eq!(seen.table("http").len(), 0);
        let row = cells(seen.table("connections")[0], &["transport", "plaintext_seen", "tls_seen", "server_name"]);
        assert_eq!(row, ["tcp", "Boolean(true)", "Boolean(false)", ""]);
    }
}

#[test]
fn http_on_the_port_of_name_servers_is_http() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |socket| socket.peer_port = 53.into());
    log.say(library::PLAIN, 5, direction::SENT, GET);
    log.say(library::PLAIN, 5, direction::RECEIVED, OK);
    let seen = log.rows();
    assert_eq!((seen.table("http").len(), seen.table("dns").len()), (1, 0));
}
