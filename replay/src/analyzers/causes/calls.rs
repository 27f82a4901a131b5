//! The tool calls that are open, by the process that asked the model.

use super::evidence::Evidence;
use crate::bounded::Bounded;
use crate::names;
use crate::signals::ToolRequested;
use crate::table::Timestamp;
use crate::tables::ToolCall;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most calls that are known at once; one that never gets a result stays open until then.
const MAX_CALLS: usize = 4096;

/// Bytes of memory that what they say takes.
const MAX_BYTES: usize = 64 << 20;

/// Most calls of one process that are compared with something that happened, and that are looked at for that.
const MAX_COMPARED: usize = 64;
const MAX_LOOKED_AT: usize = 512;

/// Processes that asked for a tool.
const MAX_ASKING: usize = 65_536;

pub(super) struct Call {
    pub evidence: Evidence,
    size: usize,
    proc_id: i64,
    tool_call_id: Option<String>,
    requested: i64,
    answered: Option<i64>,
    /// An exec was found to be what it asks for.
    run: bool,
}

pub(super) struct Calls {
    calls: BTreeMap<i64, Call>,
    bytes: usize,
    of_process: HashMap<i64, BTreeSet<i64>>,
    /// The newest of a process and of an id.
    by_id: HashMap<(i64, String), i64>,
    /// By when they were answered.
    closed: BTreeSet<(i64, i64)>,
    /// Every process that ever asked for one.
    asking: Bounded<i64, ()>,
}

impl Default for Calls {
    fn default() -> Self {
        Calls {
            calls: BTreeMap::new(),
            bytes: 0,
            of_process: HashMap::new(),
            by_id: HashMap::new(),
            closed: BTreeSet::new(),
            asking: Bounded::new(MAX_ASKING),
        }
    }
}

impl Calls {
    pub fn requested(&mut self, request: &ToolRequested) {
        let Some(ts) = request.requested_ts else { return };
        let tool_call_id = request.tool_call_id.as_deref().map(names::brief);
        // The model was asked once more: the newer call is the one that is run.
        let key = request.tool_call_key;
        let again = tool_call_id.clone().and_then(|id| self.by_id.insert((request.proc_id, id), key));
        again.into_iter().for_each(|old| self.close(old, ts.0));
        self.of_process.entry(request.proc_id).or_default().insert(key);
        if self.asking.get(&request.proc_id).is_none() {
            self.asking.insert(request.proc_id, ());
        }
        let evidence = Evidence::of(&request.arguments);
        let size = evidence.size();
        let (proc_id, requested) = (request.proc_id, ts.0);
        let call = Call { evidence, size, proc_id, tool_call_id, requested, answered: None, run: false };
        self.bytes += size;
        self.calls.insert(key, call);
        while (self.calls.len() > MAX_CALLS || self.bytes > MAX_BYTES)
            && let Some((key, _)) = self.calls.first_key_value()
        {
            self.forget(*key);
        }
    }

    pub fn answered(&mut self, call: &ToolCall) {
        if let Some(ts) = call.result_ts {
            self.close(call.tool_call_key, ts.0);
        }
    }

    fn close(&mut self, key: i64, ts: i64) {
        if let Some(call) = self.calls.get_mut(&key).filter(|call| call.answered.is_none()) {
            call.answered = Some(ts);
            self.closed.insert((ts, key));
        }
    }

    /// Nothing that happened before is asked about any more.
    pub fn forget_before(&mut self, ts: i64) {
        while let Some(&(_, key)) = self.closed.first().filter(|(closed, _)| *closed < ts) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: i64) {
        let Some(call) = self.calls.remove(&key) else { return };
        if let Some(ts) = call.answered {
            self.closed.remove(&(ts, key));
        }
        self.bytes = self.bytes.saturating_sub(call.size);
        if let Some(keys) = self.of_process.get_mut(&call.proc_id) {
            keys.remove(&key);
            if keys.is_empty() {
                self.of_process.remove(&call.proc_id);
            }
        }
        let id = call.tool_call_id.map(|id| (call.proc_id, id));
        if let Some(id) = id.filter(|id| self.by_id.get(id) == Some(&key)) {
            self.by_id.remove(&id);
        }
    }

    /// Whether this process asks models itself.
    pub fn asks(&self, proc_id: i64) -> bool {
        self.asking.get(&proc_id).is_some()
    }

    /// The calls of these processes that were open at a time, in the order in which they were asked for.
    pub fn open(&self, line: &[i64], ts: Timestamp) -> Vec<i64> {
        let keys = line
            .iter()
            .filter_map(|proc_id| self.of_process.get(proc_id))
            .flat_map(|keys| keys.iter().rev().take(MAX_LOOKED_AT));
        let open = |key: &&i64| {
            let call = self.calls.get(*key);
            call.is_some_and(|call| call.requested <= ts.0 && call.answered.is_none_or(|end| ts.0 <= end))
        };
        let mut open: Vec<i64> = keys.filter(open).take(MAX_COMPARED).copied().collect();
        open.sort_unstable();
        open
    }

    /// Those for which something speaks, and how much; only the most.
    pub fn matching(&self, open: &[i64], speaks: impl Fn(&Call) -> Option<f64>) -> Vec<(i64, f64)> {
        let found = open.iter().filter_map(|key| Some((*key, speaks(self.calls.get(key)?)?)));
        let found: Vec<_> = found.collect();
        let most = found.iter().map(|(_, confidence)| *confidence).fold(0.0, f64::max);
        found.into_iter().filter(|(_, confidence)| *confidence >= most).collect()
    }

    pub fn has_run(&self, key: i64) -> bool {
        self.calls.get(&key).is_some_and(|call| call.run)
    }

    pub fn run(&mut self, key: i64) {
        if let Some(call) = self.calls.get_mut(&key) {
            call.run = true;
        }
    }
}
