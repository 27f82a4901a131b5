//! What caused what.

use crate::table;

table! {
    /// One way in which a tool call may have caused what a process did.
    pub struct Cause in "causes" {
        /// The capture.
        capture_id: String,
        /// `tool_call`.
        cause_kind: &'static str,
        /// Its `tool_call_key`.
        cause_key: String,
        /// `exec`, `file`, `connection` or `mcp`.
        effect_kind: &'static str,
        /// The effect: `conn_id` of a connection; `mcp_id` of an MCP request; of execs and files `proc_id@ts`, the time in nanoseconds since 1970.
        effect_key: String,
        /// How it is known: `mcp_id` (an MCP client asked for the same tool with the same arguments), `argv_match` (what was run is what the call's arguments say), `path_match` (they name the file), `pipe` (an MCP server did it while it worked on the call's request), `subtree` (a process that the call started), `window` (it happened while the call was open).
        method: &'static str,
        /// From 0 to 1: 0.95 for the same command, 0.85 for one inside the other, 0.9 for a path; 0.95 for an MCP request of the process that asked the model, 0.8 for one of another; 0.9 for what a server does with but one request open, 0.4 with several; a subtree has nine tenths of what its root has; 0.6 in the window of the only open call, 0.3 in those of several.
        confidence: f64,
        /// Other tool calls that it may as well be, by `tool_call_key`.
        ambiguous_with: Vec<String>,
    }
}
