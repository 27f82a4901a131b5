//! Bedrock's Converse: POST /model/ID/converse, answered by one JSON object, or /model/ID/converse-stream, answered by an AWS event
//! stream that ends with `metadata`. An exception may come in place of any event.

use super::message::{Message, Part, Role, ToolCall, ToolResult};
use super::{Answer, Api, Usage, content_text, number, text};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::table::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const API: Api = api! {
    wire_api: "bedrock.converse",
    path: |path| path.contains("/model/") && (path.ends_with("/converse") || path.ends_with("/converse-stream")),
    recognise,
    answers: |event, json| {
        event == Some("messageStart") || json.get("output").is_some() && json.get("stopReason").is_some()
    },
    maker: |_| Some("aws.bedrock"),
    model: |path, _| model(path),
    streams: |path, _| path.ends_with("-stream"),
};

fn recognise(_: &Exchange, request: Option<&Value>) -> bool {
    let of_blocks = |message: &Value| message.get("content").is_some_and(Value::is_array);
    let messages = |json: &Value| Some(json.get("messages")?.as_array()?.iter().all(of_blocks));
    request.is_none_or(|json| json.get("model").is_none() && messages(json).unwrap_or(false))
}

/// The id in the path, which may be an ARN: colons and slashes are mostly escaped.
pub(super) fn model(path: &str) -> Option<String> {
    let (id, _) = path.rsplit_once("/model/")?.1.rsplit_once('/')?;
    Some(unescaped(id)).filter(|id| !id.is_empty())
}

/// A text without the escapes of a URL (RFC 3986, 2.1).
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    out.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let byte = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(b'%'));
        out.extend_from_slice(byte.and(piece.get(2..)).unwrap_or(piece).as_bytes());
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn messages(request: &Value) -> Vec<Message> {
    let system =
        request.get("system").map(|system| Message::of_content(Role::System, Some(system), |item| part(item, None)));
    let said = request.get("messages").and_then(Value::as_array).into_iter().flatten().map(message);
    system.into_iter().filter(|message| !message.parts.is_empty()).chain(said).collect()
}

fn message(message: &Value) -> Message {
    let role = Role::of(message.get("role").and_then(Value::as_str).unwrap_or_default());
    Message::of_content(role, message.get("content"), |item| part(item, None))
}

/// A content block: an object of one field, which says what it is.
fn part(block: &Value, ts: Option<Timestamp>) -> Option<Part> {
    let (kind, value) = block.as_object()?.iter().next()?;
    let field = |name: &str| value.get(name).and_then(text);
    Some(match kind.as_str() {
        "text" => Part::Text(text(value)?),
        "reasoningContent" => Part::Reasoning(text(value.get("reasoningText")?.get("text")?)?),
        "toolUse" => Part::ToolCall(ToolCall {
            id: field("toolUseId"),
            name: field("name"),
            arguments: value.get("input").map_or_else(|| "{}".to_owned(), Value::to_string),
            server: is_of_server(value),
            ts,
            ..ToolCall::default()
        }),
        "toolResult" => Part::ToolResult(ToolResult {
            id: field("toolUseId"),
            text: result(value.get("content")),
            is_error: value.get("status").map(|status| status == "error"),
            server: is_of_server(value),
            ..ToolResult::default()
        }),
        "cachePoint" => return None,
        _ => Part::Other { kind: kind.clone(), payload: block.clone() },
    })
}

/// Whether a call or its result is of a tool that Bedrock runs itself.
fn is_of_server(value: &Value) -> bool {
    value
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.starts_with("server_tool") || kind.ends_with("_search_result"))
}

/// A result that is a text or JSON as that, else the JSON of its parts.
fn result(content: Option<&Value>) -> String {
    let only = match content.and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("text").or_else(|| only.get("json")),
        _ => None,
    };
    content_text(only.or(content))
}

pub(super) fn whole(json: &Value) -> Answer {
    let said = json.get("output").and_then(|output| output.get("message"));
    let mut answer = Answer { parts: said.map(|said| message(said).parts).unwrap_or_default(), ..Answer::default() };
    take_end(&mut answer, json);
    answer
}

/// What says how an answer ended and what it took: a whole answer, or the last events of a stream.
fn take_end(answer: &mut Answer, json: &Value) {
    answer.finish_reason_raw = json.get("stopReason").and_then(text).or(answer.finish_reason_raw.take());
    if let Some(usage) = json.get("usage") {
        answer.add_usage(usage);
        answer.usage_is_final = true;
    }
    // The one that a prompt router chose.
    let invoked = json.pointer("/trace/promptRouter/invokedModelId").and_then(text);
    answer.response_model = invoked.or(answer.response_model.take());
}

/// A content block on its way: how it started, and what came in pieces.
#[derive(Default)]
struct Block {
    start: Value,
    text: String,
    thought: String,
    input: String,
    done: Option<Timestamp>,
}

impl Block {
    fn take(&mut self, delta: &Value) {
        let piece = |path: &str| delta.pointer(path).and_then(Value::as_str).unwrap_or_default();
        self.text.push_str(piece("/text"));
        self.thought.push_str(piece("/reasoningContent/text"));
        self.input.push_str(piece("/toolUse/input"));
    }

    fn part(self) -> Option<Part> {
        if self.start.get("toolUse").is_none() && self.input.is_empty() {
            let thought = Some(self.thought).filter(|thought| !thought.is_empty()).map(Part::Reasoning);
            return thought
                .or(Some(self.text).filter(|text| !text.is_empty()).map(Part::Text))
                .or_else(|| part(&self.start, self.done));
        }
        // A tool without arguments gets no piece of them; a call that was cut off has none that are whole.
        let none = if self.done.is_some() { "{}" } else { " " };
        let arguments = if self.input.is_empty() { none.to_owned() } else { self.input };
        let call = match part(&self.start, self.done) {
            Some(Part::ToolCall(call)) => call,
            _ => ToolCall { ts: self.done, ..ToolCall::default() },
        };
        Some(Part::ToolCall(ToolCall { arguments, ..call }))
    }
}

pub(super) fn streamed(events: &[Event]) -> Answer {
    let mut answer = Answer::default();
    let mut blocks: BTreeMap<i64, Block> = BTreeMap::new();
    for event in events {
        let Some(json) = answer.read(event) else { continue };
        let index = number(&json, &["contentBlockIndex"]).unwrap_or(0);
        match event.name.as_deref().unwrap_or_default() {
            "messageStart" => {}
            "contentBlockStart" if answer.keeps(event) => {
                blocks.entry(index).or_default().start = json.get("start").cloned().unwrap_or_default()
            }
            "contentBlockDelta" => {
                answer.first_chunk_ts.get_or_insert(event.ts);
                blocks.entry(index).or_default().take(json.get("delta").unwrap_or(&Value::Null));
            }
            "contentBlockStop" => blocks.entry(index).or_default().done = Some(event.ts),
            "messageStop" => take_end(&mut answer, &json),
            "metadata" => {
                take_end(&mut answer, &json);
                answer.ended = true;
            }
            "contentBlockStart" => {}
            name => answer.error_type = exception(name, &json).or(answer.error_type),
        }
    }
    answer.parts = blocks.into_values().filter_map(Block::part).collect();
    answer
}

/// The name of an exception: of those events, only these have a message for people.
pub(super) fn exception(name: &str, json: &Value) -> Option<String> {
    json.get("message").filter(|_| !name.is_empty()).map(|_| name.to_owned())
}

/// `inputTokens` excludes what was read from or written to the cache, as it does in Anthropic's own API.
pub(super) fn usage(usage: &Value) -> Usage {
    let (read, write) = (number(usage, &["cacheReadInputTokens"]), number(usage, &["cacheWriteInputTokens"]));
    Usage {
        input: number(usage, &["inputTokens"]).map(|input| input + read.unwrap_or(0) + write.unwrap_or(0)),
        output: number(usage, &["outputTokens"]),
        cache_read: read,
        cache_write: write,
        reasoning: None,
    }
}

pub(super) fn finish_reason(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "end_turn" | "stop_sequence" => "stop",
        "tool_use" => "tool_call",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "guardrail_intervened" | "content_filtered" => "content_filter",
        "malformed_model_output" | "malformed_tool_use" => "error",
        _ => return None,
    })
}
