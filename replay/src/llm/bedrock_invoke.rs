//! Bedrock's InvokeModel: POST /model/ID/invoke, answered by the JSON of whoever made the model, or
//! /model/ID/invoke-with-response-stream, answered by an AWS event stream of `chunk`s that have such JSON in base64. The last one
//! has Bedrock's own counts besides. What is spoken is the maker's API: Anthropic's Messages, Converse (Amazon's Nova), or OpenAI's
//! chat. Embeddings and images are no calls.

use super::{Answer, Api, Usage, anthropic, bedrock, number, openai_chat};
use crate::event::Event;
use crate::values;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(super) const ANTHROPIC: Api = Api {
    recognise: |exchange, request| match request {
        Some(_) => is_asked(request, Maker::Anthropic),
        None => exchange.request.as_ref().is_some_and(|head| head.target.contains("anthropic.")),
    },
    answers: |event, json| is_chunk(event, json) || (anthropic::API.answers)(event, json),
    streamed: |events| streamed(&anthropic::API, events),
    usage: |usage| counts(usage).unwrap_or_else(|| (anthropic::API.usage)(usage)),
    ..as_invoked(&anthropic::API)
};

pub(super) const NOVA: Api = Api {
    recognise: |_, request| is_asked(request, Maker::Amazon),
    streamed: |events| streamed(&bedrock::API, events),
    usage: |usage| counts(usage).unwrap_or_else(|| (bedrock::API.usage)(usage)),
    ..as_invoked(&bedrock::API)
};

pub(super) const OPENAI: Api = Api {
    recognise: |_, request| is_asked(request, Maker::Other),
    streamed: |events| streamed(&openai_chat::API, events),
    usage: |usage| counts(usage).unwrap_or_else(|| (openai_chat::API.usage)(usage)),
    ..as_invoked(&openai_chat::API)
};

/// An API, as it is spoken through Bedrock.
const fn as_invoked(api: &Api) -> Api {
    Api {
        path: |path| {
            path.contains("/model/") && (path.ends_with("/invoke") || path.ends_with("/invoke-with-response-stream"))
        },
        answers: is_chunk,
        maker: bedrock::API.maker,
        model: bedrock::API.model,
        streams: bedrock::API.streams,
        ..*api
    }
}

/// Whose JSON a request is.
#[derive(PartialEq, Eq)]
enum Maker {
    Anthropic,
    Amazon,
    Other,
}

fn is_asked(request: Option<&Value>, by: Maker) -> bool {
    let Some(request) = request.filter(|json| json.get("messages").is_some_and(Value::is_array)) else { return false };
    let has = |name: &str| request.get(name).is_some();
    let maker = if has("anthropic_version") {
        Maker::Anthropic
    } else if has("schemaVersion") || has("inferenceConfig") || has("toolConfig") {
        Maker::Amazon
    } else {
        Maker::Other
    };
    maker == by
}

fn is_chunk(event: Option<&str>, json: &Value) -> bool {
    event == Some("chunk") && json.get("bytes").is_some()
}

/// What a chunk has inside. Nova's is an object of one field, the name that the event has in Converse.
fn inside(event: &Event, chunk: &Value) -> Option<(Event, Option<Value>)> {
    let bytes = STANDARD.decode(chunk.get("bytes")?.as_str()?).ok()?;
    let mut json = values::parse(&bytes)?;
    let metrics = json.get_mut("amazon-bedrock-invocationMetrics").map(Value::take);
    let nova =
        ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
    let name = nova.iter().find(|name| json.get(name).is_some());
    if let Some(inner) = name.and_then(|name| json.get_mut(name)) {
        json = inner.take();
    }
    let name = name.map(|name| (*name).to_owned());
    Some((Event { name, data: json.to_string(), ..event.clone() }, metrics))
}

fn streamed(api: &Api, events: &[Event]) -> Answer {
    let (mut counts, mut exception, mut pieces) = (None, None, Vec::new());
    for event in events {
        let Some(json) = values::parse(event.data.as_bytes()) else { continue };
        match inside(event, &json) {
            Some((piece, metrics)) => {
                pieces.push(piece);
                counts = metrics.or(counts);
            }
            None => exception = bedrock::exception(event.name.as_deref().unwrap_or_default(), &json).or(exception),
        }
    }
    let mut answer = (api.streamed)(&pieces);
    // Not every API has an end of its own here; Bedrock's counts come with the last chunk.
    answer.ended |= counts.is_some();
    answer.usage_is_final |= counts.is_some();
    answer.usage = answer.usage.or(counts);
    answer.error_type = exception.or(answer.error_type);
    answer
}

/// Bedrock's own counts, where there are no others; as with Converse, the input excludes the cache.
fn counts(usage: &Value) -> Option<Usage> {
    let count = |name: &str| number(usage, &[name]);
    let (read, write) = (count("cacheReadInputTokenCount"), count("cacheWriteInputTokenCount"));
    let input = count("inputTokenCount")? + read.unwrap_or(0) + write.unwrap_or(0);
    let output = count("outputTokenCount");
    Some(Usage { input: Some(input), output, cache_read: read, cache_write: write, reasoning: None })
}
