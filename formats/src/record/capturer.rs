//! Records that the capturer writes of itself: checkpoints, losses, probes and notes.

use super::Header;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::CHECKPOINT`](super::kind::CHECKPOINT); followed by `drop_count` [`DropCounter`]s. Written by [`crate::Writer`] alone.
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
    /// Number of a [`Source`](super::Source).
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

/// [`kind::SUMS`](super::kind::SUMS); the header names no process.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Sums {
    pub header: Header,
    /// Of the socket or of the open file.
    pub id: U64,
    /// Bytes sent or written so far.
    pub sent: U64,
    /// Bytes received or read so far.
    pub received: U64,
    /// [`sums_of`].
    pub what: U16,
    /// Of [`sums_of::PEER`], which of the socket's peers it is.
    pub number: U16,
    pub reserved: [U16; 2],
}

/// Values of [`Sums::what`].
pub mod sums_of {
    pub const SOCKET: u16 = 1;
    pub const FILE: u16 = 2;
    /// One of several peers of a socket, as [`socket_op::PEER`](super::socket_op::PEER) tells of them.
    pub const PEER: u16 = 3;

    pub fn name(what: u16) -> Option<&'static str> {
        match what {
            SOCKET => Some("socket"),
            FILE => Some("file"),
            PEER => Some("peer"),
            _ => None,
        }
    }
}

/// [`kind::PROBE`](super::kind::PROBE) and [`kind::NOTE`](super::kind::NOTE): the rest of the record is one JSON object in UTF-8.
///
/// A probe: `{"path", "build_id", "library", "attach", "functions": [{"name", "offset"}]}`.
/// A note: `{"what", …}`, for example `{"what":"command_exit","status":0}` or `{"what":"probe_failed","path","error"}`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Json {
    pub header: Header,
}
