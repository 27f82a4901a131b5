//! What somebody should look at.

use crate::table;
use crate::table::Timestamp;

table! {
    /// Something that somebody should look at.
    pub struct Finding in "findings" {
        /// The capture.
        capture_id: String,
        /// The rule that was broken.
        rule_id: String,
        /// `low`, `medium` or `high`.
        severity: &'static str,
        /// When it happened.
        ts: Timestamp,
        /// What it is about: `llm_call`, `tool_call`, `http`, `exec`, `process`, `file`, `connection` or `mcp`.
        subject_kind: &'static str,
        /// Its id in its table.
        subject_key: String,
        /// What happened, in one sentence.
        message: String,
        /// What shows it; secrets are masked.
        evidence: Option<String>,
    }
}
