//! What /proc tells of processes that run before recording starts.

use crate::{Error, identity};
use agentsight_formats::record::{self, CAPTURER_CPU, Descriptor, Header, Identity, Process, kind};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest argument vector that is kept, in bytes; the kernel side has the same limit.
const MAX_ARGS: usize = 128 << 10;

/// Checks that a process is there and can be read.
///
/// # Errors
/// [`Error::NoProcess`]; what it is if it is none that runs; or [`Error::Process`] when it may not be looked at.
pub(crate) fn check(pid: u32) -> Result<(), Error> {
    let status = std::fs::read(format!("/proc/{pid}/status")).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoProcess { pid },
        _ => Error::Process { pid, source },
    })?;
    // Its name may hold anything.
    let status = String::from_utf8_lossy(&status);
    let field = |name| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    // What /proc does not list can be named all the same.
    if let Some(process) = field("Tgid:").and_then(|tgid| tgid.parse().ok()).filter(|tgid| *tgid != pid) {
        return Err(Error::Thread { tid: pid, pid: process });
    }
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(_) => Ok(()),
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Process { pid, source }),
        // The main thread has ended, others go on.
        Err(_) if Stat::read(pid).is_some_and(|stat| stat.threads > 1) => Ok(()),
        Err(_) if field("State:").is_some_and(|state| state.starts_with('Z')) => Err(Error::Zombie { pid }),
        Err(_) if field("VmSize:").is_none() => Err(Error::KernelThread { pid }),
        Err(_) => Err(Error::NoProcess { pid }),
    }
}

/// Whether a process has ended, with all its threads: as a zombie it has a number, and no program any more.
pub(crate) fn is_gone(pid: u32) -> bool {
    let executable = std::fs::read_link(format!("/proc/{pid}/exe"));
    executable.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        && Stat::read(pid).is_none_or(|stat| stat.threads <= 1)
}

/// Every process that runs now, without the kernel's own threads, which have no executable.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    numbers("/proc").filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok())
}

/// The entries of a folder that are numbers.
fn numbers(folder: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The names of a process's threads.
pub(crate) fn comms(pid: u32) -> impl Iterator<Item = String> {
    numbers(format!("/proc/{pid}/task")).filter_map(move |tid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
        Some(name.trim_end_matches('\n').to_owned())
    })
}

/// The name of a process; empty when it is gone.
pub(crate) fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end_matches('\n').to_owned()
}

/// These processes and all their descendants at this moment.
pub(crate) fn trees(roots: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in numbers("/proc") {
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.ppid).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut waiting: Vec<u32> = roots.into_iter().collect();
    while let Some(pid) = waiting.pop() {
        if found.insert(pid) {
            waiting.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// A file that a process has mapped to execute it.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Where this process can open it.
    pub file: PathBuf,
    /// How the process calls it, or called it before it was removed.
    pub name: PathBuf,
}

/// What /proc says behind the name of a file that has none any more.
const DELETED: &str = " (deleted)";

/// The name of a file, which may have been removed since.
pub(crate) fn without_deleted(name: &Path) -> PathBuf {
    let kept = name.as_os_str().as_bytes();
    PathBuf::from(OsStr::from_bytes(kept.strip_suffix(DELETED.as_bytes()).unwrap_or(kept)))
}

/// The libraries and the executable that a process has mapped.
pub(crate) fn mapped(pid: u32) -> Vec<Mapped> {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let lines = maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse).filter(|mapping| mapping.executable);
    let mut found = BTreeMap::new();
    for mapping in lines {
        // The mapping itself leads to the file, whatever its name means by now. That takes CAP_CHECKPOINT_RESTORE.
        let itself = PathBuf::from(format!("/proc/{pid}/map_files/{}", mapping.range));
        let named =
            || PathBuf::from(format!("/proc/{pid}/root")).join(mapping.name.strip_prefix("/").unwrap_or(mapping.name));
        let file = if itself.metadata().is_ok() { itself } else { named() };
        found.entry((mapping.inode, mapping.name)).or_insert(Mapped { file, name: without_deleted(mapping.name) });
    }
    found.into_values().collect()
}

/// A line of /proc/PID/maps.
struct Mapping<'a> {
    range: &'a str,
    executable: bool,
    inode: &'a str,
    name: &'a Path,
}

impl Mapping<'_> {
    /// `None` for memory that is of no file.
    fn parse(line: &[u8]) -> Option<Mapping<'_>> {
        let slash = line.iter().position(|byte| *byte == b'/')?;
        let (numbers, name) = line.split_at_checked(slash)?;
        let mut fields = std::str::from_utf8(numbers).ok()?.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let inode = fields.nth(2)?;
        Some(Mapping { range, executable: rights.contains('x'), inode, name: Path::new(OsStr::from_bytes(name)) })
    }
}

/// What a process has used.
pub(crate) struct Usage {
    /// CPU time in nanoseconds.
    pub user_ns: u64,
    pub system_ns: u64,
    pub rss_pages: u64,
    pub threads: u64,
}

/// What a process has used until now; `None` if it is gone.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let stat = Stat::read(pid)?;
    Some(Usage {
        user_ns: stat.user_ticks * TICK_NS,
        system_ns: stat.system_ticks * TICK_NS,
        rss_pages: stat.rss_pages,
        threads: stat.threads,
    })
}

/// Appends the records of a process that already runs, of who it is, and of each of its descriptors; nothing if it is gone.
pub(crate) fn append_process(out: &mut Vec<u8>, pid: u32) {
    let Some(stat) = Stat::read(pid) else { return };
    let link = |name| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (path, cwd) = (link("exe"), link("cwd"));
    let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // Its name may hold anything.
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let identity = identity::of(pid, &status);
    let (path, cwd) = (path.as_os_str().as_bytes(), cwd.as_os_str().as_bytes());
    let kept = &args[..args.len().min(MAX_ARGS)];
    let process = Process {
        header: header(kind::PROCESS, pid),
        start: stat.start.into(),
        ppid: stat.ppid.into(),
        uid: identity.uid,
        args_len: (args.len() as u32).into(),
        args_captured: (kept.len() as u32).into(),
        path_len: (path.len() as u16).into(),
        cwd_len: (cwd.len() as u16).into(),
        reserved: 0.into(),
        comm: stat.comm,
    };
    record::append(out, &process, &[path, cwd, kept]);
    // It comes behind the process: by its time as well.
    record::append(out, &Identity { header: header(kind::IDENTITY, pid), ..identity }, &[]);
    append_descriptors(out, pid);
}

fn append_descriptors(out: &mut Vec<u8>, pid: u32) {
    for fd in numbers(format!("/proc/{pid}/fd")) {
        let Ok(target) = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")) else { continue };
        let target = target.as_os_str().as_bytes();
        let descriptor = Descriptor {
            header: header(kind::DESCRIPTOR, pid),
            fd: (fd as i32).into(),
            target_len: (target.len() as u16).into(),
            reserved: 0.into(),
        };
        record::append(out, &descriptor, &[target]);
    }
}

/// The header of a record of the capturer itself; the length is set when the record is appended.
pub(crate) fn header(kind: u16, tgid: u32) -> Header {
    Header {
        len: 0.into(),
        kind: kind.into(),
        flags: 0.into(),
        time: crate::clock::boottime().into(),
        tgid: tgid.into(),
        tid: tgid.into(),
        cpu: CAPTURER_CPU.into(),
        reserved: 0.into(),
        seq: 0.into(),
    }
}

/// Clock ticks are of 1/100 s for user space on every architecture (USER_HZ).
const TICK_NS: u64 = 10_000_000;

struct Stat {
    ppid: u32,
    /// Nanoseconds of boot time.
    start: u64,
    comm: [u8; 16],
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    rss_pages: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        Stat::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Takes a line of proc_pid_stat(5); the name in it may hold anything, parentheses too.
    fn parse(line: &[u8]) -> Option<Stat> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let mut comm = [0; 16];
        let name = line.get(open + 1..close)?;
        let len = name.len().min(15);
        comm[..len].copy_from_slice(&name[..len]);
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // From the third on; the numbers in the manual page count from 1.
        let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Stat {
            ppid: fields.get(1)?.parse().ok()?,
            start: number(22)?.checked_mul(TICK_NS)?,
            comm,
            user_ticks: number(14)?,
            system_ticks: number(15)?,
            threads: number(20)?,
            rss_pages: number(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 3 0 12345 1 9 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.ppid, stat.start), (7, 123_450_000_000));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.threads, stat.rss_pages), (1, 2, 3, 9));
        assert_eq!(&stat.comm[..8], b"a) b (c\0");
    }

    #[test]
    fn a_mapping_is_of_a_file_or_of_none() {
        let line = b"7f01-7f02 r-xp 00002000 fe:01 42         /a folder/lib.so (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.range, mapping.executable, mapping.inode), ("7f01-7f02", true, "42"));
        assert_eq!(without_deleted(mapping.name), Path::new("/a folder/lib.so"));
        assert!(Mapping::parse(b"7f01-7f02 r-xp 00000000 00:00 0      [vdso]").is_none());
        assert!(Mapping::parse(b"7f01-7f02 rw-p 00000000 00:00 0 ").is_none());
    }

    #[test]
    fn a_tree_holds_its_root_and_its_children() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let found = trees([std::process::id()]);
        assert!(found.contains(&std::process::id()) && found.contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn no_such_process_is_named() {
        assert!(check(u32::MAX).unwrap_err().to_string().contains("no process 4294967295"));
    }

    #[test]
    fn what_is_no_process_that_runs_is_named_for_what_it_is() {
        let process = std::process::id();
        let (tid, done) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::spawn(move || {
            tid.0.send(nix::unistd::gettid().as_raw() as u32).unwrap();
            let _ = done.1.recv();
        });
        let tid = tid.1.recv().unwrap();
        assert_eq!(
            check(tid).unwrap_err().to_string(),
            format!("{tid} is a thread of process {process}: use {process}")
        );
        drop(done.0);
        thread.join().unwrap();

        let mut child = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        while !stat().contains(") Z ") {
            std::thread::yield_now();
        }
        assert!(check(child.id()).unwrap_err().to_string().contains("has ended"));
        child.wait().unwrap();
        // The parent of the kernel's threads; in a container the number is somebody else's.
        if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
            assert!(check(2).unwrap_err().to_string().contains("thread of the kernel"));
        }
    }
}
