//! Messages of JSON-RPC 2.0 (jsonrpc.org/specification), alone or in batches.

use crate::message::Head;
use crate::names;
use crate::values;
use memchr::memmem;
use serde_json::Value;

/// Whether a request over HTTP may carry messages: clients of MCP say that they take either kind of answer, or name its version or
/// their session.
pub(crate) fn may_be_posted(head: &Head) -> bool {
    let has = |name: &str, what: &str| head.field(name).is_some_and(|value| value.contains(what));
    let named = || ["mcp-session-id", "mcp-protocol-version"].iter().any(|name| head.field(name).is_some());
    let json = head.method == "POST" && has("content-type", "application/json");
    json && (has("accept", "text/event-stream") || named())
}

/// What names a request: a number and a text are never the same. A text that is very long is shortened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Id {
    Number(String),
    Text(String),
}

impl Id {
    pub fn of(value: &Value) -> Option<Id> {
        match value {
            Value::Number(number) => Some(Id::Number(number.to_string())),
            Value::String(text) => Some(Id::Text(names::brief(text))),
            _ => None,
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Id::Number(text) | Id::Text(text) => text,
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Request {
        id: Id,
        method: String,
        params: Option<Value>,
    },
    Notification {
        method: String,
        params: Option<Value>,
    },
    /// The error's object, if it is one.
    Response {
        id: Id,
        result: Result<Value, Value>,
    },
}

impl Message {
    fn of(mut json: Value) -> Option<Message> {
        if json.get("jsonrpc")?.as_str() != Some("2.0") {
            return None;
        }
        let id = json.get("id").and_then(Id::of);
        let mut take = |name: &str| json.get_mut(name).map(Value::take);
        if let Some(Value::String(method)) = take("method") {
            let params = take("params").filter(|params| !params.is_null());
            return Some(match id {
                Some(id) => Message::Request { id, method, params },
                None => Message::Notification { method, params },
            });
        }
        let error = take("error").filter(|error| !error.is_null());
        let result = error.map(Err).or_else(|| take("result").map(Ok))?;
        Some(Message::Response { id: id?, result })
    }

    /// What a request is named by.
    pub fn request_id(&self) -> Option<&Id> {
        if let Message::Request { id, .. } = self { Some(id) } else { None }
    }
}

/// The messages of a line, a body or an event; none if it is anything else.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Message> {
    if memmem::find(bytes, b"\"jsonrpc\"").is_none() {
        return Vec::new();
    }
    match values::parse(bytes) {
        Some(Value::Array(batch)) => batch.into_iter().filter_map(Message::of).collect(),
        Some(json) => Message::of(json).into_iter().collect(),
        None => Vec::new(),
    }
}

/// JSON as a text that is the same for equal values: without spaces, keys sorted.
pub(crate) fn canonical(json: &Value) -> String {
    let mut sorted = json.clone();
    sorted.sort_all_objects();
    sorted.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_is_known_and_nothing_else() {
        let kinds = |text: &str| -> Vec<&str> {
            let kind = |message| match message {
                Message::Request { .. } => "request",
                Message::Notification { .. } => "notification",
                Message::Response { result: Ok(_), .. } => "result",
                Message::Response { result: Err(_), .. } => "error",
            };
            messages(text.as_bytes()).into_iter().map(kind).collect()
        };
        assert_eq!(kinds(r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#), ["request"]);
        assert_eq!(kinds(r#"{"jsonrpc":"2.0","method":"a","params":{}}"#), ["notification"]);
        assert_eq!(kinds(r#"{"result":null,"jsonrpc":"2.0","id":"x"}"#), ["result"]);
        assert_eq!(kinds(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1},"result":null}"#), ["error"]);
        assert_eq!(kinds(r#"[{"jsonrpc":"2.0","id":1,"result":{}},7,{"jsonrpc":"2.0","method":"b"}]"#).len(), 2);
        for other in [r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, r#"{"id":1,"method":"a"}"#, r#""jsonrpc""#, "x"] {
            assert!(kinds(other).is_empty(), "{other}");
        }
        assert!(kinds(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}"#).is_empty());
    }

    #[test]
    fn a_number_is_no_text() {
        assert_ne!(Id::of(&Value::from(1)), Id::of(&Value::from("1")));
    }

    #[test]
    fn equal_values_have_one_text() {
        let text = |text: &str| canonical(&serde_json::from_str(text).unwrap());
        assert_eq!(text(r#"{"b": [{"z":1, "y":2}], "a": "x"}"#), text(r#"{"a":"x","b":[{"y":2,"z":1}]}"#));
    }
}
