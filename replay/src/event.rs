//! The events of a stream inside an exchange, however they are framed.

use crate::table::Timestamp;

/// How the events of a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Sse,
    WebSocket,
    /// A JSON value on each line.
    Ndjson,
    /// Items of a JSON array.
    JsonArray,
    /// Messages of an AWS event stream.
    EventStream,
}

impl Framing {
    pub fn name(self) -> &'static str {
        match self {
            Framing::Sse => "sse",
            Framing::WebSocket => "ws",
            Framing::Ndjson => "ndjson",
            Framing::JsonArray => "json_array",
            Framing::EventStream => "eventstream",
        }
    }

    /// The framing that a media type stands for.
    pub fn of_media_type(media_type: &str) -> Option<Framing> {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match essence.as_str() {
            "text/event-stream" => Framing::Sse,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Framing::Ndjson
            }
            "application/vnd.amazon.eventstream" => Framing::EventStream,
            _ => return None,
        })
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number among those of its exchange, counting what could not be had.
    pub idx: i64,
    /// When it was whole on the wire.
    pub ts: Timestamp,
    pub framing: Framing,
    /// Whether the process sent it; else it was received.
    pub sent: bool,
    pub name: Option<String>,
    pub data: String,
}

impl Event {
    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        size_of::<Event>() + self.name.as_ref().map_or(0, String::len) + self.data.len()
    }
}
