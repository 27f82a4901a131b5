//! Records of sockets, and of what the reader looks into of their bytes.

use super::Header;
use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::SOCKET`](super::kind::SOCKET); followed by `path_len` bytes of a local socket's name.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Socket {
    pub header: Header,
    /// Names the socket, unique in the capture; shares its numbers with [`TlsData::conn_id`](super::TlsData::conn_id).
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
    /// What the call returned: a descriptor, 0, or an errno, negative. Of [`socket_op::PEER`], which of the peers it is.
    pub result: I32,
    pub fd: I32,
    pub local_port: U16,
    pub peer_port: U16,
    pub path_len: U16,
    pub reserved: U16,
    /// IPv4 addresses take the first four bytes; of AF_VSOCK see [`vsock_address`].
    pub local: [u8; 16],
    pub peer: [u8; 16],
    /// Bytes sent so far by recorded processes; of [`socket_op::PEER`], to this peer.
    pub sent: U64,
    /// Bytes received so far by recorded processes.
    pub received: U64,
}

/// Address families, by Linux's numbers.
pub mod family {
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
    pub const VSOCK: u16 = 40;
}

/// An internet address as records hold it; `None` for other families.
pub fn ip_address(family: u16, bytes: &[u8; 16]) -> Option<std::net::IpAddr> {
    match family {
        family::INET => Some([bytes[0], bytes[1], bytes[2], bytes[3]].into()),
        family::INET6 => Some((*bytes).into()),
        _ => None,
    }
}

/// An address of AF_VSOCK as records hold it: the number of the machine (its context) and the port, of 32 bits each.
pub fn vsock_address(bytes: &[u8; 16]) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (word(0), word(4))
}

/// Values of [`Socket::op`](super::Socket::op).
pub mod socket_op {
    pub const CONNECT: u16 = 1;
    pub const ACCEPT: u16 = 2;
    pub const BIND: u16 = 3;
    pub const LISTEN: u16 = 4;
    pub const CLOSE: u16 = 5;
    /// First use of a socket that was there before recording, or that was never connected.
    pub const USE: u16 = 6;
    /// A socket could not be made (EPERM, EACCES).
    pub const REFUSED: u16 = 7;
    /// One of several peers of a socket whose messages go one by one (SOCK_DGRAM, SOCK_RAW): when a message goes with it first,
    /// and when the socket is closed. Number [`OTHER_PEERS`] is all those together of which there were too many.
    pub const PEER: u16 = 8;

    /// See [`PEER`].
    pub const OTHER_PEERS: u16 = 32;

    pub fn name(op: u16) -> Option<&'static str> {
        const NAMES: [&str; 8] = ["connect", "accept", "bind", "listen", "close", "use", "refused", "peer"];
        NAMES.get(usize::from(op).checked_sub(1)?).copied()
    }
}

/// [`kind::SOCKET_DATA`](super::kind::SOCKET_DATA); followed by `captured` bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct SocketData {
    pub header: Header,
    /// As [`Socket::socket_id`](super::Socket::socket_id).
    pub socket_id: U64,
    /// Bytes transferred by the call.
    pub len: U32,
    /// Bytes that follow.
    pub captured: U32,
    /// [`direction`](super::direction).
    pub direction: U16,
    /// [`socket_content`].
    pub content: U16,
    /// Address family of `peer`: 0 where the socket's own peer is meant.
    pub family: U16,
    pub peer_port: U16,
    /// Of a hello through a local socket (AF_UNIX), the inodes of the socket and of the one at its other end, of eight bytes each.
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
