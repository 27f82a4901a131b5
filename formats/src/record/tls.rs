//! Records of plaintext: pieces of streams, and the connections that they belong to.

use super::Header;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::TLS_DATA`](super::kind::TLS_DATA); followed by `captured` bytes of plaintext.
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
    /// [`direction`](super::direction).
    pub direction: U16,
    /// [`library`](super::library).
    pub library: U16,
    pub reserved: U32,
}

/// [`kind::TLS_CLOSE`](super::kind::TLS_CLOSE).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TlsClose {
    pub header: Header,
    pub conn_id: U64,
    /// Bytes sent in all: what is missing at the end of the stream is told by this alone. 0 where it is not known.
    pub sent: U64,
    /// Bytes received in all.
    pub received: U64,
}

/// [`kind::TLS_BIND`](super::kind::TLS_BIND); the bytes of `conn_id` travel over `socket_id`.
///
/// A library that is probed below its connections (AWS-LC, ring) gives each direction a `conn_id` of its own: those that are
/// bound to one socket are one connection.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TlsBind {
    pub header: Header,
    pub conn_id: U64,
    /// As [`Socket::socket_id`](super::Socket::socket_id).
    pub socket_id: U64,
}

/// [`kind::CONNECTION`](super::kind::CONNECTION); the header names the process.
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
    /// [`library`](super::library).
    pub library: U16,
    pub reserved: [U16; 3],
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
    /// No TLS at all: bytes of a socket whose first bytes were HTTP, or of a connection from or to port 53 (DNS over TCP).
    /// `conn_id` is the socket's id.
    pub const PLAIN: u16 = 7;
    /// The crate `ring` below rustls.
    pub const RING: u16 = 8;

    pub fn name(library: u16) -> Option<&'static str> {
        const NAMES: [&str; 8] = ["openssl", "boringssl", "aws-lc", "go", "gnutls", "nss", "plain", "ring"];
        NAMES.get(usize::from(library).checked_sub(1)?).copied()
    }
}
