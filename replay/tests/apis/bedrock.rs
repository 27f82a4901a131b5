use super::*;

const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";
const STREAM: &str = "/model/us.anthropic.claude-sonnet-4-20250514-v1%3A0/converse-stream";
const WHOLE: &str = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fp/converse";
const FRAMES: &str = "Content-Type: application/vnd.amazon.eventstream\r\nx-amzn-RequestId: req-1\r\n";

fn frame(kind: &str, name: &str, payload: &str) -> Vec<u8> {
    let name_of_type = format!(":{kind}-type");
    let fields = [(&name_of_type[..], name), (":content-type", "application/json"), (":message-type", kind)];
    let fields: Vec<u8> = fields
        .iter()
        .flat_map(|(name, value)| {
            [&[name.len() as u8], name.as_bytes(), &[7, 0, value.len() as u8], value.as_bytes()].concat()
        })
        .collect();
    let mut out = ((16 + fields.len() + payload.len()) as u32).to_be_bytes().to_vec();
    out.extend((fields.len() as u32).to_be_bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend(fields.iter().chain(payload.as_bytes()));
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

pub fn events(events: &[(&str, &str)]) -> Vec<u8> {
    events.iter().flat_map(|(name, payload)| frame("event", name, payload)).collect()
}

/// As `/invoke-with-response-stream` has them.
pub fn chunks(pieces: &[&str]) -> Vec<u8> {
    use base64::Engine;
    let encoded = pieces.iter().map(|piece| base64::engine::general_purpose::STANDARD.encode(piece));
    encoded.flat_map(|bytes| frame("event", "chunk", &format!(r#"{{"bytes":"{bytes}","p":"abcd"}}"#))).collect()
}

const FIRST: &str = r#"{"system":[{"text":"be brief"},{"cachePoint":{"type":"default"}}],"messages":[{"role":"user","content":[{"text":"look into /a"},{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}}]}],"inferenceConfig":{"maxTokens":9},"toolConfig":{"tools":[]}}"#;
const SECOND: &str = r#"{"messages":[{"role":"user","content":[{"text":"look into /a"}]},{"role":"assistant","content":[{"toolUse":{"toolUseId":"tooluse_1","name":"ls","input":{"path":"/a"}}},{"toolUse":{"toolUseId":"tooluse_2","name":"now","input":{}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"tooluse_1","content":[{"text":"one\n"}],"status":"success"}},{"toolResult":{"toolUseId":"tooluse_2","content":[{"json":{"at":"noon"}}],"status":"error"}}]}]}"#;

pub const EVENTS: [(&str, &str); 15] = [
    ("messageStart", r#"{"p":"abcdefgh","role":"assistant"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"Let me look."}},"p":"ab"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"signature":"c2ln"}},"p":"ab"}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abc"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"Déjà "},"p":"abcd"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"vu ✓"},"p":"abcd"}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
    ("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"toolUse":{"name":"ls","toolUseId":"tooluse_1"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"path\":"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"\"/a\"}"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
    ("contentBlockStart", r#"{"contentBlockIndex":3,"start":{"toolUse":{"name":"now","toolUseId":"tooluse_2"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":3}"#),
    ("messageStop", r#"{"stopReason":"tool_use"}"#),
    (
        "metadata",
        r#"{"metrics":{"latencyMs":763},"usage":{"cacheReadInputTokens":1024,"cacheWriteInputTokens":64,"inputTokens":30,"outputTokens":12,"totalTokens":1130}}"#,
    ),
];

const ANSWER: &str = r#"{"metrics":{"latencyMs":302},"output":{"message":{"content":[{"text":"done"}],"role":"assistant"}},"stopReason":"max_tokens","usage":{"inputTokens":4,"outputTokens":38,"totalTokens":42}}"#;

#[test]
fn converse_streamed_and_whole() {
    let seen = seen(&[
        Api::new(HOST, STREAM, FIRST).answer(FRAMES, events(&EVENTS)),
        Api::new(HOST, WHOLE, SECOND).answer(JSON, ANSWER),
    ]);
    check_calls(
        &seen,
        &[
            &[
                "wire_api=bedrock.converse",
                "provider_name=aws.bedrock",
                "request_model=us.anthropic.claude-sonnet-4-20250514-v1:0",
                "provider_request_id=req-1",
                "finish_reason=tool_call",
                "finish_reason_raw=tool_use",
                "input_tokens=1118",
                "output_tokens=12",
                "cache_read_input_tokens=1024",
                "cache_write_input_tokens=64",
                "output_text=Déjà vu ✓",
                "stream=true",
                "complete=true",
            ],
            &[
                "request_model=arn:aws:bedrock:us-east-1:1:inference-profile/p",
                "finish_reason=length",
                "input_tokens=4",
                "cache_read_input_tokens=",
                "output_text=done",
                "stream=false",
                "complete=true",
            ],
        ],
    );
    check(
        &seen,
        "tool_calls",
        &[
            &["tool_call_id=tooluse_1", r#"arguments={"path":"/a"}"#, "result=one\n", "is_error=false"],
            &["tool_name=now", "arguments={}", r#"result={"at":"noon"}"#, "is_error=true", "args_complete=true"],
        ],
    );
    let events: Vec<_> = seen.table("stream_events").iter().map(|row| (&row["framing"], &row["event"])).collect();
    assert_eq!(events.len(), EVENTS.len());
    assert!(events.iter().zip(EVENTS).all(|(seen, (name, _))| *seen.0 == "eventstream" && *seen.1 == name));
}

const ANTHROPIC: &str =
    r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const PIECES: [&str; 6] = [
    r#"{"type":"message_start","message":{"id":"msg_bdrk_1","type":"message","role":"assistant","model":"claude-sonnet-4-20250514","content":[],"stop_reason":null,"usage":{"input_tokens":20,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"héllo"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12}}"#,
    r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":20,"outputTokenCount":12,"invocationLatency":900,"firstByteLatency":400,"cacheReadInputTokenCount":5}}"#,
];

#[test]
fn invoke_speaks_as_the_maker_of_the_model_does() {
    let path = "/model/anthropic.claude-sonnet-4-20250514-v1%3A0/invoke";
    let stream = |model: &str| -> &'static str { format!("/model/{model}/invoke-with-response-stream").leak() };
    let whole = r#"{"id":"msg_bdrk_2","type":"message","role":"assistant","model":"claude-sonnet-4-20250514","content":[{"type":"text","text":"done"}],"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":9}}"#;
    let nova = r#"{"schemaVersion":"messages-v1","messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{"maxTokens":9}}"#;
    let of_nova = [
        r#"{"messageStart":{"role":"assistant"}}"#,
        r#"{"contentBlockDelta":{"delta":{"text":"bossa"},"contentBlockIndex":0}}"#,
        r#"{"contentBlockStop":{"contentBlockIndex":0}}"#,
        r#"{"messageStop":{"stopReason":"end_turn"}}"#,
        r#"{"metadata":{"usage":{"inputTokens":2,"outputTokens":3},"metrics":{}},"amazon-bedrock-invocationMetrics":{"inputTokenCount":2,"outputTokenCount":3}}"#,
    ];
    let chat = r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#;
    let of_chat = [
        r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"oss"},"finish_reason":null}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"amazon-bedrock-invocationMetrics":{"inputTokenCount":7,"outputTokenCount":1}}"#,
    ];
    let claude = stream("anthropic.claude-sonnet-4-20250514-v1%3A0");
    let seen = seen(&[
        Api::new(HOST, claude, ANTHROPIC).answer(FRAMES, chunks(&PIECES)),
        Api::new(HOST, path, ANTHROPIC).answer(JSON, whole),
        Api::new(HOST, stream("amazon.nova-lite-v1:0"), nova).answer(FRAMES, chunks(&of_nova)),
        Api::new(HOST, stream("openai.gpt-oss-20b-1:0"), chat).answer(FRAMES, chunks(&of_chat)),
        Api::new(HOST, "/model/amazon.titan-embed-text-v2:0/invoke", r#"{"inputText":"hi"}"#)
            .answer(JSON, r#"{"embedding":[0.1],"inputTextTokenCount":3}"#),
    ]);
    let streamed = ["provider_name=aws.bedrock", "stream=true", "complete=true", "finish_reason=stop"];
    let with = |more: &[&'static str]| [&streamed[..], more].concat();
    check_calls(
        &seen,
        &[
            &with(&[
                "wire_api=anthropic.messages",
                "request_model=anthropic.claude-sonnet-4-20250514-v1:0",
                "response_model=claude-sonnet-4-20250514",
                "response_id=msg_bdrk_1",
                "input_tokens=25",
                "output_tokens=12",
                "cache_read_input_tokens=5",
                "output_text=héllo",
            ]),
            &[
                "wire_api=anthropic.messages",
                "finish_reason=length",
                "stream=false",
                "output_text=done",
                "complete=true",
            ],
            &with(&[
                "wire_api=bedrock.converse",
                "request_model=amazon.nova-lite-v1:0",
                "output_text=bossa",
                "input_tokens=2",
            ]),
            &with(&["wire_api=openai.chat", "output_text=oss", "input_tokens=7", "output_tokens=1"]),
        ],
    );
}

#[test]
fn exceptions_in_a_stream_and_in_place_of_an_answer() {
    let exception = frame("exception", "throttlingException", r#"{"message":"Too many tokens"}"#);
    let cut = |events: Vec<u8>| [events, exception.clone()].concat();
    let limited =
        "Content-Type: application/json\r\nx-amzn-ErrorType: ThrottlingException:http://internal.amazon.com/coral/\r\n";
    let claude = "/model/anthropic.claude-sonnet-4-20250514-v1%3A0/invoke-with-response-stream";
    let seen = seen(&[
        Api::new(HOST, STREAM, FIRST).answer(FRAMES, cut(events(&EVENTS[..6]))),
        Api::new(HOST, claude, ANTHROPIC).answer(FRAMES, cut(chunks(&PIECES[..3]))),
        Api { status: "429 Too Many Requests", ..Api::new(HOST, STREAM, FIRST) }
            .answer(limited, r#"{"message":"Too many requests"}"#),
    ]);
    let broken = ["error_type=throttlingException", "status_code=200", "finish_reason=error", "aborted=false"];
    check_calls(
        &seen,
        &[
            &[&broken[..], &["output_text=Déjà vu ✓"]].concat(),
            &[&broken[..], &["output_text=héllo", "response_id=msg_bdrk_1"]].concat(),
            &["error_type=ThrottlingException", "status_code=429", "stream=true", "complete=true"],
        ],
    );
}

/// The checksums show any byte that changes.
#[test]
fn a_damaged_message_makes_no_whole_call() {
    let good = events(&EVENTS);
    for at in (0..good.len()).step_by(23) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        let exchange = Api::new(HOST, STREAM, FIRST).answer(FRAMES, bad);
        let seen = rows(&script(&[exchange], usize::MAX).records);
        check(&seen, "http", &[&["body_state=undecodable"]]);
        check_calls(&seen, &[&["complete=false"]]);
        let events = seen.table("stream_events");
        assert_eq!(events.len(), EVENTS.len() - 1, "byte {at}");
        for event in events {
            let (name, payload) = EVENTS[event["idx"].parse::<usize>().unwrap()];
            assert_eq!((event["event"].as_str(), event["data"].as_str()), (name, payload), "byte {at}");
        }
    }
}
