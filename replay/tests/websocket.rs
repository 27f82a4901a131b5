//! WebSocket, and the Responses API over it and over HTTP: messages come out whole however frames and bytes are cut, and what is
//! missing makes no wrong row.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use common::*;
use flate2::{Compress, Compression, FlushCompress};

const CREATE: &str = r#"{"type":"response.create","model":"gpt-x","instructions":"be brief","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"go"}]}]}"#;
const RESULT: &str = r#"{"type":"response.create","model":"gpt-x","previous_response_id":"resp_1","input":[{"type":"function_call_output","call_id":"call_1","output":"0\n"}]}"#;

/// The answer that asks for a tool.
const ASKS: [&str; 5] = [
    r#"{"type":"response.created","response":{"id":"resp_1","model":"gpt-x-1","status":"in_progress","output":[],"usage":null}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"shell","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"command\":\"id\"}"}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"shell","arguments":"{\"command\":\"id\"}"}}"#,
    r#"{"type":"response.completed","response":{"id":"resp_1","model":"gpt-x-1","status":"completed","output":[],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2}}}}"#,
];

/// The answer that ends it.
const SAYS: [&str; 3] = [
    r#"{"type":"response.output_text.delta","output_index":0,"delta":"done ✓"}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done ✓"}]}}"#,
    r#"{"type":"response.completed","response":{"id":"resp_2","model":"gpt-x-1","status":"completed","usage":{"input_tokens":20,"output_tokens":3}}}"#,
];

/// Writes frames of one direction.
struct Encoder {
    mask: Option<[u8; 4]>,
    deflate: Option<(Compress, bool)>,
    /// Longest payload of a frame.
    fragment: usize,
}

impl Encoder {
    fn client(deflate: Option<bool>) -> Self {
        Encoder { mask: Some([7, 99, 0, 255]), ..Encoder::server(deflate) }
    }

    /// `deflate`: whether each message stands alone.
    fn server(deflate: Option<bool>) -> Self {
        let deflate = deflate.map(|alone| (Compress::new(Compression::default(), false), alone));
        Encoder { mask: None, deflate, fragment: usize::MAX }
    }

    fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(masked | len as u8),
            len @ 126..=0xffff => {
                out.push(masked | 126);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(masked | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        out.extend(self.mask.iter().flatten());
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    /// A text message; a ping stands between its fragments.
    fn message(&mut self, text: &str) -> Vec<u8> {
        let (payload, compressed) = match &mut self.deflate {
            None => (text.as_bytes().to_vec(), 0),
            Some((stream, alone)) => {
                if *alone {
                    stream.reset();
                }
                let mut out = Vec::with_capacity(text.len() + 100);
                stream.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
                out.truncate(out.len() - 4);
                (out, 0x40)
            }
        };
        let mut pieces = payload.chunks(self.fragment).peekable();
        let mut out = Vec::new();
        let mut opcode = 1 | compressed;
        while let Some(piece) = pieces.next() {
            let fin = if pieces.peek().is_none() { 0x80 } else { 0 };
            out.extend(self.frame(fin | opcode, piece));
            if fin == 0 {
                out.extend(self.frame(0x89, b"are you there"));
            }
            opcode = 0;
        }
        out
    }
}

fn upgrade(script: &mut Script, extensions: &str) {
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    script.say(1, SENT, format!("GET /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\n{fields}\r\n").as_bytes());
    script.say(1, RECEIVED, format!("HTTP/1.1 101 Switching Protocols\r\n{fields}{extensions}\r\n").as_bytes());
}

/// Two calls, cut into pieces of `size` bytes and frames of `fragment`.
fn conversation(deflate: Option<bool>, size: usize, fragment: usize) -> Script {
    let extensions = match deflate {
        None => "",
        Some(false) => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        Some(true) => {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        }
    };
    let mut script = Script::default();
    upgrade(&mut script, extensions);
    let (mut client, mut server) = (Encoder::client(deflate), Encoder::server(deflate));
    (client.fragment, server.fragment) = (fragment, fragment);
    for (request, answer) in [(CREATE, &ASKS[..]), (RESULT, &SAYS[..])] {
        client.message(request).chunks(size).for_each(|piece| script.say(1, SENT, piece));
        let answer: Vec<u8> = answer.iter().flat_map(|message| server.message(message)).collect();
        answer.chunks(size).for_each(|piece| script.say(1, RECEIVED, piece));
    }
    let close = server.frame(0x88, b"\x03\xe8bye");
    script.say(1, RECEIVED, &close);
    script
}

/// Direction, name and data of each message but pings.
fn messages(seen: &Collected) -> Vec<(&str, Option<&str>, &str)> {
    let events = seen.table("stream_events").into_iter();
    let texts =
        events.map(|row| (row["direction"].as_str(), row.get("event").map(String::as_str), row["data"].as_str()));
    texts.filter(|(_, event, _)| *event != Some("ping")).collect()
}

fn expected() -> Vec<(&'static str, Option<&'static str>, &'static str)> {
    let received = |text: &&'static str| ("received", None, *text);
    let mut all = vec![("sent", None, CREATE)];
    all.extend(ASKS.iter().map(received));
    all.push(("sent", None, RESULT));
    all.extend(SAYS.iter().map(received));
    all.push(("received", Some("close"), "1000 bye"));
    all
}

#[track_caller]
fn check_calls(seen: &Collected) {
    let calls = seen.table("llm_calls");
    assert_eq!(calls.len(), 2);
    for (name, first, second) in [
        ("wire_api", "openai.responses", "openai.responses"),
        ("provider_name", "openai", "openai"),
        ("request_model", "gpt-x", "gpt-x"),
        ("response_model", "gpt-x-1", "gpt-x-1"),
        ("response_id", "resp_1", "resp_2"),
        ("finish_reason", "tool_call", "stop"),
        ("input_tokens", "9", "20"),
        ("output_tokens", "5", "3"),
        ("complete", "Boolean(true)", "Boolean(true)"),
        ("stream", "Boolean(true)", "Boolean(true)"),
    ] {
        assert_eq!((calls[0][name].as_str(), calls[1][name].as_str()), (first, second), "{name}");
    }
    assert_eq!(
        (calls[0]["cache_read_input_tokens"].as_str(), calls[0]["reasoning_output_tokens"].as_str()),
        ("4", "2")
    );
    assert_eq!((calls[1]["output_text"].as_str(), calls[1]["previous_response_id"].as_str()), ("done ✓", "resp_1"));
    let tools = seen.table("tool_calls");
    assert_eq!(tools.len(), 1);
    let tool = |name: &str| tools[0][name].as_str();
    assert_eq!((tool("tool_call_id"), tool("tool_name")), ("call_1", "shell"));
    assert_eq!((tool("arguments"), tool("result")), (r#"{"command":"id"}"#, "0\n"));
}

#[test]
fn calls_over_websocket_come_out_whole_however_they_are_cut() {
    for deflate in [None, Some(false), Some(true)] {
        for (size, fragment) in [(1, usize::MAX), (7, 50), (64, 1), (100_000, usize::MAX), (100_000, 30)] {
            let seen = rows(&conversation(deflate, size, fragment).records);
            assert_eq!(messages(&seen), expected(), "{deflate:?} {size} {fragment}");
            check_calls(&seen);
            assert_eq!(seen.table("http").len(), 1, "the upgrade is one exchange");
        }
    }
}

#[test]
fn a_call_is_there_when_its_answer_is_and_not_at_the_end_of_the_connection() {
    let seen = rows(&conversation(None, 100_000, usize::MAX).records);
    let at = |table: &str| seen.rows.iter().position(|(name, _)| *name == table).unwrap();
    assert!(at("llm_calls") < at("connections"));
    let first_call = at("llm_calls");
    let close = seen.rows.iter().position(|(_, row)| row.get("data").is_some_and(|data| data == "1000 bye")).unwrap();
    assert!(first_call < close);
}

/// Leaves out one record after the other: the messages that are left are as they were, and no call claims to be whole that is not.
#[test]
fn a_lost_record_makes_no_wrong_message() {
    for deflate in [None, Some(false), Some(true)] {
        let whole = conversation(deflate, 40, 60);
        let good = rows(&whole.records);
        let all = expected();
        for missing in 2..whole.records.len() - 1 {
            let mut records = whole.records.clone();
            records.remove(missing);
            let seen = rows(&records);
            for message in messages(&seen) {
                assert!(all.contains(&message), "{deflate:?} without {missing}: {message:?}");
            }
            for call in seen.table("llm_calls") {
                if call["complete"] == "Boolean(true)" {
                    let same = |other: &&Cells| {
                        ["response_id", "output_text", "input_tokens", "finish_reason"]
                            .iter()
                            .all(|name| other.get(name) == call.get(name))
                    };
                    assert!(good.table("llm_calls").iter().any(same), "{deflate:?} without {missing}: {call:?}");
                }
            }
        }
    }
}

#[test]
fn a_bomb_is_not_kept_and_those_after_it_are() {
    let mut script = Script::default();
    upgrade(&mut script, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n");
    let mut server = Encoder::server(Some(true));
    let bomb = server.message(&"0".repeat(80 << 20));
    script.say(1, RECEIVED, &bomb);
    script.say(1, RECEIVED, &server.message("small"));
    let seen = rows(&script.records);
    assert_eq!(messages(&seen), [("received", None, "small")]);
    assert_eq!(seen.table("stream_events")[0]["idx"], "1");
}

#[test]
fn what_is_no_frame_ends_the_understanding_of_a_direction() {
    let mut script = Script::default();
    upgrade(&mut script, "");
    let mut server = Encoder::server(None);
    script.say(1, RECEIVED, &server.message("one"));
    // Compressed, though nobody agreed to that.
    script.say(1, RECEIVED, &server.frame(0xc1, b"two"));
    script.say(1, RECEIVED, &server.message("three"));
    assert_eq!(messages(&rows(&script.records)), [("received", None, "one")]);
}

#[test]
fn responses_over_http_are_the_same_calls() {
    let body = |create: &str| create.replacen(r#""type":"response.create","#, "", 1);
    let stream = |events: &[&str]| -> Vec<u8> {
        events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect::<String>().into_bytes()
    };
    for size in [1, 13, 100_000] {
        let mut script = Script::default();
        for (create, answer) in [(CREATE, &ASKS[..]), (RESULT, &SAYS[..])] {
            let mut sent = request("/v1/responses", "", &body(create));
            let host = sent.windows(15).position(|text| text == b"api.example.com").unwrap();
            sent.splice(host..host + 15, *b"api.openai.com ");
            script.exchange(&sent, &chunked("Content-Type: text/event-stream\r\n", &[&stream(answer)]), size);
        }
        check_calls(&rows(&script.records));
    }
}

#[test]
fn a_whole_response_and_one_that_is_cut_off() {
    let item = r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}"#;
    let whole = format!(
        r#"{{"id":"r","object":"response","model":"m","status":"completed","output":[{item}],"usage":{{"input_tokens":1,"output_tokens":2}}}}"#
    );
    let cut = r#"{"id":"r","model":"m","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"half"}]}]}"#;
    let mut script = Script::default();
    let sent = request("/v1/responses", "", r#"{"model":"m","input":"go"}"#);
    script.exchange(&sent, &response("", whole.as_bytes()), 100_000);
    script.exchange(&sent, &response("", cut.as_bytes()), 100_000);
    let mut broken = chunked(
        "Content-Type: text/event-stream\r\n",
        &[format!("data: {}\n\ndata: {}\n\n", ASKS[0], ASKS[2]).as_bytes()],
    );
    broken.truncate(broken.len() - 5);
    script.exchange(&sent, &broken, 100_000);
    let seen = rows(&script.records);
    let calls = seen.table("llm_calls");
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0]["finish_reason"], "tool_call");
    assert_eq!((calls[1]["finish_reason"].as_str(), calls[1]["output_text"].as_str()), ("length", "half"));
    assert_eq!((calls[2]["complete"].as_str(), calls[2]["aborted"].as_str()), ("Boolean(false)", "Boolean(true)"));
}
