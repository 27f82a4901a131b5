//! One recording from start to end: what is set up in which order, what is waited for, and how it is taken down.

use crate::adoption::{self, FIRST_GENERATION};
use crate::batches::Batches;
use crate::error::Error;
use crate::events::{Event, Queue};
use crate::kernel::{self, Kernel, Settings};
use crate::metrics::{self, Sampler};
use crate::output::Output;
use crate::prober::{Prober, note_record};
use crate::recorder::{Counters, Recorder};
use crate::signals::Signals;
use crate::sums;
use crate::targets::{self, Targets};
use crate::threads::Threads;
use crate::user;
use crate::warmup::WarmUp;
use crate::{DEFAULT_RING, End, News, Options, Progress, Summary};
use crate::{command, libraries, memory, mentioned, metadata, preflight, privilege, procfs};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Pid};
use std::collections::BTreeSet;
use std::io::Read;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked for what need not be held any longer.
const TIDY: Duration = Duration::from_secs(10);

/// Records until the end, and writes a capture. `tell` gets the news of it.
///
/// Call it from the main thread while it is the only one: the command is forked from it.
///
/// # Errors
/// When recording cannot begin, the command cannot be run, or the file cannot be written. The command, once started, runs
/// on in any case.
pub fn capture(options: &Options, tell: &mut dyn FnMut(News<'_>)) -> Result<Summary, Error> {
    if options.names_nothing() {
        return Err(Error::NoTarget);
    }
    preflight::check()?;
    let invoker = user::invoker()?;
    let mut output = Output::new(options, invoker.clone())?;
    let targets = targets::find(options)?;
    let signals = Signals::block()?;
    let waiting = match &options.command[..] {
        [] => None,
        command => Some(command::prepare(command, invoker.as_ref(), &signals.inherited, output.is_stdout())?),
    };

    let settings = settings(options, &targets);
    let mut storage = [const { MaybeUninit::uninit() }; 3];
    let mut kernel = kernel::load(&mut storage, &settings)?;
    let sources = kernel.attach(&settings)?;
    let mut prober = Prober::new();
    prober.warnings.extend(targets.warnings.iter().cloned());
    let mut snapshot: Vec<u8> = Vec::new();
    for library in libraries::installed() {
        snapshot.extend(prober.probe(&kernel, &library, &library).unwrap_or_default());
    }
    for program in mentioned::programs_of(&options.command) {
        let name = program.canonicalize().unwrap_or_else(|_| program.clone());
        snapshot.extend(prober.probe(&kernel, &program, &name).unwrap_or_default());
    }
    adoption::adopt_all(&kernel, &mut prober, &targets, &mut snapshot)?;

    memory::forget_start();
    // Nothing has been replaced yet.
    signals.none_came()?;
    let started = Instant::now();
    let ring = kernel.ring()?;
    let counters = Arc::<Counters>::default();
    let metadata = metadata::of(options, invoker.as_ref());
    let first = output.open()?;
    let recorder = Recorder::begin(first, output, metadata, &snapshot, kernel.drops()?, counters.clone())?;
    privilege::drop_unneeded(kernel.attach, options.rotates())?;
    let (events, inbox) = channel();
    let threads = Threads::start(recorder, ring, kernel.drops()?, &events)?;
    let warm_up = WarmUp::start(&kernel);
    warm_up.begin();
    prober.warm_up = Some(warm_up);
    prober.attached.guard(events.clone());
    let selects = !settings.names.is_empty() || !settings.cgroups.is_empty() || options.all;
    let mut session = Session {
        running: if selects { BTreeSet::new() } else { targets.running() },
        selects,
        has_command: waiting.is_some(),
        until_all_exit: options.until_all_exit,
        sampler: Sampler::new(kernel::page_size()),
        kernel,
        prober,
        inbox,
        queue: Queue::default(),
        batches: &threads.batches,
        counters: &counters,
        started,
        tidied: started,
        caller: tell,
    };

    let command = match waiting {
        None => None,
        Some(waiting) => {
            let begun = session.kernel.add_target(waiting.pid.as_raw() as u32, FIRST_GENERATION);
            match begun.and_then(|_| signals.none_came()).and_then(|()| waiting.go()) {
                Ok(pid) => Some(watch_command(pid, events.clone())),
                Err(error) => {
                    // Nothing ran: an empty capture would only be in the way of the next try.
                    let written = threads.stop(Vec::new);
                    for path in written.into_iter().flat_map(|written| written.files) {
                        let _ = std::fs::remove_file(path);
                    }
                    return Err(error);
                }
            }
        }
    };
    signals.forward(events);
    let (end, exit) = session.wait(options.duration);
    let elapsed = started.elapsed();
    if let Some(code) = exit.and_then(command::exit_code) {
        session.tell(note_record(serde_json::json!({"what": "command_exit", "status": code})));
    }
    // Of a whole machine it goes without saying.
    let runs_on = if exit.is_some() && !options.all { session.running() } else { Vec::new() };
    if !runs_on.is_empty() {
        let processes: Vec<_> =
            runs_on.iter().map(|(pid, comm)| serde_json::json!({"pid": pid, "comm": comm})).collect();
        session.tell(note_record(serde_json::json!({"what": "runs_on", "processes": processes})));
    }
    let Session { kernel, prober: Prober { attached, probed, mut warnings, .. }, inbox, caller, .. } = session;
    kernel.forget_targets();
    let written = threads.stop(|| sums::of_what_is_open(&kernel));
    detach((attached.take(), sources, kernel));
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            if command.is_some() && exit.is_none() {
                caller(News::Failed(&error));
                wait_for_command(&inbox);
            }
            return Err(error);
        }
    };
    warnings.extend(written.warnings);
    Ok(Summary {
        end,
        exit_code: exit.and_then(command::exit_code),
        command_pid: command.map(|pid| pid.as_raw() as u32),
        elapsed,
        files: written.files,
        records: written.records,
        raw_bytes: written.raw_bytes,
        disk_bytes: written.disk_bytes,
        dropped_records: written.dropped_records,
        dropped_bytes: written.dropped_bytes,
        probed,
        warnings,
        runs_on,
        opaque: written.opaque,
    })
}

/// Closes what is attached, without keeping the caller waiting: the kernel takes some 70 ms for each tracepoint, one after
/// the other. A child that shares the descriptors is the last to close them, by ending once this process has closed its own.
fn detach<T>(attached: T) {
    let Ok((mut closed, closing)) = std::io::pipe() else { return drop(attached) };
    // SAFETY: the child calls nothing but close, read and _exit, which are async-signal-safe.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => {
            drop(closing);
            for standard in 0..3 {
                // Whoever reads our output is not to wait for the child. SAFETY: it has no other use for them.
                unsafe { libc::close(standard) };
            }
            let _ = closed.read(&mut [0]);
            // SAFETY: ends at once, running nothing of ours.
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { .. }) | Err(_) => drop(attached),
    }
}

/// The part of a recording that acts on events.
struct Session<'a, 'c, 'obj> {
    kernel: Kernel<'obj>,
    prober: Prober,
    sampler: Sampler,
    inbox: Receiver<Event>,
    queue: Queue,
    batches: &'a Batches,
    counters: &'a Counters,
    caller: &'c mut dyn FnMut(News<'_>),
    started: Instant,
    /// When it was last looked for what need not be held any longer.
    tidied: Instant,
    /// The processes that were named and have not exited; nobody asks for them where others are to come.
    running: BTreeSet<u32>,
    /// Whether processes of the future are named: then there is no end before somebody ends it.
    selects: bool,
    has_command: bool,
    until_all_exit: bool,
}

impl Session<'_, '_, '_> {
    /// Attaches to new programs until the recording ends. Returns why it did, and the command's wait status if it exited.
    fn wait(&mut self, duration: Option<Duration>) -> (End, Option<WaitStatus>) {
        let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
        // A process may have exited before it was followed; then nothing will tell.
        self.running.retain(|pid| procfs::check(*pid).is_ok());
        let mut terminal_had_its_turn = !self.has_command;
        let mut tick = Instant::now();
        let mut exit = None;
        loop {
            if self.is_over(exit.is_some()) {
                return (End::Exited, exit);
            }
            if tick <= Instant::now() {
                self.tick();
                tick = Instant::now() + metrics::INTERVAL;
            }
            let until = deadline.map_or(tick, |deadline| deadline.min(tick));
            match self.queue.next(&self.inbox, until.saturating_duration_since(Instant::now())) {
                Ok(Event::CommandExit(status)) => {
                    exit = Some(status);
                    self.tell_who_runs_on();
                }
                // Ctrl-C goes to the command as well, which may end, or ask, or go on: the second one is for us.
                Ok(Event::Signal { from_terminal: true, .. }) if !terminal_had_its_turn => terminal_had_its_turn = true,
                Ok(Event::Signal { number, .. }) => return (End::Signal(number), exit),
                // The other thread's error is the result; this one is not read.
                Ok(Event::Warning(warning)) => (self.caller)(News::Warning(warning)),
                Ok(Event::Failed) | Err(RecvTimeoutError::Disconnected) => return (End::Exited, exit),
                Ok(event) => self.look(event),
                Err(RecvTimeoutError::Timeout) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return (End::Duration, exit);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Whether nobody is left whose end is awaited.
    fn is_over(&self, command_exited: bool) -> bool {
        match self.has_command {
            true => command_exited && (!self.until_all_exit || self.running().is_empty()),
            false => !self.selects && self.running.is_empty(),
        }
    }

    /// The recorded processes that have not ended, with their names.
    fn running(&self) -> Vec<(u32, String)> {
        let ourselves = std::process::id();
        let running = self.kernel.targets().into_iter().filter(|pid| *pid != ourselves && !procfs::is_gone(*pid));
        running.map(|pid| (pid, procfs::comm(pid))).collect()
    }

    /// The command has ended, and others may have to be waited for.
    fn tell_who_runs_on(&mut self) {
        let running = if self.until_all_exit { self.running() } else { Vec::new() };
        if !running.is_empty() {
            (self.caller)(News::RunsOn(&running));
        }
    }

    /// Looks at what is new in a recorded process.
    fn look(&mut self, event: Event) {
        let record = match event {
            Event::Exec(pid) => self.prober.probe_executable(&self.kernel, pid),
            Event::Map(pid, path) => self.prober.probe_library(&self.kernel, pid, &path),
            Event::Written(file, name) => self.prober.probe_again(&self.kernel, file, &name),
            Event::Adopt(pid) => {
                let mut records = Vec::new();
                if let Err(error) = adoption::adopt_descendants(&self.kernel, &mut self.prober, pid, &mut records) {
                    self.prober.warnings.push(format!("process {pid}: its descendants are not recorded: {error}"));
                }
                Some(records)
            }
            Event::Exit(pid) => {
                self.running.remove(&pid);
                None
            }
            Event::CommandExit(_) | Event::Signal { .. } | Event::Warning(_) | Event::Failed => None,
        };
        if let Some(record) = record.filter(|record| !record.is_empty()) {
            self.tell(record);
        }
    }

    /// Gives back what is not needed any more.
    fn tidy(&mut self) {
        self.tidied = Instant::now();
        let kernel = &self.kernel;
        self.prober.release_deleted(|| kernel.targets());
        memory::trim();
    }

    /// What is done once a second.
    fn tick(&mut self) {
        if self.tidied.elapsed() >= TIDY {
            self.tidy();
        }
        let sample = self.sampler.sample(&self.kernel.targets());
        if !sample.is_empty() {
            self.tell(sample);
        }
        (self.caller)(News::Progress(Progress {
            elapsed: self.started.elapsed(),
            records: self.counters.records.load(Ordering::Relaxed),
            raw_bytes: self.counters.raw_bytes.load(Ordering::Relaxed),
            disk_bytes: self.counters.disk_bytes.load(Ordering::Relaxed),
            dropped_records: self.counters.dropped_records.load(Ordering::Relaxed),
            probed: self.prober.probed.len(),
        }));
    }

    /// Puts a record of the capturer's own into the file.
    fn tell(&self, record: Vec<u8>) {
        self.batches.send(record);
    }
}

/// Waits for the command on a thread of its own.
fn watch_command(pid: Pid, events: Sender<Event>) -> Pid {
    thread::spawn(move || {
        let event = match nix::sys::wait::waitpid(pid, None) {
            Ok(status) => Event::CommandExit(status),
            Err(_) => Event::Failed,
        };
        let _ = events.send(event);
    });
    pid
}

/// After recording has failed, the command is still the caller's: its end is awaited, or a signal.
fn wait_for_command(inbox: &Receiver<Event>) {
    while let Ok(event) = inbox.recv() {
        if matches!(event, Event::CommandExit(_) | Event::Signal { from_terminal: false, .. }) {
            break;
        }
    }
}

fn settings(options: &Options, targets: &Targets) -> Settings {
    Settings {
        ring: ring_size(options.ring.unwrap_or(DEFAULT_RING)),
        max_payload: options.max_payload.unwrap_or(0),
        plain: !options.no_plain,
        stdio: options.stdio,
        names: targets.names.clone(),
        cgroups: targets.cgroup_paths(),
    }
}

/// The kernel takes a power of 2, of whole pages and within 32 bits.
fn ring_size(wanted: u64) -> u32 {
    let page = kernel::page_size().next_power_of_two() as u32;
    u32::try_from(wanted.min(1 << 31)).unwrap_or(1 << 31).max(page).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_a_power_of_two_that_holds_a_page() {
        assert_eq!([1, 5000, 1 << 20, 3 << 20].map(ring_size), [4096, 8192, 1 << 20, 4 << 20]);
        assert_eq!(ring_size(u64::MAX), 1 << 31);
    }
}
