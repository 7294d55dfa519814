//! Steps of the wall clock, which is set by people, and by the network a while after the start on a
//! machine without a clock of its own.
//!
//! No decision depends on the wall clock. But times of this run that are displayed, such as that of
//! the last contact, must be on the same clock as the present time: after a step of years a device
//! that spoke a minute ago still spoke a minute ago.

use crate::model::time::{ClockStep, Now};
use std::time::Duration;

/// Smaller steps are not followed: they are corrections, and displayed times are rounded.
const SMALLEST: u64 = 60;

/// The known state of the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    /// The time at which this run started.
    started: Duration,
}

impl WallClock {
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { started: now.wall }
    }

    /// The time at which this run started, on the clock as it goes now.
    #[must_use]
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Whether the clock has stepped since the previous turn. During suspension both clocks
    /// continue.
    pub fn turn(&mut self, before: Now, now: Now) -> Option<ClockStep> {
        let moved = now.wall.as_secs().wrapping_sub(before.wall.as_secs());
        let passed = now.boot.as_secs().wrapping_sub(before.boot.as_secs());
        let step = moved.wrapping_sub(passed).cast_signed();
        if step.unsigned_abs() <= SMALLEST {
            return None;
        }
        let from = before.wall + now.boot.saturating_sub(before.boot);
        let step = ClockStep { started: self.started, from, to: now.wall };
        self.started = step.shift(self.started);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn at(wall: u64, boot: u64) -> Now {
        Now { mono: T(0), wall: T(wall), boot: T(boot) }
    }

    #[test]
    fn times_of_this_run_move_with_the_clock_and_those_of_others_do_not() {
        let mut clock = WallClock::new(at(100, 10));
        assert_eq!(clock.turn(at(100, 10), at(130, 40)), None);
        let step = clock.turn(at(130, 40), at(1_000_140, 50)).unwrap();
        let followed = [100, 130, 140].map(|wall| step.follow(T(wall)));
        assert_eq!(followed, [T(1_000_100), T(1_000_130), T(1_000_140)]);
        assert_eq!([99, 141, 900_000].map(|wall| step.follow(T(wall))), [99, 141, 900_000].map(T));
        // The clock steps back again.
        let step = clock.turn(at(1_000_140, 50), at(150, 60)).unwrap();
        assert_eq!([1_000_100, 1_000_140].map(|wall| step.follow(T(wall))), [T(100), T(140)]);
        assert_eq!(step.follow(T(130)), T(130));
    }

    #[test]
    fn a_suspension_and_a_correction_are_no_steps() {
        let mut clock = WallClock::new(at(100, 10));
        assert_eq!(clock.turn(at(100, 10), at(100_100, 100_010)), None);
        assert_eq!(clock.turn(at(200, 110), at(140, 110)), None);
        assert_eq!(clock.turn(at(200, 110), at(260, 110)), None);
        assert!(clock.turn(at(200, 110), at(139, 110)).is_some());
    }
}
