//! One direction of an HTTP/2 connection: bytes into what its frames say (RFC 9113, 4 to 6). Header blocks are put together
//! over CONTINUATION, padding and priorities are left out, bodies are passed on as they come.
//!
//! A gap inside a frame is accounted for. Where the place is lost, as at the start of what is seen of a connection that was
//! open before, frames are looked for where a piece of plaintext starts, as programs start there; never in the middle of one,
//! where a body may hold anything.

use super::frame::{FrameHead, HEAD, PREFACE, Place, flag, kind, place};
use crate::table::Timestamp;
use std::collections::VecDeque;

/// Longest header block that is put together, in bytes.
const MAX_BLOCK: usize = 1 << 20;

/// As much of a frame of settings, or that says goodbye, as is looked at.
const MAX_CONTROL: usize = 4096;

const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;

/// What frames say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A header block is whole. `promised`: it is of a request that the server makes up.
    Block {
        stream: u32,
        block: Vec<u8>,
        ts: Timestamp,
        end_stream: bool,
        promised: bool,
    },
    /// A header block with bytes missing, or too many.
    LostBlock {
        stream: u32,
        end_stream: bool,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
    },
    /// So many bytes of a body are missing.
    Gap {
        stream: u32,
        len: u64,
    },
    EndStream {
        stream: u32,
    },
    Reset {
        stream: u32,
    },
    /// The streams of the other side after this one are not answered.
    GoAway {
        last: u32,
    },
    /// How large a table the other side's encoder may have.
    TableSize(u32),
    /// This is the side that asks.
    Preface,
    /// Frames are found.
    Found,
    /// The place in the stream is lost.
    Lost,
}

/// A header block on its way.
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    ts: Timestamp,
    end_stream: bool,
    promised: bool,
    damaged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was seen yet.
    Start,
    /// In the head of a frame; `true`: of the first one.
    Head(bool),
    Payload,
    Lost,
}

/// Reads one direction.
pub(super) struct Frames {
    state: State,
    /// Bytes that wait until the place is found, and where in them pieces start that may be it.
    held: Vec<u8>,
    pieces: VecDeque<(usize, Timestamp)>,
    raw_head: [u8; HEAD],
    raw_len: usize,
    head: FrameHead,
    head_ts: Timestamp,
    /// Bytes of the payload that are still to come, and of the body in it.
    left: u32,
    data_left: u32,
    /// The payload of frames other than DATA, and whether some of it is missing.
    payload: Vec<u8>,
    damaged: bool,
    block: Option<Block>,
}

impl Default for Frames {
    fn default() -> Self {
        Frames {
            state: State::Start,
            held: Vec::new(),
            pieces: VecDeque::new(),
            raw_head: [0; HEAD],
            raw_len: 0,
            head: FrameHead::default(),
            head_ts: Timestamp::default(),
            left: 0,
            data_left: 0,
            payload: Vec::new(),
            damaged: false,
            block: None,
        }
    }
}

impl Frames {
    /// Takes bytes that the program transferred at once.
    pub fn push(&mut self, ts: Timestamp, bytes: &[u8], parts: &mut Vec<(Timestamp, Part)>) {
        match self.state {
            State::Start | State::Lost => self.hold(ts, bytes, parts),
            State::Head(_) | State::Payload => self.walk(ts, bytes, parts),
        }
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        let pieces = self.pieces.len() * size_of::<(usize, Timestamp)>();
        self.held.len() + pieces + self.payload.len() + self.block.as_ref().map_or(0, |block| block.bytes.len())
    }

    /// Takes note of bytes that are missing.
    pub fn gap(&mut self, ts: Timestamp, len: u64, parts: &mut Vec<(Timestamp, Part)>) {
        if self.state != State::Payload || len > u64::from(self.left) {
            self.lose(ts, parts);
            return;
        }
        let len = u32::try_from(len).unwrap_or(self.left);
        self.damaged = true;
        if self.head.kind == kind::DATA {
            let pad_length_is_missing = self.head.has(flag::PADDED) && self.left == self.head.length;
            // Then what follows may be padding.
            let missing = if pad_length_is_missing { self.left } else { len.min(self.data_left) };
            self.data_left -= missing.min(self.data_left);
            parts.push((ts, Part::Gap { stream: self.head.stream, len: missing.into() }));
        }
        self.left -= len;
        if self.left == 0 {
            self.end_frame(ts, parts);
        }
    }

    /// Keeps bytes until it is known where frames start.
    fn hold(&mut self, ts: Timestamp, bytes: &[u8], parts: &mut Vec<(Timestamp, Part)>) {
        self.pieces.push_back((self.held.len(), ts));
        self.held.extend_from_slice(bytes);
        if self.state == State::Start {
            let start = self.held.len().min(PREFACE.len());
            if self.held[..start] == PREFACE[..start] {
                if start == PREFACE.len() {
                    parts.push((ts, Part::Preface));
                    self.release(start, true, parts);
                }
                return;
            }
            let Some(raw) = self.held.first_chunk() else { return };
            if FrameHead::parse(raw).opens() {
                parts.push((ts, Part::Found));
                self.release(0, true, parts);
                return;
            }
            self.state = State::Lost;
            parts.push((ts, Part::Lost));
        }
        while let Some((start, _)) = self.pieces.front() {
            match place(self.held.get(*start..).unwrap_or_default()) {
                Place::Open => return,
                Place::Found => {
                    parts.push((ts, Part::Found));
                    self.release(*start, false, parts);
                    return;
                }
                Place::Unlikely => {
                    self.pieces.pop_front();
                    self.forget_held();
                }
            }
        }
    }

    /// Gives back the memory of bytes before the first piece, now and then.
    fn forget_held(&mut self) {
        let start = self.pieces.front().map_or(self.held.len(), |(start, _)| *start);
        if start * 2 >= self.held.len() {
            self.held.drain(..start);
            self.pieces.iter_mut().for_each(|(at, _)| *at -= start);
        }
    }

    /// Walks through the bytes that were held, from `from` on.
    fn release(&mut self, from: usize, first: bool, parts: &mut Vec<(Timestamp, Part)>) {
        let held = std::mem::take(&mut self.held);
        let pieces = std::mem::take(&mut self.pieces);
        self.state = State::Head(first);
        for (index, (start, ts)) in pieces.iter().enumerate() {
            let end = pieces.get(index + 1).map_or(held.len(), |(next, _)| *next);
            if let Some(bytes) = held.get((*start).max(from)..end) {
                // Should the place be lost again on the way, what follows is held again.
                self.push(*ts, bytes, parts);
            }
        }
    }

    fn lose(&mut self, ts: Timestamp, parts: &mut Vec<(Timestamp, Part)>) {
        if self.state != State::Lost {
            parts.push((ts, Part::Lost));
        }
        *self = Frames { state: State::Lost, ..Frames::default() };
    }

    fn walk(&mut self, ts: Timestamp, bytes: &[u8], parts: &mut Vec<(Timestamp, Part)>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match self.state {
                State::Head(first) => self.take_head(ts, rest, first, parts),
                State::Payload => self.take_payload(ts, rest, parts),
                State::Start | State::Lost => return,
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    fn take_head(&mut self, ts: Timestamp, bytes: &[u8], first: bool, parts: &mut Vec<(Timestamp, Part)>) -> usize {
        if self.raw_len == 0 {
            self.head_ts = ts;
        }
        let take = bytes.len().min(HEAD - self.raw_len);
        self.raw_head[self.raw_len..self.raw_len + take].copy_from_slice(&bytes[..take]);
        self.raw_len += take;
        if self.raw_len < HEAD {
            return take;
        }
        self.raw_len = 0;
        self.head = FrameHead::parse(&self.raw_head);
        let block = self.block.as_ref().map(|block| block.stream);
        if !self.head.valid(block) || first && !self.head.opens() {
            self.lose(ts, parts);
            return bytes.len();
        }
        self.left = self.head.length;
        self.data_left = self.head.length;
        self.damaged = false;
        self.payload.clear();
        self.state = State::Payload;
        if self.left == 0 {
            self.end_frame(ts, parts);
        }
        take
    }

    fn take_payload(&mut self, ts: Timestamp, bytes: &[u8], parts: &mut Vec<(Timestamp, Part)>) -> usize {
        let take = bytes.len().min(self.left as usize);
        let bytes = &bytes[..take];
        let at_start = self.left == self.head.length;
        self.left -= take as u32;
        match self.head.kind {
            kind::DATA => self.take_data(ts, bytes, at_start, parts),
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                if self.payload.len() + bytes.len() > MAX_BLOCK {
                    self.damaged = true;
                } else if !self.damaged {
                    self.payload.extend_from_slice(bytes);
                }
            }
            kind::SETTINGS | kind::GOAWAY => {
                let room = MAX_CONTROL.saturating_sub(self.payload.len());
                self.payload.extend_from_slice(&bytes[..take.min(room)]);
            }
            _ => {}
        }
        if self.state == State::Payload && self.left == 0 {
            self.end_frame(ts, parts);
        }
        take
    }

    /// Passes on what is no padding.
    fn take_data(&mut self, ts: Timestamp, bytes: &[u8], at_start: bool, parts: &mut Vec<(Timestamp, Part)>) {
        let mut bytes = bytes;
        if at_start
            && self.head.has(flag::PADDED)
            && let Some((padding, rest)) = bytes.split_first()
        {
            let Some(data) = (self.head.length - 1).checked_sub(u32::from(*padding)) else {
                // It is longer than the frame. What is left of the piece is not looked at.
                self.lose(ts, parts);
                return;
            };
            self.data_left = data;
            bytes = rest;
        }
        let data = &bytes[..bytes.len().min(self.data_left as usize)];
        self.data_left -= data.len() as u32;
        if !data.is_empty() {
            parts.push((ts, Part::Data { stream: self.head.stream, bytes: data.to_vec() }));
        }
    }

    fn end_frame(&mut self, ts: Timestamp, parts: &mut Vec<(Timestamp, Part)>) {
        self.state = State::Head(false);
        let (head, stream) = (self.head, self.head.stream);
        match head.kind {
            kind::DATA if head.has(flag::END_STREAM) => parts.push((ts, Part::EndStream { stream })),
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => self.end_of_headers(ts, parts),
            kind::RST_STREAM => parts.push((ts, Part::Reset { stream })),
            kind::GOAWAY if !self.damaged => {
                let last = self.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff);
                parts.extend(last.map(|last| (ts, Part::GoAway { last })));
            }
            kind::SETTINGS if !self.damaged => {
                for setting in self.payload.chunks_exact(6) {
                    let Some((name, size)) = setting.split_first_chunk() else { continue };
                    let size = size.first_chunk().map(|size| u32::from_be_bytes(*size));
                    let size = size.filter(|_| u16::from_be_bytes(*name) == SETTINGS_HEADER_TABLE_SIZE);
                    parts.extend(size.map(|size| (ts, Part::TableSize(size))));
                }
            }
            _ => {}
        }
        self.payload = Vec::new();
    }

    /// A frame of a header block is whole.
    fn end_of_headers(&mut self, ts: Timestamp, parts: &mut Vec<(Timestamp, Part)>) {
        let fragment = self.fragment();
        let head = self.head;
        let mut block = self.block.take().unwrap_or_else(|| Block {
            stream: head.stream,
            bytes: Vec::new(),
            ts: self.head_ts,
            end_stream: head.kind == kind::HEADERS && head.has(flag::END_STREAM),
            promised: head.kind == kind::PUSH_PROMISE,
            damaged: false,
        });
        match fragment {
            Some(fragment) if block.bytes.len() + fragment.len() <= MAX_BLOCK => {
                block.bytes.extend_from_slice(&self.payload[fragment]);
            }
            _ => block.damaged = true,
        }
        if !head.has(flag::END_HEADERS) {
            self.block = Some(block);
            return;
        }
        let Block { stream, bytes, ts: started, end_stream, promised, damaged } = block;
        parts.push((
            ts,
            if damaged {
                Part::LostBlock { stream, end_stream }
            } else {
                Part::Block { stream, block: bytes, ts: started, end_stream, promised }
            },
        ));
    }

    /// Where in the payload the part of the header block is, without padding, priority and the number of a promised stream.
    fn fragment(&self) -> Option<std::ops::Range<usize>> {
        let (head, payload) = (self.head, &self.payload);
        if self.damaged {
            return None;
        }
        if head.kind == kind::CONTINUATION {
            return Some(0..payload.len());
        }
        let padded = head.has(flag::PADDED);
        let padding = if padded { usize::from(*payload.first()?) } else { 0 };
        let skipped = match head.kind {
            kind::PUSH_PROMISE => 4,
            _ if head.has(flag::PRIORITY) => 5,
            _ => 0,
        };
        let range = usize::from(padded) + skipped..payload.len().checked_sub(padding)?;
        (range.start <= range.end).then_some(range)
    }
}
