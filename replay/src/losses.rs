//! What is missing from a recording: the table `drops`, and the report.

use crate::clock::WallClock;
use crate::processes::signed;
use crate::table::Timestamp;
use crate::{Report, tables};
use agentsight_formats::record::{DropCounter, Record, Source, drop_reason};
use agentsight_formats::{Clocks, Damage};
use std::collections::BTreeMap;

/// Drop counters of a file that are known, and lines about damage; those after them are counted together.
const MAX_COUNTERS: usize = 65_536;
const MAX_LINES: usize = 10_000;

#[derive(Default)]
pub(crate) struct Losses {
    capture_id: String,
    /// Drop counters of this file at its last checkpoint, by source, CPU and reason: records and bytes.
    counters: BTreeMap<(u16, u16, u16), (u64, u64)>,
    /// Records of this piece that are too short for their kind, by source.
    malformed: BTreeMap<Option<&'static str>, u64>,
    /// What more had to be remembered of than there is room for, by source: since the last checkpoint, and in this file.
    beyond: [BTreeMap<&'static str, u64>; 2],
    /// Of this file; and lines about damage, and counters, that were too many to keep.
    report: Report,
    unlisted: u64,
    /// Of the whole recording.
    pub records: u64,
    pub dropped: u64,
}

impl Losses {
    pub fn new(capture_id: String) -> Self {
        Losses { capture_id, ..Losses::default() }
    }

    /// A record is read. One whose checksum is right, and that is yet too short for its kind, is lost all the same.
    pub fn record(&mut self, record: &Record<'_>) {
        self.report.records += 1;
        self.records += 1;
        if record.body().is_err() {
            let source = Source::of_kind(record.header.kind.get()).map(Source::name);
            *self.malformed.entry(source).or_default() += 1;
        }
    }

    /// There was no room to remember so many of a source any longer. What they are goes on without that.
    pub fn beyond(&mut self, source: &'static str, count: u64) {
        for counts in self.beyond.iter_mut().filter(|_| count > 0) {
            *counts.entry(source).or_default() += count;
        }
    }

    /// A piece is read; `since` are the clocks of the checkpoint before it.
    pub fn piece(
        &mut self,
        counters: &[DropCounter],
        (since, now): (Clocks, Clocks),
        clock: WallClock,
    ) -> Vec<tables::Dropped> {
        let mut rows = Vec::new();
        let span = (clock.at(since.boottime), Some(clock.at(now.boottime)));
        for (source, records) in std::mem::take(&mut self.malformed) {
            let named = source.unwrap_or("unknown");
            self.note(format!("{records} records of source {named} are too short for their kind"));
            rows.push(tables::Dropped {
                source: source.map(str::to_owned),
                records: Some(signed(records)),
                ..self.row("malformed", span)
            });
        }
        rows.extend(self.forgotten(span));
        for counter in counters {
            let key = (counter.source.get(), counter.cpu.get(), counter.reason.get());
            if self.counters.len() >= MAX_COUNTERS && !self.counters.contains_key(&key) {
                self.unlisted += 1;
                continue;
            }
            let now = (counter.records.get(), counter.bytes.get());
            let before = self.counters.insert(key, now).unwrap_or_default();
            if now.0 <= before.0 {
                continue;
            }
            let source =
                Source::from_number(key.0).map_or_else(|| key.0.to_string(), |source| source.name().to_owned());
            let reason = drop_reason::name(key.2).map_or_else(|| key.2.to_string(), str::to_owned);
            rows.push(tables::Dropped {
                source: Some(source),
                cpu: Some(key.1.into()),
                records: Some(signed(now.0 - before.0)),
                bytes: Some(signed(now.1.saturating_sub(before.1))),
                ..self.row(&reason, span)
            });
        }
        rows
    }

    /// Tells what had to be forgotten in this time.
    pub fn forgotten(&mut self, span: (Timestamp, Option<Timestamp>)) -> Vec<tables::Dropped> {
        let since = std::mem::take(&mut self.beyond[0]);
        let row = |(source, count): (&str, u64)| tables::Dropped {
            source: Some(source.to_owned()),
            records: Some(signed(count)),
            ..self.row("limit", span)
        };
        since.into_iter().map(row).collect()
    }

    pub fn damaged(&mut self, damage: &Damage, last: Clocks, clock: WallClock) -> tables::Dropped {
        self.note(damage.to_string());
        let after = clock.at(damage.after.unwrap_or(last).boottime);
        let bytes = Some(signed(damage.end.saturating_sub(damage.offset)));
        tables::Dropped { bytes, ..self.row("damage", (after, None)) }
    }

    /// Files of a rotated recording are not there.
    pub fn missing_parts(&mut self, parts: u64, (last, next): (Clocks, Clocks), clock: WallClock) -> tables::Dropped {
        self.note(format!("{parts} parts of the recording are missing before this one"));
        self.row("missing_part", (clock.at(last.boottime), Some(clock.at(next.boottime))))
    }

    fn note(&mut self, line: String) {
        if self.report.damage.len() < MAX_LINES {
            self.report.damage.push(line);
        } else {
            self.unlisted += 1;
        }
    }

    fn row(&self, reason: &str, (ts, end_ts): (Timestamp, Option<Timestamp>)) -> tables::Dropped {
        let capture_id = self.capture_id.clone();
        tables::Dropped { capture_id, ts, end_ts, reason: reason.to_owned(), ..tables::Dropped::default() }
    }

    /// The file ends; the counters of the next one begin at 0.
    pub fn end_file(&mut self) -> Report {
        self.report.dropped_records = self.counters.values().map(|(records, _)| records).sum();
        self.dropped += self.report.dropped_records;
        self.counters.clear();
        let [_, in_file] = &mut self.beyond;
        for (source, count) in std::mem::take(in_file) {
            self.report
                .damage
                .push(format!("source {source} has more open at once than there is room for: {count} were given up"));
        }
        let unlisted = std::mem::take(&mut self.unlisted);
        if unlisted > 0 {
            self.report.damage.push(format!("{unlisted} more of such"));
        }
        std::mem::take(&mut self.report)
    }
}
