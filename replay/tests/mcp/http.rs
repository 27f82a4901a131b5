//! Over HTTP.

use crate::common::*;
use crate::*;
use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{Socket, family, kind, library, socket_op};
use zerocopy::FromZeros;

const BOTH: &str = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
const SESSION: &str = "Mcp-Session-Id: s1\r\n";
const STREAM: &str = "Content-Type: text/event-stream\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

const NAMES: [&str; 7] = ["kind", "method", "request_id", "http_id", "transport", "session_id", "end_reason"];

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n{headers}\r\n").into_bytes()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    request("/mcp", &format!("{BOTH}{headers}"), body)
}

fn events(messages: &[&str]) -> Vec<u8> {
    messages.iter().map(|message| format!("event: message\ndata: {message}\n\n")).collect::<String>().into_bytes()
}

/// A client and a server that introduce themselves, and a call that is answered by events.
fn session(size: usize) -> Script {
    let mut script = Script::default();
    script.exchange(&post("", INITIALIZE), &response(SESSION, SERVES.as_bytes()), size);
    script.exchange(&post(SESSION, INITIALIZED), ACCEPTED, size);
    let call = call("1", "buy", r#"{"what":"tea"}"#);
    post(SESSION, &call).chunks(size).for_each(|chunk| script.say(1, SENT, chunk));
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let elicit = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"sure?"}}"#;
    let (first, last) = (events(&[progress, elicit]), events(&[&result("1", r#"{"content":[]}"#)]));
    let whole = chunked(STREAM, &[&first, &last]);
    let cut = whole.len() - last.len() - 20;
    whole[..cut].chunks(size).for_each(|chunk| script.say(1, RECEIVED, chunk));
    // The client answers on another connection, long before the stream ends.
    script.say(2, SENT, &post(SESSION, &result("1", r#"{"action":"accept"}"#)));
    script.say(2, RECEIVED, ACCEPTED);
    whole[cut..].chunks(size).for_each(|chunk| script.say(1, RECEIVED, chunk));
    script
}

#[test]
fn answers_come_whole_or_as_events_and_the_client_is_asked_in_between() {
    for size in [1, 3, 100, usize::MAX] {
        let seen = rows(&session(size).records);
        assert_eq!(
            mcp(&seen, &NAMES),
            [
                ["request", "initialize", "0", "1", "http", "s1", "response"],
                ["notification", "notifications/initialized", "", "2", "http", "s1", ""],
                ["notification", "notifications/progress", "", "3", "http", "s1", ""],
                ["request", "elicitation/create", "1", "3", "http", "s1", "response"],
                ["request", "tools/call", "1", "3", "http", "s1", "response"],
            ],
            "by {size}"
        );
        let names = ["direction", "server_name", "client_proc_id", "result", "complete"];
        let last = &mcp(&seen, &names)[3..];
        let accepted = r#"{"action":"accept"}"#;
        assert_eq!(
            last,
            [
                ["server_to_client", "files", "1", accepted, "Boolean(true)"],
                ["client_to_server", "files", "1", r#"{"content":[]}"#, "Boolean(true)"],
            ]
        );
    }
}

/// An answer may come in another stream of the session.
#[test]
fn a_stream_that_is_asked_for_carries_what_the_server_says_by_itself() {
    let mut script = session(usize::MAX);
    script.say(3, SENT, &get("/mcp", &format!("Accept: text/event-stream\r\n{SESSION}")));
    script.say(4, SENT, &post(SESSION, &call("2", "slow", "{}")));
    script.say(4, RECEIVED, &chunked(STREAM, &[b": hello\n\n"]));
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    script.say(3, RECEIVED, &chunked(STREAM, &[&events(&[changed, &result("2", "{}")])]));
    let seen = rows(&script.records);
    assert_eq!(
        mcp(&seen, &NAMES)[5..],
        [
            ["notification", "notifications/tools/list_changed", "", "5", "http", "s1", ""],
            ["request", "tools/call", "2", "6", "http", "s1", "response"],
        ]
    );
}

#[test]
fn the_newest_version_has_no_sessions() {
    let mut script = Script::default();
    let headers = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: grep\r\n";
    let answer = r#"{"resultType":"complete","content":[],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"files","version":"1"}}}"#;
    for id in [r#""a""#, r#""b""#] {
        let answer = response("Content-Type: application/json\r\n", result(id, answer).as_bytes());
        script.exchange(&post(headers, &call(id, "grep", "{}")), &answer, 64);
    }
    let seen = rows(&script.records);
    let names = ["request_id", "tool_name", "server_name", "protocol_version", "transport", "end_reason", "complete"];
    let expected = |id| [id, "grep", "files", "2026-07-28", "http", "response", "Boolean(true)"];
    assert_eq!(mcp(&seen, &names), [expected("a"), expected("b")]);
}

#[test]
fn http_with_sse_answers_in_its_one_stream() {
    let mut script = Script::default();
    script.say(1, SENT, &get("/sse", "Accept: text/event-stream\r\n"));
    let mut said = b"event: endpoint\ndata: /messages?session_id=a1\n\n".to_vec();
    for (message, answer) in [(INITIALIZE.to_owned(), SERVES.to_owned()), (call("1", "a", "{}"), result("1", "{}"))] {
        script.say(2, SENT, &request("/messages?session_id=a1", "Content-Type: application/json\r\n", &message));
        script.say(2, RECEIVED, ACCEPTED);
        said.extend(events(&[&answer]));
    }
    script.say(2, SENT, &request("/messages?session_id=a1", "", INITIALIZED));
    script.say(2, RECEIVED, ACCEPTED);
    script.say(1, RECEIVED, &chunked(STREAM, &[&said]));
    let seen = rows(&script.records);
    let names = ["method", "transport", "server_name", "http_id", "end_reason"];
    assert_eq!(
        mcp(&seen, &names),
        [
            ["notifications/initialized", "sse", "", "4", ""],
            ["initialize", "sse", "files", "2", "response"],
            ["tools/call", "sse", "files", "3", "response"],
        ]
    );
}

#[test]
fn what_http_refuses_has_no_response() {
    let mut script = session(usize::MAX);
    script.exchange(
        &post(SESSION, &call("2", "a", "{}")),
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
        99,
    );
    let error = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"no"}}"#;
    let refused = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{error}", error.len());
    script.exchange(&post(SESSION, &call("3", "a", "{}")), refused.as_bytes(), 99);
    let seen = rows(&script.records);
    let names = ["request_id", "end_reason", "is_error", "error_code"];
    let expected = [["2", "http_error", "Boolean(true)", ""], ["3", "response", "Boolean(true)", "-32601"]];
    assert_eq!(mcp(&seen, &names)[5..], expected);
}

#[test]
fn a_body_with_a_hole_makes_no_row_that_looks_whole() {
    let script = session(usize::MAX);
    let whole: Vec<_> =
        mcp(&rows(&script.records), &["method", "params", "result"]).iter().map(|row| row.join("|")).collect();
    for at in 0..script.records.len() {
        let mut records = script.records.clone();
        records.remove(at);
        let seen = rows(&records);
        for row in mcp(&seen, &["method", "params", "result", "complete", "end_reason"]) {
            let known = whole.contains(&row[..3].join("|"));
            assert!(known || row[3] == "Boolean(false)" || row[4] == "capture_end", "without {at}: {row:?}");
        }
    }
}

#[test]
fn other_json_rpc_over_http_is_no_mcp() {
    let mut script = Script::default();
    for method in ["eth_call", "message/send", "tasks/get", "initialize", "ping"] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{}}}}"#);
        let answer = result("1", "{}");
        script.exchange(&request("/rpc", BOTH, &body), &response("", answer.as_bytes()), 64);
        script.exchange(&request("/rpc", BOTH, &body), &chunked(STREAM, &[&events(&[&answer])]), 64);
    }
    assert!(rows(&script.records).table("mcp").is_empty());
}

/// A client (process 10) connects to a server (process 20) over the loopback interface.
pub fn connect(script: &mut Script) {
    for (tgid, id, op, ports) in [(10, 5, socket_op::CONNECT, (40_000, 80)), (20, 6, socket_op::ACCEPT, (80, 40_000))] {
        script.time += 1;
        let mut socket = Socket::new_zeroed();
        socket.header = header(kind::SOCKET, script.time, tgid);
        (socket.socket_id, socket.op, socket.family) = (id.into(), op.into(), family::INET.into());
        (socket.socket_type, socket.protocol) = (1.into(), 6.into());
        (socket.local_port, socket.peer_port) = (ports.0.into(), ports.1.into());
        socket.local[..4].copy_from_slice(&[127, 0, 0, 1]);
        socket.peer[..4].copy_from_slice(&[127, 0, 0, 1]);
        script.records.push(bytes(&socket, &[b""]));
    }
}

/// Something goes through the socket of a process.
fn say(script: &mut Script, (tgid, conn, direction): (u32, u64, u16), data: &[u8]) {
    let before = (script.tgid, script.library);
    (script.tgid, script.library) = (tgid, library::PLAIN);
    script.say(conn, direction, data);
    (script.tgid, script.library) = before;
}

/// The client posts a message, which is seen at either end.
pub fn ask(script: &mut Script, message: &str) {
    let request = post("", message);
    say(script, (10, 5, SENT), &request);
    say(script, (20, 6, RECEIVED), &request);
}

/// The server answers; whoever returns from the kernel first is seen first.
pub fn answered(script: &mut Script, message: &str, server_first: bool) {
    let response = response("", message.as_bytes());
    let mut ends = [(20, 6, SENT), (10, 5, RECEIVED)];
    if !server_first {
        ends.reverse();
    }
    ends.into_iter().for_each(|end| say(script, end, &response));
}

/// Over the loopback interface each exchange is seen at either end.
#[test]
fn where_both_ends_are_recorded_there_is_one_row() {
    let mut script = Script::default();
    connect(&mut script);
    for (asked, answer) in [(INITIALIZE.to_owned(), SERVES.to_owned()), (call("1", "a", "{}"), result("1", "{}"))] {
        ask(&mut script, &asked);
        answered(&mut script, &answer, true);
    }
    let seen = rows(&script.records);
    assert_eq!(seen.table("http").len(), 4);
    let names = ["method", "client_proc_id", "server_proc_id"];
    assert_eq!(mcp(&seen, &names), [["initialize", "1", "2"], ["tools/call", "1", "2"]]);
}
