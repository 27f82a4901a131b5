//! What two runs of one agent differ in, though they did the same: the defaults of a policy.
//!
//! Times and durations are known by their types and units, ids by their names; the rest is listed here, with its reason.

use super::policy::Rule;
use crate::table::{Column, ColumnType, TableDef};

/// Tables that are compared as a set: what processes do side by side comes in any order.
const SETS: &[&str] =
    &["processes", "execs", "descriptors", "files", "connections", "dns", "stdio", "mcp", "causes", "drops"];

/// Tables that are not compared: how often a measurement is taken, and into which pieces plaintext or a stream was cut, is chance.
const IGNORED_TABLES: &[&str] = &["metrics", "tls_data", "stream_events"];

/// Columns that are ignored, of one table or (`*`) of every one.
const IGNORED: &[(&str, &str)] = &[
    // What the kernel numbers.
    ("*", "pid"),
    ("*", "ppid"),
    ("*", "tid"),
    ("*", "seq"),
    ("files", "result"),
    ("files", "inode"),
    ("files", "device"),
    ("processes", "namespace_pid"),
    ("processes", "pid_namespace"),
    ("processes", "mnt_namespace"),
    ("processes", "net_namespace"),
    ("processes", "user_namespace"),
    // Where somebody listens is chance in tests; a name says more than an address, and servers have many.
    ("*", "local_address"),
    ("*", "local_port"),
    ("*", "peer_address"),
    ("*", "peer_port"),
    ("dns", "server_address"),
    ("dns", "answers"),
    // The machine, and who recorded on it with what.
    ("captures", "host"),
    ("captures", "kernel"),
    ("captures", "arch"),
    ("captures", "capturer_version"),
    ("captures", "user_name"),
    // A copy of the repository, which goes on; what is in it shows in what the agent does.
    ("captures", "repo"),
    ("captures", "vcs_commit"),
    // Who made the agent may have made a new one; what it does is compared.
    ("captures", "agent_version"),
    ("llm_calls", "price_table"),
    ("captures", "first_part"),
    ("captures", "last_part"),
    ("captures", "segments"),
    ("captures", "records"),
    ("processes", "max_rss_bytes"),
    ("drops", "cpu"),
    // Times stand in it.
    ("causes", "effect_key"),
    // Ids of tool calls stand in what they are made of.
    ("*", "message_hash"),
    ("*", "parent_hash"),
    // What TLS adds depends on tickets and on how the bytes were cut.
    ("connections", "bytes_sent"),
    ("connections", "bytes_received"),
    // Header fields carry dates, ids and keys, and so do bodies; what these mean is in the tables made of them.
    ("connections", "plaintext_sent"),
    ("connections", "plaintext_received"),
    ("http", "request_headers"),
    ("http", "response_headers"),
    ("http", "request_bytes"),
    ("http", "response_bytes"),
    ("http", "request_body"),
    ("http", "response_body"),
];

/// How the file was named to this program says nothing about what is in it: ignored even where all else is exact.
const NEVER: &[(&str, &str)] = &[("captures", "file"), ("captures", "files")];

pub(super) fn is_set(table: &TableDef) -> bool {
    SETS.contains(&table.name)
}

pub(super) fn is_ignored(table: &TableDef) -> bool {
    IGNORED_TABLES.contains(&table.name)
}

/// The rule of a column for two runs; or, if `exact`, for one recording.
pub(super) fn rule(table: &TableDef, column: &Column, exact: bool) -> Rule {
    let listed =
        |list: &[(&str, &str)]| list.iter().any(|(of, name)| (*of == "*" || *of == table.name) && *name == column.name);
    let id = column.name.ends_with("_id") || column.name.ends_with("_key");
    let time = column.kind == ColumnType::Timestamp || column.unit == "ns";
    if listed(NEVER) || !exact && (id || time || listed(IGNORED)) { Rule::Ignored } else { Rule::Exact }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{TABLES, table};

    #[test]
    fn the_lists_name_what_there_is() {
        for name in SETS.iter().chain(IGNORED_TABLES) {
            assert!(table(name).is_some(), "{name}");
        }
        for (of, column) in IGNORED.iter().chain(NEVER) {
            let mut tables = TABLES.iter().filter(|table| *of == "*" || table.name == *of);
            assert!(tables.any(|table| table.column(column).is_some()), "{of}.{column}");
        }
    }
}
