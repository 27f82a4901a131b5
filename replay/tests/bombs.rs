//! A few kilobytes that unpack to gigabytes: what is kept is bounded, over all connections together, and what was cut says so.

mod common;

use agentsight_formats::Reader;
use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::tables::{Http, LlmCall, StreamEvent};
use agentsight_replay::{Sink, replay};
use common::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;

/// What all bodies that are open may take.
const MOST: usize = 256 << 20;

/// Counts, and keeps nothing.
#[derive(Default)]
struct Counted {
    body_bytes: usize,
    states: BTreeMap<&'static str, usize>,
    ends: BTreeMap<&'static str, usize>,
    events: usize,
    complete_calls: usize,
    calls: usize,
}

impl Sink for Counted {
    fn wants(&self, table: &TableDef) -> bool {
        [Http::TABLE, StreamEvent::TABLE, LlmCall::TABLE].iter().any(|wanted| wanted.name == table.name)
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        if let Some(http) = row.downcast::<Http>() {
            let bodies = [&http.request_body, &http.response_body].into_iter().flatten();
            self.body_bytes += bodies.map(Vec::len).sum::<usize>();
            *self.states.entry(http.body_state).or_default() += 1;
            *self.ends.entry(http.end_reason).or_default() += 1;
        } else if let Some(call) = row.downcast::<LlmCall>() {
            self.calls += 1;
            self.complete_calls += usize::from(call.complete);
        } else {
            self.events += 1;
        }
        ControlFlow::Continue(())
    }
}

fn count(script: &Script) -> Counted {
    let file = capture(&script.records);
    let mut counted = Counted::default();
    replay(&["run.asc".to_owned()], &mut |_| Reader::open(Cursor::new(&file)), &mut counted).unwrap();
    counted
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn say_all(script: &mut Script, conn: u64, direction: u16, bytes: &[u8]) {
    bytes.chunks(60_000).for_each(|piece| script.say(conn, direction, piece));
}

/// A response that never ends.
fn open_response(script: &mut Script, conn: u64, headers: &str, body: &[u8]) {
    script.say(conn, SENT, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len() + 1);
    say_all(script, conn, RECEIVED, &[head.as_bytes(), body].concat());
}

#[test]
fn bodies_of_many_connections_share_what_there_is() {
    let bomb = zstd(&vec![b'0'; 60 << 20]);
    assert!(bomb.len() < 20_000);
    let mut script = Script::default();
    (1..=8).for_each(|conn| open_response(&mut script, conn, "Content-Encoding: zstd\r\n", &bomb));
    let seen = count(&script);
    assert!(seen.body_bytes <= MOST && seen.body_bytes > MOST / 2, "{}", seen.body_bytes);
    // The decoders of those that are open take a part.
    assert_eq!(seen.states, BTreeMap::from([("cut", 3), ("too_large", 5)]));
}

#[test]
fn a_brotli_bomb_is_cut_like_any_other() {
    let fast = brotli::enc::BrotliEncoderParams { quality: 2, ..Default::default() };
    let mut bomb = Vec::new();
    brotli::BrotliCompress(&mut std::io::repeat(b'0').take(200 << 20), &mut bomb, &fast).unwrap();
    assert!(bomb.len() < 1 << 20);
    let mut script = Script::default();
    (1..=2).for_each(|conn| open_response(&mut script, conn, "Content-Encoding: br\r\n", &bomb));
    let seen = count(&script);
    assert!(seen.body_bytes <= MOST && seen.body_bytes > MOST / 2, "{}", seen.body_bytes);
    assert_eq!(seen.states, BTreeMap::from([("cut", 1), ("too_large", 1)]));
}

#[test]
fn what_one_exchange_has_given_back_another_may_have() {
    let bomb = zstd(&vec![b'0'; 200 << 20]);
    let mut script = Script::default();
    for _ in 0..3 {
        script.say(1, SENT, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        say_all(&mut script, 1, RECEIVED, &response("Content-Encoding: zstd\r\n", &bomb));
    }
    assert_eq!(count(&script).states, BTreeMap::from([("complete", 3)]));
}

#[test]
fn a_window_larger_than_codings_may_have_is_not_made_room_for() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.long_distance_matching(true).unwrap();
    std::io::Write::write_all(&mut encoder, b"hello").unwrap();
    let mut script = Script::default();
    let body = encoder.finish().unwrap();
    script.say(1, SENT, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    script.say(1, RECEIVED, &response("Content-Encoding: zstd\r\n", &body));
    assert_eq!(count(&script).states, BTreeMap::from([("undecodable", 1)]));
}

#[test]
fn tiny_events_are_counted_with_what_they_take() {
    let mut script = Script::default();
    let headers = "Content-Type: text/event-stream\r\nContent-Encoding: zstd\r\n";
    open_response(&mut script, 1, headers, &zstd(&b"data\n\n".repeat(4 << 20)));
    let seen = count(&script);
    assert_eq!(seen.states, BTreeMap::from([("too_large", 1)]));
    assert!(seen.events < 3 << 20, "{}", seen.events);
}

#[test]
fn json_of_many_values_or_deep_is_no_call_that_was_understood() {
    let many = format!(r#"{{"model":"m","messages":[{}1]}}"#, "[],".repeat(3 << 20));
    let deep = format!(r#"{{"model":"m","messages":[{}"#, "[".repeat(200_000));
    let mut script = Script::default();
    for body in [many, deep] {
        let body = zstd(body.as_bytes());
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        say_all(&mut script, 1, SENT, &[head.as_bytes(), &body].concat());
        script.say(1, RECEIVED, &response("", br#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#));
    }
    let seen = count(&script);
    assert_eq!((seen.calls, seen.complete_calls), (2, 0));
}

#[test]
fn an_event_or_a_line_of_many_values_is_no_answer_that_was_understood() {
    let many = |text: &str| format!(r#"{{"a":[{}1],{text}}}"#, "[1],".repeat(400_000));
    let chat = r#""choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]"#;
    let line = r#""model":"m","message":{"role":"assistant","content":"x"},"done":true"#;
    let cases = [
        ("/v1/chat/completions", "text/event-stream", format!("data: {}\n\ndata: [DONE]\n\n", many(chat))),
        ("/api/chat", "application/x-ndjson", format!("{}\n", many(line))),
    ];
    for (path, media, stream) in cases {
        let mut script = Script::default();
        let asked = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let host = if path == "/api/chat" { "localhost:11434" } else { "a" };
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
        script.say(1, SENT, head.as_bytes());
        let headers = format!("Content-Type: {media}\r\nContent-Encoding: zstd\r\n");
        say_all(&mut script, 1, RECEIVED, &response(&headers, &zstd(stream.as_bytes())));
        let seen = count(&script);
        assert_eq!((seen.calls, seen.complete_calls, seen.events > 0), (1, 0, true), "{path}");
    }
}

#[test]
fn messages_of_a_websocket_share_the_heads_of_what_agreed_on_it() {
    let mut script = Script::default();
    let long = "x".repeat(8000);
    script.say(1, SENT, format!("GET /{long} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").as_bytes());
    script.say(1, RECEIVED, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    let pings = b"\x89\0".repeat(32 << 10);
    (0..4).for_each(|_| script.say(1, RECEIVED, &pings));
    assert_eq!(count(&script).events, 4 * (32 << 10));
}

#[test]
fn requests_that_nobody_answers_are_given_up() {
    let mut script = Script::default();
    for _ in 0..30 {
        script.say(1, SENT, &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100));
    }
    script.say(1, RECEIVED, &response("", b"late"));
    let seen = count(&script);
    assert_eq!(seen.ends, BTreeMap::from([("limit", 3000 - 1024), ("response", 1), ("capture_end", 1023)]));
}
