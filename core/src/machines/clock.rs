//! Watched time: how long the monitor has been able to hear its devices, over all runs.
//!
//! It stands still while the watch connection is down or its subscriptions are not acknowledged,
//! and the store carries it across restarts. Silence is measured on it, so an outage moves no
//! deadline and needs no work for each device.

use std::time::Duration;

/// The clock of silence deadlines.
#[derive(Debug, Clone, Default)]
pub struct WatchedClock {
    /// Watched time up to the last resume or pause.
    total: Duration,
    /// Monotonic time at which it was resumed; `None` while it stands still.
    running_since: Option<Duration>,
    /// The watched time of the last resume.
    resumed_at: Duration,
    /// The number of resumes, so that a grace is granted once for each.
    stretch: u32,
}

impl WatchedClock {
    /// Adds the watched time of earlier runs, which may become known while the clock runs.
    pub fn carry_over(&mut self, earlier: Duration) {
        self.total += earlier;
        self.resumed_at += earlier;
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running_since.is_some()
    }

    /// Watched time at a monotonic time.
    #[must_use]
    pub fn at(&self, mono: Duration) -> Duration {
        self.total + self.running_since.map_or(Duration::ZERO, |since| mono.saturating_sub(since))
    }

    /// Monotonic time at which this watched time is reached; `None` while the clock stands still.
    #[must_use]
    pub fn mono_of(&self, watched: Duration) -> Option<Duration> {
        self.running_since.map(|since| since + watched.saturating_sub(self.total))
    }

    /// Starts counting; a running clock goes on.
    pub fn resume(&mut self, mono: Duration) {
        if self.running_since.is_none() {
            self.running_since = Some(mono);
            self.resumed_at = self.total;
            self.stretch += 1;
        }
    }

    /// Stops counting, at the last moment at which the broker was known to answer.
    pub fn pause(&mut self, mono: Duration) {
        self.total = self.at(mono);
        self.running_since = None;
    }

    /// Removes the time before this moment during which a stalled broker passed nothing on: an
    /// outage like any other, which ends at once.
    pub fn leave_out(&mut self, duration: Duration, mono: Duration) {
        if self.is_running() {
            self.pause(mono.saturating_sub(duration));
            self.resume(mono);
        }
    }

    /// Watched time of the last resume.
    #[must_use]
    pub fn resumed_at(&self) -> Duration {
        self.resumed_at
    }

    /// The number of the present stretch of watched time, starting at 1.
    #[must_use]
    pub fn stretch(&self) -> u32 {
        self.stretch
    }
}
