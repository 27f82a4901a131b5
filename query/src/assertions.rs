//! Assertions: SQL whose every row is a failure. A file holds one or more statements, each closed by `;`; the comment above a
//! statement is its title.

use crate::{Error, ResultSink, Session};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::LineDelimited;

/// Rows that are kept of a failure; the others are counted.
const KEPT: usize = 20;

/// One statement of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// The comment right above it, its lines joined; empty without one.
    pub title: String,
    pub sql: String,
    /// Line in the file where the statement starts, from 1.
    pub line: u64,
}

/// What an assertion found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Rows as JSON objects, the first ones.
    pub rows: Vec<String>,
    /// How many rows there are besides.
    pub more: u64,
}

/// The assertions of a file's text.
pub fn parse(text: &str) -> Vec<Assertion> {
    let mut found = Vec::new();
    let mut title: Vec<&str> = Vec::new();
    // Where the statement starts that is being read: its first byte and its line.
    let mut begun: Option<(usize, u64)> = None;
    let mut at = 0;
    let mut line = 1;
    let mut close = |title: &mut Vec<&str>, begun: &mut Option<(usize, u64)>, end: usize| {
        if let Some((start, line)) = begun.take() {
            let sql = text.get(start..end).unwrap_or_default().trim().to_owned();
            found.push(Assertion { title: title.join(" ").trim().to_owned(), sql, line });
        }
        title.clear();
    };
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let len = token(rest);
        let Some(this) = rest.get(..len) else { break };
        match (this, begun) {
            (";", _) => close(&mut title, &mut begun, at),
            (_, Some(_)) => {}
            // A line left free ends a comment that belongs to no statement.
            (space, None) if space.trim().is_empty() => {
                if space.matches('\n').count() > 1 {
                    title.clear();
                }
            }
            (comment, None) if comment.starts_with("--") => title.push(comment.trim_start_matches('-').trim()),
            (comment, None) if comment.starts_with("/*") => {
                title =
                    comment.trim_matches(['/', '*']).lines().map(|line| line.trim().trim_start_matches("* ")).collect();
            }
            _ => begun = Some((at, line)),
        }
        line += this.matches('\n').count() as u64;
        at += len;
    }
    close(&mut title, &mut begun, text.len());
    found
}

/// Length of the token at the start of SQL: a comment, a quoted text or name, white space, `;`, or anything between.
fn token(sql: &str) -> usize {
    let until =
        |start: usize, end: &str| sql.get(start..).and_then(|rest| rest.find(end)).map(|at| start + at + end.len());
    let quoted = |quote: &str| until(1, quote).unwrap_or(sql.len());
    match sql.chars().next() {
        _ if sql.starts_with("--") => sql.find('\n').unwrap_or(sql.len()),
        _ if sql.starts_with("/*") => until(2, "*/").unwrap_or(sql.len()),
        Some('\'') => quoted("'"),
        Some('"') => quoted("\""),
        Some(c) if c.is_whitespace() => sql.find(|c: char| !c.is_whitespace()).unwrap_or(sql.len()),
        Some(c) if !(c.is_alphanumeric() || c == '_') => c.len_utf8(),
        _ => sql.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(sql.len()),
    }
}

/// Runs an assertion's SQL.
///
/// # Errors
/// When the SQL is wrong, would change something, or a capture cannot be read.
pub fn run(session: &Session, assertion: &Assertion) -> Result<Found, Error> {
    let mut found = Found::default();
    session.run(&assertion.sql, &mut found)?;
    Ok(found)
}

impl ResultSink for Found {
    fn begin(&mut self, _schema: SchemaRef) -> Result<(), Error> {
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let kept = batch.num_rows().min(KEPT - self.rows.len().min(KEPT));
        self.more += (batch.num_rows() - kept) as u64;
        let mut writer =
            arrow::json::WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch.slice(0, kept))?;
        writer.finish()?;
        self.rows.extend(String::from_utf8_lossy(&writer.into_inner()).lines().map(str::to_owned));
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
