//! From a tool call to its MCP request, and on to what the server does.

use crate::common::piped::{Piped, Recorded};
use crate::common::run::{AGENT, Run};
use crate::common::*;
use crate::*;

const SERVER: u32 = 20;
const PIPED: Piped = Piped { server: SERVER, recorded: Recorded::Server, size: usize::MAX };

fn serving() -> Run {
    let mut run = Run::new();
    run.serve(PIPED);
    run.tell_server(PIPED, &format!("{INITIALIZE}\n"));
    run.tell_agent(PIPED, &format!("{SERVES}\n"));
    run
}

fn tell(run: &mut Run, id: &str, tool: &str, arguments: &str) {
    run.tell_server(PIPED, &format!("{}\n", call(id, tool, arguments)));
}

fn answer(run: &mut Run, id: &str) {
    run.tell_agent(PIPED, &format!("{}\n", result(id, r#"{"content":[]}"#)));
}

/// Effects and what caused them, without those of the kernel's making.
fn causes(seen: &Collected) -> Vec<Vec<&str>> {
    let names = ["effect_kind", "cause_key", "method", "confidence", "ambiguous_with"];
    seen.cells("causes", &names)
}

#[test]
fn a_tool_call_leads_to_its_request_and_to_what_the_server_does() {
    let mut run = serving();
    run.ask(&[("a", "mcp__fs__build", r#"{"target":"all","jobs":2}"#)]);
    tell(&mut run, "1", "build", r#"{"jobs":2,"target":"all"}"#);
    run.start(SERVER, 21, &["make", "-j2"]);
    run.start(21, 22, &["cc", "a.c"]);
    run.unlink(SERVER, "/w/lock");
    answer(&mut run, "1");
    // Idle: whatever it does now, no call has asked for it.
    run.start(SERVER, 23, &["tidy"]);
    run.answer(&["a"]);
    let seen = run.rows();
    assert_eq!(
        causes(&seen),
        [
            ["mcp", "1", "mcp_id", "Double(0.95)", "VarcharList([])"],
            ["exec", "1", "pipe", "Double(0.9)", "VarcharList([])"],
            ["exec", "1", "subtree", "Double(0.81)", "VarcharList([])"],
            ["file", "1", "pipe", "Double(0.9)", "VarcharList([])"],
        ]
    );
    assert_eq!(seen.table("causes")[0]["effect_key"], "2");
    let execs = seen.cells("execs", &["command_line", "cause_tool_call_key"]);
    let expected = [["agent", ""], ["server", ""], ["make -j2", "1"], ["cc a.c", "1"], ["tidy", ""]];
    assert_eq!(execs, expected);
    assert_eq!(cells(seen.table("tool_calls")[0], &["tool_name", "mcp_server"]), ["mcp__fs__build", "files"]);
}

#[test]
fn over_http_on_loopback_it_is_the_same() {
    // Which end is seen first is chance, each time.
    for first in [[true, true], [true, false], [false, true], [false, false]] {
        let mut run = Run::new();
        // Started by somebody else.
        run.exec(SERVER, &["server"]);
        http::connect(&mut run.script);
        http::ask(&mut run.script, INITIALIZE);
        http::answered(&mut run.script, SERVES, first[0]);
        run.ask(&[("a", "mcp__fs__build", r#"{"target":"all","jobs":2}"#)]);
        http::ask(&mut run.script, &call("1", "build", r#"{"jobs":2,"target":"all"}"#));
        run.start(SERVER, 21, &["make", "-j2"]);
        run.start(21, 22, &["cc", "a.c"]);
        run.unlink(SERVER, "/w/lock");
        run.time();
        http::answered(&mut run.script, &result("1", r#"{"content":[]}"#), first[1]);
        run.start(SERVER, 23, &["tidy"]);
        run.answer(&["a"]);
        // What the server does waits for the request, and what is told meanwhile stands behind it.
        assert_eq!(
            causes(&run.rows()),
            [
                ["exec", "1", "pipe", "Double(0.9)", "VarcharList([])"],
                ["exec", "1", "subtree", "Double(0.81)", "VarcharList([])"],
                ["file", "1", "pipe", "Double(0.9)", "VarcharList([])"],
                ["mcp", "1", "mcp_id", "Double(0.95)", "VarcharList([])"],
            ],
            "{first:?}"
        );
    }
}

#[test]
fn of_parallel_calls_the_server_works_on_its_own() {
    let mut run = serving();
    run.ask(&[("a", "bash", r#"{"command":"sleep 9"}"#), ("b", "build", r#"{"n":1}"#)]);
    run.start(AGENT, 30, &["bash", "-c", "sleep 9"]);
    tell(&mut run, "1", "build", r#"{"n":1}"#);
    run.start(SERVER, 21, &["make"]);
    answer(&mut run, "1");
    run.answer(&["a", "b"]);
    let seen = run.rows();
    let methods: Vec<_> = causes(&seen).into_iter().map(|row| (row[0], row[1], row[2])).collect();
    assert_eq!(methods, [("exec", "1", "argv_match"), ("mcp", "2", "mcp_id"), ("exec", "2", "pipe")]);
}

#[test]
fn a_server_that_works_on_two_requests_may_do_it_for_either() {
    let mut run = serving();
    run.ask(&[("a", "fs_build", r#"{"n":1}"#), ("b", "fs_build", r#"{"n":2}"#)]);
    tell(&mut run, "1", "build", r#"{"n":2}"#);
    tell(&mut run, "2", "build", r#"{"n":1}"#);
    run.start(SERVER, 21, &["make"]);
    answer(&mut run, "2");
    run.start(SERVER, 22, &["cc"]);
    answer(&mut run, "1");
    run.answer(&["a", "b"]);
    let seen = run.rows();
    assert_eq!(
        causes(&seen),
        [
            ["mcp", "2", "mcp_id", "Double(0.95)", "VarcharList([])"],
            ["mcp", "1", "mcp_id", "Double(0.95)", "VarcharList([])"],
            ["exec", "1", "pipe", "Double(0.4)", "VarcharList([\"2\"])"],
            ["exec", "2", "pipe", "Double(0.4)", "VarcharList([\"1\"])"],
            ["exec", "2", "pipe", "Double(0.9)", "VarcharList([])"],
        ]
    );
}

#[test]
fn equal_calls_have_a_request_each_and_other_arguments_none() {
    let mut run = serving();
    run.ask(&[("a", "build", "{}"), ("b", "build", "{}"), ("c", "build", r#"{"n":1}"#)]);
    tell(&mut run, "1", "build", "{}");
    tell(&mut run, "2", "build", "{}");
    tell(&mut run, "3", "build", r#"{"n":3}"#);
    ["1", "2", "3"].iter().for_each(|id| answer(&mut run, id));
    run.answer(&["a", "b", "c"]);
    // Not open any more.
    tell(&mut run, "4", "build", "{}");
    let seen = run.rows();
    let others = |key| format!("VarcharList([\"{key}\"])");
    assert_eq!(
        causes(&seen),
        [["mcp", "1", "mcp_id", "Double(0.95)", &others("2")], ["mcp", "2", "mcp_id", "Double(0.95)", &others("1")],]
    );
    let servers = seen.cells("tool_calls", &["mcp_server"]);
    assert_eq!(servers, [["files"], ["files"], [""]]);
}
