//! What is said to a model and by it, in one shape for every API: messages of parts. Requests and answers are taken apart once,
//! here; tool calls, their results and the text of an answer are parts like any other.

use super::canonical::{self, Hash};
use super::{content_text, text};
use crate::table::Timestamp;
use serde_json::Value;
use std::cell::OnceCell;
use std::ops::Deref;

/// Who says a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    #[default]
    User,
    Assistant,
    Tool,
}

impl Role {
    /// By the name that an API gives it; `developer` is OpenAI's newer word for the system, `model` is Gemini's for itself.
    pub fn of(name: &str) -> Role {
        match name {
            "system" | "developer" => Role::System,
            "assistant" | "model" => Role::Assistant,
            "tool" | "function" => Role::Tool,
            _ => Role::User,
        }
    }
}

/// One message: an instruction, a prompt, an answer, or results of tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
}

/// A message as it was said: it changes no more, and the hash of what it says is made once, however often it is sent again.
#[derive(Debug)]
pub(crate) struct Said {
    message: Message,
    content: OnceCell<Option<Hash>>,
}

impl Said {
    pub fn new(message: Message) -> Self {
        Said { message, content: OnceCell::new() }
    }

    /// What it says; nothing if it says nothing.
    pub fn content(&self) -> Option<Hash> {
        *self.content.get_or_init(|| canonical::content(&self.message))
    }
}

impl Deref for Said {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// What a part of a message is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    /// What the model thought, as far as the provider shows it.
    Reasoning(String),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
    /// An image, a document, or whatever an API may have besides, as it stands there: its type, and its JSON.
    Other {
        kind: String,
        payload: Value,
    },
}

/// A tool call that a model asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ToolCall {
    pub id: Option<String>,
    /// Where the API gives no ids: what [`super::unnamed`] gives instead.
    pub key: Option<String>,
    pub name: Option<String>,
    /// JSON, as the model wrote it.
    pub arguments: String,
    /// Whether the provider runs the tool itself.
    pub server: bool,
    /// When the request was whole; for a response that is not streamed, its end.
    pub ts: Option<Timestamp>,
}

/// What came back from a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ToolResult {
    pub id: Option<String>,
    /// As that of the call.
    pub key: Option<String>,
    /// Of the tool, where the API tells it.
    pub name: Option<String>,
    /// Text, or the JSON of its parts.
    pub text: String,
    pub is_error: Option<bool>,
    /// Whether the provider ran the tool: the result is in the response.
    pub server: bool,
}

impl Message {
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Message { role, parts }
    }

    /// A message whose content is a text or an array, whose items `part` understands.
    pub fn of_content(role: Role, content: Option<&Value>, part: impl Fn(&Value) -> Option<Part>) -> Self {
        let parts = match content {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items.iter().filter_map(part).collect(),
            Some(other) => vec![Part::Text(content_text(Some(other)))],
        };
        Message { role, parts }
    }

    /// Its text, without what was thought.
    pub fn text(&self) -> String {
        let texts =
            self.parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(&text[..]) } else { None });
        texts.collect()
    }

    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
    }

    pub fn tool_results(&self) -> impl Iterator<Item = &ToolResult> {
        self.parts.iter().filter_map(|part| if let Part::ToolResult(result) = part { Some(result) } else { None })
    }
}

impl Part {
    /// Adds it to others: a piece of a text or of a thought to the one that is being said.
    pub fn add_to(self, parts: &mut Vec<Part>) {
        match (parts.last_mut(), self) {
            (Some(Part::Text(said)), Part::Text(more)) | (Some(Part::Reasoning(said)), Part::Reasoning(more)) => {
                said.push_str(&more);
            }
            (_, part) => parts.push(part),
        }
    }

    /// What no API's file knows better: a text if it has one, else the part as it is.
    pub fn other(item: &Value) -> Part {
        let kind = item.get("type").and_then(text).unwrap_or_default();
        match item.get("text").and_then(text) {
            Some(text) if kind.is_empty() || kind.ends_with("text") => Part::Text(text),
            _ => Part::Other { kind, payload: item.clone() },
        }
    }
}
