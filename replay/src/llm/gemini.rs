//! Gemini, of Google AI and of Vertex AI: POST …/models/MODEL:generateContent, answered by one JSON object, or
//! …:streamGenerateContent, answered by such objects as server-sent events (`alt=sse`) or as items of an array. The stream ends
//! with the piece that has a `finishReason`.
//!
//! Names may be written `inlineData` or `inline_data`, as everywhere in Google's JSON. Code Assist (the Gemini CLI after a login
//! with Google) wraps request and response: `{"model": …, "request": {…}}`, `{"response": {…}}`.

use super::message::{Message, Part, Role, ToolCall, ToolResult};
use super::{Answer, Api, Usage, content_text, errors, number, text};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::table::Timestamp;
use serde_json::{Value, json};

pub(super) const API: Api = api! {
    wire_api: "gemini.generate_content",
    operation: "generate_content",
    path: |path| path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent"),
    recognise,
    answers: |_, json| {
        let json = unwrapped(json, "response");
        ["candidates", "usageMetadata", "promptFeedback"].iter().any(|name| json.get(name).is_some())
    },
    maker: |_| Some("gcp.gen_ai"),
    model,
    streams: |path, _| path.ends_with(":streamGenerateContent"),
};

fn recognise(_: &Exchange, request: Option<&Value>) -> bool {
    request.is_none_or(|json| unwrapped(json, "request").get("contents").is_some_and(Value::is_array))
}

/// What Code Assist wraps.
fn unwrapped<'v>(json: &'v Value, name: &str) -> &'v Value {
    json.get(name).filter(|inner| inner.is_object()).unwrap_or(json)
}

/// A model stands in the path (`…/models/gemini-x:generateContent`), as does an endpoint of Vertex AI.
fn model(path: &str, request: Option<&Value>) -> Option<String> {
    let named = path.rsplit_once('/').and_then(|(before, last)| {
        let of_model = ["models", "tunedModels", "endpoints"].iter().any(|name| before.ends_with(name));
        last.split_once(':').filter(|_| of_model).map(|(model, _)| model.to_owned())
    });
    named.or_else(|| request?.get("model").and_then(text).map(|name| name.trim_start_matches("models/").to_owned()))
}

fn either<'v>(value: &'v Value, camel: &str, snake: &str) -> Option<&'v Value> {
    value.get(camel).or_else(|| value.get(snake))
}

fn messages(request: &Value) -> Vec<Message> {
    let request = unwrapped(request, "request");
    let system = either(request, "systemInstruction", "system_instruction")
        .map(|content| Message { role: Role::System, ..message(content) });
    let said = request.get("contents").and_then(Value::as_array).into_iter().flatten().map(message);
    system.into_iter().chain(said).collect()
}

/// A `Content`; an instruction may be a mere text.
fn message(content: &Value) -> Message {
    let role = Role::of(content.get("role").and_then(Value::as_str).unwrap_or_default());
    let parts = if content.is_string() { Some(content) } else { content.get("parts") };
    let said = Message::of_content(role, parts, |item| part(item, None));
    let results = !said.parts.is_empty() && said.parts.iter().all(|part| matches!(part, Part::ToolResult(_)));
    if results { Message { role: Role::Tool, ..said } } else { said }
}

fn part(item: &Value, ts: Option<Timestamp>) -> Option<Part> {
    let id = |of: &Value| of.get("id").and_then(text).filter(|id| !id.is_empty());
    let name = |of: &Value| of.get("name").and_then(text);
    if let Some(call) = either(item, "functionCall", "function_call") {
        let arguments = call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string);
        return Some(Part::ToolCall(ToolCall { id: id(call), name: name(call), arguments, ts, ..ToolCall::default() }));
    }
    if let Some(given) = either(item, "functionResponse", "function_response") {
        let (text, is_error) = result(given);
        let (id, name) = (id(given), name(given));
        return Some(Part::ToolResult(ToolResult { id, name, text, is_error, ..ToolResult::default() }));
    }
    let code = Some("code_execution".to_owned());
    if let Some(call) = either(item, "executableCode", "executable_code") {
        let arguments = call.to_string();
        return Some(Part::ToolCall(ToolCall {
            id: id(call),
            name: code,
            arguments,
            server: true,
            ts,
            ..ToolCall::default()
        }));
    }
    if let Some(given) = either(item, "codeExecutionResult", "code_execution_result") {
        return Some(Part::ToolResult(ToolResult {
            id: id(given),
            name: code,
            text: content_text(given.get("output")),
            is_error: given.get("outcome").map(|outcome| outcome != "OUTCOME_OK"),
            server: true,
            ..ToolResult::default()
        }));
    }
    let data = either(item, "inlineData", "inline_data").or_else(|| either(item, "fileData", "file_data"));
    if let Some(data) = data {
        let media = either(data, "mimeType", "mime_type").and_then(Value::as_str).unwrap_or_default();
        return Some(Part::Other { kind: kind_of_media(media).to_owned(), payload: item.clone() });
    }
    match item.get("text").and_then(text) {
        // A signature may come with an empty text.
        Some(text) if text.is_empty() => None,
        Some(text) if item.get("thought").is_some_and(|thought| thought == true) => Some(Part::Reasoning(text)),
        Some(text) => Some(Part::Text(text)),
        None if item.is_object() => {
            let kind = item.as_object().and_then(|fields| fields.keys().next()).cloned().unwrap_or_default();
            Some(Part::Other { kind, payload: item.clone() })
        }
        None => Some(Part::Text(content_text(Some(item)))),
    }
}

/// What a function gave: with images and the like beside it, the JSON of both.
fn result(given: &Value) -> (String, Option<bool>) {
    let (text, is_error) = response(given.get("response"));
    match given.get("parts").and_then(Value::as_array).filter(|parts| !parts.is_empty()) {
        Some(parts) => (json!({"response": given.get("response"), "parts": parts}).to_string(), is_error),
        None => (text, is_error),
    }
}

/// What it says: an object, whose `output` or `error` it is if it has one of these.
fn response(given: Option<&Value>) -> (String, Option<bool>) {
    let only = given.and_then(Value::as_object).filter(|fields| fields.len() == 1);
    let named = |name: &str| only.and_then(|fields| fields.get(name)).map(|value| content_text(Some(value)));
    match (named("output"), named("error")) {
        (Some(output), _) => (output, None),
        (_, Some(error)) => (error, Some(true)),
        _ => (content_text(given), None),
    }
}

fn kind_of_media(media: &str) -> &'static str {
    match media.split('/').next().unwrap_or_default() {
        "image" => "image",
        "audio" => "audio",
        "video" => "video",
        _ => "document",
    }
}

fn whole(json: &Value) -> Answer {
    let mut answer = Answer::default();
    take(&mut answer, json, None);
    answer
}

fn streamed(events: &[Event]) -> Answer {
    Answer::of_events(events, take)
}

/// Takes a piece of an answer, or all of it.
fn take(answer: &mut Answer, json: &Value, ts: Option<Timestamp>) {
    let piece = unwrapped(json, "response");
    answer.error_type = errors::of(piece).or(answer.error_type.take());
    answer.response_model = piece.get("modelVersion").and_then(text).or(answer.response_model.take());
    answer.response_id = piece.get("responseId").and_then(text).or(answer.response_id.take());
    // The prompt itself was refused.
    let refused = piece.get("promptFeedback").and_then(|feedback| feedback.get("blockReason")).and_then(text);
    let candidates = piece.get("candidates").and_then(Value::as_array).into_iter().flatten();
    let candidate = { candidates }.find(|item| number(item, &["index"]).unwrap_or(0) == 0).unwrap_or(&Value::Null);
    if let Some(reason) = candidate.get("finishReason").and_then(text).or(refused) {
        answer.finish_reason_raw = Some(reason);
        answer.ended = true;
    }
    if let Some(usage) = piece.get("usageMetadata") {
        answer.add_usage(usage);
        answer.usage_is_final = answer.ended;
    }
    let items = candidate.get("content").and_then(|content| content.get("parts")).and_then(Value::as_array);
    for part in items.into_iter().flatten().filter_map(|item| part(item, ts)) {
        answer.first_chunk_ts = answer.first_chunk_ts.or(ts);
        part.add_to(&mut answer.parts);
    }
}

/// The prompt's tokens include those that were cached; the candidates' exclude what was thought. What tools of the provider gave
/// is input, too.
fn usage(usage: &Value) -> Usage {
    let tokens = |name: &str| number(usage, &[name]);
    let (answer, thought) = (tokens("candidatesTokenCount"), tokens("thoughtsTokenCount"));
    Usage {
        input: tokens("promptTokenCount").map(|prompt| prompt + tokens("toolUsePromptTokenCount").unwrap_or(0)),
        output: answer.or(thought).map(|_| answer.unwrap_or(0) + thought.unwrap_or(0)),
        cache_read: tokens("cachedContentTokenCount"),
        cache_write: None,
        reasoning: thought,
    }
}

fn finish_reason(raw: &str) -> Option<&'static str> {
    Some(match raw {
        "STOP" => "stop",
        "MAX_TOKENS" => "length",
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "JAILBREAK" => "content_filter",
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MALFORMED_RESPONSE"
        | "OTHER"
        | "NO_IMAGE"
        | "IMAGE_OTHER" => "error",
        _ => return None,
    })
}
