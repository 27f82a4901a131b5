//! What a row says when one certain record of those that make it was lost.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{Socket, family, kind, library, records, socket_op};
use common::run::{AGENT, Run, VERSION};
use common::*;
use serde_json::{Value, json};
use zerocopy::{FromZeros, IntoBytes};

/// Numbers the records as their CPU does, and leaves one out.
fn without(mut all: Vec<Vec<u8>>, index: usize) -> Vec<Vec<u8>> {
    for (seq, bytes) in (0u32..).zip(&mut all) {
        let header = records(bytes).next().unwrap().unwrap().header;
        let numbered = agentsight_formats::record::Header { seq: seq.into(), ..*header };
        bytes[..size_of_val(&numbered)].copy_from_slice(numbered.as_bytes());
    }
    all.remove(index);
    all
}

fn last(run: &Run) -> usize {
    run.script.records.len() - 1
}

#[test]
fn without_its_fork_a_process_is_no_root() {
    let mut run = Run::new();
    run.fork(AGENT, 11);
    let lost = last(&run);
    run.exec(11, &["sh"]);
    run.start(11, 12, &["ls"]);
    run.exit(12);
    run.exit(11);
    let seen = rows(&without(run.script.records, lost));
    for (row, parent) in seen.table("processes").into_iter().zip([Some("2"), None]) {
        assert_eq!((row.get("depth"), row.get("parent_proc_id").map(String::as_str)), (None, parent), "{row:?}");
    }
}

#[test]
fn the_process_that_a_recording_begins_with_is_its_root() {
    let mut run = Run::new();
    run.start(AGENT, 11, &["ls"]);
    run.exit(11);
    let seen = run.rows();
    let depths: Vec<_> = seen.table("processes").iter().map(|row| (row["pid"].clone(), row["depth"].clone())).collect();
    assert_eq!(depths, [("11", "1"), ("10", "0")].map(|(pid, depth)| (pid.to_owned(), depth.to_owned())));
}

#[test]
fn without_the_record_of_an_exec_a_process_is_not_named_by_the_program_before() {
    let mut run = Run::new();
    run.start(AGENT, 11, &["sh"]);
    run.exec(11, &["ls"]);
    let lost = last(&run) - 1;
    run.exit(11);
    let seen = rows(&without(run.script.records, lost));
    let process = seen.table("processes")[0];
    assert_eq!((process["comm"].as_str(), process.get("executable_path")), ("", None));
    assert_eq!(seen.table("execs").len(), 2);
}

/// An exchange, and the record of its answer.
fn answered() -> (Run, usize) {
    let mut run = Run::new();
    run.script.say(1, SENT, &request("/v1/messages", VERSION, r#"{"model":"x","messages":[]}"#));
    run.script.say(1, RECEIVED, &response("", b"{}"));
    let answer = last(&run);
    run.script.close(1);
    (run, answer)
}

#[test]
fn without_an_answer_an_exchange_had_none_only_if_nothing_was_lost() {
    let (run, lost) = answered();
    let state = |all: &[Vec<u8>]| {
        let seen = rows(all);
        let row = seen.table("http")[0];
        (row["body_state"].clone(), row["end_reason"].clone())
    };
    let none = |state: &str| (state.to_owned(), "no_response".to_owned());
    assert_eq!(state(&without(run.script.records.clone(), lost)), none("gap"));
    let mut run = Run::new();
    run.script.say(1, SENT, &request("/v1/messages", VERSION, r#"{"model":"x","messages":[]}"#));
    run.script.close(1);
    assert_eq!(state(&run.script.records), none("complete"));
}

/// The end of a connection says how much went through it: over TLS the object's, else the socket's.
#[test]
fn what_is_lost_at_the_end_of_a_stream_is_told_by_its_end() {
    let answer = response("", b"{}");
    let (head, body) = answer.split_at(answer.len() - 2);
    for library in [library::OPENSSL, library::PLAIN] {
        let mut run = Run::new();
        run.script.library = library;
        run.script.say(1, SENT, &request("/v1/messages", VERSION, r#"{"model":"x","messages":[]}"#));
        run.script.say(1, RECEIVED, head);
        run.script.say(1, RECEIVED, body);
        let lost = last(&run);
        if library == library::PLAIN {
            let offsets = [SENT, RECEIVED].map(|direction| run.script.offsets[&(1, direction)].into());
            let [sent, received] = offsets;
            let header = header(kind::SOCKET, run.script.time + 1, AGENT);
            let close = Socket {
                header,
                socket_id: 1.into(),
                op: socket_op::CLOSE.into(),
                family: family::INET.into(),
                sent,
                received,
                ..Socket::new_zeroed()
            };
            run.script.records.push(bytes(&close, &[]));
        } else {
            run.script.close(1);
        }
        let whole = rows(&run.script.records);
        assert_eq!(whole.table("connections")[0]["gap_bytes"], "0");
        assert_eq!(whole.table("http")[0]["body_state"], "complete");
        run.script.records.remove(lost);
        let seen = rows(&run.script.records);
        assert_eq!(seen.table("connections")[0]["gap_bytes"], "2");
        assert_eq!(seen.table("connections")[0]["plaintext_received"], answer.len().to_string());
        assert_eq!(seen.table("http")[0]["body_state"], "gap");
    }
}

#[test]
fn where_the_head_is_damaged_holes_are_where_the_records_are() {
    let (run, lost) = answered();
    let mut file = capture(&without(run.script.records, lost));
    let metadata = file.windows(6).position(|bytes| bytes == b"\"host\"").unwrap();
    file[metadata] = b'!';
    let (seen, report) = rows_of(&file, None);
    assert!(report.lossy());
    assert_eq!(seen.table("http")[0]["body_state"], "gap");
}

/// A conversation with a tool call, of which the second request carries the result and the third has more.
fn conversation() -> Run {
    let mut run = Run::new();
    let tool = |id: &str| json!({"type": "tool_use", "id": id, "name": "bash", "input": {"command": "ls"}});
    let said = |role: &str, part: Value| json!({"role": role, "content": [part]});
    let given = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "ok"});
    let mut messages = vec![json!({"role": "user", "content": "go"})];
    for id in ["a", "b", "c"] {
        let body = json!({"model": "x", "max_tokens": 9, "messages": messages});
        let answer = json!({"id": id, "model": "x", "content": [tool(id)], "stop_reason": "tool_use"});
        run.exchange(&body.to_string(), &answer.to_string());
        messages.push(said("assistant", tool(id)));
        messages.push(said("user", given(id)));
    }
    run
}

#[test]
fn without_the_request_that_carried_a_result_first_its_time_is_unknown() {
    let times = |run: &[Vec<u8>]| {
        let seen = rows(run);
        let known = |row: &Cells| (row["tool_call_id"].clone(), row.contains_key("result_ts"));
        seen.table("tool_calls").into_iter().filter(|row| row.contains_key("result")).map(known).collect::<Vec<_>>()
    };
    let known = |id: &str, known: bool| (id.to_owned(), known);
    let whole = conversation().script.records;
    assert_eq!(times(&whole), [known("a", true), known("b", true)]);
    // The exec and its arguments, then a request and an answer each.
    assert_eq!(times(&without(whole, 4)), [known("a", false), known("b", true)]);
}

#[test]
fn without_its_close_a_connection_does_not_say_how_much_went_through_it() {
    let mut run = Run::new();
    let socket = |run: &mut Run, op: u16| {
        let mut socket = Socket::new_zeroed();
        socket.header = header(kind::SOCKET, run.time(), AGENT);
        (socket.socket_id, socket.op, socket.family) = (7.into(), op.into(), family::INET.into());
        (socket.socket_type, socket.protocol, socket.peer_port) = (1.into(), 6.into(), 443.into());
        (socket.sent, socket.peer[3]) = (500.into(), 1);
        run.script.records.push(bytes(&socket, &[]));
    };
    socket(&mut run, socket_op::CONNECT);
    socket(&mut run, socket_op::CLOSE);
    let lost = last(&run);
    run.exit(AGENT);
    let sent = |all: &[Vec<u8>]| rows(all).table("connections")[0].get("bytes_sent").cloned();
    assert_eq!(sent(&run.script.records), Some("500".to_owned()));
    assert_eq!(sent(&without(run.script.records, lost)), None);
}

#[test]
fn without_the_end_of_a_custom_tool_call_its_text_is_no_whole_argument() {
    let arguments = |kind: &str, deltas: &str, text: &str| {
        let item = json!({"type": kind, "id": "i", "call_id": "c", "name": "patch"});
        let events = [
            json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
            json!({"type": deltas, "output_index": 0, "delta": text}),
        ];
        let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let mut script = Script::default();
        let headers = "Content-Type: text/event-stream\r\n";
        script.exchange(
            &request("/v1/responses", "", r#"{"input":"go","stream":true}"#),
            &chunked(headers, &[body.as_bytes()]),
            9999,
        );
        let seen = rows(&script.records);
        let row = seen.table("tool_calls")[0];
        (row["arguments"].clone(), row["args_complete"].clone())
    };
    let is = |arguments: &str, complete: &str| (arguments.to_owned(), format!("Boolean({complete})"));
    assert_eq!(arguments("custom_tool_call", "response.custom_tool_call_input.delta", "12"), is("\"12", "false"));
    let function = |text| arguments("function_call", "response.function_call_arguments.delta", text);
    assert_eq!(function(r#"{"a":1"#), is(r#"{"a":1"#, "false"));
    assert_eq!(function(r#"{"a":1}"#), is(r#"{"a":1}"#, "true"));
}
