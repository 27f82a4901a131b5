//! What can go wrong before and while recording. Every message says what, where, and the way out.

use crate::privilege;
use std::io;
use std::path::PathBuf;

/// A capturer's failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "recording needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (and before Linux 6.6 CAP_SYS_ADMIN): run it with sudo, or give the program file capabilities (scripts/setup --capabilities)"
    )]
    Privilege,
    #[error(
        "the rights here are those of a user namespace, whose root cannot load eBPF programs: run the capturer outside of it, as root of the host"
    )]
    UserNamespace,
    #[error("this kernel has no BTF (/sys/kernel/btf/vmlinux): use a kernel built with CONFIG_DEBUG_INFO_BTF")]
    NoBtf,
    #[error("kernel {release} is too old: agentsight needs Linux 5.15 or newer")]
    OldKernel { release: String },
    #[error(
        "this is a process namespace of its own, where the kernel's process ids are not known: run the capturer on the host, or in a container with the host's (--pid=host)"
    )]
    PidNamespace,
    #[error(
        "nothing to record: name a command after `--`, or processes with --pid, --comm, --cgroup, --container or --all"
    )]
    NoTarget,
    #[error("{path} exists: name another output, or replace it with --force")]
    OutputExists { path: PathBuf },
    #[error("{path} is a folder: name a file")]
    OutputFolder { path: PathBuf },
    #[error(
        "{path} is a link to {target}, and a capture is not written through a link: name the file itself (standard output is -)"
    )]
    OutputLink { path: PathBuf, target: PathBuf },
    #[error("the capture would go to the terminal: redirect it into a file or a pipe")]
    TerminalOutput,
    #[error("a pipe or a device cannot be rotated: name a file with -o")]
    RotatedPipe,
    #[error("cannot create {path}: {source}")]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}; the first {safe_bytes} bytes are safe and can be read")]
    Write { path: PathBuf, safe_bytes: u64, source: agentsight_formats::Error },
    #[error("{command}: command not found")]
    CommandNotFound { command: String },
    #[error("cannot run {command}: {source}")]
    CommandNotRun { command: String, source: io::Error },
    #[error("ended by signal {signal} before recording began: nothing was started")]
    Interrupted { signal: i32 },
    #[error("no process {pid}: `ps` lists the running ones")]
    NoProcess { pid: u32 },
    #[error("{tid} is a thread of process {pid}: use {pid}")]
    Thread { tid: u32, pid: u32 },
    #[error("process {pid} has ended, and only waits for its parent to take note (a zombie): name one that runs")]
    Zombie { pid: u32 },
    #[error("{pid} is a thread of the kernel itself, which executes no program: name a process")]
    KernelThread { pid: u32 },
    #[error("cannot read process {pid}: {source}")]
    Process { pid: u32, source: io::Error },
    #[error("no cgroup {path} below {root}: `systemd-cgls` shows what there is")]
    NoCgroup { path: PathBuf, root: PathBuf },
    #[error("cgroup {path} cannot be read: {source}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("no cgroups of version 2 are mounted here, and only those can be followed: name processes with --pid")]
    NoCgroup2,
    #[error(
        "{id} is no container id: give at least 8 hexadecimal digits of it, as `docker ps` prints them (a name: `docker inspect -f {{{{.Id}}}} NAME`)"
    )]
    ContainerId { id: String },
    #[error("no running process is in a container {id}: `docker ps`, `crictl ps` and `podman ps` list those that run")]
    NoContainer { id: String },
    #[error("user {user} of sudo cannot be looked up: {source}")]
    User { user: String, source: io::Error },
    #[error("the kernel refused the eBPF programs: {0}; {way_out}", way_out = load_way_out(.0))]
    Load(#[source] libbpf_rs::Error),
    #[error(
        "{path}, where the tracepoints of system calls are listed, may not be read: run it as root, or with CAP_DAC_READ_SEARCH (scripts/setup --capabilities)"
    )]
    TracefsUnreadable { path: PathBuf },
    #[error(
        "tracefs, where the tracepoints of system calls are listed, is not mounted and cannot be: {0}; {way_out}",
        way_out = files_or(.0, "run it as root, or have root mount it (mount -t tracefs tracefs /sys/kernel/tracing)")
    )]
    NoTracefs(#[source] io::Error),
    #[error("this kernel has no tracepoints of system calls: use one built with CONFIG_FTRACE_SYSCALLS")]
    NoTracepoints,
    #[error("the tracepoint {name} cannot be used: {source}; {way_out}", way_out = files_or(source, perf_way_out()))]
    Tracepoint { name: &'static str, source: io::Error },
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl Error {
    pub(crate) fn system(what: &'static str) -> impl Fn(nix::errno::Errno) -> Error + Copy {
        move |errno| Error::System { what, source: errno.into() }
    }

    /// Exit status for this failure, as timeout(1) and env(1) have it: 127 command not found, 126 command cannot be run,
    /// 125 the capturer's own failure; 2 wrong usage; 128 and a signal's number as a shell has it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::NoTarget => 2,
            Error::CommandNotFound { .. } => 127,
            Error::CommandNotRun { .. } => 126,
            Error::Interrupted { signal } => 128 + *signal as u8,
            _ => 125,
        }
    }
}

const RAISE_FILES: &str = "allow more open files (ulimit -n 4096)";

fn load_way_out(error: &libbpf_rs::Error) -> &'static str {
    if error.kind() == libbpf_rs::ErrorKind::TooBig {
        // max_entries of the maps in process.c.
        return "64 names and 64 cgroups are the most: name fewer, or record everything with --all";
    }
    // The errno itself cannot be had of it.
    if format!("{error:#}").contains(&format!("(os error {})", libc::EMFILE)) {
        return RAISE_FILES;
    }
    "is it locked down, or does a container hide bpf(2)?"
}

/// The way out where too many files are open, else another.
pub(crate) fn perf_way_out() -> &'static str {
    if privilege::perf_takes_admin() {
        "here perf events take CAP_SYS_ADMIN: run it as root, or have root say sysctl kernel.perf_event_paranoid=2"
    } else {
        "run it as root"
    }
}

fn files_or(error: &io::Error, other: &'static str) -> &'static str {
    if error.raw_os_error() == Some(libc::EMFILE) { RAISE_FILES } else { other }
}
