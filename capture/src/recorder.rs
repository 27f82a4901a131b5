//! Compresses and writes. Runs on a thread of its own, so that neither a slow disk nor the compressor holds up the ring.

use crate::Error;
use crate::clock;
use crate::kernel::Drops;
use crate::state::State;
use agentsight_formats::{Head, Writer};
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A flush at least after this many bytes of records, or this time: what a crash can cost.
const PIECE_BYTES: u64 = 1 << 20;
const PIECE_TIME: Duration = Duration::from_secs(1);

/// A new segment after this many bytes of records, or this time: what damage can cost.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_TIME: Duration = Duration::from_secs(300);

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub records: u64,
    pub raw_bytes: u64,
    pub disk_bytes: u64,
    pub dropped_records: u64,
    pub dropped_bytes: u64,
}

pub(crate) struct Recorder {
    writer: Writer<File>,
    path: PathBuf,
    state: State,
    drops: Drops,
    flushed: Instant,
    segment_started: Instant,
}

impl Recorder {
    /// Writes the head and the first snapshot.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn begin(file: File, path: PathBuf, head: &Head, snapshot: &[u8], drops: Drops) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: path.clone(), safe_bytes: 0, source };
        let mut writer = Writer::new(file, head).map_err(failed)?;
        let mut state = State::default();
        state.apply(snapshot);
        writer.begin_segment(snapshot, clock::sample(), &drops.read()).map_err(failed)?;
        let now = Instant::now();
        Ok(Recorder { writer, path, state, drops, flushed: now, segment_started: now })
    }

    /// Writes what comes until nobody can send any more, then closes the file.
    ///
    /// # Errors
    /// [`Error::Write`], with the size of what is safe.
    pub(crate) fn run(mut self, batches: &Receiver<Vec<u8>>) -> Result<Written, Error> {
        loop {
            match batches.recv_timeout(PIECE_TIME.saturating_sub(self.flushed.elapsed())) {
                Ok(batch) => self.keep(&batch)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.writer.piece_bytes() >= PIECE_BYTES || self.flushed.elapsed() >= PIECE_TIME {
                self.flush()?;
            }
        }
    }

    fn keep(&mut self, batch: &[u8]) -> Result<(), Error> {
        if !self.writer.in_segment() {
            let snapshot = self.state.snapshot();
            let begun = self.writer.begin_segment(&snapshot, clock::sample(), &self.drops.read());
            self.checked(begun)?;
            self.segment_started = Instant::now();
        }
        self.state.apply(batch);
        let pushed = self.writer.push(batch);
        self.checked(pushed)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.flushed = Instant::now();
        if self.writer.in_segment() && self.writer.piece_bytes() > 0 {
            self.checkpoint()?;
            if self.writer.segment_bytes() >= SEGMENT_BYTES || self.segment_started.elapsed() >= SEGMENT_TIME {
                let ended = self.writer.end_segment();
                self.checked(ended)?;
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        let written = self.writer.checkpoint(clock::sample(), &self.drops.read());
        self.checked(written)
    }

    fn finish(mut self) -> Result<Written, Error> {
        // The last counters and the time of the end belong in the file, also when nothing was recorded since.
        if !self.writer.in_segment() {
            self.keep(&[])?;
        }
        self.checkpoint()?;
        let drops = self.drops.read();
        let (records, raw_bytes, safe_bytes) =
            (self.writer.records(), self.writer.raw_bytes(), self.writer.safe_bytes());
        let path = self.path;
        let failed = |source| Error::Write { path: path.clone(), safe_bytes, source };
        let file = self.writer.finish().map_err(failed)?;
        let disk_bytes = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Written {
            records,
            raw_bytes,
            disk_bytes,
            dropped_records: drops.iter().map(|counter| counter.records.get()).sum(),
            dropped_bytes: drops.iter().map(|counter| counter.bytes.get()).sum(),
        })
    }

    fn checked<T>(&self, result: Result<T, agentsight_formats::Error>) -> Result<T, Error> {
        result.map_err(|source| Error::Write { path: self.path.clone(), safe_bytes: self.writer.safe_bytes(), source })
    }
}
