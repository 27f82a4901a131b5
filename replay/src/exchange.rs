//! Pairs the requests and responses of one HTTP/1 connection into exchanges.

use crate::body::{Body, BodyState};
use crate::message::{Head, Kind, Parser, Part};
use crate::sse;
use crate::table::Timestamp;
use std::collections::VecDeque;

/// A request with its response, as far as they were seen.
pub(crate) struct Exchange {
    pub http_id: i64,
    /// Number on the connection, from 1.
    pub stream_id: i64,
    pub request: Option<Head>,
    pub response: Option<Head>,
    pub request_body: Body,
    pub response_body: Body,
    request_done: bool,
    response_done: bool,
    /// Last byte of the response.
    pub end_ts: Option<Timestamp>,
    pub end_reason: &'static str,
    /// The events of a streamed response.
    pub events: Vec<(Timestamp, sse::Event)>,
    sse: Option<sse::Parser>,
}

impl Exchange {
    fn new(http_id: i64, stream_id: i64) -> Self {
        Exchange {
            http_id,
            stream_id,
            request: None,
            response: None,
            request_body: Body::new(None),
            response_body: Body::new(None),
            request_done: false,
            response_done: false,
            end_ts: None,
            end_reason: "capture_end",
            events: Vec::new(),
            sse: None,
        }
    }

    /// What is wrong with its bodies, the request's first.
    pub fn body_state(&self) -> BodyState {
        if self.request_body.state != BodyState::Complete { self.request_body.state } else { self.response_body.state }
    }

    /// Whether every byte of request and response was there and could be decoded.
    pub fn complete(&self) -> bool {
        self.request.is_some() && self.response.is_some() && self.body_state() == BodyState::Complete
    }
}

/// What a connection has to be told: ids, and whether bodies are of use.
pub(crate) struct Context<'a> {
    pub next_http_id: &'a mut i64,
    pub keep_bodies: bool,
}

/// One HTTP/1 connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// For each direction, sent and received: its parser, once it is known what it carries.
    sides: [Option<Parser>; 2],
    /// First bytes of a direction, too few to tell.
    undecided: [Vec<u8>; 2],
    pub http2: bool,
    open: VecDeque<Exchange>,
    count: i64,
    /// Responses may have been missed: the next one answers the newest request that waits, not the oldest.
    responses_missed: bool,
}

impl Connection {
    /// Takes bytes of a direction; exchanges that are complete are appended to `done`.
    pub fn push(
        &mut self,
        side: usize,
        ts: Timestamp,
        bytes: &[u8],
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        if self.http2 {
            return;
        }
        let mut first = Vec::new();
        if self.sides[side].is_none() {
            first = std::mem::take(&mut self.undecided[side]);
            first.extend_from_slice(bytes);
            if first.starts_with(b"PRI * HTTP/2.0\r\n") {
                self.http2 = true;
                return;
            }
            match Kind::of(&first) {
                Some(kind) => self.decide(side, kind),
                None if Kind::possible(&first) || b"PRI * HTTP/2.0\r\n".starts_with(&first) => {
                    self.undecided[side] = first;
                    return;
                }
                None => return,
            }
        }
        let bytes = if first.is_empty() { bytes } else { &first };
        let Some(parser) = &mut self.sides[side] else { return };
        let mut parts = Vec::new();
        parser.push(ts, bytes, &mut parts);
        self.take(side, ts, parts, context, done);
    }

    pub fn gap(&mut self, side: usize, ts: Timestamp, len: u64, context: &mut Context<'_>, done: &mut Vec<Exchange>) {
        self.undecided[side].clear();
        let Some(parser) = &mut self.sides[side] else { return };
        let mut parts = Vec::new();
        parser.gap(len, &mut parts);
        self.take(side, ts, parts, context, done);
    }

    /// The connection ends, or (`closed` is false) the capture does.
    pub fn finish(&mut self, ts: Timestamp, closed: bool, context: &mut Context<'_>, done: &mut Vec<Exchange>) {
        for side in 0..2 {
            let mut parts = Vec::new();
            if let Some(parser) = &mut self.sides[side] {
                parser.close(&mut parts);
            }
            self.take(side, ts, parts, context, done);
        }
        while let Some(mut exchange) = self.open.pop_front() {
            exchange.end_reason = match (closed, &exchange.response) {
                (false, _) => "capture_end",
                (true, None) => "no_response",
                (true, Some(_)) => "close",
            };
            if !exchange.request_done {
                exchange.request_body.fail(BodyState::Cut);
            }
            if !exchange.response_done && exchange.response.is_some() {
                exchange.response_body.fail(BodyState::Cut);
            }
            done.push(exchange.finished());
        }
    }

    fn decide(&mut self, side: usize, kind: Kind) {
        let other = if kind == Kind::Request { Kind::Response } else { Kind::Request };
        self.sides[side] = Some(Parser::new(kind));
        self.sides[1 - side].get_or_insert_with(|| Parser::new(other));
    }

    fn take(
        &mut self,
        side: usize,
        ts: Timestamp,
        parts: Vec<Part>,
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        let responses = parts_are_responses(&self.sides, side);
        for part in parts {
            if responses {
                self.take_response(ts, part, context);
            } else {
                self.take_request(1 - side, part, context);
            }
        }
        while self.open.front().is_some_and(|exchange| exchange.request_done && exchange.response_done) {
            done.extend(self.open.pop_front().map(Exchange::finished));
        }
    }

    fn take_request(&mut self, response_side: usize, part: Part, context: &mut Context<'_>) {
        if let Part::Head(head) = part {
            if let Some(parser) = &mut self.sides[response_side] {
                parser.methods.push_back(head.method.clone());
            }
            let mut exchange = self.new_exchange(context);
            exchange.request_body = Body::new(head.field("content-encoding"));
            exchange.request = Some(head);
            self.open.push_back(exchange);
            return;
        }
        let Some(exchange) = self.open.iter_mut().rev().find(|exchange| !exchange.request_done) else { return };
        match part {
            Part::Body(bytes) => {
                exchange.request_body.push(&bytes);
                if !context.keep_bodies {
                    exchange.request_body.data.clear();
                }
            }
            Part::Gap(len) => exchange.request_body.gap(len),
            // What is still open when the connection ends is marked there.
            Part::Cut => {}
            Part::Lost => {
                exchange.request_body.fail(BodyState::Gap);
                exchange.request_done = true;
            }
            _ => exchange.request_done = true,
        }
    }

    fn take_response(&mut self, ts: Timestamp, part: Part, context: &mut Context<'_>) {
        if let Part::Head(head) = part {
            // An interim response says nothing that lasts.
            if !(100..200).contains(&head.status) || head.status == 101 {
                self.begin_response(head, context);
            }
            return;
        }
        self.responses_missed |= part == Part::Lost;
        let open = |exchange: &&mut Exchange| exchange.response.is_some() && !exchange.response_done;
        let Some(exchange) = self.open.iter_mut().find(open) else { return };
        match part {
            Part::Body(bytes) => exchange.take_response_body(ts, &bytes, context.keep_bodies),
            Part::Gap(len) => {
                exchange.response_body.gap(len);
                exchange.sse = None;
            }
            Part::Cut => {}
            other => {
                exchange.end_reason = match other {
                    Part::Upgraded => "upgrade",
                    Part::EndByClose => "close",
                    _ => "response",
                };
                if other == Part::Lost {
                    exchange.response_body.fail(BodyState::Gap);
                }
                exchange.end_ts = Some(ts);
                exchange.response_done = true;
            }
        }
    }

    fn begin_response(&mut self, head: Head, context: &mut Context<'_>) {
        if std::mem::take(&mut self.responses_missed) {
            let newest = self.open.iter().rposition(|exchange| exchange.response.is_none()).unwrap_or(0);
            for missed in self.open.iter_mut().take(newest).filter(|exchange| exchange.response.is_none()) {
                missed.response_body.fail(BodyState::Gap);
                missed.end_reason = "no_response";
                missed.response_done = true;
            }
        }
        let waits = |exchange: &Exchange| exchange.response.is_none() && !exchange.response_done;
        let waiting = self.open.iter().position(waits);
        let index = match waiting {
            Some(index) => index,
            None => {
                // Its request is missing.
                let mut exchange = self.new_exchange(context);
                exchange.request_done = true;
                self.open.push_back(exchange);
                self.open.len() - 1
            }
        };
        let Some(exchange) = self.open.get_mut(index) else { return };
        exchange.response_body = Body::new(head.field("content-encoding"));
        exchange.sse = head.is_event_stream().then(sse::Parser::default);
        exchange.response = Some(head);
    }

    fn new_exchange(&mut self, context: &mut Context<'_>) -> Exchange {
        self.count += 1;
        *context.next_http_id += 1;
        Exchange::new(*context.next_http_id, self.count)
    }
}

impl Exchange {
    fn take_response_body(&mut self, ts: Timestamp, bytes: &[u8], keep: bool) {
        self.end_ts = Some(ts);
        let decoded = self.response_body.push(bytes);
        if let Some(parser) = &mut self.sse {
            let mut events = Vec::new();
            parser.push(decoded, &mut events);
            self.events.extend(events.into_iter().map(|event| (ts, event)));
        }
        if !keep {
            self.response_body.data.clear();
        }
    }

    fn finished(mut self) -> Self {
        self.request_body.finish();
        self.response_body.finish();
        self
    }
}

fn parts_are_responses(sides: &[Option<Parser>; 2], side: usize) -> bool {
    sides[side].as_ref().is_some_and(|parser| parser.kind() == Kind::Response)
}
