//! Records of standard streams, and of who has which end.

use super::Header;
use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::STDIO_DATA`](super::kind::STDIO_DATA); followed by `captured` bytes.
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
    /// [`direction`](super::direction).
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
    /// A socket of IPv4 or IPv6, that carries neither TLS nor HTTP nor DNS.
    pub const NETWORK_SOCKET: u16 = 4;

    pub fn name(object_type: u16) -> Option<&'static str> {
        const NAMES: [&str; 4] = ["pipe", "socket", "terminal", "network_socket"];
        NAMES.get(usize::from(object_type).checked_sub(1)?).copied()
    }
}

/// [`kind::ENDPOINT`](super::kind::ENDPOINT); from now on the process of the header reads (or writes) this pipe or local socket. It tells which
/// process is at the other end of a standard stream.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Endpoint {
    pub header: Header,
    /// As [`StdioData::object`].
    pub object: U64,
    /// [`direction`](super::direction): whether the process writes (`SENT`) or reads.
    pub direction: U16,
    pub reserved: [U16; 3],
}

/// [`kind::DESCRIPTOR`](super::kind::DESCRIPTOR); the header names the process. Followed by `target_len` bytes: what /proc/PID/fd/N points to, a
/// path, `socket:[inode]` or `pipe:[inode]`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Descriptor {
    pub header: Header,
    pub fd: I32,
    pub target_len: U16,
    pub reserved: U16,
}
