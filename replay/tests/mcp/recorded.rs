//! What was recorded of real processes, against what the server knows.

use crate::common::*;
use serde_json::Value;

fn file(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../fixtures/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What a server has been asked and has answered, in the order of ids.
fn truth(name: &str) -> Vec<Value> {
    let text = String::from_utf8(file(&format!("truth/{name}.jsonl"))).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_client = |line: &Value| line["kind"] == "mcp" && line["direction"] == "client_to_server";
    let mut known: Vec<_> = lines.filter(of_client).collect();
    known.sort_by_key(|line| line["id"].as_i64());
    known
}

fn json(row: &Cells, column: &str) -> Value {
    row.get(column).map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

#[test]
fn every_message_of_the_recordings_has_its_row() {
    for name in ["stub-mcp-stdio", "stub-mcp-http", "stub-mcp-http-sse"] {
        let (seen, _) = rows_of(&file(&format!("captures/{name}.asc")), None);
        let mut asked: Vec<_> =
            seen.table("mcp").into_iter().filter(|row| row["direction"] == "client_to_server").collect();
        asked.sort_by_key(|row| row.get("request_id").map(|id| id.parse::<i64>().unwrap()));
        let known = truth(name);
        assert_eq!(asked.len(), known.len(), "{name}");
        for (row, known) in asked.into_iter().zip(known) {
            assert_eq!(row["method"], known["method"], "{name}");
            assert_eq!(json(row, "params"), known["params"], "{name}");
            let answer = if known["error"].is_null() { &known["result"] } else { &known["error"] };
            assert_eq!(json(row, "result"), *answer, "{name}");
            assert_eq!(
                row.get("error_code").map(String::as_str),
                known["error"]["code"].as_i64().map(|code| code.to_string()).as_deref()
            );
            assert_eq!(
                (row["complete"].as_str(), row["transport"].as_str()),
                ("Boolean(true)", known["transport"].as_str().unwrap())
            );
        }
    }
}

#[test]
fn every_tool_call_of_the_recordings_has_its_request() {
    for name in ["stub-mcp-stdio", "stub-mcp-http", "stub-mcp-http-sse"] {
        let (seen, _) = rows_of(&file(&format!("captures/{name}.asc")), None);
        let calls = seen.table("mcp").into_iter().filter(|row| row.contains_key("tool_name"));
        let calls: Vec<_> = calls.map(|row| row["mcp_id"].as_str()).collect();
        let caused = seen.table("causes").into_iter().filter(|row| row["method"] == "mcp_id");
        let caused: Vec<_> = caused.map(|row| row["effect_key"].as_str()).collect();
        assert_eq!(caused, calls, "{name}");
        assert!(!calls.is_empty());
        let of_server = seen.table("tool_calls").into_iter().filter(|row| row["tool_name"].starts_with("mcp__"));
        assert!(of_server.map(|row| &row["mcp_server"]).all(|server| server == "notes"), "{name}");
    }
}

#[test]
fn what_the_recorded_server_runs_is_of_the_calls_that_it_works_on() {
    let (seen, _) = rows_of(&file("captures/stub-mcp-stdio.asc"), None);
    let piped = seen.table("causes").into_iter().filter(|row| row["method"] == "pipe" && row["effect_kind"] == "exec");
    assert_eq!(piped.count(), seen.table("mcp").into_iter().filter(|row| row.contains_key("tool_name")).count());
}

/// Nothing but what is asked for has to run, and that gives the same rows.
#[test]
fn each_table_alone_has_the_same_rows() {
    for name in ["stub-mcp-stdio", "stub-mcp-http-sse"] {
        let file = file(&format!("captures/{name}.asc"));
        let (all, _) = rows_of(&file, None);
        for table in ["mcp", "mcp_tools", "tool_calls", "causes", "findings", "execs"] {
            assert_eq!(rows_of(&file, Some(table)).0.table(table), all.table(table), "{name}: {table}");
        }
    }
}
