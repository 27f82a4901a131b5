//! Which rows come, in which order.

use crate::*;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

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
    assert_eq!(with_http["analyzers"], json!({"http": 4}));
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
