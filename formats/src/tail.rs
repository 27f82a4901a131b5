//! The tail of a finished capture: an index of its segments. It only makes things faster; everything works without it.

use crate::Clocks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tail {
    pub segments: Vec<SegmentInfo>,
    /// Clocks of the last checkpoint.
    pub clocks: Clocks,
    /// Records lost since the start.
    pub dropped_records: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentInfo {
    /// Offset of the segment's zstd frame in the file, in bytes.
    pub offset: u64,
    /// Length of the frame in bytes.
    pub disk_bytes: u64,
    /// Bytes of records in it.
    pub raw_bytes: u64,
    /// CRC-32 of the frame's bytes as they are in the file.
    pub crc: u32,
    /// Smallest and largest time of its records, `CLOCK_BOOTTIME` in nanoseconds.
    pub first_time: u64,
    pub last_time: u64,
    /// Sequence of its first checkpoint.
    pub first_sequence: u64,
    /// Records by kind.
    pub kinds: BTreeMap<u16, u64>,
    /// Records lost until its end, since the start of the capture.
    pub dropped_records: u64,
}
