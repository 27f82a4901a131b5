//! The offline verbs on the command line: they need neither root nor Linux, only a capture.

use agentsight_formats::record::{DropCounter, direction};
use agentsight_formats::{Clocks, Head, Metadata, Writer};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

#[path = "support/records.rs"]
mod records;

const AGENTSIGHT: &str = env!("CARGO_BIN_EXE_agentsight");

fn clocks(second: u64) -> Clocks {
    let boottime = second * 1_000_000_000;
    Clocks { boottime, monotonic: boottime, realtime: 1_767_225_600_000_000_000 + boottime as i64 }
}

fn tls(second: u64, direction: u16, data: &str) -> Vec<u8> {
    records::tls(1, (second * 1_000_000_000, 42), (direction, 0), data)
}

/// A capture of one exchange: a chat completion.
fn capture(dropped: u64) -> Vec<u8> {
    let metadata = Metadata { host: "host".into(), clocks: clocks(0), ..Metadata::default() };
    let mut writer = Writer::new(Vec::new(), &Head::new(*b"0123456789abcdef", metadata)).unwrap();
    writer.begin_segment(&[], clocks(0), &[]).unwrap();
    let request = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let response = r#"{"id":"c1","model":"gpt-4o-2","choices":[{"index":0,"message":{"content":"ho"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let head = |start: &str, body: &str| {
        format!("{start}\r\nContent-Length: {}\r\nHost: api.openai.com\r\n\r\n{body}", body.len())
    };
    writer.push(&tls(1, direction::SENT, &head("POST /v1/chat/completions HTTP/1.1", request))).unwrap();
    writer.push(&tls(2, direction::RECEIVED, &head("HTTP/1.1 200 OK", response))).unwrap();
    let drop = DropCounter {
        source: 2.into(),
        cpu: 0.into(),
        reason: 0.into(),
        reserved: 0.into(),
        records: dropped.into(),
        bytes: 100.into(),
    };
    writer.checkpoint(clocks(3), if dropped > 0 { std::slice::from_ref(&drop) } else { &[] }).unwrap();
    writer.finish().unwrap()
}

/// A folder with `run.asc`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "run.asc", &capture(0));
    folder
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn agentsight(folder: &TempDir, args: &[&str]) -> Output {
    Command::new(AGENTSIGHT).current_dir(folder).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command and compares its exit status, standard output and standard error.
#[track_caller]
fn check(folder: &TempDir, args: &[&str], status: i32, stdout: &str, stderr: &str) {
    let output = agentsight(folder, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), (stdout, stderr));
    assert_eq!(output.status.code(), Some(status));
}

const SQL: &str = "SELECT request_model, input_tokens, start_ts FROM llm_calls";

#[test]
fn a_result_in_every_format() {
    let folder = folder();
    let query = |format, expected| check(&folder, &["query", "--format", format, SQL, "run.asc"], 0, expected, "");
    query("csv", "request_model,input_tokens,start_ts\ngpt-4o,7,2026-01-01T00:00:01Z\n");
    query("json", "[{\"request_model\":\"gpt-4o\",\"input_tokens\":7,\"start_ts\":\"2026-01-01T00:00:01Z\"}]");
    query("ndjson", "{\"request_model\":\"gpt-4o\",\"input_tokens\":7,\"start_ts\":\"2026-01-01T00:00:01Z\"}\n");
    query(
        "markdown",
        "| request_model | input_tokens | start_ts |\n| --- | --: | --- |\n| gpt-4o | 7 | 2026-01-01T00:00:01Z |\n",
    );
    query(
        "table",
        "\
+---------------+--------------+----------------------+
| request_model | input_tokens | start_ts             |
+---------------+--------------+----------------------+
| gpt-4o        | 7            | 2026-01-01T00:00:01Z |
+---------------+--------------+----------------------+
",
    );
}

#[test]
fn an_empty_result_has_a_header() {
    let folder = folder();
    check(&folder, &["query", "SELECT ts, reason FROM drops", "run.asc"], 0, "ts,reason\n", "");
    check(&folder, &["query", "--format", "json", "SELECT ts FROM drops", "run.asc"], 0, "[]", "");
}

#[test]
fn parquet_goes_to_a_file_with_units_in_its_schema() {
    let folder = folder();
    check(&folder, &["query", "-o", "calls.parquet", "SELECT * FROM llm_calls", "run.asc"], 0, "", "");
    let bytes = std::fs::read(folder.path().join("calls.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
}

#[test]
fn bytes_are_text_for_people_and_hexadecimal_in_json() {
    let folder = folder();
    let sql = "SELECT substr(text(request_body), 1, 8) AS t, arrow_cast(substr(text(request_body), 1, 2), 'Binary') AS b FROM http";
    check(&folder, &["query", "--format", "csv", sql, "run.asc"], 0, "t,b\n\"{\"\"model\"\"\",\"{\"\"\"\n", "");
    let json = "{\"t\":\"{\\\"model\\\"\",\"b\":\"7b22\"}\n";
    check(&folder, &["query", "--format", "ndjson", sql, "run.asc"], 0, json, "");
}

#[test]
fn json_and_hashes_are_at_hand_in_sql() {
    let folder = folder();
    let sql = "SELECT text(request_body)->>'model' AS model, encode(sha256('x'), 'hex') AS hash FROM http";
    let hash = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    check(&folder, &["query", sql, "run.asc"], 0, &format!("model,hash\ngpt-4o,{hash}\n"), "");
}

#[test]
fn wrong_names_are_answered_with_the_nearest() {
    let folder = folder();
    check(
        &folder,
        &["query", "SELECT * FROM llm_call", "run.asc"],
        1,
        "",
        "agentsight: no table `llm_call` (did you mean llm_calls, llm_call_messages, llm_messages?); `agentsight query --tables` lists them\n",
    );
    let output = agentsight(&folder, &["query", "SELECT modle FROM llm_calls", "run.asc"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no column `modle`") && message.contains("request_model"), "{message}");
}

#[test]
fn a_recursive_query_may_join_two_tables() {
    // Columns of one name used to differ in their metadata, which a recursive union does not take.
    let folder = folder();
    let sql =
        "WITH RECURSIVE t AS (SELECT proc_id FROM processes UNION ALL SELECT e.proc_id FROM execs e JOIN t ON false)
        SELECT count(*) AS n FROM t";
    check(&folder, &["query", sql, "run.asc"], 0, "n\n1\n", "");
}

#[test]
fn nothing_can_be_changed() {
    let folder = folder();
    for sql in ["CREATE TABLE t AS SELECT 1", "COPY (SELECT 1) TO 'x.csv'", "DROP TABLE http", "SET x = 1"] {
        assert_eq!(agentsight(&folder, &["query", sql, "run.asc"]).status.code(), Some(1), "{sql}");
    }
    assert!(!folder.path().join("x.csv").exists());
}

#[test]
fn captures_are_named_by_folder_glob_or_not_at_all() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("runs")).unwrap();
    write(folder.path(), "runs/a.asc", &capture(0));
    write(folder.path(), "runs/b.asc", &capture(0));
    let count = "SELECT count(*) AS n FROM http";
    check(&folder, &["query", count, "runs"], 0, "n\n2\n", "");
    check(&folder, &["query", count, "runs/*.asc", "runs/a.asc"], 0, "n\n2\n", "");
    check(&folder, &["query", count], 0, "n\n1\n", "agentsight: reading ./run.asc, the newest capture here\n");
    check(&folder, &["query", count, "none.asc"], 1, "", "agentsight: none.asc: no such file\n");
    check(&folder, &["query", count, "none*.asc"], 1, "", "agentsight: none*.asc: nothing matches\n");
}

#[test]
fn sql_comes_from_a_file_or_from_standard_input() {
    let folder = folder();
    write(folder.path(), "count.sql", b"SELECT count(*) AS n FROM http");
    check(&folder, &["query", "-f", "count.sql", "run.asc"], 0, "n\n1\n", "");
    let mut child = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args(["query", "-", "run.asc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"SELECT count(*) AS n FROM http").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"n\n1\n");
}

#[test]
fn wrong_usage_is_status_2_and_says_what_to_do() {
    let folder = folder();
    let message = "agentsight: run.asc is a capture, but the SQL comes first: agentsight query \"SELECT …\" run.asc\n";
    check(&folder, &["query", "run.asc"], 2, "", message);
    assert_eq!(agentsight(&folder, &["query"]).status.code(), Some(2));
    assert_eq!(agentsight(&folder, &["cat", "--kind", "nonsense", "run.asc"]).status.code(), Some(2));
    assert_eq!(agentsight(&folder, &["cat", "--from", "yesterday", "run.asc"]).status.code(), Some(2));
}

#[test]
fn damage_and_drops_are_told_and_give_status_3() {
    let folder = folder();
    let count = "SELECT count(*) AS n FROM http";
    write(folder.path(), "dropped.asc", &capture(5));
    let told = "agentsight: dropped.asc: 5 records were dropped; see the table drops\n";
    check(&folder, &["query", count, "dropped.asc"], 3, "n\n1\n", told);
    let drops = "source,cpu,reason,records,bytes\ntls,0,ring_full,5,100\n";
    let sql = "SELECT source, cpu, reason, records, bytes FROM drops";
    check(&folder, &["query", sql, "dropped.asc"], 3, drops, told);

    let whole = capture(0);
    write(folder.path(), "cut.asc", &whole[..whole.len() - 100]);
    for args in [&["query", count, "cut.asc"][..], &["info", "cut.asc"], &["cat", "cut.asc"]] {
        let output = agentsight(&folder, args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let said = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains("not closed"), "{args:?}");
    }
    check(
        &folder,
        &["query", count, "/dev/null"],
        1,
        "",
        "agentsight: /dev/null: the file is empty: the capturer did not get as far as writing its head\n",
    );
}

#[test]
fn info_says_what_when_and_whether_it_is_whole() {
    let folder = folder();
    let output = agentsight(&folder, &["info", "--json", "run.asc"]);
    assert_eq!(output.status.code(), Some(0));
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["health"], "complete");
    assert_eq!(info["kinds"], serde_json::json!({"tls_data": 2, "checkpoint": 2}));
    assert_eq!((&info["started_at"], &info["seconds"]), (&"2026-01-01T00:00:00.000000000Z".into(), &3.0.into()));
    let text = String::from_utf8(agentsight(&folder, &["info", "run.asc"]).stdout).unwrap();
    assert!(text.contains("health       complete") && text.contains("dropped      nothing"), "{text}");
}

#[test]
fn cat_prints_records_by_kind_process_and_time() {
    let folder = folder();
    let lines = |args: &[&str]| {
        let output = agentsight(&folder, &[&["cat", "run.asc"], args].concat());
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    assert_eq!(lines(&[]), 4);
    assert_eq!(lines(&["--kind", "tls_data"]), 2);
    assert_eq!(lines(&["--kind", "tls_data,checkpoint", "--pid", "42"]), 2);
    assert_eq!(lines(&["--from", "+2s"]), 2);
    assert_eq!(lines(&["--from", "2026-01-01T00:00:01Z", "--to", "00:00:02"]), 1);
    let output = agentsight(&folder, &["cat", "run.asc", "--kind", "tls_data", "--to", "+2s"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["time"], &line["direction"]), (&"2026-01-01T00:00:01.000000000Z".into(), &"sent".into()));
    assert!(line["data"].as_str().unwrap().starts_with("POST /v1/chat/completions"));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let folder = folder();
    for args in [&["query", "SELECT repeat(text(data), 5000) FROM tls_data", "run.asc"][..], &["cat", "run.asc"]] {
        let mut child = Command::new(AGENTSIGHT)
            .current_dir(&folder)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    }
}

#[test]
fn help_leads_with_examples() {
    let folder = folder();
    for verb in [&["--help"][..], &["query", "--help"], &["info", "--help"], &["cat", "--help"]] {
        let output = agentsight(&folder, verb);
        assert!(output.stdout.starts_with(b"EXAMPLES:"), "{verb:?}");
    }
    assert!(String::from_utf8_lossy(&agentsight(&folder, &["completions", "bash"]).stdout).contains("agentsight"));
    assert!(String::from_utf8_lossy(&agentsight(&folder, &["man"]).stdout).contains(".TH agentsight"));
}

#[test]
fn a_capture_is_read_from_standard_input() {
    let folder = folder();
    let through = |args: &[&str]| {
        let mut command = Command::new(AGENTSIGHT);
        command.current_dir(&folder).env("TMPDIR", folder.path()).args(args);
        command.stdin(std::fs::File::open(folder.path().join("run.asc")).unwrap()).output().unwrap()
    };
    for args in [&["query", SQL][..], &["cat"], &["replay", "--table", "llm_calls"], &["info", "--json"]] {
        let named = agentsight(&folder, &[args, &["run.asc"]].concat());
        let piped = through(&[args, &["-"]].concat());
        let text = String::from_utf8_lossy(&piped.stdout).into_owned();
        assert!(!text.is_empty() && piped.status.success(), "{args:?}: {piped:?}");
        let received = text.split('"').find(|part| part.ends_with("/standard-input.asc")).unwrap_or("run.asc");
        assert_eq!(text.replace(received, "run.asc"), String::from_utf8_lossy(&named.stdout), "{args:?}");
    }
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["run.asc"], "nothing of it is left behind");
    let output = agentsight(&folder, &["query", SQL, "-"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
