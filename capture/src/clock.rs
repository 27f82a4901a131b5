//! The kernel's clocks. Records carry boot time; wall time is derived when a capture is read.

use agentsight_formats::Clocks;
use nix::time::{ClockId, clock_gettime};

/// Samples the three clocks, boot time in the middle so that its error to the others is smallest.
pub(crate) fn sample() -> Clocks {
    let monotonic = nanoseconds(ClockId::CLOCK_MONOTONIC);
    let boottime = nanoseconds(ClockId::CLOCK_BOOTTIME);
    let realtime = nanoseconds(ClockId::CLOCK_REALTIME);
    Clocks { boottime: boottime as u64, monotonic: monotonic as u64, realtime }
}

/// Boot time in nanoseconds.
pub(crate) fn boottime() -> u64 {
    nanoseconds(ClockId::CLOCK_BOOTTIME) as u64
}

fn nanoseconds(clock: ClockId) -> i64 {
    // These clocks exist on every kernel that can run the programs; a time of 0 would only be a wrong label.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}
