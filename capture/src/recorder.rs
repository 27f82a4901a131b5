//! Compresses and writes. Runs on a thread of its own, so that neither a slow disk nor the compressor holds up the ring.

use crate::Error;
use crate::batches::Queue;
use crate::clock;
use crate::kernel::Drops;
use crate::opaque::Unseen;
use crate::output::Output;
use crate::pace::Pace;
use crate::prober::note_record;
use crate::state::State;
use agentsight_formats::record::DropCounter;
use agentsight_formats::{Head, Metadata, Writer};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// A flush at least after this many bytes of records, or this time: what a crash can cost.
const PIECE_BYTES: u64 = 1 << 20;
const PIECE_TIME: Duration = Duration::from_secs(1);

/// A new segment after this many bytes of records, or this time: what damage can cost.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_TIME: Duration = Duration::from_secs(300);
/// A segment that began in a hurry is not ended for that before this time: each begins with what lives, and has to learn anew
/// what repeats.
const HURRIED_TIME: Duration = Duration::from_secs(10);

/// What was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub files: Vec<PathBuf>,
    pub records: u64,
    pub raw_bytes: u64,
    pub disk_bytes: u64,
    pub dropped_records: u64,
    pub dropped_bytes: u64,
    /// Programs that spoke TLS of which plaintext was not seen.
    pub opaque: Vec<Unseen>,
    /// What became of the files, where it is not what was asked for.
    pub warnings: Vec<String>,
}

/// What has been written so far, for other threads to look at.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub records: AtomicU64,
    pub raw_bytes: AtomicU64,
    pub disk_bytes: AtomicU64,
    pub dropped_records: AtomicU64,
}

pub(crate) struct Recorder {
    writer: Writer<File>,
    output: Output,
    metadata: Metadata,
    /// Names the recording in each of its files.
    recording: uuid::Uuid,
    state: State,
    drops: Drops,
    /// What was lost before this file began, by source, CPU and reason.
    lost_before: BTreeMap<(u16, u16, u16), (u64, u64)>,
    /// Of the files before this one.
    before: Written,
    counters: Arc<Counters>,
    flushed: Instant,
    segment_started: Instant,
    file_started: Instant,
    pace: Pace,
    /// Whether the segment was begun in a hurry.
    segment_hurried: bool,
    /// Whether the next file could not be created when it was due.
    stuck: bool,
}

impl Recorder {
    /// Writes the head and the first snapshot.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn begin(
        file: File,
        output: Output,
        metadata: Metadata,
        snapshot: &[u8],
        drops: Drops,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: output.current(), safe_bytes: 0, source };
        let recording = uuid::Uuid::new_v4();
        let head = head(&metadata, recording, &output);
        let mut writer = Writer::new(file, &head).map_err(failed)?;
        let mut state = State::default();
        state.apply(snapshot);
        writer.begin_segment(snapshot, clock::sample(), &drops.read()).map_err(failed)?;
        let now = Instant::now();
        Ok(Recorder {
            writer,
            output,
            metadata,
            recording,
            state,
            drops,
            lost_before: BTreeMap::new(),
            before: Written::default(),
            counters,
            flushed: now,
            segment_started: now,
            file_started: now,
            pace: Pace::default(),
            segment_hurried: false,
            stuck: false,
        })
    }

    /// Writes what comes until nobody can send any more, then closes the file. What is not as it should be goes to `warn`.
    ///
    /// # Errors
    /// [`Error::Write`], with the size of what is safe.
    pub(crate) fn run(mut self, mut batches: Queue, warn: &dyn Fn(String)) -> Result<Written, Error> {
        batches.begin();
        loop {
            let asked = Instant::now();
            let next = batches.next(self.rest());
            let waited = asked.elapsed();
            match next {
                Ok(batch) => self.keep(&batch)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.writer.piece_bytes() >= PIECE_BYTES || self.rest().is_zero() {
                self.flush()?;
                if self.is_full() {
                    self.rotate(warn)?;
                }
            }
            self.pace.add(waited, asked.elapsed().saturating_sub(waited), batches.is_behind());
        }
    }

    fn keep(&mut self, batch: &[u8]) -> Result<(), Error> {
        if !self.writer.in_segment() {
            let snapshot = self.state.snapshot();
            self.segment_hurried = self.pace.hurried();
            self.writer.hurry(self.segment_hurried);
            let begun = self.writer.begin_segment(&snapshot, clock::sample(), &self.lost());
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
            let age = self.segment_started.elapsed();
            let pace_changed = match self.pace.hurried() {
                true => !self.segment_hurried,
                false => self.segment_hurried && age >= HURRIED_TIME,
            };
            if self.writer.segment_bytes() >= SEGMENT_BYTES || age >= SEGMENT_TIME || pace_changed {
                let ended = self.writer.end_segment();
                self.checked(ended)?;
            }
        }
        self.count();
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        let written = self.writer.checkpoint(clock::sample(), &self.lost());
        self.checked(written)
    }

    /// What was lost since this file began.
    fn lost(&self) -> Vec<DropCounter> {
        let mut drops = self.drops.read();
        for counter in &mut drops {
            if let Some((records, bytes)) = self.lost_before.get(&key(counter)) {
                counter.records = counter.records.get().saturating_sub(*records).into();
                counter.bytes = counter.bytes.get().saturating_sub(*bytes).into();
            }
        }
        drops.retain(|counter| counter.records.get() > 0);
        drops
    }

    /// How long nothing is to be done: until what there is is flushed, or the next file is due.
    fn rest(&self) -> Duration {
        let flush = PIECE_TIME.saturating_sub(self.flushed.elapsed());
        match self.output.rotate_time {
            Some(time) if !self.stuck => flush.min(time.saturating_sub(self.file_started.elapsed())),
            _ => flush,
        }
    }

    /// Whether the next file is due.
    fn is_full(&self) -> bool {
        self.output.rotate_size.is_some_and(|size| self.writer.disk_bytes() >= size)
            || self.output.rotate_time.is_some_and(|time| self.file_started.elapsed() >= time)
    }

    /// Closes the file and begins the next one, with a snapshot of what lives. Where that cannot be created the file goes on, and
    /// it is tried again at the next flush: a recording is worth more than the size of its files.
    fn rotate(&mut self, warn: &dyn Fn(String)) -> Result<(), Error> {
        let opened = self.output.open();
        let told = std::mem::replace(&mut self.stuck, opened.is_err());
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                if !told {
                    warn(format!("{error}; recording goes on in {}", self.output.current().display()));
                }
                return Ok(());
            }
        };
        self.metadata.clocks = clock::sample();
        let head = head(&self.metadata, self.recording, &self.output);
        let next = Writer::new(file, &head);
        let next = self.checked(next)?;
        if !self.writer.in_segment() {
            self.keep(&[])?;
        }
        self.checkpoint()?;
        self.lost_before = self.drops.read().iter().map(|c| (key(c), (c.records.get(), c.bytes.get()))).collect();
        let (records, raw_bytes) = (self.writer.records(), self.writer.raw_bytes());
        let full = std::mem::replace(&mut self.writer, next).finish();
        let full = self.checked(full)?;
        self.before.records += records;
        self.before.raw_bytes += raw_bytes;
        self.before.disk_bytes += size(&full);
        self.file_started = Instant::now();
        self.keep(&[])
    }

    fn count(&self) {
        let counters = &self.counters;
        counters.records.store(self.before.records + self.writer.records(), Ordering::Relaxed);
        counters.raw_bytes.store(self.before.raw_bytes + self.writer.raw_bytes(), Ordering::Relaxed);
        counters.disk_bytes.store(self.before.disk_bytes + self.writer.disk_bytes(), Ordering::Relaxed);
        let dropped = self.drops.read().iter().map(|counter| counter.records.get()).sum();
        counters.dropped_records.store(dropped, Ordering::Relaxed);
    }

    fn finish(mut self) -> Result<Written, Error> {
        // The last counters and the time of the end belong in the file, also when nothing was recorded since.
        if !self.writer.in_segment() {
            self.keep(&[])?;
        }
        let mut warnings = Vec::new();
        for (path, way) in self.state.take_unwatched() {
            let path = path.to_string_lossy();
            warnings.push(format!("{path} uses {way}: the files, sockets and streams of it are not seen"));
            let pushed =
                self.writer.push(&note_record(serde_json::json!({"what": "unwatched", "path": path, "way": way})));
            self.checked(pushed)?;
        }
        let opaque = std::mem::take(&mut self.state).opaque();
        for Unseen { program, direction, connections } in &opaque {
            let path = program.to_string_lossy();
            let mut note = serde_json::json!({"what": "tls_unseen", "path": path, "connections": connections});
            if let Some(direction) = direction {
                note["direction"] = (*direction).into();
            }
            let pushed = self.writer.push(&note_record(note));
            self.checked(pushed)?;
        }
        self.checkpoint()?;
        let drops = self.drops.read();
        let (records, raw_bytes, disk_bytes) =
            (self.writer.records(), self.writer.raw_bytes(), self.writer.disk_bytes());
        let (path, safe_bytes) = (self.output.current(), self.writer.safe_bytes());
        let file = self.writer.finish().map_err(|source| Error::Write { path, safe_bytes, source })?;
        warnings.extend(self.output.missing(&file));
        Ok(Written {
            files: self.output.files(),
            records: self.before.records + records,
            raw_bytes: self.before.raw_bytes + raw_bytes,
            disk_bytes: self.before.disk_bytes + size(&file).max(disk_bytes),
            dropped_records: drops.iter().map(|counter| counter.records.get()).sum(),
            dropped_bytes: drops.iter().map(|counter| counter.bytes.get()).sum(),
            opaque,
            warnings,
        })
    }

    fn checked<T>(&self, result: Result<T, agentsight_formats::Error>) -> Result<T, Error> {
        result.map_err(|source| Error::Write {
            path: self.output.current(),
            safe_bytes: self.writer.safe_bytes(),
            source,
        })
    }
}

/// The head of the next file. The files of one recording have ids of their own and one `recording`.
fn head(metadata: &Metadata, recording: uuid::Uuid, output: &Output) -> Head {
    let mut metadata = metadata.clone();
    if !output.rotates() {
        return Head::new(*recording.as_bytes(), metadata);
    }
    metadata.extra.insert("recording".to_owned(), recording.to_string().into());
    metadata.extra.insert("part".to_owned(), output.part().into());
    Head::new(*uuid::Uuid::new_v4().as_bytes(), metadata)
}

fn key(counter: &DropCounter) -> (u16, u16, u16) {
    (counter.source.get(), counter.cpu.get(), counter.reason.get())
}

/// Size in bytes; 0 for what is no file.
fn size(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}
