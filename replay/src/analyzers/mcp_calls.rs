//! Which tool calls went to MCP servers: those whose name and arguments an MCP client asked a server for while they were open.
//!
//! Agents give tools names of their own: `mcp__server__tool`, `server_tool`, `server.tool`, or the server's. Arguments are equal as
//! JSON. Of calls that ask for the same, each has its own request.

use super::{Analyzer, Inputs, Rows};
use crate::jsonrpc::canonical;
use crate::names;
use crate::signals::{McpCalled, McpRequested, ToolRequested};
use crate::table::{Row, Timestamp};
use crate::tables::{Cause, Mcp, ToolCall};
use crate::tools::sha256;
use crate::values;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Tool calls that are remembered, and requests that wait for theirs to be told.
const MAX_CALLS: usize = 4096;
const MAX_WAITING: usize = 1024;

/// Most calls with the same arguments that are compared with a request, the newest; and most of them that are named with it.
const MAX_COMPARED: usize = 256;
const MAX_AMBIGUOUS: usize = 32;

pub(super) const INPUTS: Inputs = Inputs {
    // Who makes `mcp` says what is asked.
    reads: &[(ToolRequested::TABLE, &[]), (McpRequested::TABLE, &[]), (Mcp::TABLE, &[])],
    amends: &[(ToolCall::TABLE, "mcp_server")],
};

/// The process that asked for a call, and the provider's id of it.
type CallId = (i64, String);

struct Call {
    id: Option<CallId>,
    proc_id: i64,
    name: String,
    /// Hash of its arguments.
    arguments: String,
    requested: i64,
    answered: Option<i64>,
    /// A request was found to be its own.
    sent: bool,
    server: Option<String>,
}

impl Call {
    /// Whether a request may be of it.
    fn fits(&self, request: &Request) -> bool {
        self.arguments == request.arguments
            && self.requested <= request.ts.0
            && self.answered.is_none_or(|end| request.ts.0 <= end)
            && prefix(&self.name, &request.tool).is_some()
    }
}

struct Request {
    mcp_id: i64,
    client: Option<i64>,
    server_name: Option<String>,
    tool: String,
    arguments: String,
    ts: Timestamp,
}

pub(super) struct McpCalls {
    capture_id: String,
    calls: BTreeMap<i64, Call>,
    /// The newest of each id.
    by_id: HashMap<CallId, i64>,
    by_arguments: HashMap<String, BTreeSet<i64>>,
    /// Tools may start before the answer that asks for them has ended.
    waiting: VecDeque<Request>,
}

impl McpCalls {
    pub fn boxed(capture_id: &str) -> Box<dyn Analyzer> {
        Box::new(McpCalls {
            capture_id: capture_id.to_owned(),
            calls: BTreeMap::new(),
            by_id: HashMap::new(),
            by_arguments: HashMap::new(),
            waiting: VecDeque::new(),
        })
    }

    fn requested(&mut self, request: &ToolRequested, out: &mut Rows<'_>) {
        let (Some(name), Some(ts)) = (&request.tool_name, request.requested_ts) else { return };
        let id = request.tool_call_id.as_deref().map(|id| (request.proc_id, names::brief(id)));
        // The model was asked once more: the newer call is the one that is run.
        let again = id.clone().and_then(|id| self.by_id.insert(id, request.tool_call_key));
        if let Some(call) = again.and_then(|again| self.calls.get_mut(&again)) {
            call.answered.get_or_insert(ts.0);
        }
        let arguments = values::parse(request.arguments.as_bytes()).map(|json| canonical(&json)).unwrap_or_default();
        let call = Call {
            id,
            proc_id: request.proc_id,
            name: names::brief(name),
            arguments: hash(&arguments),
            requested: ts.0,
            answered: None,
            sent: false,
            server: None,
        };
        // Those that wait fit no other.
        let (fitting, rest): (Vec<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| call.fits(waiting));
        self.waiting = rest.into();
        self.by_arguments.entry(call.arguments.clone()).or_default().insert(request.tool_call_key);
        self.calls.insert(request.tool_call_key, call);
        if self.calls.len() > MAX_CALLS {
            self.forget_oldest();
        }
        fitting.into_iter().for_each(|waiting| self.place(waiting, out));
    }

    fn forget_oldest(&mut self) {
        let Some((key, oldest)) = self.calls.pop_first() else { return };
        if let Some(id) = oldest.id.filter(|id| self.by_id.get(id) == Some(&key)) {
            self.by_id.remove(&id);
        }
        if let Some(same) = self.by_arguments.get_mut(&oldest.arguments) {
            same.remove(&key);
            if same.is_empty() {
                self.by_arguments.remove(&oldest.arguments);
            }
        }
    }

    /// Finds the tool call of a request, or lets it wait.
    fn place(&mut self, request: Request, out: &mut Rows<'_>) {
        let same = self.by_arguments.get(&request.arguments).into_iter();
        let newest = same.flat_map(|keys| keys.iter().rev().take(MAX_COMPARED));
        let known = newest.filter_map(|key| Some((*key, self.calls.get(key)?)));
        let mut fitting: Vec<(i64, &Call)> = known.filter(|(_, call)| call.fits(&request)).collect();
        fitting.reverse();
        let own = |call: &Call| request.client == Some(call.proc_id);
        let is_own = fitting.iter().any(|(_, call)| own(call));
        fitting.retain(|(_, call)| own(call) || !is_own);
        // One that is sent again is sent by the call that has sent it before.
        let chosen = fitting.iter().find(|(_, call)| !call.sent).or(fitting.last()).map(|(key, _)| *key);
        let Some(key) = chosen else {
            self.waiting.push_back(request);
            if self.waiting.len() > MAX_WAITING {
                self.waiting.pop_front();
            }
            return;
        };
        let others = fitting.iter().map(|(other, _)| *other).filter(|other| *other != key).take(MAX_AMBIGUOUS);
        let ambiguous_with = others.map(|other| other.to_string()).collect();
        let confidence = if is_own { 0.95 } else { 0.8 };
        if let Some(call) = self.calls.get_mut(&key) {
            call.sent = true;
            let named = || prefix(&call.name, &request.tool).filter(|server| !server.is_empty());
            call.server = request.server_name.or_else(named);
        }
        out(&McpCalled { mcp_id: request.mcp_id, tool_call_key: key, confidence });
        out(&Cause {
            capture_id: self.capture_id.clone(),
            cause_kind: "tool_call",
            cause_key: key.to_string(),
            effect_kind: "mcp",
            effect_key: request.mcp_id.to_string(),
            method: "mcp_id",
            confidence,
            ambiguous_with,
        });
    }
}

impl Analyzer for McpCalls {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(request) = row.downcast::<McpRequested>() {
            let Some(tool) = &request.tool_name else { return };
            let request = Request {
                mcp_id: request.mcp_id,
                client: request.client_proc_id,
                server_name: request.server_name.clone(),
                tool: names::brief(tool),
                arguments: hash(&request.arguments),
                ts: request.ts,
            };
            self.place(request, out);
        } else if let Some(requested) = row.downcast::<ToolRequested>() {
            self.requested(requested, out);
        } else if let Some(row) = row.downcast::<ToolCall>() {
            let call = self.calls.get_mut(&row.tool_call_key);
            let server = call.and_then(|call| {
                call.answered = call.answered.or(row.result_ts.map(|ts| ts.0));
                call.server.clone()
            });
            match server {
                Some(server) => out(&ToolCall { mcp_server: Some(server), ..row.clone() }),
                None => out(row),
            }
        }
    }
}

/// No arguments are as good as an empty object.
fn hash(arguments: &str) -> String {
    sha256(if matches!(arguments, "" | "null") { "{}" } else { arguments })
}

/// What an agent puts before a server's name of a tool, without `mcp` and separators; `None` if it is no name for this tool.
fn prefix(name: &str, tool: &str) -> Option<String> {
    // Models take letters, digits and few signs: agents write the others as one of these.
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let before = name.chars().count().checked_sub(tool.chars().count())?;
    if tool.is_empty() || !name.chars().skip(before).map(plain).eq(tool.chars().map(plain)) {
        return None;
    }
    let prefix: String = name.chars().take(before).collect();
    if prefix.chars().last().is_some_and(|last| plain(last) != '_') {
        return None;
    }
    let server = prefix.trim_matches(|c| plain(c) == '_');
    Some(server.strip_prefix("mcp").map_or(server, |rest| rest.trim_start_matches(|c| plain(c) == '_')).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_agents_give_are_of_the_tool() {
        let cases = [
            ("grep", "grep", Some("")),
            ("mcp__files__grep", "grep", Some("files")),
            ("files_grep_all", "grep-all", Some("files")),
            ("my.files.grep", "grep", Some("my.files")),
            ("files-Grep", "grep", Some("files")),
            ("ripgrep", "grep", None),
            ("grep", "files_grep", None),
            ("grep", "", None),
        ];
        for (name, tool, expected) in cases {
            assert_eq!(prefix(name, tool).as_deref(), expected, "{name} {tool}");
        }
    }
}
