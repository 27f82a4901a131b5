//! From records to rows: decode → order → reassemble → protocols → analyzers → rows.
//!
//! Everything here is deterministic and does no I/O of its own: the same capture gives the same rows on every machine.
//! One pipeline serves every sink; a sink says which tables it wants, and stages that feed none of them do not run.

mod agent;
mod ahead;
pub mod analyzers;
mod attempts;
mod body;
mod bounded;
mod carried;
pub mod check;
mod clock;
mod connection;
mod connections;
mod conversation;
mod dns;
mod dns_message;
mod dns_stream;
mod ends;
mod errno;
mod event;
mod exchange;
mod execs;
mod files;
mod flags;
mod forwarding;
mod framing;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod hello;
mod hex;
mod holes;
mod http1;
mod http2;
mod http_rows;
pub mod json;
mod jsonrpc;
mod lines;
mod llm;
mod losses;
mod memory;
mod message;
mod names;
pub mod nearest;
mod order;
mod output;
mod paths;
mod peers;
mod pieces;
mod pipeline;
pub mod prices;
mod processes;
mod recent;
mod recording;
mod resolved;
mod sensitive;
mod shell;
mod signals;
pub mod span;
mod stdio;
mod streams;
pub mod table;
pub mod tables;
mod tools;
mod values;
mod wanted;
mod websocket;

use agentsight_formats::Reader;
pub use recording::together;
use std::io::{Read, Seek};

/// Where rows go.
pub trait Sink {
    /// Whether rows of this table are wanted. Asked once per table, before the first row.
    fn wants(&self, table: &table::TableDef) -> bool;
    /// Whether a column of a wanted table is wanted: costly ones (bodies, data) may then be left empty.
    fn wants_column(&self, _table: &table::TableDef, _column: &str) -> bool {
        true
    }
    /// Whether the rows that an analyzer makes are wanted, of the tables that are.
    fn wants_analyzer(&self, _analyzer: &analyzers::Entry) -> bool {
        true
    }
    /// What calls of models cost.
    fn prices(&self) -> std::sync::Arc<prices::Prices> {
        prices::Prices::built_in()
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

/// Why a replay could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file}: {source}")]
    Read { file: String, source: agentsight_formats::Error },
    #[error("{file}: is not of the same recording as the files before it")]
    Apart { file: String },
}

/// A file of a recording: how it is named, and a reader of it.
pub type Named<R> = (String, Result<Reader<R>, agentsight_formats::Error>);

/// Replays a recording into `sink`: one capture, or the files of a rotated one, which [`together`] has put in order. `files` is
/// how they were named, for the table `captures`; `open` opens one by its position, and may be asked twice for each.
///
/// Returns how it went, file by file; when the sink has had enough, for those that were read.
///
/// # Errors
/// Only when the input itself cannot be read; damage is passed over and reported.
pub fn replay<R: Read + Seek>(
    files: &[String],
    open: &mut dyn FnMut(usize) -> Result<Reader<R>, agentsight_formats::Error>,
    sink: &mut dyn Sink,
) -> Result<Vec<Report>, Error> {
    pipeline::replay(files, open, sink)
}

/// As [`replay`], of a recording that is still being written: `next` gives the next file, how it is named and a reader that waits
/// at the end of what is there, when the one before has been read to its end; `None` if there is none. Rows come as soon as what
/// they are made of has been flushed.
///
/// What would be looked up ahead (which socket a TLS connection has, who is at the other end of a pipe) is known here only if
/// it was recorded within the second that records are held back; a row that misses it differs from that of a later replay.
///
/// # Errors
/// As those of [`replay`].
pub fn follow<R: Read + Seek>(
    next: &mut dyn FnMut() -> Option<Named<R>>,
    sink: &mut dyn Sink,
) -> Result<Vec<Report>, Error> {
    pipeline::follow(next, sink)
}
