//! The capturer: it chooses what to record, attaches probes, drains the ring buffer and writes the capture file.
//!
//! It is the half that runs as root, and so it is small: it knows records and how to keep them, and nothing of HTTP, models,
//! Arrow or SQL. Three threads share the work, so that the ring is never left waiting: [`drain`] copies records out of the
//! ring, [`recorder`] compresses and writes them, and the calling thread ([`session`]) starts the command, looks at new
//! programs, attaches probes and waits for the end.

#![cfg(target_os = "linux")]

mod adoption;
mod attached;
mod batches;
mod cgroups;
mod clock;
mod command;
mod courtesy;
pub mod doctor;
mod drain;
mod error;
mod events;
mod explain;
mod identity;
mod inherited;
mod kernel;
mod libraries;
mod memory;
mod mentioned;
mod metadata;
mod metrics;
mod opaque;
mod output;
mod owned;
mod pace;
mod preflight;
pub mod privilege;
mod prober;
mod procfs;
mod recorder;
mod regular;
mod repository;
pub mod resolver;
mod ringbuf;
mod session;
mod signals;
mod state;
mod sums;
mod targets;
mod threads;
mod tracepoints;
mod user;
mod warmup;

pub use error::Error;
pub use explain::{Explanation, Subject, explain};
pub use opaque::Unseen;
pub use session::capture;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What to record, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The capture file to write; `-` for standard output.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub force: bool,
    /// A command to start and record with all its descendants: program and arguments.
    pub command: Vec<OsString>,
    /// Running processes to record, with their present and future descendants.
    pub pids: Vec<u32>,
    /// Processes of these names (of a thread, or the file name of an executable) are recorded, present and future ones.
    pub comms: Vec<String>,
    /// Processes in these cgroups and in those below them are recorded, present and future ones: paths of cgroup2, absolute
    /// in the file system or relative to where it is mounted.
    pub cgroups: Vec<PathBuf>,
    /// Containers whose processes are recorded: what their cgroups are named by, at least 8 characters of the id.
    pub containers: Vec<String>,
    /// Every process is recorded, the capturer itself excepted.
    pub all: bool,
    /// Whether recording goes on when the command has ended, until every recorded process has.
    pub until_all_exit: bool,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Bytes kept of each transfer (a write, a message); the others are counted. `None` keeps all.
    pub max_payload: Option<u64>,
    /// Size of the ring between kernel and capturer in bytes, made a power of 2; `None` is [`DEFAULT_RING`].
    pub ring: Option<u64>,
    /// Whether connections without TLS that begin with HTTP are left out.
    pub no_plain: bool,
    pub stdio: Stdio,
    /// A new file after this many bytes on disk, or this time; each is a whole capture. `output` then names them all:
    /// `run.asc` becomes `run-0001.asc` and so on.
    pub rotate_size: Option<u64>,
    pub rotate_time: Option<Duration>,
    /// So many of the rotated files are kept, the newest.
    pub keep: Option<usize>,
}

impl Options {
    /// Whether there is nothing to record.
    fn names_nothing(&self) -> bool {
        self.command.is_empty() && self.selectors().is_empty()
    }

    /// Whether the capture is several files.
    pub fn rotates(&self) -> bool {
        self.rotate_size.is_some() || self.rotate_time.is_some()
    }

    /// What was chosen, in the words of the command line; the command first.
    fn selectors(&self) -> Vec<String> {
        let command = (!self.command.is_empty()).then(|| "command".to_owned());
        let pids = self.pids.iter().map(|pid| format!("--pid {pid}"));
        let comms = self.comms.iter().map(|name| format!("--comm {name}"));
        let cgroups = self.cgroups.iter().map(|path| format!("--cgroup {}", path.display()));
        let containers = self.containers.iter().map(|id| format!("--container {id}"));
        let all = self.all.then(|| "--all".to_owned());
        command.into_iter().chain(pids).chain(comms).chain(cgroups).chain(containers).chain(all).collect()
    }
}

/// Bytes of the ring between kernel and capturer where nothing else is asked for.
pub const DEFAULT_RING: u64 = 16 << 20;

/// Which standard streams are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdio {
    Off = 0,
    /// Those that begin as JSON-RPC does.
    Mcp = 1,
    #[default]
    All = 2,
}

/// Why recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The command exited, and with [`Options::until_all_exit`] all others; or every process that was named did.
    Exited,
    /// [`Options::duration`] is over.
    Duration,
    /// A signal, by number.
    Signal(i32),
}

/// What a caller is told while recording.
#[derive(Debug)]
pub enum News<'a> {
    /// How it goes, once a second.
    Progress(Progress),
    /// What is not as it was asked for, though recording goes on.
    Warning(String),
    /// The command has ended, and recording goes on until these have: process ids and names.
    RunsOn(&'a [(u32, String)]),
    /// Recording has failed, and the command runs on. When that has ended, the same error is returned.
    Failed(&'a Error),
}

/// How a recording goes.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub elapsed: Duration,
    /// Records written so far.
    pub records: u64,
    /// Bytes of records before compression.
    pub raw_bytes: u64,
    /// Bytes written.
    pub disk_bytes: u64,
    pub dropped_records: u64,
    /// Binaries with probes.
    pub probed: usize,
}

/// How a recording went.
#[derive(Clone, Debug)]
pub struct Summary {
    pub end: End,
    /// Exit code of the command, 128 plus the signal's number when a signal ended it; `None` while it runs.
    pub exit_code: Option<i32>,
    /// Process id of the command.
    pub command_pid: Option<u32>,
    pub elapsed: Duration,
    /// The files that were written and kept; none where the output is a pipe or a device.
    pub files: Vec<PathBuf>,
    /// Records written, the capturer's own included.
    pub records: u64,
    /// Bytes of records before compression.
    pub raw_bytes: u64,
    /// Size of the file in bytes.
    pub disk_bytes: u64,
    /// Records that were lost.
    pub dropped_records: u64,
    /// Bytes of payload that the lost records stood for.
    pub dropped_bytes: u64,
    /// Binaries that were probed.
    pub probed: Vec<PathBuf>,
    /// What could not be done, one line each.
    pub warnings: Vec<String>,
    /// Recorded processes that had not ended when the command had, and with it the recording: process ids and names.
    pub runs_on: Vec<(u32, String)>,
    /// Programs that spoke TLS of which plaintext was not seen.
    pub opaque: Vec<Unseen>,
}
