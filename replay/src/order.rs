//! Brings records into total order: (time, cpu, sequence).
//!
//! CPUs write into one ring, and a record may be overtaken between its time stamp and its place in the ring. Records are held
//! back until event time has moved on by [`WINDOW`]; the order then depends on the records alone, not on how they were cut
//! into pieces. A record that comes later still is handed on at once: late, but not lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How long a record is held back, in nanoseconds of event time. Overtaking takes microseconds, and as long as a CPU may be
/// taken from a virtual machine.
pub(crate) const WINDOW: u64 = 1_000_000_000;

/// Most bytes of records that are held back, or would be were all tables wanted: what comes late must not depend on what is
/// wanted. Were there more, the oldest would go.
const MAX_BYTES: usize = 64 << 20;

/// What a record takes besides its bytes, about.
const OVERHEAD: usize = 64;

/// What records are ordered by; the last number is the position in the file, which decides between equals.
type Key = (u64, u16, u32, u64);

/// What is wanted of a record, and the length of all of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    record: Vec<u8>,
    len: usize,
}

#[derive(Default)]
pub(crate) struct Order {
    /// Nearly all come in their order: they wait in it.
    held: VecDeque<(Key, Held)>,
    /// Those that were overtaken.
    overtaken: BinaryHeap<Reverse<(Key, Held)>>,
    bytes: usize,
    newest: u64,
    position: u64,
}

impl Order {
    /// Takes what is wanted of a record of this length, with its time, CPU and sequence. Those whose turn has come thereby are to
    /// be taken before the next.
    pub fn push(&mut self, (time, cpu, seq): (u64, u16, u32), record: &[u8], len: usize) {
        self.newest = self.newest.max(time);
        self.position += 1;
        self.bytes += len + OVERHEAD;
        let key = (time, cpu, seq, self.position);
        let record = Held { record: record.to_vec(), len };
        if self.held.back().is_none_or(|(last, _)| *last < key) {
            self.held.push_back((key, record));
        } else {
            self.overtaken.push(Reverse((key, record)));
        }
    }

    /// Event time has come this far, whether or not there is a record of it.
    pub fn advance(&mut self, time: u64) {
        self.newest = self.newest.max(time);
    }

    /// The next record whose turn has come.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let (time, ..) = self.first()?;
        if time.saturating_add(WINDOW) > self.newest && self.bytes <= MAX_BYTES { None } else { self.pop_any() }
    }

    /// The next record, at the end of the capture.
    pub fn pop_any(&mut self) -> Option<Vec<u8>> {
        let first = self.first()?;
        let Held { record, len } = match self.held.pop_front_if(|(key, _)| *key == first) {
            Some((_, record)) => record,
            None => self.overtaken.pop().map(|Reverse((_, record))| record)?,
        };
        self.bytes = self.bytes.saturating_sub(len + OVERHEAD);
        Some(record)
    }

    fn first(&self) -> Option<Key> {
        let overtaken = self.overtaken.peek().map(|Reverse((key, _))| *key);
        self.held.front().map(|(key, _)| *key).into_iter().chain(overtaken).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_by_time_then_cpu_then_sequence() {
        let mut order = Order::default();
        for (time, cpu, seq) in [(2, 0, 5), (1, 1, 0), (1, 0, 9), (1, 0, 3)] {
            order.push((time, cpu, seq), &[time as u8, cpu as u8, seq as u8], 3);
        }
        assert_eq!(order.pop(), None);
        order.push((3 + WINDOW, 0, 0), &[], 0);
        let all: Vec<_> = std::iter::from_fn(|| order.pop()).collect();
        assert_eq!(all, [[1, 0, 3], [1, 0, 9], [1, 1, 0], [2, 0, 5]]);
    }

    #[test]
    fn more_than_fits_is_handed_on_in_order() {
        let mut order = Order::default();
        let record = vec![0; MAX_BYTES / 4];
        for time in [4, 2, 3, 1] {
            order.push((time, 0, time as u32), &record, record.len());
        }
        assert!(order.pop().is_some_and(|record| record.len() == MAX_BYTES / 4));
        assert_eq!(order.pop(), None);
        assert_eq!(order.first().map(|(time, ..)| time), Some(2));
    }

    #[test]
    fn how_long_a_record_waits_does_not_depend_on_how_much_of_it_is_wanted() {
        let mut order = Order::default();
        (0..4).for_each(|time| order.push((time, 0, 0), &[1], MAX_BYTES / 4));
        assert_eq!((order.pop(), order.pop()), (Some(vec![1]), None));
    }
}
