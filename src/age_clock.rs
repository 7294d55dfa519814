//! The wall clock, as far as it can be trusted with the age of what is kept.

use std::time::{Duration, Instant};

/// Judges the age of records, for which the wall clock is not enough: one that is years ahead for a
/// moment would be the end of everything.
#[derive(Debug)]
pub struct AgeClock {
    interval: Duration,
    /// What the clock showed at a time that lies an interval back, or at the end of the last run.
    earlier: Option<(Duration, Instant)>,
}

impl AgeClock {
    /// A clock that is trusted when it has shown a time for as long as this.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, earlier: None }
    }

    /// The clock showed this time, where none is known from before.
    pub fn begin(&mut self, wall: Option<Duration>, at: Instant) {
        self.earlier = self.earlier.or(wall.map(|wall| (wall, at)));
    }

    /// The time by which records are old, when the clock shows this one: no more than has passed
    /// since it showed an earlier one.
    pub fn judge(&mut self, wall: Duration, at: Instant) -> Duration {
        let Some((earlier, since)) = self.earlier else { return wall };
        let passed = at.saturating_duration_since(since);
        if passed >= self.interval {
            self.earlier = Some((wall, at));
        }
        wall.min(earlier + passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_clock_that_is_ahead_makes_nothing_old_before_an_interval_has_passed() {
        let start = Instant::now();
        let mut clock = AgeClock::new(T(3_600));
        clock.begin(Some(T(1_000_000)), start);
        clock.begin(Some(T(90_000_000)), start);
        assert_eq!(clock.judge(T(90_000_000), start + T(2)), T(1_000_002));
        assert_eq!(clock.judge(T(999_000), start + T(3)), T(999_000), "it was set back");
        assert_eq!(clock.judge(T(90_000_000), start + T(3_600)), T(1_003_600));
        // It has shown this for as long as that, after a year in which the monitor did not run.
        assert_eq!(clock.judge(T(90_003_600), start + T(7_200)), T(90_003_600));
    }

    #[test]
    fn the_first_run_goes_by_its_clock() {
        let start = Instant::now();
        let mut clock = AgeClock::new(T(3_600));
        clock.begin(None, start);
        assert_eq!(clock.judge(T(1_000), start), T(1_000));
    }
}
