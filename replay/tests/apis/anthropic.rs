use super::*;

const HOST: &str = "api.anthropic.com";
const ASKED: &str = r#"{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"go"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]}"#;
const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-1","content":[],"stop_reason":null,"usage":{"input_tokens":10,"output_tokens":1}}}"#;
const TEXT: [&str; 2] = [
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half"}}"#,
];
const END: [&str; 3] = [
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7,"server_tool_use":{"web_search_requests":1}}}"#,
    r#"{"type":"message_stop"}"#,
];

fn asked() -> Api {
    Api { fields: "anthropic-version: 2023-06-01\r\n", ..Api::new(HOST, "/v1/messages", ASKED) }
}

#[test]
fn overloaded_before_the_stream_and_in_it() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let fields = "Content-Type: application/json\r\nrequest-id: req_1\r\n";
    let seen = seen(&[
        Api { status: "529 Overloaded", ..asked() }.answer(fields, overloaded),
        asked().answer(SSE, format!("{}event: error\n{}", sse(&[&[START], &TEXT[..]].concat()), sse(&[overloaded]))),
    ]);
    let failed =
        ["error_type=overloaded_error", "finish_reason=error", "complete=true", "aborted=false", "stream=true"];
    check_calls(
        &seen,
        &[
            &[&failed[..], &["status_code=529", "provider_request_id=req_1", "output_text="]].concat(),
            &[&failed[..], &["status_code=200", "output_text=half", "response_id=msg_1"]].concat(),
        ],
    );
}

#[test]
fn a_client_that_gives_up_aborts_the_call() {
    let answer = asked().answer(SSE, sse(&[&[START], &TEXT[..]].concat()));
    let mut cut = script(&[answer], 100);
    // The last chunk does not come.
    cut.records.pop();
    let seen = rows(&cut.records);
    check_calls(&seen, &[&["aborted=true", "complete=false", "output_text=half", "input_tokens=10", "error_type="]]);
}

#[test]
fn a_client_need_not_read_on_behind_an_error_or_the_end() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for (end, error) in [(&[overloaded][..], "error_type=overloaded_error"), (&END[..], "error_type=")] {
        let answer = asked().answer(SSE, sse(&[&[START], &TEXT[..], end].concat()));
        let mut cut = script(&[answer], 1);
        // The empty chunk, which ends the message around it.
        cut.records.truncate(cut.records.len() - 5);
        let seen = rows(&cut.records);
        check_calls(&seen, &[&["aborted=false", "complete=true", "output_text=half", error]]);
    }
}

#[test]
fn on_vertex_ai_the_model_stands_in_the_path() {
    let host = "us-east5-aiplatform.googleapis.com";
    let path = |model: &str| -> &'static str {
        format!("/v1/projects/p/locations/us-east5/publishers/anthropic/models/{model}").leak()
    };
    let request =
        r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#;
    let whole = r#"{"id":"msg_vrtx_2","type":"message","model":"claude-x-1","content":[{"type":"text","text":"done"}],"stop_reason":"max_tokens","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let limited = r#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED"}}"#;
    let seen = seen(&[
        Api::new(host, path("claude-x@20250514:streamRawPredict"), request)
            .answer(SSE, sse(&[&[START], &TEXT[..], &END].concat())),
        Api::new(host, path("claude-x@20250514:rawPredict"), request).answer(JSON, whole),
        Api { status: "429 Too Many Requests", ..Api::new(host, path("claude-x:rawPredict"), request) }
            .answer(JSON, limited),
        Api::new(host, path("count-tokens:rawPredict"), request).answer(JSON, r#"{"input_tokens":5}"#),
    ]);
    let all = ["wire_api=anthropic.messages", "provider_name=gcp.vertex_ai", "complete=true"];
    check_calls(
        &seen,
        &[
            &[&all[..], &["request_model=claude-x@20250514", "stream=true", "output_text=half", "output_tokens=7"]]
                .concat(),
            &[&all[..], &["request_model=claude-x@20250514", "stream=false", "finish_reason=length"]].concat(),
            &[&all[..], &["error_type=RESOURCE_EXHAUSTED"]].concat(),
        ],
    );
}

#[test]
fn a_search_that_the_provider_makes_has_its_result_in_the_answer() {
    let pieces = [
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"x\"}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","title":"X","url":"https://x.example"}]}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        END[1],
        END[2],
    ];
    let seen = seen(&[asked().answer(SSE, sse(&pieces))]);
    check_calls(&seen, &[&["finish_reason=stop", "complete=true"]]);
    check(
        &seen,
        "tool_calls",
        &[&[
            "tool_call_id=srvtoolu_1",
            "tool_type=server",
            r#"arguments={"query":"x"}"#,
            r#"result=[{"type":"web_search_result","title":"X","url":"https://x.example"}]"#,
        ]],
    );
}

#[test]
fn batches_and_counting_are_no_calls() {
    let seen = seen(&[
        Api::new(HOST, "/v1/messages/count_tokens", ASKED).answer(JSON, r#"{"input_tokens":5}"#),
        Api::new(HOST, "/v1/messages/batches", r#"{"requests":[]}"#).answer(JSON, "{}"),
        Api::new(HOST, "/api/event_logging/batch", ASKED).answer(JSON, "{}"),
    ]);
    check_calls(&seen, &[]);
}
