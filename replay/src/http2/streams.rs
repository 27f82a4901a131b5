//! The streams of an HTTP/2 connection (RFC 9113, 5): what was asked and answered on each, until both have ended.

use crate::body::BodyState;
use crate::exchange::{Context, End, Exchange};
use crate::message::Head;
use crate::table::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// Streams that have ended of which more may be heard: what was on its way when a stream was reset.
const MAX_ENDED: usize = 256;

#[derive(Default)]
pub(super) struct Streams {
    open: BTreeMap<u32, Exchange>,
    ended: VecDeque<u32>,
    /// The newest that was asked for.
    newest: u32,
    /// Something was missed: streams may exist that were not seen to begin.
    missed: bool,
}

impl Streams {
    pub fn insert(&mut self, stream: u32, exchange: Exchange) {
        self.newest = self.newest.max(stream);
        self.open.insert(stream, exchange);
    }

    /// A header block of the client's.
    pub fn request(
        &mut self,
        (stream, end_stream): (u32, bool),
        head: Head,
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        // Trailers end their stream and have no pseudo-header fields; those of a head may all be unknown.
        let trailers = !super::is_request(&head) && (end_stream || head.unknown_fields == 0);
        let known =
            self.open.contains_key(&stream) || self.ended.contains(&stream) || stream <= self.newest && !self.missed;
        if trailers || known || stream % 2 == 0 {
            return;
        }
        let mut exchange = self.begin(stream, context, done);
        exchange.begin_request(head, context);
        self.insert(stream, exchange);
    }

    /// A header block of the server's.
    pub fn response(
        &mut self,
        (stream, end_stream): (u32, bool),
        head: Head,
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        // An interim response says nothing that lasts. (Without a status, trailers; or the field is unknown.)
        if (100..200).contains(&head.status) || head.status == 0 && head.unknown_fields == 0 {
            return;
        }
        if !self.open.contains_key(&stream) {
            // Pushed, or late; or its request was missed.
            if stream % 2 == 0 || !self.missed || head.status == 0 || self.ended.contains(&stream) {
                return;
            }
            let mut exchange = self.begin(stream, context, done);
            exchange.request_done = true;
            self.insert(stream, exchange);
        }
        let Some(exchange) = self.open.get_mut(&stream) else { return };
        let unsure =
            exchange.response.as_ref().is_none_or(|old| old.status == 0 && exchange.response_body.wire_len == 0);
        // Whether trailers or a response without a body, a block that ends the stream does not tell without its status.
        if unsure && !exchange.response_done && !(end_stream && head.status == 0) {
            exchange.begin_response(head);
        }
    }

    pub fn request_data(&mut self, stream: u32, bytes: &[u8], keep: bool) {
        let Some(exchange) = self.open.get_mut(&stream).filter(|exchange| !exchange.request_done) else { return };
        exchange.take_request_body(bytes, keep);
    }

    pub fn response_data(&mut self, stream: u32, ts: Timestamp, bytes: &[u8], keep: bool) {
        let open = |exchange: &&mut Exchange| exchange.response.is_some() && !exchange.response_done;
        let Some(exchange) = self.open.get_mut(&stream).filter(open) else { return };
        exchange.take_response_body(ts, bytes, keep);
    }

    /// Bytes of a body are missing.
    pub fn gap(&mut self, stream: u32, of_request: bool, len: u64) {
        let Some(exchange) = self.open.get_mut(&stream) else { return };
        if of_request {
            if !exchange.request_done {
                exchange.request_body.gap(len);
            }
        } else if !exchange.response_done {
            exchange.response_gap(len);
        }
    }

    /// A header block could not be read: a head, or trailers.
    pub fn lost_head(&mut self, stream: u32, of_request: bool) {
        self.missed = true;
        let Some(exchange) = self.open.get_mut(&stream) else { return };
        if !of_request && exchange.response.is_none() {
            exchange.response_body.fail(BodyState::Gap);
        }
    }

    /// Any number of frames were missed, of the client's, of the server's (`Some(false)`), or it is not known whose.
    pub fn missed(&mut self, of_client: Option<bool>, done: &mut Vec<Exchange>) {
        self.missed = true;
        let mut over = Vec::new();
        for (stream, exchange) in &mut self.open {
            if of_client != Some(false) && !exchange.request_done {
                // Its end may have been missed: it must not be waited for.
                exchange.request_body.gap(0);
                exchange.request_done = true;
            }
            if of_client != Some(true) && !exchange.response_done {
                exchange.response_gap(0);
            }
            if exchange.request_done && exchange.response_done {
                over.push(*stream);
            }
        }
        over.into_iter().for_each(|stream| self.close(stream, done));
    }

    /// A side has said all.
    pub fn end(&mut self, stream: u32, of_request: bool, ts: Timestamp, done: &mut Vec<Exchange>) {
        let Some(exchange) = self.open.get_mut(&stream) else { return };
        if of_request {
            exchange.request_done = true;
        } else {
            exchange.response_done = true;
            exchange.end_ts = Some(ts);
            exchange.end_reason = "response";
            if exchange.response.is_none() {
                exchange.response_body.fail(BodyState::Gap);
            }
        }
        if exchange.request_done && exchange.response_done {
            self.close(stream, done);
        }
    }

    /// Either side gives a stream up. A server may do so after its response, since it needs no more of the request.
    pub fn reset(&mut self, stream: u32, done: &mut Vec<Exchange>) {
        if let Some(exchange) = self.open.get_mut(&stream) {
            break_off(exchange, "reset");
            self.close(stream, done);
        }
    }

    /// The server answers none of the streams after `last` (RFC 9113, 6.8).
    pub fn go_away(&mut self, last: u32, done: &mut Vec<Exchange>) {
        let refused = self.open.range(last.saturating_add(1)..).filter(|(_, exchange)| exchange.response.is_none());
        let refused: Vec<u32> = refused.map(|(stream, _)| *stream).collect();
        for stream in refused {
            if let Some(exchange) = self.open.get_mut(&stream) {
                break_off(exchange, "no_response");
            }
            self.close(stream, done);
        }
    }

    /// Bytes of memory that they take besides their exchanges.
    pub fn held(&self) -> usize {
        self.ended.len() * size_of::<u32>()
    }

    pub fn finish(&mut self, end: End, done: &mut Vec<Exchange>) {
        for (_, mut exchange) in std::mem::take(&mut self.open) {
            let end_reason = end.of(&exchange);
            break_off(&mut exchange, end_reason);
            done.push(exchange.finished());
        }
    }

    /// A new exchange. Where too many are open, the oldest ends as it stands.
    fn begin(&mut self, stream: u32, context: &mut Context<'_>, done: &mut Vec<Exchange>) -> Exchange {
        while self.open.len() >= context.most_open()
            && let Some((oldest, exchange)) = self.open.iter_mut().next()
        {
            let oldest = *oldest;
            break_off(exchange, "limit");
            self.close(oldest, done);
        }
        context.exchange(stream.into())
    }

    fn close(&mut self, stream: u32, done: &mut Vec<Exchange>) {
        let Some(exchange) = self.open.remove(&stream) else { return };
        done.push(exchange.finished());
        self.ended.push_back(stream);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }
}

/// Nothing more comes. A client may read no further than the length that the response gives, and miss the frame that ends it.
fn break_off(exchange: &mut Exchange, end_reason: &'static str) {
    let length = exchange.response.as_ref().and_then(|head| head.field("content-length")?.parse().ok());
    let body = &exchange.response_body;
    exchange.response_done |= body.state == BodyState::Complete && length == Some(body.wire_len);
    exchange.break_off(if exchange.response_done { "response" } else { end_reason });
}
