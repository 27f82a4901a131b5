//! The HTTP of a connection: which version it is, or WebSocket behind it, and what that makes of the bytes.
//!
//! HTTP/1 shows itself by the start of a message, HTTP/2 by its preface or, on a connection that is first seen in the middle,
//! by its frames. Until either does, a connection may be anything.

use crate::exchange::{Context, End, Exchange};
use crate::table::Timestamp;
use crate::{http1, http2, websocket};

#[derive(Default)]
pub(crate) struct Conversation {
    http1: http1::Connection,
    /// What HTTP/2 there might be, while neither is certain; else, what there is.
    http2: Option<Box<http2::Connection>>,
    /// What HTTP/1 was upgraded to, if it was to this.
    websocket: Option<Box<websocket::Connection>>,
}

impl Conversation {
    /// Of a connection on which TLS has agreed on HTTP/2.
    pub fn http2() -> Self {
        Conversation { http2: Some(Box::new(http2::Connection::agreed())), ..Conversation::default() }
    }

    pub fn is_http2(&self) -> bool {
        self.http2.as_ref().is_some_and(|http2| http2.is_certain())
    }

    /// Whether it is known to be HTTP, or what HTTP was upgraded to.
    pub fn is_certain(&self) -> bool {
        self.websocket.is_some() || self.is_http2() || self.http1.is_certain()
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
        if let Some(websocket) = &mut self.websocket {
            return websocket.push(side, ts, bytes, done);
        }
        if !self.is_http2() {
            self.http1.push(side, ts, bytes, context, done);
            if let Some(upgraded) = self.http1.upgraded.take_if(|upgraded| upgraded.to_websocket) {
                let new = websocket::Connection::new(upgraded.client, &upgraded.exchange);
                let websocket = self.websocket.insert(Box::new(new));
                done.push(upgraded.exchange.finished());
                return websocket.push(1 - upgraded.client, ts, &upgraded.rest, done);
            }
            if let Some(upgraded) = self.http1.upgraded.take() {
                let http2 = http2::Connection::upgraded(upgraded.client, upgraded.exchange);
                let http2 = self.http2.insert(Box::new(http2));
                if !upgraded.rest.is_empty() {
                    http2.push(1 - upgraded.client, ts, &upgraded.rest, context, done);
                }
                return;
            }
            if self.http1.is_certain() {
                self.http2 = None;
                return;
            }
        }
        self.http2.get_or_insert_default().push(side, ts, bytes, context, done);
    }

    pub fn gap(&mut self, side: usize, ts: Timestamp, len: u64, context: &mut Context<'_>, done: &mut Vec<Exchange>) {
        if let Some(websocket) = &mut self.websocket {
            return websocket.gap(side, ts, len, done);
        }
        if !self.is_http2() {
            self.http1.gap(side, ts, len, context, done);
            if self.http1.is_certain() {
                return;
            }
        }
        self.http2.get_or_insert_default().gap(side, ts, len, context, done);
    }

    /// Bytes of memory that it takes besides its exchanges.
    pub fn held(&self) -> usize {
        let http2 = self.http2.as_ref().map_or(0, |http2| http2.held());
        http2 + self.http1.held() + self.websocket.as_ref().map_or(0, |websocket| websocket.held())
    }

    /// Nothing more comes.
    pub fn finish(&mut self, ts: Timestamp, end: End, context: &mut Context<'_>, done: &mut Vec<Exchange>) {
        if let Some(websocket) = &mut self.websocket {
            return websocket.finish(ts, end, done);
        }
        self.http1.finish(ts, end, context, done);
        if let Some(http2) = &mut self.http2 {
            http2.finish(end, done);
        }
    }
}
