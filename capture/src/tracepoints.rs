//! The system calls that are watched: which program sees the tracepoint of each, and what its cookie tells the program.
//!
//! Only these calls cost anything; a tracepoint of all system calls would cost every program on the machine four times as
//! much. Which calls a machine has depends on its architecture: arm64 has no `open`.

use crate::Error;
use agentsight_bpf::AgentsightProgs;
use agentsight_formats::record::{direction, file_op, socket_op};
use libbpf_rs::{Link, PerfEventOpts, ProgramMut};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

/// What a system call is about; the eBPF programs of the same names look at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watcher {
    File,
    Map,
    Socket,
    Io,
    Messages,
    Splice,
    Close,
    CloseRange,
    Dup,
    Ring,
    SocketMade,
    Identity,
}

/// How a system call names files; `enum file_shape` in `files.c`.
mod shape {
    pub const PATH: u64 = 0;
    pub const AT: u64 = 1;
    pub const DESCRIPTOR: u64 = 2;
    pub const PATHS: u64 = 3;
    pub const AT_AT: u64 = 4;
    pub const PATH_AT: u64 = 5;
    pub const OPEN_HOW: u64 = 6;
}

/// How a system call names what it transfers; `enum io_shape` in `io.c`.
mod io_shape {
    pub const BUFFER: u64 = 0;
    pub const VECTOR: u64 = 1;
    pub const NAMED: u64 = 2;
    pub const MESSAGE: u64 = 3;
    pub const SENDFILE: u64 = 5;
    pub const SPLICE: u64 = 6;
}

/// Of a file operation; the numbers of the arguments that hold flags and mode count from 1, 0 means none.
const fn file(op: u16, shape: u64, flags: u64, mode: u64) -> u64 {
    op as u64 | shape << 8 | flags << 16 | mode << 20
}

const fn io(direction: u16, shape: u64) -> u64 {
    direction as u64 | shape << 8
}

/// Tracepoint (of system calls, if nothing else is said), program, cookie.
const TRACEPOINTS: &[(&str, Watcher, u64)] = &[
    ("sys_exit_open", Watcher::File, file(file_op::OPEN, shape::PATH, 2, 3)),
    ("sys_exit_creat", Watcher::File, file(file_op::OPEN, shape::PATH, 0, 2)),
    ("sys_exit_openat", Watcher::File, file(file_op::OPEN, shape::AT, 3, 4)),
    ("sys_exit_openat2", Watcher::File, file(file_op::OPEN, shape::OPEN_HOW, 0, 0)),
    ("sys_exit_rename", Watcher::File, file(file_op::RENAME, shape::PATHS, 0, 0)),
    ("sys_exit_renameat", Watcher::File, file(file_op::RENAME, shape::AT_AT, 0, 0)),
    ("sys_exit_renameat2", Watcher::File, file(file_op::RENAME, shape::AT_AT, 5, 0)),
    ("sys_exit_unlink", Watcher::File, file(file_op::UNLINK, shape::PATH, 0, 0)),
    ("sys_exit_unlinkat", Watcher::File, file(file_op::UNLINK, shape::AT, 3, 0)),
    ("sys_exit_mkdir", Watcher::File, file(file_op::MKDIR, shape::PATH, 0, 2)),
    ("sys_exit_mkdirat", Watcher::File, file(file_op::MKDIR, shape::AT, 0, 3)),
    ("sys_exit_rmdir", Watcher::File, file(file_op::RMDIR, shape::PATH, 0, 0)),
    ("sys_exit_link", Watcher::File, file(file_op::LINK, shape::PATHS, 0, 0)),
    ("sys_exit_linkat", Watcher::File, file(file_op::LINK, shape::AT_AT, 5, 0)),
    ("sys_exit_symlink", Watcher::File, file(file_op::SYMLINK, shape::PATHS, 0, 0)),
    ("sys_exit_symlinkat", Watcher::File, file(file_op::SYMLINK, shape::PATH_AT, 0, 0)),
    ("sys_exit_chmod", Watcher::File, file(file_op::CHMOD, shape::PATH, 0, 2)),
    ("sys_exit_fchmod", Watcher::File, file(file_op::CHMOD, shape::DESCRIPTOR, 0, 2)),
    ("sys_exit_fchmodat", Watcher::File, file(file_op::CHMOD, shape::AT, 0, 3)),
    ("sys_exit_fchmodat2", Watcher::File, file(file_op::CHMOD, shape::AT, 4, 3)),
    ("sys_exit_truncate", Watcher::File, file(file_op::TRUNCATE, shape::PATH, 0, 0)),
    ("sys_exit_ftruncate", Watcher::File, file(file_op::TRUNCATE, shape::DESCRIPTOR, 0, 0)),
    ("sys_exit_mmap", Watcher::Map, 0),
    ("sys_exit_socket", Watcher::SocketMade, 0),
    ("sys_exit_connect", Watcher::Socket, socket_op::CONNECT as u64),
    ("sys_exit_accept", Watcher::Socket, socket_op::ACCEPT as u64),
    ("sys_exit_accept4", Watcher::Socket, socket_op::ACCEPT as u64),
    ("sys_exit_bind", Watcher::Socket, socket_op::BIND as u64),
    ("sys_exit_listen", Watcher::Socket, socket_op::LISTEN as u64),
    ("sys_exit_read", Watcher::Io, io(direction::RECEIVED, io_shape::BUFFER)),
    ("sys_exit_pread64", Watcher::Io, io(direction::RECEIVED, io_shape::BUFFER)),
    ("sys_exit_readv", Watcher::Io, io(direction::RECEIVED, io_shape::VECTOR)),
    ("sys_exit_preadv", Watcher::Io, io(direction::RECEIVED, io_shape::VECTOR)),
    ("sys_exit_preadv2", Watcher::Io, io(direction::RECEIVED, io_shape::VECTOR)),
    ("sys_exit_recvfrom", Watcher::Io, io(direction::RECEIVED, io_shape::NAMED)),
    ("sys_exit_recvmsg", Watcher::Io, io(direction::RECEIVED, io_shape::MESSAGE)),
    ("sys_exit_write", Watcher::Io, io(direction::SENT, io_shape::BUFFER)),
    ("sys_exit_pwrite64", Watcher::Io, io(direction::SENT, io_shape::BUFFER)),
    ("sys_exit_writev", Watcher::Io, io(direction::SENT, io_shape::VECTOR)),
    ("sys_exit_pwritev", Watcher::Io, io(direction::SENT, io_shape::VECTOR)),
    ("sys_exit_pwritev2", Watcher::Io, io(direction::SENT, io_shape::VECTOR)),
    ("sys_exit_sendto", Watcher::Io, io(direction::SENT, io_shape::NAMED)),
    ("sys_exit_sendmsg", Watcher::Io, io(direction::SENT, io_shape::MESSAGE)),
    ("sys_exit_recvmmsg", Watcher::Messages, direction::RECEIVED as u64),
    ("sys_exit_sendmmsg", Watcher::Messages, direction::SENT as u64),
    ("sys_exit_sendfile64", Watcher::Splice, io(direction::SENT, io_shape::SENDFILE)),
    ("sys_exit_splice", Watcher::Splice, io(direction::SENT, io_shape::SPLICE)),
    ("sys_exit_copy_file_range", Watcher::Splice, io(direction::SENT, io_shape::SPLICE)),
    ("sys_enter_close", Watcher::Close, 0),
    ("sys_enter_close_range", Watcher::CloseRange, 0),
    ("sys_enter_dup2", Watcher::Dup, 0),
    ("sys_enter_dup3", Watcher::Dup, 0),
    ("sys_exit_setuid", Watcher::Identity, 0),
    ("sys_exit_setgid", Watcher::Identity, 0),
    ("sys_exit_setreuid", Watcher::Identity, 0),
    ("sys_exit_setregid", Watcher::Identity, 0),
    ("sys_exit_setresuid", Watcher::Identity, 0),
    ("sys_exit_setresgid", Watcher::Identity, 0),
    ("sys_exit_setns", Watcher::Identity, 0),
    ("sys_exit_unshare", Watcher::Identity, 0),
    ("io_uring/io_uring_submit_sqe", Watcher::Ring, 0),
    ("io_uring/io_uring_submit_req", Watcher::Ring, 0),
];

/// Attaches the programs to the tracepoints that this kernel has.
///
/// # Errors
/// When the kernel has no tracepoints of system calls, or they may not be used.
pub(crate) fn attach(progs: &AgentsightProgs<'_>) -> Result<Vec<Link>, Error> {
    let tracefs = Tracefs::open()?;
    let mut links = Vec::new();
    for &(name, watcher, cookie) in TRACEPOINTS {
        // Calls that this architecture, or a kernel of this age, does not have.
        let Some(id) = tracefs.id_of(name)? else { continue };
        let program: &ProgramMut<'_> = match watcher {
            Watcher::File => &progs.on_file,
            Watcher::Map => &progs.on_mmap,
            Watcher::Socket => &progs.on_socket,
            Watcher::Io => &progs.on_io,
            Watcher::Messages => &progs.on_messages,
            Watcher::Splice => &progs.on_splice,
            Watcher::Close => &progs.on_close,
            Watcher::CloseRange => &progs.on_close_range,
            Watcher::Dup => &progs.on_dup,
            Watcher::Ring => &progs.on_ring,
            Watcher::SocketMade => &progs.on_socket_made,
            Watcher::Identity => &progs.on_identity,
        };
        let event = open_event(id).map_err(|source| Error::Tracepoint { name, source })?;
        let options = PerfEventOpts { cookie, ..PerfEventOpts::default() };
        links.push(program.attach_perf_event_with_opts(event.as_raw_fd(), options).map_err(Error::Load)?);
        // The link closes the event when it goes.
        std::mem::forget(event);
    }
    if links.is_empty() {
        return Err(Error::NoTracepoints);
    }
    Ok(links)
}

/// How many of the tracepoints there are here, and how many there might be.
///
/// # Errors
/// When the list of the kernel cannot be read.
pub(crate) fn available() -> Result<(usize, usize), Error> {
    let tracefs = Tracefs::open()?;
    let there = TRACEPOINTS.iter().map(|(name, ..)| tracefs.id_of(name)).collect::<Result<Vec<_>, Error>>()?;
    Ok((there.iter().flatten().count(), there.len()))
}

/// Where the kernel numbers its tracepoints.
struct Tracefs {
    root: OwnedFd,
    path: PathBuf,
}

impl Tracefs {
    /// Opens it where it is mounted, and elsewhere a mount of it that nobody else sees.
    fn open() -> Result<Tracefs, Error> {
        let mut unreadable = None;
        for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(PathBuf::from) {
            let opened = path.join("events").metadata().and_then(|_| File::open(&path));
            match opened {
                Ok(root) => return Ok(Tracefs { root: root.into(), path }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unreadable = unreadable.or(Some(path)),
                Err(_) => {}
            }
        }
        match (mount_detached(c"tracefs"), unreadable) {
            (Ok(root), _) => Ok(Tracefs { root, path: "tracefs".into() }),
            // To be allowed to mount takes more than to be allowed to read what is mounted.
            (Err(_), Some(path)) => Err(Error::TracefsUnreadable { path }),
            (Err(error), None) => Err(Error::NoTracefs(error)),
        }
    }

    /// The number of a tracepoint of a system call; `None` if there is no such.
    fn id_of(&self, name: &'static str) -> Result<Option<u64>, Error> {
        let path = match name.contains('/') {
            true => format!("events/{name}/id"),
            false => format!("events/syscalls/{name}/id"),
        };
        let failed = |source| Error::Tracepoint { name, source };
        match openat(&self.root, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => {
                let mut text = String::new();
                File::from(file).read_to_string(&mut text).map_err(failed)?;
                let no_number = |_| failed(io::Error::other(format!("{path} holds no number: {text}")));
                text.trim().parse().map(Some).map_err(no_number)
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EACCES) => Err(Error::TracefsUnreadable { path: self.path.join(path) }),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// Result of a system call of libc.
fn checked(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// Mounts a file system nowhere: it is reached through the descriptor alone, and goes with it (fsopen(2), fsmount(2)).
fn mount_detached(kind: &CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    let no_value = std::ptr::null::<libc::c_char>();
    // SAFETY: the name is a C string; no other memory is handed over.
    let context = checked(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: this command takes neither key nor value.
    let made =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, no_value, no_value, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    checked(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

/// The first 64 bytes of `struct perf_event_attr`, all that a tracepoint needs (PERF_ATTR_SIZE_VER0).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

/// A perf event of a tracepoint. A program that is attached to it runs on all CPUs and for all processes.
fn open_event(id: u64) -> io::Result<OwnedFd> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttr>() as u32,
        config: id,
        ..PerfEventAttr::default()
    };
    // SAFETY: `attr` lives through the call and says how long it is.
    let opened = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC) };
    checked(opened)
}
