//! What MCP servers work on: the requests that are open, and the tool calls that they are of.

use crate::signals::{McpCalled, McpRequested};
use crate::table::Timestamp;
use crate::tables::Mcp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Requests that are known at once.
const MAX_REQUESTS: usize = 4096;

/// Most requests of one server that are looked at, the newest.
const MAX_LOOKED_AT: usize = 512;

/// Servers that are remembered.
const MAX_SERVERS: usize = 4096;

#[derive(Default)]
struct Request {
    server: Option<i64>,
    start: i64,
    end: Option<i64>,
    /// The tool call that it is of.
    call: Option<i64>,
}

/// What a server, or something below it, works on.
pub(super) struct Serving {
    /// How far above the process the server is.
    pub depth: usize,
    /// Requests that are open.
    pub open: usize,
    /// The tool calls that they are of.
    pub calls: Vec<i64>,
}

#[derive(Default)]
pub(super) struct Requests {
    requests: BTreeMap<i64, Request>,
    of_server: HashMap<i64, BTreeSet<i64>>,
    /// By when they were answered.
    closed: BTreeSet<(i64, i64)>,
    /// Processes that serve over their standard streams: what they are asked is known when they are.
    servers: BTreeSet<i64>,
}

impl Requests {
    pub fn requested(&mut self, request: &McpRequested) {
        let Some(server) = request.server_proc_id.filter(|_| request.method != "ping") else { return };
        if request.transport == "stdio" && self.servers.len() < MAX_SERVERS {
            self.servers.insert(server);
        }
        let known = self.requests.entry(request.mcp_id).or_default();
        (known.server, known.start) = (Some(server), request.ts.0);
        self.of_server.entry(server).or_default().insert(request.mcp_id);
        self.make_room();
    }

    pub fn called(&mut self, called: &McpCalled) {
        self.requests.entry(called.mcp_id).or_default().call = Some(called.tool_call_key);
        self.make_room();
    }

    pub fn ended(&mut self, row: &Mcp) {
        // One that the capture's end has left open is open to the end.
        let Some(end) = row.end_ts else { return };
        if let Some(request) = self.requests.get_mut(&row.mcp_id) {
            request.end = Some(end.0);
            self.closed.insert((end.0, row.mcp_id));
        }
    }

    /// Nothing that happened before is asked about any more.
    pub fn forget_before(&mut self, ts: i64) {
        while let Some(&(_, mcp_id)) = self.closed.first().filter(|(closed, _)| *closed < ts) {
            self.forget(mcp_id);
        }
    }

    fn make_room(&mut self) {
        if self.requests.len() > MAX_REQUESTS
            && let Some((mcp_id, _)) = self.requests.first_key_value()
        {
            self.forget(*mcp_id);
        }
    }

    fn forget(&mut self, mcp_id: i64) {
        let Some(request) = self.requests.remove(&mcp_id) else { return };
        if let Some(end) = request.end {
            self.closed.remove(&(end, mcp_id));
        }
        let Some(server) = request.server else { return };
        if let Some(requests) = self.of_server.get_mut(&server) {
            requests.remove(&mcp_id);
            if requests.is_empty() {
                self.of_server.remove(&server);
            }
        }
    }

    /// What the nearest server of a process and those above it works on; `None` if there is none.
    pub fn serving(&self, line: &[i64], ts: Timestamp) -> Option<Serving> {
        let is_server = |proc_id: &i64| self.servers.contains(proc_id) || self.of_server.contains_key(proc_id);
        let depth = line.iter().position(is_server)?;
        let server = line.get(depth)?;
        let of_server = self.of_server.get(server).into_iter().flat_map(|ids| ids.iter().rev().take(MAX_LOOKED_AT));
        let requests = of_server.filter_map(|id| self.requests.get(id));
        let open = requests.filter(|request| request.start <= ts.0 && request.end.is_none_or(|end| ts.0 <= end));
        let (mut count, mut calls) = (0, Vec::new());
        for request in open {
            count += 1;
            calls.extend(request.call);
        }
        calls.sort_unstable();
        calls.dedup();
        // What HTTP carries is told when it ends: until then nothing may seem to be open.
        (count > 0 || self.servers.contains(server)).then_some(Serving { depth, open: count, calls })
    }
}
