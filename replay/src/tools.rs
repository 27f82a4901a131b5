//! Pairs what a model asks a tool to do with what the agent sends back in a later call.
//!
//! Agents send their whole conversation with every call, so each result is seen many times: the first one counts. A tool
//! call's id comes from the provider; in one capture several agents may be given the same, so a result goes to the newest
//! request that waits for it, of its own process if there is one.

use crate::hex::hex;
use crate::llm::Call;
use crate::llm::message::{self, ToolResult};
use crate::llm::opaque;
use crate::signals::ToolRequested;
use crate::table::Timestamp;
use crate::tables::{LlmCall, ToolCall};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

struct Waiting {
    proc_id: i64,
    row: ToolCall,
}

/// The tool calls of a capture.
pub(crate) struct Tools {
    capture_id: String,
    count: i64,
    waiting: HashMap<Option<String>, Vec<Waiting>>,
    answered: HashSet<String>,
    /// What was asked for and not told yet.
    pub requested: Vec<ToolRequested>,
}

impl Tools {
    pub fn new(capture_id: String) -> Self {
        Tools { capture_id, count: 0, waiting: HashMap::new(), answered: HashSet::new(), requested: Vec::new() }
    }

    /// Takes a call: first the results that its request carries, then what its response asks for. Returns the rows that
    /// are whole now.
    pub fn take(&mut self, call: &Call, proc_id: i64) -> Vec<ToolCall> {
        let llm_call_id = call.row.llm_call_id;
        let mut done = Vec::new();
        // What a provider ran was answered with its request.
        let sent = call.request.iter().flat_map(|message| message.tool_results()).filter(|result| !result.server);
        for result in sent {
            done.extend(self.take_result(result, proc_id, llm_call_id, call.row.start_ts));
        }
        for request in call.answer.tool_calls() {
            self.take_request(request, &call.row);
        }
        for result in call.answer.tool_results() {
            done.extend(self.take_result(result, proc_id, llm_call_id, call.row.end_ts));
        }
        done
    }

    /// The calls that never got a result, in the order in which they were asked for.
    pub fn finish(&mut self) -> Vec<ToolCall> {
        let mut rest: Vec<_> =
            self.waiting.drain().flat_map(|(_, waiting)| waiting).map(|waiting| waiting.row).collect();
        rest.sort_by_key(|row| row.tool_call_key);
        rest
    }

    fn take_request(&mut self, request: &message::ToolCall, call: &LlmCall) {
        let proc_id = call.proc_id;
        let name = request.id.clone().or_else(|| request.key.clone());
        let waiting = self.waiting.entry(name.clone()).or_default();
        // A client that retries gets the same call again: the newer one is the one that it runs.
        if name.is_some() {
            waiting.retain(|old| old.proc_id != proc_id);
        }
        self.count += 1;
        let row = ToolCall {
            capture_id: self.capture_id.clone(),
            tool_call_key: self.count,
            tool_call_id: request.id.clone(),
            llm_call_id: Some(call.llm_call_id),
            turn_id: call.turn_id,
            tool_name: request.name.clone(),
            tool_type: if request.server { "server" } else { "function" },
            args_hash: Some(sha256(&request.arguments)),
            args_complete: serde_json::from_str::<serde::de::IgnoredAny>(&request.arguments).is_ok(),
            arguments: Some(request.arguments.clone()),
            requested_ts: request.ts.or(call.end_ts),
            ..ToolCall::default()
        };
        if !request.server {
            self.requested.push(ToolRequested {
                tool_call_key: row.tool_call_key,
                tool_call_id: row.tool_call_id.clone(),
                proc_id,
                requested_ts: row.requested_ts,
                tool_name: row.tool_name.clone(),
                arguments: request.arguments.clone(),
            });
        }
        waiting.push(Waiting { proc_id, row });
    }

    fn take_result(
        &mut self,
        result: &ToolResult,
        proc_id: i64,
        llm_call_id: i64,
        ts: Option<Timestamp>,
    ) -> Option<ToolCall> {
        // A result that belongs to nothing cannot be told from itself when it is sent again.
        let name = result.id.clone().or_else(|| result.key.clone())?;
        let mut row = match self.take_waiting(&name, proc_id) {
            Some(row) => row,
            None if self.answered.contains(&name) => return None,
            None => {
                // Asked for before the capture started, or over a connection that was not seen.
                self.count += 1;
                ToolCall {
                    capture_id: self.capture_id.clone(),
                    tool_call_key: self.count,
                    tool_call_id: result.id.clone(),
                    tool_type: "function",
                    ..ToolCall::default()
                }
            }
        };
        self.answered.insert(name);
        row.result_llm_call_id = Some(llm_call_id);
        let shown = opaque::removed_from_text(&result.text).into_owned();
        row.result_hash = Some(sha256(&shown));
        row.result = Some(shown);
        row.is_error = result.is_error;
        row.duration_ns = row.requested_ts.zip(ts).map(|(start, end)| end.0.saturating_sub(start.0));
        row.result_ts = ts;
        Some(row)
    }

    fn take_waiting(&mut self, name: &str, proc_id: i64) -> Option<ToolCall> {
        let key = Some(name.to_owned());
        let waiting = self.waiting.get_mut(&key)?;
        let index = waiting.iter().rposition(|one| one.proc_id == proc_id).or(waiting.len().checked_sub(1))?;
        let row = waiting.remove(index).row;
        if waiting.is_empty() {
            self.waiting.remove(&key);
        }
        Some(row)
    }
}

/// SHA-256 of a text, hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
