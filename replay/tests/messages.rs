//! Messages and contexts: what was said is told once, whichever way an agent gives it back, and each call says what it was given.

mod common;

use common::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a provider answers and what the agent makes of it, by API.
struct Traffic {
    path: &'static str,
    headers: &'static str,
    /// The request that carries these messages.
    request: fn(Vec<Value>) -> Value,
    /// What the user says.
    prompt: fn(&str) -> Value,
    /// A streamed answer with a text and a tool call of this id.
    asks: fn(&str) -> String,
    /// That answer as an agent gives it back, with the result.
    back: fn(&str) -> Vec<Value>,
}

fn events(events: &[Value]) -> String {
    let line = |event: &Value| {
        let name = event["type"].as_str().map_or(String::new(), |name| format!("event: {name}\n"));
        format!("{name}data: {event}\n\n")
    };
    events.iter().map(line).collect()
}

/// Arguments come with spaces, thoughts come first; they go back without, and with marks of the cache.
const ANTHROPIC: Traffic = Traffic {
    path: "/v1/messages",
    headers: "anthropic-version: 2023-06-01\r\n",
    request: |messages| {
        json!({"model": "claude-x", "max_tokens": 9, "stream": true, "messages": messages,
            "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
            "tools": [{"name": "bash", "input_schema": {"type": "object"}}]})
    },
    prompt: |text| json!({"role": "user", "content": [{"type": "text", "text": text}]}),
    asks: |id| {
        let start =
            |index: i64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        let delta = |index: i64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let stop = |index: i64| json!({"type": "content_block_stop", "index": index});
        events(&[
            json!({"type": "message_start", "message": {"id": format!("msg_{id}"), "model": "claude-x", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, json!({"type": "thinking_delta", "thinking": "a tool, then"})),
            stop(0),
            start(1, json!({"type": "text", "text": ""})),
            delta(1, json!({"type": "text_delta", "text": "I look "})),
            delta(1, json!({"type": "text_delta", "text": "at it.\n"})),
            stop(1),
            start(2, json!({"type": "tool_use", "id": id, "name": "bash", "input": {}})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "{\"timeout\": 10.0, "})),
            delta(2, json!({"type": "input_json_delta", "partial_json": "\"command\": \"caf\\u00e9\"}"})),
            stop(2),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
            json!({"type": "message_stop"}),
        ])
    },
    back: |id| {
        vec![
            json!({"role": "assistant", "content": [{"type": "text", "text": "I look at it."},
                {"type": "tool_use", "id": id, "name": "bash", "input": {"command": "café", "timeout": 10}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": format!("result of {id}"), "cache_control": {"type": "ephemeral"}}]}),
        ]
    },
};

const CHAT: Traffic = Traffic {
    path: "/v1/chat/completions",
    headers: "",
    request: |mut messages| {
        messages.insert(0, json!({"role": "system", "content": "be brief"}));
        json!({"model": "gpt-x", "stream": true, "messages": messages,
            "tools": [{"type": "function", "function": {"name": "bash", "parameters": {}}}]})
    },
    prompt: |text| json!({"role": "user", "content": text}),
    asks: |id| {
        let delta = |delta: Value| json!({"id": format!("c_{id}"), "model": "gpt-x", "choices": [{"index": 0, "delta": delta}]});
        let call = |call: Value| delta(json!({"tool_calls": [call]}));
        let all = [
            delta(json!({"role": "assistant", "content": "", "reasoning_content": "a tool, then"})),
            delta(json!({"content": "I look at it.\n"})),
            call(json!({"index": 0, "id": id, "type": "function", "function": {"name": "bash", "arguments": ""}})),
            call(json!({"index": 0, "function": {"arguments": "{\"command\": \"caf\\u00e9\", "}})),
            call(json!({"index": 0, "function": {"arguments": "\"timeout\": 10}"}})),
            json!({"id": format!("c_{id}"), "model": "gpt-x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        ];
        events(&all) + "data: [DONE]\n\n"
    },
    back: |id| {
        vec![
            json!({"role": "assistant", "content": "I look at it.", "tool_calls": [{"id": id, "type": "function",
                "function": {"name": "bash", "arguments": "{\"timeout\":10,\"command\":\"café\"}"}}]}),
            json!({"role": "tool", "tool_call_id": id, "content": format!("result of {id}")}),
        ]
    },
};

const RESPONSES: Traffic = Traffic {
    path: "/v1/responses",
    headers: "",
    request: |input| {
        json!({"model": "gpt-x", "stream": true, "instructions": "be brief", "input": input, "store": false,
            "tools": [{"type": "function", "name": "bash", "parameters": {}}]})
    },
    prompt: |text| json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}),
    asks: |id| {
        let done =
            |index: i64, item: Value| json!({"type": "response.output_item.done", "output_index": index, "item": item});
        events(&[
            json!({"type": "response.created", "response": {"id": format!("resp_{id}"), "model": "gpt-x"}}),
            done(
                0,
                json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a tool, then"}], "encrypted_content": "x"}),
            ),
            done(
                1,
                json!({"type": "message", "id": "m_1", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "I look at it.", "annotations": []}]}),
            ),
            done(
                2,
                json!({"type": "function_call", "id": "fc_1", "status": "completed", "call_id": id, "name": "bash", "arguments": "{\"command\": \"caf\\u00e9\", \"timeout\": 10}"}),
            ),
            json!({"type": "response.completed", "response": {"id": format!("resp_{id}"), "model": "gpt-x", "status": "completed", "output": [], "usage": {"input_tokens": 3, "output_tokens": 9}}}),
        ])
    },
    back: |id| {
        vec![
            json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "a tool, then"}], "encrypted_content": "x"}),
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look at it."}]}),
            json!({"type": "function_call", "call_id": id, "name": "bash", "arguments": "{\"command\":\"café\",\"timeout\":10}"}),
            json!({"type": "function_call_output", "call_id": id, "output": format!("result of {id}")}),
        ]
    },
};

const ALL: [&Traffic; 3] = [&ANTHROPIC, &CHAT, &RESPONSES];

impl Traffic {
    fn call(&self, script: &mut Script, messages: &[Value], answer: &str) {
        let body = (self.request)(messages.to_vec()).to_string();
        let answer = chunked("Content-Type: text/event-stream\r\n", &[answer.as_bytes()]);
        script.exchange(&request(self.path, self.headers, &body), &answer, 100_000);
    }

    /// A prompt, and so many calls in a row.
    fn conversation(&self, calls: usize) -> Script {
        let mut script = Script::default();
        let mut history = vec![(self.prompt)("go")];
        for number in 0..calls {
            let id = format!("call_{number}");
            self.call(&mut script, &history, &(self.asks)(&id));
            history.extend((self.back)(&id));
        }
        script
    }
}

/// Hashes of a call's context, and of its answer.
fn context<'s>(seen: &'s Collected, call: &str) -> (Vec<&'s str>, Vec<&'s str>) {
    let rows = seen.table("llm_call_messages").into_iter().filter(|row| row["llm_call_id"] == call);
    let (sent, received): (Vec<_>, Vec<_>) = rows.partition(|row| row["direction"] == "sent");
    let hashes = |rows: Vec<&'s Cells>| rows.iter().map(|row| row["message_hash"].as_str()).collect();
    (hashes(sent), hashes(received))
}

/// What is said in a message: role, and each part by its text or JSON.
fn said(seen: &Collected, hash: &str) -> String {
    let rows = seen.table("llm_messages").into_iter().filter(|row| row["message_hash"] == hash);
    rows.map(|row| format!("{}: {}; ", row["role"], row.get("text").or(row.get("payload")).unwrap())).collect()
}

#[test]
fn an_answer_has_the_same_hash_when_the_agent_gives_it_back() {
    for traffic in ALL {
        let seen = rows(&traffic.conversation(3).records);
        for call in 1..3 {
            let ((before, answer), (after, _)) =
                (context(&seen, &call.to_string()), context(&seen, &(call + 1).to_string()));
            assert_eq!(answer.len(), 1, "{}", traffic.path);
            assert_eq!([&before[..], &answer[..]].concat(), after[..before.len() + 1], "{}", traffic.path);
        }
        let texts: Vec<_> = context(&seen, "2").0.into_iter().map(|hash| said(&seen, hash)).collect();
        assert_eq!((texts.len(), texts[1].as_str(), texts[2].as_str()), (5, "system: be brief; ", "user: go; "));
        assert!(texts[0].starts_with("system: [{"), "{}", texts[0]);
        assert!(texts[3].starts_with("assistant: a tool, then; assistant: I look at it."), "{}", texts[3]);
        assert!(texts[4].ends_with(": result of call_0; "), "{}", texts[4]);
    }
}

#[test]
fn a_conversation_of_a_hundred_turns_is_told_once() {
    for traffic in ALL {
        let calls = 100;
        let seen = rows(&traffic.conversation(calls).records);
        let hashes: BTreeSet<_> = seen.table("llm_messages").iter().map(|row| row["message_hash"].clone()).collect();
        // Tools, instructions, the prompt; each answer; each result that was given back.
        assert_eq!(hashes.len(), 3 + calls + calls - 1, "{}", traffic.path);
        let parts: BTreeSet<_> = seen
            .table("llm_messages")
            .iter()
            .map(|row| (row["message_hash"].clone(), row["part_idx"].clone()))
            .collect();
        assert_eq!(parts.len(), seen.table("llm_messages").len(), "no part is told twice");
        assert_eq!(context(&seen, "100").0.len(), 3 + 2 * (calls - 1));
        assert_eq!(seen.table("llm_call_messages").len(), 10_300);
        for call in seen.table("llm_calls") {
            let ids = ["conversation_id", "turn_id", "agent_id"].map(|name| call[name].as_str());
            assert_eq!((ids, call["context_complete"].as_str()), (["1"; 3], "Boolean(true)"));
        }
        assert!(seen.table("tool_calls").iter().all(|row| row["turn_id"] == "1"));
    }
}

#[test]
fn parents_lead_back_through_the_history() {
    let seen = rows(&ANTHROPIC.conversation(4).records);
    let (sent, received) = context(&seen, "4");
    let mut walked = Vec::new();
    let mut next = Some(received[0].to_owned());
    while let Some(hash) = next {
        let rows = seen.table("llm_messages");
        let row = rows.iter().find(|row| row["message_hash"] == hash).unwrap();
        next = row.get("parent_hash").cloned();
        walked.push(hash);
    }
    walked.reverse();
    // Tools and instructions stand beside the chain.
    assert_eq!(walked, [&sent[2..], &received[..]].concat());
}

#[test]
fn a_conversation_that_goes_on_by_id_has_its_whole_context() {
    let mut script = Script::default();
    let ask = |script: &mut Script, previous: Option<&str>, input: Value, id: &str| {
        let mut body = (RESPONSES.request)(vec![input]);
        body["previous_response_id"] = previous.into();
        let answer = chunked("Content-Type: text/event-stream\r\n", &[(RESPONSES.asks)(id).as_bytes()]);
        script.exchange(&request("/v1/responses", "", &body.to_string()), &answer, 100_000);
    };
    ask(&mut script, None, (RESPONSES.prompt)("go"), "1");
    let result = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "fine"});
    ask(&mut script, Some("resp_1"), result("1"), "2");
    ask(&mut script, Some("resp_2"), (RESPONSES.prompt)("and now?"), "3");
    ask(&mut script, Some("resp_unseen"), (RESPONSES.prompt)("hm"), "4");
    let seen = rows(&script.records);
    let (first, answer) = context(&seen, "1");
    let (third, _) = context(&seen, "3");
    assert_eq!(third.len(), 7);
    assert_eq!([&first[..], &answer[..]].concat(), third[..4]);
    let column = |name: &str| seen.table("llm_calls").iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("conversation_id"), ["1", "1", "1", "4"]);
    assert_eq!(column("turn_id"), ["1", "1", "3", "4"]);
    assert_eq!(column("context_complete")[2..], ["Boolean(true)", "Boolean(false)"]);
}

#[test]
fn images_are_told_by_hash_size_and_type() {
    use base64::Engine;
    let data = base64::engine::general_purpose::STANDARD.encode(vec![7; 3000]);
    let source = json!({"type": "base64", "media_type": "image/png", "data": data});
    let content = json!([{"type": "text", "text": "what is it?"}, {"type": "image", "source": source}]);
    let mut script = Script::default();
    ANTHROPIC.call(&mut script, &[json!({"role": "user", "content": content})], &(ANTHROPIC.asks)("c"));
    let seen = rows(&script.records);
    let messages = seen.table("llm_messages");
    let image = messages.iter().find(|row| row["part_type"] == "image").unwrap();
    assert_eq!((image["bytes"].as_str(), image.get("est_tokens"), image.get("text")), ("3000", None, None));
    let payload: Value = serde_json::from_str(&image["payload"]).unwrap();
    assert_eq!(
        (&payload["source"]["media_type"], &payload["source"]["data"]["bytes"]),
        (&json!("image/png"), &json!(3000))
    );
    assert!(messages.iter().all(|row| row.values().all(|cell| !cell.contains(&data))));
}

#[test]
fn a_request_that_is_not_whole_has_no_context_and_spoils_no_other() {
    let whole = CHAT.conversation(4);
    let good = rows(&whole.records);
    // Its answer is there.
    let mut records = whole.records.clone();
    records.remove(4);
    let seen = rows(&records);
    let contexts = |seen: &Collected| -> BTreeSet<Vec<String>> {
        let owned = |hashes: Vec<&str>| hashes.into_iter().map(str::to_owned).collect::<Vec<_>>();
        seen.table("llm_calls").iter().map(|row| owned(context(seen, &row["llm_call_id"]).0)).collect()
    };
    let (all, left) = (contexts(&good), contexts(&seen));
    assert!(left.iter().filter(|context| !context.is_empty()).all(|context| all.contains(context)));
    let told = |seen: &Collected| -> BTreeSet<String> {
        seen.table("llm_messages").iter().map(|row| row["message_hash"].clone()).collect()
    };
    assert!(told(&seen).is_subset(&told(&good)));
}
