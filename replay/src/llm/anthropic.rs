//! Anthropic Messages: POST /v1/messages, answered by one JSON object or by named server-sent events.

use super::{Answer, Api, ToolRequest, ToolResult, Usage, content_text, error_type, number, text};
use crate::exchange::Exchange;
use crate::sse::Event;
use crate::table::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const API: Api = Api {
    wire_api: "anthropic.messages",
    recognise,
    provider: |_| "anthropic".to_owned(),
    results,
    whole,
    streamed,
    usage,
    finish_reason,
};

fn recognise(exchange: &Exchange, path: &str, request: Option<&Value>) -> bool {
    let versioned = exchange.request.as_ref().is_some_and(|head| head.field("anthropic-version").is_some());
    path.ends_with("/v1/messages")
        && match request {
            Some(json) => {
                json.get("messages").is_some_and(Value::is_array) && (versioned || json.get("max_tokens").is_some())
            }
            None => versioned,
        }
}

fn results(request: &Value) -> Vec<ToolResult> {
    let messages = request.get("messages").and_then(Value::as_array).into_iter().flatten();
    let parts = messages.filter_map(|message| message.get("content")?.as_array()).flatten();
    parts.filter(|part| part.get("type").and_then(Value::as_str) == Some("tool_result")).map(result).collect()
}

fn result(part: &Value) -> ToolResult {
    ToolResult {
        id: part.get("tool_use_id").and_then(text),
        text: content_text(part.get("content")),
        is_error: Some(part.get("is_error").and_then(Value::as_bool).unwrap_or(false)),
        server: false,
    }
}

/// Takes a content block that is whole.
fn take_block(answer: &mut Answer, block: &Value, json: &str, ts: Option<Timestamp>) {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "text" => answer.text.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default()),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let arguments = match block.get("input") {
                Some(input) if json.is_empty() => input.to_string(),
                _ => json.to_owned(),
            };
            answer.requests.push(ToolRequest {
                id: block.get("id").and_then(text),
                name: block.get("name").and_then(text),
                arguments,
                server: kind != "tool_use",
                ts,
            });
        }
        _ if kind.ends_with("_tool_result") => {
            answer.results.push(ToolResult { server: true, ..result(block) });
        }
        _ => {}
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
    for block in message.get("content").and_then(Value::as_array).into_iter().flatten() {
        take_block(&mut answer, block, "", None);
    }
    answer
}

/// A content block on its way: the block as it started, its text, and the JSON of its input.
#[derive(Default)]
struct Block {
    block: Value,
    text: String,
    json: String,
}

fn streamed(events: &[(Timestamp, Event)]) -> Answer {
    let mut answer = Answer::default();
    let mut blocks: BTreeMap<i64, Block> = BTreeMap::new();
    for (ts, event) in events {
        let Ok(json) = serde_json::from_str::<Value>(&event.data) else { continue };
        let index = number(&json, &["index"]).unwrap_or(0);
        match json.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => json.get("message").into_iter().for_each(|message| take_message(&mut answer, message)),
            "content_block_start" => {
                let block = json.get("content_block").cloned().unwrap_or_default();
                blocks.insert(index, Block { block, ..Block::default() });
            }
            "content_block_delta" => {
                answer.first_chunk_ts.get_or_insert(*ts);
                let block = blocks.entry(index).or_default();
                let delta = |name| json.get("delta").and_then(|delta| delta.get(name)?.as_str()).unwrap_or_default();
                block.text.push_str(delta("text"));
                block.json.push_str(delta("partial_json"));
            }
            "content_block_stop" => {
                if let Some(block) = blocks.remove(&index) {
                    answer.text.push_str(&block.text);
                    take_block(&mut answer, &block.block, &block.json, Some(*ts));
                }
            }
            "message_delta" => take_delta(&mut answer, &json),
            "message_stop" => answer.ended = true,
            "error" => answer.error_type = error_type(&json),
            _ => {}
        }
    }
    // What was cut off: its text is there, its tool call has no whole arguments.
    for block in blocks.into_values() {
        answer.text.push_str(&block.text);
        let json = if block.json.is_empty() { " " } else { &block.json };
        take_block(&mut answer, &block.block, json, None);
    }
    answer
}

/// The end of a message; what it says of usage replaces what its start said.
fn take_delta(answer: &mut Answer, json: &Value) {
    if let Some(reason) = json.get("delta").and_then(|delta| delta.get("stop_reason")).and_then(text) {
        answer.finish_reason_raw = Some(reason);
    }
    if let Some(Value::Object(new)) = json.get("usage") {
        match &mut answer.usage {
            Some(Value::Object(usage)) => {
                usage.extend(
                    new.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())),
                );
            }
            usage => *usage = Some(Value::Object(new.clone())),
        }
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
