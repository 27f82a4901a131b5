//! Anthropic Messages: POST /v1/messages, answered by one JSON object or by named server-sent events. On Vertex AI the model stands
//! in the path, and the version in the request: POST …/publishers/anthropic/models/MODEL:rawPredict or :streamRawPredict.

use super::message::{Message, Part, Role, ToolCall, ToolResult};
use super::{Answer, Api, Usage, content_text, errors, number, text};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::table::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const API: Api = api! {
    wire_api: "anthropic.messages",
    path: |path| path.ends_with("/v1/messages") || on_vertex(path).is_some(),
    recognise,
    answers: |_, json| {
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        kind == "message_start" || kind == "message" && json.get("content").is_some_and(Value::is_array)
    },
    maker: |path| Some(if on_vertex(path).is_some() { "gcp.vertex_ai" } else { "anthropic" }),
    model: |path, request| on_vertex(path).map(str::to_owned).or_else(|| (super::BASE.model)(path, request)),
    streams: |path, request| path.ends_with(":streamRawPredict") || (super::BASE.streams)(path, request),
    one_by_one: true,
};

/// The model in a path of Vertex AI; the counting of tokens looks like one.
fn on_vertex(path: &str) -> Option<&str> {
    let (before, last) = path.rsplit_once('/')?;
    let (model, method) = last.split_once(':')?;
    let predicts = matches!(method, "rawPredict" | "streamRawPredict") && before.ends_with("/models");
    (predicts && model != "count-tokens").then_some(model)
}

fn recognise(exchange: &Exchange, request: Option<&Value>) -> bool {
    let head = exchange.request.as_ref();
    let versioned = head.is_some_and(|head| head.field("anthropic-version").is_some());
    let Some(json) = request else {
        return versioned || head.is_some_and(|head| head.target.contains("/publishers/anthropic/"));
    };
    let asks = json.get("messages").is_some_and(Value::is_array);
    match json.get("anthropic_version").and_then(Value::as_str) {
        // Where the path is unknown, this tells.
        Some(version) if version.starts_with("bedrock") => false,
        Some(_) => asks,
        // Other models of Vertex AI are asked under such paths, too.
        None if head.is_some_and(|head| on_vertex(super::path(head)).is_some()) => false,
        None => asks && (versioned || json.get("max_tokens").is_some()),
    }
}

fn messages(request: &Value) -> Vec<Message> {
    let part = |item: &Value| Some(part(item, "", None));
    let system = request.get("system").map(|system| Message::of_content(Role::System, Some(system), part));
    let said = request.get("messages").and_then(Value::as_array).into_iter().flatten().map(|message| {
        let role = Role::of(message.get("role").and_then(Value::as_str).unwrap_or_default());
        Message::of_content(role, message.get("content"), part)
    });
    system.into_iter().chain(said).collect()
}

/// A content block that is whole. Of one that was streamed, `json` is the input that came in pieces.
fn part(block: &Value, json: &str, ts: Option<Timestamp>) -> Part {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let arguments = match block.get("input") {
                Some(input) if json.is_empty() => input.to_string(),
                _ => json.to_owned(),
            };
            let (id, name) = (block.get("id").and_then(text), block.get("name").and_then(text));
            Part::ToolCall(ToolCall { id, name, arguments, server: kind != "tool_use", ts, ..ToolCall::default() })
        }
        "thinking" => Part::Reasoning(block.get("thinking").and_then(text).unwrap_or_default()),
        _ if kind.ends_with("tool_result") => Part::ToolResult(ToolResult {
            id: block.get("tool_use_id").and_then(text),
            text: content_text(block.get("content")),
            is_error: Some(block.get("is_error").and_then(Value::as_bool).unwrap_or(false)),
            server: kind != "tool_result",
            ..ToolResult::default()
        }),
        _ => Part::other(block),
    }
}

fn take_message(answer: &mut Answer, message: &Value) {
    answer.response_model = message.get("model").and_then(text);
    answer.response_id = message.get("id").and_then(text);
    answer.usage = message.get("usage").filter(|usage| usage.is_object()).cloned();
    answer.finish_reason_raw = message.get("stop_reason").and_then(text);
}

fn whole(message: &Value) -> Answer {
    let mut answer = Answer::default();
    take_message(&mut answer, message);
    let blocks = message.get("content").and_then(Value::as_array).into_iter().flatten();
    answer.parts = blocks.map(|block| part(block, "", None)).collect();
    answer
}

/// A content block on its way: the block as it started, and what came in pieces.
#[derive(Default)]
struct Block {
    block: Value,
    text: String,
    thinking: String,
    json: String,
}

impl Block {
    fn take(&mut self, delta: &Value) {
        let piece = |name| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        self.text.push_str(piece("text"));
        self.thinking.push_str(piece("thinking"));
        self.json.push_str(piece("partial_json"));
    }

    /// The block as it would stand in a response that is not streamed. Of one that was cut off, the text is there; a tool
    /// call has no whole arguments.
    fn part(mut self, ts: Option<Timestamp>) -> Part {
        for (name, piece) in [("text", &self.text), ("thinking", &self.thinking)] {
            if let Some(Value::String(whole)) = self.block.get_mut(name) {
                whole.push_str(piece);
            }
        }
        if self.block.is_null() {
            // How it started is missing.
            return if self.json.is_empty() {
                Part::Text(self.text)
            } else {
                Part::ToolCall(ToolCall { arguments: self.json, ts, ..ToolCall::default() })
            };
        }
        let json = if ts.is_none() && self.json.is_empty() { " " } else { &self.json };
        part(&self.block, json, ts)
    }
}

fn streamed(events: &[Event]) -> Answer {
    let mut answer = Answer::default();
    let mut open: BTreeMap<i64, Block> = BTreeMap::new();
    let mut done: BTreeMap<i64, Part> = BTreeMap::new();
    for event in events {
        let Some(json) = answer.read(event) else { continue };
        let index = number(&json, &["index"]).unwrap_or(0);
        match json.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => json.get("message").into_iter().for_each(|message| take_message(&mut answer, message)),
            "content_block_start" if answer.keeps(event) => {
                let block = json.get("content_block").cloned().unwrap_or_default();
                open.insert(index, Block { block, ..Block::default() });
            }
            "content_block_delta" => {
                answer.first_chunk_ts.get_or_insert(event.ts);
                open.entry(index).or_default().take(json.get("delta").unwrap_or(&Value::Null));
            }
            "content_block_stop" => {
                done.extend(open.remove(&index).map(|block| (index, block.part(Some(event.ts)))));
            }
            "message_delta" => take_delta(&mut answer, &json),
            "message_stop" => answer.ended = true,
            "error" => answer.error_type = errors::of(&json),
            _ => {}
        }
    }
    done.extend(open.into_iter().map(|(index, block)| (index, block.part(None))));
    answer.parts = done.into_values().collect();
    answer
}

/// The end of a message, or something on the way to it; what it says of usage replaces what was said before.
fn take_delta(answer: &mut Answer, json: &Value) {
    if let Some(reason) = json.get("delta").and_then(|delta| delta.get("stop_reason")).and_then(text) {
        answer.finish_reason_raw = Some(reason);
    }
    if let Some(usage) = json.get("usage") {
        answer.add_usage(usage);
        answer.usage_is_final = answer.finish_reason_raw.is_some();
    }
}

/// `input_tokens` of this API excludes what was read from or written to the cache.
fn usage(usage: &Value) -> Usage {
    let (read, write) = (number(usage, &["cache_read_input_tokens"]), number(usage, &["cache_creation_input_tokens"]));
    Usage {
        input: number(usage, &["input_tokens"]).map(|input| input + read.unwrap_or(0) + write.unwrap_or(0)),
        output: number(usage, &["output_tokens"]),
        cache_read: read,
        cache_write: write,
        reasoning: None,
    }
}

fn finish_reason(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "tool_use" => "tool_call",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "refusal" => "content_filter",
        _ => return None,
    })
}
