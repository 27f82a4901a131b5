//! Raw records, exactly as the kernel side writes them.
//!
//! Every record starts with [`Header`] and is padded with zeros to a multiple of 8 bytes. All integers are little-endian.
//! The structures here mirror `bpf/src/record.h`; a test in the `bpf` crate compares size and every offset with the BTF of
//! the compiled programs. Fields are only ever appended: a reader takes the fields it knows and ignores what follows.
//! Unknown kinds are kept, counted and passed over.

mod capturer;
mod file;
mod measurement;
mod net;
mod process;
mod stdio;
mod stream;
mod tls;

pub use capturer::*;
pub use file::*;
pub use measurement::*;
pub use net::*;
pub use process::*;
pub use stdio::*;
pub use stream::*;
pub use tls::*;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of [`Header`] in bytes: the smallest legal record.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Largest legal record in bytes. Anything longer is damage.
pub const MAX_RECORD_LEN: usize = 16 << 20;

/// What every record starts with.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// Length of the record in bytes, header included, padding not included.
    pub len: U32,
    /// What the record is: one of [`kind`].
    pub kind: U16,
    /// Bits of [`flag`].
    pub flags: U16,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub time: U64,
    /// Process (thread group) the record is about.
    pub tgid: U32,
    /// Thread the record is about.
    pub tid: U32,
    /// CPU that wrote the record; for records of the capturer itself, [`CAPTURER_CPU`].
    pub cpu: U16,
    pub reserved: U16,
    /// Counts the records of this CPU, lost ones too, from 0; wraps at 2^32.
    pub seq: U32,
}

/// [`Header::cpu`] of records that the capturer itself writes (checkpoints, snapshots).
pub const CAPTURER_CPU: u16 = u16::MAX;

/// Values of [`Header::kind`]. Kinds from 0x8000 are written by the capturer, the others by the kernel side.
pub mod kind {
    /// A recorded process forked: [`super::Fork`].
    pub const FORK: u16 = 0x0001;
    /// A recorded process executed a program: [`super::Exec`]. Its arguments follow in [`EXEC_ARGS`] records.
    pub const EXEC: u16 = 0x0002;
    /// A piece of the argument vector of the last exec of this process: [`super::ExecArgs`].
    pub const EXEC_ARGS: u16 = 0x0003;
    /// The last thread of a recorded process exited: [`super::Exit`].
    pub const EXIT: u16 = 0x0004;
    /// A recorded process mapped a file to be executed that was not seen before: [`super::Map`].
    pub const MAP: u16 = 0x0005;
    /// A running process is recorded from now on, because it was selected by name or by cgroup: [`super::Adopt`].
    pub const ADOPT: u16 = 0x0006;
    /// A recorded process goes a way on which it is not watched: [`super::Unwatched`].
    pub const UNWATCHED: u16 = 0x0007;
    /// The user that a process is, and its namespaces: [`super::Identity`].
    pub const IDENTITY: u16 = 0x0008;
    /// Plaintext that went through a TLS connection: [`super::TlsData`].
    pub const TLS_DATA: u16 = 0x0010;
    /// A TLS connection was freed: [`super::TlsClose`].
    pub const TLS_CLOSE: u16 = 0x0011;
    /// The socket of a TLS connection is known: [`super::TlsBind`].
    pub const TLS_BIND: u16 = 0x0012;
    /// A file was opened, closed or changed: [`super::File`].
    pub const FILE: u16 = 0x0020;
    /// A socket was connected, accepted, bound, closed: [`super::Socket`].
    pub const SOCKET: u16 = 0x0030;
    /// Bytes of a socket that the reader looks into: [`super::SocketData`].
    pub const SOCKET_DATA: u16 = 0x0031;
    /// Bytes that went through a standard stream: [`super::StdioData`].
    pub const STDIO_DATA: u16 = 0x0040;
    /// A recorded process uses one end of a pipe or local socket: [`super::Endpoint`].
    pub const ENDPOINT: u16 = 0x0041;

    /// Closes a piece of a segment: [`super::Checkpoint`].
    pub const CHECKPOINT: u16 = 0x8000;
    /// Snapshot of a process that is alive when a segment starts: [`super::Process`].
    pub const PROCESS: u16 = 0x8001;
    /// Snapshot of a connection that is open when a segment starts: [`super::Connection`].
    pub const CONNECTION: u16 = 0x8002;
    /// A binary that is probed, as JSON: [`super::Json`].
    pub const PROBE: u16 = 0x8003;
    /// Something the capturer has to say, as JSON: [`super::Json`].
    pub const NOTE: u16 = 0x8004;
    /// A measured value: [`super::Metric`].
    pub const METRIC: u16 = 0x8005;
    /// Snapshot of an open file descriptor: [`super::Descriptor`].
    pub const DESCRIPTOR: u16 = 0x8006;
    /// What went through a socket or file that was open when recording ended: [`super::Sums`].
    pub const SUMS: u16 = 0x8007;

    /// Name of a kind as `agentsight cat --kind` takes it, or `None` for a kind of a newer version.
    pub fn name(kind: u16) -> Option<&'static str> {
        NAMES.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name)
    }

    /// Every kind that this version knows, with its name.
    pub const NAMES: &[(u16, &str)] = &[
        (FORK, "fork"),
        (EXEC, "exec"),
        (EXEC_ARGS, "exec_args"),
        (EXIT, "exit"),
        (MAP, "map"),
        (ADOPT, "adopt"),
        (UNWATCHED, "unwatched"),
        (IDENTITY, "identity"),
        (TLS_DATA, "tls_data"),
        (TLS_CLOSE, "tls_close"),
        (TLS_BIND, "tls_bind"),
        (FILE, "file"),
        (SOCKET, "socket"),
        (SOCKET_DATA, "socket_data"),
        (STDIO_DATA, "stdio_data"),
        (ENDPOINT, "endpoint"),
        (CHECKPOINT, "checkpoint"),
        (PROCESS, "process"),
        (CONNECTION, "connection"),
        (PROBE, "probe"),
        (NOTE, "note"),
        (METRIC, "metric"),
        (DESCRIPTOR, "descriptor"),
        (SUMS, "sums"),
    ];
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// Fewer bytes were captured than the record stands for.
    pub const TRUNCATED: u16 = 1 << 0;
    /// User memory could not be read: `captured` bytes are there, the rest is unknown.
    pub const FAULT: u16 = 1 << 1;
}

/// What produces records. Drop counters are kept per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Source {
    Capturer = 0,
    Process = 1,
    Tls = 2,
    File = 3,
    Net = 4,
    Stdio = 5,
    Metric = 6,
}

impl Source {
    /// The sources in the order of their numbers.
    pub const ALL: [Source; 7] =
        [Source::Capturer, Source::Process, Source::Tls, Source::File, Source::Net, Source::Stdio, Source::Metric];

    pub fn from_number(number: u16) -> Option<Source> {
        Source::ALL.get(number as usize).copied()
    }

    /// The source of a kind of record, or `None` for a kind of a newer version.
    pub fn of_kind(kind: u16) -> Option<Source> {
        match kind {
            0x0001..=0x000f => Some(Source::Process),
            0x0010..=0x001f => Some(Source::Tls),
            0x0020..=0x002f => Some(Source::File),
            0x0030..=0x003f => Some(Source::Net),
            0x0040..=0x004f => Some(Source::Stdio),
            kind::METRIC => Some(Source::Metric),
            0x8000.. => Some(Source::Capturer),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Source::Capturer => "capturer",
            Source::Process => "process",
            Source::Tls => "tls",
            Source::File => "file",
            Source::Net => "net",
            Source::Stdio => "stdio",
            Source::Metric => "metric",
        }
    }
}
