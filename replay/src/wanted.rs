//! Which stages have to run for the tables that are wanted, and what they need of each record.

use crate::output::Output;
use crate::signals::Unwatched;
use crate::table::TableDef;
use crate::tables;
use agentsight_formats::record::{Source, kind};

/// Which stages have to run.
pub(crate) struct Wanted {
    pub processes: bool,
    pub connections: bool,
    pub http: bool,
    pub bodies: bool,
    pub llm: bool,
    pub files: bool,
    pub stdio: bool,
    pub metrics: bool,
    pub unwatched: bool,
    pub descriptors: bool,
}

impl Wanted {
    pub fn of(output: &Output<'_>) -> Self {
        let wants = |table: &TableDef| output.wants(table);
        let of_llm =
            [tables::LlmCall::TABLE, tables::ToolCall::TABLE, tables::LlmMessage::TABLE, tables::LlmCallMessage::TABLE];
        let agent = |column| wants(tables::Capture::TABLE) && output.wants_column(tables::Capture::TABLE, column);
        // Agents say who they are where they call a model.
        let llm = of_llm.into_iter().any(wants) || agent("agent_name") || agent("agent_version");
        let http =
            llm || wants(tables::Http::TABLE) || wants(tables::StreamEvent::TABLE) || wants(tables::Connection::TABLE);
        let body = |column| wants(tables::Http::TABLE) && output.wants_column(tables::Http::TABLE, column);
        let (files, stdio) = (wants(tables::File::TABLE), wants(tables::Stdio::TABLE));
        let metrics = wants(tables::Metric::TABLE);
        // A question that is asked over TCP goes through a connection.
        let connections = http || wants(tables::Dns::TABLE) || wants(tables::TlsData::TABLE);
        let unwatched = wants(Unwatched::TABLE);
        let descriptors = wants(tables::Descriptor::TABLE);
        let named = connections || files || stdio || metrics || unwatched || descriptors;
        Wanted {
            // Every other row names its process by the number that it is given here.
            processes: named || wants(tables::Process::TABLE) || wants(tables::Exec::TABLE),
            connections,
            http,
            bodies: llm || ["request_body", "response_body", "retry_of"].into_iter().any(body),
            llm,
            files,
            stdio,
            metrics,
            unwatched,
            descriptors,
        }
    }

    /// How much of a record is of use.
    pub fn part_of(&self, kind: u16) -> Part {
        let wanted = match kind {
            kind::NOTE => return Part::All,
            // It names no process.
            kind::SUMS if self.connections || self.files => return Part::All,
            kind::SUMS => return Part::Nothing,
            kind::CHECKPOINT | kind::PROBE => return Part::Nothing,
            _ if !self.processes || Source::of_kind(kind).is_none() => return Part::Nothing,
            kind::FORK | kind::EXEC | kind::EXEC_ARGS | kind::EXIT | kind::PROCESS | kind::IDENTITY => true,
            kind::TLS_DATA | kind::TLS_CLOSE | kind::CONNECTION | kind::SOCKET | kind::SOCKET_DATA => self.connections,
            kind::DESCRIPTOR => self.descriptors,
            kind::FILE => self.files,
            kind::STDIO_DATA => self.stdio,
            kind::METRIC => self.metrics,
            kind::UNWATCHED => self.unwatched,
            // What these say was looked up before; or (maps, adoptions) concerns the capturer alone.
            kind::TLS_BIND | kind::ENDPOINT | kind::MAP | kind::ADOPT => false,
            _ => return Part::Nothing,
        };
        if wanted { Part::All } else { Part::Header }
    }
}

/// How much of a record is kept until its turn.
pub(crate) enum Part {
    All,
    /// Which number a process has must not depend on the tables that are wanted: of what is not decoded, the header still names
    /// its process.
    Header,
    Nothing,
}
