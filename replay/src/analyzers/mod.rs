//! Analyzers: what is made of a recording, and how to add to it.
//!
//! The stages of the pipeline make rows of records: processes, files, connections, exchanges, calls of models. An **analyzer**
//! makes rows of those rows. It is a type that implements [`Analyzer`], in a file of its own here, and one line in
//! [`ANALYZERS`]; the command line, SQL, golden files and `--list` find it there.
//!
//! ```ignore
//! //! Says which programs were started more than once.
//! #[derive(Default)]
//! pub(super) struct Again {
//!     seen: BTreeSet<String>,
//! }
//!
//! impl Analyzer for Again {
//!     fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
//!         let Some(exec) = row.downcast::<Exec>() else { return };
//!         if !self.seen.insert(exec.executable_path.clone()) {
//!             out(&Finding { rule_id: "started-again", ts: exec.ts, ..Finding::default() });
//!         }
//!     }
//! }
//!
//! // in ANALYZERS:
//! analyzer("again", 1, "programs that were started again", &[Finding::TABLE], reads(&[(Exec::TABLE, &[])]), |_| Box::<Again>::default()),
//! ```
//!
//! - It sees each row of the tables that it reads once, in the order in which they are made: a row is made when the last record
//!   that it depends on is there, so that a call of a model comes at its end, and the processes that still run come last. Tables
//!   that other analyzers make can be read, too, if those stand before it in the registry.
//! - What it makes is handed to `out` at once, and must depend on rows alone: no clock, no randomness, no environment, nothing
//!   of the order of a hash map. Time is that of rows, and timers fire when a row shows that it has come.
//! - What it remembers is bounded: a recording may last for weeks.
//! - Rows say of themselves whether they are whole (`complete`, `body_state`, `args_complete`): what is made of rows that are
//!   not says so, too, or is not made.
//! - One that fills in a column of another table **amends** it: rows of that table then go through the analyzer, which hands
//!   them on to `out`, all of them and in their order. It may hold them back until it knows enough; all that came after them
//!   waits, so that rows stay in the order of events. What it makes after it has handed on a row stands behind that row.
//! - Not every exec was one: of a process that ran already there is a row that says so (`was_running`).
//! - It runs only if somebody wants what it makes; columns that are costly to keep (bodies, data) are there only if it names
//!   them beside the table.
//! - Its version goes up when the same capture gives other rows than before. Names and versions stand in the first line of a
//!   replay, so that rows that changed can be laid to what changed them.

mod causes;
mod chain;
mod commands;
mod credentials;
mod line;
mod loops;
mod mcp;
mod mcp_calls;
mod mcp_tools;
mod models;
mod secrets;
mod unseen;
mod unwatched;

use crate::table::{Row, TableDef};
use crate::tables;
pub(crate) use chain::Chain;
#[cfg(any(fuzzing, test))]
pub(crate) use mcp::fuzz as mcp_fuzz;
use tables::*;

/// Takes the rows that an analyzer makes.
pub type Rows<'a> = dyn FnMut(&dyn Row) + 'a;

/// Makes rows of rows; the module's documentation says how.
pub trait Analyzer {
    /// Takes a row of a table that it reads or amends.
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>);
    /// Too much waits behind rows that are held back: they are handed on with what is known.
    fn relieve(&mut self, _out: &mut Rows<'_>) {}
    /// The recording ends: what was waited for does not come.
    fn finish(&mut self, _out: &mut Rows<'_>) {}
}

/// What an analyzer works on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Tables that are read, each with those of its costly columns that are needed.
    pub reads: &'static [(&'static TableDef, &'static [&'static str])],
    /// Tables that are amended, each with the column that is filled in.
    pub amends: &'static [(&'static TableDef, &'static str)],
}

/// Makes an analyzer for the capture of this id.
pub type Make = fn(capture_id: &str) -> Box<dyn Analyzer>;

/// What makes rows: a stage of the pipeline, or an analyzer.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub version: u32,
    pub doc: &'static str,
    /// What it makes.
    pub tables: &'static [&'static TableDef],
    /// What it works on; a stage works on records.
    pub inputs: Inputs,
    /// A stage is always there.
    make: Option<Make>,
}

/// Every stage and every analyzer. Those that read what others make stand behind them.
pub static ANALYZERS: &[Entry] = &[
    stage("recording", 3, "what was recorded, and what is missing", &[Capture::TABLE, Dropped::TABLE]),
    stage("process", 2, "processes and what they execute", &[Process::TABLE, Exec::TABLE, Descriptor::TABLE]),
    stage("file", 2, "what processes do with files", &[File::TABLE]),
    stage("net", 3, "connections and their plaintext", &[Connection::TABLE, TlsData::TABLE]),
    stage("dns", 2, "names that are looked up", &[Dns::TABLE]),
    stage("stdio", 1, "what goes through standard streams", &[Stdio::TABLE]),
    stage("http", 4, "HTTP exchanges and the events they stream", &[Http::TABLE, StreamEvent::TABLE]),
    stage(
        "llm",
        4,
        "calls of models, what was said in them, and the tools they ask for",
        &[LlmCall::TABLE, LlmMessage::TABLE, LlmCallMessage::TABLE, ToolCall::TABLE],
    ),
    stage("metric", 1, "measurements of processes", &[Metric::TABLE]),
    analyzer(
        "mcp",
        1,
        "what clients and servers of the Model Context Protocol say to each other",
        &[Mcp::TABLE, McpTool::TABLE],
        mcp::READS,
        mcp::Mcp::boxed,
    ),
    analyzer(
        "mcp-calls",
        1,
        "which tool calls went to MCP servers",
        &[Cause::TABLE],
        mcp_calls::INPUTS,
        mcp_calls::McpCalls::boxed,
    ),
    analyzer("causes", 3, "which tool call caused what", &[Cause::TABLE], causes::INPUTS, causes::Causes::boxed),
    analyzer(
        "mcp-tools",
        1,
        "MCP tools that are not what they were",
        &[Finding::TABLE],
        mcp_tools::READS,
        mcp_tools::McpTools::boxed,
    ),
    analyzer("models", 1, "models that are not what was asked for", &[Finding::TABLE], models::READS, |_| {
        Box::new(models::Models)
    }),
    analyzer(
        "commands",
        2,
        "commands that destroy something, or let somebody elsewhere in",
        &[Finding::TABLE],
        commands::READS,
        commands::Commands::boxed,
    ),
    analyzer(
        "credentials",
        1,
        "files with credentials that are read, or read and sent",
        &[Finding::TABLE],
        credentials::READS,
        credentials::Credentials::boxed,
    ),
    analyzer(
        "secrets",
        1,
        "secrets that are sent to a model",
        &[Finding::TABLE],
        secrets::READS,
        secrets::Secrets::boxed,
    ),
    analyzer("loops", 1, "agents that go round in circles", &[Finding::TABLE], loops::READS, loops::Loops::boxed),
    analyzer("unseen", 2, "TLS without its plaintext", &[Finding::TABLE], unseen::READS, unseen::Unseen::boxed),
    analyzer(
        "unwatched",
        1,
        "processes that do what is not watched",
        &[Finding::TABLE],
        unwatched::READS,
        unwatched::Unwatched::boxed,
    ),
];

const fn stage(name: &'static str, version: u32, doc: &'static str, tables: &'static [&'static TableDef]) -> Entry {
    Entry { name, version, doc, tables, inputs: Inputs { reads: &[], amends: &[] }, make: None }
}

const fn analyzer(
    name: &'static str,
    version: u32,
    doc: &'static str,
    tables: &'static [&'static TableDef],
    inputs: Inputs,
    make: Make,
) -> Entry {
    Entry { name, version, doc, tables, inputs, make: Some(make) }
}

/// Inputs that are read, and none amended.
const fn reads(reads: &'static [(&'static TableDef, &'static [&'static str])]) -> Inputs {
    Inputs { reads, amends: &[] }
}

/// A stage or an analyzer, by its name.
pub fn by_name(name: &str) -> Option<&'static Entry> {
    ANALYZERS.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_made_and_whoever_reads_it_stands_behind() {
        for table in TABLES {
            let makes = |entry: &Entry| entry.tables.iter().any(|made| made.name == table.name);
            let makers: Vec<_> = (0..ANALYZERS.len()).filter(|index| makes(&ANALYZERS[*index])).collect();
            assert!(!makers.is_empty(), "{} is made by nobody", table.name);
            let shared = [Finding::TABLE.name, Cause::TABLE.name].contains(&table.name);
            assert!(makers.len() == 1 || shared, "{} is made by several", table.name);
            for (index, entry) in ANALYZERS.iter().enumerate() {
                let read = entry.inputs.reads.iter().any(|(read, _)| read.name == table.name);
                assert!(!read || makers.iter().all(|maker| *maker < index), "{} before {}", entry.name, table.name);
            }
        }
    }

    #[test]
    fn the_columns_that_are_named_are_there() {
        for entry in ANALYZERS {
            let read =
                entry.inputs.reads.iter().flat_map(|(table, columns)| columns.iter().map(move |name| (table, name)));
            let amended = entry.inputs.amends.iter().map(|(table, column)| (table, column));
            for (table, column) in read.chain(amended) {
                assert!(table.column(column).is_some(), "{}: {}.{column}", entry.name, table.name);
            }
        }
    }
}
