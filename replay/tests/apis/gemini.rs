use super::*;

const HOST: &str = "generativelanguage.googleapis.com";
const STREAM: &str = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
const WHOLE: &str = "/v1beta/models/gemini-2.5-pro:generateContent?key=k";
const PROMPT: &str = r#"{"role":"user","parts":[{"text":"what is in this image? then look into /a and /b"},{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]}"#;

/// The pieces of an answer that thinks, says something, and asks for one tool twice.
const PIECES: [&str; 3] = [
    r#"{"candidates": [{"content": {"parts": [{"text": "Let me ","thought": true}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 300,"totalTokenCount": 300,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 300}]},"modelVersion": "gemini-2.5-pro-001","responseId": "r-1"}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": "look.","thought": true},{"text": "Déjà "},{"text": "vu ✓"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 300,"totalTokenCount": 310},"modelVersion": "gemini-2.5-pro-001","responseId": "r-1"}"#,
    r#"{"candidates": [{"content": {"parts": [{"functionCall": {"name": "ls","args": {"path": "/a","all": true}},"thoughtSignature": "c2ln"},{"functionCall": {"name": "ls","args": {"path": "/b"}}}],"role": "model"},"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 300,"candidatesTokenCount": 20,"cachedContentTokenCount": 256,"thoughtsTokenCount": 30,"totalTokenCount": 350},"modelVersion": "gemini-2.5-pro-001","responseId": "r-1"}"#,
];

fn first() -> String {
    format!(r#"{{"systemInstruction":{{"parts":[{{"text":"be brief"}}]}},"contents":[{PROMPT}]}}"#)
}

/// The results come in the order of the calls; keys of objects do not.
fn second() -> String {
    let asked = r#"{"role":"model","parts":[{"text":"Déjà vu ✓"},{"functionCall":{"name":"ls","args":{"all":true,"path":"/a"}}},{"functionCall":{"name":"ls","args":{"path":"/b"}}}]}"#;
    let given = r#"{"role":"user","parts":[{"functionResponse":{"name":"ls","response":{"output":"one\n"}}},{"functionResponse":{"name":"ls","response":{"error":"no such file"}}}]}"#;
    format!(r#"{{"contents":[{PROMPT},{asked},{given}]}}"#)
}

const ANSWER: &str = r#"{"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"1+1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2\n"}},{"text":"done"}],"role":"model"},"finishReason":"MAX_TOKENS"}],"usageMetadata":{"promptTokenCount":40,"candidatesTokenCount":5,"toolUsePromptTokenCount":7,"totalTokenCount":52},"modelVersion":"gemini-2.5-pro-001","responseId":"r-2"}"#;

/// As it is streamed without `alt=sse`.
fn array(pieces: &[&str]) -> String {
    format!("[{}\n]\n", pieces.join("\n,\r\n"))
}

#[test]
fn a_conversation_is_the_same_over_events_an_array_and_vertex_ai() {
    let vertex = "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:streamGenerateContent";
    let cases = [
        (HOST, STREAM, SSE, sse(&PIECES), "sse", "gcp.gemini"),
        (HOST, STREAM, JSON, array(&PIECES), "json_array", "gcp.gemini"),
        ("us-central1-aiplatform.googleapis.com", vertex, JSON, array(&PIECES), "json_array", "gcp.vertex_ai"),
    ];
    for (host, path, fields, answer, framing, provider) in cases {
        let seen = seen(&[
            Api::new(host, path, &first()).answer(fields, answer),
            Api::new(host, WHOLE, &second()).answer(JSON, ANSWER),
            Api::new(host, WHOLE, &second()).answer(JSON, ANSWER),
        ]);
        let last: &[&str] = &[
            "response_id=r-2",
            "finish_reason=length",
            "input_tokens=47",
            "output_tokens=5",
            "output_text=done",
            "stream=false",
            "complete=true",
        ];
        let provider = format!("provider_name={provider}");
        check_calls(
            &seen,
            &[
                &[
                    "wire_api=gemini.generate_content",
                    "operation_name=generate_content",
                    &provider,
                    "request_model=gemini-2.5-pro",
                    "response_model=gemini-2.5-pro-001",
                    "response_id=r-1",
                    "finish_reason=tool_call",
                    "finish_reason_raw=STOP",
                    "input_tokens=300",
                    "output_tokens=50",
                    "cache_read_input_tokens=256",
                    "reasoning_output_tokens=30",
                    "output_text=Déjà vu ✓",
                    "stream=true",
                    "complete=true",
                    "aborted=false",
                ],
                last,
                last,
            ],
        );
        // The code that the provider runs is another call each time; what the agent ran is not, though it has no ids.
        let code: &[&str] =
            &["tool_name=code_execution", "tool_type=server", "result=2\n", "is_error=false", "tool_call_id="];
        check(
            &seen,
            "tool_calls",
            &[
                &[
                    "tool_name=ls",
                    r#"arguments={"path":"/a","all":true}"#,
                    "result=one\n",
                    "tool_call_id=",
                    "llm_call_id=1",
                ],
                &[r#"arguments={"path":"/b"}"#, "result=no such file", "is_error=true", "result_llm_call_id=2"],
                code,
                code,
            ],
        );
        assert!(seen.table("stream_events").iter().all(|event| event["framing"] == framing));
        assert_eq!(seen.table("stream_events").len(), 3);
        assert!(seen.table("llm_calls")[0].contains_key("ttfc_ns"));
    }
}

#[test]
fn code_assist_wraps_the_same() {
    let request = format!(r#"{{"model":"gemini-2.5-pro","project":"p","request":{{"contents":[{PROMPT}]}}}}"#);
    let pieces: Vec<String> = PIECES.iter().map(|piece| format!(r#"{{"response":{piece},"traceId":"t"}}"#)).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let path = "/v1internal:streamGenerateContent?alt=sse";
    let seen = seen(&[Api::new("cloudcode-pa.googleapis.com", path, &request).answer(SSE, sse(&pieces))]);
    check_calls(
        &seen,
        &[&[
            "provider_name=gcp.gen_ai",
            "request_model=gemini-2.5-pro",
            "response_id=r-1",
            "output_tokens=50",
            "output_text=Déjà vu ✓",
        ]],
    );
}

#[test]
fn errors_and_refusals() {
    let error = r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#;
    let refused = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9},"modelVersion":"gemini-2.5-pro-001"}"#;
    let asked = || Api::new(HOST, STREAM, &first());
    let unavailable = Api { status: "503 Service Unavailable", ..asked() };
    let seen = seen(&[
        unavailable.clone().answer(JSON, error),
        unavailable.answer(JSON, array(&[error])),
        asked().answer(JSON, array(&[PIECES[0], error])),
        Api::new(HOST, WHOLE, &first()).answer(JSON, error),
        asked().answer(SSE, sse(&[refused])),
    ]);
    let failed: &[&str] = &["error_type=UNAVAILABLE", "status_code=503", "finish_reason=error", "complete=true"];
    check_calls(
        &seen,
        &[
            failed,
            failed,
            &["error_type=UNAVAILABLE", "status_code=200", "aborted=false", "complete=true", "response_id=r-1"],
            &["error_type=UNAVAILABLE", "status_code=200", "finish_reason=error"],
            &["finish_reason=content_filter", "finish_reason_raw=PROHIBITED_CONTENT", "error_type=", "input_tokens=9"],
        ],
    );
}

#[test]
fn an_array_that_is_cut_off_is_no_whole_answer() {
    let cut = &array(&PIECES)[..900];
    let seen = seen(&[Api::new(HOST, STREAM, &first()).answer(JSON, cut)]);
    check_calls(&seen, &[&["aborted=true", "complete=false", "output_text=Déjà vu ✓"]]);
    check(&seen, "http", &[&["body_state=undecodable"]]);
}

#[test]
fn counting_and_embedding_are_no_calls() {
    let path = |method: &str| -> &'static str { format!("/v1beta/models/m:{method}").leak() };
    let requests = ["countTokens", "embedContent", "batchEmbedContents"];
    let exchanges: Vec<Api> =
        requests.iter().map(|method| Api::new(HOST, path(method), &first()).answer(JSON, "{}")).collect();
    check_calls(&seen(&exchanges), &[]);
}
