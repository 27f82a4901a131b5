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
        /// `exec`, `file` or `connection`.
        effect_kind: &'static str,
        /// The effect: `conn_id` of a connection; of execs and files `proc_id@ts`, the time in nanoseconds since 1970.
        effect_key: String,
        /// How it is known: `argv_match` (what was run is what the call's arguments say), `path_match` (they name the file), `subtree` (a process that the call started), `window` (it happened while the call was open).
        method: &'static str,
        /// From 0 to 1: 0.95 for the same command, 0.85 for one inside the other, 0.9 for a path; a subtree has nine tenths of what its root has; 0.6 in the window of the only open call, 0.3 in those of several.
        confidence: f64,
        /// Other tool calls that it may as well be, by `tool_call_key`.
        ambiguous_with: Vec<String>,
    }
}
