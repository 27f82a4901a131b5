//! `agentsight replay` on the command line, on the committed captures: neither root nor Linux is needed.

use agentsight_formats::record::{self, Header, TlsData, direction, kind, library};
use agentsight_formats::{Clocks, Head, Item, Metadata, Reader, Writer};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const AGENTSIGHT: &str = env!("CARGO_BIN_EXE_agentsight");

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A folder with some of the committed captures.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, as_name) in [("stub-anthropic", "run.asc"), ("stub-openai-parallel", "parallel.asc")] {
        std::fs::copy(fixtures().join(format!("captures/{name}.asc")), folder.path().join(as_name)).unwrap();
    }
    folder
}

fn command(folder: &TempDir, args: &str) -> Command {
    let mut command = Command::new(AGENTSIGHT);
    command.current_dir(folder).arg("replay").args(args.split_whitespace()).stdin(Stdio::null());
    command
}

fn replay(folder: &TempDir, args: &str) -> Output {
    command(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is written when all goes well.
#[track_caller]
fn lines(folder: &TempDir, args: &str) -> String {
    let output = replay(folder, args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args}");
    text(&output.stdout)
}

/// Rows, without the first line.
#[track_caller]
fn rows(folder: &TempDir, args: &str) -> Vec<Value> {
    lines(folder, args).lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs it and compares exit status, standard output and standard error.
#[track_caller]
fn check(folder: &TempDir, args: &str, status: i32, stdout: &str, stderr: &str) {
    let output = replay(folder, args);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), (stdout, stderr), "{args}");
    assert_eq!(output.status.code(), Some(status), "{args}");
}

/// Tables that have golden rows: a file each.
fn golden_tables(folder: &TempDir) -> usize {
    files_in(&folder.path().join("golden"), "ndjson")
}

fn files_in(folder: &Path, extension: &str) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|it| it == extension)).count()
}

fn edit(folder: &TempDir, name: &str, from: &str, to: &str) {
    let path = folder.path().join(name);
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(before.contains(from), "{before}");
    std::fs::write(path, before.replacen(from, to, 1)).unwrap();
}

// ---- rows ----

#[test]
fn the_first_line_names_what_is_pinned_and_every_line_begins_with_its_table() {
    let folder = folder();
    let all = lines(&folder, "run.asc");
    let first: Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    assert_eq!((&first["table"], &first["agentsight"]), (&"replay".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(
        (&first["format"], &first["analyzers"]["llm"], &first["prices"]["name"]),
        (&"1.0".into(), &4.into(), &"agentsight".into())
    );
    assert!(all.lines().all(|line| line.starts_with("{\"table\":\"")));
    let tables = ["captures", "processes", "execs", "files", "connections", "http", "llm_calls", "tool_calls", "stdio"];
    for table in tables {
        assert!(all.contains(&format!("\n{{\"table\":\"{table}\",\"capture_id\":\"")), "{table}");
    }
    let call = rows(&folder, "run.asc --table llm_calls").remove(0);
    assert_eq!((&call["request_model"], &call["input_tokens"]), (&"claude-sonnet-4-5".into(), &234.into()));
}

#[test]
fn rows_come_in_the_order_of_events() {
    let folder = folder();
    // A row comes with the event that completes it: a call at its end, a process at its exit.
    let ends = ["ts", "end_ts", "exit_ts"];
    let all = rows(&folder, "run.asc --table execs,llm_calls,processes,files,dns,metrics,http");
    let times: Vec<&str> =
        all.iter().map(|row| ends.iter().find_map(|end| row.get(end).and_then(Value::as_str)).unwrap()).collect();
    assert!(times.is_sorted() && times.len() > 15, "{times:#?}");
}

#[test]
fn the_same_bytes_whatever_the_surroundings() {
    let folder = folder();
    let plain = lines(&folder, "run.asc parallel.asc");
    for (name, value) in
        [("TZ", "Asia/Kathmandu"), ("LANG", "tr_TR.UTF-8"), ("LC_ALL", "C"), ("TOKIO_WORKER_THREADS", "1")]
    {
        let output = command(&folder, "run.asc parallel.asc").env(name, value).output().unwrap();
        assert_eq!(text(&output.stdout), plain, "{name}={value}");
    }
    assert_eq!(lines(&folder, "run.asc parallel.asc --speed 100x"), plain);
    check(&folder, "run.asc parallel.asc -o rows.ndjson", 0, "", "");
    assert_eq!(std::fs::read_to_string(folder.path().join("rows.ndjson")).unwrap(), plain);
}

/// A record as it stands in a stream, at a multiple of eight bytes.
fn padded(record: &[u8]) -> Vec<u8> {
    let mut bytes = record.to_vec();
    bytes.resize(record.len().next_multiple_of(8), 0);
    bytes
}

/// Writes the records of a capture anew: into so many files of one recording, with so many records from flush to flush.
fn rewritten(capture: &Path, folder: &TempDir, name: &str, files: usize, flush: usize) {
    let mut reader = Reader::open(File::open(capture).unwrap()).unwrap();
    let mut metadata = reader.head().metadata.clone();
    let (mut records, mut clocks) = (Vec::new(), Clocks::default());
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Piece(piece) = item else { panic!("{item:?}") };
        let of_piece = piece.records().map(|record| record.unwrap());
        records.extend(
            of_piece.filter(|record| record.header.kind.get() != kind::CHECKPOINT).map(|record| padded(record.bytes)),
        );
        clocks = piece.clocks();
    }
    for (number, part) in records.chunks(records.len().div_ceil(files)).enumerate() {
        metadata.extra.insert("recording".to_owned(), "00000000-0000-4000-8000-000000000001".into());
        metadata.extra.insert("part".to_owned(), (number + 1).into());
        let file = File::create(folder.path().join(format!("{name}-{number}.asc"))).unwrap();
        let mut writer = Writer::new(file, &Head::new([number as u8 + 1; 16], metadata.clone())).unwrap();
        writer.begin_segment(&[], metadata.clocks, &[]).unwrap();
        for piece in part.chunks(flush) {
            piece.iter().for_each(|record| writer.push(record).unwrap());
            writer.checkpoint(clocks, &[]).unwrap();
        }
        writer.finish().unwrap();
    }
}

#[test]
fn the_same_bytes_however_the_recording_is_cut() {
    let folder = folder();
    // All but what tells of the files themselves.
    let list = lines(&folder, "--list");
    let analyzers = list.lines().filter(|line| line.contains("  version ")).map(|line| line.split(' ').next().unwrap());
    let analyzers: Vec<_> = analyzers.filter(|name| *name != "recording").collect();
    assert!(analyzers.contains(&"causes"), "{list}");
    let tables = format!("--analyzer {}", analyzers.join(","));
    for entry in std::fs::read_dir(fixtures().join("captures")).unwrap() {
        let capture = entry.unwrap().path();
        rewritten(&capture, &folder, "whole", 1, usize::MAX);
        let whole = lines(&folder, &format!("whole-0.asc {tables}"));
        assert!(whole.len() > 10_000);
        for (files, flush) in [(1, 1), (1, 7), (3, 100), (4, 5)] {
            rewritten(&capture, &folder, "cut", files, flush);
            let mut names: Vec<_> = (0..files).map(|number| format!("cut-{number}.asc")).collect();
            names.reverse();
            let cut = lines(&folder, &format!("{} {tables}", names.join(" ")));
            assert!(cut == whole, "{} in {files} files, flushed every {flush} records", capture.display());
        }
    }
}

#[test]
fn rows_are_chosen_by_table_and_by_analyzer() {
    let folder = folder();
    let tables = |args: &str| {
        let mut tables: Vec<String> =
            rows(&folder, args).iter().map(|row| row["table"].as_str().unwrap().to_owned()).collect();
        tables.sort();
        tables.dedup();
        tables.join(" ")
    };
    assert_eq!(tables("run.asc --table execs,tool_calls"), "execs tool_calls");
    assert_eq!(
        tables("run.asc --analyzer llm --table execs"),
        "execs llm_call_messages llm_calls llm_messages tool_calls"
    );
    assert_eq!(tables("run.asc -a process -a http"), "execs http processes stream_events");
    let list = lines(&folder, "--list");
    let of_llm = list.lines().find(|line| line.starts_with("llm ")).unwrap();
    assert!(of_llm.contains("  llm_calls, llm_messages, llm_call_messages, tool_calls  "), "{list}");
    let with_http: Value = serde_json::from_str(lines(&folder, "run.asc -a http").lines().next().unwrap()).unwrap();
    assert_eq!(with_http["analyzers"], json!({"http": 3}));
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let folder = folder();
    let message = |what: &str, near: &str| {
        format!("agentsight: no {what} (did you mean {near}?); `agentsight replay --list` lists them\n")
    };
    check(
        &folder,
        "run.asc --table llm_call",
        2,
        "",
        &message("table `llm_call`", "llm_calls, llm_call_messages, llm_messages"),
    );
    check(&folder, "run.asc --analyzer htpp", 2, "", &message("analyzer `htpp`", "http"));
}

#[test]
fn rows_are_chosen_by_time() {
    let folder = folder();
    let calls = rows(&folder, "run.asc --table llm_calls");
    let start = |call: usize| calls[call]["start_ts"].as_str().unwrap().to_owned();
    let ids = |args: String| -> Vec<i64> {
        rows(&folder, &args).iter().map(|row| row["llm_call_id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(format!("run.asc --table llm_calls --from {}", start(1))), [2, 3]);
    assert_eq!(ids(format!("run.asc --table llm_calls --to {}", start(1))), [1]);
    assert_eq!(ids(format!("run.asc --table llm_calls --from {} --to {}", start(1), start(2))), [2]);
    assert_eq!(ids("run.asc --table llm_calls --to +1ms".to_owned()), [0; 0]);
    // What goes on all the while is there whatever the time.
    assert_eq!(rows(&folder, "run.asc --table captures --from +10ms --to +11ms").len(), 1);
    assert_eq!(replay(&folder, "run.asc --from yesterday").status.code(), Some(2));
}

/// What `agentsight replay` and `agentsight query` say with these prices: exit status, standard output and standard error.
fn priced(folder: &TempDir, file: &str) -> [(Option<i32>, String, String); 2] {
    let mut query = Command::new(AGENTSIGHT);
    let sql = "SELECT input_tokens, cost_usd, price_table FROM llm_calls";
    query.current_dir(folder).args(["query", "--format", "ndjson", "--prices", file, sql, "run.asc"]);
    let replay = command(folder, &format!("run.asc --table llm_calls --prices {file}"));
    [replay, query].map(|mut command| {
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    })
}

#[test]
fn other_prices_make_other_costs() {
    let folder = folder();
    let built_in = rows(&folder, "run.asc --table llm_calls");
    // A dollar for a token of the prompt.
    let table = r#"{"name": "ours", "date": "2026-01-31", "models": {"claude-sonnet-4-5":
        {"input": 1000000, "output": 0, "cache_read": 1000000, "cache_write": 1000000, "cache_write_1h": 1000000}}}"#;
    std::fs::write(folder.path().join("ours.json"), table).unwrap();
    for (status, out, err) in priced(&folder, "ours.json") {
        assert_eq!((status, err.as_str()), (Some(0), ""));
        let calls: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if let Some(prices) = calls[0].get("prices") {
            assert_eq!((&prices["name"], &prices["date"]), (&"ours".into(), &"2026-01-31".into()));
        }
        let calls: Vec<_> = calls.iter().filter(|row| row.get("input_tokens").is_some()).collect();
        assert_eq!(calls.len(), built_in.len());
        for (call, before) in calls.iter().zip(&built_in) {
            assert_eq!(call["cost_usd"].as_f64(), before["input_tokens"].as_f64());
            assert_ne!(call["cost_usd"], before["cost_usd"]);
            assert!(call["price_table"].as_str().unwrap().starts_with("ours 2026-01-31 "), "{call}");
        }
    }
}

#[test]
fn prices_that_cannot_be_read_are_told_with_what_would_be_right() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.json"), r#"{"name": "x", "date": "y", "models": {"m": {"input": 1}}}"#)
        .unwrap();
    let bad = "agentsight: bad.json: no table of prices: missing field `output` at line 1 column 55; \
        write {\"name\": \"…\", \"date\": \"2026-01-31\", \"models\": {\"MODEL\": {\"input\": 3, \"output\": 15}}}, \
        in US dollars for a million tokens\n";
    let missing = "agentsight: none.json: No such file or directory (os error 2)\n";
    for (file, message) in [("bad.json", bad), ("none.json", missing)] {
        for said in priced(&folder, file) {
            assert_eq!(said, (Some(1), String::new(), message.to_owned()));
        }
    }
}

#[test]
fn speed_paces_by_the_time_of_events() {
    let folder = folder();
    let all = rows(&folder, "run.asc --table llm_calls");
    let second = |row: &Value| row["end_ts"].as_str().unwrap()[17..29].parse::<f64>().unwrap();
    let took = second(&all[2]) - second(&all[0]);
    let begun = Instant::now();
    lines(&folder, "run.asc --table llm_calls --speed 0.2x");
    assert!(begun.elapsed() >= Duration::from_secs_f64(5.0 * took), "{:?} for {took} s", begun.elapsed());
    assert_eq!(replay(&folder, "run.asc --speed fast").status.code(), Some(2));
}

#[test]
fn loss_is_status_3_and_a_reader_that_has_enough_is_no_error() {
    let folder = folder();
    let whole = std::fs::read(folder.path().join("run.asc")).unwrap();
    std::fs::write(folder.path().join("cut.asc"), &whole[..whole.len() - 100]).unwrap();
    let output = replay(&folder, "cut.asc");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).starts_with("agentsight: cut.asc: "), "{}", text(&output.stderr));
    assert_eq!(replay(&folder, "none.asc").status.code(), Some(1));

    let mut child =
        command(&folder, "run.asc parallel.asc run.asc").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

// ---- golden rows ----

#[test]
fn what_was_blessed_is_as_it_should_be() {
    let folder = folder();
    let blessed = text(&replay(&folder, "run.asc --bless golden").stderr);
    let tables = golden_tables(&folder);
    assert!(tables > 10);
    assert_eq!(blessed, format!("agentsight: golden: golden rows of {tables} tables\n"));
    let golden = |name: &str| std::fs::read_to_string(folder.path().join("golden").join(name)).unwrap();
    let before = golden("llm_calls.ndjson");
    assert!(before.starts_with("{\"wire_api\":\"anthropic.messages\",") && !before.contains("_ts"), "{before}");
    check(&folder, "run.asc --check golden", 0, "", &format!("agentsight: {tables} checks passed\n"));
    // Blessing again changes nothing.
    assert_eq!(replay(&folder, "run.asc --bless golden").status.code(), Some(0));
    assert_eq!(golden("llm_calls.ndjson"), before);
    check(&folder, "run.asc --check golden --table execs", 0, "", "agentsight: 1 checks passed\n");
}

#[test]
fn a_difference_names_table_row_column_expected_and_seen() {
    let folder = folder();
    replay(&folder, "run.asc --bless golden");
    edit(&folder, "golden/llm_calls.ndjson", "\"output_tokens\":27", "\"output_tokens\":28");
    let difference = "\
golden/llm_calls.ndjson:2: llm_calls: row 2 differs in output_tokens
    output_tokens: expected 28
                       seen 27
";
    let tables = golden_tables(&folder);
    let summary = format!(
        "agentsight: 1 of {tables} checks failed\n\
         agentsight: where the new rows are right, take them with --bless golden\n"
    );
    check(&folder, "run.asc --check golden --junit junit.xml --sarif out.sarif", 1, difference, &summary);

    let junit = std::fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    let start = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{tables}\" failures=\"1\"");
    assert!(junit.starts_with(&start), "{junit}");
    assert!(junit.contains("<failure message=\"row 2 differs in output_tokens\">"), "{junit}");
    // Well-formed: tags are closed in the order in which they were opened.
    let mut open = Vec::new();
    for tag in junit.split('<').skip(2).map(|rest| rest.split('>').next().unwrap()) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert_eq!(open, [""; 0]);

    let sarif: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("out.sarif")).unwrap()).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&sarif["version"], &result["ruleId"]), (&"2.1.0".into(), &"golden/llm_calls".into()));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "golden/llm_calls.ndjson");
    assert_eq!(place["region"]["startLine"], 2);

    // A check that fails says more than that something is missing.
    let whole = std::fs::read(folder.path().join("run.asc")).unwrap();
    std::fs::write(folder.path().join("cut.asc"), &whole[..whole.len() - 100]).unwrap();
    assert_eq!(replay(&folder, "cut.asc --check golden").status.code(), Some(1));
}

#[test]
fn a_policy_says_what_may_differ() {
    let folder = folder();
    replay(&folder, "run.asc --bless golden");
    edit(&folder, "golden/llm_calls.ndjson", "\"output_tokens\":27", "\"output_tokens\":28");
    let policy = |text: &str| std::fs::write(folder.path().join("golden/policy.json"), text).unwrap();
    let status = |args: &str| replay(&folder, args).status.code().unwrap();
    for rule in ["\"ignored\"", "{\"tolerance\": 1}", "{\"tolerance\": \"4%\"}"] {
        policy(&format!(r#"{{"tables": {{"llm_calls": {{"columns": {{"output_tokens": {rule}}}}}}}}}"#));
        assert_eq!(status("run.asc --check golden"), 0, "{rule}");
    }
    policy(r#"{"columns": {"output_tokens": {"tolerance": "3%"}}}"#);
    assert_eq!(status("run.asc --check golden"), 1);
    policy(r#"{"tables": {"llm_calls": "ignored"}}"#);
    assert_eq!(status("run.asc --check golden"), 0);
    check(
        &folder,
        "run.asc --check golden --table llm_calls",
        1,
        "",
        "agentsight: the policy ignores the table llm_calls; to compare it, write {\"tables\": {\"llm_calls\": {}}} into golden/policy.json\n",
    );
    policy(r#"{"tables": {"llm_call": "ignored"}}"#);
    check(
        &folder,
        "run.asc --check golden",
        1,
        "",
        "agentsight: golden/policy.json: no table `llm_call` (did you mean llm_calls, llm_call_messages, llm_messages?)\n",
    );
    // Everything is compared, to the last nanosecond, if that is wanted.
    policy(r#"{"default": "exact"}"#);
    let runs = golden_tables(&folder);
    replay(&folder, "run.asc --bless golden");
    let tables = golden_tables(&folder);
    assert!(tables > runs);
    check(&folder, "run.asc --check golden", 0, "", &format!("agentsight: {tables} checks passed\n"));
}

#[test]
fn wrong_uses_of_checks_say_what_would_be_right() {
    let folder = folder();
    check(
        &folder,
        "run.asc --check none",
        1,
        "",
        "agentsight: none holds no golden rows: make them with --bless none\n",
    );
    let two = "agentsight: golden rows are of one recording, and 2 are named\n";
    check(&folder, "run.asc parallel.asc --bless golden", 2, "", two);
    let reports = "agentsight: --policy, --junit and --sarif go with --check or --assert\n";
    check(&folder, "run.asc --junit x.xml", 2, "", reports);
    assert_eq!(replay(&folder, "run.asc --bless a --check b").status.code(), Some(2));
    replay(&folder, "run.asc --bless golden");
    edit(&folder, "golden/execs.ndjson", "{", "");
    let output = replay(&folder, "run.asc --check golden");
    let message = text(&output.stderr);
    assert!(message.starts_with("agentsight: golden/execs.ndjson: line 1 is no golden row ("), "{message}");
}

// ---- assertions ----

#[test]
fn assertions_hold_or_are_told_by_their_titles() {
    let folder = folder();
    let shipped = fixtures().join("assertions");
    let args = |capture: &str| format!("{capture} --assert {}", shipped.display());
    let count = files_in(&shipped, "sql");
    check(&folder, &args("run.asc"), 0, "", &format!("agentsight: {count} checks passed\n"));
    let output = replay(&folder, &args("parallel.asc"));
    let said = text(&output.stdout);
    let title = ": No tool is called twice with the same arguments and the same result: {\"tool_name\":\"bash\",";
    assert!(said.contains(title) && said.lines().count() == 1, "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), format!("agentsight: 1 of {count} checks failed\n"));
}

#[test]
fn a_file_may_hold_several_assertions() {
    let folder = folder();
    let sql = "\
-- About this file.

-- No call is slow;
-- 'slow' is an hour
SELECT * FROM llm_calls WHERE duration_ns > 3600000000000;

/* No model
 * but one */
SELECT request_model, count(*) AS n FROM llm_calls WHERE request_model <> ';' GROUP BY 1;
SELECT 1 WHERE false
";
    std::fs::write(folder.path().join("some.sql"), sql).unwrap();
    let expected = "some.sql:9: No model but one: {\"request_model\":\"claude-sonnet-4-5\",\"n\":3}\n";
    check(&folder, "run.asc --assert some.sql --junit j.xml", 1, expected, "agentsight: 1 of 3 checks failed\n");
    let junit = std::fs::read_to_string(folder.path().join("j.xml")).unwrap();
    let names: Vec<_> = junit.split("<testcase name=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(names, ["No call is slow; 'slow' is an hour", "No model but one", "some"]);

    std::fs::write(folder.path().join("wrong.sql"), "\nSELECT * FROM llm_call").unwrap();
    let message = "agentsight: wrong.sql:2: no table `llm_call` (did you mean llm_calls, llm_call_messages, llm_messages?); `agentsight query --tables` lists them\n";
    check(&folder, "run.asc --assert wrong.sql", 1, "", message);
    std::fs::write(folder.path().join("empty.sql"), "-- nothing\n").unwrap();
    check(&folder, "run.asc --assert empty.sql", 1, "", "agentsight: empty.sql: no SQL in it\n");
    assert_eq!(replay(&folder, "run.asc --assert some.sql --table execs").status.code(), Some(2));
}

// ---- captures made here ----

/// A recording of an exchange: who, when, and what is sent to a model.
struct Made<'a> {
    uuid: u8,
    pid: u32,
    start: u64,
    said: &'a str,
}

impl Made<'_> {
    fn clocks(&self, second: u64) -> Clocks {
        let boottime = (self.start + second) * 1_000_000_000;
        Clocks { boottime, monotonic: boottime, realtime: 1_767_225_600_000_000_000 + boottime as i64 }
    }

    fn tls(&self, second: u64, direction: u16, data: &str) -> Vec<u8> {
        let header = Header {
            kind: kind::TLS_DATA.into(),
            time: self.clocks(second).boottime.into(),
            tgid: self.pid.into(),
            tid: self.pid.into(),
            ..Header::default()
        };
        let fixed = TlsData {
            header,
            conn_id: u64::from(self.uuid).into(),
            stream_offset: 0.into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            direction: direction.into(),
            library: library::OPENSSL.into(),
            reserved: 0.into(),
        };
        let mut out = Vec::new();
        record::append(&mut out, &fixed, &[data.as_bytes()]);
        out
    }

    fn writer<W: Write>(&self, out: W) -> Writer<W> {
        let metadata = Metadata { clocks: self.clocks(0), ..Metadata::default() };
        let mut writer = Writer::new(out, &Head::new([self.uuid; 16], metadata)).unwrap();
        writer.begin_segment(&[], self.clocks(0), &[]).unwrap();
        writer
    }

    fn request(&self) -> Vec<u8> {
        let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": self.said}]}).to_string();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: {}", body.len());
        self.tls(1, direction::SENT, &format!("{head}\r\n\r\n{body}"))
    }

    fn response(&self) -> Vec<u8> {
        let answer = json!({"index": 0, "message": {"content": "ho"}, "finish_reason": "stop"});
        let id = format!("chatcmpl-{}", self.uuid);
        let body = json!({"id": id, "model": "gpt-4o-2", "choices": [answer]}).to_string();
        self.tls(2, direction::RECEIVED, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    fn write(&self, folder: &TempDir, name: &str) {
        let mut writer = self.writer(File::create(folder.path().join(name)).unwrap());
        writer.push(&self.request()).unwrap();
        writer.push(&self.response()).unwrap();
        writer.checkpoint(self.clocks(3), &[]).unwrap();
        writer.finish().unwrap();
    }
}

#[test]
fn two_recordings_of_one_scenario_are_alike() {
    let folder = folder();
    Made { uuid: 1, pid: 42, start: 5, said: "hi" }.write(&folder, "a.asc");
    Made { uuid: 2, pid: 77, start: 900, said: "hi" }.write(&folder, "b.asc");
    assert_eq!(replay(&folder, "a.asc --bless golden").status.code(), Some(0));
    let passed = format!("agentsight: {} checks passed\n", golden_tables(&folder));
    check(&folder, "b.asc --check golden", 0, "", &passed);
}

#[test]
fn a_secret_that_is_sent_to_a_model_is_found() {
    let folder = folder();
    // Put together here: it must not look like a key to those who look through repositories.
    let key = format!("AKIA{}", "Q3EGRZL7NWTXK5VB");
    Made { uuid: 1, pid: 42, start: 5, said: &format!("my key is {key}") }.write(&folder, "a.asc");
    let output = replay(&folder, &format!("a.asc --assert {}", fixtures().join("assertions").display()));
    let said = text(&output.stdout);
    assert!(
        said.contains("is sent to a model: {") && said.contains("\"rule_id\":\"secret/aws-access-token\""),
        "{said}"
    );
    assert!(!said.contains(&key), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_capture_that_is_still_written_is_followed_to_its_end() {
    let folder = folder();
    let made = Made { uuid: 1, pid: 42, start: 5, said: "hi" };
    let path = folder.path().join("live.asc");
    let mut writer = made.writer(File::create(&path).unwrap());
    let mut child = command(&folder, "--follow live.asc").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    assert!(said.starts_with("{\"table\":\"replay\","), "{said}");
    writer.push(&made.request()).unwrap();
    writer.push(&made.response()).unwrap();
    writer.checkpoint(made.clocks(3), &[]).unwrap();
    // The rows are there before the capture is finished.
    while !said.contains("{\"table\":\"llm_calls\"") {
        assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
    }
    writer.checkpoint(made.clocks(60), &[]).unwrap();
    writer.finish().unwrap();
    while out.read_line(&mut said).unwrap() > 0 {}
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(said, lines(&folder, "live.asc"));
    assert_eq!(lines(&folder, "--follow live.asc"), said);
    assert_eq!(replay(&folder, "--follow live.asc run.asc").status.code(), Some(2));
}

#[test]
fn help_leads_with_examples() {
    assert!(replay(&folder(), "--help").stdout.starts_with(b"EXAMPLES:"));
}
