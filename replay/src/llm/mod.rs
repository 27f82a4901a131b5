//! Calls of large language models, out of HTTP exchanges. Which API an exchange speaks is decided by its path and its body
//! together: telemetry carries the same headers. Each API has a file of its own here.

/// What an API's file says of it, with the functions that each file has.
macro_rules! api {
    ($($field:tt)*) => {
        Api { $($field)* messages, whole, streamed, usage, finish_reason, ..super::BASE }
    };
}

mod anthropic;
mod bedrock;
mod bedrock_invoke;
mod canonical;
mod choice;
pub(crate) mod context;
mod errors;
mod gemini;
mod links;
pub(crate) mod message;
mod ollama;
pub(crate) mod opaque;
mod openai_chat;
mod openai_responses;
mod provider;
pub(crate) mod resent;
mod session_id;
pub(crate) mod sessions;
mod unnamed;

use crate::body::BodyState;
use crate::event::Event;
use crate::exchange::{Exchange, Kind};
use crate::message::Head;
use crate::table::Timestamp;
use crate::tables::LlmCall;
use crate::values;
use message::{Message, Part, Role, Said};
use resent::{Request, Resent};
use serde_json::Value;
use session_id::SessionId;
use std::rc::Rc;

/// A call, with what was said.
pub(crate) struct Call {
    pub row: LlmCall,
    /// What the model was given, oldest first: instructions, then the conversation so far.
    pub request: Vec<Rc<Said>>,
    pub answer: Said,
    /// Whether the request could be read.
    asked: bool,
    /// The tools that are offered, as the API has them.
    tools: Option<Value>,
    session: Option<SessionId>,
    /// The service tier that is asked for, if it says.
    pub tier: Option<String>,
    /// Whether what the provider said of usage is its last word.
    pub usage_is_final: bool,
}

/// What an API's file finds in a response.
#[derive(Default)]
struct Answer {
    response_model: Option<String>,
    response_id: Option<String>,
    finish_reason_raw: Option<String>,
    usage: Option<Value>,
    /// Of a stream: it has come to where usage is told for good. What was told before then is less than what is charged.
    usage_is_final: bool,
    parts: Vec<Part>,
    error_type: Option<String>,
    first_chunk_ts: Option<Timestamp>,
    /// The response came to its end.
    ended: bool,
    /// What is kept of its events takes so much memory.
    kept: usize,
    /// There was no room for all that it says.
    cut: bool,
}

impl Answer {
    /// What is said of usage later replaces what was said before, name by name.
    fn add_usage(&mut self, new: &Value) {
        let Value::Object(new) = new else { return };
        match &mut self.usage {
            Some(Value::Object(usage)) if usage.len() < MAX_USAGE => {
                let said = new.iter().filter(|(_, value)| !value.is_null());
                usage.extend(said.map(|(name, value)| (name.clone(), value.clone())));
            }
            Some(_) => {}
            usage => *usage = Some(Value::Object(new.clone())),
        }
    }

    /// What an event says.
    fn read(&mut self, event: &Event) -> Option<Value> {
        let json = values::parse(event.data.as_bytes());
        self.cut |= json.is_none() && values::cost(event.data.as_bytes()) > values::MOST;
        json
    }

    /// Whether there is room to keep what an event says.
    fn keeps(&mut self, event: &Event) -> bool {
        self.kept = self.kept.saturating_add(values::cost(event.data.as_bytes()));
        self.cut |= self.kept > values::MOST;
        self.kept <= values::MOST
    }

    /// What `take` makes of the events of a stream, each of which is a piece of JSON.
    fn of_events(events: &[Event], take: impl Fn(&mut Answer, &Value, Option<Timestamp>)) -> Self {
        let mut answer = Answer::default();
        for event in events {
            let Some(json) = answer.read(event) else { continue };
            let parts = answer.parts.len();
            take(&mut answer, &json, Some(event.ts));
            if answer.parts.len() > parts && !answer.keeps(event) {
                answer.parts.truncate(parts);
            }
        }
        answer
    }
}

/// Tokens, in the meaning of OpenTelemetry: input includes what was cached.
#[derive(Default)]
struct Usage {
    input: Option<i64>,
    output: Option<i64>,
    cache_read: Option<i64>,
    cache_write: Option<i64>,
    reasoning: Option<i64>,
}

/// Most names that usage has, as a stream says it bit by bit.
const MAX_USAGE: usize = 256;

/// One API.
struct Api {
    wire_api: &'static str,
    /// OpenTelemetry's `gen_ai.operation.name`.
    operation: &'static str,
    /// Whether a request to this path may speak it: bodies of other requests are not looked at.
    path: fn(path: &str) -> bool,
    /// Whether an exchange with such a path and this request body speaks it. No body: it is damaged.
    recognise: fn(&Exchange, request: Option<&Value>) -> bool,
    /// Whether a response is of this API and no other, by its first event (and the name of that) or by all of it. Where a path is
    /// unknown, it is decided by this.
    answers: fn(event: Option<&str>, json: &Value) -> bool,
    /// Who answers, at a host that tells nothing.
    maker: fn(path: &str) -> Option<&'static str>,
    /// The model that is asked for.
    model: fn(path: &str, request: Option<&Value>) -> Option<String>,
    /// Whether a stream is asked for.
    streams: fn(path: &str, request: Option<&Value>) -> bool,
    /// What the model is given.
    messages: fn(request: &Value) -> Vec<Message>,
    /// Whether each item of the request's array `messages` is a message of its own, whatever stands around it, and what is said
    /// besides comes before them.
    one_by_one: bool,
    whole: fn(response: &Value) -> Answer,
    streamed: fn(events: &[Event]) -> Answer,
    usage: fn(usage: &Value) -> Usage,
    finish_reason: fn(raw: &str) -> Option<&'static str>,
}

/// What many APIs have in common.
const BASE: Api = Api {
    wire_api: "",
    operation: "chat",
    path: |_| false,
    recognise: |_, _| false,
    answers: |_, _| false,
    maker: |_| None,
    model: |_, request| text(request?.get("model")?),
    streams: |_, request| request.is_some_and(|json| json.get("stream").is_some_and(|stream| stream == true)),
    messages: |_| Vec::new(),
    one_by_one: false,
    whole: |_| Answer::default(),
    streamed: |_| Answer::default(),
    usage: |_| Usage::default(),
    finish_reason: |_| None,
};

/// Header fields in which providers name a request, the most telling first: Azure, AWS, Mistral, OpenRouter, Anthropic, OpenAI and
/// others, GitHub Copilot.
const REQUEST_IDS: [&str; 7] = [
    "apim-request-id",
    "x-amzn-requestid",
    "mistral-correlation-id",
    "x-generation-id",
    "request-id",
    "x-request-id",
    "x-github-request-id",
];

/// Whether a request may ask a model, by its path; where that is not known, it may.
pub(crate) fn may_ask(head: &Head) -> bool {
    choice::possible(path(head))
}

fn path(head: &Head) -> &str {
    head.target.split('?').next().unwrap_or_default()
}

/// The call that an exchange carries, if it carries one. Ids and names are filled in by the caller.
pub(crate) fn call(exchange: &Exchange, proc_id: i64, sent: &mut Resent) -> Option<Call> {
    let over_websocket = exchange.kind == Kind::OverWebSocket;
    let asks = |head: &&Head| head.method == "POST" || head.method.is_empty() && head.unknown_fields > 0;
    let head = exchange.request.as_deref().filter(|head| asks(head) || over_websocket)?;
    let path = path(head);
    if !choice::possible(path) {
        return None;
    }
    let whole = exchange.request_body.state == BodyState::Complete;
    let body = if whole { &exchange.request_body.data[..] } else { &[] };
    let mut asked = sent.request(proc_id, body);
    let mut request: Option<Value> = values::parse(asked.json());
    let streamed = exchange.is_event_stream();
    let parsed: Option<Value> = if streamed { None } else { values::parse(&exchange.response_body.data) };
    let mut api = choice::of(exchange, path, request.as_ref(), parsed.as_ref());
    if asked.is_cut() && !api.is_some_and(|api| asked.is_of(api.wire_api)) {
        asked = Request::whole(body);
        request = values::parse(body);
        api = choice::of(exchange, path, request.as_ref(), parsed.as_ref());
    }
    let api = api?;
    let response = exchange.response.as_ref();
    let answer = match (&parsed, streamed) {
        (_, true) => (api.streamed)(before_hole(exchange)),
        (Some(json), _) => {
            Answer { ended: true, usage_is_final: true, error_type: errors::of(json), ..(api.whole)(json) }
        }
        (None, _) => Answer::default(),
    };
    let usage = answer.usage.as_ref().map(api.usage).unwrap_or_default();
    let (start_ts, end_ts) = (Some(head.ts), exchange.end_ts);
    let host = head.host().or(exchange.server_name.as_deref()).unwrap_or_default();
    let status = response.map_or(0, |head| head.status);
    let failed = answer.error_type.is_some() || status >= 400;
    // A client may stop reading at the end of the stream that the API defines, or at an error, before the end of the message around it.
    let over = answer.ended || answer.error_type.is_some();
    let whole_stream = streamed && over && exchange.response_body.state == BodyState::Cut;
    let complete =
        request.is_some() && !answer.cut && (exchange.complete() && (answer.ended || failed) || whole_stream);
    let field = |name: &str| response.and_then(|head| head.field(name));
    let mut message = Message::new(Role::Assistant, answer.parts);
    let mut said = request.as_ref().map(api.messages).unwrap_or_default();
    if asked.is_cut() && unnamed::any(said.iter().chain([&message])) {
        // Their keys depend on all that was said before.
        asked = Request::whole(body);
        request = values::parse(body);
        said = request.as_ref().map(api.messages).unwrap_or_default();
    }
    let shared = api.one_by_one && !unnamed::any(&said);
    unnamed::give_keys(&mut said, &mut message);
    let said: Vec<_> = said.into_iter().map(|message| Rc::new(Said::new(message))).collect();
    let said = if shared { sent.all(proc_id, api.wire_api, asked, said) } else { said };
    let finish_reason = answer.finish_reason_raw.as_deref().and_then(api.finish_reason);
    // Some providers say of an answer that asks for tools that it is at its end.
    let asks_tools = finish_reason == Some("stop") && message.tool_calls().any(|call| !call.server);
    let session = request.as_ref().and_then(|json| session_id::of(head, json));
    let row = LlmCall {
        http_id: exchange.http_id,
        wire_api: api.wire_api,
        provider_name: provider::of(host, path, (api.maker)(path)),
        operation_name: api.operation,
        previous_response_id: request.as_ref().and_then(previous_response),
        session_id: session.as_ref().map(|session| session.id.clone()),
        request_model: (api.model)(path, request.as_ref()),
        response_model: answer.response_model,
        response_id: answer.response_id,
        provider_request_id: REQUEST_IDS.iter().find_map(|name| field(name)).map(str::to_owned),
        stream: streamed || (api.streams)(path, request.as_ref()),
        start_ts,
        first_chunk_ts: answer.first_chunk_ts,
        end_ts,
        duration_ns: since(start_ts, end_ts),
        ttfc_ns: since(start_ts, answer.first_chunk_ts),
        status_code: Some(status.into()).filter(|status| *status != 0),
        error_type: errors::of_response(answer.error_type, field("x-amzn-errortype"), status),
        finish_reason: if asks_tools && !failed {
            Some("tool_call")
        } else {
            finish_reason.or(failed.then_some("error"))
        },
        finish_reason_raw: answer.finish_reason_raw,
        input_tokens: usage.input,
        output_tokens: usage.output,
        cache_read_input_tokens: usage.cache_read,
        cache_write_input_tokens: usage.cache_write,
        reasoning_output_tokens: usage.reasoning,
        usage_source: if answer.usage.is_some() { "reported" } else { "none" },
        usage_raw: answer.usage.map(|usage| usage.to_string()),
        output_text: Some(message.text()).filter(|text| !text.is_empty()),
        aborted: response.is_some() && !answer.ended && !failed,
        complete,
        ..LlmCall::default()
    };
    let asked = request.is_some();
    let tools = request.as_mut().and_then(tools);
    let tier = request.as_ref().and_then(|json| text(json.get("service_tier").or_else(|| json.get("speed"))?));
    let usage_is_final = answer.usage_is_final;
    Some(Call { row, request: said, answer: Said::new(message), asked, tools, session, tier, usage_is_final })
}

/// The response that a request goes on from, in place of sending the history.
fn previous_response(request: &Value) -> Option<String> {
    text(request.get("previous_response_id").or_else(|| request.get("thread")?.get("previous_message_id"))?)
}

/// Takes out the tools that a request offers.
fn tools(request: &mut Value) -> Option<Value> {
    let name = ["tools", "toolConfig", "functions"].into_iter().find(|name| request.get(name).is_some())?;
    let tools = request.get_mut(name)?.take();
    let none = tools.is_null() || tools.as_array().is_some_and(Vec::is_empty);
    (!none).then_some(tools)
}

/// The events up to the first that could not be had: what is pieced together of those behind it may look whole. (Over WebSocket,
/// what is pieced together comes once more when it is whole.)
fn before_hole(exchange: &Exchange) -> &[Event] {
    let whole = |(expected, event): (i64, &Event)| exchange.kind == Kind::OverWebSocket || event.idx == expected;
    let count = (0..).zip(&exchange.events).take_while(|numbered| whole(*numbered)).count();
    exchange.events.get(..count).unwrap_or_default()
}

fn since(start: Option<Timestamp>, end: Option<Timestamp>) -> Option<i64> {
    Some(end?.0.saturating_sub(start?.0))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number(value: &Value, path: &[&str]) -> Option<i64> {
    path.iter().try_fold(value, |value, name| value.get(name))?.as_i64()
}

/// A text as it is; anything else as compact JSON.
fn content_text(content: Option<&Value>) -> String {
    match content {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
