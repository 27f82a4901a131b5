//! Whether the recorder keeps up: one that finds more to do whenever it is done should rather write more than lose anything.

use std::time::Duration;

/// Turns are looked at over this time.
const WINDOW: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    all: Duration,
    behind: Duration,
    hurried: bool,
}

impl Pace {
    /// Adds a turn, and whether much more had come by its end.
    pub(crate) fn add(&mut self, waited: Duration, worked: Duration, behind: bool) {
        self.all += waited + worked;
        if behind {
            self.behind += worked;
        }
        if self.all >= WINDOW {
            self.hurried = self.behind * 2 > self.all;
            (self.all, self.behind) = (Duration::ZERO, Duration::ZERO);
        }
    }

    /// Whether it worked, and was behind, for more than half of the time.
    pub(crate) fn hurried(&self) -> bool {
        self.hurried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_that_is_behind_most_of_the_time_is_in_a_hurry_until_it_waits_again() {
        let (none, some, more) = (Duration::ZERO, WINDOW / 8, WINDOW / 4);
        let mut pace = Pace::default();
        pace.add(none, more, true);
        assert!(!pace.hurried(), "a short burst says nothing");
        pace.add(some, more, true);
        pace.add(some, more, true);
        assert!(pace.hurried());
        for _ in 0..2 {
            pace.add(more, more, true);
        }
        assert!(!pace.hurried(), "it waited for as long as it worked");
        pace.add(none, 4 * more, false);
        assert!(!pace.hurried());
    }
}
