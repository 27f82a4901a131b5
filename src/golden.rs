//! `replay --bless` and `--check`: golden rows in a folder, a file per table, and the policy beside them.
//!
//! Either way the recording is replayed once, into a temporary folder; tables are then compared, or put in place, one by one.

use crate::inputs::Recording;
use crate::{query, replay, say};
use agentsight_replay::Sink;
use agentsight_replay::analyzers::Entry;
use agentsight_replay::check::policy::{Policy, Rule, TableRules};
use agentsight_replay::check::{Outcome, golden};
use agentsight_replay::prices::Prices;
use agentsight_replay::span;
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::tables::TABLES;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What was pinned when the golden rows were made.
const PINNED: &str = "pinned.json";

/// What is blessed, or checked, and how.
pub struct Golden<'a> {
    pub folder: &'a Path,
    policy: Policy,
    selection: &'a replay::Selection,
    pub recording: &'a Recording,
}

impl<'a> Golden<'a> {
    /// `policy` is a file; without one, the folder's `policy.json`; without that, the defaults hold.
    pub fn open(
        folder: &'a Path,
        policy: Option<&Path>,
        selection: &'a replay::Selection,
        recording: &'a Recording,
    ) -> Result<Self, String> {
        let beside = folder.join("policy.json");
        let file = policy.or(Some(&beside).filter(|path| path.exists()).map(PathBuf::as_path));
        let policy = match file {
            None => Policy::default(),
            Some(path) => {
                let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
                Policy::parse(&text).map_err(|error| named(&error))?
            }
        };
        let golden = Golden { folder, policy, selection, recording };
        // A table that is asked for by name is not left out in silence.
        let mut named = selection.tables.iter().filter(|_| selection.by_name);
        match named.find(|table| golden.rules(table).is_none()) {
            None => Ok(golden),
            Some(table) => Err(format!(
                "the policy ignores the table {0}; to compare it, write {{\"tables\": {{\"{0}\": {{}}}}}} into {1}",
                table.name,
                beside.display()
            )),
        }
    }

    /// The rules of a table that is compared.
    fn rules(&self, table: &TableDef) -> Option<&TableRules> {
        let chosen = self.selection.has(table);
        self.policy.table(table).filter(|rules| chosen && !rules.ignored)
    }

    fn file(&self, table: &TableDef) -> PathBuf {
        self.folder.join(golden::file_name(table.name))
    }

    /// Takes today's rows as the right ones. Returns how many tables there are, and whether something is missing from the
    /// capture.
    pub fn bless(&self) -> Result<(usize, bool), String> {
        let tables: Vec<_> = TABLES.iter().copied().filter(|table| self.rules(table).is_some()).collect();
        let (seen, lossy) = self.replay(&tables)?;
        let named = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(self.folder).map_err(|error| named(self.folder, error))?;
        for table in &tables {
            let (from, to) = (seen.path().join(table.name), self.file(table));
            std::fs::copy(from, &to).map_err(|error| named(&to, error))?;
        }
        let pinned = self.folder.join(PINNED);
        std::fs::write(&pinned, format!("{}\n", self.selection.pinned())).map_err(|error| named(&pinned, error))?;
        // Of a table that is not compared any more nothing is left; but one that was not asked for stays.
        for table in TABLES.iter().filter(|table| !self.selection.by_name && self.rules(table).is_none()) {
            let _ = std::fs::remove_file(self.file(table));
        }
        Ok((tables.len(), lossy))
    }

    /// Compares, table by table. Returns what became of each, and whether something is missing from the capture.
    pub fn check(&self) -> Result<(Vec<Outcome>, bool), String> {
        let compared = TABLES.iter().copied().filter(|table| self.rules(table).is_some());
        // A table that came with a newer version of this program is none that somebody has blessed.
        let (tables, without): (Vec<_>, Vec<_>) = compared.partition(|table| self.file(table).exists());
        let (folder, missing) = (self.folder.display(), without.first().filter(|_| self.selection.by_name));
        if let Some(table) = missing {
            return Err(format!("{folder} has no golden rows of {}: make them with --bless {folder}", table.name));
        }
        if tables.is_empty() {
            return Err(format!("{folder} holds no golden rows: make them with --bless {folder}"));
        }
        let (seen, lossy) = self.replay(&tables)?;
        let mut outcomes = Vec::new();
        for table in tables {
            let Some(rules) = self.rules(table) else { continue };
            let path = self.file(table);
            let named = |error: golden::Error| format!("{}: {error}", path.display());
            let open = |path: &Path| File::open(path).map(BufReader::new).map_err(|error| named(error.into()));
            let (mut golden_rows, mut seen_rows) = (open(&path)?, open(&seen.path().join(table.name))?);
            let file = path.to_string_lossy();
            outcomes.push(golden::compare(rules, &file, &mut golden_rows, &mut seen_rows).map_err(named)?);
        }
        Ok((outcomes, lossy))
    }

    /// Says so when the golden rows were made by other versions: a difference may come of that.
    pub fn tell_versions(&self) {
        let text = std::fs::read_to_string(self.folder.join(PINNED)).unwrap_or_default();
        let Ok(before) = serde_json::from_str::<serde_json::Value>(&text) else { return };
        let now = self.selection.pinned();
        for (what, old) in before["analyzers"].as_object().into_iter().flatten() {
            if let Some(new) = now["analyzers"].get(what).filter(|new| *new != old) {
                say(format_args!("the golden rows are of version {old} of the analyzer {what}; this is {new}"));
            }
        }
        if before["agentsight"] != now["agentsight"] {
            say(format_args!(
                "the golden rows are of agentsight {}; this is {}",
                before["agentsight"], now["agentsight"]
            ));
        }
    }

    /// Replays the recording into a folder, a file per table.
    fn replay(&self, tables: &[&'static TableDef]) -> Result<(TempDir, bool), String> {
        let failed = |error: io::Error| format!("cannot write into the temporary folder: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let mut files = BTreeMap::new();
        for table in tables {
            let file = File::create(folder.path().join(table.name)).map_err(failed)?;
            files.insert(table.name, BufWriter::new(file));
        }
        let window = self.selection.window(self.recording.start)?;
        let mut sink = Spool { golden: self, window, files, failed: None };
        let reports = self.recording.replay(&mut sink)?;
        let flushed = sink.files.values_mut().try_for_each(Write::flush);
        sink.failed.map_or(flushed, Err).map_err(failed)?;
        self.recording.files.iter().zip(&reports).for_each(|(path, report)| query::warn(path, report));
        Ok((folder, reports.iter().any(|report| report.lossy())))
    }
}

struct Spool<'g> {
    golden: &'g Golden<'g>,
    window: replay::Window,
    files: BTreeMap<&'static str, BufWriter<File>>,
    failed: Option<io::Error>,
}

impl Sink for Spool<'_> {
    fn wants(&self, table: &TableDef) -> bool {
        self.files.contains_key(table.name)
    }

    fn wants_column(&self, table: &TableDef, column: &str) -> bool {
        let rules = self.golden.rules(table).zip(table.column(column));
        rules.is_some_and(|(rules, column)| rules.rule(column) != Rule::Ignored)
    }

    fn wants_analyzer(&self, entry: &Entry) -> bool {
        self.golden.selection.has_analyzer(entry)
    }

    fn prices(&self) -> Arc<Prices> {
        self.golden.selection.prices.clone()
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        let table = row.table();
        let Some((rules, file)) = self.golden.rules(table).zip(self.files.get_mut(table.name)) else {
            return ControlFlow::Continue(());
        };
        if span::of(row).within(self.window.0, self.window.1)
            && let Err(error) = golden::write(rules, row, file)
        {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
