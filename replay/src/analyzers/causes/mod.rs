//! Which tool call caused which exec, file operation and connection.
//!
//! A call is open from the moment at which the model's request was whole until its result is sent. What happens meanwhile below
//! the process that asked, and only that, may be its doing. Evidence goes before time: with several calls open at once, time
//! alone decides nothing. What the agent itself does (its configuration, its telemetry) counts only where a call names it.
//!
//! What an MCP server does while it works on requests is of the calls that these are of, and of no others.
//!
//! Tools may start before the answer that asks for them has ended, and it is told then; what an MCP server is asked over HTTP is
//! told when it has answered. While a process above asks a model or serves, what happens is held back, for [`HOLD`] at the most.

mod calls;
mod evidence;
mod serving;

use super::{Analyzer, Inputs, Rows};
use crate::bounded::Bounded;
use crate::signals::{Answered, Asking, McpCalled, McpRequested, McpServing, Started, ToolRequested};
use crate::table::{Row, Timestamp};
use crate::tables::{Cause, Connection, Exec, File, Mcp, ToolCall};
use calls::{Call, Calls};
use serving::{Requests, Serving};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// How long a row waits for the answer that may explain it, in nanoseconds of event time.
const HOLD: i64 = 30_000_000_000;

/// Most rows that wait; were there more, the oldest would go with what is known.
const MAX_HELD: usize = 65_536;
const MAX_HELD_BYTES: usize = 64 << 20;

/// Processes whose parent and cause are remembered.
const MAX_PROCESSES: usize = 65_536;

/// Exchanges that are on their way at once.
const MAX_OPEN: usize = 4096;

/// How deep a process may be below the one that asked.
const MAX_DEPTH: usize = 256;

pub(super) const INPUTS: Inputs = Inputs {
    reads: &[
        (Started::TABLE, &[]),
        (Asking::TABLE, &[]),
        (Answered::TABLE, &[]),
        (ToolRequested::TABLE, &[]),
        // Who fills it in says which request is of which call.
        (ToolCall::TABLE, &["mcp_server"]),
        (McpRequested::TABLE, &[]),
        (McpCalled::TABLE, &[]),
        (McpServing::TABLE, &[]),
        (Mcp::TABLE, &[]),
    ],
    amends: &[
        (Exec::TABLE, "cause_tool_call_key"),
        (File::TABLE, "cause_tool_call_key"),
        (Connection::TABLE, "cause_tool_call_key"),
    ],
};

/// A row that waits.
enum Held {
    Exec(Exec),
    File(File),
    Connection(Box<Connection>),
}

impl Held {
    fn proc_id(&self) -> i64 {
        match self {
            Held::Exec(exec) => exec.proc_id,
            Held::File(file) => file.proc_id,
            Held::Connection(connection) => connection.proc_id,
        }
    }

    /// Bytes of memory that it takes, about.
    fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = match self {
            Held::Exec(exec) => {
                let args = exec.args.iter().map(|arg| size_of::<String>() + arg.len()).sum::<usize>();
                args + exec.command_line.len() + exec.executable_path.len() + exec.working_directory.len()
            }
            Held::File(file) => text(&file.path) + text(&file.new_path),
            Held::Connection(connection) => text(&connection.server_name) + size_of::<Connection>(),
        };
        size_of::<Held>() + texts
    }
}

/// A reason to believe that a call caused something.
#[derive(Clone, Debug)]
struct Edge {
    key: i64,
    method: &'static str,
    confidence: f64,
    others: Vec<i64>,
}

/// Which calls something may be of.
struct Scope {
    open: Vec<i64>,
    /// The call that started a process above, and how sure that is.
    inherited: Option<(i64, f64)>,
    /// What is left to be said where nothing speaks for a call.
    otherwise: Vec<Edge>,
}

pub(super) struct Causes {
    capture_id: String,
    calls: Calls,
    requests: Requests,
    parents: Bounded<i64, i64>,
    /// What is known of a process: the call that started it.
    started_by: Bounded<i64, (i64, f64)>,
    /// Exchanges that are on their way, each with the process of which they may say why it does something: that which asks a
    /// model, or serves over HTTP.
    open: BTreeSet<(i64, i64)>,
    /// How many of a process.
    open_of: HashMap<i64, usize>,
    held: VecDeque<(i64, Held)>,
    held_bytes: usize,
    now: i64,
}

impl Causes {
    pub fn boxed(capture_id: &str) -> Box<dyn Analyzer> {
        Box::new(Causes {
            capture_id: capture_id.to_owned(),
            calls: Calls::default(),
            requests: Requests::default(),
            parents: Bounded::new(MAX_PROCESSES),
            started_by: Bounded::new(MAX_PROCESSES),
            open: BTreeSet::new(),
            open_of: HashMap::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            now: i64::MIN,
        })
    }

    fn hold(&mut self, ts: Timestamp, held: Held) {
        self.now = self.now.max(ts.0);
        self.held_bytes += held.size();
        self.held.push_back((self.now, held));
    }

    /// Hands on what has waited long enough.
    fn hand_on(&mut self, all: bool, out: &mut Rows<'_>) {
        while let Some((since, held)) = self.held.front() {
            let too_many = self.held.len() > MAX_HELD || self.held_bytes > MAX_HELD_BYTES;
            let waited = self.now.saturating_sub(*since) > HOLD || too_many;
            if !(all || waited) && self.may_be_explained(held.proc_id()) {
                break;
            }
            let Some((since, held)) = self.held.pop_front() else { break };
            self.held_bytes = self.held_bytes.saturating_sub(held.size());
            self.calls.forget_before(since.saturating_sub(HOLD));
            self.requests.forget_before(since.saturating_sub(HOLD));
            self.decide(held, out);
        }
    }

    /// Whether an exchange is on its way that may say why a process does something.
    fn may_be_explained(&self, proc_id: i64) -> bool {
        let of = |proc_id: &i64| self.open_of.contains_key(proc_id);
        !self.open.is_empty() && self.line(proc_id).iter().any(of)
    }

    fn begun(&mut self, http_id: i64, proc_id: i64) {
        if self.open.insert((http_id, proc_id)) {
            *self.open_of.entry(proc_id).or_default() += 1;
        }
        if self.open.len() > MAX_OPEN
            && let Some(&(oldest, _)) = self.open.first()
        {
            self.ended(oldest);
        }
    }

    fn ended(&mut self, http_id: i64) {
        while let Some(&open) = self.open.range((http_id, i64::MIN)..=(http_id, i64::MAX)).next() {
            self.open.remove(&open);
            let Some(count) = self.open_of.get_mut(&open.1) else { continue };
            *count -= 1;
            if *count == 0 {
                self.open_of.remove(&open.1);
            }
        }
    }

    fn decide(&mut self, held: Held, out: &mut Rows<'_>) {
        match held {
            // It was there before: nothing caused it now.
            Held::Exec(exec) if exec.was_running => out(&exec),
            Held::Exec(mut exec) => {
                let edges = self.of_exec(&exec);
                exec.cause_tool_call_key = best(&edges);
                out(&exec);
                self.edges("exec", format!("{}@{}", exec.proc_id, exec.ts.0), edges, out);
            }
            Held::File(mut file) => {
                let paths = [file.path.as_deref(), file.new_path.as_deref()];
                let names = |call: &Call| paths.iter().flatten().any(|path| call.evidence.names(path));
                let edges = self.of_process(file.proc_id, file.ts, "path_match", names);
                file.cause_tool_call_key = best(&edges);
                out(&file);
                self.edges("file", format!("{}@{}", file.proc_id, file.ts.0), edges, out);
            }
            Held::Connection(mut connection) => {
                let host = connection.server_name.clone();
                let names = |call: &Call| host.as_deref().is_some_and(|host| call.evidence.mentions(host));
                let edges = self.of_process(connection.proc_id, connection.opened_at, "argv_match", names);
                connection.cause_tool_call_key = best(&edges);
                out(&*connection);
                self.edges("connection", connection.conn_id.to_string(), edges, out);
            }
        }
    }

    fn edges(&self, effect_kind: &'static str, effect_key: String, edges: Vec<Edge>, out: &mut Rows<'_>) {
        for edge in edges {
            out(&Cause {
                capture_id: self.capture_id.clone(),
                cause_kind: "tool_call",
                cause_key: edge.key.to_string(),
                effect_kind,
                effect_key: effect_key.clone(),
                method: edge.method,
                confidence: edge.confidence,
                ambiguous_with: edge.others.iter().map(i64::to_string).collect(),
            });
        }
    }

    /// A process and those above it, the nearest first.
    fn line(&self, proc_id: i64) -> Vec<i64> {
        let above = std::iter::successors(Some(proc_id), |proc_id| self.parents.get(proc_id).copied());
        above.take(MAX_DEPTH).collect()
    }

    /// Which calls what a process does may be of.
    fn scope(&self, proc_id: i64, ts: Timestamp) -> Scope {
        let line = self.line(proc_id);
        // A server that asks models itself runs what these ask for.
        let own = |serving: &Serving| line.iter().take(serving.depth + 1).any(|above| self.calls.asks(*above));
        // Requests that are of no call say nothing.
        let telling = |serving: &Serving| serving.open == 0 || !serving.calls.is_empty();
        let serving = self.requests.serving(&line, ts).filter(|serving| telling(serving) && !own(serving));
        let below = serving.as_ref().map_or(line.len(), |serving| serving.depth);
        let inherited = line.iter().take(below).find_map(|above| self.started_by.get(above).copied());
        match serving {
            Some(serving) => Scope { otherwise: pipe(&serving), open: serving.calls, inherited },
            None => {
                let open = self.calls.open(&line, ts);
                Scope { otherwise: window(&open), open, inherited }
            }
        }
    }

    fn of_exec(&mut self, exec: &Exec) -> Vec<Edge> {
        if self.calls.asks(exec.proc_id) {
            return Vec::new();
        }
        let Scope { open, inherited, otherwise } = self.scope(exec.proc_id, exec.ts);
        let running = inherited.filter(|(key, _)| open.contains(key));
        let edges = match running {
            Some((key, confidence)) => {
                // What it runs itself may say more than whose child it is.
                let said = self.calls.matching(&[key], |call| call.evidence.runs(exec));
                match said[..] {
                    [(key, said)] if said >= confidence => self.one_of(vec![(key, said)]),
                    _ => vec![subtree(key, confidence)],
                }
            }
            None => {
                let matching = self.calls.matching(&open, |call| call.evidence.runs(exec));
                match (&matching[..], &open[..], inherited) {
                    ([], [], Some((key, confidence))) => vec![subtree(key, confidence)],
                    ([], _, _) => otherwise,
                    _ => self.one_of(matching),
                }
            }
        };
        if let Some(edge) =
            edges.iter().max_by(|a, b| a.confidence.total_cmp(&b.confidence)).filter(|_| best(&edges).is_some())
        {
            self.started_by.insert(exec.proc_id, (edge.key, edge.confidence));
        }
        edges
    }

    /// Of calls that ask for the same, the first that has not been run yet.
    fn one_of(&mut self, matching: Vec<(i64, f64)>) -> Vec<Edge> {
        let fresh = matching.iter().find(|(key, _)| !self.calls.has_run(*key)).or(matching.first());
        let Some(&(key, confidence)) = fresh else { return Vec::new() };
        self.calls.run(key);
        let others = matching.iter().map(|(other, _)| *other).filter(|other| *other != key).collect();
        vec![Edge { key, method: "argv_match", confidence, others }]
    }

    /// What a process did otherwise: its own arguments do not tell, those of the calls may.
    fn of_process(
        &mut self,
        proc_id: i64,
        ts: Timestamp,
        method: &'static str,
        names: impl Fn(&Call) -> bool,
    ) -> Vec<Edge> {
        let own = self.calls.asks(proc_id);
        let Scope { open, inherited, otherwise } = self.scope(proc_id, ts);
        let inherited = inherited.filter(|_| !own);
        if let Some((key, confidence)) = inherited.filter(|(key, _)| open.is_empty() || open.contains(key)) {
            return vec![subtree(key, confidence)];
        }
        let matching = self.calls.matching(&open, |call| names(call).then_some(0.9));
        match &matching[..] {
            [] if own => Vec::new(),
            [] => otherwise,
            [(key, confidence)] => vec![Edge { key: *key, method, confidence: *confidence, others: Vec::new() }],
            // Several calls name it: the one that was asked for last.
            [others @ .., (key, _)] => {
                let others = others.iter().map(|(other, _)| *other).collect();
                vec![Edge { key: *key, method, confidence: 0.5, others }]
            }
        }
    }
}

/// What an MCP server does while it works.
fn pipe(serving: &Serving) -> Vec<Edge> {
    let confidence = if serving.open == 1 { 0.9 } else { 0.4 };
    each("pipe", confidence, &serving.calls)
}

fn subtree(key: i64, confidence: f64) -> Edge {
    Edge { key, method: "subtree", confidence: (confidence * 0.9).max(0.1), others: Vec::new() }
}

fn window(open: &[i64]) -> Vec<Edge> {
    each("window", if open.len() == 1 { 0.6 } else { 0.3 }, open)
}

/// Any of these calls.
fn each(method: &'static str, confidence: f64, calls: &[i64]) -> Vec<Edge> {
    let others = |key: i64| calls.iter().copied().filter(|other| *other != key).collect();
    calls.iter().map(|&key| Edge { key, method, confidence, others: others(key) }).collect()
}

/// The call that it was, if time alone does not leave several.
fn best(edges: &[Edge]) -> Option<i64> {
    if let [edge] = edges { Some(edge.key) } else { None }
}

impl Analyzer for Causes {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(started) = row.downcast::<Started>() {
            self.parents.insert(started.proc_id, started.parent_proc_id);
        } else if let Some(asking) = row.downcast::<Asking>() {
            self.begun(asking.http_id, asking.proc_id);
        } else if let Some(serving) = row.downcast::<McpServing>() {
            self.begun(serving.http_id, serving.server_proc_id);
        } else if let Some(answered) = row.downcast::<Answered>() {
            self.ended(answered.http_id);
        } else if let Some(exec) = row.downcast::<Exec>() {
            self.hold(exec.ts, Held::Exec(exec.clone()));
        } else if let Some(file) = row.downcast::<File>() {
            self.hold(file.ts, Held::File(file.clone()));
        } else if let Some(connection) = row.downcast::<Connection>() {
            let ts = connection.closed_at.unwrap_or(connection.opened_at);
            self.hold(ts, Held::Connection(Box::new(connection.clone())));
        } else if let Some(requested) = row.downcast::<ToolRequested>() {
            self.calls.requested(requested);
        } else if let Some(call) = row.downcast::<ToolCall>() {
            self.calls.answered(call);
        } else if let Some(request) = row.downcast::<McpRequested>() {
            self.requests.requested(request);
        } else if let Some(called) = row.downcast::<McpCalled>() {
            self.requests.called(called);
        } else if let Some(mcp) = row.downcast::<Mcp>() {
            self.requests.ended(mcp);
        }
        self.hand_on(false, out);
    }

    fn relieve(&mut self, out: &mut Rows<'_>) {
        self.hand_on(true, out);
    }

    fn finish(&mut self, out: &mut Rows<'_>) {
        self.hand_on(true, out);
    }
}
