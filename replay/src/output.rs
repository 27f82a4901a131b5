//! Where the rows of the stages go: through the analyzers that run, and to the sink.

use crate::Sink;
use crate::analyzers::Chain;
use crate::prices::Prices;
use crate::table::{Row, TableDef};
use std::sync::Arc;

/// Hands rows on, and remembers when the sink has enough.
pub(crate) struct Output<'s> {
    sink: &'s mut dyn Sink,
    chain: Chain,
    prices: Arc<Prices>,
    pub stopped: bool,
}

impl<'s> Output<'s> {
    pub fn new(sink: &'s mut dyn Sink) -> Self {
        Output { chain: Chain::of(sink), prices: sink.prices(), sink, stopped: false }
    }

    /// The capture has this id: rows may come.
    pub fn begin(&mut self, capture_id: &str) {
        self.chain.begin(capture_id);
    }

    /// What calls of models cost.
    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Whether a row of this table would be taken: if not, it need not be made.
    pub fn wants(&self, table: &TableDef) -> bool {
        !self.stopped && (self.sink.wants(table) || self.chain.reads(table))
    }

    /// Whether a costly column of a table that is wanted is.
    pub fn wants_column(&self, table: &TableDef, column: &str) -> bool {
        self.sink.wants(table) && self.sink.wants_column(table, column) || self.chain.reads_column(table, column)
    }

    pub fn row(&mut self, row: &dyn Row) {
        if self.wants(row.table()) {
            self.stopped = self.chain.row(row, true, self.sink).is_break();
        }
    }

    /// Tells analyzers what is no row of a table.
    pub fn tell(&mut self, signal: &dyn Row) {
        if !self.stopped && self.chain.reads(signal.table()) {
            self.stopped = self.chain.row(signal, false, self.sink).is_break();
        }
    }

    /// The recording ends: no row comes any more.
    pub fn finish(&mut self) {
        if !self.stopped {
            self.stopped = self.chain.finish(self.sink).is_break();
        }
    }
}
