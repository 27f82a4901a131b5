//! Pairs what a model asks a tool to do with what the agent sends back in a later call.
//!
//! Agents send their whole conversation with every call, so each result is seen many times: the first one counts. A tool
//! call's id comes from the provider; in one capture several agents may be given the same, so a result goes to the newest
//! request that waits for it, of its own process if there is one.

use crate::carried::Carried;
use crate::hex::hex;
use crate::llm::Call;
use crate::llm::message::{self, Message, ToolResult};
use crate::llm::opaque;
use crate::recent::Recent;
use crate::signals::ToolRequested;
use crate::table::Timestamp;
use crate::tables::{LlmCall, ToolCall};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Calls that wait for their results: so many, and so many bytes of arguments. Were there more, those that were asked for first
/// would be told as they are: without a result, which is told by itself should it come.
const MAX_WAITING: usize = 65_536;
const MAX_WAITING_BYTES: usize = 64 << 20;

/// What a call that waits takes besides its row and the texts that are counted, about.
const OVERHEAD: usize = 256;

/// Processes that wait for the result of a call of the same id.
const MAX_SAME: usize = 16;

/// Results of which is remembered that they were told, twice as many at most; agents send them again and again.
const MAX_ANSWERED: usize = 1 << 17;

/// What a call and its result are known by: a hash of the provider's id, which may be of any length.
type Name = [u8; 32];

struct Waiting {
    proc_id: i64,
    name: Option<Name>,
    row: ToolCall,
}

/// Where a result is seen for the first time.
struct Carrier<'c> {
    llm_call_id: i64,
    ts: Option<Timestamp>,
    /// In a request: the messages, and which of them it is.
    history: Option<(&'c Carried, usize)>,
}

/// The tool calls of a capture.
pub(crate) struct Tools {
    capture_id: String,
    count: i64,
    /// By the key, and so in the order in which they were asked for.
    waiting: BTreeMap<i64, Waiting>,
    waiting_bytes: usize,
    /// Those that have a name, the newest last.
    by_name: HashMap<Name, Vec<i64>>,
    answered: Recent<Name, ()>,
    /// What was asked for and not told yet.
    pub requested: Vec<ToolRequested>,
}

impl Tools {
    pub fn new(capture_id: String) -> Self {
        Tools {
            capture_id,
            count: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            by_name: HashMap::new(),
            answered: Recent::new(MAX_ANSWERED),
            requested: Vec::new(),
        }
    }

    /// Takes a call: first the results that its request carries, then what its response asks for. Returns the rows that
    /// are whole now, or are not waited for any more.
    pub fn take(&mut self, call: &Call, proc_id: i64) -> Vec<ToolCall> {
        let llm_call_id = call.row.llm_call_id;
        let mut done = Vec::new();
        // What a provider ran was answered with its request.
        let carried = Carried::of(call.request.iter().map(|said| &***said), |message| self.asked_by(message, proc_id));
        for (at, message) in call.request.iter().enumerate() {
            let carrier = Carrier { llm_call_id, ts: call.row.start_ts, history: Some((&carried, at)) };
            for result in message.tool_results().filter(|result| !result.server) {
                done.extend(self.take_result(result, proc_id, &carrier));
            }
        }
        for request in call.answer.tool_calls() {
            done.extend(self.take_request(request, &call.row));
            done.extend(self.given_up());
        }
        let own = Carrier { llm_call_id, ts: call.row.end_ts, history: None };
        for result in call.answer.tool_results() {
            done.extend(self.take_result(result, proc_id, &own));
        }
        done
    }

    /// The calls that never got a result, in the order in which they were asked for.
    pub fn finish(&mut self) -> Vec<ToolCall> {
        self.by_name.clear();
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.row).collect()
    }

    /// Those that there is no room for.
    fn given_up(&mut self) -> Vec<ToolCall> {
        let mut rows = Vec::new();
        while self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            let Some(oldest) = self.waiting.first_key_value().map(|(key, _)| *key) else { break };
            rows.extend(self.forget(oldest));
        }
        rows
    }

    fn forget(&mut self, key: i64) -> Option<ToolCall> {
        let Waiting { name, row, .. } = self.waiting.remove(&key)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes_of(&row));
        if let Some(name) = name
            && let Some(same) = self.by_name.get_mut(&name)
        {
            same.retain(|other| *other != key);
            if same.is_empty() {
                self.by_name.remove(&name);
            }
        }
        Some(row)
    }

    /// Takes a request. Returns one that has the same id and has to go for it.
    fn take_request(&mut self, request: &message::ToolCall, call: &LlmCall) -> Option<ToolCall> {
        let proc_id = call.proc_id;
        let name = request.id.as_deref().or(request.key.as_deref()).map(name);
        // A client that retries gets the same call again: the newer one is the one that it runs.
        name.and_then(|name| self.waiting_of(&name, proc_id)).map(|old| self.forget(old));
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
            // In a stream that is not whole, its end was not seen.
            requested_ts: request.ts.or(call.end_ts.filter(|_| call.complete || !call.stream)),
            ..ToolCall::default()
        };
        if !request.server {
            self.requested.push(ToolRequested {
                tool_call_key: row.tool_call_key,
                tool_call_id: row.tool_call_id.clone(),
                proc_id,
                requested_ts: request.ts.or(call.end_ts),
                tool_name: row.tool_name.clone(),
                arguments: request.arguments.clone(),
            });
        }
        let mut oldest = None;
        if let Some(name) = name {
            let same = self.by_name.entry(name).or_default();
            same.push(row.tool_call_key);
            oldest = same.first().copied().filter(|_| same.len() > MAX_SAME);
        }
        self.waiting_bytes += bytes_of(&row);
        self.waiting.insert(row.tool_call_key, Waiting { proc_id, name, row });
        self.forget(oldest?)
    }

    /// The call that gave this answer, if all that it asks of tools still waits for results.
    fn asked_by(&self, message: &Message, proc_id: i64) -> Option<i64> {
        let mut by = message.tool_calls().map(|request| {
            let name = name(request.id.as_deref().or(request.key.as_deref())?);
            self.waiting.get(&self.waiting_of(&name, proc_id)?)?.row.llm_call_id
        });
        let first = by.next()??;
        by.all(|other| other == Some(first)).then_some(first)
    }

    fn take_result(&mut self, result: &ToolResult, proc_id: i64, carrier: &Carrier<'_>) -> Option<ToolCall> {
        // A result that belongs to nothing cannot be told from itself when it is sent again.
        let name = name(result.id.as_deref().or(result.key.as_deref())?);
        let mut row = match self.take_waiting(&name, proc_id) {
            Some(row) => row,
            None if self.answered.get(&name).is_some() => return None,
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
        self.answered.insert(name, ());
        let before = carrier.history.is_some_and(|(carried, at)| carried.has(at, row.llm_call_id));
        let carrier = Some(carrier).filter(|_| !before);
        let ts = carrier.and_then(|carrier| carrier.ts);
        row.result_llm_call_id = carrier.map(|carrier| carrier.llm_call_id);
        let shown = opaque::removed_from_text(&result.text).into_owned();
        row.result_hash = Some(sha256(&shown));
        row.result = Some(shown);
        row.is_error = result.is_error;
        row.duration_ns = row.requested_ts.zip(ts).map(|(start, end)| end.0.saturating_sub(start.0));
        row.result_ts = ts;
        Some(row)
    }

    /// The call of this name that this process has asked for.
    fn waiting_of(&self, name: &Name, proc_id: i64) -> Option<i64> {
        let same = self.by_name.get(name)?.iter().copied();
        { same }.rfind(|key| self.waiting.get(key).is_some_and(|waiting| waiting.proc_id == proc_id))
    }

    fn take_waiting(&mut self, name: &Name, proc_id: i64) -> Option<ToolCall> {
        let own = self.waiting_of(name, proc_id);
        let key = own.or_else(|| self.by_name.get(name)?.last().copied())?;
        self.forget(key)
    }
}

fn name(id: &str) -> Name {
    Sha256::digest(id).into()
}

/// What a call that waits takes of memory, about.
fn bytes_of(row: &ToolCall) -> usize {
    let texts = [&row.tool_call_id, &row.tool_name, &row.arguments];
    OVERHEAD + size_of::<Waiting>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

/// SHA-256 of a text, hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
