//! `replay --assert`: SQL whose every row is a failure.

use crate::query;
use agentsight_query::assertions::{Assertion, Found};
use agentsight_query::{Session, assertions};
use agentsight_replay::check::{Outcome, Problem};
use agentsight_replay::prices::Prices;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs the assertions of some files and folders. Returns what became of each, and whether something is missing from the
/// captures.
pub fn run(named: &[PathBuf], captures: Vec<PathBuf>, prices: Arc<Prices>) -> Result<(Vec<Outcome>, bool), String> {
    let mut files = Vec::new();
    for path in named {
        files.extend(expand(path)?);
    }
    let session = Session::open(captures, prices).map_err(|error| error.to_string())?;
    let mut outcomes = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let parsed = assertions::parse(&text);
        if parsed.is_empty() {
            return Err(format!("{}: no SQL in it", file.display()));
        }
        for assertion in parsed {
            let found = assertions::run(&session, &assertion)
                .map_err(|error| format!("{}:{}: {error}", file.display(), assertion.line))?;
            outcomes.push(outcome(&file, assertion, found));
        }
    }
    let mut lossy = false;
    for (path, report) in session.reports() {
        lossy |= report.lossy();
        query::warn(&path, &report);
    }
    Ok((outcomes, lossy))
}

fn outcome(file: &Path, assertion: Assertion, found: Found) -> Outcome {
    let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let problem = |row| Problem { line: assertion.line, title: row, detail: String::new() };
    Outcome {
        kind: "assert",
        name: if assertion.title.is_empty() { stem() } else { assertion.title },
        file: file.to_string_lossy().into_owned(),
        line: assertion.line,
        problems: found.rows.into_iter().map(problem).collect(),
        more: found.more,
    }
}

/// A file; or the `*.sql` of a folder, by name.
fn expand(path: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(named)?.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "sql")).collect();
    files.sort();
    if files.is_empty() { Err(format!("{}: no *.sql in this folder", path.display())) } else { Ok(files) }
}
