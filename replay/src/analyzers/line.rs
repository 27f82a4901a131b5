//! Keeps rows in their order behind an analyzer that amends some and may hold them back for it: what came after such a row
//! waits until the row itself goes on. What is not held back passes at once.

use crate::table::{Row, TableDef, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;

/// Bytes that may wait; were there more, the analyzer has to hand on what it holds back.
const MAX_WAITING: usize = 128 << 20;

/// What a row that waits takes besides its texts and bytes, about.
const ROW_BYTES: usize = 512;

/// The place of a row: the number of the row that came in from before it, and its rank among those made at that place. What
/// stands at a place itself has the first.
type Place = (u64, u64);

/// Takes a row, and whether it is to be shown.
pub(super) type Next<'a> = dyn FnMut(&dyn Row, bool) -> ControlFlow<()> + 'a;

#[derive(Default)]
pub(super) struct Line {
    /// The number of the row that comes next.
    next: u64,
    /// Where what is made now belongs.
    current: u64,
    ranks: u64,
    /// The rows that the analyzer has, by table, and whether each is to be shown.
    held_back: HashMap<&'static str, VecDeque<(u64, bool)>>,
    missing: BTreeSet<u64>,
    waiting: BTreeMap<Place, (Box<dyn Row>, bool)>,
    waiting_bytes: usize,
}

impl Line {
    /// A row comes in; what is made from now on belongs behind it.
    pub fn arrives(&mut self) {
        self.current = self.next;
        self.next += 1;
    }

    /// The analyzer has the row that came in, and will hand it on.
    pub fn is_held_back(&mut self, table: &TableDef, shown: bool) {
        self.held_back.entry(table.name).or_default().push_back((self.current, shown));
        self.missing.insert(self.current);
    }

    /// The analyzer hands on the oldest row that it has of a table: it and what is made from now on belong where that came in.
    pub fn hand_on(&mut self, row: &dyn Row, next: &mut Next<'_>) -> ControlFlow<()> {
        self.settle(next)?;
        let oldest = self.held_back.get_mut(row.table().name).and_then(VecDeque::pop_front);
        let (number, shown) = oldest.unwrap_or((self.current, true));
        self.missing.remove(&number);
        self.current = number;
        self.put((number, 0), row, shown, next)
    }

    /// Lets the row that came in pass.
    pub fn pass(&mut self, row: &dyn Row, shown: bool, next: &mut Next<'_>) -> ControlFlow<()> {
        self.put((self.current, 0), row, shown, next)
    }

    /// Lets a row pass that was made.
    pub fn made(&mut self, row: &dyn Row, shown: bool, next: &mut Next<'_>) -> ControlFlow<()> {
        self.ranks += 1;
        self.put((self.current, self.ranks), row, shown, next)
    }

    /// Whether so much waits that what is held back has to go on.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes > MAX_WAITING
    }

    fn put(&mut self, place: Place, row: &dyn Row, shown: bool, next: &mut Next<'_>) -> ControlFlow<()> {
        if self.may_pass(place) && self.waiting.first_key_value().is_none_or(|(first, _)| place < *first) {
            next(row, shown)?;
        } else {
            self.waiting_bytes += size(row);
            self.waiting.insert(place, (row.boxed(), shown));
        }
        ControlFlow::Continue(())
    }

    /// The analyzer has done its work: what has waited for nothing but that passes.
    pub fn settle(&mut self, next: &mut Next<'_>) -> ControlFlow<()> {
        while let Some(first) = self.waiting.first_entry().filter(|first| may_pass(&self.missing, *first.key())) {
            let (row, shown) = first.remove();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(size(&*row));
            next(&*row, shown)?;
        }
        ControlFlow::Continue(())
    }

    fn may_pass(&self, place: Place) -> bool {
        may_pass(&self.missing, place)
    }
}

/// Nothing before it is missing.
fn may_pass(missing: &BTreeSet<u64>, (number, _): Place) -> bool {
    missing.first().is_none_or(|first| number < *first)
}

/// What a row takes of memory, about.
fn size(row: &dyn Row) -> usize {
    let cells = (0..row.table().columns.len()).map(|index| match row.value(index) {
        Value::Varchar(text) => text.len(),
        Value::Varbinary(bytes) => bytes.len(),
        Value::VarcharList(texts) => texts.iter().map(|text| text.len() + size_of::<String>()).sum(),
        _ => 0,
    });
    ROW_BYTES + cells.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Timestamp;
    use crate::tables::{Exec, Finding, Metric};

    /// What came out, by its time.
    #[derive(Default)]
    struct Out(Vec<i64>);

    impl Out {
        fn take(&mut self, row: &dyn Row, _: bool) -> ControlFlow<()> {
            let time = row.downcast::<Exec>().map(|row| row.ts).or(row.downcast::<Metric>().map(|row| row.ts));
            let time = time.or(row.downcast::<Finding>().map(|row| row.ts));
            self.0.push(time.unwrap().0);
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn what_came_later_waits_and_what_was_made_stands_behind() {
        let (mut line, mut out) = (Line::default(), Out::default());
        let exec = |ts| Exec { ts: Timestamp(ts), ..Exec::default() };
        let metric = |ts| Metric { ts: Timestamp(ts), ..Metric::default() };
        let finding = |ts| Finding { ts: Timestamp(ts), ..Finding::default() };
        let mut come = |line: &mut Line, row: &dyn Row, held: bool| {
            line.arrives();
            if held {
                line.is_held_back(row.table(), true);
            } else {
                let _ = line.pass(row, true, &mut |row, shown| out.take(row, shown));
            }
        };
        come(&mut line, &metric(1), false);
        come(&mut line, &exec(20), true);
        come(&mut line, &metric(30), false);
        come(&mut line, &exec(40), true);
        come(&mut line, &metric(50), false);
        assert_eq!(out.0, [1]);
        for (ts, expected) in [(20, &[1, 20, 21, 30][..]), (40, &[1, 20, 21, 30, 40, 41, 50])] {
            let mut next = |row: &dyn Row, shown| out.take(row, shown);
            let _ = line.hand_on(&exec(ts), &mut next);
            let _ = line.made(&finding(ts + 1), true, &mut next);
            let _ = line.settle(&mut next);
            assert_eq!(out.0, expected);
        }
        assert_eq!(line.waiting_bytes, 0);
    }
}
