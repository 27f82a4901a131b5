//! Tables of captures for DataFusion. A scan replays each recording (a capture, or the files of a rotated one) on a thread of
//! its own, decodes the columns that the query reads, and stops when the query has enough.

use crate::batch::{self, Batches};
use agentsight_formats::Reader;
use agentsight_replay::prices::Prices;
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
    /// The files of each recording, in their order.
    pub recordings: Arc<Vec<Vec<PathBuf>>>,
    pub reports: Reports,
    pub prices: Arc<Prices>,
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
        let partitions = self.recordings.iter().map(|files| {
            Arc::new(Partition {
                table: self.table,
                files: files.clone(),
                columns: columns.clone(),
                schema: schema.clone(),
                reports: self.reports.clone(),
                prices: self.prices.clone(),
            }) as Arc<dyn PartitionStream>
        });
        Ok(Arc::new(StreamingTableExec::try_new(schema.clone(), partitions.collect(), None, [], false, limit)?))
    }
}

/// One recording's part of a scan.
#[derive(Debug)]
struct Partition {
    table: &'static TableDef,
    files: Vec<PathBuf>,
    columns: Vec<usize>,
    schema: SchemaRef,
    reports: Reports,
    prices: Arc<Prices>,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(self.schema.clone(), QUEUED);
        let batches = Batches::new(self.table, &self.columns, self.schema.clone());
        let (table, columns, files, reports) =
            (self.table, self.columns.clone(), self.files.clone(), self.reports.clone());
        let prices = self.prices.clone();
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            let mut sink = ScanSink { table, columns, batches, sender, prices, failed: None };
            let found = replay(&files, &mut sink)?;
            files.iter().zip(found).for_each(|(path, report)| reports.add(path, report));
            sink.finish()
        });
        builder.build()
    }
}

fn replay(files: &[PathBuf], sink: &mut ScanSink) -> Result<Vec<Report>> {
    let names: Vec<String> = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut open = |index: usize| {
        let path = files.get(index).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        Reader::open(File::open(path)?)
    };
    agentsight_replay::replay(&names, &mut open, sink).map_err(|error| DataFusionError::Execution(error.to_string()))
}

/// Takes the rows of one table.
struct ScanSink {
    table: &'static TableDef,
    columns: Vec<usize>,
    batches: Batches,
    sender: Sender<Result<RecordBatch>>,
    prices: Arc<Prices>,
    failed: Option<DataFusionError>,
}

impl Sink for ScanSink {
    fn wants(&self, table: &TableDef) -> bool {
        table.name == self.table.name
    }

    fn wants_column(&self, table: &TableDef, column: &str) -> bool {
        self.wants(table) && table.column(column).is_some_and(|index| self.columns.contains(&index))
    }

    fn prices(&self) -> Arc<Prices> {
        self.prices.clone()
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
