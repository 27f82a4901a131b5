//! A session: the tables of some captures, and SQL over them. Nothing can be changed with it.

use crate::Error;
use crate::provider::{CaptureTable, Reports};
use agentsight_formats::Reader;
use agentsight_replay::Report;
use agentsight_replay::prices::Prices;
use agentsight_replay::tables::TABLES;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Takes the batches of a result; first its schema, so that an empty result has a header.
pub trait ResultSink {
    /// # Errors
    /// When the output refuses.
    fn begin(&mut self, schema: SchemaRef) -> Result<(), Error>;
    /// # Errors
    /// When the output refuses.
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error>;
    /// # Errors
    /// When the output refuses.
    fn end(&mut self) -> Result<(), Error>;
}

/// SQL over captures.
pub struct Session {
    context: SessionContext,
    runtime: Runtime,
    reports: Reports,
}

impl Session {
    /// Opens captures, which are read again by each query; calls of models cost what `prices` says.
    ///
    /// # Errors
    /// When one of them cannot be opened or is no capture.
    pub fn open(captures: Vec<PathBuf>, prices: Arc<Prices>) -> Result<Self, Error> {
        let mut heads = Vec::new();
        for path in &captures {
            let failed = |source| Error::Capture { path: path.clone(), source };
            let reader = Reader::open(File::open(path).map_err(|error| failed(error.into()))?).map_err(failed)?;
            heads.push(reader.head().clone());
        }
        let named = |files: Vec<usize>| files.into_iter().filter_map(|index| captures.get(index).cloned()).collect();
        let recordings: Vec<Vec<PathBuf>> = agentsight_replay::together(&heads).into_iter().map(named).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().build().map_err(Error::Runtime)?;
        let config = SessionConfig::new().with_information_schema(true);
        let mut context = SessionContext::new_with_config(config);
        datafusion_functions_json::register_all(&mut context)?;
        context.register_udf(create_udf(
            "text",
            vec![DataType::Binary],
            DataType::Utf8,
            Volatility::Immutable,
            Arc::new(text),
        ));
        let reports = Reports::default();
        let recordings = Arc::new(recordings);
        for table in TABLES {
            let provider = CaptureTable {
                table,
                recordings: recordings.clone(),
                reports: reports.clone(),
                prices: prices.clone(),
            };
            context.register_table(table.name, Arc::new(provider))?;
        }
        Ok(Session { context, runtime, reports })
    }

    /// Runs one statement, and hands the result on as it comes.
    ///
    /// # Errors
    /// When the SQL is wrong, would change something, or a capture cannot be read.
    pub fn run(&self, sql: &str, sink: &mut dyn ResultSink) -> Result<(), Error> {
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        self.runtime.block_on(async {
            let frame = self.context.sql_with_options(sql, options).await?;
            let mut stream = frame.execute_stream().await?;
            sink.begin(stream.schema())?;
            while let Some(batch) = stream.next().await {
                sink.batch(&batch?)?;
            }
            sink.end()
        })
    }

    /// How reading went, for each capture that a query has read.
    pub fn reports(&self) -> BTreeMap<PathBuf, Report> {
        self.reports.get()
    }
}

/// `text(bytes)`: bytes as text; what is no UTF-8 is replaced by U+FFFD.
fn text(args: &[ColumnarValue]) -> datafusion::error::Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(args)?;
    let mut builder = StringBuilder::new();
    for bytes in arrays.iter().flat_map(|array: &ArrayRef| array.as_binary::<i32>().iter()) {
        builder.append_option(bytes.map(String::from_utf8_lossy));
    }
    let array: ArrayRef = Arc::new(builder.finish());
    debug_assert_eq!(array.len(), arrays.first().map_or(0, |array| array.len()));
    Ok(ColumnarValue::Array(array))
}
