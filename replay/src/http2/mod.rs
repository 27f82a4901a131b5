//! HTTP/2 (RFC 9113): the frames of both directions into exchanges, one for each stream of a client.
//!
//! A connection may be seen from its start, or from any place on; bytes may be missing. What is then not known stays unknown:
//! a stream whose request was missed has none, a field that the lost table of HPACK held is left out and counted
//! ([`crate::message::Head::unknown_fields`]), a body with a hole says so. No field is guessed; but a
//! body whose coding or type may be among the unknown fields is taken for what its first bytes show it to be.

mod frame;
mod frames;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod hpack;
mod huffman;
mod static_table;
mod streams;

use crate::exchange::{Context, End, Exchange};
use crate::message::Head;
use crate::table::Timestamp;
use frames::{Frames, Part};
use hpack::{Fields, Table};
use streams::Streams;

/// One HTTP/2 connection.
#[derive(Default)]
pub(crate) struct Connection {
    /// Of each direction, sent and received.
    frames: [Frames; 2],
    tables: [Table; 2],
    /// The direction of the requests, once it is known.
    client: Option<usize>,
    streams: Streams,
    /// Whether it is certain that this is HTTP/2.
    found: bool,
}

impl Connection {
    /// A connection that HTTP/1 was upgraded to: the first stream answers the request that asked for it (RFC 7540, 3.2).
    pub fn upgraded(client: usize, mut exchange: Exchange) -> Self {
        exchange.stream_id = 1;
        let mut connection = Connection { client: Some(client), found: true, ..Connection::default() };
        connection.streams.insert(1, exchange);
        connection
    }

    /// A connection that is HTTP/2 wherever it is first seen.
    pub fn agreed() -> Self {
        Connection { found: true, ..Connection::default() }
    }

    /// Whether it is HTTP/2 that was seen: until then, it may be anything.
    pub fn is_certain(&self) -> bool {
        self.found
    }

    /// Takes bytes of a direction; exchanges that are done are appended to `done`.
    pub fn push(
        &mut self,
        side: usize,
        ts: Timestamp,
        bytes: &[u8],
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        let mut parts = Vec::new();
        self.frames[side].push(ts, bytes, &mut parts);
        self.take(side, parts, context, done);
    }

    pub fn gap(&mut self, side: usize, ts: Timestamp, len: u64, context: &mut Context<'_>, done: &mut Vec<Exchange>) {
        let mut parts = Vec::new();
        self.frames[side].gap(ts, len, &mut parts);
        self.take(side, parts, context, done);
    }

    /// Bytes of memory that it takes besides its exchanges.
    pub fn held(&self) -> usize {
        let frames = self.frames.iter().map(Frames::held).sum::<usize>();
        size_of::<Connection>() + frames + self.tables.iter().map(Table::held).sum::<usize>() + self.streams.held()
    }

    /// Nothing more comes.
    pub fn finish(&mut self, end: End, done: &mut Vec<Exchange>) {
        self.streams.finish(end, done);
    }

    fn take(
        &mut self,
        side: usize,
        parts: Vec<(Timestamp, Part)>,
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        for (ts, part) in parts {
            match part {
                Part::Preface => {
                    self.found = true;
                    self.client = Some(side);
                }
                Part::Found => self.found = true,
                Part::TableSize(size) => self.tables[1 - side].allow(size),
                Part::Block { stream, block, ts: started, end_stream, promised } => {
                    let fields = self.tables[side].decode(&block);
                    match fields {
                        // Only the table's part of a promise is of use.
                        _ if promised && fields.is_some() => {}
                        Some(fields) => {
                            self.take_head(side, (stream, end_stream), head(fields, started), ts, context, done)
                        }
                        None => self.lost_block(side, stream, end_stream, ts, done),
                    }
                }
                Part::LostBlock { stream, end_stream } => self.lost_block(side, stream, end_stream, ts, done),
                Part::Lost => {
                    self.tables[side].forget();
                    self.streams.missed(self.client.map(|client| client == side), done);
                }
                Part::Data { stream, bytes } if self.client == Some(side) => {
                    self.streams.request_data(stream, &bytes, context.keep_bodies);
                }
                Part::Data { stream, bytes } => self.streams.response_data(stream, ts, &bytes, context.keep_bodies),
                Part::Gap { stream, len } => self.streams.gap(stream, self.client == Some(side), len),
                Part::EndStream { stream } => self.end(side, stream, ts, done),
                Part::Reset { stream } => self.streams.reset(stream, done),
                Part::GoAway { last } if self.client == Some(1 - side) => self.streams.go_away(last, done),
                Part::GoAway { .. } => {}
            }
        }
    }

    fn take_head(
        &mut self,
        side: usize,
        (stream, end_stream): (u32, bool),
        head: Head,
        ts: Timestamp,
        context: &mut Context<'_>,
        done: &mut Vec<Exchange>,
    ) {
        let request = is_request(&head);
        if self.client.is_none() && (request || head.status != 0) {
            self.client = Some(if request { side } else { 1 - side });
        }
        match self.client {
            Some(client) if client == side => self.streams.request((stream, end_stream), head, context, done),
            Some(_) => self.streams.response((stream, end_stream), head, context, done),
            // Neither side has shown what it is: nothing can be made of it.
            None => return,
        }
        if end_stream {
            self.end(side, stream, ts, done);
        }
    }

    fn lost_block(&mut self, side: usize, stream: u32, end_stream: bool, ts: Timestamp, done: &mut Vec<Exchange>) {
        self.tables[side].forget();
        self.streams.lost_head(stream, self.client == Some(side));
        if end_stream {
            self.end(side, stream, ts, done);
        }
    }

    fn end(&mut self, side: usize, stream: u32, ts: Timestamp, done: &mut Vec<Exchange>) {
        if let Some(client) = self.client {
            self.streams.end(stream, client == side, ts, done);
        }
    }
}

/// The head of a message, out of the fields of its block (RFC 9113, 8.3).
fn head(fields: Fields, ts: Timestamp) -> Head {
    let mut head = Head { ts, version: "2.0".to_owned(), unknown_fields: fields.unknown, ..Head::default() };
    for (name, value) in &fields.known {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        match &*name {
            ":method" => head.method = value.to_string(),
            ":path" => head.target = value.to_string(),
            // 101 is of HTTP/1 only.
            ":status" => head.status = value.parse().ok().filter(|status| (100..1000).contains(status)).unwrap_or(0),
            _ => {}
        }
        head.fields.push((name.into_owned(), value.into_owned()));
    }
    head
}

/// Whether the head shows itself to be a request's. Of those, one field at least is always in the static table.
fn is_request(head: &Head) -> bool {
    head.fields.iter().any(|(name, _)| name.starts_with(':') && name != ":status")
}
