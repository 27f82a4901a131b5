//! What a capture begins and does not end: as much of it as there is room for is remembered, the rest is told as far as it is known,
//! and counted.

mod common;

use agentsight_formats::record::{Exec, ExecArgs, File, Fork, Socket, direction, file_op, kind, socket_op};
use common::run::{AGENT, Run};
use common::*;
use std::collections::BTreeSet;
use zerocopy::FromZeros;

fn row<'c>(seen: &'c Collected, table: &str, column: &str, value: &str) -> &'c Cells {
    let found = seen.table(table).into_iter().find(|row| row.get(column).is_some_and(|cell| cell == value));
    found.unwrap_or_else(|| panic!("no {column} {value} in {table}"))
}

/// What was given up, by source.
fn given_up(seen: &Collected, source: &str) -> u64 {
    let of_source = |row: &&Cells| row["reason"] == "limit" && row["source"] == source;
    seen.table("drops").into_iter().filter(of_source).map(|row| row["records"].parse::<u64>().unwrap()).sum()
}

fn distinct(rows: &[&Cells], column: &str) -> usize {
    rows.iter().map(|row| &row[column]).collect::<BTreeSet<_>>().len()
}

#[test]
fn tool_calls_that_nobody_answers_are_told_once_each() {
    let mut run = Run::new();
    let ids: Vec<String> = (0..66_000).map(|number| format!("toolu_{number}")).collect();
    for batch in ids.chunks(1000) {
        let calls: Vec<_> = batch.iter().map(|id| (id.as_str(), "read", "{}")).collect();
        run.ask(&calls);
    }
    run.answer(&["toolu_0", "toolu_65999"]);
    run.answer(&["toolu_0", "toolu_65999"]);
    let seen = rows_of(&capture(&run.script.records), Some("tool_calls")).0;
    let calls = seen.table("tool_calls");
    assert_eq!((calls.len(), distinct(&calls, "tool_call_key")), (66_001, 66_001));
    let answered: Vec<_> = calls.iter().filter(|row| row.contains_key("result")).collect();
    assert_eq!(answered.iter().map(|row| &row["tool_call_id"]).collect::<Vec<_>>(), ["toolu_0", "toolu_65999"]);
    // The first was given up: its result stands alone.
    assert_eq!(answered.iter().map(|row| row.contains_key("llm_call_id")).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn processes_that_never_exit_are_told_and_counted() {
    let mut run = Run::new();
    (1000..41_000).for_each(|child| {
        let time = run.time();
        let (child_tgid, child_start) = (child.into(), time.into());
        let fork = Fork { header: header(kind::FORK, time, AGENT), child_tgid, child_start, ..Fork::new_zeroed() };
        run.script.records.push(bytes(&fork, &[]));
    });
    run.exit(40_999);
    let (seen, report) = rows_of(&capture(&run.script.records), None);
    let processes = seen.table("processes");
    assert_eq!((processes.len(), distinct(&processes, "proc_id")), (40_001, 40_001));
    assert!(row(&seen, "processes", "pid", "40999").contains_key("exit_ts"));
    assert_eq!(distinct(&processes, "pid"), 40_001, "none of them was taken for another");
    let gone = given_up(&seen, "process");
    assert!(gone > 7000 && report.lossy(), "{gone}");
}

#[test]
fn arguments_that_do_not_come_to_an_end_are_cut() {
    let mut run = Run::new();
    const PIECE: usize = 4 << 20;
    let piece = |tgid: u32, time, offset: usize, data: &[u8]| {
        let args = ExecArgs {
            header: header(kind::EXEC_ARGS, time, tgid),
            args_len: (PIECE as u32 + 2).into(),
            offset: (offset as u32).into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
        };
        bytes(&args, &[data])
    };
    let processes = 20..40;
    for tgid in processes.clone() {
        let time = run.time();
        let args_len = (PIECE as u32 + 2).into();
        let exec = Exec { header: header(kind::EXEC, time, tgid), args_len, ..Exec::new_zeroed() };
        run.script.records.push(bytes(&exec, &[]));
        run.script.records.push(piece(tgid, time, 0, &[b'a'; PIECE]));
    }
    for tgid in processes {
        let time = run.time();
        run.script.records.push(piece(tgid, time, PIECE, b"b\0"));
    }
    let seen = rows_of(&capture(&run.script.records), Some("execs")).0;
    let whole: Vec<bool> = seen.table("execs")[1..].iter().map(|row| row["truncated"] == "Boolean(false)").collect();
    assert_eq!(whole.len(), 20);
    assert!(whole.iter().filter(|whole| **whole).count() >= 8, "{whole:?}");
    assert!(!whole[19], "{whole:?}");
}

#[test]
fn files_that_nobody_closes_lose_their_paths_and_no_others() {
    let mut run = Run::new();
    let mut file = |op: u16, id: u64| {
        let path = if op == file_op::OPEN { format!("/tmp/{id}") } else { String::new() };
        let record = File {
            header: header(kind::FILE, run.time(), AGENT),
            op: op.into(),
            file_id: id.into(),
            path_len: (path.len() as u16).into(),
            ..File::new_zeroed()
        };
        run.script.records.push(bytes(&record, &[path.as_bytes()]));
    };
    (1..=66_000).for_each(|id| file(file_op::OPEN, id));
    [1, 65_000].into_iter().for_each(|id| file(file_op::CLOSE, id));
    let seen = rows(&run.script.records);
    let closed: Vec<_> = seen.table("files").into_iter().filter(|row| row["op"] == "close").collect();
    assert_eq!(
        closed.iter().map(|row| row.get("path").map(String::as_str)).collect::<Vec<_>>(),
        [None, Some("/tmp/65000")]
    );
    assert_eq!(given_up(&seen, "file"), 66_000 - 65_536);
}

#[test]
fn connections_that_nobody_closes_end_where_they_stand() {
    let mut run = Run::new();
    for id in 1..=66_000_u64 {
        let socket = Socket {
            header: header(kind::SOCKET, run.time(), AGENT),
            socket_id: id.into(),
            op: socket_op::CONNECT.into(),
            family: 2.into(),
            socket_type: 1.into(),
            protocol: 6.into(),
            peer_port: 80.into(),
            ..Socket::new_zeroed()
        };
        run.script.records.push(bytes(&socket, &[]));
        if id == 1 {
            run.script.library = agentsight_formats::record::library::PLAIN;
            run.script.say(1, direction::SENT, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
    }
    run.script.say(65_999, direction::SENT, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n");
    run.script.say(65_999, direction::RECEIVED, &response("", b"hello"));
    let seen = rows(&run.script.records);
    let connections = seen.table("connections");
    assert_eq!((connections.len(), distinct(&connections, "conn_id")), (66_000, 66_000));
    assert_eq!(row(&seen, "http", "server_address", "a")["end_reason"], "limit");
    assert_eq!(row(&seen, "http", "server_address", "b")["end_reason"], "response");
    assert!(given_up(&seen, "net") > 400);
}
