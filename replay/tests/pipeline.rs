//! The pipeline from records to rows, over captures that are made here: what an agent said must come out whole, however it was
//! cut, and what is missing must never make a row silently wrong.

mod common;

use agentsight_formats::record::direction::RECEIVED;
use agentsight_formats::record::{Exec, ExecArgs, Exit, Fork, kind};
use common::*;
use std::io::Write;

const ANTHROPIC_STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","model":"claude-x-1","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_read_input_tokens":64,"cache_creation_input_tokens":32,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"déjà ✓"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"call_1","name":"bash","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"command\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \"id -u\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":29}}

event: message_stop
data: {"type":"message_stop"}

"#;

const VERSION: &str = "anthropic-version: 2023-06-01\r\n";
const FIRST: &str = r#"{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"go"}]}"#;
const SECOND: &str = r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"call_1","name":"bash","input":{"command":"id -u"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":"0\n"}]}]}"#;
const ANSWER: &str = r#"{"id":"msg_2","model":"claude-x-1","content":[{"type":"text","text":"done"}],"stop_reason":"end_turn","usage":{"input_tokens":20,"output_tokens":3}}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A model asks for a tool in a gzipped stream, gets its result, answers; then the same history is sent once more.
fn conversation(size: usize) -> Script {
    let mut script = Script::default();
    let stream = gzip(ANTHROPIC_STREAM);
    let pieces: Vec<&[u8]> = stream.chunks(40).collect();
    let headers = "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nrequest-id: req_1\r\n";
    script.exchange(&request("/v1/messages", VERSION, FIRST), &chunked(headers, &pieces), size);
    script.exchange(&request("/v1/messages", VERSION, SECOND), &response("", ANSWER.as_bytes()), size);
    script.exchange(&request("/v1/messages", VERSION, SECOND), &response("", ANSWER.as_bytes()), size);
    script
}

/// Rows without what is bound to differ with the cutting: times.
fn timeless(collected: &Collected, table: &str) -> Vec<Cells> {
    let mut rows: Vec<Cells> = collected.table(table).into_iter().cloned().collect();
    rows.iter_mut().for_each(|row| {
        row.retain(|name, _| !name.ends_with("ts") && !name.ends_with("_ns") && !name.ends_with("_at"))
    });
    rows
}

#[test]
fn a_conversation_comes_out_whole() {
    let seen = rows(&conversation(100_000).records);
    let calls = seen.table("llm_calls");
    assert_eq!(calls.len(), 3);
    let expected = [
        ("wire_api", "anthropic.messages"),
        ("provider_name", "anthropic"),
        ("request_model", "claude-x"),
        ("response_model", "claude-x-1"),
        ("response_id", "msg_1"),
        ("provider_request_id", "req_1"),
        ("finish_reason", "tool_call"),
        ("finish_reason_raw", "tool_use"),
        ("input_tokens", "106"),
        ("output_tokens", "29"),
        ("cache_read_input_tokens", "64"),
        ("cache_write_input_tokens", "32"),
        ("output_text", "déjà ✓"),
        ("complete", "Boolean(true)"),
        ("aborted", "Boolean(false)"),
    ];
    for (name, value) in expected {
        assert_eq!(calls[0][name], value, "{name}");
    }
    let tools = seen.table("tool_calls");
    assert_eq!(tools.len(), 1, "the history that is sent again is no new call");
    let expected = [
        ("tool_call_id", "call_1"),
        ("tool_name", "bash"),
        ("arguments", r#"{"command": "id -u"}"#),
        ("result", "0\n"),
        ("is_error", "Boolean(false)"),
        ("llm_call_id", "1"),
        ("result_llm_call_id", "2"),
        ("args_complete", "Boolean(true)"),
    ];
    for (name, value) in expected {
        assert_eq!(tools[0][name], value, "{name}");
    }
    let http = seen.table("http");
    assert_eq!((http[0]["request_body"].as_str(), http[0]["response_body"].as_str()), (FIRST, ANTHROPIC_STREAM));
    assert_eq!((http[0]["body_state"].as_str(), http[0]["path"].as_str()), ("complete", "/v1/messages"));
    assert_eq!(seen.table("stream_events").len(), 11);
    assert_eq!(seen.table("connections")[0]["server_name"], "api.example.com");
}

#[test]
fn rows_do_not_depend_on_how_the_streams_were_cut() {
    let whole = rows(&conversation(100_000).records);
    for size in [1, 2, 3, 7, 16, 100, 1000] {
        let cut = rows(&conversation(size).records);
        for table in ["http", "llm_calls", "tool_calls", "stream_events", "connections"] {
            assert_eq!(timeless(&cut, table), timeless(&whole, table), "{table}, cut by {size}");
        }
    }
}

#[test]
fn two_decodes_are_the_same_and_one_table_alone_is_the_same_as_among_all() {
    let file = capture(&conversation(50).records);
    let (all, _) = rows_of(&file, None);
    assert_eq!(all.rows, rows_of(&file, None).0.rows);
    for table in agentsight_replay::tables::TABLES {
        assert_eq!(rows_of(&file, Some(table.name)).0.table(table.name), all.table(table.name), "{}", table.name);
    }
}

#[test]
fn a_missing_record_never_makes_a_row_silently_wrong() {
    for size in [30, 90, 200, 100_000] {
        let script = conversation(size);
        let whole = rows(&script.records);
        for missing in 0..script.records.len() {
            let mut records = script.records.clone();
            records.remove(missing);
            let seen = rows(&records);
            let bodies = |row: &Cells| (row.get("request_body").cloned(), row.get("response_body").cloned());
            let originals: Vec<_> = whole.table("http").into_iter().map(bodies).collect();
            for row in seen
                .table("http")
                .into_iter()
                .filter(|row| row["body_state"] == "complete" && row["end_reason"] == "response")
            {
                // A row whose request is missing says so by having no method; its response must be an original.
                let whole_row = originals.contains(&bodies(row));
                let half_row = !row.contains_key("method")
                    && originals.iter().any(|(_, body)| body.as_ref() == row.get("response_body"));
                assert!(whole_row || half_row, "size {size}, without record {missing}: {row:?}");
            }
            let facts = |row: &Cells| {
                ["request_model", "input_tokens", "output_tokens", "finish_reason", "output_text", "response_id"]
                    .map(|name| row.get(name).cloned())
            };
            let originals: Vec<_> = whole.table("llm_calls").into_iter().map(facts).collect();
            for row in seen.table("llm_calls").into_iter().filter(|row| row["complete"] == "Boolean(true)") {
                assert!(originals.contains(&facts(row)), "size {size}, without record {missing}: {row:?}");
            }
            let loss: i64 = seen.table("connections").iter().map(|row| row["gap_bytes"].parse::<i64>().unwrap()).sum();
            let whole_row = |row: &&Cells| {
                row["body_state"] == "complete" && row["end_reason"] == "response" && row.contains_key("method")
            };
            let marked = !seen.table("http").iter().all(whole_row);
            let fewer = seen.table("http").len() < whole.table("http").len();
            assert!(loss > 0 || marked || fewer, "size {size}, record {missing}: silence");
        }
    }
}

#[test]
fn bytes_that_are_no_http_never_panic_and_make_no_rows() {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let mut script = Script::default();
        let seed: &[u8] =
            [&b""[..], b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\n"][round % 3];
        script.say(1, (round % 2) as u16, seed);
        for _ in 0..20 {
            let noise: Vec<u8> = (0..random() % 60)
                .map(|_| if random() % 4 == 0 { b"\r\n0:"[(random() % 4) as usize] } else { random() as u8 })
                .collect();
            script.say(1, (random() % 2) as u16, &noise);
        }
        let seen = rows(&script.records);
        assert!(
            seen.table("http").iter().all(|row| row["body_state"] != "complete" || row["end_reason"] != "response"),
            "round {round}"
        );
    }
}

const CHAT: &str = r#"{"model":"gpt-x","messages":[{"role":"user","content":"go"}],"stream":true}"#;
const CHAT_STREAM: &str = r#"data: {"id":"c1","model":"gpt-x-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"c1","model":"gpt-x-1","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"one","arguments":""}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"two","arguments":"{}"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: {"choices":[],"usage":{"prompt_tokens":50,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":40}}}

data: [DONE]

"#;

#[test]
fn chat_completions_with_parallel_calls_and_their_results() {
    let mut script = Script::default();
    let results = r#"{"model":"gpt-x","messages":[{"role":"tool","tool_call_id":"b","content":"B"},{"role":"tool","tool_call_id":"a","content":"A"}]}"#;
    let error = r#"{"error":{"type":"rate_limit","code":"x"}}"#;
    let error = format!("HTTP/1.1 429 Slow\r\nContent-Length: {}\r\n\r\n{error}", error.len()).into_bytes();
    script.exchange(
        &request("/v1/chat/completions", "", CHAT),
        &chunked("Content-Type: text/event-stream\r\n", &[CHAT_STREAM.as_bytes()]),
        11,
    );
    script.exchange(&request("/v1/chat/completions", "", results), &error, 1000);
    let seen = rows(&script.records);
    let calls = seen.table("llm_calls");
    let first =
        ["response_model", "input_tokens", "cache_read_input_tokens", "finish_reason", "output_text", "complete"];
    assert_eq!(first.map(|name| calls[0][name].as_str()), ["gpt-x-1", "50", "40", "tool_call", "hi", "Boolean(true)"]);
    let second = ["status_code", "error_type", "finish_reason", "usage_source"];
    assert_eq!(second.map(|name| calls[1][name].as_str()), ["429", "rate_limit", "error", "none"]);
    let mut tools: Vec<_> = seen
        .table("tool_calls")
        .into_iter()
        .map(|row| ["tool_name", "arguments", "result"].map(|name| row[name].as_str()))
        .collect();
    tools.sort();
    assert_eq!(tools, [["one", "{\"x\":1}", "A"], ["two", "{}", "B"]]);
}

#[test]
fn a_stream_that_breaks_off_is_marked() {
    let mut script = Script::default();
    let stream = chunked("Content-Type: text/event-stream\r\n", &[ANTHROPIC_STREAM.as_bytes()]);
    script.exchange(&request("/v1/messages", VERSION, FIRST), &stream[..stream.len() - 400], 100);
    let seen = rows(&script.records);
    let call = seen.table("llm_calls")[0];
    assert_eq!(["complete", "aborted"].map(|name| call[name].as_str()), ["Boolean(false)", "Boolean(true)"]);
    assert_eq!(seen.table("http")[0]["body_state"], "cut");
    assert_eq!(seen.table("tool_calls")[0]["tool_name"], "bash");
    assert!(!seen.table("tool_calls")[0].contains_key("result"));
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let fork = |time: u64, start: u64| {
        let header = header(kind::FORK, time, 1);
        bytes(
            &Fork {
                header,
                child_start: start.into(),
                child_tgid: 50.into(),
                uid: 0.into(),
                comm: *b"child\0\0\0\0\0\0\0\0\0\0\0",
            },
            &[],
        )
    };
    let exit = |time: u64, status: i32| {
        let header = header(kind::EXIT, time, 50);
        let fixed = Exit {
            header,
            status: status.into(),
            reserved: 0.into(),
            user_ns: 30.into(),
            system_ns: 10.into(),
            runtime_ns: 80.into(),
            max_rss_bytes: 4096.into(),
        };
        bytes(&fixed, &[])
    };
    let second = 1_000_000_000;
    let seen = rows(&[fork(1, 1), exit(2, 7 << 8), fork(second, second), exit(second + 1, 9)]);
    let rows: Vec<_> = seen.table("processes").into_iter().filter(|row| row["pid"] == "50").collect();
    assert_ne!(rows[0]["proc_id"], rows[1]["proc_id"]);
    assert_eq!((rows[0]["exit_code"].as_str(), rows[1]["exit_signal"].as_str()), ("7", "9"));
    // CPU times are scaled to the exact run time, as getrusage does.
    assert_eq!((rows[0]["user_ns"].as_str(), rows[0]["system_ns"].as_str()), ("60", "20"));
}

#[test]
fn arguments_are_put_together_and_a_missing_piece_is_marked() {
    let args = b"sh\0-c\0echo 'a b'\0";
    let exec = |time: u64| {
        let fixed = Exec {
            header: header(kind::EXEC, time, 10),
            start: 1.into(),
            ppid: 1.into(),
            uid: 0.into(),
            gid: 0.into(),
            args_len: (args.len() as u32).into(),
            path_len: 7.into(),
            cwd_len: 1.into(),
            filename_len: 2.into(),
            reserved: 0.into(),
            comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        bytes(&fixed, &[b"/bin/sh/sh"])
    };
    let piece = |time: u64, from: usize, to: usize| {
        let fixed = ExecArgs {
            header: header(kind::EXEC_ARGS, time, 10),
            args_len: (args.len() as u32).into(),
            offset: (from as u32).into(),
            len: ((to - from) as u32).into(),
            captured: ((to - from) as u32).into(),
        };
        bytes(&fixed, &[&args[from..to]])
    };
    let seen = rows(&[exec(1), piece(2, 0, 9), piece(3, 9, args.len()), exec(4), piece(5, 9, args.len())]);
    let execs = seen.table("execs");
    assert_eq!(execs[0]["command_line"], r"sh -c 'echo '\''a b'\'''");
    assert_eq!((execs[0]["executable_path"].as_str(), execs[0]["working_directory"].as_str()), ("/bin/sh", "/"));
    assert_eq!((execs[0]["truncated"].as_str(), execs[1]["truncated"].as_str()), ("Boolean(false)", "Boolean(true)"));
}

#[test]
fn drops_and_damage_are_rows_and_in_the_report() {
    let mut file = capture(&conversation(100).records);
    let (seen, report) = rows_of(&file, None);
    assert_eq!(seen.table("drops"), Vec::<&Cells>::new());
    assert!(!report.lossy());
    file.truncate(file.len() - 30);
    let (seen, report) = rows_of(&file, None);
    assert!(report.lossy());
    assert_eq!(seen.table("drops")[0]["reason"], "damage");
    assert_eq!(seen.table("captures")[0]["complete"], "Boolean(false)");
}

#[test]
fn a_response_whose_request_was_not_seen_is_not_complete() {
    let mut script = Script::default();
    script.say(1, RECEIVED, &response("", b"ok"));
    let seen = rows(&script.records);
    let http = seen.table("http");
    assert_eq!((http.len(), http[0]["body_state"].as_str(), http[0]["response_body"].as_str()), (1, "gap", "ok"));
}
