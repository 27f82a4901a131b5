//! Leaves out one record after the other, as the kernel does when the ring is full: what is left of the rows is right, or says
//! that it is not whole, and what has nothing to do with the record stays.
//!
//! What a row does not know is null. So a row may lack a cell that it has in the whole capture, but has no other value, unless it
//! says that it is not whole ([`marked`]), or the column tells only what was seen ([`ALLOWED`]).

use crate::common::{Cells, Collected, rows_of};
use crate::compare::{Named, differing, named};
use crate::recorded::{Random, Recorded, header};
use agentsight_formats::record::{Body, DropCounter, Header, Source, drop_reason, file_op, kind, records};
use std::collections::{BTreeMap, BTreeSet};

/// Tables that are compared. `causes`, and what follows from it, weighs evidence, of which there is less: each edge says how sure
/// it is.
const TABLES: &[&str] = &[
    "processes",
    "execs",
    "files",
    "connections",
    "dns",
    "tls_data",
    "stdio",
    "http",
    "stream_events",
    "llm_calls",
    "tool_calls",
    "metrics",
];

/// Records of each kind that are left out of a capture, one at a time; of the rest, so many are left alone.
const MOST_OF_A_KIND: usize = 4;

/// Whether a row says that it was built from less than there was.
fn marked(table: &str, row: &Cells) -> bool {
    let is = |column: &str, value: &str| row.get(column).is_some_and(|cell| cell == value);
    match table {
        "http" => !is("body_state", "complete"),
        "llm_calls" => is("complete", "Boolean(false)"),
        "tool_calls" => is("args_complete", "Boolean(false)"),
        "execs" => is("truncated", "Boolean(true)"),
        // Neither a connect nor an accept was seen, or nothing of the socket at all; or plaintext is missing.
        "connections" => !row.contains_key("role") || !row.contains_key("transport") || !is("gap_bytes", "0"),
        // The question was not seen, or the answer.
        "dns" => !row.contains_key("duration_ns"),
        _ => false,
    }
}

/// Columns that tell what was seen, and no more, and why that may be less.
const ALLOWED: &[(&str, &str)] = &[
    // Counts from the first that was seen; each hole counts as one.
    ("stream_events", "idx"),
    // Tries of one request, as far as they were seen.
    ("llm_calls", "attempt"),
    ("http", "retry_of"),
    // Says that something is missing.
    ("llm_calls", "context_complete"),
    // The end of the stream that the API defines was seen, but not that of the message around it: `http` has it as cut.
    ("llm_calls", "end_ts"),
    ("llm_calls", "duration_ns"),
    // Evidence, weighed.
    ("execs", "cause_tool_call_key"),
    ("files", "cause_tool_call_key"),
    ("connections", "cause_tool_call_key"),
    // Which socket TLS belongs to is said once in each segment: without that, socket and TLS are two connections.
    ("connections", "plaintext_sent"),
    ("connections", "plaintext_received"),
    ("connections", "plaintext_seen"),
    ("connections", "tls_seen"),
    // A close that was lost leaves the end of the process.
    ("connections", "closed_at"),
    // The first that was seen of it.
    ("connections", "opened_at"),
];

/// The column of which a row without the record says something that the whole capture does not say.
fn wrong_column(table: &str, row: &Cells, whole: &Cells) -> Option<&'static str> {
    let wrong = |column: &&&'static str| {
        let empty = row[**column].is_empty();
        !empty && whole.get(**column) != row.get(**column) && !ALLOWED.contains(&(table, **column))
    };
    row.keys().find(wrong).copied()
}

struct Left<'r> {
    recorded: &'r Recorded,
    whole: Vec<Named>,
}

impl<'r> Left<'r> {
    fn of(recorded: &'r Recorded) -> Self {
        let whole = compared(&rows_of(&recorded.write(), None).0);
        Left { recorded, whole }
    }

    /// What carries a result is the first request with it that was seen; the same may be sent again, streamed or not.
    fn is_sent_again(&self, row: &Cells, touched: &[Named]) -> bool {
        let carrier = |result: &Cells| {
            let sent = result.get("result_ts")?;
            let exchange = |(table, row): &&Named| *table == "http" && row.get("request_ts") == Some(sent);
            let body = self.whole.iter().find(exchange)?.1.get("request_body")?;
            let mut json: serde_json::Value = serde_json::from_str(body).ok()?;
            json.as_object_mut()?.remove("stream");
            Some(json)
        };
        let same =
            |whole: &Cells| whole.get("tool_call_key") == row.get("tool_call_key") && carrier(whole) == carrier(row);
        carrier(row).is_some() && touched.iter().any(|(table, whole)| *table == "tool_calls" && same(whole))
    }

    /// What is wrong without this record.
    fn without(&self, (segment, index): (usize, usize)) -> Vec<String> {
        let mut other = self.recorded.clone();
        let record = other.segments[segment].records.remove(index);
        let header = header(&record);
        let part = compared(&rows_of(&other.write_in(usize::MAX, &[lost(&header)]), None).0);
        let (mut touched, new) = differing(&self.whole, part);
        let mut wrong = Vec::new();
        for (table, row) in &new {
            let of_table = || touched.iter().enumerate().filter(|(_, (name, _))| name == table);
            let same = of_table().find(|(_, (_, whole))| wrong_column(table, row, whole).is_none()).map(|(at, _)| at);
            if let Some(at) = same {
                touched.remove(at);
            } else if !marked(table, row) && !self.is_sent_again(row, &touched) {
                let near = touched.iter().filter(|(name, _)| name == table).map(|(_, whole)| {
                    let differs = |column: &&&'static str| row.get(**column) != whole.get(**column);
                    let columns = row.keys().chain(whole.keys()).filter(differs).collect::<BTreeSet<_>>();
                    columns.into_iter().map(|column| (*column, row.get(column), whole.get(column))).collect::<Vec<_>>()
                });
                let near = near.min_by_key(Vec::len);
                wrong.push(format!("{table} has a row that the whole capture has not: {near:?} in {row:?}"));
            }
        }
        let of_another = touched.iter().filter(|(table, row)| !concerns(&header, table, row));
        wrong.extend(of_another.map(|(table, row)| format!("{table} lacks a row of another process: {row:?}")));
        let what = format!("{} without record {segment}.{index}, {:#06x}", self.recorded.name, header.kind.get());
        wrong.into_iter().map(|text| format!("{what}: {}", text.chars().take(900).collect::<String>())).collect()
    }
}

/// Whether a row may be gone without a record of this header.
fn concerns(header: &Header, table: &str, row: &Cells) -> bool {
    let of_one_process = ["execs", "files", "connections", "dns", "tls_data", "http", "llm_calls", "metrics"];
    let pid = header.tgid.get().to_string();
    !of_one_process.contains(&table) || row.get("proc_id").is_none_or(|other| *other == pid)
}

fn lost(header: &Header) -> DropCounter {
    let source = Source::of_kind(header.kind.get()).map_or(0, |source| source as u16);
    let (records, bytes) = (1.into(), u64::from(header.len.get()).into());
    let reason = drop_reason::RING_FULL.into();
    DropCounter { source: source.into(), cpu: header.cpu, reason, reserved: 0.into(), records, bytes }
}

fn compared(seen: &Collected) -> Vec<Named> {
    let mut rows = named(seen);
    rows.retain(|(table, _)| TABLES.contains(table));
    rows
}

/// Which files were opened and changed has no part in anything else: so many of their records make no difference, but time.
fn thinned(mut recorded: Recorded) -> Recorded {
    for segment in &mut recorded.segments {
        segment.records.retain(|bytes| {
            let record = records(bytes).next().unwrap().unwrap();
            let Ok(Body::File { file, .. }) = record.body() else { return true };
            let whole = matches!(file.op.get(), file_op::OPEN | file_op::CLOSE) && file.file_id.get() != 0;
            whole && file.file_id.get() % 16 == 0
        });
    }
    recorded.renumber();
    recorded
}

/// Segment and index of the records that are left out: some of each kind.
fn places(recorded: &Recorded, random: &mut Random) -> Vec<(usize, usize)> {
    let mut kinds: BTreeMap<u16, Vec<(usize, usize)>> = BTreeMap::new();
    for (number, segment) in recorded.segments.iter().enumerate() {
        for (index, record) in segment.records.iter().enumerate() {
            kinds.entry(header(record).kind.get()).or_default().push((number, index));
        }
    }
    let some = |mut places: Vec<(usize, usize)>| {
        while places.len() > MOST_OF_A_KIND {
            places.swap_remove(random.below(places.len()));
        }
        places
    };
    kinds.retain(|kind, _| *kind < kind::CHECKPOINT);
    kinds.into_values().flat_map(some).collect()
}

#[test]
fn a_record_that_is_missing_makes_no_row_silently_wrong() {
    let captures: Vec<_> = Recorded::fixtures().into_iter().map(thinned).collect();
    let all: Vec<_> = captures.iter().map(Left::of).collect();
    let mut random = Random(7);
    let work: Vec<_> =
        all.iter().flat_map(|left| places(left.recorded, &mut random).into_iter().map(move |at| (left, at))).collect();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves = work.chunks(work.len().div_ceil(2));
        let threads: Vec<_> = halves
            .map(|half| scope.spawn(|| half.iter().flat_map(|(left, at)| left.without(*at)).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        wrong.is_empty(),
        "{} wrong rows without one of {} records:\n{}",
        wrong.len(),
        work.len(),
        wrong.join("\n")
    );
}
