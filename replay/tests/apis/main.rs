//! Every API by which agents speak to models, streamed and whole, from what their documentation shows on the wire: calls and tool
//! calls are the same however the bytes are cut, and what is missing or damaged makes no row that claims to be whole.

#[path = "../common/mod.rs"]
mod common;

mod anthropic;
mod bedrock;
mod chat;
mod costs;
mod gemini;
mod images;
mod ollama;

use agentsight_formats::record::direction::{RECEIVED, SENT};
use common::*;

/// An exchange of an API, and what must be known of it.
#[derive(Clone)]
struct Api {
    host: &'static str,
    path: &'static str,
    fields: &'static str,
    request: String,
    status: &'static str,
    response_fields: &'static str,
    response: Vec<u8>,
}

const OK: &str = "200 OK";
const SSE: &str = "Content-Type: text/event-stream\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

impl Api {
    fn new(host: &'static str, path: &'static str, request: &str) -> Self {
        let request = request.to_owned();
        Api { host, path, fields: "", request, status: OK, response_fields: JSON, response: Vec::new() }
    }

    fn answer(self, response_fields: &'static str, response: impl Into<Vec<u8>>) -> Self {
        Api { response_fields, response: response.into(), ..self }
    }

    fn say(&self, script: &mut Script, size: usize) {
        let (path, fields) = (self.path, self.fields);
        let sent = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{fields}Content-Length: {}\r\n\r\n{}",
            self.host,
            self.request.len(),
            self.request
        );
        let mut received =
            format!("HTTP/1.1 {}\r\n{}Transfer-Encoding: chunked\r\n\r\n", self.status, self.response_fields)
                .into_bytes();
        for piece in self.response.chunks(50) {
            received.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            received.extend(piece.iter().chain(b"\r\n"));
        }
        received.extend(b"0\r\n\r\n");
        sent.as_bytes().chunks(size).for_each(|piece| script.say(1, SENT, piece));
        received.chunks(size).for_each(|piece| script.say(1, RECEIVED, piece));
    }
}

/// Server-sent events of these data.
fn sse(data: &[&str]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

fn script(conversation: &[Api], size: usize) -> Script {
    let mut script = Script::default();
    conversation.iter().for_each(|exchange| exchange.say(&mut script, size));
    script
}

fn timeless(seen: &Collected, table: &str) -> Vec<Cells> {
    let mut rows: Vec<Cells> = seen.table(table).into_iter().cloned().collect();
    rows.iter_mut().for_each(|row| row.retain(|name, _| !name.ends_with("ts") && !name.ends_with("_ns")));
    rows
}

const TABLES: [&str; 4] = ["http", "llm_calls", "tool_calls", "stream_events"];

/// The rows of a conversation, which do not depend on how its bytes are cut, nor claim to be whole when bytes are missing.
#[track_caller]
fn seen(conversation: &[Api]) -> Collected {
    let whole = rows(&script(conversation, usize::MAX).records);
    for size in [1, 7] {
        let cut = rows(&script(conversation, size).records);
        for table in TABLES {
            assert_eq!(timeless(&cut, table), timeless(&whole, table), "{table}, cut by {size}");
        }
    }
    without_records(conversation, &whole);
    whole
}

/// Leaves out one record after the other.
#[track_caller]
fn without_records(conversation: &[Api], whole: &Collected) {
    let calls = timeless(whole, "llm_calls");
    let arguments: Vec<_> = whole.table("tool_calls").iter().map(|row| row.get("arguments").cloned()).collect();
    let pieces = script(conversation, 150);
    for missing in 0..pieces.records.len() {
        let mut records = pieces.records.clone();
        records.remove(missing);
        let left = rows(&records);
        let same = |row: &Cells, other: &Cells| {
            // Tries are counted as far as they were seen.
            let relative = |name: &str| name.ends_with("_id") || name == "attempt";
            row.iter().all(|(name, cell)| relative(name) || other.get(name) == Some(cell))
        };
        for row in timeless(&left, "llm_calls").iter().filter(|row| row["complete"] == "Boolean(true)") {
            assert!(calls.iter().any(|call| same(row, call)), "without {missing}: {row:#?}");
        }
        for row in left.table("tool_calls").iter().filter(|row| row["args_complete"] == "Boolean(true)") {
            assert!(arguments.contains(&row.get("arguments").cloned()), "without {missing}: {row:#?}");
        }
    }
}

/// Checks cells of the rows of a table: for each row a list of `column=cell`; an empty cell is null.
#[track_caller]
fn check(seen: &Collected, table: &str, expected: &[&[&str]]) {
    let rows = seen.table(table);
    assert_eq!(rows.len(), expected.len(), "{table}: {rows:#?}");
    for (row, cells) in rows.iter().zip(expected) {
        for cell in *cells {
            let (name, value) = cell.split_once('=').unwrap();
            let found = row.get(name).map_or("", String::as_str);
            let boolean = format!("Boolean({value})");
            assert!(found == value || found == boolean, "{name} is {found}, not {value}: {row:#?}");
        }
    }
}

#[track_caller]
fn check_calls(seen: &Collected, expected: &[&[&str]]) {
    check(seen, "llm_calls", expected);
}
