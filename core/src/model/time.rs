//! The time of a turn, which the caller of the monitor reads once, and steps of the wall clock.

use std::num::NonZeroU64;
use std::time::Duration;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A time in whole nanoseconds, which takes half the room of a [`Duration`], also where it is optional. Times
/// after 584 years count as the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos {
    /// One more than the time.
    successor: NonZeroU64,
}

impl Nanos {
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_nanos(self.successor.get() - 1)
    }
}

impl From<Duration> for Nanos {
    fn from(time: Duration) -> Self {
        let seconds = time.as_secs().saturating_mul(NANOS_PER_SEC);
        let nanos = seconds.saturating_add(time.subsec_nanos().into());
        Self { successor: NonZeroU64::MIN.saturating_add(nanos) }
    }
}

/// The time of one turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time since an arbitrary start. It never steps, and all deadlines refer to it.
    pub mono: Duration,
    /// The time since the Unix epoch. It may step, and is only shown and never compared.
    pub wall: Duration,
    /// The time since the machine was switched on, including the time in which it was suspended. It
    /// never steps, begins anew with each boot, and continues over restarts of the process.
    pub boot: Duration,
}

/// A step of the wall clock between two turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// The time at which this run started, on the clock before the step.
    pub started: Duration,
    /// The present time, on the clock before the step.
    pub from: Duration,
    /// The present time.
    pub to: Duration,
}

impl ClockStep {
    /// Returns a time as it is after the step. A time of this run moves with the clock, and one of
    /// an earlier run remains, since it was on a clock of its own.
    #[must_use]
    pub fn follow(&self, wall: Duration) -> Duration {
        if (self.started..=self.from).contains(&wall) { self.shift(wall) } else { wall }
    }

    /// Returns a time on the clock after the step.
    #[must_use]
    pub fn shift(&self, wall: Duration) -> Duration {
        let ago = self.from.saturating_sub(wall);
        self.to.saturating_sub(ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_nanoseconds_is_the_same_time_up_to_584_years() {
        for time in
            [Duration::ZERO, Duration::from_nanos(1), Duration::new(1_800_000_000, 999_999_999)]
        {
            assert_eq!(Nanos::from(time).get(), time);
        }
        assert_eq!(Nanos::from(Duration::MAX).get(), Duration::from_nanos(u64::MAX - 1));
        assert!(Nanos::from(Duration::MAX) > Nanos::from(Duration::from_secs(1)));
        assert_eq!(size_of::<Option<Nanos>>(), 8);
    }
}
