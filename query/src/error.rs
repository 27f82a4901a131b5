//! Errors of queries. A name that is not known is answered with the nearest ones that are.

use agentsight_replay::nearest::{did_you_mean, nearest};
use agentsight_replay::tables::TABLES;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Capture { path: PathBuf, source: agentsight_formats::Error },
    #[error("no table `{name}`{}; `agentsight query --tables` lists them", did_you_mean(.near))]
    NoTable { name: String, near: Vec<String> },
    #[error("no column `{name}`{}; `agentsight query --schema TABLE` lists them", did_you_mean(.near))]
    NoColumn { name: String, near: Vec<String> },
    #[error("{0}")]
    Query(String),
    #[error("cannot start the query engine: {0}")]
    Runtime(std::io::Error),
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
    #[error("cannot write the result: {0}")]
    Format(String),
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        let root = error.find_root();
        if let DataFusionError::SchemaError(schema, _) = root
            && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
        {
            let known = valid_fields.iter().map(|column| column.name.as_str());
            return Error::NoColumn { near: nearest(&field.name, known), name: field.name.clone() };
        }
        let text = root.strip_backtrace();
        if let Some(name) = missing_table(&text) {
            return Error::NoTable { near: nearest(&name, TABLES.iter().map(|table| table.name)), name };
        }
        Error::Query(text)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, error) => Error::Output(error),
            other => Error::Format(other.to_string()),
        }
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Error::Format(error.to_string())
    }
}

/// DataFusion says this one in prose: `table 'datafusion.public.calls' not found`.
fn missing_table(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("table '")?;
    let (name, _) = rest.split_once("' not found")?;
    Some(name.rsplit('.').next().unwrap_or(name).to_owned())
}
