//! Errors of queries. A name that is not known is answered with the nearest ones that are.

use agentsight_replay::tables::TABLES;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Capture { path: PathBuf, source: agentsight_formats::Error },
    #[error("no table `{name}`{}; `agentsight query --tables` lists them", nearest(.near))]
    NoTable { name: String, near: Vec<String> },
    #[error("no column `{name}`{}; `agentsight query --schema TABLE` lists them", nearest(.near))]
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

fn nearest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(", ")) }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        let root = error.find_root();
        if let DataFusionError::SchemaError(schema, _) = root
            && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
        {
            let known = valid_fields.iter().map(|column| column.name.clone());
            return Error::NoColumn { near: near(&field.name, known), name: field.name.clone() };
        }
        let text = root.strip_backtrace();
        if let Some(name) = missing_table(&text) {
            let known = TABLES.iter().map(|table| table.name.to_owned());
            return Error::NoTable { near: near(&name, known), name };
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

/// The names that are most like a name, the most like first.
fn near(name: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    let name = name.to_lowercase();
    // `modle` is meant for `request_model`: the parts of a name count as well as the whole.
    let score = |known: &str| {
        let parts = known.split('_').map(|part| 0.95 * strsim::jaro_winkler(&name, part));
        parts.fold(strsim::jaro_winkler(&name, known), f64::max)
    };
    let mut scored: Vec<(f64, String)> = known
        .map(|known| (score(&known.to_lowercase()), known))
        .filter(|(score, known)| *score > 0.8 || known.contains(&name))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, known)| known).collect()
}
