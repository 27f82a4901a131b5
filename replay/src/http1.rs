//! Pairs the requests and responses of one HTTP/1 connection into exchanges.

use crate::body::BodyState;
use crate::exchange::{Context, End, Exchange};
use crate::message::{Head, Kind, Parser, Part};
use crate::table::Timestamp;
use crate::websocket;
use std::collections::VecDeque;

/// One HTTP/1 connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// For each direction, sent and received: its parser, once it is known what it carries.
    sides: [Option<Parser>; 2],
    /// First bytes of a direction, too few to tell.
    undecided: [Vec<u8>; 2],
    open: VecDeque<Exchange>,
    count: i64,
    /// Responses may have been missed: the next one answers the newest request that waits, not the oldest.
    responses_missed: bool,
    /// The connection was upgraded: the request that asked for it, and what came behind.
    pub upgraded: Option<Upgraded>,
}

/// What HTTP/1 leaves to HTTP/2 (RFC 7540, 3.2) or to WebSocket (RFC 6455, 4.2.2).
pub(crate) struct Upgraded {
    pub to_websocket: bool,
    /// The direction of the requests.
    pub client: usize,
    pub exchange: Exchange,
    /// Bytes behind the response that agrees.
    pub rest: Vec<u8>,
}

impl Connection {
    /// Whether a message of HTTP/1 was seen to start.
    pub fn is_certain(&self) -> bool {
        self.sides.iter().any(Option::is_some)
    }

    /// Takes bytes of a direction; exchanges that are complete are appended to `done`.
    pub fn push(
        &mut self,
        side: usize,
        ts: Timestamp,
        bytes: &[u8],
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        let mut first = Vec::new();
        if self.sides[side].is_none() {
            first = std::mem::take(&mut self.undecided[side]);
            first.extend_from_slice(bytes);
            match Kind::of(&first) {
                Some(kind) => self.decide(side, kind),
                None if Kind::possible(&first) => {
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

    /// Bytes of memory that it takes besides its exchanges.
    pub fn held(&self) -> usize {
        self.undecided.iter().map(Vec::len).sum::<usize>()
            + self.sides.iter().flatten().map(Parser::held).sum::<usize>()
    }

    /// Nothing more comes.
    pub fn finish(&mut self, ts: Timestamp, end: End, context: &mut Context<'_>, done: &mut Vec<Exchange>) {
        for side in 0..2 {
            let mut parts = Vec::new();
            if let Some(parser) = &mut self.sides[side] {
                parser.close(&mut parts);
            }
            self.take(side, ts, parts, context, done);
        }
        while let Some(mut exchange) = self.open.pop_front() {
            exchange.break_off(end.of(&exchange));
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
        parts: Vec<Part<'_>>,
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        let responses = parts_are_responses(&self.sides, side);
        for part in parts {
            if responses {
                self.take_response(side, ts, part, context);
            } else {
                self.take_request(1 - side, part, context);
            }
        }
        loop {
            let too_many = self.open.len() > context.most_open();
            let Some(exchange) = self.open.front_mut() else { break };
            if !(exchange.request_done && exchange.response_done) {
                if !too_many {
                    break;
                }
                exchange.break_off("limit");
                if exchange.response.is_none()
                    && let Some(responses) =
                        self.sides.iter_mut().flatten().find(|parser| parser.kind() == Kind::Response)
                {
                    responses.methods.pop_front();
                }
            }
            done.extend(self.open.pop_front().map(Exchange::finished));
        }
    }

    fn take_request(&mut self, response_side: usize, part: Part<'_>, context: &mut Context<'_>) {
        if let Part::Head(head) = part {
            if let Some(parser) = &mut self.sides[response_side] {
                parser.methods.push_back(head.method.clone());
            }
            let mut exchange = self.new_exchange(context);
            exchange.begin_request(head, context);
            self.open.push_back(exchange);
            return;
        }
        let Some(exchange) = self.open.iter_mut().rev().find(|exchange| !exchange.request_done) else { return };
        match part {
            Part::Body(bytes) => exchange.take_request_body(bytes, context.keep_bodies),
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

    fn take_response(&mut self, side: usize, ts: Timestamp, part: Part<'_>, context: &mut Context<'_>) {
        if let Part::Beyond(bytes) = part {
            if let Some(upgraded) = &mut self.upgraded {
                upgraded.rest.extend_from_slice(bytes);
            }
            return;
        }
        if let Part::Head(head) = part {
            let to_websocket = websocket::agreed(&head);
            if (to_websocket || head.status == 101 && head.has_token("upgrade", "h2c"))
                && let Some(mut exchange) = self.open.pop_front_if(|exchange| exchange.request.is_some())
            {
                exchange.request_done = true;
                if to_websocket {
                    exchange.begin_response(head);
                    exchange.end_ts = Some(ts);
                    exchange.end_reason = "upgrade";
                    exchange.response_done = true;
                }
                self.upgraded = Some(Upgraded { to_websocket, client: 1 - side, exchange, rest: Vec::new() });
                return;
            }
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
            Part::Body(bytes) => exchange.take_response_body(ts, bytes, context.keep_bodies),
            Part::Gap(len) => exchange.response_gap(len),
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
        exchange.begin_response(head);
    }

    fn new_exchange(&mut self, context: &mut Context<'_>) -> Exchange {
        self.count += 1;
        context.exchange(self.count)
    }
}

fn parts_are_responses(sides: &[Option<Parser>; 2], side: usize) -> bool {
    sides[side].as_ref().is_some_and(|parser| parser.kind() == Kind::Response)
}
