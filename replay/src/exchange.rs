//! A request with its response, whichever version of HTTP carries them: what they have in common from the first head on.

use crate::body::{Body, BodyState};
use crate::event::Event;
use crate::framing::Stream;
use crate::jsonrpc;
use crate::llm;
use crate::memory::{Memory, Share};
use crate::message::Head;
use crate::table::Timestamp;
use std::rc::Rc;

/// Decoded bytes in which events are looked for at once: as many as can be made of them are kept before it is known whether there
/// is room.
const SLICE: usize = 64 << 10;

/// Exchanges that may be open on a connection: no client sends more requests ahead, and servers allow a few hundred streams. Fewer
/// if all connections together hold more than there is room for.
const MAX_OPEN: usize = 1024;
const MAX_OPEN_WITHOUT_ROOM: usize = 4;

/// Longest target of a request that is kept where there is no room for its head.
const MAX_TARGET: usize = 1024;

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection is closed.
    Closed,
    /// The capture ends.
    Capture,
    /// There is no room for more connections.
    Limit,
}

impl End {
    /// What an exchange that was open ends with.
    pub fn of(self, exchange: &Exchange) -> &'static str {
        match (self, &exchange.response) {
            (End::Capture, _) => "capture_end",
            (End::Limit, _) => "limit",
            (End::Closed, None) => "no_response",
            (End::Closed, Some(_)) => "close",
        }
    }
}

/// What an exchange stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request with its response.
    #[default]
    Whole,
    /// One message of a WebSocket, which is its only event.
    Message,
    /// A message of a WebSocket is missing, or all from here on.
    Missing,
    /// The WebSocket ends.
    End,
    /// A request with its response that went over a WebSocket: its messages.
    OverWebSocket,
}

/// A request with its response, as far as they were seen.
pub(crate) struct Exchange {
    pub kind: Kind,
    pub http_id: i64,
    /// Number on the connection, from 1; of HTTP/2, that of its stream.
    pub stream_id: i64,
    /// Messages of a WebSocket share those of the exchange that agreed on it.
    pub request: Option<Rc<Head>>,
    pub response: Option<Rc<Head>>,
    pub request_body: Body,
    pub response_body: Body,
    pub request_done: bool,
    pub response_done: bool,
    /// Last byte of the response.
    pub end_ts: Option<Timestamp>,
    /// The server, as its connection has it, where the request does not say.
    pub server_name: Option<String>,
    pub end_reason: &'static str,
    /// The exchange that this one repeats, and how many tries there were, this one included.
    pub retry_of: Option<i64>,
    pub attempt: i64,
    /// The events of a streamed response.
    pub events: Vec<Event>,
    stream: Stream,
    /// Bytes of its heads and events, and of itself.
    beside: usize,
    memory: Share,
}

impl Exchange {
    fn new(http_id: i64, stream_id: i64, memory: Share) -> Self {
        Exchange {
            kind: Kind::Whole,
            http_id,
            stream_id,
            request: None,
            response: None,
            request_body: Body::new(None),
            response_body: Body::new(None),
            request_done: false,
            response_done: false,
            end_ts: None,
            server_name: None,
            end_reason: "capture_end",
            retry_of: None,
            attempt: 1,
            events: Vec::new(),
            stream: Stream::none(),
            beside: size_of::<Exchange>(),
            memory,
        }
    }

    /// A part of an exchange that goes on and on.
    pub fn piece(http_id: i64, kind: Kind, memory: Share) -> Self {
        Exchange { kind, request_done: true, response_done: true, ..Exchange::new(http_id, 1, memory) }
    }

    /// The piece as the start of a request with its response.
    pub fn into_call(self) -> Self {
        let heads = [&self.request, &self.response].into_iter().flatten().map(|head| head.size());
        let beside = self.beside + heads.sum::<usize>();
        Exchange { kind: Kind::OverWebSocket, end_ts: None, end_reason: "response", beside, ..self }
    }

    /// Another share of the memory that it takes part in.
    pub fn memory(&self) -> Share {
        self.memory.other()
    }

    /// Whether there is room for what it holds now.
    fn fits(&mut self) -> bool {
        self.memory.hold(self.bodies() + self.stream.held() + self.beside)
    }

    fn bodies(&self) -> usize {
        self.request_body.held() + self.response_body.held()
    }

    /// The head, without its fields (and a target that is longer than one is) if there is no room for them.
    fn within(&mut self, mut head: Head) -> Rc<Head> {
        self.beside += head.size();
        if !self.fits() {
            self.beside -= head.size();
            let fields = u32::try_from(head.fields.len()).unwrap_or(u32::MAX);
            head.unknown_fields = head.unknown_fields.saturating_add(fields);
            head.fields = Vec::new();
            if head.target.len() > MAX_TARGET {
                head.target = String::new();
            }
            self.beside += head.size();
            self.fits();
        }
        Rc::new(head)
    }

    /// Adds an event, if there is room for it.
    pub fn add(&mut self, event: Event) {
        self.beside += event.size();
        if self.fits() {
            self.events.push(event);
        } else {
            self.beside -= event.size();
            self.response_body.fail(BodyState::TooLarge);
            self.fits();
        }
    }

    /// What is wrong with its bodies, the request's first; then, with its heads. A request that was not seen is missing whole.
    pub fn body_state(&self) -> BodyState {
        if self.request.is_none() && self.response.is_some() {
            return BodyState::Gap;
        }
        let unknown = [&self.request, &self.response].into_iter().flatten().any(|head| head.unknown_fields > 0);
        let states = [self.request_body.state, self.response_body.state];
        let wrong = states.into_iter().find(|state| *state != BodyState::Complete);
        wrong.unwrap_or(if unknown { BodyState::UnknownFields } else { BodyState::Complete })
    }

    /// Whether every byte of request and response was there and could be decoded.
    pub fn complete(&self) -> bool {
        self.request.is_some() && self.response.is_some() && self.body_state() == BodyState::Complete
    }

    pub fn take_request_body(&mut self, bytes: &[u8], keep: bool) {
        let before = self.request_body.data.len();
        self.request_body.push(bytes);
        if !keep {
            self.request_body.data.clear();
        }
        if !self.fits() {
            self.request_body.give_up(before);
            self.fits();
        }
    }

    pub fn begin_request(&mut self, head: Head, context: &mut Context<'_>) {
        if llm::may_ask(&head) {
            context.asking.push((self.http_id, context.proc_id));
        }
        if jsonrpc::may_be_posted(&head) {
            context.posted.push((self.http_id, context.proc_id));
        }
        self.request_body = body(&head);
        self.request = Some(self.within(head));
    }

    pub fn begin_response(&mut self, head: Head) {
        self.response_body = body(&head);
        self.stream = Stream::of(self.request.as_deref(), &head);
        self.response = Some(self.within(head));
    }

    /// Whether the response is a stream of events.
    pub fn is_event_stream(&self) -> bool {
        self.kind == Kind::OverWebSocket || self.stream.is_sure()
    }

    pub fn take_response_body(&mut self, ts: Timestamp, bytes: &[u8], keep: bool) {
        self.end_ts = Some(ts);
        let before = self.response_body.data.len();
        self.response_body.push(bytes);
        let (events, beside) = (self.events.len(), self.beside);
        let all_seen = self.look_for_events(ts, before);
        if !keep {
            self.response_body.data.clear();
        }
        if !self.fits() || !all_seen {
            self.response_body.give_up(before);
            self.events.truncate(events);
            self.stream.gap();
            self.beside = beside;
            self.fits();
        }
    }

    /// Looks for events in what the response decodes to from an offset on. Returns whether there is room for them.
    fn look_for_events(&mut self, ts: Timestamp, from: usize) -> bool {
        let bodies = self.bodies();
        let decoded = self.response_body.data.get(from..).unwrap_or_default();
        for piece in decoded.chunks(SLICE) {
            let known = self.events.len();
            self.stream.push(ts, piece, &mut self.events);
            self.beside += self.events.get(known..).unwrap_or_default().iter().map(Event::size).sum::<usize>();
            if !self.memory.hold(bodies + self.stream.held() + self.beside) {
                return false;
            }
        }
        true
    }

    /// Bytes of the response are missing.
    pub fn response_gap(&mut self, len: u64) {
        self.response_body.gap(len);
        self.stream.gap();
    }

    /// Nothing more comes: what is open is cut.
    pub fn break_off(&mut self, end_reason: &'static str) {
        self.end_reason = end_reason;
        if !self.request_done {
            self.request_body.fail(BodyState::Cut);
        }
        if !self.response_done && self.response.is_some() {
            self.response_body.fail(BodyState::Cut);
        }
    }

    /// That no answer was seen means that none came, unless records are missing since the request.
    pub fn unanswered(&mut self, missing_since: impl FnOnce(Timestamp) -> bool) {
        let asked = self.request.as_ref().filter(|_| self.kind == Kind::Whole && self.response.is_none());
        if asked.is_some_and(|request| missing_since(request.ts)) {
            self.response_body.fail(BodyState::Gap);
        }
    }

    pub fn finished(mut self) -> Self {
        self.request_body.finish();
        self.response_body.finish();
        if let (BodyState::Complete, Some(ts)) = (self.response_body.state, self.end_ts) {
            self.stream.finish(ts, &mut self.events);
        }
        if self.stream.damaged() {
            self.response_body.fail(BodyState::Undecodable);
        }
        self
    }
}

/// What a connection has to be told: ids, and whether bodies are of use; and what it tells.
pub(crate) struct Context<'a> {
    pub next_http_id: &'a mut i64,
    pub keep_bodies: bool,
    pub memory: &'a Memory,
    /// The process whose bytes these are.
    pub proc_id: i64,
    /// Exchanges that have begun and may be calls of models, with their process.
    pub asking: Vec<(i64, i64)>,
    /// Those that may carry MCP.
    pub posted: Vec<(i64, i64)>,
}

impl Context<'_> {
    /// How many exchanges may be open on a connection now.
    pub fn most_open(&self) -> usize {
        if self.memory.is_full() { MAX_OPEN_WITHOUT_ROOM } else { MAX_OPEN }
    }

    pub fn exchange(&mut self, stream_id: i64) -> Exchange {
        *self.next_http_id += 1;
        Exchange::new(*self.next_http_id, stream_id, self.memory.share())
    }
}

/// A body, by what its head says of its coding; if that may be among the fields that are unknown, by its first bytes.
fn body(head: &Head) -> Body {
    match head.field("content-encoding") {
        None if head.unknown_fields > 0 => Body::of_unknown_coding(),
        coding => Body::new(coding),
    }
}
