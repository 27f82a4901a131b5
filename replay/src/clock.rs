//! Wall time of what happened: records have the time since the machine was started.

use crate::processes::signed;
use crate::table::Timestamp;
use agentsight_formats::Clocks;

/// Wall time of boot time, by the first sample of the clocks: a clock that is set while recording moves no record.
#[derive(Clone, Copy)]
pub(crate) struct WallClock {
    offset: i64,
}

impl WallClock {
    pub fn new(clocks: Clocks) -> Self {
        WallClock { offset: clocks.realtime.saturating_sub(signed(clocks.boottime)) }
    }

    pub fn at(self, boottime: u64) -> Timestamp {
        Timestamp(signed(boottime).saturating_add(self.offset))
    }
}
