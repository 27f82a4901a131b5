//! Ollama: POST /api/chat and /api/generate, answered by JSON objects, one a line (the default), or by one. The last one is `done`
//! and has the counts. Tool calls are whole objects, mostly without ids; their results stand in their order.

use super::message::{Message, Part, Role, ToolCall, ToolResult};
use super::{Answer, Api, Usage, content_text, errors, number, text};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::table::Timestamp;
use crate::values;
use serde_json::{Map, Value};

pub(super) const CHAT: Api = api! {
    wire_api: "ollama.chat",
    path: |path| path.ends_with("/api/chat"),
    recognise: |exchange, request| recognise(exchange, request, "messages"),
    answers,
    maker: |_| Some("ollama"),
    streams,
};

pub(super) const GENERATE: Api = Api {
    wire_api: "ollama.generate",
    operation: "text_completion",
    path: |path| path.ends_with("/api/generate"),
    recognise: |exchange, request| recognise(exchange, request, "prompt"),
    messages: prompt,
    ..CHAT
};

/// The path alone says little: the program is asked for by its port, or it is known by what it answers. Without anything said, a
/// model is only loaded or unloaded.
fn recognise(exchange: &Exchange, request: Option<&Value>, said: &str) -> bool {
    let asked = |json: &Value| {
        let given = json.get(said).is_some_and(|said| match said {
            Value::Array(items) => !items.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => false,
        });
        given && json.get("model").is_some_and(Value::is_string)
    };
    let by_port =
        || exchange.request.as_ref().and_then(|head| head.host()).is_some_and(|host| host.ends_with(":11434"));
    let by_answer = || {
        let line = exchange.events.first().map(|event| event.data.as_bytes());
        let first = values::parse(line.unwrap_or(&exchange.response_body.data));
        first.is_some_and(|first| answers(None, &first))
    };
    request.is_none_or(asked) && (by_port() || by_answer())
}

fn answers(_: Option<&str>, json: &Value) -> bool {
    json.get("done").is_some_and(Value::is_boolean) && json.get("model").is_some_and(Value::is_string)
}

/// Unless it is told not to.
fn streams(_: &str, request: Option<&Value>) -> bool {
    request.is_some_and(|json| json.get("stream").and_then(Value::as_bool).unwrap_or(true))
}

fn messages(request: &Value) -> Vec<Message> {
    request.get("messages").and_then(Value::as_array).into_iter().flatten().map(message).collect()
}

/// The one prompt of `/api/generate`.
fn prompt(request: &Value) -> Vec<Message> {
    let system = request.get("system").filter(|system| system.as_str().is_some_and(|text| !text.is_empty()));
    let system = system.map(|text| Message::of_content(Role::System, Some(text), |_| None));
    let mut prompt = Message::of_content(Role::User, request.get("prompt"), |_| None);
    prompt.parts.extend(images(request));
    system.into_iter().chain([prompt]).collect()
}

fn message(message: &Value) -> Message {
    let role = Role::of(message.get("role").and_then(Value::as_str).unwrap_or_default());
    if role == Role::Tool {
        let name = ["tool_name", "name"].iter().find_map(|name| message.get(name)).and_then(text);
        let (id, text) = (message.get("tool_call_id").and_then(text), content_text(message.get("content")));
        return Message::new(role, vec![Part::ToolResult(ToolResult { id, name, text, ..ToolResult::default() })]);
    }
    let mut said = Message::new(role, parts(message, "content", None));
    said.parts.extend(images(message));
    said
}

fn images(of: &Value) -> impl Iterator<Item = Part> {
    let images = of.get("images").and_then(Value::as_array).into_iter().flatten();
    images.map(|image| Part::Other { kind: "image".to_owned(), payload: image.clone() })
}

/// What a message says, or a piece of one.
fn parts(message: &Value, content: &str, ts: Option<Timestamp>) -> Vec<Part> {
    let said = |name: &str| message.get(name).and_then(text).filter(|text| !text.is_empty());
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let call = |call: &Value| {
        let function = call.get("function").unwrap_or(&Value::Null);
        Part::ToolCall(ToolCall {
            id: call.get("id").and_then(text).filter(|id| !id.is_empty()),
            name: function.get("name").and_then(text),
            arguments: content_text(function.get("arguments")),
            ts,
            ..ToolCall::default()
        })
    };
    let thought = said("thinking").map(Part::Reasoning);
    thought.into_iter().chain(said(content).map(Part::Text)).chain(calls.map(call)).collect()
}

fn whole(json: &Value) -> Answer {
    let mut answer = Answer::default();
    take(&mut answer, json, None);
    answer
}

fn streamed(events: &[Event]) -> Answer {
    Answer::of_events(events, take)
}

fn take(answer: &mut Answer, json: &Value, ts: Option<Timestamp>) {
    answer.error_type = errors::of(json).or(answer.error_type.take());
    answer.response_model = json.get("model").and_then(text).or(answer.response_model.take());
    let said = match json.get("message") {
        Some(message) => parts(message, "content", ts),
        None => parts(json, "response", ts),
    };
    for part in said {
        answer.first_chunk_ts = answer.first_chunk_ts.or(ts);
        part.add_to(&mut answer.parts);
    }
    if json.get("done").is_some_and(|done| done == true) {
        answer.ended = true;
        answer.usage_is_final = true;
        answer.finish_reason_raw = json.get("done_reason").and_then(text);
        let is_count = |name: &str| name.ends_with("_count") || name.ends_with("_duration");
        let counts = json.as_object().into_iter().flatten().filter(|(name, _)| is_count(name));
        let counts: Map<String, Value> = counts.map(|(name, count)| (name.clone(), count.clone())).collect();
        answer.usage = Some(Value::Object(counts)).filter(|counts| counts.get("eval_count").is_some());
    }
}

fn usage(usage: &Value) -> Usage {
    Usage { input: number(usage, &["prompt_eval_count"]), output: number(usage, &["eval_count"]), ..Usage::default() }
}

fn finish_reason(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "stop" => "stop",
        "length" => "length",
        _ => return None,
    })
}
