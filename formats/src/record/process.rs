//! Records of processes: what they fork, execute and map, and how they end.

use super::Header;
use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::FORK`](super::kind::FORK); the header names the parent.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Fork {
    pub header: Header,
    /// Start of the child, `CLOCK_BOOTTIME` in nanoseconds.
    pub child_start: U64,
    pub child_tgid: U32,
    pub uid: U32,
    /// Name of the child's first thread, NUL-padded.
    pub comm: [u8; 16],
}

/// [`kind::EXEC`](super::kind::EXEC); followed by `path_len` bytes of executable path (links resolved), `cwd_len` bytes of working
/// directory, and `filename_len` bytes of the name as it was given to execve. No terminators.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Exec {
    pub header: Header,
    /// Start of the process, `CLOCK_BOOTTIME` in nanoseconds.
    pub start: U64,
    pub ppid: U32,
    pub uid: U32,
    pub gid: U32,
    /// Length of the whole argument vector in bytes, each argument with its NUL.
    pub args_len: U32,
    pub path_len: U16,
    pub cwd_len: U16,
    pub filename_len: U16,
    pub reserved: U16,
    pub comm: [u8; 16],
}

/// [`kind::EXEC_ARGS`](super::kind::EXEC_ARGS); followed by `captured` bytes of the argument vector.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct ExecArgs {
    pub header: Header,
    /// As [`Exec::args_len`](super::Exec::args_len).
    pub args_len: U32,
    /// Where in the argument vector this piece starts, in bytes.
    pub offset: U32,
    /// Bytes of the argument vector that this record stands for.
    pub len: U32,
    /// Bytes that follow.
    pub captured: U32,
}

/// [`kind::EXIT`](super::kind::EXIT).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Exit {
    pub header: Header,
    /// Wait status as in wait(2): exit code in bits 8–15, signal in bits 0–6, core dump in bit 7.
    pub status: I32,
    pub reserved: U32,
    /// CPU time of all threads in user mode by the kernel's tick accounting, nanoseconds.
    pub user_ns: U64,
    /// The same in kernel mode, nanoseconds.
    pub system_ns: U64,
    /// Exact CPU time of all threads, nanoseconds; scale `user_ns` and `system_ns` to it as getrusage(2) does.
    pub runtime_ns: U64,
    pub max_rss_bytes: U64,
}

/// [`kind::MAP`](super::kind::MAP); followed by `path_len` bytes of path (links resolved). No terminator.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Map {
    pub header: Header,
    pub inode: U64,
    /// The kernel's own number of the device: minor in bits 0–19, major above.
    pub device: U32,
    pub path_len: U16,
    pub reserved: U16,
}

/// [`kind::ADOPT`](super::kind::ADOPT); a snapshot of the process follows in [`kind::PROCESS`](super::kind::PROCESS).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Adopt {
    pub header: Header,
}

/// [`kind::UNWATCHED`](super::kind::UNWATCHED); files, sockets and standard streams that the process uses in this way are in no record.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Unwatched {
    pub header: Header,
    /// [`way`].
    pub way: U16,
    pub reserved: [U16; 3],
}

/// Values of [`Unwatched::way`].
pub mod way {
    /// The program is one of 32 bits: of its system calls the kernel has no tracepoints.
    pub const CALLS_OF_32_BITS: u16 = 1;
    pub const IO_URING: u16 = 2;

    pub fn name(way: u16) -> Option<&'static str> {
        const NAMES: [&str; 2] = ["system calls of 32 bits", "io_uring"];
        NAMES.get(usize::from(way).checked_sub(1)?).copied()
    }
}

/// [`kind::IDENTITY`](super::kind::IDENTITY); written after a fork of the process, its exec, and whatever else changed any of it. Users and
/// groups are numbered as the first user namespace does, namespaces by the inodes of /proc/PID/ns; 0 where one is not known.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Identity {
    pub header: Header,
    /// Real user id.
    pub uid: U32,
    pub effective_uid: U32,
    /// Real group id.
    pub gid: U32,
    pub effective_gid: U32,
    /// Process id in `pid_namespace`.
    pub namespace_pid: U32,
    pub pid_namespace: U32,
    pub mnt_namespace: U32,
    pub net_namespace: U32,
    pub user_namespace: U32,
    pub reserved: U32,
}

/// [`kind::PROCESS`](super::kind::PROCESS); followed by `path_len` bytes of executable path, `cwd_len` bytes of working directory and
/// `args_captured` bytes of argument vector, each argument with its NUL.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Process {
    pub header: Header,
    /// As [`Exec::start`](super::Exec::start).
    pub start: U64,
    pub ppid: U32,
    pub uid: U32,
    /// As [`Exec::args_len`](super::Exec::args_len).
    pub args_len: U32,
    pub args_captured: U32,
    pub path_len: U16,
    pub cwd_len: U16,
    pub reserved: U32,
    pub comm: [u8; 16],
}
