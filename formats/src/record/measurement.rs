//! Records of measurements.

use super::Header;
use zerocopy::little_endian::{I64, U16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::METRIC`](super::kind::METRIC); the header names the process.
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
    /// Threads of all processes in the process's cgroup, and below it.
    pub const CGROUP_THREADS: u16 = 8;
    /// How many of them there may be.
    pub const CGROUP_THREADS_LIMIT: u16 = 9;

    /// Name and unit.
    pub fn name(metric: u16) -> Option<(&'static str, &'static str)> {
        const NAMES: [(&str, &str); 9] = [
            ("user_time", "ns"),
            ("system_time", "ns"),
            ("rss", "bytes"),
            ("threads", "threads"),
            ("cgroup_memory", "bytes"),
            ("cgroup_memory_limit", "bytes"),
            ("cgroup_cpu_limit", "millicpus"),
            ("cgroup_threads", "threads"),
            ("cgroup_threads_limit", "threads"),
        ];
        NAMES.get(usize::from(metric).checked_sub(1)?).copied()
    }
}
