//! Golden rows: what a replay gave when somebody found it right. A file per table, `TABLE.ndjson`, a row a line, with the
//! columns that the policy compares and no other: what is ignored would change the file at every blessing.
//!
//! Two files are compared in two passes. The first keeps of each row its place and a hash; rows are read again only where they
//! differ, so that memory does not grow with what the rows hold.

use super::align::{self, Alignment, Entry};
use super::policy::{Rule, TableRules};
use super::{Outcome, Problem};
use crate::json;
use crate::table::Row;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, Seek, SeekFrom, Write};

/// Numbers of a golden row and of the row that it became; `None` where one of them is without its like.
type Pair = (Option<usize>, Option<usize>);

/// Problems of a table that are told; the others are counted.
const TOLD: usize = 20;

/// Rows are paired by how alike they are up to so many comparisons; beyond, by their order.
const MAX_COMPARED: usize = 10_000;

/// Characters of a value that are shown.
const SHOWN: usize = 120;

/// Why two files could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("line {line} is no golden row ({reason})")]
    Line { line: usize, reason: String },
}

/// Name of a table's golden file.
pub fn file_name(table: &str) -> String {
    format!("{table}.ndjson")
}

/// Writes a row as golden files hold it.
///
/// # Errors
/// When `out` refuses.
pub fn write(rules: &TableRules, row: &dyn Row, out: &mut impl Write) -> io::Result<()> {
    json::cells(row, &rules.columns(), out)
}

/// Compares the golden rows of a table, whose file is called `file`, with those that were seen.
///
/// # Errors
/// When either cannot be read, or a golden line is no row.
pub fn compare(
    rules: &TableRules,
    file: &str,
    golden: &mut (impl BufRead + Seek),
    seen: &mut (impl BufRead + Seek),
) -> Result<Outcome, Error> {
    let mut outcome = Outcome {
        kind: "golden",
        name: rules.table.name.to_owned(),
        file: file.to_owned(),
        line: 1,
        ..Outcome::default()
    };
    let columns = columns_in_common(rules, golden, &mut outcome)?;
    let entries = (index(golden, &columns)?, index(seen, &columns)?);
    let alignment = align::align(&entries.0, &entries.1, rules.set);
    let mut files = Files { golden, seen, entries: &entries, columns: &columns };
    files.tell(&alignment, rules.set, &mut outcome)?;
    Ok(outcome)
}

/// A column that is compared.
type Compared = (&'static str, Rule);

/// The columns that the policy compares and the golden rows have. It is told if that is not all of either.
fn columns_in_common(
    rules: &TableRules,
    golden: &mut (impl BufRead + Seek),
    outcome: &mut Outcome,
) -> Result<Vec<Compared>, Error> {
    let all = rules.columns().into_iter().map(|index| (rules.table.columns[index].name, rules.rule(index)));
    golden.seek(SeekFrom::Start(0))?;
    let mut first = String::new();
    if golden.read_line(&mut first)? == 0 {
        return Ok(all.collect());
    }
    let first = parse(&first, 1)?;
    let known = |key: &&String| rules.table.column(key).is_none();
    let gone = first.keys().filter(known).map(|key| (key.as_str(), "the table has no such column any more"));
    let (common, new): (Vec<_>, Vec<_>) = all.partition(|(name, _)| first.contains_key(*name));
    let new = new.iter().map(|(name, _)| (*name, "it is compared, but the golden rows do not have it"));
    outcome.problems.extend(gone.chain(new).map(|(column, why)| Problem {
        line: 1,
        title: format!("column {column}: {why}; bless again"),
        detail: String::new(),
    }));
    Ok(common)
}

fn parse(line: &str, number: usize) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(line).map_err(|error| Error::Line { line: number, reason: error.to_string() })
}

/// Reads a file's rows, and keeps what is needed to put them together.
fn index(file: &mut (impl BufRead + Seek), columns: &[Compared]) -> Result<Vec<Entry>, Error> {
    let mut offset = file.seek(SeekFrom::Start(0))?;
    let mut entries = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        let len = file.read_line(&mut line)?;
        if len == 0 {
            return Ok(entries);
        }
        let row = parse(&line, entries.len() + 1)?;
        entries.push(entry(&row, columns, offset));
        offset += len as u64;
    }
}

fn entry(row: &Map<String, Value>, columns: &[Compared], offset: u64) -> Entry {
    let mut hash = Sha256::new();
    let mut loose = Vec::new();
    for (name, rule) in columns {
        let number = row.get(*name).and_then(Value::as_f64).filter(|_| is_loose(rule));
        if is_loose(rule) {
            loose.push(number.unwrap_or(f64::NAN));
        }
        match number {
            Some(_) => hash.update(b"#"),
            None => hash.update(text(row.get(*name), *rule)),
        }
        // Stands in no JSON text.
        hash.update([0]);
    }
    let mut key = [0; 16];
    key.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    Entry { offset, key: u128::from_be_bytes(key), loose }
}

/// A value as JSON; of a list whose order does not count, sorted.
fn text(value: Option<&Value>, rule: Rule) -> String {
    match value {
        None => "(absent)".to_owned(),
        Some(Value::Array(items)) if rule == Rule::Set => {
            let mut items: Vec<_> = items.iter().map(Value::to_string).collect();
            items.sort_unstable();
            format!("[{}]", items.join(","))
        }
        Some(value) => value.to_string(),
    }
}

fn is_loose(rule: &Rule) -> bool {
    matches!(rule, Rule::Absolute(_) | Rule::Relative(_))
}

fn close_enough(rule: Rule, golden: Option<f64>, seen: Option<f64>) -> bool {
    let Some((golden, seen)) = golden.zip(seen) else { return false };
    match rule {
        Rule::Absolute(tolerance) => (golden - seen).abs() <= tolerance,
        Rule::Relative(tolerance) => (golden - seen).abs() <= tolerance * golden.abs(),
        _ => false,
    }
}

/// Both files, to read again the rows that differ.
struct Files<'f, G, S> {
    golden: &'f mut G,
    seen: &'f mut S,
    entries: &'f (Vec<Entry>, Vec<Entry>),
    columns: &'f [Compared],
}

impl<G: BufRead + Seek, S: BufRead + Seek> Files<'_, G, S> {
    fn tell(&mut self, alignment: &Alignment, set: bool, outcome: &mut Outcome) -> Result<(), Error> {
        let mut found = Vec::new();
        for (golden, seen) in &alignment.equal {
            if !self.within_tolerance(*golden, *seen) {
                found.push((Some(*golden), Some(*seen)));
            }
        }
        for (golden, seen) in &alignment.gaps {
            found.extend(self.pairs(golden, seen, set)?);
        }
        found.sort_by_key(|(golden, seen)| (golden.or(*seen), golden.is_none()));
        let told = found.len().min(TOLD);
        outcome.more += (found.len() - told) as u64;
        for pair in &found[..told] {
            outcome.problems.push(self.problem(*pair)?);
        }
        Ok(())
    }

    fn within_tolerance(&self, golden: usize, seen: usize) -> bool {
        let rules = self.columns.iter().map(|(_, rule)| *rule).filter(is_loose);
        let numbers = self.entries.0[golden].loose.iter().zip(&self.entries.1[seen].loose);
        // Where one is null both are, or the keys would not be equal.
        let mut pairs = rules.zip(numbers).filter(|(_, (golden, _))| !golden.is_nan());
        pairs.all(|(rule, (golden, seen))| close_enough(rule, Some(*golden), Some(*seen)))
    }

    /// Puts rows together that are without their equals: which became which, and which are only on one side.
    fn pairs(&mut self, golden: &[usize], seen: &[usize], set: bool) -> Result<Vec<Pair>, Error> {
        if golden.len() * seen.len() > MAX_COMPARED || !set && golden.len() == seen.len() {
            let rows = 0..golden.len().max(seen.len());
            return Ok(rows.map(|row| (golden.get(row).copied(), seen.get(row).copied())).collect());
        }
        let columns = self.columns;
        let texts = |rows: Vec<Map<String, Value>>| -> Vec<Vec<String>> {
            let of_row = |row| columns.iter().map(move |(name, rule)| text(Map::get(row, *name), *rule));
            rows.iter().map(|row| of_row(row).collect()).collect()
        };
        let left = golden.iter().map(|row| read(self.golden, &self.entries.0, *row)).collect::<Result<_, _>>()?;
        let right = seen.iter().map(|row| read(self.seen, &self.entries.1, *row)).collect::<Result<_, _>>()?;
        let (left, right) = (texts(left), texts(right));
        let mut alike = Vec::new();
        for (i, a) in left.iter().enumerate() {
            for (j, b) in right.iter().enumerate() {
                let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
                if 2 * equal >= self.columns.len() {
                    alike.push((usize::MAX - equal, i, j));
                }
            }
        }
        alike.sort_unstable();
        let (mut of_left, mut of_right) = (vec![None; golden.len()], vec![false; seen.len()]);
        for (_, i, j) in alike {
            if of_left[i].is_none() && !of_right[j] {
                of_left[i] = Some(seen[j]);
                of_right[j] = true;
            }
        }
        let changed = golden.iter().zip(of_left).map(|(golden, seen)| (Some(*golden), seen));
        let extra = seen.iter().zip(of_right).filter(|(_, taken)| !taken).map(|(seen, _)| (None, Some(*seen)));
        Ok(changed.chain(extra).collect())
    }

    fn problem(&mut self, pair: (Option<usize>, Option<usize>)) -> Result<Problem, Error> {
        let golden = pair.0.map(|row| read(self.golden, &self.entries.0, row)).transpose()?;
        let seen = pair.1.map(|row| read(self.seen, &self.entries.1, row)).transpose()?;
        let number = |row: Option<usize>| row.map_or(0, |row| row + 1);
        let (at, seen_at) = (number(pair.0), number(pair.1));
        let cut = |row: Map<String, Value>| excerpt(&Value::Object(row).to_string(), 0, 2 * SHOWN);
        Ok(match (golden, seen) {
            (Some(golden), Some(seen)) => {
                let (names, detail) = self.differences(&golden, &seen);
                let moved = if at == seen_at { String::new() } else { format!(" (seen as row {seen_at})") };
                let title = format!("row {at}{moved} differs in {}", names.join(", "));
                Problem { line: at as u64, title, detail }
            }
            (Some(golden), None) => {
                let title = format!("row {at} is missing");
                Problem { line: at as u64, title, detail: format!("expected {}", cut(golden)) }
            }
            (None, seen) => {
                let title = format!("row {seen_at} of those seen was not expected");
                Problem { line: 1, title, detail: format!("seen {}", seen.map(cut).unwrap_or_default()) }
            }
        })
    }

    /// The columns in which two rows differ, and how.
    fn differences(&self, golden: &Map<String, Value>, seen: &Map<String, Value>) -> (Vec<&'static str>, String) {
        let mut names = Vec::new();
        let mut lines = Vec::new();
        for (name, rule) in self.columns {
            let (golden, seen) = (golden.get(*name), seen.get(*name));
            let number = |value: Option<&Value>| value.and_then(Value::as_f64);
            let (expected, got) = (text(golden, *rule), text(seen, *rule));
            if expected == got || close_enough(*rule, number(golden), number(seen)) {
                continue;
            }
            let same = expected.chars().zip(got.chars()).take_while(|(a, b)| a == b).count();
            let from =
                if expected.chars().count().max(got.chars().count()) > SHOWN { same.saturating_sub(20) } else { 0 };
            let allowed = match rule {
                Rule::Absolute(tolerance) => format!(" (±{tolerance})"),
                Rule::Relative(tolerance) => format!(" (±{}%)", tolerance * 100.0),
                _ => String::new(),
            };
            names.push(*name);
            lines.push(format!("{name}: expected {}{allowed}", excerpt(&expected, from, SHOWN)));
            lines.push(format!("{:>width$} {}", "seen", excerpt(&got, from, SHOWN), width = name.chars().count() + 10));
        }
        (names, lines.join("\n"))
    }
}

/// Reads a row again.
fn read(file: &mut (impl BufRead + Seek), entries: &[Entry], row: usize) -> Result<Map<String, Value>, Error> {
    file.seek(SeekFrom::Start(entries.get(row).map_or(0, |entry| entry.offset)))?;
    let mut line = String::new();
    file.read_line(&mut line)?;
    parse(&line, row + 1)
}

/// So many characters from one on; `…` stands for what is left out.
fn excerpt(text: &str, from: usize, count: usize) -> String {
    let mut rest = text.chars().skip(from);
    let shown: String = rest.by_ref().take(count).collect();
    format!("{}{shown}{}", if from > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::policy::Policy;
    use crate::tables::LlmCall;
    use std::io::Cursor;

    /// Compares rows of `llm_calls` with all columns exact but those named; a row is its id, its model and its output tokens.
    fn compared(columns: &str, order: &str, golden: &[&str], seen: &[&str]) -> Vec<(u64, String, String)> {
        let policy = format!(
            r#"{{"default": "exact", "tables": {{"llm_calls": {{"order": "{order}", "columns": {columns}}}}}}}"#
        );
        let policy = Policy::parse(&policy).unwrap();
        let rules = policy.table(LlmCall::TABLE).unwrap();
        let file = |rows: &[&str]| {
            let mut out = Vec::new();
            for row in rows {
                let [id, model, tokens] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
                let row = LlmCall {
                    llm_call_id: id.parse().unwrap(),
                    request_model: Some(model.to_owned()),
                    output_tokens: tokens.parse().ok(),
                    ..LlmCall::default()
                };
                write(rules, &row, &mut out).unwrap();
            }
            Cursor::new(out)
        };
        let outcome = compare(rules, "llm_calls.ndjson", &mut file(golden), &mut file(seen)).unwrap();
        let told = |problem: Problem| (problem.line, problem.title, problem.detail.chars().take(60).collect());
        outcome.problems.into_iter().map(told).collect()
    }

    fn problem(line: u64, title: &str, detail: &str) -> (u64, String, String) {
        (line, title.to_owned(), detail.to_owned())
    }

    #[test]
    fn a_difference_names_row_column_expected_and_seen() {
        let found = compared("{}", "rows", &["1 a 5", "2 b 6"], &["1 a 5", "2 b 7"]);
        let detail = "output_tokens: expected 6\n                   seen 7";
        assert_eq!(found, [problem(2, "row 2 differs in output_tokens", detail)]);
    }

    #[test]
    fn ignored_columns_are_neither_kept_nor_compared() {
        assert_eq!(compared(r#"{"output_tokens": "ignored"}"#, "rows", &["1 a 5"], &["1 a 6"]), []);
    }

    #[test]
    fn a_tolerance_is_absolute_or_of_what_is_expected() {
        let tolerance = |text: &str| format!(r#"{{"output_tokens": {{"tolerance": {text}}}}}"#);
        assert_eq!(compared(&tolerance("2"), "rows", &["1 a 5", "2 b -"], &["1 a 7", "2 b -"]), []);
        assert_eq!(compared(&tolerance("\"10%\""), "set", &["1 a 100", "1 a 200"], &["1 a 205", "1 a 91"]), []);
        let found = compared(&tolerance("2"), "rows", &["1 a 5"], &["1 a 8"]);
        let detail = "output_tokens: expected 5 (±2)\n                   seen 8";
        assert_eq!(found, [problem(1, "row 1 differs in output_tokens", detail)]);
        assert_eq!(compared(&tolerance("2"), "rows", &["1 a -"], &["1 a 8"]).len(), 1);
    }

    #[test]
    fn rows_are_missing_or_unexpected() {
        let found = compared("{}", "rows", &["1 a 5", "2 b 6", "3 c 7"], &["1 a 5", "3 c 7"]);
        assert_eq!((found.len(), found[0].1.as_str()), (1, "row 2 is missing"));
        let found = compared("{}", "rows", &["1 a 5"], &["1 a 5", "2 b 6"]);
        assert_eq!((found.len(), found[0].1.as_str()), (1, "row 2 of those seen was not expected"));
    }

    #[test]
    fn as_a_set_rows_may_come_in_any_order() {
        assert_eq!(compared("{}", "set", &["1 a 5", "2 b 6"], &["2 b 6", "1 a 5"]), []);
        assert_eq!(compared("{}", "rows", &["1 a 5", "2 b 6"], &["2 b 6", "1 a 5"]).len(), 2);
        let found = compared("{}", "set", &["1 a 5", "2 b 6"], &["2 b 7", "1 a 5"]);
        assert_eq!(found[0].1, "row 2 (seen as row 1) differs in output_tokens");
    }

    #[test]
    fn columns_that_came_or_went_are_told_once() {
        let rules = Policy::default();
        let rules = rules.table(LlmCall::TABLE).unwrap();
        let mut golden = Cursor::new("{\"wire_api\":\"\",\"was\":1}\n{\"wire_api\":\"\",\"was\":1}\n");
        let mut seen = Vec::new();
        for _ in 0..2 {
            write(rules, &LlmCall::default(), &mut seen).unwrap();
        }
        let outcome = compare(rules, "f", &mut golden, &mut Cursor::new(seen)).unwrap();
        let titles: Vec<_> = outcome.problems.iter().map(|problem| problem.title.as_str()).collect();
        assert_eq!(titles[0], "column was: the table has no such column any more; bless again");
        assert_eq!(titles[1], "column provider_name: it is compared, but the golden rows do not have it; bless again");
        assert_eq!(titles.len(), 1 + rules.columns().len() - 1);
        let error = compare(rules, "f", &mut Cursor::new("{}\nx\n"), &mut Cursor::new("")).unwrap_err().to_string();
        assert_eq!(error, "line 2 is no golden row (expected value at line 1 column 1)");
    }
}
