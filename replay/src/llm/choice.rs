//! Which API an exchange speaks: its path says so, together with its body, since telemetry and the counting of tokens go to paths
//! nearby. Of an HTTP/2 connection that was not seen from its start, the path may be unknown: then request and answer must fit one
//! API and no other.

use super::{Api, anthropic, bedrock, bedrock_invoke, gemini, ollama, openai_chat, openai_responses};
use crate::event::Event;
use crate::exchange::Exchange;
use crate::values;
use serde_json::Value;

/// The first that recognises an exchange has it.
const APIS: &[&Api] = &[
    &anthropic::API,
    &openai_chat::API,
    &openai_responses::API,
    &gemini::API,
    &bedrock::API,
    &bedrock_invoke::ANTHROPIC,
    &bedrock_invoke::NOVA,
    &bedrock_invoke::OPENAI,
    &ollama::CHAT,
    &ollama::GENERATE,
];

/// Whether a request to this path may be a call: bodies of others are not looked at. An empty path is unknown.
pub(super) fn possible(path: &str) -> bool {
    path.is_empty() || APIS.iter().any(|api| (api.path)(path))
}

fn read(event: &Event) -> Option<(Option<&str>, Value)> {
    Some((event.name.as_deref(), values::parse(event.data.as_bytes())?))
}

/// The API of an exchange; `response` is that of one that is not streamed.
pub(super) fn of(
    exchange: &Exchange,
    path: &str,
    request: Option<&Value>,
    response: Option<&Value>,
) -> Option<&'static Api> {
    let recognises = |api: &&Api| (api.recognise)(exchange, request);
    if !path.is_empty() {
        return APIS.iter().copied().filter(|api| (api.path)(path)).find(recognises);
    }
    request?;
    let (name, first) = match response {
        Some(response) => (None, response.clone()),
        None => exchange.events.iter().find_map(read)?,
    };
    let mut fit = APIS.iter().copied().filter(recognises).filter(|api| (api.answers)(name, &first));
    let api = fit.next()?;
    fit.next().is_none().then_some(api)
}
