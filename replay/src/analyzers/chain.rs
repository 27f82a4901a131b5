//! The analyzers that run, one behind the other: which ones a sink needs, and how a row goes through them.

use super::{ANALYZERS, Analyzer, Entry};
use crate::Sink;
use crate::table::{Row, TableDef};
use std::ops::ControlFlow;

struct Link {
    entry: &'static Entry,
    /// What it makes goes to the sink; else it runs for those behind it.
    shown: bool,
    /// There once the capture has an id. Taken out while it works.
    analyzer: Option<Box<dyn Analyzer>>,
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
                chain.links.push(Link { entry, shown: sink.wants_analyzer(entry), analyzer: None });
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

    /// Lets a row go through them, and what they make of it; all of it goes on to the sink.
    pub fn row(&mut self, row: &dyn Row, sink: &mut dyn Sink) -> ControlFlow<()> {
        pass(&mut self.links, row, true, sink)
    }

    /// The recording ends.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> ControlFlow<()> {
        let mut links = &mut self.links[..];
        while let Some((link, behind)) = links.split_first_mut() {
            let mut flow = ControlFlow::Continue(());
            let (shown, entry) = (link.shown, link.entry);
            if let Some(analyzer) = &mut link.analyzer {
                analyzer.finish(&mut |row| {
                    if flow.is_continue() {
                        flow = pass(behind, row, shown || entry.amends(row.table()), sink);
                    }
                });
            }
            flow?;
            links = behind;
        }
        ControlFlow::Continue(())
    }
}

/// Lets a row go through these links, and then, if it is to be `shown`, to the sink.
fn pass(mut links: &mut [Link], row: &dyn Row, shown: bool, sink: &mut dyn Sink) -> ControlFlow<()> {
    let table = row.table();
    while let Some((link, behind)) = links.split_first_mut() {
        let (entry, its_own) = (link.entry, link.shown);
        if let Some(analyzer) = link.analyzer.as_mut().filter(|_| entry.takes(table)) {
            let mut flow = ControlFlow::Continue(());
            analyzer.row(row, &mut |made| {
                if flow.is_continue() {
                    let shown = if entry.amends(made.table()) { shown } else { its_own };
                    flow = pass(behind, made, shown, sink);
                }
            });
            flow?;
            if entry.amends(table) {
                // It has handed the row on, or will.
                return ControlFlow::Continue(());
            }
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
