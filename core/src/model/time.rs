//! The time of a turn, which the caller of the monitor reads once, and steps of the wall clock.

use std::time::Duration;

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
