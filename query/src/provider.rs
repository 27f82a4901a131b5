//! Tables of captures for DataFusion. A scan replays each capture on a thread of its own, decodes the columns that the query
//! reads, and stops when the query has enough.

use crate::batch::{self, Batches};
use agentsight_formats::Reader;
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::{Report, Sink};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::Sender;

/// Batches that wait between the replay and the query.
const QUEUED: usize = 2;

/// How the replays of each capture went, whichever tables were scanned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports(Arc<Mutex<BTreeMap<PathBuf, Report>>>);

impl Reports {
    fn add(&self, path: &Path, report: Report) {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reports.entry(path.to_owned()).or_default();
        // A scan that was stopped early has seen less than another.
        if report.records >= known.records {
            *known = report;
        }
    }

    pub fn get(&self) -> BTreeMap<PathBuf, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A table over captures.
#[derive(Debug)]
pub(crate) struct CaptureTable {
    pub table: &'static TableDef,
    pub captures: Arc<Vec<PathBuf>>,
    pub reports: Reports,
}

#[async_trait]
impl TableProvider for CaptureTable {
    fn schema(&self) -> SchemaRef {
        batch::schema(self.table)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.table.columns.len()).collect());
        let schema = Arc::new(self.schema().project(&columns)?);
        let partitions = self.captures.iter().map(|path| {
            Arc::new(Partition {
                table: self.table,
                path: path.clone(),
                columns: columns.clone(),
                schema: schema.clone(),
                reports: self.reports.clone(),
            }) as Arc<dyn PartitionStream>
        });
        Ok(Arc::new(StreamingTableExec::try_new(schema.clone(), partitions.collect(), None, [], false, limit)?))
    }
}

/// One capture's part of a scan.
#[derive(Debug)]
struct Partition {
    table: &'static TableDef,
    path: PathBuf,
    columns: Vec<usize>,
    schema: SchemaRef,
    reports: Reports,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), QUEUED);
        let batches = Batches::new(self.table, &self.columns, self.schema.clone());
        let (table, columns, path, reports) =
            (self.table, self.columns.clone(), self.path.clone(), self.reports.clone());
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            let mut sink = ScanSink { table, columns, batches, sender, failed: None };
            let report = replay(&path, &mut sink)?;
            reports.add(&path, report);
            sink.finish()
        });
        builder.build()
    }
}

fn replay(path: &Path, sink: &mut ScanSink) -> Result<Report> {
    let named = |error: agentsight_formats::Error| DataFusionError::Execution(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| named(error.into()))?;
    let reader = Reader::open(file).map_err(named)?;
    agentsight_replay::replay(reader, &path.to_string_lossy(), sink).map_err(named)
}

/// Takes the rows of one table.
struct ScanSink {
    table: &'static TableDef,
    columns: Vec<usize>,
    batches: Batches,
    sender: Sender<Result<RecordBatch>>,
    failed: Option<DataFusionError>,
}

impl Sink for ScanSink {
    fn wants(&self, table: &TableDef) -> bool {
        table.name == self.table.name
    }

    fn wants_column(&self, table: &TableDef, column: &str) -> bool {
        self.wants(table) && table.column(column).is_some_and(|index| self.columns.contains(&index))
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        if self.batches.push(row) { self.send() } else { ControlFlow::Continue(()) }
    }
}

impl ScanSink {
    /// Hands on what was collected. `Break` when nobody takes it any more.
    fn send(&mut self) -> ControlFlow<()> {
        match self.batches.take() {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(batch)) => match self.sender.blocking_send(Ok(batch)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            },
            Err(error) => {
                self.failed = Some(error.into());
                ControlFlow::Break(())
            }
        }
    }

    fn finish(mut self) -> Result<()> {
        let _ = self.send();
        self.failed.map_or(Ok(()), Err)
    }
}
