use super::*;

const TOOL: &str = r#"{"index":0,"id":"call_1","type":"function","function":{"name":"run","arguments":"{\"c\":1}"}}"#;
const ASKED: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"go"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]}"#;

/// A provider that speaks as OpenAI does, with its own accent.
#[track_caller]
fn check_one(exchange: Api, expected: &[&str]) {
    let whole = ["wire_api=openai.chat", "complete=true", "aborted=false"];
    check_calls(&seen(&[exchange]), &[&[&whole[..], expected].concat()]);
}

#[test]
fn azure_has_deployments_and_a_first_chunk_without_choices() {
    let pieces = [
        r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"choices":[{"delta":{"content":"hé","role":"assistant"},"finish_reason":null,"index":0}],"id":"c-1","model":"gpt-4o-2024-11-20","object":"chat.completion.chunk"}"#,
        r#"{"choices":[{"delta":{"content":"llo"},"finish_reason":"stop","index":0}],"id":"c-1","model":"gpt-4o-2024-11-20","usage":null}"#,
        r#"{"choices":[],"id":"c-1","model":"gpt-4o-2024-11-20","usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
        "[DONE]",
    ];
    let fields = "Content-Type: text/event-stream\r\nx-request-id: x\r\napim-request-id: azure-1\r\n";
    let request = r#"{"stream":true,"messages":[{"role":"user","content":"go"}]}"#;
    let path = "/openai/deployments/my-gpt/chat/completions?api-version=2025-01-01";
    check_one(
        Api::new("me.openai.azure.com", path, request).answer(fields, sse(&pieces)),
        &[
            "provider_name=azure.ai.openai",
            "request_model=my-gpt",
            "response_model=gpt-4o-2024-11-20",
            "response_id=c-1",
            "provider_request_id=azure-1",
            "output_text=héllo",
            "input_tokens=9",
            "finish_reason=stop",
        ],
    );
    let refused = r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400}}"#;
    let asked = Api::new("me.services.ai.azure.com", "/openai/v1/chat/completions", ASKED);
    check_one(
        Api { status: "400 Bad Request", ..asked }.answer(JSON, refused),
        &["provider_name=azure.ai.openai", "error_type=content_filter", "finish_reason=error"],
    );
}

#[test]
fn mistral_thinks_in_parts_of_its_content() {
    let pieces = [
        r#"{"id":"m-1","model":"magistral-medium-2509","choices":[{"index":0,"delta":{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"hmm"}]}]},"finish_reason":null}]}"#,
        r#"{"id":"m-1","model":"magistral-medium-2509","choices":[{"index":0,"delta":{"content":[{"type":"text","text":"dé"}]},"finish_reason":null}]}"#,
        &format!(
            r#"{{"id":"m-1","model":"magistral-medium-2509","choices":[{{"index":0,"delta":{{"content":"jà","tool_calls":[{TOOL}]}},"finish_reason":"tool_calls"}}],"usage":{{"prompt_tokens":7,"total_tokens":11,"completion_tokens":4}}}}"#
        ),
        "[DONE]",
    ];
    let fields = "Content-Type: text/event-stream; charset=utf-8\r\nmistral-correlation-id: corr-1\r\n";
    check_one(
        Api::new("api.mistral.ai", "/v1/chat/completions", ASKED).answer(fields, sse(&pieces)),
        &[
            "provider_name=mistral_ai",
            "provider_request_id=corr-1",
            "output_text=déjà",
            "finish_reason=tool_call",
            "output_tokens=4",
        ],
    );
    let invalid =
        r#"{"object":"error","message":"Invalid model: m","type":"invalid_model","param":null,"code":"1500"}"#;
    let asked = Api::new("api.mistral.ai", "/v1/chat/completions", ASKED);
    check_one(Api { status: "400 Bad Request", ..asked }.answer(JSON, invalid), &["error_type=invalid_model"]);
}

#[test]
fn deepseek_has_no_version_in_its_path_and_shows_what_it_thinks() {
    let pieces = [
        r#"{"id":"d-1","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"hmm"},"finish_reason":null}]}"#,
        r#"{"id":"d-1","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"content":"yes","reasoning_content":null},"finish_reason":null}]}"#,
        r#"{"id":"d-1","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":80,"completion_tokens":20,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":16,"completion_tokens_details":{"reasoning_tokens":15}}}"#,
        "[DONE]",
    ];
    check_one(
        Api::new("api.deepseek.com", "/chat/completions", ASKED).answer(SSE, sse(&pieces)),
        &[
            "provider_name=deepseek",
            "input_tokens=80",
            "cache_read_input_tokens=64",
            "reasoning_output_tokens=15",
            "output_text=yes",
        ],
    );
}

#[test]
fn openrouter_comments_and_breaks_off_with_an_error() {
    let processing = ": OPENROUTER PROCESSING\n\n";
    let said = r#"{"id":"gen-1","provider":"Anthropic","model":"anthropic/claude-x","choices":[{"index":0,"delta":{"content":"half","reasoning":"hm"},"finish_reason":null}]}"#;
    let broken = r#"{"id":"gen-1","model":"anthropic/claude-x","error":{"code":502,"message":"Provider disconnected"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#;
    let last = r#"{"id":"gen-1","model":"anthropic/claude-x","choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":50,"completion_tokens":5,"cost":0.01,"prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":20}}}"#;
    let fields = "Content-Type: text/event-stream\r\nX-Generation-Id: gen-1\r\n";
    let asked = || Api::new("openrouter.ai", "/api/v1/chat/completions", ASKED);
    let body = |pieces: &[&str]| format!("{processing}{}", sse(pieces));
    check_one(
        asked().answer(fields, body(&[said, broken])),
        &[
            "provider_name=openrouter",
            "provider_request_id=gen-1",
            "error_type=502",
            "status_code=200",
            "finish_reason=error",
            "output_text=half",
        ],
    );
    check_one(
        asked().answer(fields, body(&[said, last, "[DONE]"])),
        &[
            "finish_reason=length",
            "cache_read_input_tokens=10",
            "cache_write_input_tokens=20",
            "response_model=anthropic/claude-x",
        ],
    );
    let poor = r#"{"error":{"code":402,"message":"Insufficient credits"},"user_id":"u"}"#;
    check_one(Api { status: "402 Payment Required", ..asked() }.answer(JSON, poor), &["error_type=402"]);
}

#[test]
fn copilot_speaks_three_of_the_apis() {
    let host = "api.individual.githubcopilot.com";
    let chat = r#"{"id":"c","model":"gpt-x-1","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let messages = r#"{"id":"msg_1","type":"message","model":"claude-x","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#;
    let item = r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"yes"}]}"#;
    let responses = format!(
        r#"{{"id":"resp_1","object":"response","model":"gpt-x-1","status":"completed","output":[{item}],"usage":{{"input_tokens":1,"output_tokens":1}}}}"#
    );
    let fields = "Content-Type: application/json\r\nx-github-request-id: gh-1\r\n";
    let anthropic = r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#;
    let seen = seen(&[
        Api::new(host, "/chat/completions", ASKED).answer(fields, chat),
        Api::new(host, "/v1/messages", anthropic).answer(fields, messages),
        Api::new(host, "/responses", r#"{"model":"gpt-x","input":"go"}"#).answer(fields, responses),
        Api::new(host, "/telemetry", ASKED).answer(fields, "{}"),
        Api::new(host, "/embeddings", r#"{"model":"e","input":"go"}"#).answer(fields, "{}"),
    ]);
    let all = ["provider_name=github_copilot", "output_text=yes", "provider_request_id=gh-1"];
    let with = |api: &'static str| [&all[..], &[api]].concat();
    check_calls(
        &seen,
        &[&with("wire_api=openai.chat"), &with("wire_api=anthropic.messages"), &with("wire_api=openai.responses")],
    );
}

#[test]
fn tools_that_openai_runs_itself() {
    let items = r#"{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}},{"type":"code_interpreter_call","id":"ci_1","status":"completed","code":"1+1","outputs":[{"type":"logs","logs":"2"}]},{"type":"mcp_call","id":"mcp_1","name":"roll","server_label":"dice","arguments":"{\"n\":2}","output":"7","error":null},{"type":"function_call","call_id":"call_1","name":"run","arguments":"{}"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"yes"}]}"#;
    let response = format!(
        r#"{{"id":"resp_1","object":"response","model":"m-1","status":"completed","output":[{items}],"usage":{{"input_tokens":1,"output_tokens":1}}}}"#
    );
    let asked = Api::new("api.openai.com", "/v1/responses", r#"{"model":"m","input":"go"}"#);
    check(
        &seen(&[asked.answer(JSON, response)]),
        "tool_calls",
        &[
            &["tool_name=code_interpreter", "tool_type=server", r#"result=[{"type":"logs","logs":"2"}]"#],
            &["tool_name=roll", "tool_type=server", r#"arguments={"n":2}"#, "result=7"],
            &["tool_name=web_search", "tool_type=server", r#"arguments={"type":"search","query":"x"}"#, "result="],
            &["tool_name=run", "tool_type=function", "tool_call_id=call_1"],
        ],
    );
}
