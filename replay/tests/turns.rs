//! What calls belong to: turns, conversations and agents; which ones repeat others; and what they cost.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use common::*;
use serde_json::{Value, json};

const MAIN: &str = "you are an agent";

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn asks(id: &str) -> Value {
    let call = json!({"id": id, "type": "function", "function": {"name": "bash", "arguments": "{}"}});
    json!({"role": "assistant", "content": null, "tool_calls": [call]})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "fine"})
}

/// Calls of one process, in a row.
#[derive(Default)]
struct Calls {
    script: Script,
    headers: &'static str,
}

impl Calls {
    fn request(&self, system: &str, tools: &[&str], history: &[Value]) -> Vec<u8> {
        let mut messages = vec![json!({"role": "system", "content": system})];
        messages.extend_from_slice(history);
        let tools: Vec<_> = tools.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
        let body = json!({"model": "gpt-5", "messages": messages, "tools": tools}).to_string();
        request("/v1/chat/completions", self.headers, &body)
    }

    /// Asks with this history, which then has the answer.
    fn ask(&mut self, system: &str, tools: &[&str], history: &mut Vec<Value>, answer: Value) {
        let request = self.request(system, tools, history);
        let reason = if answer["tool_calls"].is_array() { "tool_calls" } else { "stop" };
        let body = json!({"id": "c", "model": "gpt-5-2025-08-07", "choices": [{"index": 0, "message": answer, "finish_reason": reason}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}});
        self.script.exchange(&request, &response("", body.to_string().as_bytes()), 100_000);
        history.push(answer);
    }

    fn main(&mut self, history: &mut Vec<Value>, answer: Value) {
        self.ask(MAIN, &["bash", "task"], history, answer);
    }
}

/// Conversation, turn and agent of each call.
fn ids(seen: &Collected) -> Vec<[i64; 3]> {
    let id = |row: &Cells, name: &str| row[name].parse().unwrap();
    let of = |row: &&Cells| ["conversation_id", "turn_id", "agent_id"].map(|name| id(row, name));
    seen.table("llm_calls").iter().map(of).collect()
}

#[test]
fn a_turn_goes_from_a_prompt_to_the_final_answer() {
    let mut calls = Calls::default();
    let mut history = vec![user("fix it")];
    calls.main(&mut history, asks("a"));
    history.push(result("a"));
    calls.main(&mut history, assistant("done, I have fixed it"));
    history.push(user("and the test?"));
    calls.main(&mut history, asks("b"));
    history.push(result("b"));
    calls.main(&mut history, assistant("done, too"));
    let seen = rows(&calls.script.records);
    assert_eq!(ids(&seen), [[1, 1, 1], [1, 1, 1], [1, 3, 1], [1, 3, 1]]);
    let turns: Vec<_> = seen.table("tool_calls").iter().map(|row| row["turn_id"].clone()).collect();
    assert_eq!(turns, ["1", "3"]);
}

#[test]
fn sub_agents_and_side_calls_are_kept_apart() {
    let mut calls = Calls::default();
    let mut history = vec![user("fix it")];
    calls.ask("find a title", &[], &mut history.clone(), assistant("A title"));
    calls.main(&mut history, asks("a"));
    for number in 0..2 {
        // Two of one kind: one agent, two conversations.
        let mut own = vec![user(&format!("look at file {number}"))];
        calls.ask("you are a helper", &["bash"], &mut own, asks(&format!("s{number}")));
        own.push(result(&format!("s{number}")));
        calls.ask("you are a helper", &["bash"], &mut own, assistant("nothing in there, as far as I can see"));
    }
    history.push(result("a"));
    calls.main(&mut history, assistant("done"));
    let seen = rows(&calls.script.records);
    let expected = [[1, 1, 1], [2, 2, 2], [3, 3, 3], [3, 3, 3], [5, 5, 3], [5, 5, 3], [2, 2, 2]];
    assert_eq!(ids(&seen), expected);
}

#[test]
fn instructions_and_tools_may_change_within_a_conversation_but_not_both() {
    let mut calls = Calls::default();
    let mut history = vec![user("go")];
    calls.ask("it is noon", &["bash"], &mut history, assistant("gone"));
    history.push(user("on"));
    calls.ask("it is one", &["bash"], &mut history, assistant("gone on"));
    history.push(user("and on"));
    calls.ask("it is one", &["bash", "mcp"], &mut history, assistant("gone on and on"));
    history.push(user("sum it up"));
    calls.ask("you write summaries", &[], &mut history, assistant("went"));
    assert_eq!(ids(&rows(&calls.script.records)), [[1, 1, 1], [1, 2, 1], [1, 3, 1], [1, 4, 4]]);
}

#[test]
fn calls_that_only_begin_alike_are_no_conversation() {
    let mut calls = Calls::default();
    let shots = [user("2+2?"), assistant("4")];
    for question in ["3+3?", "4+4?", "4+4?"] {
        let mut history = shots.to_vec();
        history.push(user(question));
        calls.main(&mut history, assistant("a number"));
    }
    let conversations: Vec<_> = ids(&rows(&calls.script.records)).iter().map(|ids| ids[0]).collect();
    assert_eq!(conversations, [1, 2, 3]);
}

#[test]
fn a_history_that_is_edited_or_cut_off_goes_on() {
    let mut calls = Calls::default();
    let mut history = vec![user("fix it")];
    calls.main(&mut history, asks("a"));
    history.push(result("a"));
    calls.main(&mut history, asks("b"));
    history.push(result("b"));
    history[2] = json!({"role": "tool", "tool_call_id": "a", "content": "[cleared]"});
    calls.main(&mut history, asks("c"));
    history.push(result("c"));
    history.drain(..3);
    calls.main(&mut history, assistant("done"));
    assert_eq!(ids(&rows(&calls.script.records)), [[1, 1, 1]; 4]);
}

#[test]
fn a_summary_in_place_of_the_history_goes_on() {
    let summary = "The user wants the build to be fixed in src/main.rs.\nA missing semicolon was found in line 12 of it.\nIt was added, and now the tests have to be run.";
    let mut calls = Calls::default();
    let mut history = vec![user("fix it")];
    calls.main(&mut history, asks("a"));
    history.push(result("a"));
    history.push(user("Summarise the conversation."));
    calls.ask("you write summaries", &[], &mut history, assistant(summary));
    // Without a prompt the agent goes on by itself; with one, a turn begins.
    let mut on = vec![user(&format!("This is what happened before:\n{summary}\nGo on."))];
    calls.main(&mut on, assistant("the tests are green, all of them"));
    on.push(user("and now?"));
    calls.main(&mut on, assistant("nothing"));
    // Another program whose prompt holds somebody's answer goes on from nothing.
    calls.ask("you translate", &["dictionary"], &mut vec![user(summary)], assistant("…"));
    assert_eq!(ids(&rows(&calls.script.records)), [[1, 1, 1], [1, 2, 2], [1, 2, 1], [1, 4, 1], [5, 5, 5]]);
}

#[test]
fn an_id_of_the_conversation_holds_it_together() {
    let mut calls = Calls { headers: "thread_id: t-1\r\n", ..Calls::default() };
    calls.main(&mut vec![user("go")], assistant("gone"));
    calls.main(&mut vec![user("something else")], assistant("else"));
    calls.headers = "X-Claude-Code-Session-Id: s-1\r\n";
    calls.main(&mut vec![user("this session")], assistant("one"));
    calls.main(&mut vec![user("has several")], assistant("two"));
    let seen = rows(&calls.script.records);
    assert_eq!(ids(&seen).iter().map(|ids| ids[0]).collect::<Vec<_>>(), [1, 1, 3, 4]);
    let sessions: Vec<_> = seen.table("llm_calls").iter().map(|row| row["session_id"].clone()).collect();
    assert_eq!(sessions, ["t-1", "t-1", "s-1", "s-1"]);
}

#[test]
fn tries_of_one_request_are_counted() {
    let mut calls = Calls::default();
    let mut history = vec![user("go")];
    let sent = calls.request(MAIN, &["bash", "task"], &history);
    let error = r#"{"error":{"type":"overloaded_error"}}"#;
    let overloaded = format!("HTTP/1.1 529 Overloaded\r\nContent-Length: {}\r\n\r\n{error}", error.len());
    calls.script.exchange(&sent, overloaded.as_bytes(), 100_000);
    let late = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let broken = format!("{late}{:x}\r\ndata: {error}\n\n\r\n0\r\n\r\n", error.len() + 8);
    calls.script.exchange(&sent, broken.as_bytes(), 100_000);
    calls.main(&mut history, assistant("gone, at last"));
    // The same again after a success is no retry; nor is another request.
    calls.main(&mut vec![user("go")], assistant("gone again"));
    calls.main(&mut vec![user("stay")], assistant("stayed"));
    calls.headers = "x-stainless-retry-count: 2\r\n";
    calls.main(&mut vec![user("unseen")], assistant("third time lucky"));
    let seen = rows(&calls.script.records);
    let attempts: Vec<_> = seen.table("llm_calls").iter().map(|row| row["attempt"].clone()).collect();
    assert_eq!(attempts, ["1", "2", "3", "1", "1", "3"]);
    let http = seen.table("http");
    let retries: Vec<_> = http.iter().map(|row| row.get("retry_of").map(String::as_str)).collect();
    assert_eq!(retries, [None, Some("1"), Some("2"), None, None, None]);
    assert_eq!(ids(&seen)[..3], [[1, 1, 1]; 3]);
}

#[test]
fn a_request_that_got_no_answer_is_repeated_on_another_connection() {
    let mut calls = Calls::default();
    let mut history = vec![user("go")];
    let sent = calls.request(MAIN, &[], &history);
    calls.script.say(2, SENT, &sent);
    calls.script.say(2, RECEIVED, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    calls.script.close(2);
    calls.ask(MAIN, &[], &mut history, assistant("gone"));
    let seen = rows(&calls.script.records);
    let http = seen.table("http");
    assert_eq!((http.len(), http[1].get("retry_of")), (2, Some(&http[0]["http_id"])));
    // Rows are the same if nobody asks for bodies.
    assert_eq!(rows_of(&capture(&calls.script.records), Some("http")).0.table("http"), http);
}

#[test]
fn calls_cost_what_their_tokens_do() {
    let mut calls = Calls::default();
    calls.main(&mut vec![user("go")], assistant("gone"));
    let seen = rows(&calls.script.records);
    let call = seen.table("llm_calls")[0];
    // 600 at 1.25, 400 cached at 0.125, 100 at 10 for a million.
    assert_eq!(call["cost_usd"], "Double(0.0018)");
    assert!(call["price_table"].starts_with("agentsight 20"), "{}", call["price_table"]);
}

#[test]
fn the_capture_names_the_agent() {
    let agent = |headers, only| {
        let mut calls = Calls { headers, ..Calls::default() };
        calls.main(&mut vec![user("go")], assistant("gone"));
        let seen = rows_of(&capture(&calls.script.records), only).0;
        let of = |name: &str| seen.table("captures")[0].get(name).cloned();
        (of("agent_name"), of("agent_version"))
    };
    let codex = (Some("codex_cli_rs".to_owned()), Some("0.130.0".to_owned()));
    assert_eq!(agent("User-Agent: codex_cli_rs/0.130.0 (Linux)\r\n", None), codex);
    assert_eq!(agent("User-Agent: codex_cli_rs/0.130.0 (Linux)\r\n", Some("captures")), codex);
    assert_eq!(agent("User-Agent: OpenAI/Python 2.1.0\r\n", None), (None, None));
}
