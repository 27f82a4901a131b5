//! Whether the recorder keeps up: one that works most of the time is near its limit, or would be if it had fewer CPUs, and
//! should rather write more than lose anything.

use std::time::Duration;

/// Work and waiting are compared over this time.
const WINDOW: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    waited: Duration,
    worked: Duration,
    hurried: bool,
}

impl Pace {
    /// Adds the time of one turn.
    pub(crate) fn add(&mut self, waited: Duration, worked: Duration) {
        self.waited += waited;
        self.worked += worked;
        if self.waited + self.worked >= WINDOW {
            self.hurried = self.worked > self.waited;
            (self.waited, self.worked) = (Duration::ZERO, Duration::ZERO);
        }
    }

    /// Whether it worked for more than half of the time.
    pub(crate) fn hurried(&self) -> bool {
        self.hurried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_that_works_most_of_the_time_is_in_a_hurry_until_it_waits_again() {
        let (some, more) = (WINDOW / 8, WINDOW / 4);
        let mut pace = Pace::default();
        pace.add(some, more);
        assert!(!pace.hurried(), "a short burst says nothing");
        pace.add(some, more);
        pace.add(some, more);
        assert!(pace.hurried());
        for _ in 0..3 {
            pace.add(more, some);
        }
        assert!(!pace.hurried());
    }
}
