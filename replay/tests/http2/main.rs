//! HTTP/2, from records to rows: what was said on each stream comes out whole, however the frames lie, and what was not seen
//! is missing, never made up.

#[path = "../common/mod.rs"]
mod common;
mod oracle;
mod wire;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::library;
use common::*;
use std::io::Write;
use wire::*;

const CHAT: &str = r#"{"model":"gpt-x","messages":[{"role":"user","content":"go"}],"stream":true}"#;
const CHAT_STREAM: &str = r#"data: {"id":"c1","model":"gpt-x-1","choices":[{"index":0,"delta":{"content":"déjà"}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"run","arguments":"{}"}}]}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: {"choices":[],"usage":{"prompt_tokens":50,"completion_tokens":6}}

data: [DONE]

"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn some<'r, const N: usize>(row: &'r Cells, names: [&str; N]) -> [&'r str; N] {
    names.map(|name| row.get(name).map_or("-", String::as_str))
}

#[test]
fn a_model_is_called_over_two_streams_at_once() {
    let stream = gzip(CHAT_STREAM);
    let (first, second) = stream.split_at(60);
    let streamed = ok(&[("content-type", "text/event-stream"), ("content-encoding", "gzip"), ("x-request-id", "r1")]);
    let results = r#"{"model":"gpt-x","messages":[{"role":"tool","tool_call_id":"a","content":"A"}]}"#;
    let answer = r#"{"id":"c2","model":"gpt-x-1","choices":[{"message":{"content":"done"},"finish_reason":"stop"}]}"#;
    let pieces = [
        (
            SENT,
            [frame(HEADERS, END_HEADERS, 1, &post("/v1/chat/completions", &[])), frame(DATA, 1, 1, CHAT.as_bytes())],
        ),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 1, &streamed), frame(DATA, 0, 1, first)]),
        (SENT, [frame(HEADERS, WHOLE, 3, &post("/other?a=b", &[])), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0])]),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 3, &ok(&[])), frame(DATA, 0, 3, b"oth")]),
        (RECEIVED, [frame(DATA, 1, 1, second), frame(DATA, 1, 3, b"er")]),
        (
            SENT,
            [frame(HEADERS, END_HEADERS, 5, &post("/v1/chat/completions", &[])), frame(DATA, 1, 5, results.as_bytes())],
        ),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 5, &ok(&[])), frame(DATA, 1, 5, answer.as_bytes())]),
    ];
    let seen = rows(&connection(&pieces.map(|(side, frames)| (side, frames.concat()))).records);
    let calls = seen.table("llm_calls");
    let facts = ["response_model", "finish_reason", "output_text", "input_tokens", "provider_request_id", "complete"];
    assert_eq!(some(calls[0], facts), ["gpt-x-1", "tool_call", "déjà", "50", "r1", "Boolean(true)"]);
    assert_eq!(some(calls[1], facts), ["gpt-x-1", "stop", "done", "-", "-", "Boolean(true)"]);
    assert_eq!(some(seen.table("tool_calls")[0], ["tool_name", "result", "result_llm_call_id"]), ["run", "A", "2"]);
    assert_eq!(seen.table("stream_events").len(), 5);
    let http = seen.table("http");
    assert_eq!(some(http[0], ["stream_id", "request_body", "response_body"]), ["1", CHAT, CHAT_STREAM]);
    let other = ["stream_id", "path", "query", "response_body", "server_address", "scheme", "request_content_type"];
    assert_eq!(some(http[1], other), ["3", "/other", "a=b", "other", "api.example.com", "https", "-"]);
    assert_eq!(some(seen.table("connections")[0], ["server_name", "alpn"]), ["api.example.com", "h2"]);
}

#[test]
fn a_header_block_may_be_padded_and_continued_and_a_body_padded() {
    let long = "v".repeat(40_000);
    let head = post("/long", &[("x-long", &long)]);
    let padded = [&[3][..], &[0, 0, 0, 0, 16], &head[..16_000], &[0; 3]].concat();
    let request = [
        frame(HEADERS, PADDED | PRIORITY, 1, &padded),
        frame(CONTINUATION, 0, 1, &head[16_000..16_000]),
        frame(CONTINUATION, 0, 1, &head[16_000..30_000]),
        frame(CONTINUATION, END_HEADERS, 1, &head[30_000..]),
        frame(DATA, PADDED, 1, b"\x04body\0\0\0\0"),
        frame(DATA, PADDED | END_STREAM, 1, b"\0!"),
    ];
    let response = [frame(HEADERS, END_HEADERS, 1, &ok(&[])), frame(DATA, PADDED | END_STREAM, 1, b"\x02\0\0")];
    for size in [1, 5, 100_000] {
        let mut script = connection(&[]);
        script.exchange(&request.concat(), &response.concat(), size);
        let seen = rows(&script.records);
        let row = seen.table("http")[0];
        let facts = ["request_body", "request_bytes", "response_body", "response_bytes", "body_state", "end_reason"];
        assert_eq!(some(row, facts), ["body!", "5", "", "0", "complete", "response"], "by {size}");
        assert!(row["request_headers"].contains(&long));
    }
}

#[test]
fn interim_responses_and_trailers_are_no_response() {
    let early = block(false, &[(":status", "103"), ("link", "</a>")]);
    let trailers = block(false, &[("grpc-status", "0")]);
    let pieces = [
        (SENT, frame(HEADERS, END_HEADERS, 1, &post("/", &[]))),
        (RECEIVED, frame(HEADERS, END_HEADERS, 1, &block(false, &[(":status", "100")]))),
        (SENT, [frame(DATA, 0, 1, b"ask"), frame(HEADERS, WHOLE, 1, &trailers)].concat()),
        (RECEIVED, frame(HEADERS, END_HEADERS, 1, &early)),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 1, &ok(&[])), frame(DATA, 0, 1, b"answer")].concat()),
        (RECEIVED, frame(HEADERS, WHOLE, 1, &trailers)),
    ];
    let seen = rows(&connection(&pieces).records);
    let http = seen.table("http");
    let facts = ["status_code", "request_body", "response_body", "response_headers", "body_state", "end_reason"];
    assert_eq!(http.len(), 1);
    assert_eq!(some(http[0], facts), ["200", "ask", "answer", r#"[[":status","200"]]"#, "complete", "response"]);
    assert_eq!((http[0]["request_ts"].as_str(), http[0]["response_ts"].as_str(), http[0]["end_ts"].as_str()), {
        ("1000003", "1000007", "1000008")
    });
}

#[test]
fn streams_that_are_given_up_or_refused_say_so() {
    let cancel = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let ask = |stream| frame(HEADERS, WHOLE, stream, &post("/", &[]));
    let goodbye = frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 0]);
    let pieces = [
        (SENT, [ask(1), ask(3), frame(HEADERS, END_HEADERS, 5, &post("/", &[])), ask(7), ask(9)].concat()),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 1, &ok(&[])), frame(DATA, 0, 1, b"half")].concat()),
        (SENT, cancel(1)),
        // On its way when the client gave up.
        (RECEIVED, [frame(DATA, 0, 1, b"late"), frame(HEADERS, WHOLE, 1, &block(false, &[("x", "y")]))].concat()),
        (RECEIVED, cancel(3)),
        // The server needs no more of the request.
        (RECEIVED, [frame(HEADERS, END_HEADERS, 5, &ok(&[])), frame(DATA, 1, 5, b"no"), cancel(5)].concat()),
        (
            RECEIVED,
            [frame(HEADERS, END_HEADERS, 9, &ok(&[("content-length", "4")])), frame(DATA, 0, 9, b"read")].concat(),
        ),
        (RECEIVED, goodbye),
    ];
    let seen = rows(&connection(&pieces).records);
    let facts = ["stream_id", "status_code", "response_body", "body_state", "end_reason"];
    let http: Vec<_> = seen.table("http").iter().map(|row| some(row, facts)).collect();
    let expected = [
        ["1", "200", "half", "cut", "reset"],
        ["3", "-", "-", "complete", "reset"],
        ["5", "200", "no", "cut", "response"],
        ["7", "-", "-", "complete", "no_response"],
        // Its length is reached: the client did not read the frame that ends it.
        ["9", "200", "read", "complete", "response"],
    ];
    assert_eq!(http, expected);
}

#[test]
fn a_promise_belongs_to_no_request_but_its_fields_are_in_the_table() {
    let promise = [&2u32.to_be_bytes()[..], &block(true, &[("x-promised", "yes")])].concat();
    let pieces = [
        (SENT, frame(HEADERS, WHOLE, 1, &post("/", &[]))),
        (RECEIVED, frame(PUSH_PROMISE, END_HEADERS, 1, &promise)),
        (RECEIVED, frame(HEADERS, WHOLE, 2, &ok(&[]))),
        (RECEIVED, frame(HEADERS, WHOLE, 1, &[&ok(&[])[..], &[0xbe]].concat())),
    ];
    let seen = rows(&connection(&pieces).records);
    assert_eq!(seen.table("http").len(), 1);
    assert_eq!(seen.table("http")[0]["response_headers"], r#"[[":status","200"],["x-promised","yes"]]"#);
}

#[test]
fn a_lost_table_leaves_fields_out_and_marks_the_row() {
    // 62 is the newest field of the table; the ones before were added when nobody looked.
    let head = [&post("/v1/chat/completions", &[])[..], &block(true, &[("x-new", "1")]), &[0xbe, 0xbf, 0xc0]].concat();
    let pieces = [
        (SENT, [frame(HEADERS, END_HEADERS, 41, &head), frame(DATA, 1, 41, CHAT.as_bytes())].concat()),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 41, &ok(&[])), frame(DATA, 1, 41, b"{}")].concat()),
    ];
    let mut script = Script::default();
    pieces.iter().for_each(|(side, bytes)| script.say(1, *side, bytes));
    let seen = rows(&script.records);
    let row = seen.table("http")[0];
    let facts = ["stream_id", "method", "request_body", "response_body", "body_state", "end_reason"];
    assert_eq!(some(row, facts), ["41", "POST", CHAT, "{}", "unknown_fields", "response"]);
    assert!(row["request_headers"].ends_with(r#"["x-new","1"],["x-new","1"]]"#), "{row:?}");
    assert_eq!(some(seen.table("llm_calls")[0], ["request_model", "complete"]), ["gpt-x", "Boolean(false)"]);
}

#[test]
fn of_a_lost_table_a_streamed_answer_is_known_by_its_first_bytes() {
    let ask = |stream| {
        [frame(HEADERS, END_HEADERS, stream, &post("/chat/completions", &[])), frame(DATA, 1, stream, CHAT.as_bytes())]
    };
    let unknown = [&ok(&[])[..], &[0xbe, 0xbf]].concat();
    let answer = |stream, body: &[u8]| [frame(HEADERS, END_HEADERS, stream, &unknown), frame(DATA, 1, stream, body)];
    let other = r#"{"error":{"type":"overloaded"}}"#;
    let mut script = Script::default();
    let mut say = |side, frames: [Vec<u8>; 2]| script.say(1, side, &frames.concat());
    say(SENT, ask(41));
    say(RECEIVED, answer(41, &gzip(CHAT_STREAM)));
    say(SENT, ask(43));
    say(RECEIVED, answer(43, other.as_bytes()));
    let seen = rows(&script.records);
    let facts = ["output_text", "input_tokens", "finish_reason", "error_type", "stream", "aborted", "complete"];
    let calls: Vec<_> = seen.table("llm_calls").iter().map(|row| some(row, facts)).collect();
    let (yes, no) = ("Boolean(true)", "Boolean(false)");
    assert_eq!(calls, [["déjà", "50", "tool_call", "-", yes, no, no], ["-", "-", "error", "overloaded", yes, no, no]]);
    let bodies: Vec<_> = seen.table("http").iter().map(|row| some(row, ["response_body", "body_state"])).collect();
    assert_eq!(bodies, [[CHAT_STREAM, "unknown_fields"], [other, "unknown_fields"]]);
    assert_eq!(seen.table("stream_events").len(), 5);
}

/// A client puts the path into the table once, and the capture starts behind that.
#[test]
fn where_the_path_is_unknown_request_and_answer_tell_the_api() {
    let head = [block(false, &[(":method", "POST"), (":scheme", "https")]), vec![0xbe]].concat();
    let whole = r#"{"object":"chat.completion","model":"gpt-x-1","choices":[{"index":0,"message":{"content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"go"}]}]}"#;
    let of_gemini = r#"[{"candidates":[{"content":{"parts":[{"text":"oui"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1}}]"#;
    let cases = [
        (CHAT, CHAT_STREAM, "openai.chat"),
        (CHAT, whole, "openai.chat"),
        (gemini, of_gemini, "gemini.generate_content"),
        // These are like a request, or like an answer; the other side is not.
        (CHAT, r#"{"ok":true}"#, ""),
        (r#"{"events":[]}"#, whole, ""),
    ];
    let mut script = Script::default();
    for (stream, (request, answer, _)) in (41..).step_by(2).zip(cases) {
        script.say(1, SENT, &frame(HEADERS, END_HEADERS, stream, &head));
        script.say(1, SENT, &frame(DATA, 1, stream, request.as_bytes()));
        script.say(1, RECEIVED, &frame(HEADERS, END_HEADERS, stream, &[&ok(&[])[..], &[0xbf]].concat()));
        script.say(1, RECEIVED, &frame(DATA, 1, stream, answer.as_bytes()));
    }
    let seen = rows(&script.records);
    let expected: Vec<_> = cases.iter().map(|case| case.2).filter(|api| !api.is_empty()).collect();
    let calls = seen.table("llm_calls");
    assert_eq!(calls.iter().map(|row| some(row, ["wire_api"])[0]).collect::<Vec<_>>(), expected);
    assert_eq!(calls.iter().map(|row| some(row, ["output_text"])[0]).collect::<Vec<_>>(), ["déjà", "yes", "oui"]);
    assert!(calls.iter().all(|row| row["complete"] == "Boolean(false)"), "what is unknown may matter");
    assert!(seen.table("http").iter().all(|row| !row.contains_key("path")));
}

/// The name of the server is in the lost table, too.
#[test]
fn where_the_server_is_unknown_its_connection_tells_who_answers() {
    let head = |authority: &[(&str, &str)]| {
        [block(false, &[(":method", "POST"), (":path", "/v1/chat/completions")]), block(false, authority)].concat()
    };
    let known = [&head(&[(":authority", "api.x.ai:443")])[..], &[0xbf]].concat();
    let unknown = [&head(&[])[..], &[0xbe, 0xbf]].concat();
    let ask = |script: &mut Script, stream, head: &[u8]| {
        script.say(1, SENT, &frame(HEADERS, END_HEADERS, stream, head));
        script.say(1, SENT, &frame(DATA, 1, stream, CHAT.as_bytes()));
        script.say(1, RECEIVED, &frame(HEADERS, END_HEADERS, stream, &ok(&[("content-type", "text/event-stream")])));
        script.say(1, RECEIVED, &frame(DATA, 1, stream, CHAT_STREAM.as_bytes()));
    };
    let providers = |script: &Script| -> Vec<String> {
        rows(&script.records).table("llm_calls").iter().map(|row| row["provider_name"].clone()).collect()
    };
    let mut by_hello = Script::default();
    by_hello.greet(1, "api.openai.com");
    ask(&mut by_hello, 41, &unknown);
    assert_eq!(providers(&by_hello), ["openai"]);
    let mut by_request = Script::default();
    ask(&mut by_request, 41, &unknown);
    ask(&mut by_request, 43, &known);
    ask(&mut by_request, 45, &unknown);
    assert_eq!(providers(&by_request), ["", "x_ai", "x_ai"]);
}

#[test]
fn a_gap_inside_a_body_keeps_the_place_and_the_other_streams() {
    let mut script = connection(&[
        (SENT, [frame(HEADERS, WHOLE, 1, &post("/one", &[])), frame(HEADERS, WHOLE, 3, &post("/two", &[]))].concat()),
        (RECEIVED, frame(HEADERS, END_HEADERS, 1, &block(true, &[(":status", "200"), ("x-kept", "yes")]))),
    ]);
    let body = frame(DATA, END_STREAM, 1, &[b'x'; 300]);
    body.chunks(100).for_each(|piece| script.say(1, RECEIVED, piece));
    script.records.remove(script.records.len() - 2);
    script.say(1, RECEIVED, &frame(HEADERS, WHOLE, 3, &[0xbf, 0xbe]));
    let seen = rows(&script.records);
    let facts = ["path", "response_bytes", "body_state", "end_reason"];
    let http: Vec<_> = seen.table("http").iter().map(|row| some(row, facts)).collect();
    assert_eq!(http, [["/one", "300", "gap", "response"], ["/two", "0", "complete", "response"]]);
    assert!(seen.table("http")[1]["response_headers"].contains("x-kept"), "the table is whole");
}

#[test]
fn without_tls_it_is_known_beforehand_or_asked_for() {
    let answer = [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_HEADERS, 1, &ok(&[])), frame(DATA, 1, 1, b"hello")];
    let ask = "GET /up HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let agree = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let next = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, WHOLE, 3, &post("/next", &[]))].concat();
    let answer_to_next = frame(HEADERS, WHOLE, 3, &ok(&[]));
    for size in [1, 7, 10_000] {
        let mut script = Script { library: library::PLAIN, ..Script::default() };
        script.exchange(ask.as_bytes(), &[agree.as_bytes(), &answer.concat()].concat(), size);
        script.exchange(&next, &answer_to_next, size);
        let seen = rows(&script.records);
        let facts = ["stream_id", "path", "status_code", "scheme", "response_body", "body_state", "end_reason"];
        let http: Vec<_> = seen.table("http").iter().map(|row| some(row, facts)).collect();
        let expected = [
            ["1", "/up", "200", "http", "hello", "complete", "response"],
            ["3", "/next", "200", "http", "", "complete", "response"],
        ];
        assert_eq!(http, expected, "by {size}");
    }
    let mut script = Script { library: library::PLAIN, ..Script::default() };
    greeting(&mut script);
    script.exchange(&frame(HEADERS, WHOLE, 1, &post("/known", &[])), &answer[1..].concat(), 1000);
    let seen = rows(&script.records);
    assert_eq!(some(seen.table("http")[0], ["path", "scheme", "response_body"]), ["/known", "http", "hello"]);
}

#[test]
fn one_table_alone_is_the_same_as_among_all() {
    let body = gzip(CHAT_STREAM);
    let streamed = ok(&[("content-type", "text/event-stream"), ("content-encoding", "gzip")]);
    let script = connection(&[
        (
            SENT,
            [frame(HEADERS, END_HEADERS, 1, &post("/chat/completions", &[])), frame(DATA, 1, 1, CHAT.as_bytes())]
                .concat(),
        ),
        (RECEIVED, [frame(HEADERS, END_HEADERS, 1, &streamed), frame(DATA, 1, 1, &body)].concat()),
    ]);
    let file = capture(&script.records);
    let (all, _) = rows_of(&file, None);
    for table in agentsight_replay::tables::TABLES {
        assert_eq!(rows_of(&file, Some(table.name)).0.table(table.name), all.table(table.name), "{}", table.name);
    }
}

/// What looks like the start of a long frame, over and over: each place has to be looked at, but none twice as long.
#[test]
fn a_search_for_frames_takes_no_quadratic_time() {
    let long = frame(DATA, 0, 1, &[0; 16_000]);
    for size in [1, 9, 1000] {
        let mut script = Script::default();
        let noise = [&[0xff][..], &long[..9]].concat().repeat(3000);
        noise.chunks(size).for_each(|piece| script.say(1, RECEIVED, piece));
        assert_eq!(rows(&script.records).table("http").len(), 0);
    }
}

#[test]
fn streams_without_end_are_bounded() {
    let mut script = connection(&[]);
    let head = post("/", &[]);
    for number in 0..3000u32 {
        script.say(1, SENT, &frame(HEADERS, WHOLE, 2 * number + 1, &head));
    }
    let seen = rows(&script.records);
    let limited = seen.table("http").iter().filter(|row| row["end_reason"] == "limit").count();
    assert_eq!((seen.table("http").len(), limited), (3000, 3000 - 1024));
}

#[test]
fn any_bytes_at_all_make_no_panic_and_no_complete_row() {
    let mut random = random();
    for round in 0..600 {
        let mut script = Script::default();
        if round % 2 == 0 {
            greeting(&mut script);
        }
        for _ in 0..40 {
            let payload: Vec<u8> = (0..random() % 40).map(|_| random() as u8).collect();
            let noise = frame(random() as u8 % 12, random() as u8, random() as u32 % 8, &payload);
            let from = if random().is_multiple_of(4) { (random() % 9) as usize } else { 0 };
            script.say(1, (random() % 2) as u16, &noise[from..]);
        }
        // The answers of a server that nobody asked.
        for row in rows(&script.records).table("http") {
            assert!(row["body_state"] != "complete" || !row.contains_key("method") || !row.contains_key("status_code"));
        }
    }
}

#[test]
fn a_real_connection_with_any_byte_changed_makes_no_panic() {
    let seen = |script: &Script| rows(&script.records).table("http").len();
    let ask = [frame(HEADERS, END_HEADERS, 1, &post("/", &[])), frame(DATA, 1, 1, b"body")].concat();
    let answer = [frame(HEADERS, END_HEADERS, 1, &ok(&[])), frame(DATA, PADDED | 1, 1, b"\x01body\0")].concat();
    for at in 0..ask.len() + answer.len() {
        for flip in [1, 0x10, 0x80, 0xff] {
            let mut bytes = [&ask[..], &answer].concat();
            bytes[at] ^= flip;
            let (ask, answer) = bytes.split_at(ask.len());
            assert!(seen(&connection(&[(SENT, ask.to_vec()), (RECEIVED, answer.to_vec())])) <= 2, "{at}, {flip}");
        }
    }
}
