//! The time of a turn, which the caller of the monitor reads once, and steps of the wall clock.

use std::time::Duration;

/// The time of one turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary start; never steps. All deadlines are on it.
    pub mono: Duration,
    /// Since the Unix epoch; may step. Only shown, never compared.
    pub wall: Duration,
    /// Since the machine was switched on, with the time in which it was suspended; never steps, and
    /// begins anew with each boot. It counts over restarts of the process.
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
    /// Where a time is after the step: one of this run moves with the clock, and one of an earlier run
    /// was on a clock of its own.
    #[must_use]
    pub fn follow(&self, wall: Duration) -> Duration {
        if (self.started..=self.from).contains(&wall) { self.shift(wall) } else { wall }
    }

    /// Where a time is on the clock after the step.
    #[must_use]
    pub fn shift(&self, wall: Duration) -> Duration {
        let ago = self.from.saturating_sub(wall);
        self.to.saturating_sub(ago)
    }
}
