//! From records to rows: decode → order → reassemble → protocols → analyzers → rows.
//!
//! Everything here is deterministic and does no I/O of its own: the same capture gives the same rows on every machine.
//! One pipeline serves every sink; a sink says which tables it wants, and stages that feed none of them do not run.

mod body;
mod connections;
mod exchange;
mod llm;
mod message;
mod order;
mod pipeline;
mod processes;
mod sse;
pub mod table;
pub mod tables;
mod tools;

use agentsight_formats::Reader;
use std::io::{Read, Seek};

/// Where rows go.
pub trait Sink {
    /// Whether rows of this table are wanted. Asked once per table, before the first row.
    fn wants(&self, table: &table::TableDef) -> bool;
    /// Whether a column of a wanted table is wanted: costly ones (bodies, data) may then be left empty.
    fn wants_column(&self, _table: &table::TableDef, _column: &str) -> bool {
        true
    }
    /// Takes a row. Rows of one table come in order of time. `Break` ends the replay early.
    fn row(&mut self, row: &dyn table::Row) -> std::ops::ControlFlow<()>;
}

/// How a replay went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was damaged or cut, one line each, in the order of the file.
    pub damage: Vec<String>,
    /// Records that the kernel side lost.
    pub dropped_records: u64,
    /// Records read.
    pub records: u64,
}

impl Report {
    /// Whether anything is missing: exit status 3.
    pub fn lossy(&self) -> bool {
        !self.damage.is_empty() || self.dropped_records > 0
    }
}

/// Replays a capture into `sink`. `file` is how the capture was named, for the table `captures`.
///
/// # Errors
/// Only when the input itself cannot be read; damage is passed over and reported.
pub fn replay<R: Read + Seek>(
    reader: Reader<R>,
    file: &str,
    sink: &mut dyn Sink,
) -> Result<Report, agentsight_formats::Error> {
    pipeline::run(reader, file, sink)
}
