//! Who gets the CPU when there is more to record than can be kept. The recorder competes with the programs that it records, and
//! where some of their records are lost in any case, it had better not slow them down for the rest: it then takes, most of the
//! time, only what nobody else wants. It is never left without: a machine that is busy with something else is no reason to lose
//! anything.

use crate::privilege;
use std::time::{Duration, Instant};

/// It is looked at so often whether records are lost.
const WINDOW: Duration = Duration::from_millis(50);
/// For so long others go first after that. At least an eighth of the time the recorder competes like anybody.
const STAND_BACK: Duration = Duration::from_millis(350);

#[derive(Debug)]
pub(crate) struct Courtesy {
    began: Instant,
    /// CPU time and number of lost records at the beginning of the window.
    cpu_time: Duration,
    lost: u64,
    stands_back: bool,
}

impl Courtesy {
    pub(crate) fn new(now: Instant) -> Self {
        Courtesy { began: now, cpu_time: Duration::ZERO, lost: 0, stands_back: false }
    }

    /// Whether it is time to look.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= if self.stands_back { STAND_BACK } else { WINDOW }
    }

    /// Whether to stand back from now on, or no more, given the CPU time of this thread and the records that were lost, both since
    /// the start; `None` where nothing changes.
    pub(crate) fn look(&mut self, now: Instant, cpu_time: Duration, lost: u64) -> Option<bool> {
        // With less than half of a core it was rather kept from working.
        let worked = cpu_time.saturating_sub(self.cpu_time) * 2 >= now.duration_since(self.began);
        let stood_back = self.stands_back;
        self.stands_back = !stood_back && worked && lost > self.lost;
        (self.began, self.cpu_time, self.lost) = (now, cpu_time, lost);
        (self.stands_back != stood_back).then_some(self.stands_back)
    }
}

/// CPU time of this thread.
pub(crate) fn cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).map_or(Duration::ZERO, Into::into)
}

/// Has this thread run only where no other one wants to, or like any other. The scheduler counts a CPU on which such a thread runs
/// as free, which a low priority does not bring about. Without [`privilege::RETURN`] there is no way back, and nothing is done.
pub(crate) fn stand_back(yes: bool) {
    if !privilege::held().contains(&privilege::RETURN) {
        return;
    }
    let policy = if yes { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    // SAFETY: the parameters live through the call; 0 is this thread.
    unsafe { libc::sched_setscheduler(0, policy, &libc::sched_param { sched_priority: 0 }) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_back_where_it_works_and_loses_all_the_same() {
        let start = Instant::now();
        let mut courtesy = Courtesy::new(start);
        assert!(!courtesy.is_due(start + WINDOW / 2) && courtesy.is_due(start + WINDOW));
        assert_eq!(courtesy.look(start + WINDOW, WINDOW, 0), None, "nothing is lost");
        assert_eq!(courtesy.look(start + 2 * WINDOW, WINDOW + WINDOW / 4, 10), None, "it did not get the CPU");
        assert_eq!(courtesy.look(start + 3 * WINDOW, 2 * WINDOW, 20), Some(true));
    }

    #[test]
    fn it_comes_back_though_more_is_lost() {
        let start = Instant::now();
        let mut courtesy = Courtesy::new(start);
        let then = start + WINDOW;
        assert_eq!(courtesy.look(then, WINDOW, 1), Some(true));
        assert!(!courtesy.is_due(then + WINDOW) && courtesy.is_due(then + STAND_BACK));
        assert_eq!(courtesy.look(then + STAND_BACK, WINDOW + STAND_BACK, 2), Some(false));
    }
}
