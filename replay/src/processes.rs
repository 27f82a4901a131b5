//! Follows processes: gives each a `proc_id` of its own, also when the kernel uses a pid again, and makes the rows of the
//! tables `processes` and `execs`.

use crate::bounded::{Bounded, stale};
use crate::execs::{self, PendingExec};
use crate::holes::Spans;
use crate::memory::{Memory, Share};
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record::{self, CAPTURER_CPU};
use std::collections::HashMap;
use zerocopy::little_endian::U32;

/// Two start times of one process may differ by this much: /proc gives clock ticks, the kernel side nanoseconds.
const START_TOLERANCE_NS: u64 = 10_000_000;

/// Processes that live at once, and bytes of their paths and of arguments that are not whole. Were there more, those that were
/// not heard of for longest would be told as they are; one of them that is heard of again is another.
const MAX_LIVE: usize = 32_768;
const MAX_BYTES: usize = 64 << 20;

/// The record of a fork is written within this time after the start of the new process.
const FORK_NS: i64 = 1_000_000_000;

/// Processes that have exited whose number is remembered: what they left behind may be told after them.
const MAX_EXITED: usize = 65536;

/// A process that is alive.
struct Live {
    row: tables::Process,
    start: u64,
    exec: Option<PendingExec>,
    /// The kernel side, or else the capturer, has said who it is.
    identified: bool,
    /// When the last of its descriptors was told, and which that was.
    described: (u64, i32),
    /// Counts what was heard of any.
    heard: u64,
    held: Share,
}

impl Live {
    /// Whether there is room for what it holds now.
    fn fits(&mut self) -> bool {
        let path = self.row.executable_path.as_ref().map_or(0, String::len);
        self.held.hold(path + self.exec.as_ref().map_or(0, PendingExec::held))
    }

    fn finish(self) -> Last {
        (self.row, self.exec.map(PendingExec::finish))
    }
}

/// A process that is gone.
struct Exited {
    proc_id: i64,
    start: u64,
}

/// The row of a process that is not followed any more, and that of its last exec if it was not whole.
type Last = (tables::Process, Option<tables::Exec>);

/// All processes of a capture.
pub(crate) struct Processes {
    capture_id: String,
    live: HashMap<u32, Live>,
    exited: Bounded<u32, Exited>,
    count: i64,
    heard: u64,
    memory: Memory,
    /// Those that had to make room.
    pub given_up: Vec<Last>,
}

impl Processes {
    pub fn new(capture_id: String) -> Self {
        Processes {
            capture_id,
            live: HashMap::new(),
            exited: Bounded::new(MAX_EXITED),
            count: 0,
            heard: 0,
            memory: Memory::new(MAX_BYTES),
            given_up: Vec::new(),
        }
    }

    /// The `proc_id` of a process that runs, or did until now. One that nothing was said of becomes known here.
    pub fn id(&mut self, tgid: u32) -> i64 {
        match self.live.get_mut(&tgid) {
            Some(live) => {
                self.heard += 1;
                live.heard = self.heard;
                live.row.proc_id
            }
            None => self.exited.get(&tgid).map(|exited| exited.proc_id).unwrap_or_else(|| self.live(tgid).row.proc_id),
        }
    }

    /// The `proc_id` of a process, if something was said of it.
    pub fn known(&self, tgid: u32) -> Option<i64> {
        let live = self.live.get(&tgid).map(|live| live.row.proc_id);
        live.or_else(|| Some(self.exited.get(&tgid)?.proc_id))
    }

    /// The `proc_id` of a process that lives, and of its parent.
    pub fn parent(&self, tgid: u32) -> Option<(i64, i64)> {
        let row = &self.live.get(&tgid)?.row;
        Some((row.proc_id, row.parent_proc_id?))
    }

    fn live(&mut self, tgid: u32) -> &mut Live {
        if self.live.len() >= MAX_LIVE && !self.live.contains_key(&tgid) {
            self.make_room();
        }
        self.heard += 1;
        let (count, capture_id, memory) = (&mut self.count, &self.capture_id, &self.memory);
        let exited = &mut self.exited;
        let live = self.live.entry(tgid).or_insert_with(|| {
            *count += 1;
            exited.remove(&tgid);
            let row = tables::Process {
                capture_id: capture_id.clone(),
                proc_id: *count,
                pid: tgid.into(),
                ..tables::Process::default()
            };
            let held = memory.share();
            Live { row, start: 0, exec: None, identified: false, described: (0, i32::MIN), heard: 0, held }
        });
        live.heard = self.heard;
        live
    }

    /// Gives up half of them.
    fn make_room(&mut self) {
        let Some(stale) = stale(self.live.values().map(|live| live.heard)) else { return };
        let mut gone: Vec<Last> =
            self.live.extract_if(|_, live| live.heard <= stale).map(|(_, live)| live.finish()).collect();
        gone.sort_by_key(|(row, _)| row.proc_id);
        self.given_up.append(&mut gone);
    }

    /// Gives up half of them if there is no room for what a process holds now.
    fn weigh(&mut self, tgid: u32) {
        if self.live.len() > 1 && self.live.get_mut(&tgid).is_some_and(|live| !live.fits()) {
            self.make_room();
        }
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
            uid: id(fork.uid),
            depth: parent_row.depth.map(|depth| depth + 1),
            // Who it is comes next.
            ..parent_row
        };
        live.identified = false;
        self.weigh(fork.child_tgid.get());
        lost
    }

    /// A process that was alive when a segment started. That is said behind its exit where that was still on its way to the
    /// file. Returns the row of a process that had its pid before and whose exit was lost, and that of the program that it runs,
    /// unless it was known.
    pub fn snapshot(
        &mut self,
        tgid: u32,
        process: &record::Process,
        (path, cwd, args): (&[u8], &[u8], &[u8]),
        (ts, start_ts): (Timestamp, Timestamp),
    ) -> (Vec<tables::Process>, Option<tables::Exec>) {
        let same = |exited: &Exited| exited.start.abs_diff(process.start.get()) <= START_TOLERANCE_NS;
        if !self.live.contains_key(&tgid) && self.exited.get(&tgid).is_some_and(same) {
            return (Vec::new(), None);
        }
        let lost = self.forget_other(tgid, process.start.get());
        let parent = self.live.get(&process.ppid.get()).map(|parent| (parent.row.proc_id, parent.row.depth));
        let capture_id = self.capture_id.clone();
        let live = self.live(tgid);
        let mut running = None;
        if live.start == 0 {
            live.start = process.start.get();
            live.row.ppid = Some(process.ppid.get().into());
            live.row.parent_proc_id = parent.map(|(id, _)| id);
            live.row.depth = parent.map_or(Some(0), |(_, depth)| depth.map(|depth| depth + 1));
            live.row.start_ts = Some(start_ts);
            live.row.comm = text(trim(&process.comm));
            live.row.executable_path = Some(text(path)).filter(|path| !path.is_empty());
            live.row.uid = id(process.uid);
            let given = exec_row(capture_id, (ts, live.row.proc_id), (path, cwd));
            running = Some(execs::running(given, args, process.args_len.get() as usize));
        }
        self.weigh(tgid);
        (lost, running)
    }

    /// Who a process is. What the capturer says is no newer than what the kernel side has said.
    pub fn identity(&mut self, tgid: u32, identity: &record::Identity) {
        let Some(live) = self.live.get_mut(&tgid) else { return };
        if live.identified && identity.header.cpu.get() == CAPTURER_CPU {
            return;
        }
        live.identified = true;
        let known = |number: U32| Some(i64::from(number.get())).filter(|number| *number != 0);
        live.row.uid = id(identity.uid);
        live.row.effective_uid = id(identity.effective_uid);
        live.row.gid = id(identity.gid);
        live.row.effective_gid = id(identity.effective_gid);
        live.row.namespace_pid = known(identity.namespace_pid);
        live.row.pid_namespace = known(identity.pid_namespace);
        live.row.mnt_namespace = known(identity.mnt_namespace);
        live.row.net_namespace = known(identity.net_namespace);
        live.row.user_namespace = known(identity.user_namespace);
    }

    /// The `proc_id` of a process that lives and had a descriptor open when its recording began, unless that was told: each segment
    /// says it again.
    pub fn described(&mut self, tgid: u32, descriptor: &record::Descriptor) -> Option<i64> {
        let proc_id = self.id(tgid);
        let live = self.live.get_mut(&tgid)?;
        let at = (descriptor.header.time.get(), descriptor.fd.get());
        let fresh = at > live.described;
        live.described = live.described.max(at);
        fresh.then_some(proc_id)
    }

    /// Removes a process whose pid now belongs to another.
    fn forget_other(&mut self, tgid: u32, start: u64) -> Vec<tables::Process> {
        let other =
            self.live.get(&tgid).is_some_and(|live| live.start != 0 && live.start.abs_diff(start) > START_TOLERANCE_NS);
        if other { self.live.remove(&tgid).map(|live| live.row).into_iter().collect() } else { Vec::new() }
    }

    /// An exec. Its arguments follow; the row of an exec before it, whose arguments never came whole, is returned. A process that
    /// nothing was said of before is the root of those that are recorded, unless its fork may be among what is missing (`holes`).
    pub fn exec(
        &mut self,
        tgid: u32,
        exec: &record::Exec,
        (path, cwd): (&[u8], &[u8]),
        (ts, start_ts): (Timestamp, Timestamp),
        holes: &Spans,
    ) -> Option<tables::Exec> {
        let capture_id = self.capture_id.clone();
        let parent = self.live.get(&exec.ppid.get()).map(|parent| (parent.row.proc_id, parent.row.depth));
        let live = self.live(tgid);
        let unfinished = live.exec.take().map(PendingExec::finish);
        if live.row.depth.is_none() && live.row.parent_proc_id.is_none() {
            live.row.parent_proc_id = parent.map(|(id, _)| id);
            let root = || (!holes.meet((start_ts, Timestamp(start_ts.0.saturating_add(FORK_NS))))).then_some(0);
            live.row.depth = parent.map_or_else(root, |(_, depth)| depth.map(|depth| depth + 1));
        }
        live.start = exec.start.get();
        live.row.start_ts.get_or_insert(start_ts);
        live.row.ppid.get_or_insert(exec.ppid.get().into());
        live.row.comm = text(trim(&exec.comm));
        live.row.executable_path = Some(text(path));
        live.row.uid = id(exec.uid);
        live.row.gid = id(exec.gid);
        let row = exec_row(capture_id, (ts, live.row.proc_id), (path, cwd));
        live.exec = Some(PendingExec::new(row, exec.args_len.get() as usize));
        self.weigh(tgid);
        unfinished
    }

    /// A piece of the arguments of the last exec; the row, once they are whole.
    pub fn exec_args(&mut self, tgid: u32, args: &record::ExecArgs, data: &[u8]) -> Option<tables::Exec> {
        let live = self.live.get_mut(&tgid)?;
        if live.exec.is_none() {
            // The record of the exec itself was lost: what is known is of the program before.
            live.row.comm.clear();
            live.row.executable_path = None;
        }
        let last = live.exec.as_mut()?.take(args, data);
        if !live.fits()
            && let Some(pending) = &mut live.exec
        {
            pending.let_go();
            live.fits();
        }
        if last { live.exec.take().map(PendingExec::finish) } else { None }
    }

    /// The end of a process.
    pub fn exit(&mut self, tgid: u32, exit: &record::Exit, ts: Timestamp) -> (tables::Process, Option<tables::Exec>) {
        self.live(tgid);
        let Some(mut live) = self.live.remove(&tgid) else { return Default::default() };
        self.exited.insert(tgid, Exited { proc_id: live.row.proc_id, start: live.start });
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
    pub fn finish(&mut self) -> Vec<Last> {
        let mut rest: Vec<Last> = self.live.drain().map(|(_, live)| live.finish()).collect();
        rest.sort_by_key(|(row, _)| row.proc_id);
        rest
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

/// The number of a user or group; the largest is nobody's.
fn id(number: U32) -> Option<i64> {
    Some(number.get()).filter(|number| *number != u32::MAX).map(i64::from)
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

/// The program of a process, whose arguments are told apart.
fn exec_row(capture_id: String, (ts, proc_id): (Timestamp, i64), (path, cwd): (&[u8], &[u8])) -> tables::Exec {
    let (executable_path, working_directory) = (text(path), text(cwd));
    tables::Exec { capture_id, ts, proc_id, executable_path, working_directory, ..tables::Exec::default() }
}
