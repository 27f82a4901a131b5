//! What the fuzz targets in `fuzz/` run: each takes any bytes, and says more than that nothing panics where more can be said: that
//! a stream gives the same however it is cut. Built for fuzzing and for tests only, which run what fuzzing has found again.

use crate::body::Body;
use crate::conversation::Conversation;
use crate::event::{Event, Framing};
use crate::exchange::{Context, End, Exchange, Kind};
use crate::framing::Stream;
use crate::llm::{self, resent::Resent, sessions::Sessions};
use crate::memory::{Memory, Share};
use crate::message::{self, Head, Part};
use crate::table::{Row, TableDef, Timestamp};
use crate::tools::Tools;
use crate::{Sink, dns_message, hello, http1, http2, shell, websocket};
use agentsight_formats::record::{Header, records};
use agentsight_formats::{Clocks, Head as FileHead, Metadata, Reader, Writer};
use std::io::Cursor;
use std::ops::ControlFlow;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// A sink that wants everything and looks at every cell.
struct Everything;

impl Sink for Everything {
    fn wants(&self, _: &TableDef) -> bool {
        true
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        let _ = crate::json::line(row, &mut std::io::sink());
        ControlFlow::Continue(())
    }
}

fn replay(file: &[u8]) {
    let _ = crate::replay(&["run.asc".to_owned()], &mut |_| Reader::open(Cursor::new(file)), &mut Everything);
}

/// A file that may be a capture, or was one.
pub fn container(data: &[u8]) {
    if let Ok(mut reader) = Reader::open(Cursor::new(data)) {
        let _ = reader.tail();
        while let Ok(Some(_)) = reader.next_item() {}
    }
    replay(data);
}

/// Records, as they stand in a segment: of a capture whose checksums are right.
pub fn capture(data: &[u8]) {
    let metadata = Metadata { clocks: Clocks { boottime: 1, monotonic: 1, realtime: 1 }, ..Metadata::default() };
    let Ok(mut writer) = Writer::new(Vec::new(), &FileHead::new([7; 16], metadata)) else { return };
    let _ = writer.begin_segment(&[], Clocks::default(), &[]);
    for record in records(data).map_while(Result::ok) {
        let _ = record.body();
        let mut padded = record.bytes.to_vec();
        padded.resize(padded.len().next_multiple_of(8), 0);
        let _ = writer.push(&padded);
    }
    let _ = writer.checkpoint(Clocks { boottime: u64::MAX / 2, ..Clocks::default() }, &[]);
    if let Ok(file) = writer.finish() {
        replay(&file);
    }
}

/// A piece of plaintext, or (no bytes) so many that are missing.
struct Piece<'a> {
    side: usize,
    bytes: &'a [u8],
    missing: u64,
}

/// Takes bytes as pieces of two directions. Each is a byte (1: received; 2: missing; the rest: 64 bytes each), one for the length,
/// and what the piece holds.
fn pieces(mut data: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let [first, length, rest @ ..] = data {
        let length = usize::from(*length) + 64 * usize::from(first >> 2);
        let side = usize::from(first & 1);
        if first & 2 != 0 {
            pieces.push(Piece { side, bytes: &[], missing: length as u64 });
            data = rest;
        } else {
            let (bytes, after) = rest.split_at(length.min(rest.len()));
            pieces.push(Piece { side, bytes, missing: 0 });
            data = after;
        }
    }
    pieces
}

/// The pieces of [`pieces`] as it takes them.
pub fn encode(side: usize, mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(255 + 64 * 63));
        let blocks = piece.len().saturating_sub(255).div_ceil(64);
        out.extend([side as u8 | (blocks as u8) << 2, (piece.len() - 64 * blocks) as u8]);
        out.extend_from_slice(piece);
        bytes = rest;
    }
}

/// What exchanges say, apart from when.
fn told(done: &[Exchange]) -> Vec<String> {
    let one = |exchange: &Exchange| {
        let head = |head: &Option<Rc<Head>>| head.as_deref().map(|head| Head { ts: Timestamp(0), ..head.clone() });
        let events = exchange.events.iter().map(|event| (&event.name, &event.data, event.sent));
        format!(
            "{:?} {} {:?} {:?} {:?} {:?} {} {:?} {:?}",
            exchange.kind,
            exchange.stream_id,
            head(&exchange.request),
            head(&exchange.response),
            exchange.request_body.data,
            exchange.response_body.data,
            exchange.end_reason,
            exchange.body_state(),
            events.collect::<Vec<_>>(),
        )
    };
    done.iter().map(one).collect()
}

/// What a context borrows.
#[derive(Default)]
struct Ids {
    next: i64,
    memory: Memory,
}

fn context(ids: &mut Ids) -> Context<'_> {
    let Ids { next, memory } = ids;
    Context { next_http_id: next, keep_bodies: true, memory, proc_id: 1, asking: Vec::new(), posted: Vec::new() }
}

/// What goes through a connection, whatever it speaks.
pub fn conversation(data: &[u8]) {
    let mut all = (Conversation::default(), Ids::default(), Vec::new());
    feed(
        data,
        &mut all,
        |(http, ids, done), side, ts, bytes| http.push(side, ts, bytes, &mut context(ids), done),
        |(http, ids, done), side, ts, missing| http.gap(side, ts, missing, &mut context(ids), done),
    );
    let (mut connection, mut ids, mut done) = all;
    connection.finish(Timestamp(0), End::Closed, &mut context(&mut ids), &mut done);
    let (mut sessions, mut resent) = (Sessions::default(), Resent::default());
    for exchange in done {
        match exchange.kind {
            Kind::Whole => drop(llm::call(&exchange, 1, &mut resent)),
            _ => sessions.take(exchange).iter().for_each(|call| drop(llm::call(call, 1, &mut resent))),
        }
    }
}

/// Hands the pieces of a connection to `push`, and its gaps to `gap`.
fn feed<C>(
    data: &[u8],
    connection: &mut C,
    mut push: impl FnMut(&mut C, usize, Timestamp, &[u8]),
    mut gap: impl FnMut(&mut C, usize, Timestamp, u64),
) {
    for (at, Piece { side, bytes, missing }) in pieces(data).into_iter().enumerate() {
        let ts = Timestamp(at as i64);
        if missing > 0 { gap(connection, side, ts, missing) } else { push(connection, side, ts, bytes) }
    }
}

/// The bytes of one direction.
fn stream(data: &[u8], of: usize) -> Vec<u8> {
    pieces(data).iter().filter(|piece| piece.side == of).flat_map(|piece| piece.bytes).copied().collect()
}

/// HTTP/1: without gaps, a direction says the same however it is cut. (Once its place is lost, that is looked for at the start of a
/// piece.)
pub fn http1(data: &[u8]) {
    let mut all = (http1::Connection::default(), Ids::default(), Vec::new());
    feed(
        data,
        &mut all,
        |(http, ids, done), side, ts, bytes| http.push(side, ts, bytes, &mut context(ids), done),
        |(http, ids, done), side, ts, missing| http.gap(side, ts, missing, &mut context(ids), done),
    );
    all.0.finish(Timestamp(0), End::Closed, &mut context(&mut all.1), &mut all.2);
    for (side, kind) in [message::Kind::Request, message::Kind::Response].into_iter().enumerate() {
        let bytes = stream(data, side);
        let whole = parts(kind, &bytes, usize::MAX);
        assert_eq!(whole, parts(kind, &bytes, 1));
        assert_eq!(whole, parts(kind, &bytes, 7));
    }
}

/// What the parser finds, up to where its place is lost; and of bodies, the bytes.
fn parts(kind: message::Kind, bytes: &[u8], cut: usize) -> Vec<(String, Vec<u8>)> {
    let (mut parser, mut parts) = (message::Parser::new(kind), Vec::new());
    parser.methods.extend(["HEAD".to_owned(), "GET".to_owned(), "CONNECT".to_owned()]);
    bytes.chunks(cut).for_each(|piece| parser.push(Timestamp(1), piece, &mut parts));
    parser.close(&mut parts);
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    for part in parts {
        let lost = part == Part::Lost;
        let (name, bytes) = match part {
            Part::Body(bytes) => ("body".to_owned(), bytes.to_vec()),
            Part::Beyond(bytes) => ("beyond".to_owned(), bytes.to_vec()),
            other => (format!("{other:?}"), Vec::new()),
        };
        match said.last_mut() {
            Some((last, before)) if *last == name && !bytes.is_empty() => before.extend(bytes),
            _ => said.push((name, bytes)),
        }
        if lost {
            break;
        }
    }
    said
}

/// HTTP/2, likewise.
pub fn http2(data: &[u8]) {
    let mut all = (http2::Connection::agreed(), Ids::default(), Vec::new());
    feed(
        data,
        &mut all,
        |(http, ids, done), side, ts, bytes| http.push(side, ts, bytes, &mut context(ids), done),
        |(http, ids, done), side, ts, missing| http.gap(side, ts, missing, &mut context(ids), done),
    );
    all.0.finish(End::Closed, &mut all.2);
    http2::fuzz::frames(&stream(data, 0));
    http2::fuzz::frames(&stream(data, 1));
}

/// Header blocks of one direction, one after the other: each a byte for its length, and what it holds.
pub fn hpack(data: &[u8]) {
    let mut rest = data;
    let mut blocks = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (block, after) = after.split_at(usize::from(*length).min(after.len()));
        blocks.push(block);
        rest = after;
    }
    http2::fuzz::hpack(&blocks);
}

/// The frames of a WebSocket behind its upgrade. The first byte: what was agreed on.
pub fn websocket(data: &[u8]) {
    let Some((agreed, data)) = data.split_first() else { return };
    let extensions = match agreed % 4 {
        0 => "",
        1 => "permessage-deflate",
        2 => "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        _ => "permessage-deflate; server_max_window_bits=10",
    };
    let response = Head { fields: vec![("sec-websocket-extensions".into(), extensions.into())], ..Head::default() };
    let run = |cut: usize, gaps: bool| {
        let (mut ids, mut done) = (Ids::default(), Vec::new());
        let mut upgrade = context(&mut ids).exchange(1);
        upgrade.begin_response(response.clone());
        let mut connection = websocket::Connection::new(0, &upgrade);
        for (at, Piece { side, bytes, missing }) in pieces(data).into_iter().enumerate() {
            let ts = Timestamp(at as i64);
            if missing > 0 && gaps {
                connection.gap(side, ts, missing, &mut done);
            }
            bytes.chunks(cut).for_each(|piece| connection.push(side, ts, piece, &mut done));
        }
        connection.finish(Timestamp(0), End::Closed, &mut done);
        told(&done)
    };
    run(usize::MAX, true);
    assert_eq!(run(usize::MAX, false), run(1, false));
}

/// A streamed response of this type: the same events however it is cut.
fn stream_of(media_type: &str, data: &[u8]) {
    let fields = vec![("content-type".to_owned(), media_type.to_owned())];
    let head = Head { fields, ..Head::default() };
    let request = Head { target: "/v1/models/m:streamGenerateContent".to_owned(), ..Head::default() };
    let run = |cut: usize| {
        let (mut stream, mut events) = (Stream::of(Some(&request), &head), Vec::new());
        data.chunks(cut).for_each(|piece| stream.push(Timestamp(1), piece, &mut events));
        stream.finish(Timestamp(1), &mut events);
        (events, stream.damaged())
    };
    let whole = run(usize::MAX);
    assert_eq!(whole, run(1));
    assert_eq!(whole, run(5));
    let (mut stream, mut events) = (Stream::of(Some(&request), &head), Vec::new());
    for piece in data.chunks(40) {
        if piece.first().is_some_and(|byte| byte % 4 == 0) {
            stream.gap()
        } else {
            stream.push(Timestamp(1), piece, &mut events)
        }
    }
    stream.finish(Timestamp(1), &mut events);
}

pub fn sse(data: &[u8]) {
    stream_of("text/event-stream", data);
}

pub fn ndjson(data: &[u8]) {
    stream_of("application/x-ndjson", data);
}

pub fn json_array(data: &[u8]) {
    stream_of("application/json", data);
}

pub fn event_stream(data: &[u8]) {
    stream_of("application/vnd.amazon.eventstream", data);
}

/// A body in some coding, which the first byte names: the same however it is cut.
pub fn body(data: &[u8]) {
    let Some((coding, data)) = data.split_first() else { return };
    let coding = [None, Some("gzip"), Some("deflate"), Some("br"), Some("zstd"), Some("gzip, br"), Some("x")]
        .get(usize::from(coding % 8))
        .copied();
    let run = |cut: usize| {
        let mut body = coding.map_or_else(Body::of_unknown_coding, Body::new);
        data.chunks(cut).for_each(|piece| {
            body.push(piece);
        });
        body.finish();
        (body.state, body.data)
    };
    let (state, whole) = run(usize::MAX);
    let (cut_state, cut) = run(1);
    assert_eq!(state, cut_state);
    // How much came out before an error depends on how much went in.
    assert!(state != crate::body::BodyState::Complete || whole == cut);
}

/// A call: its request and, behind a byte 0, the response. The first byte: how that came.
fn call(path: &str, data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let (request, response) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let response = response.get(1..).unwrap_or_default();
    let mut ids = Ids::default();
    let mut exchange = context(&mut ids).exchange(1);
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut ids = Ids::default();
    let head = Head {
        method: "POST".to_owned(),
        target: path.to_owned(),
        fields: vec![field("anthropic-version", "2023-06-01"), field("host", "api.example.com")],
        ..Head::default()
    };
    exchange.begin_request(head, &mut context(&mut ids));
    exchange.take_request_body(request, true);
    let types = ["application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"];
    let media = types.get(usize::from(how % 4)).copied().unwrap_or_default();
    exchange.begin_response(Head { status: 200, fields: vec![field("content-type", media)], ..Head::default() });
    response.chunks(64).for_each(|piece| exchange.take_response_body(Timestamp(2), piece, true));
    if how & 8 == 0 {
        (exchange.request_done, exchange.response_done) = (true, true);
    }
    exchange.break_off("close");
    let exchange = exchange.finished();
    let (mut tools, mut resent) = (Tools::new("c".to_owned()), Resent::default());
    for _ in 0..2 {
        if let Some(call) = llm::call(&exchange, 1, &mut resent) {
            drop(tools.take(&call, 1));
        }
    }
    drop(tools.finish());
}

pub fn anthropic(data: &[u8]) {
    call("/v1/messages", data);
}

pub fn openai_chat(data: &[u8]) {
    call("/v1/chat/completions", data);
}

pub fn openai_responses(data: &[u8]) {
    call("/v1/responses", data);
}

/// A call of whatever API its path stands for: a byte for the length of the path, the path, and the call.
pub fn calls(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else { return };
    let (path, rest) = rest.split_at(usize::from(*length).min(rest.len()));
    call(&String::from_utf8_lossy(path), rest);
}

/// Messages of a WebSocket that may be calls, one a line; those that begin with `>` are sent.
pub fn sessions(data: &[u8]) {
    let (mut sessions, mut resent) = (Sessions::default(), Resent::default());
    for (idx, line) in data.split(|byte| *byte == b'\n').enumerate() {
        let (sent, text) = line.strip_prefix(b">").map_or((false, line), |line| (true, line));
        let mut piece =
            Exchange::piece(1, if text.is_empty() { Kind::Missing } else { Kind::Message }, Share::default());
        piece.request = Some(Rc::new(Head { target: "/v1/responses".to_owned(), ..Head::default() }));
        let data = String::from_utf8_lossy(text).into_owned();
        let ts = Timestamp(idx as i64);
        piece.events.push(Event { idx: idx as i64, ts, framing: Framing::WebSocket, sent, name: None, data });
        sessions.take(piece).iter().for_each(|call| drop(llm::call(call, 1, &mut resent)));
    }
    drop(sessions.take(Exchange::piece(1, Kind::End, Share::default())));
}

/// A DNS message.
pub fn dns(data: &[u8]) {
    if let Some(message) = dns_message::parse(data) {
        message.answers.iter().for_each(|answer| drop(answer.text()));
    }
}

/// The first bytes of TLS.
pub fn tls_hello(data: &[u8]) {
    drop(hello::parse(data));
}

/// A line for a shell: its commands hold nothing that the line does not; what is substituted stands in the words around it, too.
pub fn shell_line(data: &[u8]) {
    let script = String::from_utf8_lossy(data);
    let words: usize = shell::commands(&script).iter().flatten().map(String::len).sum();
    assert!(words <= script.len() * (shell::MAX_DEPTH + 1));
}

/// Records, whatever they hold.
pub fn records_of(data: &[u8]) {
    for record in records(data).map_while(Result::ok) {
        let _ = format!("{:?}", record.body());
        assert!(record.bytes.len() >= size_of::<Header>());
        assert_eq!(record.header.as_bytes(), &record.bytes[..size_of::<Header>()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_of_http_is_lost_at_once_however_it_is_cut() {
        http1(b"\0\x14PATAA\0CH nothing of that.");
        assert_eq!(
            parts(message::Kind::Request, b"POSTER without a line that ends", usize::MAX),
            [("Lost".to_owned(), Vec::new())]
        );
    }

    #[test]
    fn what_is_substituted_stands_in_the_word_around_it_too() {
        shell_line(b"cut`\xdf-c2");
        shell_line("`".repeat(99).as_bytes());
        shell_line("$(a ".repeat(99).as_bytes());
    }

    #[test]
    fn pieces_are_taken_as_they_were_written() {
        let mut out = Vec::new();
        encode(1, &[7; 5000], &mut out);
        encode(0, b"hello", &mut out);
        let taken: Vec<_> = pieces(&out).iter().map(|piece| (piece.side, piece.bytes.len())).collect();
        assert_eq!(taken, [(1, 4287), (1, 713), (0, 5)]);
    }
}
