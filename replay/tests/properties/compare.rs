//! Compares the rows of a capture that lacks a record with those of the whole one.

use crate::common::{Cells, Collected};
use std::collections::BTreeMap;

/// A row whose ids are replaced by what they stand for: a row that is missing shifts the numbers of those after it.
pub type Named = (&'static str, Cells);

/// Names that hold whatever is missing: a process by its pid, an exchange and a call by when it was asked for, a tool call by its id.
struct Names<'r> {
    seen: &'r Collected,
    found: BTreeMap<(&'static str, String), Option<String>>,
}

impl<'r> Names<'r> {
    fn of(seen: &'r Collected) -> Self {
        let mut names = Names { seen, found: BTreeMap::new() };
        names.collect("processes", "proc_id", |row, _| row.get("pid").cloned());
        names.collect("http", "http_id", |row, _| row.get("request_ts").or(row.get("response_ts")).cloned());
        // One that says that it is not whole may not know when it began.
        names.collect("llm_calls", "llm_call_id", |row, _| {
            row.get("start_ts").filter(|_| row["complete"] == "Boolean(true)").cloned()
        });
        names.collect("tool_calls", "tool_call_key", |row, _| {
            Some(row.get("tool_call_id").or(row.get("requested_ts"))?.clone())
        });
        names
    }

    fn collect(&mut self, table: &str, id: &'static str, name: impl Fn(&Cells, &Self) -> Option<String>) {
        for row in self.seen.table(table) {
            let named = name(row, self);
            self.found.insert((id, row[id].clone()), named);
        }
    }

    fn get(&self, id: &'static str, number: &str) -> Option<String> {
        self.found.get(&(id, number.to_owned())).cloned().flatten()
    }

    fn rename(&self, table: &'static str, row: &Cells) -> Named {
        let renamed = row.iter().filter_map(|(&column, value)| {
            let value = match column {
                "seq" | "capture_id" | "conn_id" | "turn_id" | "conversation_id" | "agent_id" => None,
                // They are told apart by when they came.
                "http_id" if table == "stream_events" => None,
                "http_id" | "llm_call_id" | "tool_call_key" => self.get(column, value),
                "result_llm_call_id" => self.get("llm_call_id", value),
                "cause_tool_call_key" => self.get("tool_call_key", value),
                column if column.ends_with("proc_id") => self.get("proc_id", value),
                _ => Some(value.clone()),
            };
            Some((column, value?))
        });
        (table, renamed.collect())
    }
}

pub fn named(seen: &Collected) -> Vec<Named> {
    let names = Names::of(seen);
    seen.rows.iter().map(|(table, row)| names.rename(table, row)).collect()
}

/// Takes the rows that both have off both.
pub fn differing(whole: &[Named], part: Vec<Named>) -> (Vec<Named>, Vec<Named>) {
    let mut counts: BTreeMap<&Named, usize> = BTreeMap::new();
    whole.iter().for_each(|row| *counts.entry(row).or_default() += 1);
    let mut other = Vec::new();
    for row in part {
        match counts.get_mut(&row) {
            Some(count) if *count > 0 => *count -= 1,
            _ => other.push(row),
        }
    }
    let gone = counts.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row.clone(), count)).collect();
    (gone, other)
}
