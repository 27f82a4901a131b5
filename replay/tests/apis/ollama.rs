use super::*;

const HOST: &str = "localhost:11434";
const LINES: &str = "Content-Type: application/x-ndjson\r\n";

const ASKS: &str = r#"{"model":"qwen3:4b","created_at":"2026-01-01T00:00:00.1Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}
{"model":"qwen3:4b","created_at":"2026-01-01T00:00:00.2Z","message":{"role":"assistant","content":"","thinking":"m"},"done":false}
{"model":"qwen3:4b","created_at":"2026-01-01T00:00:00.3Z","message":{"role":"assistant","content":"dé"},"done":false}
{"model":"qwen3:4b","created_at":"2026-01-01T00:00:00.4Z","message":{"role":"assistant","content":"jà","tool_calls":[{"function":{"name":"add","arguments":{"a":1,"b":2}}},{"function":{"name":"now","arguments":{}}}]},"done":false}
{"model":"qwen3:4b","created_at":"2026-01-01T00:00:00.5Z","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}
"#;

const FIRST: &str = r#"{"model":"qwen3:4b","messages":[{"role":"user","content":"what is 1+2, and what time?","images":["iVBORw0KGgo="]}],"tools":[]}"#;
/// The second result has no name: it is that of the call which is left.
const SECOND: &str = r#"{"model":"qwen3:4b","stream":false,"messages":[{"role":"user","content":"what is 1+2, and what time?"},{"role":"assistant","content":"déjà","tool_calls":[{"function":{"name":"add","arguments":{"b":2,"a":1}}},{"function":{"name":"now","arguments":{}}}]},{"role":"tool","tool_name":"now","content":"noon"},{"role":"tool","content":"3"}]}"#;
const ANSWER: &str = r#"{"model":"qwen3:4b","created_at":"2026-01-01T00:00:01Z","message":{"role":"assistant","content":"3 at noon"},"done":true,"done_reason":"length","total_duration":1,"prompt_eval_count":60,"eval_count":4}"#;

#[test]
fn a_conversation_in_lines_and_whole() {
    let seen = seen(&[
        Api::new(HOST, "/api/chat", FIRST).answer(LINES, ASKS),
        Api::new(HOST, "/api/chat", SECOND).answer(JSON, ANSWER),
        Api::new(HOST, "/api/chat", SECOND).answer(JSON, ANSWER),
    ]);
    let last: &[&str] = &["finish_reason=length", "output_text=3 at noon", "stream=false", "input_tokens=60"];
    check_calls(
        &seen,
        &[
            &[
                "wire_api=ollama.chat",
                "provider_name=ollama",
                "operation_name=chat",
                "request_model=qwen3:4b",
                "response_model=qwen3:4b",
                "finish_reason=tool_call",
                "finish_reason_raw=stop",
                "input_tokens=26",
                "output_tokens=282",
                "output_text=déjà",
                "stream=true",
                "complete=true",
            ],
            last,
            last,
        ],
    );
    check(
        &seen,
        "tool_calls",
        &[
            &["tool_name=now", "result=noon", "tool_call_id="],
            &["tool_name=add", "result=3", r#"arguments={"a":1,"b":2}"#, "llm_call_id=1", "result_llm_call_id=2"],
        ],
    );
    let framings: Vec<_> = seen.table("stream_events").iter().map(|event| event["framing"].as_str()).collect();
    assert_eq!(framings, ["ndjson"; 5]);
}

#[test]
fn generate_errors_and_a_line_that_is_torn() {
    let request = r#"{"model":"llama3.2","prompt":"why?","system":"be brief"}"#;
    let lines = "{\"model\":\"llama3.2\",\"created_at\":\"t\",\"response\":\"be\",\"done\":false}\n{\"model\":\"llama3.2\",\"created_at\":\"t\",\"response\":\"cause\",\"done\":true,\"done_reason\":\"stop\",\"context\":[1,2],\"prompt_eval_count\":5,\"eval_count\":2}\n";
    let failed = "{\"model\":\"llama3.2\",\"created_at\":\"t\",\"response\":\"be\",\"done\":false}\n{\"error\":\"an error was encountered while running the model\"}\n";
    let asked = || Api::new(HOST, "/api/generate", request);
    let seen = seen(&[
        asked().answer(LINES, lines),
        asked().answer(LINES, failed),
        asked().answer(LINES, &lines[..lines.len() - 20]),
        Api { status: "404 Not Found", ..asked() }.answer(JSON, r#"{"error":"model 'llama3.2' not found"}"#),
    ]);
    check_calls(
        &seen,
        &[
            &["wire_api=ollama.generate", "operation_name=text_completion", "output_text=because", "output_tokens=2"],
            &["error_type=error", "finish_reason=error", "output_text=be", "complete=true"],
            &["aborted=true", "complete=false", "output_text=be"],
            &["error_type=404", "status_code=404"],
        ],
    );
}

#[test]
fn what_only_has_such_a_path_is_no_call() {
    let ours = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
    let load = r#"{"model":"llama3.2","messages":[]}"#;
    let unload = r#"{"model":"llama3.2","prompt":"","keep_alive":0}"#;
    let loaded = r#"{"model":"llama3.2","created_at":"t","response":"","done":true,"done_reason":"load"}"#;
    check_calls(
        &seen(&[
            Api::new("app.example.com", "/api/chat", ours).answer(SSE, sse(&["hello"])),
            Api::new("app.example.com", "/api/chat", FIRST).answer(SSE, sse(&[r#"{"text":"hello"}"#])),
            Api::new(HOST, "/api/chat", load).answer(JSON, loaded),
            Api::new(HOST, "/api/generate", unload).answer(JSON, loaded),
            Api::new(HOST, "/api/embed", r#"{"model":"m","input":"x"}"#).answer(JSON, "{}"),
        ]),
        &[],
    );
}
