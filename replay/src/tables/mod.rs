//! The tables, one definition each. Times are UTC; durations are `_ns`; ids are BIGINT or VARCHAR; every table starts with
//! `capture_id`, and joins are on `(capture_id, id)`. A row that was built from bytes with a gap, a truncation or a lost
//! record says so.

mod causes;
mod findings;
mod http;
mod io;
mod llm;
mod machine;
mod mcp;
mod network;

use crate::table::TableDef;
pub use causes::Cause;
pub use findings::Finding;
pub use http::{Http, StreamEvent};
pub use io::{File, Stdio};
pub use llm::{LlmCall, LlmCallMessage, LlmMessage, ToolCall};
pub use machine::{Capture, Descriptor, Dropped, Exec, Metric, Process};
pub use mcp::{Mcp, McpTool};
pub use network::{Connection, Dns, TlsData};

/// Every table, in the order in which `--tables` lists them.
pub static TABLES: &[&TableDef] = &[
    Capture::TABLE,
    Process::TABLE,
    Exec::TABLE,
    Descriptor::TABLE,
    File::TABLE,
    Connection::TABLE,
    Dns::TABLE,
    TlsData::TABLE,
    Stdio::TABLE,
    Http::TABLE,
    StreamEvent::TABLE,
    LlmCall::TABLE,
    LlmMessage::TABLE,
    LlmCallMessage::TABLE,
    ToolCall::TABLE,
    Mcp::TABLE,
    McpTool::TABLE,
    Cause::TABLE,
    Finding::TABLE,
    Metric::TABLE,
    Dropped::TABLE,
];

/// The definition of a table, by its SQL name.
pub fn table(name: &str) -> Option<&'static TableDef> {
    TABLES.iter().copied().find(|table| table.name == name)
}
