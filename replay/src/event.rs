//! The events of a stream inside an exchange, however they are framed.

use crate::table::Timestamp;

/// How the events of a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Sse,
    WebSocket,
}

impl Framing {
    pub fn name(self) -> &'static str {
        match self {
            Framing::Sse => "sse",
            Framing::WebSocket => "ws",
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// When it was whole on the wire.
    pub ts: Timestamp,
    pub framing: Framing,
    /// Whether the process sent it; else it was received.
    pub sent: bool,
    pub name: Option<String>,
    pub data: String,
}
