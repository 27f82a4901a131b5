//! What client and server say to each other, in whichever way it is carried: requests are paired with their responses.
//!
//! Each side numbers its own requests. Over HTTP a response may be seen before its request: it was posted, and what it answers
//! stands in a stream that is whole only at its end.

use super::methods::{Side, server_named, text, version_asked};
use super::tools::Listed;
use crate::analyzers::Rows;
use crate::bounded::Bounded;
use crate::jsonrpc::{Id, Message, canonical};
use crate::names;
use crate::signals::McpRequested;
use crate::table::Timestamp;
use crate::tables::Mcp;
use crate::values;
use serde_json::Value;

/// Sessions that are remembered, requests that are open at once, and what is held of either in bytes.
const MAX_SESSIONS: usize = 4096;
const MAX_OPEN: usize = 4096;
const MAX_HELD: usize = 64 << 20;

/// Requests that were cancelled, whose responses may still come.
const MAX_CANCELLED: usize = 1024;

/// What names a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The process whose standard streams carry it.
    Stdio(i64),
    /// Server and `Mcp-Session-Id`.
    Session(String, String),
    /// Server, path with query, and the client's process: nothing else names it.
    Url(String, String, Option<i64>),
}

/// What is known of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub transport: &'static str,
    pub client: Option<i64>,
    pub server: Option<i64>,
    pub session_id: Option<String>,
    pub protocol_version: Option<String>,
    server_name: Option<String>,
    /// How often bytes were missing in what each side sends.
    lost: [u64; 2],
}

/// Where a message was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub ts: Timestamp,
    pub http_id: Option<i64>,
    /// Whether all is there of what carried it.
    pub whole: bool,
}

type Asked = (Key, Side, Id);

/// A request that waits for its response.
struct Open {
    asked: Asked,
    row: Mcp,
    /// What was lost of the other side when it was asked.
    lost: u64,
}

/// A response that waits for its request.
struct Early {
    asked: Asked,
    result: Result<Value, Value>,
    place: Place,
    bytes: usize,
}

pub(super) struct Sessions {
    capture_id: String,
    count: i64,
    sessions: Bounded<Key, Session>,
    open: Bounded<Asked, Open>,
    early: Bounded<Asked, Early>,
    cancelled: Bounded<Asked, ()>,
    listed: Listed,
    /// Bytes of the requests and of the responses that wait.
    held: [usize; 2],
}

impl Sessions {
    pub fn new(capture_id: &str) -> Self {
        Sessions {
            capture_id: capture_id.to_owned(),
            count: 0,
            sessions: Bounded::new(MAX_SESSIONS),
            open: Bounded::new(MAX_OPEN),
            early: Bounded::new(MAX_OPEN),
            cancelled: Bounded::new(MAX_CANCELLED),
            listed: Listed::default(),
            held: [0; 2],
        }
    }

    /// The session of this name, if it is known.
    pub fn get(&self, key: &Key) -> Option<&Session> {
        self.sessions.get(key)
    }

    /// The session of this name; a new one if there was none.
    pub fn session(&mut self, key: &Key) -> &mut Session {
        self.sessions.get_or_default(key)
    }

    /// Bytes of what this side sends are missing.
    pub fn lost(&mut self, key: &Key, side: Side) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.lost[side.index()] += 1;
        }
    }

    /// Takes a message that this side sent.
    pub fn message(&mut self, key: &Key, from: Side, message: Message, place: Place, out: &mut Rows<'_>) {
        match message {
            Message::Request { id, method, params } => self.request(key, from, (id, method, params), place, out),
            Message::Notification { method, params } => {
                if method == "notifications/cancelled" {
                    self.cancel(key, from, params.as_ref(), place, out);
                }
                let row = self.row(key, from, ("notification", Some(&method)), params.as_ref(), place);
                out(&row);
            }
            Message::Response { id, result } => self.response((key.clone(), from.other(), id), result, place, out),
        }
    }

    /// HTTP has refused what carried these requests: no response comes.
    pub fn refused(&mut self, key: &Key, ids: Vec<Id>, ts: Timestamp, out: &mut Rows<'_>) {
        for id in ids {
            let asked = (key.clone(), Side::Client, id);
            if let Some(mut open) = self.take(&asked) {
                open.row.is_error = Some(true);
                self.close(open, "http_error", Some(ts), out);
            }
        }
    }

    /// The capture ends: what is open stays so.
    pub fn finish(&mut self, out: &mut Rows<'_>) {
        while let Some(open) = self.open.pop_first() {
            self.close(open, "capture_end", None, out);
        }
        while let Some(early) = self.early.pop_first() {
            self.orphan(&early.asked, &early.result, early.place, out);
        }
    }

    fn request(
        &mut self,
        key: &Key,
        from: Side,
        (id, method, params): (Id, String, Option<Value>),
        place: Place,
        out: &mut Rows<'_>,
    ) {
        let session = self.session(key);
        if method == "initialize" {
            (session.server_name, session.protocol_version) = (None, None);
        }
        let asked_for = params.as_ref().and_then(version_asked).map(|version| names::brief(&version));
        session.protocol_version = session.protocol_version.take().or(asked_for);
        let lost = session.lost[from.other().index()];
        let mut row = self.row(key, from, ("request", Some(&method)), params.as_ref(), place);
        row.request_id = Some(id.text().to_owned());
        if from == Side::Client {
            out(&requested(&row, params.as_ref()));
        }
        let asked = (key.clone(), from, id);
        self.cancelled.remove(&asked);
        if let Some(old) = self.take(&asked) {
            // The number is used again: the older request is not waited for any more.
            self.close(old, "capture_end", None, out);
        }
        let open = Open { asked: asked.clone(), row, lost };
        if let Some(early) = self.take_early(&asked) {
            return self.answer(open, early.result, early.place, out);
        }
        self.held[0] += bytes_of(&open.row);
        let mut oldest = self.open.insert(asked, open);
        while let Some(open) = oldest.or_else(|| if self.held[0] > MAX_HELD { self.open.pop_first() } else { None }) {
            self.held[0] = self.held[0].saturating_sub(bytes_of(&open.row));
            self.close(open, "limit", None, out);
            oldest = None;
        }
    }

    fn response(&mut self, asked: Asked, result: Result<Value, Value>, place: Place, out: &mut Rows<'_>) {
        if let Some(open) = self.take(&asked) {
            return self.answer(open, result, place, out);
        }
        if self.cancelled.remove(&asked).is_some() {
            return;
        }
        if place.http_id.is_none() {
            return self.orphan(&asked, &result, place, out);
        }
        if let Some(old) = self.take_early(&asked) {
            self.orphan(&asked, &old.result, old.place, out);
        }
        let (Ok(json) | Err(json)) = &result;
        let text = json.to_string();
        let bytes = text.len() + values::cost(text.as_bytes());
        self.held[1] += bytes;
        let mut oldest = self.early.insert(asked.clone(), Early { asked, result, place, bytes });
        while let Some(early) = oldest.or_else(|| if self.held[1] > MAX_HELD { self.early.pop_first() } else { None }) {
            self.held[1] = self.held[1].saturating_sub(early.bytes);
            self.orphan(&early.asked, &early.result, early.place, out);
            oldest = None;
        }
    }

    fn take_early(&mut self, asked: &Asked) -> Option<Early> {
        let early = self.early.remove(asked)?;
        self.held[1] = self.held[1].saturating_sub(early.bytes);
        Some(early)
    }

    fn take(&mut self, asked: &Asked) -> Option<Open> {
        let open = self.open.remove(asked)?;
        self.held[0] = self.held[0].saturating_sub(bytes_of(&open.row));
        Some(open)
    }

    fn cancel(&mut self, key: &Key, from: Side, params: Option<&Value>, place: Place, out: &mut Rows<'_>) {
        let Some(id) = params.and_then(|params| Id::of(params.get("requestId")?)) else { return };
        let asked = (key.clone(), from, id);
        if let Some(open) = self.take(&asked) {
            self.close(open, "cancelled", Some(place.ts), out);
            self.cancelled.insert(asked, ());
        }
    }

    /// A request has its response.
    fn answer(&mut self, mut open: Open, result: Result<Value, Value>, place: Place, out: &mut Rows<'_>) {
        let row = &mut open.row;
        row.complete &= place.whole;
        fill(row, &result);
        if let (Ok(result), (key, Side::Client, _)) = (&result, &open.asked) {
            let session = self.sessions.get_or_default(key);
            session.server_name = server_named(result).map(|name| names::brief(&name)).or(session.server_name.take());
            if row.method.as_deref() == Some("initialize") {
                let agreed = result.get("protocolVersion").and_then(text);
                session.protocol_version =
                    agreed.map(|version| names::brief(&version)).or(session.protocol_version.take());
            }
            if row.method.as_deref() == Some("tools/list") && row.complete {
                let of = (&*self.capture_id, row.mcp_id, place.ts);
                let tools = result.get("tools").and_then(Value::as_array);
                tools.into_iter().flatten().for_each(|tool| self.listed.take(of, &session.server_name, tool, out));
            }
        }
        // A response settles what may have been lost before it.
        open.lost = self.lost_of(&open.asked);
        self.close(open, "response", Some(place.ts), out);
    }

    /// A response whose request nobody has seen.
    fn orphan(&mut self, asked: &Asked, result: &Result<Value, Value>, place: Place, out: &mut Rows<'_>) {
        let (key, asker, id) = asked;
        let mut row = self.row(key, asker.other(), ("response", None), None, place);
        row.request_id = Some(id.text().to_owned());
        row.complete = false;
        fill(&mut row, result);
        out(&row);
    }

    fn close(&mut self, open: Open, end_reason: &'static str, end: Option<Timestamp>, out: &mut Rows<'_>) {
        let lost = self.lost_of(&open.asked);
        let mut row = open.row;
        row.complete &= open.lost == lost;
        row.end_reason = Some(end_reason);
        row.end_ts = end;
        row.duration_ns = end.map(|end| end.0.saturating_sub(row.start_ts.0));
        if let Some(session) = self.sessions.get(&open.asked.0) {
            describe(&mut row, session);
        }
        out(&row);
    }

    /// What has been lost of the side that is to answer.
    fn lost_of(&self, (key, asker, _): &Asked) -> u64 {
        self.sessions.get(key).map_or(0, |session| session.lost[asker.other().index()])
    }

    /// A row of what this side sends.
    fn row(
        &mut self,
        key: &Key,
        from: Side,
        (kind, method): (&'static str, Option<&str>),
        params: Option<&Value>,
        place: Place,
    ) -> Mcp {
        self.count += 1;
        let param = |name: &str| params.and_then(|params| text(params.get(name)?));
        let of_resource = method.is_some_and(|method| method.contains("resources/"));
        let mut row = Mcp {
            capture_id: self.capture_id.clone(),
            mcp_id: self.count,
            http_id: place.http_id,
            direction: if from == Side::Client { "client_to_server" } else { "server_to_client" },
            kind,
            method: method.map(str::to_owned),
            tool_name: param("name").filter(|_| method == Some("tools/call")),
            resource_uri: param("uri").filter(|_| of_resource),
            params: params.map(Value::to_string),
            start_ts: place.ts,
            complete: place.whole,
            ..Mcp::default()
        };
        describe(&mut row, self.session(key));
        row
    }
}

/// Says what is known of the session.
fn describe(row: &mut Mcp, session: &Session) {
    row.transport = session.transport;
    row.client_proc_id = session.client;
    row.server_proc_id = session.server;
    row.server_name = session.server_name.clone();
    row.protocol_version = session.protocol_version.clone();
    row.session_id = session.session_id.clone();
}

/// Says what came back.
fn fill(row: &mut Mcp, result: &Result<Value, Value>) {
    let (Ok(json) | Err(json)) = result;
    row.result = Some(json.to_string());
    row.is_error = Some(match result {
        Ok(json) => json.get("isError").and_then(Value::as_bool).unwrap_or(false),
        Err(_) => true,
    });
    row.error_code = result.as_ref().err().and_then(|error| error.get("code")?.as_i64());
}

fn requested(row: &Mcp, params: Option<&Value>) -> McpRequested {
    McpRequested {
        mcp_id: row.mcp_id,
        transport: row.transport,
        client_proc_id: row.client_proc_id,
        server_proc_id: row.server_proc_id,
        server_name: row.server_name.clone(),
        method: row.method.clone().unwrap_or_default(),
        tool_name: row.tool_name.clone(),
        arguments: params.and_then(|params| params.get("arguments")).map(canonical).unwrap_or_default(),
        ts: row.start_ts,
    }
}

fn bytes_of(row: &Mcp) -> usize {
    row.params.as_ref().map_or(0, String::len)
}
