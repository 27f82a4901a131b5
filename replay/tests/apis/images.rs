use super::*;
use serde_json::{Value, json};

/// An image of 70 bytes, as it is sent.
const IMAGE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ==";
const SHA256: &str = "3f2e8f940e8f74b4d421d0341a66a4e04906a901b2e9ce165bf298afc4c39a8c";

/// Requests that carry what a tool gave: an image.
fn results() -> Vec<(Api, &'static str)> {
    let url = format!("data:image/png;base64,{IMAGE}");
    let anthropic = json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content":
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}]}]}]);
    let responses = json!([{"type": "function_call_output", "call_id": "t", "output": [{"type": "input_image", "image_url": url}]}]);
    let chat =
        json!([{"role": "tool", "tool_call_id": "t", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    let gemini = json!([{"role": "user", "parts": [{"functionResponse": {"id": "t", "name": "see", "response": {"output": "seen"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": IMAGE}}]}}]}]);
    let bedrock = json!([{"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content":
        [{"image": {"format": "png", "source": {"bytes": IMAGE}}}]}}]}]);
    let at = |host, path, body: Value| Api::new(host, path, &body.to_string());
    vec![
        (
            Api {
                fields: "anthropic-version: 2023-06-01\r\n",
                ..at("api.anthropic.com", "/v1/messages", json!({"model": "m", "max_tokens": 9, "messages": anthropic}))
            },
            "/0/source/data",
        ),
        (at("api.openai.com", "/v1/responses", json!({"model": "m", "input": responses})), "/0/image_url"),
        (at("api.openai.com", "/v1/chat/completions", json!({"model": "m", "messages": chat})), "/0/image_url/url"),
        (
            at("generativelanguage.googleapis.com", "/v1beta/models/m:generateContent", json!({"contents": gemini})),
            "/parts/0/inlineData/data",
        ),
        (
            at("bedrock-runtime.eu-west-1.amazonaws.com", "/model/m/converse", json!({"messages": bedrock})),
            "/0/image/source/bytes",
        ),
    ]
}

#[test]
fn an_image_that_a_tool_gives_is_shown_by_hash_size_and_type() {
    for (request, place) in results() {
        let seen = seen(&[request.clone().answer(JSON, "{}")]);
        let calls = seen.table("tool_calls");
        let [call] = &calls[..] else { panic!("{}: {calls:#?}", request.path) };
        let result: Value = serde_json::from_str(&call["result"]).unwrap();
        let image = result.pointer(place).unwrap_or_else(|| panic!("{result}"));
        assert_eq!((&image["sha256"], &image["bytes"]), (&json!(SHA256), &json!(70)), "{}", request.path);
        let hidden = ["tool_calls", "llm_messages"].iter().flat_map(|table| seen.table(table));
        assert!(hidden.clone().count() > 1);
        assert!({ hidden }.all(|row| row.values().all(|cell| !cell.contains(IMAGE))), "{}", request.path);
    }
}
