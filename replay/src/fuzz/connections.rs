//! What goes through connections.

use super::{Piece, pieces};
use crate::conversation::Conversation;
use crate::exchange::{Context, End, Exchange, Kind};
use crate::llm::{self, resent::Resent, sessions::Sessions};
use crate::memory::Memory;
use crate::message::{self, Head, Part};
use crate::table::Timestamp;
use crate::{http1, http2, websocket};
use std::rc::Rc;

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
pub(super) struct Ids {
    next: i64,
    memory: Memory,
}

pub(super) fn context(ids: &mut Ids) -> Context<'_> {
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
pub(super) fn parts(kind: message::Kind, bytes: &[u8], cut: usize) -> Vec<(String, Vec<u8>)> {
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
