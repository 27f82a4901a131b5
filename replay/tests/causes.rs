//! Which tool call caused what: by what it says, by whose child a process is, by time only where nothing else can be meant.

mod common;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use common::run::{AGENT, Run, VERSION};
use common::*;

/// The cause of each exec, by its command line.
fn causes_of_execs(seen: &Collected) -> Vec<(&str, Option<&str>)> {
    let rows = seen.table("execs").into_iter();
    rows.map(|row| (row["command_line"].as_str(), row.get("cause_tool_call_key").map(String::as_str))).collect()
}

fn methods(seen: &Collected) -> Vec<(&str, &str)> {
    seen.table("causes").into_iter().map(|row| (row["cause_key"].as_str(), row["method"].as_str())).collect()
}

#[test]
fn a_command_and_all_below_it_are_of_the_call_that_asks_for_it() {
    let mut run = Run::new();
    run.start(AGENT, 20, &["git", "status"]);
    run.ask(&[("a", "bash", r#"{"command":"make -j2 && ls"}"#)]);
    run.start(AGENT, 21, &["bash", "-c", "make -j2 && ls"]);
    run.start(21, 22, &["make", "-j2"]);
    run.start(22, 23, &["cc", "a.c"]);
    run.unlink(23, "/w/a.o");
    run.answer(&["a"]);
    run.start(AGENT, 24, &["git", "diff"]);
    let seen = run.rows();
    let expected = [
        ("agent", None),
        ("git status", None),
        ("bash -c 'make -j2 && ls'", Some("1")),
        ("make -j2", Some("1")),
        ("cc a.c", Some("1")),
        ("git diff", None),
    ];
    assert_eq!(causes_of_execs(&seen), expected);
    assert_eq!(seen.table("files")[0]["cause_tool_call_key"], "1");
    assert_eq!(methods(&seen), [("1", "argv_match"), ("1", "argv_match"), ("1", "subtree"), ("1", "subtree")]);
}

#[test]
fn of_parallel_calls_each_has_its_own_and_time_alone_decides_nothing() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"sleep 1"}"#), ("b", "bash", r#"{"command":"date -u"}"#)]);
    run.start(AGENT, 21, &["bash", "-c", "date -u"]);
    run.start(AGENT, 22, &["bash", "-c", "sleep 1"]);
    run.start(AGENT, 23, &["watchman", "get-sockname"]);
    run.answer(&["a", "b"]);
    let seen = run.rows();
    let expected = [
        ("agent", None),
        ("bash -c 'date -u'", Some("2")),
        ("bash -c 'sleep 1'", Some("1")),
        ("watchman get-sockname", None),
    ];
    assert_eq!(causes_of_execs(&seen), expected);
    assert_eq!(methods(&seen), [("2", "argv_match"), ("1", "argv_match"), ("1", "window"), ("2", "window")]);
    assert!(seen.table("causes")[2]["ambiguous_with"].contains('2'));
}

#[test]
fn the_same_command_twice_is_run_once_for_each_call() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"date -u"}"#), ("b", "bash", r#"{"command":"date -u"}"#)]);
    run.start(AGENT, 21, &["bash", "-c", "date -u"]);
    run.start(AGENT, 22, &["bash", "-c", "date -u"]);
    run.answer(&["a", "b"]);
    let seen = run.rows();
    assert_eq!(seen.table("causes").iter().map(|row| row["cause_key"].as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert!(seen.table("causes").iter().all(|row| row["ambiguous_with"].len() > 2));
}

#[test]
fn what_the_agent_does_itself_counts_where_a_call_names_it() {
    let mut run = Run::new();
    run.ask(&[("a", "write", r#"{"file_path":"/w/src/a.rs","content":"x"}"#)]);
    run.unlink(AGENT, "/w/src/a.rs");
    run.unlink(AGENT, "/home/me/.agent/session.json");
    run.answer(&["a"]);
    run.unlink(AGENT, "/w/src/a.rs");
    let seen = run.rows();
    let causes: Vec<_> =
        seen.table("files").iter().map(|row| row.get("cause_tool_call_key").map(String::as_str)).collect::<Vec<_>>();
    assert_eq!(causes, [Some("1"), None, None]);
    assert_eq!(methods(&seen), [("1", "path_match")]);
}

/// A shell that stays: what it runs later is of the call that is open then.
#[test]
fn a_shell_that_is_kept_runs_for_the_call_that_is_open() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"true now"}"#)]);
    run.start(AGENT, 21, &["bash"]);
    run.start(21, 22, &["true", "now"]);
    run.exit(22);
    run.answer(&["a"]);
    run.ask(&[("b", "bash", r#"{"command":"uname -a"}"#)]);
    run.start(21, 23, &["uname", "-a"]);
    run.answer(&["b"]);
    let seen = run.rows();
    let expected = [("agent", None), ("bash", Some("1")), ("true now", Some("1")), ("uname -a", Some("2"))];
    assert_eq!(causes_of_execs(&seen), expected);
}

/// The tool runs while the rest of the answer is still on its way: its row waits for the request.
#[test]
fn a_tool_that_starts_before_its_answer_has_ended() {
    let events = [
        r#"{"type":"message_start","message":{"id":"m","model":"x","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"bash","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"command\":\"date -u\"}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":2}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let stream = |events: &[&str]| events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>();
    let (early, late) = (stream(&events[..4]), stream(&events[4..]));
    let whole = chunked("Content-Type: text/event-stream\r\n", &[early.as_bytes(), late.as_bytes()]);
    let at = whole.windows(late.len()).position(|text| text == late.as_bytes()).unwrap();
    let mut run = Run::new();
    let body = r#"{"model":"x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"go"}]}"#;
    run.script.say(1, SENT, &request("/v1/messages", VERSION, body));
    run.script.say(1, RECEIVED, &whole[..at]);
    run.start(AGENT, 21, &["bash", "-c", "date -u"]);
    run.time();
    run.script.say(1, RECEIVED, &whole[at..]);
    run.answer(&["a"]);
    assert_eq!(causes_of_execs(&run.rows()), [("agent", None), ("bash -c 'date -u'", Some("1"))]);
}

#[test]
fn rows_come_in_the_order_of_time_and_all_of_them() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"x"}"#)]);
    for child in 100..400 {
        run.start(AGENT, child, &["true"]);
        run.script.time += 1_000_000_000;
    }
    let seen = run.rows();
    let times: Vec<u64> = seen.table("execs").iter().map(|row| row["ts"].parse().unwrap()).collect();
    assert_eq!(times.len(), 301);
    assert!(times.is_sorted());
}
