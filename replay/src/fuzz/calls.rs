//! Calls of models.

use super::connections::{Ids, context};
use crate::event::{Event, Framing};
use crate::exchange::{Exchange, Kind};
use crate::llm::{self, resent::Resent, sessions::Sessions};
use crate::memory::Share;
use crate::message::Head;
use crate::table::Timestamp;
use crate::tools::Tools;
use std::rc::Rc;

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
