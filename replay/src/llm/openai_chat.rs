//! OpenAI chat completions, which many providers speak: POST …/chat/completions, answered by one JSON object or by unnamed
//! server-sent events up to `[DONE]`.

use super::message::{Message, Part, Role, ToolCall, ToolResult};
use super::{Answer, Api, Usage, content_text, errors, number, text};
use crate::event::Event;
use crate::exchange::Exchange;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const API: Api = api! {
    wire_api: "openai.chat",
    path: |path| path.ends_with("/chat/completions"),
    recognise,
    answers: |_, json| json.get("choices").is_some_and(Value::is_array),
    model,
    one_by_one: true,
};

fn recognise(_: &Exchange, request: Option<&Value>) -> bool {
    request.is_none_or(|json| json.get("messages").is_some_and(Value::is_array))
}

/// Azure names a deployment in the path, which may stand for the model.
fn model(path: &str, request: Option<&Value>) -> Option<String> {
    let deployment = || Some(path.split_once("/deployments/")?.1.split_once('/')?.0.to_owned());
    request.and_then(|json| json.get("model").and_then(text)).or_else(deployment)
}

fn messages(request: &Value) -> Vec<Message> {
    request.get("messages").and_then(Value::as_array).into_iter().flatten().map(message).collect()
}

fn message(message: &Value) -> Message {
    let role = Role::of(message.get("role").and_then(Value::as_str).unwrap_or_default());
    if role == Role::Tool {
        let (id, text) = (message.get("tool_call_id").and_then(text), content_text(message.get("content")));
        return Message::new(role, vec![Part::ToolResult(ToolResult { id, text, ..ToolResult::default() })]);
    }
    let mut said = Message::of_content(role, message.get("content"), part);
    if let Some(refusal) = message.get("refusal").and_then(text) {
        said.parts.push(Part::Text(refusal));
    }
    if let Some(thought) = reasoning(message) {
        said.parts.insert(0, Part::Reasoning(thought.to_owned()));
    }
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let mut whole = ToolCall::default();
        take_call(&mut whole, call);
        said.parts.push(Part::ToolCall(whole));
    }
    said
}

/// A part of a content that is an array. Mistral has what its models thought among them.
fn part(item: &Value) -> Option<Part> {
    match item.get("type").and_then(Value::as_str) {
        Some("thinking") => {
            let texts = |items: &Vec<Value>| items.iter().filter_map(|item| item.get("text")?.as_str()).collect();
            let thought = item.get("thinking");
            let text = thought.and_then(Value::as_array).map(texts).or_else(|| thought.and_then(text));
            Some(Part::Reasoning(text.unwrap_or_default()))
        }
        Some("refusal") => item.get("refusal").and_then(text).map(Part::Text),
        _ => Some(Part::other(item)),
    }
}

/// What the model thought; providers other than OpenAI show it, under two names.
fn reasoning(message: &Value) -> Option<&str> {
    ["reasoning_content", "reasoning"]
        .iter()
        .find_map(|name| message.get(name)?.as_str())
        .filter(|text| !text.is_empty())
}

/// What a chunk and a whole response have in common.
fn take_envelope(answer: &mut Answer, json: &Value) {
    let keep = |old: &mut Option<String>, name: &str| {
        if old.is_none() {
            *old = json.get(name).and_then(text).filter(|text| !text.is_empty());
        }
    };
    keep(&mut answer.response_model, "model");
    keep(&mut answer.response_id, "id");
    if let Some(usage) = json.get("usage").filter(|usage| usage.is_object()) {
        answer.usage = Some(usage.clone());
        // Some providers count in every chunk.
        answer.usage_is_final = answer.finish_reason_raw.is_some();
    }
}

/// The first choice; requests for several are rare and share one usage.
fn choice(json: &Value) -> Option<&Value> {
    json.get("choices")?.as_array()?.iter().find(|choice| number(choice, &["index"]).unwrap_or(0) == 0)
}

fn whole(json: &Value) -> Answer {
    let mut answer = Answer::default();
    take_envelope(&mut answer, json);
    let Some(choice) = choice(json) else { return answer };
    answer.finish_reason_raw = choice.get("finish_reason").and_then(text);
    answer.parts = choice.get("message").map(|said| message(said).parts).unwrap_or_default();
    answer
}

/// Adds a tool call, or a fragment of one.
fn take_call(pending: &mut ToolCall, call: &Value) {
    let function = call.get("function").unwrap_or(&Value::Null);
    if let Some(id) = call.get("id").and_then(text).filter(|id| !id.is_empty()) {
        pending.id = Some(id);
    }
    if let Some(name) = function.get("name").and_then(text).filter(|name| !name.is_empty()) {
        pending.name = Some(name);
    }
    pending.arguments.push_str(function.get("arguments").and_then(Value::as_str).unwrap_or_default());
}

fn streamed(events: &[Event]) -> Answer {
    let mut answer = Answer::default();
    let (mut said, mut thought, mut others) = (String::new(), String::new(), Vec::new());
    // Each with how many had begun before it.
    let mut calls: BTreeMap<i64, (usize, ToolCall)> = BTreeMap::new();
    // When those that had begun until then were whole.
    let mut whole = (0, None);
    for event in events {
        if event.data == "[DONE]" {
            answer.ended = true;
            continue;
        }
        let Some(json) = answer.read(event) else { continue };
        if json.get("error").is_some_and(|error| !error.is_null()) {
            answer.error_type = errors::of(&json);
        }
        let choice = choice(&json);
        if let Some(reason) = choice.and_then(|choice| choice.get("finish_reason")).and_then(text) {
            answer.finish_reason_raw = Some(reason);
            whole = (calls.len(), Some(event.ts));
        }
        take_envelope(&mut answer, &json);
        let Some(delta) = choice.and_then(|choice| choice.get("delta")) else { continue };
        let mut content = Message::of_content(Role::Assistant, delta.get("content"), part).parts;
        content.extend(reasoning(delta).map(|thought| Part::Reasoning(thought.to_owned())));
        content.extend(delta.get("refusal").and_then(text).map(Part::Text));
        content.retain(|part| !matches!(part, Part::Text(text) | Part::Reasoning(text) if text.is_empty()));
        let fragments = delta.get("tool_calls").and_then(Value::as_array);
        if !content.is_empty() || fragments.is_some() {
            answer.first_chunk_ts.get_or_insert(event.ts);
        }
        for part in content {
            match part {
                Part::Text(text) => said.push_str(&text),
                Part::Reasoning(text) => thought.push_str(&text),
                other if answer.keeps(event) => others.push(other),
                _ => {}
            }
        }
        for (position, call) in fragments.into_iter().flatten().enumerate() {
            let index = number(call, &["index"]).unwrap_or(position as i64);
            let begun = calls.len();
            take_call(&mut calls.entry(index).or_insert_with(|| (begun, ToolCall::default())).1, call);
        }
    }
    let texts = [Part::Reasoning(thought), Part::Text(said)].into_iter();
    answer.parts =
        texts.filter(|part| !matches!(part, Part::Text(text) | Part::Reasoning(text) if text.is_empty())).collect();
    answer.parts.extend(others);
    let (count, ts) = whole;
    let call = |(begun, call)| Part::ToolCall(ToolCall { ts: ts.filter(|_| begun < count), ..call });
    answer.parts.extend(calls.into_values().map(call));
    answer
}

fn usage(usage: &Value) -> Usage {
    Usage {
        input: number(usage, &["prompt_tokens"]),
        output: number(usage, &["completion_tokens"]),
        cache_read: number(usage, &["prompt_tokens_details", "cached_tokens"])
            .or_else(|| number(usage, &["prompt_cache_hit_tokens"])),
        // OpenAI since GPT-5.6, and OpenRouter.
        cache_write: number(usage, &["prompt_tokens_details", "cache_write_tokens"]),
        reasoning: number(usage, &["completion_tokens_details", "reasoning_tokens"]),
    }
}

fn finish_reason(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "stop" => "stop",
        "tool_calls" | "function_call" => "tool_call",
        "length" | "model_length" => "length",
        "content_filter" => "content_filter",
        "error" | "insufficient_system_resource" => "error",
        _ => return None,
    })
}
