//! Follows processes: gives each a `proc_id` of its own, also when the kernel uses a pid again, and makes the rows of the
//! tables `processes` and `execs`.

use crate::bounded::Bounded;
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record;
use std::collections::HashMap;

/// Two start times of one process may differ by this much: /proc gives clock ticks, the kernel side nanoseconds.
const START_TOLERANCE_NS: u64 = 10_000_000;

/// Processes that have exited whose number is remembered: what they left behind may be told after them.
const MAX_EXITED: usize = 65536;

/// Longest arguments of one exec, in bytes: more than the kernel takes (a quarter of the stack, 6 MiB at most).
const MAX_ARGS: usize = 8 << 20;

/// A process that is alive.
struct Live {
    row: tables::Process,
    start: u64,
    exec: Option<PendingExec>,
}

/// An exec whose arguments are still to come.
struct PendingExec {
    row: tables::Exec,
    args: Vec<u8>,
    total: usize,
    gap: bool,
}

/// All processes of a capture.
pub(crate) struct Processes {
    capture_id: String,
    live: HashMap<u32, Live>,
    exited: Bounded<u32, i64>,
    count: i64,
}

impl Processes {
    pub fn new(capture_id: String) -> Self {
        Processes { capture_id, live: HashMap::new(), exited: Bounded::new(MAX_EXITED), count: 0 }
    }

    /// The `proc_id` of a process that runs, or did until now. One that nothing was said of becomes known here.
    pub fn id(&mut self, tgid: u32) -> i64 {
        self.known(tgid).unwrap_or_else(|| self.live(tgid).row.proc_id)
    }

    /// The `proc_id` of a process, if something was said of it.
    pub fn known(&self, tgid: u32) -> Option<i64> {
        let live = self.live.get(&tgid).map(|live| live.row.proc_id);
        live.or_else(|| self.exited.get(&tgid).copied())
    }

    /// The `proc_id` of a process that lives, and of its parent.
    pub fn parent(&self, tgid: u32) -> Option<(i64, i64)> {
        let row = &self.live.get(&tgid)?.row;
        Some((row.proc_id, row.parent_proc_id?))
    }

    fn live(&mut self, tgid: u32) -> &mut Live {
        let (count, capture_id) = (&mut self.count, &self.capture_id);
        let exited = &mut self.exited;
        self.live.entry(tgid).or_insert_with(|| {
            *count += 1;
            exited.remove(&tgid);
            let row = tables::Process {
                capture_id: capture_id.clone(),
                proc_id: *count,
                pid: tgid.into(),
                ..tables::Process::default()
            };
            Live { row, start: 0, exec: None }
        })
    }

    /// A fork. Returns the row of a process that had the child's pid before and whose exit was lost.
    pub fn fork(&mut self, parent: u32, fork: &record::Fork, start_ts: Timestamp) -> Vec<tables::Process> {
        let parent_row = self.live(parent).row.clone();
        let lost = self.forget_other(fork.child_tgid.get(), fork.child_start.get());
        let live = self.live(fork.child_tgid.get());
        live.start = fork.child_start.get();
        live.row = tables::Process {
            proc_id: live.row.proc_id,
            parent_proc_id: Some(parent_row.proc_id),
            pid: fork.child_tgid.get().into(),
            ppid: Some(parent.into()),
            start_ts: Some(start_ts),
            comm: text(trim(&fork.comm)),
            uid: Some(fork.uid.get().into()),
            depth: parent_row.depth + 1,
            ..parent_row
        };
        lost
    }

    /// A process that was alive when a segment started.
    pub fn snapshot(
        &mut self,
        tgid: u32,
        process: &record::Process,
        path: &[u8],
        start_ts: Timestamp,
    ) -> Vec<tables::Process> {
        let lost = self.forget_other(tgid, process.start.get());
        let parent = self.live.get(&process.ppid.get()).map(|parent| (parent.row.proc_id, parent.row.depth));
        let live = self.live(tgid);
        if live.start == 0 {
            live.start = process.start.get();
            live.row.ppid = Some(process.ppid.get().into());
            live.row.parent_proc_id = parent.map(|(id, _)| id);
            live.row.depth = parent.map_or(0, |(_, depth)| depth + 1);
            live.row.start_ts = Some(start_ts);
            live.row.comm = text(trim(&process.comm));
            live.row.executable_path = Some(text(path)).filter(|path| !path.is_empty());
            live.row.uid = Some(process.uid.get().into());
        }
        lost
    }

    /// Removes a process whose pid now belongs to another.
    fn forget_other(&mut self, tgid: u32, start: u64) -> Vec<tables::Process> {
        let other =
            self.live.get(&tgid).is_some_and(|live| live.start != 0 && live.start.abs_diff(start) > START_TOLERANCE_NS);
        if other { self.live.remove(&tgid).map(|live| live.row).into_iter().collect() } else { Vec::new() }
    }

    /// An exec. Its arguments follow; the row of an exec before it, whose arguments never came whole, is returned.
    pub fn exec(
        &mut self,
        tgid: u32,
        exec: &record::Exec,
        (path, cwd): (&[u8], &[u8]),
        ts: Timestamp,
        start_ts: Timestamp,
    ) -> Option<tables::Exec> {
        let capture_id = self.capture_id.clone();
        let live = self.live(tgid);
        let unfinished = live.exec.take().map(PendingExec::finish);
        live.start = exec.start.get();
        live.row.start_ts.get_or_insert(start_ts);
        live.row.ppid.get_or_insert(exec.ppid.get().into());
        live.row.comm = text(trim(&exec.comm));
        live.row.executable_path = Some(text(path));
        live.row.uid = Some(exec.uid.get().into());
        let row = tables::Exec {
            capture_id,
            ts,
            proc_id: live.row.proc_id,
            executable_path: text(path),
            working_directory: text(cwd),
            ..tables::Exec::default()
        };
        live.exec = Some(PendingExec { row, args: Vec::new(), total: exec.args_len.get() as usize, gap: false });
        unfinished
    }

    /// A piece of the arguments of the last exec; the row, once they are whole.
    pub fn exec_args(&mut self, tgid: u32, args: &record::ExecArgs, data: &[u8]) -> Option<tables::Exec> {
        let live = self.live.get_mut(&tgid)?;
        let pending = live.exec.as_mut()?;
        pending.gap |= pending.args.len() != args.offset.get() as usize || args.len != args.captured;
        pending.gap |= pending.args.len() + data.len() > MAX_ARGS;
        if !pending.gap {
            pending.args.extend_from_slice(data);
        }
        let last = args.offset.get().saturating_add(args.len.get()) as usize >= pending.total;
        if last { live.exec.take().map(PendingExec::finish) } else { None }
    }

    /// The end of a process.
    pub fn exit(&mut self, tgid: u32, exit: &record::Exit, ts: Timestamp) -> (tables::Process, Option<tables::Exec>) {
        self.live(tgid);
        let Some(mut live) = self.live.remove(&tgid) else { return Default::default() };
        self.exited.insert(tgid, live.row.proc_id);
        let status = exit.status.get();
        let signal = status & 0x7f;
        live.row.exit_ts = Some(ts);
        live.row.exit_code = (signal == 0).then_some(i64::from((status >> 8) & 0xff));
        live.row.exit_signal = (signal != 0).then_some(i64::from(signal));
        let (user, system) = cpu_times(exit);
        live.row.user_ns = Some(user);
        live.row.system_ns = Some(system);
        live.row.max_rss_bytes = Some(signed(exit.max_rss_bytes.get()));
        (live.row, live.exec.map(PendingExec::finish))
    }

    /// What is left at the end of the capture, in the order of their ids.
    pub fn finish(&mut self) -> Vec<(tables::Process, Option<tables::Exec>)> {
        let mut rest: Vec<_> =
            self.live.drain().map(|(_, live)| (live.row, live.exec.map(PendingExec::finish))).collect();
        rest.sort_by_key(|(row, _)| row.proc_id);
        rest
    }
}

impl PendingExec {
    fn finish(mut self) -> tables::Exec {
        self.row.truncated = self.gap || self.args.len() < self.total;
        let whole = self.args.strip_suffix(&[0]).unwrap_or(&self.args);
        if !whole.is_empty() || self.total > 0 {
            self.row.args = whole.split(|byte| *byte == 0).map(text).collect();
        }
        self.row.command_line = self.row.args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ");
        self.row
    }
}

/// Scales the ticks of user and system time to the exact run time, as getrusage(2) does.
fn cpu_times(exit: &record::Exit) -> (i64, i64) {
    let (user, system, runtime) = (exit.user_ns.get(), exit.system_ns.get(), exit.runtime_ns.get());
    let ticks = u128::from(user) + u128::from(system);
    if ticks == 0 {
        return (signed(runtime), 0);
    }
    let system = (u128::from(runtime) * u128::from(system) / ticks) as u64;
    (signed(runtime.saturating_sub(system)), signed(system))
}

/// Quotes an argument for a POSIX shell, if it needs to be.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { format!("'{}'", arg.replace('\'', r"'\''")) }
}

/// A number of the kernel as SQL has it; what does not fit is the largest.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bytes as text; what is no UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn trim(comm: &[u8; 16]) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quoted("a-b/c.d"), "a-b/c.d");
        assert_eq!(quoted("it's $1"), r"'it'\''s $1'");
        assert_eq!(quoted(""), "''");
    }
}
