//! OpenAI Responses: POST …/responses, answered by one JSON object or by typed server-sent events up to `response.completed`.
//! Over WebSocket the same objects are messages.
//!
//! An answer is a list of items; what an agent did is given back as items of the next request's input, under the `call_id`
//! of the item that asked for it. The status of a response that asks for tools is `completed`, too.

use super::message::{Message, Part, Role, ToolCall, ToolResult};
use super::{Answer, Api, Usage, content_text, errors, number, text};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::table::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const API: Api = api! {
    wire_api: "openai.responses",
    path: |path| path.ends_with("/responses"),
    recognise,
    answers: |_, json| {
        let is = |name: &str, start: &str| {
            json.get(name).and_then(Value::as_str).is_some_and(|kind| kind.starts_with(start))
        };
        is("type", "response.") || is("object", "response")
    },
};

/// Calls of tools that the provider runs itself end so, too; these the agent runs.
const OF_AGENT: [&str; 6] =
    ["function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "computer_call"];

fn recognise(_: &Exchange, request: Option<&Value>) -> bool {
    request.is_none_or(|json| json.get("input").is_some_and(|input| input.is_array() || input.is_string()))
}

fn messages(request: &Value) -> Vec<Message> {
    let instructions = request.get("instructions").and_then(text).filter(|text| !text.is_empty());
    let system = instructions.map(|text| Message::new(Role::System, vec![Part::Text(text)]));
    let said = match request.get("input") {
        Some(Value::Array(items)) => items.iter().map(message).collect(),
        input => vec![Message::of_content(Role::User, input, |_| None)],
    };
    system.into_iter().chain(together(said)).collect()
}

/// The items of one answer stand one by one: what the model said is one message, as it was when it came.
fn together(items: Vec<Message>) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for item in items {
        match messages.last_mut() {
            Some(last) if last.role == item.role && matches!(item.role, Role::Assistant) => {
                last.parts.extend(item.parts);
            }
            _ => messages.push(item),
        }
    }
    messages
}

/// An item of the input.
fn message(item: &Value) -> Message {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
    if kind == "message" {
        let role = Role::of(item.get("role").and_then(Value::as_str).unwrap_or_default());
        return Message::of_content(role, item.get("content"), |part| Some(content(part)));
    }
    let role = if kind.ends_with("_output") { Role::Tool } else { Role::Assistant };
    Message::new(role, parts(item, None))
}

/// A part of a message's content.
fn content(part: &Value) -> Part {
    match part.get("type").and_then(Value::as_str) {
        Some("refusal") => Part::Text(part.get("refusal").and_then(text).unwrap_or_default()),
        _ => Part::other(part),
    }
}

/// An item of an answer, or one that is given back.
fn parts(item: &Value, ts: Option<Timestamp>) -> Vec<Part> {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "message" {
        return message(item).parts;
    }
    if kind == "reasoning" {
        return Some(thought(item)).filter(|thought| !thought.is_empty()).map(Part::Reasoning).into_iter().collect();
    }
    if kind.ends_with("_output") {
        return vec![Part::ToolResult(result(item, false))];
    }
    if !kind.ends_with("_call") {
        return vec![Part::other(item)];
    }
    let server = !OF_AGENT.contains(&kind);
    let id = item.get("call_id").or_else(|| item.get("id")).and_then(text);
    let name = item.get("name").and_then(text).or_else(|| kind.strip_suffix("_call").map(str::to_owned));
    let asked = ToolCall { id: id.clone(), name, arguments: arguments(item), server, ts, ..ToolCall::default() };
    // A tool that the provider ran comes with what it gave.
    let given = ["output", "results", "outputs", "error"]
        .iter()
        .find_map(|name| item.get(name).filter(|given| !given.is_null()));
    let given = given.filter(|_| server).map(|_| ToolResult { id, ..result(item, true) });
    std::iter::once(Part::ToolCall(asked)).chain(given.map(Part::ToolResult)).collect()
}

/// What a tool is called with: text of JSON; a custom tool's text as a JSON string; else the object that says what to do.
fn arguments(item: &Value) -> String {
    if let Some(arguments) = item.get("arguments") {
        return content_text(Some(arguments));
    }
    let rest = ["input", "action", "operation", "queries", "code"].iter().find_map(|name| item.get(name));
    rest.map_or_else(String::new, Value::to_string)
}

fn result(item: &Value, server: bool) -> ToolResult {
    let output = ["output", "results", "outputs", "error"]
        .iter()
        .find_map(|name| item.get(name).filter(|output| !output.is_null()));
    let failed = item.get("status").and_then(Value::as_str).is_some_and(|status| status == "failed")
        || item.get("error").is_some_and(|error| !error.is_null());
    ToolResult {
        id: item.get("call_id").and_then(text),
        text: content_text(output),
        is_error: failed.then_some(true),
        server,
        ..ToolResult::default()
    }
}

/// What a reasoning item shows: its summary, or all of it where a provider gives that.
fn thought(item: &Value) -> String {
    let texts = |name: &str| -> Vec<&str> {
        let parts = item.get(name).and_then(Value::as_array).into_iter().flatten();
        parts.filter_map(|part| part.get("text")?.as_str()).collect()
    };
    let content = texts("content");
    if content.is_empty() { texts("summary").join("\n") } else { content.join("\n") }
}

/// What is said of a response as a whole.
fn take_response(answer: &mut Answer, response: &Value) {
    let keep = |old: &mut Option<String>, name: &str| {
        if let Some(new) = response.get(name).and_then(text) {
            *old = Some(new);
        }
    };
    keep(&mut answer.response_model, "model");
    keep(&mut answer.response_id, "id");
    if let Some(usage) = response.get("usage").filter(|usage| usage.is_object()) {
        answer.usage = Some(usage.clone());
    }
    if response.get("error").is_some_and(|error| !error.is_null()) {
        answer.error_type = errors::of(response);
    }
}

/// How a response ended: its status, or what it is incomplete for; tools that the agent is to run count before.
fn take_status(answer: &mut Answer, response: &Value) {
    let pending = |part: &Part| matches!(part, Part::ToolCall(call) if !call.server);
    let reason = response.get("incomplete_details").and_then(|details| details.get("reason")).and_then(text);
    let status = response.get("status").and_then(text);
    answer.finish_reason_raw = match status.as_deref() {
        Some("completed") if answer.parts.iter().any(pending) => Some("tool_calls".to_owned()),
        _ => reason.or(status),
    };
}

fn whole(response: &Value) -> Answer {
    let mut answer = Answer::default();
    take_response(&mut answer, response);
    let items = response.get("output").and_then(Value::as_array).into_iter().flatten();
    answer.parts = items.flat_map(|item| parts(item, None)).collect();
    take_status(&mut answer, response);
    answer
}

/// An item on its way: as it started, or as it was when it was done; and what came in pieces.
#[derive(Default)]
struct Item {
    item: Value,
    done: Option<Timestamp>,
    text: String,
    arguments: String,
}

impl Item {
    fn parts(self) -> Vec<Part> {
        if self.done.is_some() {
            return parts(&self.item, self.done);
        }
        // It was cut off: its text is there, and as much of a tool call's arguments as came.
        if !self.text.is_empty() {
            return vec![Part::Text(self.text)];
        }
        let custom = self.item.get("type").is_some_and(|kind| kind == "custom_tool_call");
        // Text of which the end is unknown is no JSON yet.
        let begun =
            |text: String| Value::from(text).to_string().strip_suffix('"').map(str::to_owned).unwrap_or_default();
        let came = if custom { begun(self.arguments) } else { self.arguments };
        let call = |part| match part {
            Part::ToolCall(call) => Some(Part::ToolCall(ToolCall { arguments: came.clone(), ..call })),
            _ => None,
        };
        parts(&self.item, None).into_iter().filter_map(call).collect()
    }
}

fn streamed(events: &[Event]) -> Answer {
    let mut answer = Answer::default();
    let mut items: BTreeMap<i64, Item> = BTreeMap::new();
    let mut last = None;
    for event in events.iter().filter(|event| !event.sent) {
        let Some(json) = answer.read(event) else { continue };
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        let index = number(&json, &["output_index"]).unwrap_or(0);
        let delta = json.get("delta").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "response.output_item.added" if answer.keeps(event) => {
                items.entry(index).or_default().item = json.get("item").cloned().unwrap_or_default();
            }
            "response.output_item.done" if answer.keeps(event) => {
                let item = json.get("item").cloned().unwrap_or_default();
                items.insert(index, Item { item, done: Some(event.ts), ..Item::default() });
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                items.entry(index).or_default().text.push_str(delta)
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                items.entry(index).or_default().arguments.push_str(delta);
            }
            "error" => {
                answer.error_type =
                    errors::of(&json).or_else(|| json.get("code").and_then(text)).or(Some(kind.to_owned()))
            }
            _ => {}
        }
        if kind.ends_with(".delta") {
            answer.first_chunk_ts.get_or_insert(event.ts);
        }
        if let Some(response) = json.get("response") {
            take_response(&mut answer, response);
        }
        if is_end(kind) {
            answer.ended = true;
            last = json.get("response").cloned();
            answer.usage_is_final = last.as_ref().and_then(|last| last.get("usage")).is_some_and(Value::is_object);
        }
    }
    answer.parts = items.into_values().flat_map(Item::parts).collect();
    if let Some(response) = last {
        // Items that did not come one by one may stand in the response.
        if answer.parts.is_empty() {
            answer.parts = whole(&response).parts;
        }
        take_status(&mut answer, &response);
    }
    answer
}

/// Whether an event of this type ends a response.
pub(crate) fn is_end(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed" | "response.failed" | "response.incomplete" | "response.cancelled" | "response.done"
    )
}

fn usage(usage: &Value) -> Usage {
    Usage {
        input: number(usage, &["input_tokens"]),
        output: number(usage, &["output_tokens"]),
        cache_read: number(usage, &["input_tokens_details", "cached_tokens"]),
        cache_write: number(usage, &["input_tokens_details", "cache_write_tokens"]),
        reasoning: number(usage, &["output_tokens_details", "reasoning_tokens"]),
    }
}

fn finish_reason(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "completed" => "stop",
        "tool_calls" => "tool_call",
        "max_output_tokens" => "length",
        "content_filter" => "content_filter",
        "failed" | "cancelled" => "error",
        _ => return None,
    })
}
