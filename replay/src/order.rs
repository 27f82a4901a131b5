//! Brings records into total order: (time, cpu, sequence).
//!
//! CPUs write into one ring, and a record may be overtaken between its time stamp and its place in the ring. Records are held
//! back until event time has moved on by [`WINDOW`]; the order then depends on the records alone, not on how they were cut
//! into pieces. A record that comes later still is handed on at once: late, but not lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How long a record is held back, in nanoseconds of event time. Overtaking takes microseconds, and as long as a CPU may be
/// taken from a virtual machine.
pub(crate) const WINDOW: u64 = 1_000_000_000;

/// What records are ordered by; the last number is the position in the file, which decides between equals.
type Key = (u64, u16, u32, u64);

#[derive(Default)]
pub(crate) struct Order {
    held: BinaryHeap<Reverse<(Key, Vec<u8>)>>,
    newest: u64,
    position: u64,
}

impl Order {
    /// Takes a record with its time, CPU and sequence.
    pub fn push(&mut self, time: u64, cpu: u16, seq: u32, record: &[u8]) {
        self.newest = self.newest.max(time);
        self.position += 1;
        self.held.push(Reverse(((time, cpu, seq, self.position), record.to_vec())));
    }

    /// Event time has come this far, whether or not there is a record of it.
    pub fn advance(&mut self, time: u64) {
        self.newest = self.newest.max(time);
    }

    /// The next record whose turn has come.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let Reverse(((time, ..), _)) = self.held.peek()?;
        if time.saturating_add(WINDOW) > self.newest { None } else { self.pop_any() }
    }

    /// The next record, at the end of the capture.
    pub fn pop_any(&mut self) -> Option<Vec<u8>> {
        self.held.pop().map(|Reverse((_, record))| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_by_time_then_cpu_then_sequence() {
        let mut order = Order::default();
        for (time, cpu, seq) in [(2, 0, 5), (1, 1, 0), (1, 0, 9), (1, 0, 3)] {
            order.push(time, cpu, seq, &[time as u8, cpu as u8, seq as u8]);
        }
        assert_eq!(order.pop(), None);
        order.push(3 + WINDOW, 0, 0, &[]);
        let all: Vec<_> = std::iter::from_fn(|| order.pop()).collect();
        assert_eq!(all, [[1, 0, 3], [1, 0, 9], [1, 1, 0], [2, 0, 5]]);
    }
}
