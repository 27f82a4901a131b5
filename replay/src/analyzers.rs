//! The analyzers: who makes which rows. What is replayed is chosen by their names, and their versions stand in the first line
//! of a replay, so that rows that changed can be laid to what changed them.
//!
//! They are stages of one pipeline and no plug-ins: this registry names what there is. A version goes up when the same
//! capture gives other rows than before.

use crate::table::TableDef;
use crate::tables;

/// A stage that makes rows.
#[derive(Debug)]
pub struct Analyzer {
    pub name: &'static str,
    pub version: u32,
    pub doc: &'static str,
    pub tables: &'static [&'static TableDef],
}

/// Every analyzer; a table is of one of them.
pub static ANALYZERS: &[Analyzer] = &[
    of("recording", 1, "what was recorded, and what is missing", &[tables::Capture::TABLE, tables::Dropped::TABLE]),
    of("process", 1, "processes and what they execute", &[tables::Process::TABLE, tables::Exec::TABLE]),
    of("file", 1, "what processes do with files", &[tables::File::TABLE]),
    of("net", 1, "connections and their plaintext", &[tables::Connection::TABLE, tables::TlsData::TABLE]),
    of("dns", 1, "names that are looked up", &[tables::Dns::TABLE]),
    of("stdio", 1, "what goes through standard streams", &[tables::Stdio::TABLE]),
    of("http", 1, "HTTP exchanges and the events they stream", &[tables::Http::TABLE, tables::StreamEvent::TABLE]),
    of("llm", 1, "calls of models, and the tools they ask for", &[tables::LlmCall::TABLE, tables::ToolCall::TABLE]),
    of("metric", 1, "measurements of processes", &[tables::Metric::TABLE]),
];

const fn of(name: &'static str, version: u32, doc: &'static str, tables: &'static [&'static TableDef]) -> Analyzer {
    Analyzer { name, version, doc, tables }
}

/// An analyzer, by its name.
pub fn analyzer(name: &str) -> Option<&'static Analyzer> {
    ANALYZERS.iter().find(|analyzer| analyzer.name == name)
}

/// The analyzer that makes a table.
pub fn of_table(table: &TableDef) -> Option<&'static Analyzer> {
    ANALYZERS.iter().find(|analyzer| analyzer.tables.iter().any(|made| made.name == table.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::TABLES;

    #[test]
    fn every_table_is_of_one_analyzer() {
        for table in TABLES {
            let makers = ANALYZERS.iter().filter(|one| one.tables.iter().any(|made| made.name == table.name));
            assert_eq!(makers.count(), 1, "{}", table.name);
        }
        assert_eq!(ANALYZERS.iter().map(|analyzer| analyzer.tables.len()).sum::<usize>(), TABLES.len());
    }
}
