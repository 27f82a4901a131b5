//! When the recorder may compete for the CPU. What it does has time, as long as there is room for what comes meanwhile: mostly it
//! takes only what nobody else wants, so that recording slows nobody down. As soon as it is behind it competes like anybody;
//! a machine that is busy is no reason to lose anything. Where records are lost all the same, by programs that make more of
//! them than can be kept, it had better not slow these down for the rest, and stands aside most of the time.

use crate::batches::{Backlog, MANY};
use crate::kernel::Drops;
use crate::privilege;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With [`MANY`] bytes waiting, or any for so long, it is behind.
const PATIENCE: Duration = Duration::from_millis(200);
/// While it competes, it is looked at so often whether records are lost.
const WINDOW: Duration = Duration::from_millis(50);
/// For so long it stands aside then. At least an eighth of the time it competes.
const STAND_ASIDE: Duration = Duration::from_millis(350);

/// Sees to it, from the thread that drains the ring.
pub(crate) struct Courtesy {
    backlog: Arc<Backlog>,
    drops: Drops,
    /// Without [`privilege::RETURN`] there is no way back from standing behind.
    may: bool,
    place: Place,
    /// Whether the scheduler has been told that the recorder stands behind.
    told: Option<bool>,
    progress: Progress,
}

/// Where the recorder stands in the queue for the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind everybody else.
    Behind,
    /// Among them, since what was seen.
    Among(Seen),
    /// Behind, though there is much to do, since then.
    Aside(Instant),
}

/// What was seen of the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    at: Instant,
    waiting: u64,
    cpu_time: Duration,
    lost: u64,
}

impl Courtesy {
    pub(crate) fn new(backlog: Arc<Backlog>, drops: Drops) -> Self {
        let may = privilege::held().contains(&privilege::RETURN);
        let progress = Progress { done: 0, since: Instant::now() };
        Courtesy { backlog, drops, may, place: Place::Behind, told: None, progress }
    }

    /// Looks whether the place is still right. Cheap, where it is.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        self.place = match self.place {
            Place::Behind if self.progress.is_behind(now, self.backlog.done(), self.backlog.waiting()) => {
                Place::Among(self.seen(now))
            }
            Place::Among(before) if now.duration_since(before.at) >= WINDOW => next(before, self.seen(now)),
            Place::Aside(since) if now.duration_since(since) >= STAND_ASIDE => Place::Among(self.seen(now)),
            place => place,
        };
        self.tell(!matches!(self.place, Place::Among(_)));
    }

    fn seen(&self, at: Instant) -> Seen {
        let lost = self.drops.read().iter().map(|counter| counter.records.get()).sum();
        let cpu_time = self.backlog.thread().and_then(cpu_time).unwrap_or_default();
        Seen { at, waiting: self.backlog.waiting(), cpu_time, lost }
    }

    /// The scheduler counts a CPU on which such a thread runs as free, which a low priority does not bring about.
    fn tell(&mut self, behind: bool) {
        let Some(thread) = self.backlog.thread().filter(|_| self.may && self.told != Some(behind)) else { return };
        let policy = if behind { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
        // SAFETY: the parameters live through the call.
        unsafe { libc::sched_setscheduler(thread, policy, &libc::sched_param { sched_priority: 0 }) };
        self.told = Some(behind);
    }
}

impl Drop for Courtesy {
    /// At the end somebody waits for the file.
    fn drop(&mut self) {
        self.tell(false);
    }
}

/// The place after a while of competing.
fn next(before: Seen, now: Seen) -> Place {
    // With less than half of a core it was rather kept from working.
    let worked = now.cpu_time.saturating_sub(before.cpu_time) * 2 >= now.at.duration_since(before.at);
    match now {
        _ if worked && now.lost > before.lost => Place::Aside(now.at),
        Seen { waiting: 0, .. } => Place::Behind,
        _ => Place::Among(now),
    }
}

/// How many bytes had been dealt with, and since when it is so many.
struct Progress {
    done: u64,
    since: Instant,
}

impl Progress {
    /// Whether much is waiting, or something for long.
    fn is_behind(&mut self, now: Instant, done: u64, waiting: u64) -> bool {
        if waiting == 0 || done != self.done {
            (self.done, self.since) = (done, now);
        }
        waiting >= MANY || now.duration_since(self.since) >= PATIENCE
    }
}

/// CPU time of a thread of this process (proc_pid_schedstat(5)).
fn cpu_time(thread: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_behind_with_much_to_do_or_something_for_long() {
        let start = Instant::now();
        let mut progress = Progress { done: 0, since: start };
        assert!(!progress.is_behind(start + PATIENCE, 0, 0), "nothing waits");
        assert!(progress.is_behind(start + PATIENCE, 0, MANY));
        assert!(!progress.is_behind(start + 2 * PATIENCE, 1, 1), "it has just done one");
        assert!(!progress.is_behind(start + 2 * PATIENCE + PATIENCE / 2, 1, 1));
        assert!(progress.is_behind(start + 3 * PATIENCE, 1, 1));
    }

    #[test]
    fn it_stands_aside_where_it_works_and_loses_all_the_same() {
        let before = Seen { at: Instant::now(), waiting: MANY, cpu_time: Duration::ZERO, lost: 1 };
        let now = Seen { at: before.at + WINDOW, cpu_time: WINDOW, ..before };
        assert_eq!(next(before, now), Place::Among(now), "nothing is lost");
        let starved = Seen { cpu_time: WINDOW / 4, lost: 2, ..now };
        assert_eq!(next(before, starved), Place::Among(starved), "it did not get the CPU");
        assert_eq!(next(before, Seen { lost: 2, ..now }), Place::Aside(now.at));
        assert_eq!(next(before, Seen { waiting: 0, ..now }), Place::Behind, "all is done");
    }

    #[test]
    fn the_cpu_time_of_a_thread_is_told() {
        let thread = nix::unistd::gettid().as_raw();
        let before = cpu_time(thread).unwrap();
        while cpu_time(thread).unwrap() == before {}
        assert_eq!(cpu_time(0), None);
    }
}
