//! Over standard streams.

use crate::common::piped::{Piped, Recorded};
use crate::common::run::{AGENT, Run};
use crate::common::*;
use crate::*;
use agentsight_formats::record::direction::{RECEIVED, SENT};

const ALL: Piped = Piped { server: 20, recorded: Recorded::Server, size: usize::MAX };

/// A line each.
fn lines(messages: &[&str]) -> String {
    messages.iter().map(|message| format!("{message}\n")).collect()
}

/// A client and a server that introduce themselves.
fn introduced(piped: Piped) -> Run {
    let mut run = Run::new();
    run.serve(piped);
    run.tell_server(piped, &lines(&[INITIALIZE]));
    run.tell_agent(piped, &lines(&[SERVES]));
    run.tell_server(piped, &lines(&[INITIALIZED]));
    run
}

/// A conversation with all that MCP has: both sides ask, each by its own numbers.
fn conversation(piped: Piped) -> Collected {
    let mut run = introduced(piped);
    run.tell_server(piped, &lines(&[&call("1", "grep", r#"{"for":"x"}"#), &call(r#""1""#, "read", "{}")]));
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let sample = r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"maxTokens":9}}"#;
    run.tell_agent(piped, &lines(&[progress, "starting up", sample]));
    run.tell_agent(piped, &lines(&[&result(r#""1""#, r#"{"content":[],"isError":true}"#)]));
    run.tell_server(piped, &lines(&[&result("1", r#"{"model":"m"}"#)]));
    run.tell_agent(piped, &lines(&[r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#]));
    let batch = format!(
        "[{},{}]",
        call("3", "a", "{}"),
        r#"{"jsonrpc":"2.0","id":4,"method":"resources/read","params":{"uri":"file:///a"}}"#
    );
    run.tell_server(piped, &lines(&[&batch]));
    run.tell_agent(piped, &lines(&[&format!("[{},{}]", result("4", "{}"), result("3", "{}"))]));
    run.rows()
}

const NAMES: [&str; 7] = ["direction", "kind", "method", "request_id", "tool_name", "is_error", "error_code"];

const EXPECTED: [[&str; 7]; 8] = [
    ["client_to_server", "request", "initialize", "0", "", "Boolean(false)", ""],
    ["client_to_server", "notification", "notifications/initialized", "", "", "", ""],
    ["server_to_client", "notification", "notifications/progress", "", "", "", ""],
    ["client_to_server", "request", "tools/call", "1", "read", "Boolean(true)", ""],
    ["server_to_client", "request", "sampling/createMessage", "1", "", "Boolean(false)", ""],
    ["client_to_server", "request", "tools/call", "1", "grep", "Boolean(true)", "-32602"],
    ["client_to_server", "request", "resources/read", "4", "", "Boolean(false)", ""],
    ["client_to_server", "request", "tools/call", "3", "a", "Boolean(false)", ""],
];

#[test]
fn requests_have_their_responses_and_each_side_its_own_numbers() {
    let seen = conversation(ALL);
    assert_eq!(mcp(&seen, &NAMES), EXPECTED);
    let names = ["transport", "client_proc_id", "server_proc_id", "server_name", "protocol_version", "complete"];
    let expected = ["stdio", "1", "2", "files", "2025-06-18", "Boolean(true)"];
    assert!(mcp(&seen, &names).iter().skip(1).all(|row| *row == expected), "{:?}", mcp(&seen, &names));
    let grep = &mcp(&seen, &["params", "result", "duration_ns", "end_reason"])[5];
    let error = r#"{"code":-32602,"message":"no"}"#;
    assert_eq!(*grep, [r#"{"name":"grep","arguments":{"for":"x"}}"#, error, "4000000", "response"]);
    assert_eq!(mcp(&seen, &["resource_uri"])[6], ["file:///a"]);
}

#[test]
fn the_rows_are_the_same_whichever_ends_are_recorded_and_however_it_is_cut() {
    let names: Vec<_> = NAMES.into_iter().chain(["client_proc_id", "server_proc_id", "params", "result"]).collect();
    let expected = conversation(ALL);
    for recorded in [Recorded::Server, Recorded::Client, Recorded::Both] {
        for size in [1, 2, 7, 64, 1000, usize::MAX] {
            let seen = conversation(Piped { recorded, size, ..ALL });
            assert_eq!(mcp(&seen, &names), mcp(&expected, &names), "by {size}");
        }
    }
}

#[test]
fn a_stream_first_seen_in_the_middle_is_known_by_its_methods() {
    let mut run = Run::new();
    run.serve(ALL);
    run.tell_agent(ALL, &lines(&[r#"nds"}}"#, &result("6", "{}")]));
    run.tell_server(ALL, &lines(&[&call("7", "grep", "{}")]));
    run.tell_agent(ALL, &lines(&[&result("7", "{}")]));
    run.tell_agent(ALL, &lines(&[&result("5", "{}")]));
    let rows = run.rows();
    let names = ["kind", "request_id", "server_proc_id", "end_reason", "complete"];
    assert_eq!(
        mcp(&rows, &names),
        [["request", "7", "2", "response", "Boolean(true)"], ["response", "5", "2", "", "Boolean(false)"]]
    );
}

#[test]
fn what_is_missing_takes_its_messages_along_and_no_others() {
    let mut run = introduced(ALL);
    run.tell_server(ALL, &lines(&[&call("1", "a", "{}"), &call("2", "b", "{}")]));
    // Of the first response there is only the start.
    let answer = result("1", r#"{"content":[{"type":"text","text":"long"}]}"#);
    run.stdio((20, 1, SENT), 272, &answer.as_bytes()[..40], answer.len() + 1);
    run.tell_agent(ALL, &lines(&[&result("2", "{}")]));
    run.tell_server(ALL, &lines(&[&call("3", "c", "{}")]));
    let rows = run.rows();
    let names = ["request_id", "end_ts", "end_reason", "complete"];
    let tail: Vec<_> = mcp(&rows, &names).into_iter().skip(2).map(|row| [row[0], row[2], row[3]]).collect();
    assert_eq!(
        tail,
        [
            ["2", "response", "Boolean(true)"],
            ["1", "capture_end", "Boolean(false)"],
            ["3", "capture_end", "Boolean(true)"]
        ]
    );
    assert!(mcp(&rows, &names).iter().skip(3).all(|row| row[1].is_empty()));
}

#[test]
fn a_record_that_is_lost_costs_its_own_messages() {
    let mut run = introduced(ALL);
    for id in ["1", "2", "3"] {
        run.tell_server(ALL, &lines(&[&call(id, "a", "{}")]));
        run.tell_agent(ALL, &lines(&[&result(id, "{}")]));
    }
    let whole = run.rows();
    let complete = |seen: &Collected| -> Vec<Vec<String>> {
        let rows = mcp(seen, &["method", "request_id", "result", "complete"]);
        let rows = rows.into_iter().filter(|row| row[3] == "Boolean(true)");
        rows.map(|row| row.into_iter().map(str::to_owned).collect()).collect()
    };
    let expected = complete(&whole);
    assert_eq!(expected.len(), 5);
    for at in 0..run.script.records.len() {
        let mut records = run.script.records.clone();
        records.remove(at);
        let seen = rows(&records);
        let left = complete(&seen);
        // The last response cannot be missed by anybody.
        let open = |row: &Vec<String>| row[2].is_empty() && row[1] == "3";
        assert!(left.iter().all(|row| expected.contains(row) || open(row)), "without {at}: {left:?}");
        assert!(left.len() + 2 >= expected.len(), "without {at}: {left:?}");
    }
}

#[test]
fn a_request_that_is_cancelled_ends_there_even_if_it_is_answered() {
    let mut run = introduced(ALL);
    run.tell_server(ALL, &lines(&[&call("1", "slow", "{}")]));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"tired"}}"#;
    run.tell_server(ALL, &lines(&[cancel]));
    run.tell_agent(ALL, &lines(&[&result("1", "{}")]));
    let rows = run.rows();
    let names = ["method", "end_reason", "duration_ns", "result"];
    assert_eq!(
        mcp(&rows, &names)[2..],
        [["tools/call", "cancelled", "1000000", ""], ["notifications/cancelled", "", "", ""]]
    );
}

#[test]
fn what_else_goes_over_pipes_is_no_mcp() {
    let others: [&[&str]; 5] = [
        // LSP; some servers end their messages with a newline.
        &[
            "Content-Length: 70\r\n\r",
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"processId":1}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"textDocument/completion","params":{}}"#,
        ],
        // ACP.
        &[
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"session/prompt","params":{}}"#,
        ],
        // JSON that is printed.
        &[r#"{"level":"info","method":"tools/call"}"#, "[1,2]", r#"{"jsonrpc":2.0,"id":1,"method":"tools/call"}"#],
        &[r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#],
        &[r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{}}"#, r#"{"jsonrpc":"2.0","method":"tools/"#],
    ];
    for other in others {
        let mut run = Run::new();
        run.serve(ALL);
        run.tell_server(ALL, &lines(other));
        run.tell_agent(ALL, &lines(other));
        assert!(run.rows().table("mcp").is_empty(), "{other:?}");
    }
}

/// An agent that is a server itself, and has another below it: two conversations, one process in both.
#[test]
fn a_server_that_has_a_server_speaks_twice() {
    let mut run = introduced(ALL);
    run.tell_server(ALL, &lines(&[&call("1", "inner", "{}")]));
    let text = lines(&[INITIALIZE, &call("1", "outer", "{}")]);
    run.stdio((AGENT, 0, RECEIVED), 900, text.as_bytes(), text.len());
    let rows = run.rows();
    let names = ["tool_name", "client_proc_id", "server_proc_id"];
    let calls: Vec<_> = mcp(&rows, &names).into_iter().filter(|row| !row[0].is_empty()).collect();
    assert_eq!(calls, [["inner", "1", "2"], ["outer", "", "1"]]);
}
