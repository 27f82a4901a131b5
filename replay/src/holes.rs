//! Where records are missing. Each CPU counts its records, lost ones too: a hole in its numbers says when something happened that
//! is not in the capture. What would be concluded from nothing having been there, such as that no answer came, is concluded only
//! where there is no hole.

use crate::clock::WallClock;
use crate::table::Timestamp;
use agentsight_formats::record::{CAPTURER_CPU, DropCounter, Header, drop_reason};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Holes that are kept apart; after that many, one reaches as far as all that follow on its CPU.
const MAX_HOLES: usize = 1 << 16;

/// Numbers that are missing on a CPU.
struct Hole {
    missing: u64,
    /// Event time of the records around it.
    since: u64,
    until: u64,
}

/// The holes of a capture, from its headers.
#[derive(Default)]
pub(crate) struct Holes {
    /// By CPU and first missing number.
    holes: BTreeMap<(u16, u64), Hole>,
    /// What each CPU counts next, and the time of its last record.
    cpus: HashMap<u16, (u64, u64)>,
    /// The first file is a later part of a recording: the counters do not begin at 0.
    continued: bool,
    /// How many records each CPU has lost, in this file and in those before it.
    lost: BTreeMap<u16, u64>,
    lost_before: BTreeMap<u16, u64>,
    changed: bool,
}

impl Holes {
    /// A file begins: this part of the recording, from 1.
    pub fn begin(&mut self, part: u64) {
        self.continued |= self.cpus.is_empty() && part > 1;
        for (cpu, records) in std::mem::take(&mut self.lost) {
            let before = self.lost_before.entry(cpu).or_default();
            *before = before.saturating_add(records);
        }
    }

    /// Takes what the kernel side has counted as lost so far in this file, which each checkpoint says in full: behind the last
    /// record of a CPU is no other number.
    pub fn lost(&mut self, counters: &[DropCounter]) {
        let mut of_cpus: BTreeMap<u16, u64> = BTreeMap::new();
        for counter in counters.iter().filter(|counter| counter.reason.get() == drop_reason::RING_FULL) {
            let records = of_cpus.entry(counter.cpu.get()).or_default();
            *records = records.saturating_add(counter.records.get());
        }
        for (cpu, records) in of_cpus {
            self.changed |= self.lost.insert(cpu, records) != Some(records);
        }
    }

    /// Since when records are missing behind the last of a CPU, for each that has such.
    fn open_ends(&self) -> impl Iterator<Item = u64> {
        let cpus: BTreeSet<u16> = self.lost.keys().chain(self.lost_before.keys()).copied().collect();
        cpus.into_iter().filter_map(|cpu| {
            let lost = [&self.lost, &self.lost_before].into_iter().filter_map(|lost| lost.get(&cpu));
            let lost = lost.fold(0_u64, |sum, records| sum.saturating_add(*records));
            let missing = self.holes.range((cpu, 0)..=(cpu, u64::MAX)).map(|(_, hole)| hole.missing).sum();
            (lost > missing).then(|| self.cpus.get(&cpu).map_or(0, |(_, last)| *last))
        })
    }

    /// Takes the header of a record, in the order of the file.
    pub fn record(&mut self, header: &Header) {
        let (cpu, seq, time) = (header.cpu.get(), header.seq.get(), header.time.get());
        if cpu == CAPTURER_CPU {
            return;
        }
        let begin = if self.continued { u64::from(seq) } else { 0 };
        let (next, last) = *self.cpus.entry(cpu).or_insert((begin, 0));
        // The counter wraps at 2^32.
        let ahead = seq.wrapping_sub(next as u32) as i32;
        if ahead < 0 {
            self.late(cpu, next.saturating_sub(ahead.unsigned_abs().into()));
            return;
        }
        let number = next + u64::from(ahead.unsigned_abs());
        if number > next {
            self.changed = true;
            self.add(cpu, next, Hole { missing: number - next, since: last, until: time });
        }
        self.cpus.insert(cpu, (number + 1, time));
    }

    fn add(&mut self, cpu: u16, number: u64, hole: Hole) {
        if self.holes.len() < MAX_HOLES {
            self.holes.insert((cpu, number), hole);
        } else if let Some((_, last)) = self.holes.range_mut(..=(cpu, number)).next_back() {
            last.missing = last.missing.saturating_add(hole.missing);
            last.until = last.until.max(hole.until);
        }
    }

    /// A record that was overtaken on its way to the file.
    fn late(&mut self, cpu: u16, number: u64) {
        let Some((&key, hole)) = self.holes.range_mut((cpu, 0)..=(cpu, number)).next_back() else { return };
        hole.missing = hole.missing.saturating_sub(1);
        self.changed = true;
        if hole.missing == 0 {
            self.holes.remove(&key);
        }
    }

    /// The spans of time that have holes, if there are others than when this was asked last.
    pub fn spans(&mut self, clock: WallClock) -> Option<Spans> {
        std::mem::take(&mut self.changed).then(|| {
            let between = self.holes.values().map(|hole| (hole.since, hole.until));
            let all = between.chain(self.open_ends().map(|since| (since, u64::MAX)));
            let mut all: Vec<_> = all.map(|(since, until)| (clock.at(since), clock.at(until))).collect();
            all.sort_unstable();
            all.dedup_by(|next, before| {
                let joined = next.0 <= before.1;
                if joined {
                    before.1 = before.1.max(next.1);
                }
                joined
            });
            Spans(all)
        })
    }
}

/// Spans of time that have holes: in order, and apart from each other.
#[derive(Default)]
pub(crate) struct Spans(Vec<(Timestamp, Timestamp)>);

impl Spans {
    /// Whether something may be missing in this time.
    pub fn meet(&self, (from, to): (Timestamp, Timestamp)) -> bool {
        let first = self.0.partition_point(|(_, until)| *until < from);
        self.0.get(first).is_some_and(|(since, _)| *since <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentsight_formats::Clocks;

    fn holes(records: &[(u16, u32, u64)]) -> Vec<(i64, i64)> {
        let mut holes = Holes::default();
        for &(cpu, seq, time) in records {
            holes.record(&Header { cpu: cpu.into(), seq: seq.into(), time: time.into(), ..Header::default() });
        }
        let spans = holes.spans(WallClock::new(Clocks::default())).unwrap_or_default();
        spans.0.iter().map(|(since, until)| (since.0, until.0)).collect()
    }

    #[test]
    fn a_hole_lies_between_the_records_of_its_cpu() {
        assert_eq!(holes(&[(0, 0, 10), (1, 0, 11), (0, 2, 12), (1, 1, 13)]), [(10, 12)]);
        assert_eq!(holes(&[(0, 1, 10)]), [(0, 10)]);
    }

    #[test]
    fn a_record_that_was_overtaken_leaves_no_hole() {
        assert_eq!(holes(&[(0, 0, 10), (0, 3, 13), (0, 2, 12), (0, 1, 11)]), []);
    }

    #[test]
    fn holes_that_touch_are_one() {
        assert_eq!(holes(&[(0, 0, 10), (1, 0, 10), (0, 2, 30), (1, 2, 20), (1, 4, 40)]), [(10, 40)]);
    }

    #[test]
    fn times_meet_spans_that_they_touch() {
        let spans = Spans(vec![(Timestamp(10), Timestamp(20)), (Timestamp(30), Timestamp(40))]);
        let meets = |from, to| spans.meet((Timestamp(from), Timestamp(to)));
        assert!(meets(20, 25) && meets(0, 10) && meets(35, 36) && meets(0, 100));
        assert!(!meets(21, 29) && !meets(0, 9) && !meets(41, 50));
    }

    /// What CPU 0 has lost of a source.
    fn lost(source: u16, records: u64) -> DropCounter {
        DropCounter {
            source: source.into(),
            cpu: 0.into(),
            reason: drop_reason::RING_FULL.into(),
            reserved: 0.into(),
            records: records.into(),
            bytes: 0.into(),
        }
    }

    /// Since when records are missing at the end.
    fn open_ends(holes: &Holes) -> Vec<u64> {
        holes.open_ends().collect()
    }

    #[test]
    fn what_is_lost_behind_the_last_record_of_a_cpu_leaves_an_open_end() {
        let mut holes = Holes::default();
        holes.record(&Header { time: 10.into(), ..Header::default() });
        holes.lost(&[lost(1, 1)]);
        let spans = holes.spans(WallClock::new(Clocks::default())).unwrap();
        assert!(spans.meet((Timestamp(11), Timestamp(12))) && !spans.meet((Timestamp(8), Timestamp(9))));
    }

    #[test]
    fn what_sources_and_files_have_lost_is_lost_together() {
        let mut holes = Holes::default();
        let at = |seq: u32, time: u64| Header { seq: seq.into(), time: time.into(), ..Header::default() };
        [at(0, 10), at(3, 11)].iter().for_each(|header| holes.record(header));
        holes.lost(&[lost(1, 1), lost(2, 1)]);
        assert_eq!(open_ends(&holes), [0_u64; 0]);
        holes.begin(2);
        assert_eq!(open_ends(&holes), [0_u64; 0]);
        holes.lost(&[lost(1, 1)]);
        assert_eq!(open_ends(&holes), [11]);
    }

    #[test]
    fn the_counter_wraps() {
        let mut holes = Holes::default();
        holes.begin(2);
        let at = |seq: u32, time: u64| Header { seq: seq.into(), time: time.into(), ..Header::default() };
        [at(u32::MAX, 1), at(0, 2), at(1, 3)].iter().for_each(|header| holes.record(header));
        assert!(holes.spans(WallClock::new(Clocks::default())).is_none());
    }
}
