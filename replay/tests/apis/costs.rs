//! What a call costs is known when the provider has said for good what it took.

use super::*;

/// A stream, event by event, and behind how many of them its usage is final.
struct Stream {
    host: &'static str,
    path: &'static str,
    request: &'static str,
    fields: &'static str,
    events: Vec<Vec<u8>>,
    last: usize,
}

fn sse_of(data: &[&str]) -> Vec<Vec<u8>> {
    data.iter().map(|data| sse(&[data]).into_bytes()).collect()
}

const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
const ANTHROPIC: [&str; 4] = [
    r#"{"type":"message_start","message":{"id":"m","type":"message","model":"claude-sonnet-4-5","stop_reason":null,"usage":{"input_tokens":10,"output_tokens":1}}}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":4}}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#,
    r#"{"type":"message_stop"}"#,
];
/// As xAI does it: every chunk counts.
const CHAT: [&str; 3] = [
    r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"half"}}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#,
    r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
    "[DONE]",
];
/// As OpenAI does it: behind the end.
const CHAT_AT_THE_END: [&str; 4] = [
    r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"half"}}],"usage":null}"#,
    r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
    "[DONE]",
];
const RESPONSES: [&str; 2] = [
    r#"{"type":"response.in_progress","response":{"id":"r","model":"gpt-4o","usage":{"input_tokens":9,"output_tokens":0}}}"#,
    r#"{"type":"response.failed","response":{"id":"r","model":"gpt-4o","status":"failed","error":{"code":"server_error"},"usage":{"input_tokens":9,"output_tokens":2}}}"#,
];
const GEMINI: [&str; 2] = [
    r#"{"candidates":[{"content":{"parts":[{"text":"half"}]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1},"modelVersion":"gemini-2.5-pro"}"#,
    r#"{"candidates":[{"content":{"parts":[]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2},"modelVersion":"gemini-2.5-pro"}"#,
];

fn streams() -> Vec<Stream> {
    let anthropic = |data: &[&str], last| Stream {
        host: "api.anthropic.com",
        path: "/v1/messages",
        request: r#"{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"go"}]}"#,
        fields: SSE,
        events: sse_of(data),
        last,
    };
    let overloaded = [ANTHROPIC[0], ANTHROPIC[1], OVERLOADED];
    let chat = |data: &[&str], last| Stream {
        host: "api.openai.com",
        path: "/v1/chat/completions",
        request: r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"go"}]}"#,
        fields: SSE,
        events: sse_of(data),
        last,
    };
    let bedrock = |path, request, events| Stream {
        host: "bedrock-runtime.eu-west-1.amazonaws.com",
        path,
        request,
        fields: "Content-Type: application/vnd.amazon.eventstream\r\n",
        events,
        last: 0,
    };
    let converse: Vec<_> = bedrock::EVENTS.iter().map(|event| bedrock::events(&[*event])).collect();
    vec![
        chat(&CHAT, 2),
        chat(&CHAT_AT_THE_END, 3),
        Stream {
            path: "/v1/responses",
            request: r#"{"model":"gpt-4o","stream":true,"input":"go"}"#,
            ..chat(&RESPONSES, 2)
        },
        Stream {
            host: "generativelanguage.googleapis.com",
            path: "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
            request: r#"{"contents":[{"role":"user","parts":[{"text":"go"}]}]}"#,
            ..chat(&GEMINI, 2)
        },
        Stream {
            last: converse.len(),
            ..bedrock(
                "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
                r#"{"messages":[{"role":"user","content":[{"text":"go"}]}]}"#,
                converse,
            )
        },
        Stream {
            last: 3,
            ..bedrock(
                "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream",
                r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#,
                ANTHROPIC.iter().map(|piece| bedrock::chunks(&[piece])).collect(),
            )
        },
        anthropic(&ANTHROPIC, 3),
        anthropic(&overloaded, usize::MAX),
    ]
}

#[test]
fn a_call_costs_something_only_where_the_usage_that_was_reported_is_final() {
    for stream in streams() {
        for count in 1..=stream.events.len() {
            let answer = stream.events[..count].concat();
            let exchange = Api::new(stream.host, stream.path, stream.request).answer(stream.fields, answer);
            let seen = rows(&script(&[exchange], usize::MAX).records);
            let calls = seen.table("llm_calls");
            let costs: Vec<_> = calls.iter().map(|call| call.get("cost_usd").zip(call.get("price_table"))).collect();
            assert_eq!(costs.len(), 1, "{}", stream.path);
            assert_eq!(costs[0].is_some(), count >= stream.last, "{}: {count} events: {calls:#?}", stream.path);
        }
    }
}

#[test]
fn a_whole_answer_costs_what_it_says() {
    let answer = r#"{"id":"m","type":"message","model":"claude-sonnet-4-5","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1000,"output_tokens":1000}}"#;
    let request = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#;
    let seen = seen(&[Api::new("api.anthropic.com", "/v1/messages", request).answer(JSON, answer)]);
    check_calls(&seen, &[&["cost_usd=Double(0.018)"]]);
}
