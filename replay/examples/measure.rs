//! Measures how fast captures are replayed, on one core, and how much memory that takes.
//!
//!     cargo run --release -p agentsight-replay --example measure -- long.asc all
//!
//! What is wanted decides which stages run: `records` (reading and nothing else), the name of a table, `all` rows, or `json`,
//! all rows as JSON lines that are thrown away. Prints one JSON object. The peak is that of the process: one measurement each.

use agentsight_formats::record::HEADER_LEN;
use agentsight_formats::{Item, Reader};
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::tables::table;
use agentsight_replay::{Sink, json, replay};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::time::Instant;

/// Counts rows.
struct Counting {
    only: Option<String>,
    as_json: bool,
    rows: u64,
    calls: u64,
}

impl Sink for Counting {
    fn wants(&self, table: &TableDef) -> bool {
        self.only.as_ref().is_none_or(|only| only == table.name)
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        self.rows += 1;
        self.calls += u64::from(row.table().name == "llm_calls");
        if self.as_json && json::line(row, &mut io::sink()).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, what] = &args[..] else { return Err("measure FILE records|all|json|TABLE".into()) };
    let only = (!["all", "json"].contains(&what.as_str())).then(|| what.clone());
    if only.as_ref().is_some_and(|only| only != "records" && table(only).is_none()) {
        return Err(format!("no table {what}").into());
    }
    let mut sink = Counting { only, as_json: what == "json", rows: 0, calls: 0 };
    let start = Instant::now();
    let records = if what == "records" {
        read(path)?
    } else {
        let mut open = |_| Reader::open(File::open(path)?);
        let reports = replay(std::slice::from_ref(path), &mut open, &mut sink)?;
        reports.iter().map(|report| report.records).sum()
    };
    let seconds = start.elapsed().as_secs_f64();
    let tail = Reader::open(File::open(path)?)?.tail()?.unwrap_or_default();
    let raw: u64 = tail.segments.iter().map(|segment| segment.raw_bytes).sum();
    let line = serde_json::json!({
        "seconds": seconds, "raw_bytes": raw, "records": records, "rows": sink.rows, "llm_calls": sink.calls,
        "peak_bytes": peak_bytes(),
    });
    println!("{line}");
    Ok(())
}

/// Reads the records, looks at each header, and counts them.
fn read(path: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let mut reader = Reader::open(File::open(path)?)?;
    let mut count = 0;
    while let Some(item) = reader.next_item()? {
        let Item::Piece(piece) = item else { continue };
        count += piece.records().map_while(Result::ok).filter(|record| record.bytes.len() >= HEADER_LEN).count() as u64;
    }
    Ok(count)
}

/// The largest resident set of this process so far; `None` where there is no /proc.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
