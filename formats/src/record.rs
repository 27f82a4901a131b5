//! Raw records, exactly as the kernel side writes them.
//!
//! Every record starts with [`Header`] and is padded with zeros to a multiple of 8 bytes. All integers are little-endian.
//! The structures here mirror `bpf/src/record.h`; a test in the `bpf` crate compares size and every offset with the BTF of
//! the compiled programs. Fields are only ever appended: a reader takes the fields it knows and ignores what follows.
//! Unknown kinds are kept, counted and passed over.

use zerocopy::little_endian::{I32, I64, U16, U32, U64};
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

/// [`kind::FORK`]; the header names the parent.
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

/// [`kind::EXEC`]; followed by `path_len` bytes of executable path (links resolved), `cwd_len` bytes of working
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

/// [`kind::EXEC_ARGS`]; followed by `captured` bytes of the argument vector.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct ExecArgs {
    pub header: Header,
    /// As [`Exec::args_len`].
    pub args_len: U32,
    /// Where in the argument vector this piece starts, in bytes.
    pub offset: U32,
    /// Bytes of the argument vector that this record stands for.
    pub len: U32,
    /// Bytes that follow.
    pub captured: U32,
}

/// [`kind::EXIT`].
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

/// [`kind::MAP`]; followed by `path_len` bytes of path (links resolved). No terminator.
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

/// [`kind::ADOPT`]; a snapshot of the process follows in [`kind::PROCESS`].
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Adopt {
    pub header: Header,
}

/// [`kind::TLS_DATA`]; followed by `captured` bytes of plaintext.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TlsData {
    pub header: Header,
    /// Names the connection, unique in the capture.
    pub conn_id: U64,
    /// Where in its stream this record starts, in bytes, counted in the kernel: lost records are gaps.
    pub stream_offset: U64,
    /// Bytes of the stream that this record stands for.
    pub len: U32,
    /// Bytes that follow.
    pub captured: U32,
    /// [`direction`].
    pub direction: U16,
    /// [`library`].
    pub library: U16,
    pub reserved: U32,
}

/// [`kind::TLS_CLOSE`].
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TlsClose {
    pub header: Header,
    pub conn_id: U64,
}

/// [`kind::TLS_BIND`]; the bytes of `conn_id` travel over `socket_id`.
///
/// A library that is probed below its connections (AWS-LC) gives each direction a `conn_id` of its own: those that are
/// bound to one socket are one connection.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TlsBind {
    pub header: Header,
    pub conn_id: U64,
    /// As [`Socket::socket_id`].
    pub socket_id: U64,
}

/// [`kind::FILE`]; followed by `base_len` bytes of folder, `path_len` bytes of path, and the same two of the new path
/// (rename, link, symlink). No terminators. A path that is not absolute is relative to its folder; the path of a file that
/// was opened has its links resolved. Paths are as the process sees them, below its root.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct File {
    pub header: Header,
    /// Names the open file (open file description) from its open to its close, unique in the capture; 0 where there is none.
    pub file_id: U64,
    pub inode: U64,
    /// Device of the inode, as the kernel numbers it: major << 20 | minor.
    pub device: U32,
    /// [`file_op`].
    pub op: U16,
    pub reserved: U16,
    /// What the call returned: a descriptor, 0, or an errno, negative.
    pub result: I32,
    /// Flags of open(2), renameat2(2) or unlinkat(2).
    pub flags: U32,
    /// Mode of open(2), mkdir(2), chmod(2).
    pub mode: U32,
    pub base_len: U16,
    pub path_len: U16,
    pub new_base_len: U16,
    pub new_path_len: U16,
    pub reserved2: U32,
    /// Bytes read through this open file; at its close. The length of truncate(2).
    pub bytes_read: U64,
    /// Bytes written through this open file; at its close.
    pub bytes_written: U64,
}

/// Values of [`File::op`].
pub mod file_op {
    pub const OPEN: u16 = 1;
    pub const CLOSE: u16 = 2;
    pub const RENAME: u16 = 3;
    pub const UNLINK: u16 = 4;
    pub const MKDIR: u16 = 5;
    pub const RMDIR: u16 = 6;
    pub const LINK: u16 = 7;
    pub const SYMLINK: u16 = 8;
    pub const CHMOD: u16 = 9;
    pub const TRUNCATE: u16 = 10;

    pub fn name(op: u16) -> Option<&'static str> {
        const NAMES: [&str; 10] =
            ["open", "close", "rename", "unlink", "mkdir", "rmdir", "link", "symlink", "chmod", "truncate"];
        NAMES.get(usize::from(op).checked_sub(1)?).copied()
    }
}

/// [`kind::SOCKET`]; followed by `path_len` bytes of a local socket's name.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Socket {
    pub header: Header,
    /// Names the socket, unique in the capture; shares its numbers with [`TlsData::conn_id`].
    pub socket_id: U64,
    /// Inode of the socket, as /proc/PID/fd shows it.
    pub inode: U64,
    /// [`socket_op`].
    pub op: U16,
    /// Address [`family`].
    pub family: U16,
    /// SOCK_STREAM 1, SOCK_DGRAM 2, SOCK_SEQPACKET 5.
    pub socket_type: U16,
    /// IP protocol: TCP 6, UDP 17.
    pub protocol: U16,
    /// What the call returned: a descriptor, 0, or an errno, negative.
    pub result: I32,
    pub fd: I32,
    pub local_port: U16,
    pub peer_port: U16,
    pub path_len: U16,
    pub reserved: U16,
    /// IPv4 addresses take the first four bytes.
    pub local: [u8; 16],
    pub peer: [u8; 16],
    /// Bytes sent so far by recorded processes.
    pub sent: U64,
    /// Bytes received so far by recorded processes.
    pub received: U64,
}

/// Address families, by Linux's numbers.
pub mod family {
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
}

/// An internet address as records hold it; `None` for other families.
pub fn ip_address(family: u16, bytes: &[u8; 16]) -> Option<std::net::IpAddr> {
    match family {
        family::INET => Some([bytes[0], bytes[1], bytes[2], bytes[3]].into()),
        family::INET6 => Some((*bytes).into()),
        _ => None,
    }
}

/// Values of [`Socket::op`].
pub mod socket_op {
    pub const CONNECT: u16 = 1;
    pub const ACCEPT: u16 = 2;
    pub const BIND: u16 = 3;
    pub const LISTEN: u16 = 4;
    pub const CLOSE: u16 = 5;
    /// First use of a socket that was there before recording, or that was never connected.
    pub const USE: u16 = 6;

    pub fn name(op: u16) -> Option<&'static str> {
        const NAMES: [&str; 6] = ["connect", "accept", "bind", "listen", "close", "use"];
        NAMES.get(usize::from(op).checked_sub(1)?).copied()
    }
}

/// [`kind::SOCKET_DATA`]; followed by `captured` bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct SocketData {
    pub header: Header,
    /// As [`Socket::socket_id`].
    pub socket_id: U64,
    /// Bytes transferred by the call.
    pub len: U32,
    /// Bytes that follow.
    pub captured: U32,
    /// [`direction`].
    pub direction: U16,
    /// [`socket_content`].
    pub content: U16,
    /// Address family of `peer`: 0 where the socket's own peer is meant.
    pub family: U16,
    pub peer_port: U16,
    pub peer: [u8; 16],
}

/// Values of [`SocketData::content`].
pub mod socket_content {
    /// A DNS message.
    pub const DNS: u16 = 1;
    /// The first bytes of a TLS connection: the handshake's hello of the client or the server (RFC 8446, 4.1).
    pub const TLS_HELLO: u16 = 2;

    pub fn name(content: u16) -> Option<&'static str> {
        match content {
            DNS => Some("dns"),
            TLS_HELLO => Some("tls_hello"),
            _ => None,
        }
    }
}

/// [`kind::STDIO_DATA`]; followed by `captured` bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct StdioData {
    pub header: Header,
    /// The pipe, socket or terminal: its inode.
    pub object: U64,
    /// The inode of the socket at the other end; `object` itself for a pipe; 0 for a terminal.
    pub peer_object: U64,
    /// Where in its stream this record starts, in bytes, counted in the kernel per process, descriptor and direction.
    pub stream_offset: U64,
    /// Bytes that this record stands for.
    pub len: U32,
    /// Bytes that follow.
    pub captured: U32,
    /// 0, 1 or 2.
    pub fd: U16,
    /// [`direction`].
    pub direction: U16,
    /// [`stdio_type`].
    pub object_type: U16,
    pub reserved: U16,
}

/// Values of [`StdioData::object_type`].
pub mod stdio_type {
    pub const PIPE: u16 = 1;
    pub const SOCKET: u16 = 2;
    pub const TERMINAL: u16 = 3;

    pub fn name(object_type: u16) -> Option<&'static str> {
        const NAMES: [&str; 3] = ["pipe", "socket", "terminal"];
        NAMES.get(usize::from(object_type).checked_sub(1)?).copied()
    }
}

/// [`kind::ENDPOINT`]; from now on the process of the header reads (or writes) this pipe or local socket. It tells which
/// process is at the other end of a standard stream.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Endpoint {
    pub header: Header,
    /// As [`StdioData::object`].
    pub object: U64,
    /// [`direction`]: whether the process writes (`SENT`) or reads.
    pub direction: U16,
    pub reserved: [U16; 3],
}

/// [`kind::METRIC`]; the header names the process.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Metric {
    pub header: Header,
    pub value: I64,
    /// [`metric`].
    pub name: U16,
    pub reserved: [U16; 3],
}

/// Values of [`Metric::name`], each with its unit.
pub mod metric {
    /// CPU time in user mode since the process started, nanoseconds.
    pub const USER_TIME: u16 = 1;
    /// CPU time in kernel mode since the process started, nanoseconds.
    pub const SYSTEM_TIME: u16 = 2;
    /// Resident set, bytes.
    pub const RSS: u16 = 3;
    /// Threads.
    pub const THREADS: u16 = 4;
    /// Memory that the process's cgroup uses, bytes.
    pub const CGROUP_MEMORY: u16 = 5;
    /// Memory that the process's cgroup may use, bytes.
    pub const CGROUP_MEMORY_LIMIT: u16 = 6;
    /// CPUs that the process's cgroup may use, thousandths.
    pub const CGROUP_CPU_LIMIT: u16 = 7;

    /// Name and unit.
    pub fn name(metric: u16) -> Option<(&'static str, &'static str)> {
        const NAMES: [(&str, &str); 7] = [
            ("user_time", "ns"),
            ("system_time", "ns"),
            ("rss", "bytes"),
            ("threads", "threads"),
            ("cgroup_memory", "bytes"),
            ("cgroup_memory_limit", "bytes"),
            ("cgroup_cpu_limit", "millicpus"),
        ];
        NAMES.get(usize::from(metric).checked_sub(1)?).copied()
    }
}

/// [`kind::DESCRIPTOR`]; the header names the process. Followed by `target_len` bytes: what /proc/PID/fd/N points to, a
/// path, `socket:[inode]` or `pipe:[inode]`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Descriptor {
    pub header: Header,
    pub fd: I32,
    pub target_len: U16,
    pub reserved: U16,
}

/// Values of [`TlsData::direction`], seen from the recorded process.
pub mod direction {
    pub const SENT: u16 = 0;
    pub const RECEIVED: u16 = 1;
}

/// Values of [`TlsData::library`].
pub mod library {
    /// OpenSSL: the SSL_* functions.
    pub const OPENSSL: u16 = 1;
    /// BoringSSL: the same functions.
    pub const BORINGSSL: u16 = 2;
    /// AWS-LC below rustls: the EVP_AEAD_CTX_* functions.
    pub const AWS_LC: u16 = 3;
    /// crypto/tls of Go.
    pub const GO: u16 = 4;
    pub const GNUTLS: u16 = 5;
    /// Netscape Portable Runtime, with NSS as a layer of it.
    pub const NSS: u16 = 6;
    /// No TLS at all: bytes of a socket whose first bytes were HTTP. `conn_id` is the socket's id.
    pub const PLAIN: u16 = 7;

    pub fn name(library: u16) -> Option<&'static str> {
        const NAMES: [&str; 7] = ["openssl", "boringssl", "aws-lc", "go", "gnutls", "nss", "plain"];
        NAMES.get(usize::from(library).checked_sub(1)?).copied()
    }
}

/// [`kind::CHECKPOINT`]; followed by `drop_count` [`DropCounter`]s. Written by [`crate::Writer`] alone.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Checkpoint {
    pub header: Header,
    /// Counts the checkpoints of a capture from 0.
    pub sequence: U64,
    /// Bytes of records, padding included, between the previous checkpoint (or the start of the segment) and this one.
    pub piece_len: U64,
    /// `CLOCK_BOOTTIME`, sampled together with the two below, in nanoseconds.
    pub boottime: U64,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub monotonic: U64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970-01-01 UTC.
    pub realtime: I64,
    /// CRC-32 (IEEE 802.3) of the `piece_len` bytes before this record and of this record with 0 in place of the CRC.
    pub crc: U32,
    pub drop_count: U32,
}

/// Records of one source that one CPU lost since the capture started: cumulative counters.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropCounter {
    /// Number of a [`Source`].
    pub source: U16,
    pub cpu: U16,
    /// [`drop_reason`].
    pub reason: U16,
    pub reserved: U16,
    pub records: U64,
    /// Bytes of payload that the lost records stood for.
    pub bytes: U64,
}

/// Values of [`DropCounter::reason`].
pub mod drop_reason {
    /// The ring buffer was full.
    pub const RING_FULL: u16 = 0;
    /// A kernel-side table was full, so that the event could not be followed.
    pub const TABLE_FULL: u16 = 1;

    pub fn name(reason: u16) -> Option<&'static str> {
        match reason {
            RING_FULL => Some("ring_full"),
            TABLE_FULL => Some("table_full"),
            _ => None,
        }
    }
}

/// [`kind::PROCESS`]; followed by `path_len` bytes of executable path, `cwd_len` bytes of working directory and
/// `args_captured` bytes of argument vector, each argument with its NUL.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Process {
    pub header: Header,
    /// As [`Exec::start`].
    pub start: U64,
    pub ppid: U32,
    pub uid: U32,
    /// As [`Exec::args_len`].
    pub args_len: U32,
    pub args_captured: U32,
    pub path_len: U16,
    pub cwd_len: U16,
    pub reserved: U32,
    pub comm: [u8; 16],
}

/// [`kind::CONNECTION`]; the header names the process.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Connection {
    pub header: Header,
    pub conn_id: U64,
    /// When the first byte was seen, `CLOCK_BOOTTIME` in nanoseconds.
    pub opened: U64,
    /// Bytes sent so far: the stream offset of the next byte.
    pub sent: U64,
    /// Bytes received so far.
    pub received: U64,
    /// [`library`].
    pub library: U16,
    pub reserved: [U16; 3],
}

/// [`kind::PROBE`] and [`kind::NOTE`]: the rest of the record is one JSON object in UTF-8.
///
/// A probe: `{"path", "build_id", "library", "attach", "functions": [{"name", "offset"}]}`.
/// A note: `{"what", …}`, for example `{"what":"command_exit","status":0}` or `{"what":"probe_failed","path","error"}`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Json {
    pub header: Header,
}

/// One record with the bytes that follow its fixed part.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub header: &'a Header,
    /// The whole record, header included, padding excluded.
    pub bytes: &'a [u8],
}

/// A record of a known kind, taken apart. Slices borrow from the record.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    Fork(&'a Fork),
    Exec {
        exec: &'a Exec,
        path: &'a [u8],
        cwd: &'a [u8],
        filename: &'a [u8],
    },
    ExecArgs {
        args: &'a ExecArgs,
        data: &'a [u8],
    },
    Exit(&'a Exit),
    Map {
        map: &'a Map,
        path: &'a [u8],
    },
    Adopt(&'a Adopt),
    TlsData {
        tls: &'a TlsData,
        data: &'a [u8],
    },
    TlsClose(&'a TlsClose),
    TlsBind(&'a TlsBind),
    File {
        file: &'a File,
        base: &'a [u8],
        path: &'a [u8],
        new_base: &'a [u8],
        new_path: &'a [u8],
    },
    Socket {
        socket: &'a Socket,
        path: &'a [u8],
    },
    SocketData {
        data: &'a SocketData,
        bytes: &'a [u8],
    },
    StdioData {
        stdio: &'a StdioData,
        data: &'a [u8],
    },
    Endpoint(&'a Endpoint),
    Metric(&'a Metric),
    Descriptor {
        descriptor: &'a Descriptor,
        target: &'a [u8],
    },
    Checkpoint {
        checkpoint: &'a Checkpoint,
        drops: &'a [DropCounter],
    },
    Process {
        process: &'a Process,
        path: &'a [u8],
        cwd: &'a [u8],
        args: &'a [u8],
    },
    Connection(&'a Connection),
    Probe {
        json: &'a [u8],
    },
    Note {
        json: &'a [u8],
    },
    /// A kind of a newer version.
    Unknown,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record length {len} at byte {at} is outside {HEADER_LEN}..={MAX_RECORD_LEN}")]
    Length { at: usize, len: usize },
    #[error("record at byte {at} needs {need} bytes, {have} are left")]
    Short { at: usize, need: usize, have: usize },
    #[error("record of kind {kind:#06x} is {have} bytes long, its fields need {need}")]
    Fields { kind: u16, need: usize, have: usize },
}

impl<'a> Record<'a> {
    /// A record out of its bytes, without padding; `None` if they are too few for a header.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        Header::ref_from_prefix(bytes).ok().map(|(header, _)| Record { header, bytes })
    }

    /// Takes the record apart.
    ///
    /// # Errors
    /// [`RecordError::Fields`] when the record is too short for its kind or for the lengths it names.
    pub fn body(&self) -> Result<Body<'a>, RecordError> {
        let kind = self.header.kind.get();
        Ok(match kind {
            kind::FORK => Body::Fork(self.fixed()?.0),
            kind::EXEC => {
                let (exec, rest) = self.fixed::<Exec>()?;
                let [path, cwd, filename] = self
                    .split(rest, [exec.path_len.get(), exec.cwd_len.get(), exec.filename_len.get()].map(usize::from))?;
                Body::Exec { exec, path, cwd, filename }
            }
            kind::EXEC_ARGS => {
                let (args, rest) = self.fixed::<ExecArgs>()?;
                let [data] = self.split(rest, [args.captured.get() as usize])?;
                Body::ExecArgs { args, data }
            }
            kind::EXIT => Body::Exit(self.fixed()?.0),
            kind::MAP => {
                let (map, rest) = self.fixed::<Map>()?;
                let [path] = self.split(rest, [map.path_len.get().into()])?;
                Body::Map { map, path }
            }
            kind::ADOPT => Body::Adopt(self.fixed()?.0),
            kind::TLS_DATA => {
                let (tls, rest) = self.fixed::<TlsData>()?;
                let [data] = self.split(rest, [tls.captured.get() as usize])?;
                Body::TlsData { tls, data }
            }
            kind::TLS_CLOSE => Body::TlsClose(self.fixed()?.0),
            kind::TLS_BIND => Body::TlsBind(self.fixed()?.0),
            kind::FILE => {
                let (file, rest) = self.fixed::<File>()?;
                let lens = [file.base_len, file.path_len, file.new_base_len, file.new_path_len];
                let [base, path, new_base, new_path] = self.split(rest, lens.map(|len| usize::from(len.get())))?;
                Body::File { file, base, path, new_base, new_path }
            }
            kind::SOCKET => {
                let (socket, rest) = self.fixed::<Socket>()?;
                let [path] = self.split(rest, [socket.path_len.get().into()])?;
                Body::Socket { socket, path }
            }
            kind::SOCKET_DATA => {
                let (data, rest) = self.fixed::<SocketData>()?;
                let [bytes] = self.split(rest, [data.captured.get() as usize])?;
                Body::SocketData { data, bytes }
            }
            kind::STDIO_DATA => {
                let (stdio, rest) = self.fixed::<StdioData>()?;
                let [data] = self.split(rest, [stdio.captured.get() as usize])?;
                Body::StdioData { stdio, data }
            }
            kind::ENDPOINT => Body::Endpoint(self.fixed()?.0),
            kind::METRIC => Body::Metric(self.fixed()?.0),
            kind::DESCRIPTOR => {
                let (descriptor, rest) = self.fixed::<Descriptor>()?;
                let [target] = self.split(rest, [descriptor.target_len.get().into()])?;
                Body::Descriptor { descriptor, target }
            }
            kind::CHECKPOINT => {
                let (checkpoint, rest) = self.fixed::<Checkpoint>()?;
                let count = checkpoint.drop_count.get() as usize;
                let [bytes] = self.split(rest, [count.saturating_mul(size_of::<DropCounter>())])?;
                let drops = <[DropCounter]>::ref_from_bytes(bytes).map_err(|_| self.too_short(bytes.len()))?;
                Body::Checkpoint { checkpoint, drops }
            }
            kind::PROCESS => {
                let (process, rest) = self.fixed::<Process>()?;
                let [path, cwd, args] = self.split(
                    rest,
                    [
                        process.path_len.get() as usize,
                        process.cwd_len.get() as usize,
                        process.args_captured.get() as usize,
                    ],
                )?;
                Body::Process { process, path, cwd, args }
            }
            kind::CONNECTION => Body::Connection(self.fixed()?.0),
            kind::PROBE => Body::Probe { json: self.fixed::<Json>()?.1 },
            kind::NOTE => Body::Note { json: self.fixed::<Json>()?.1 },
            _ => Body::Unknown,
        })
    }

    fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self) -> Result<(&'a T, &'a [u8]), RecordError> {
        T::ref_from_prefix(self.bytes).map_err(|_| self.too_short(size_of::<T>()))
    }

    fn split<const N: usize>(&self, mut rest: &'a [u8], lens: [usize; N]) -> Result<[&'a [u8]; N], RecordError> {
        let fixed = self.bytes.len() - rest.len();
        let need = lens.iter().fold(fixed, |sum, len| sum.saturating_add(*len));
        let mut parts = [&rest[..0]; N];
        for (part, len) in parts.iter_mut().zip(lens) {
            (*part, rest) = rest.split_at_checked(len).ok_or(self.too_short(need))?;
        }
        Ok(parts)
    }

    fn too_short(&self, need: usize) -> RecordError {
        RecordError::Fields { kind: self.header.kind.get(), need, have: self.bytes.len() }
    }
}

/// Walks the records in `bytes`, which start at a record and hold whole, padded records.
///
/// The iterator ends after the first error: without a length there is no next record.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { bytes, at: 0 }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Records<'_> {
    /// Offset of the next record in the bytes given to [`records`].
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        self.at = self.bytes.len();
        let Ok((header, _)) = Header::ref_from_prefix(rest) else {
            return Some(Err(RecordError::Short { at, need: HEADER_LEN, have: rest.len() }));
        };
        let len = header.len.get() as usize;
        if !(HEADER_LEN..=MAX_RECORD_LEN).contains(&len) {
            return Some(Err(RecordError::Length { at, len }));
        }
        let padded = padded_len(len);
        if rest.len() < padded {
            return Some(Err(RecordError::Short { at, need: padded, have: rest.len() }));
        }
        self.at = at + padded;
        Some(Ok(Record { header, bytes: &rest[..len] }))
    }
}

/// Bytes that a record of `len` bytes takes in the stream: the next multiple of 8.
pub const fn padded_len(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Appends a record to `out`: `fixed` (whose header's length is set here), then `parts`, then padding.
pub fn append<T: IntoBytes + Immutable>(out: &mut Vec<u8>, fixed: &T, parts: &[&[u8]]) {
    let start = out.len();
    out.extend_from_slice(fixed.as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    let len = out.len() - start;
    // A record is far below 4 GiB; should one ever not be, the reader names its length as damage.
    out[start..start + 4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    out.resize(start + padded_len(len), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(data: &[u8]) -> Vec<u8> {
        let fixed = TlsData {
            header: Header { kind: kind::TLS_DATA.into(), ..Header::default() },
            conn_id: 7.into(),
            stream_offset: 0.into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            direction: direction::SENT.into(),
            library: library::OPENSSL.into(),
            reserved: 0.into(),
        };
        let mut out = Vec::new();
        append(&mut out, &fixed, &[data]);
        out
    }

    #[test]
    fn records_are_padded_and_walked_one_by_one() {
        let bytes = [tls(b"hello"), tls(b""), tls(b"12345678")].concat();
        let seen: Vec<Vec<u8>> = records(&bytes)
            .map(|record| match record.unwrap().body().unwrap() {
                Body::TlsData { data, .. } => data.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, [b"hello".to_vec(), b"".to_vec(), b"12345678".to_vec()]);
        assert_eq!(bytes.len() % 8, 0);
    }

    #[test]
    fn a_cut_record_is_an_error_and_ends_the_walk() {
        let bytes = tls(b"hello");
        for cut in 1..bytes.len() {
            let seen: Vec<_> = records(&bytes[..cut]).collect();
            assert!(matches!(seen[..], [Err(RecordError::Short { at: 0, .. })]), "{cut}: {seen:?}");
        }
    }

    #[test]
    fn lengths_inside_a_record_are_checked() {
        let mut bytes = tls(b"hello");
        let at = std::mem::offset_of!(TlsData, captured);
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let record = records(&bytes).next().unwrap().unwrap();
        assert!(matches!(record.body(), Err(RecordError::Fields { kind: kind::TLS_DATA, .. })));
    }

    #[test]
    fn an_unknown_kind_is_kept() {
        let mut bytes = tls(b"hello");
        bytes[4..6].copy_from_slice(&0x7777u16.to_le_bytes());
        assert!(matches!(records(&bytes).next().unwrap().unwrap().body(), Ok(Body::Unknown)));
    }
}
