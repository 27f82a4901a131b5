//! The analyzers that run, one behind the other: which ones a sink needs, and how a row goes through them.

use super::line::{Line, Next};
use super::{ANALYZERS, Analyzer, Entry};
use crate::Sink;
use crate::table::{Row, TableDef};
use std::ops::ControlFlow;

struct Link {
    entry: &'static Entry,
    /// What it makes goes to the sink; else it runs for those behind it.
    shown: bool,
    /// There once the capture has an id.
    analyzer: Option<Box<dyn Analyzer>>,
    line: Line,
}

/// What an analyzer is told.
enum Told<'r> {
    Row(&'r dyn Row),
    Relieve,
    Finish,
}

/// The analyzers that run.
#[derive(Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
}

impl Chain {
    /// Those that this sink needs, and those that these need.
    pub fn of(sink: &dyn Sink) -> Self {
        let mut chain = Chain::default();
        for entry in ANALYZERS.iter().rev().filter(|entry| entry.make.is_some()) {
            let asked_for = entry.tables.iter().any(|table| sink.wants(table)) && sink.wants_analyzer(entry);
            let fills_in = |table: &TableDef, column| {
                sink.wants(table) && sink.wants_column(table, column) || chain.reads_column(table, column)
            };
            let needed = entry.tables.iter().any(|table| chain.reads(table))
                || entry.inputs.amends.iter().any(|(table, column)| fills_in(table, column));
            if asked_for || needed {
                chain.links.push(Link {
                    entry,
                    shown: sink.wants_analyzer(entry),
                    analyzer: None,
                    line: Line::default(),
                });
            }
        }
        chain.links.reverse();
        chain
    }

    /// The capture has this id.
    pub fn begin(&mut self, capture_id: &str) {
        for link in &mut self.links {
            link.analyzer = link.entry.make.map(|make| make(capture_id));
        }
    }

    /// Whether one of them reads or amends this table.
    pub fn reads(&self, table: &TableDef) -> bool {
        self.links.iter().any(|link| link.entry.takes(table))
    }

    /// Whether one of them needs this costly column.
    pub fn reads_column(&self, table: &TableDef, column: &str) -> bool {
        let mut read = self.links.iter().flat_map(|link| link.entry.inputs.reads);
        read.any(|(read, columns)| read.name == table.name && columns.contains(&column))
    }

    /// Lets a row go through them, and what they make of it; that goes on to the sink, and if it is to be `shown` the row too.
    pub fn row(&mut self, row: &dyn Row, shown: bool, sink: &mut dyn Sink) -> ControlFlow<()> {
        pass(&mut self.links, row, shown, sink)
    }

    /// The recording ends.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> ControlFlow<()> {
        let mut links = &mut self.links[..];
        while let Some((link, behind)) = links.split_first_mut() {
            link.line.arrives();
            link.tell(Told::Finish, &mut |row, shown| pass(behind, row, shown, sink))?;
            links = behind;
        }
        ControlFlow::Continue(())
    }
}

impl Link {
    /// Lets a row go through; it and what is made of it goes on to `next`.
    fn row(&mut self, row: &dyn Row, shown: bool, next: &mut Next<'_>) -> ControlFlow<()> {
        let (table, entry) = (row.table(), self.entry);
        self.line.arrives();
        if entry.amends(table) {
            self.line.is_held_back(table, shown);
        }
        if entry.takes(table) {
            self.tell(Told::Row(row), next)?;
        }
        if !entry.amends(table) {
            self.line.pass(row, shown, next)?;
        }
        if self.line.is_full() { self.tell(Told::Relieve, next) } else { ControlFlow::Continue(()) }
    }

    fn tell(&mut self, told: Told<'_>, next: &mut Next<'_>) -> ControlFlow<()> {
        let Link { entry, shown, analyzer: Some(analyzer), line } = self else { return ControlFlow::Continue(()) };
        let mut flow = ControlFlow::Continue(());
        let mut out = |row: &dyn Row| {
            if flow.is_break() {
                return;
            }
            flow = if entry.amends(row.table()) { line.hand_on(row, next) } else { line.made(row, *shown, next) };
        };
        match told {
            Told::Row(row) => analyzer.row(row, &mut out),
            Told::Relieve => analyzer.relieve(&mut out),
            Told::Finish => analyzer.finish(&mut out),
        }
        flow?;
        line.settle(next)
    }
}

/// Lets a row go through these links, and then, if it is to be `shown`, to the sink.
fn pass(mut links: &mut [Link], row: &dyn Row, shown: bool, sink: &mut dyn Sink) -> ControlFlow<()> {
    let table = row.table();
    while let Some((link, behind)) = links.split_first_mut() {
        // Only an analyzer that may hold rows back, or takes this one, has anything to do with it.
        if link.entry.takes(table) || !link.entry.inputs.amends.is_empty() {
            return link.row(row, shown, &mut |row, shown| pass(behind, row, shown, sink));
        }
        links = behind;
    }
    if shown && sink.wants(table) { sink.row(row) } else { ControlFlow::Continue(()) }
}

impl Entry {
    fn takes(&self, table: &TableDef) -> bool {
        self.inputs.reads.iter().any(|(read, _)| read.name == table.name) || self.amends(table)
    }

    fn amends(&self, table: &TableDef) -> bool {
        self.inputs.amends.iter().any(|(amended, _)| amended.name == table.name)
    }
}
