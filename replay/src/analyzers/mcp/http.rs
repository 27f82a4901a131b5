//! MCP over HTTP: what is posted goes to the server, what comes back whole or as events is of the server.
//!
//! Streamable HTTP answers a request where it was posted, or in another stream of the same `Mcp-Session-Id`. Before it, there was
//! HTTP with SSE: a stream whose first event, `endpoint`, says where to post, and which has all answers. Where a server and its
//! client are both recorded, an exchange is seen at either end: the first counts.

use super::methods::{Side, sender};
use super::sessions::{Key, Place, Sessions};
use crate::analyzers::Rows;
use crate::bounded::Bounded;
use crate::jsonrpc::{self, Message};
use crate::names;
use crate::signals::{Ends, McpServing, Posted};
use crate::table::Timestamp;
use crate::tables::{self, StreamEvent};
use crate::values;

/// Connections whose ends are remembered.
const MAX_CONNECTIONS: usize = 65_536;

/// Events of one exchange that are kept, in bytes of memory.
const MAX_EVENTS: usize = 64 << 20;

/// What a stream said.
enum Said {
    Endpoint(String),
    Messages(Timestamp, Vec<Message>),
}

pub(super) struct Http {
    /// Events of an exchange whose row comes next.
    events: Vec<Said>,
    events_of: i64,
    events_bytes: usize,
    ends: Bounded<i64, Ends>,
    /// Which connection has these ends, its own first.
    by_ends: Bounded<(String, String), i64>,
    /// Of two connections that are one: the one whose rows count.
    counting: Bounded<(i64, i64), i64>,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            events: Vec::new(),
            events_of: 0,
            events_bytes: 0,
            ends: Bounded::new(MAX_CONNECTIONS),
            by_ends: Bounded::new(MAX_CONNECTIONS),
            counting: Bounded::new(MAX_CONNECTIONS),
        }
    }
}

impl Http {
    pub fn ends(&mut self, ends: &Ends) {
        self.by_ends.insert((ends.local.clone(), ends.peer.clone()), ends.conn_id);
        self.ends.insert(ends.conn_id, ends.clone());
    }

    /// Takes an event; the row of its exchange comes after the last.
    pub fn event(&mut self, event: &StreamEvent) {
        if event.framing != "sse" {
            return;
        }
        if self.events_of != event.http_id {
            self.events_of = event.http_id;
            self.events.clear();
            self.events_bytes = 0;
        }
        if event.event.as_deref() == Some("endpoint") {
            // The first counts.
            if !matches!(self.events.first(), Some(Said::Endpoint(_))) {
                self.events.insert(0, Said::Endpoint(event.data.clone()));
            }
        } else if self.events_bytes < MAX_EVENTS {
            let messages = jsonrpc::messages(event.data.as_bytes());
            if !messages.is_empty() {
                self.events_bytes += event.data.len() + values::cost(event.data.as_bytes());
                self.events.push(Said::Messages(event.ts, messages));
            }
        }
    }

    /// Takes an exchange.
    pub fn exchange(&mut self, http: &tables::Http, sessions: &mut Sessions, out: &mut Rows<'_>) {
        let events = if self.events_of == http.http_id { std::mem::take(&mut self.events) } else { Vec::new() };
        let posted = match &http.request_body {
            Some(body) if http.method.as_deref() == Some("POST") => jsonrpc::messages(body),
            _ => Vec::new(),
        };
        let mut said = Vec::new();
        let mut endpoint = None;
        for event in events {
            match event {
                Said::Endpoint(at) => endpoint = endpoint.or(Some(at)),
                Said::Messages(ts, messages) => said.extend(messages.into_iter().map(|message| (ts, message))),
            }
        }
        let end = http.end_ts.or(http.response_ts).or(http.request_ts).unwrap_or_default();
        if said.is_empty() && !posted.is_empty() {
            let body = http.response_body.as_deref().unwrap_or_default();
            said.extend(jsonrpc::messages(body).into_iter().map(|message| (end, message)));
        }
        if posted.is_empty() && said.is_empty() {
            return;
        }
        let exchange = Exchange::new(http, endpoint, self.processes(http.conn_id, http.proc_id));
        if exchange.is_mcp(&posted, &said, sessions) && self.counts(http.conn_id) {
            exchange.take(posted, (said, end), sessions, out);
        }
    }

    /// The server that begins to work on a request, if it is recorded.
    pub fn posted(&self, posted: &Posted) -> Option<McpServing> {
        let [_, server] = self.processes(posted.conn_id, posted.proc_id);
        Some(McpServing { http_id: posted.http_id, server_proc_id: server? })
    }

    /// The processes of client and server.
    fn processes(&self, conn_id: i64, proc_id: i64) -> [Option<i64>; 2] {
        let ends = self.ends.get(&conn_id);
        let other = ends.and_then(|ends| self.other_end(ends)).map(|other| other.proc_id);
        let this = Some(proc_id);
        if ends.is_some_and(|ends| ends.role == Some("server")) { [other, this] } else { [this, other] }
    }

    fn other_end(&self, ends: &Ends) -> Option<&Ends> {
        self.ends.get(self.by_ends.get(&(ends.peer.clone(), ends.local.clone()))?)
    }

    /// Whether the exchanges of this connection are not told at its other end.
    fn counts(&mut self, conn_id: i64) -> bool {
        let other = self.ends.get(&conn_id).and_then(|ends| self.other_end(ends)).map(|other| other.conn_id);
        let Some(other) = other.filter(|other| *other != conn_id) else { return true };
        let pair = (conn_id.min(other), conn_id.max(other));
        match self.counting.get(&pair) {
            Some(counting) => *counting == conn_id,
            None => {
                self.counting.insert(pair, conn_id);
                true
            }
        }
    }
}

/// An exchange that may carry messages.
struct Exchange<'h> {
    http: &'h tables::Http,
    processes: [Option<i64>; 2],
    fields: Vec<(String, String)>,
    key: Key,
    session_id: Option<String>,
    transport: &'static str,
}

impl<'h> Exchange<'h> {
    fn new(http: &'h tables::Http, endpoint: Option<String>, processes: [Option<i64>; 2]) -> Self {
        let fields_of = |fields: &Option<String>| -> Vec<(String, String)> {
            fields.as_ref().and_then(|fields| serde_json::from_str(fields).ok()).unwrap_or_default()
        };
        let fields = fields_of(&http.request_headers);
        // The answer to `initialize` names the session.
        let session_id = field(&fields, "mcp-session-id")
            .map(names::brief)
            .or_else(|| field(&fields_of(&http.response_headers), "mcp-session-id").map(names::brief));
        let server = http.server_address.as_deref().map(names::brief).unwrap_or_default();
        let path = http.path.as_deref().unwrap_or_default();
        let target = match (&endpoint, &http.query) {
            (Some(endpoint), _) => without_host(endpoint).to_owned(),
            (None, Some(query)) => format!("{path}?{query}"),
            (None, None) => path.to_owned(),
        };
        let key = match &session_id {
            Some(session_id) => Key::Session(server, session_id.clone()),
            None => Key::Url(server, names::brief(&target), processes[0]),
        };
        // Clients of streamable HTTP say that they take either; before it, what was posted was only accepted.
        let streams = field(&fields, "accept").is_some_and(|accept| accept.contains("text/event-stream"));
        let old = endpoint.is_some() || session_id.is_none() && http.status_code == Some(202) && !streams;
        Exchange { http, processes, fields, key, session_id, transport: if old { "sse" } else { "http" } }
    }

    /// Other things are JSON-RPC over HTTP, too.
    fn is_mcp(&self, posted: &[Message], said: &[(Timestamp, Message)], sessions: &Sessions) -> bool {
        let shown = ["mcp-session-id", "mcp-protocol-version", "mcp-method"];
        shown.iter().any(|name| field(&self.fields, name).is_some())
            || self.session_id.is_some()
            || sessions.get(&self.key).is_some()
            || posted.iter().any(|message| sender(message) == Some(Side::Client))
            || said.iter().any(|(_, message)| sender(message) == Some(Side::Server))
    }

    fn take(
        self,
        posted: Vec<Message>,
        (said, end): (Vec<(Timestamp, Message)>, Timestamp),
        sessions: &mut Sessions,
        out: &mut Rows<'_>,
    ) {
        let (http, key) = (self.http, &self.key);
        let session = sessions.session(key);
        if session.transport != "sse" {
            session.transport = self.transport;
        }
        session.client = session.client.or(self.processes[0]);
        session.server = session.server.or(self.processes[1]);
        session.session_id = self.session_id;
        if let Some(version) = field(&self.fields, "mcp-protocol-version") {
            session.protocol_version.get_or_insert_with(|| names::brief(version));
        }
        let whole = |bytes: i64, body: &Option<Vec<u8>>| {
            let all_there = body.as_ref().is_some_and(|body| body.len() as i64 == bytes);
            all_there || matches!(http.body_state, "complete" | "unknown_fields")
        };
        let ids: Vec<_> = posted.iter().filter_map(Message::request_id).cloned().collect();
        let ts = http.request_ts.unwrap_or(end);
        let place = |ts, whole| Place { ts, http_id: Some(http.http_id), whole };
        let asked = place(ts, whole(http.request_bytes, &http.request_body));
        for message in posted {
            sessions.message(key, Side::Client, message, asked, out);
        }
        // An event is whole, or there is none.
        let streamed = http.response_content_type.as_deref().is_some_and(|name| name.starts_with("text/event-stream"));
        let answered = streamed || whole(http.response_bytes, &http.response_body);
        for (ts, message) in said {
            sessions.message(key, Side::Server, message, place(ts, answered), out);
        }
        if http.status_code.is_some_and(|status| status >= 400) {
            sessions.refused(key, ids, end, out);
        }
        if matches!(http.body_state, "gap" | "too_large" | "undecodable") {
            sessions.lost(key, Side::Server);
        }
    }
}

fn field<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Path and query of a URI that may be whole.
fn without_host(uri: &str) -> &str {
    match uri.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => uri,
    }
}
