//! systemd's watchdog, fed only while the loop goes round and every part has shown life.
//!
//! Being asked at all proves the loop; the parts prove themselves by their pulses.

use crate::systemd::notify;
use std::time::Duration;
use tokio::time::Instant;

/// Knows when the watchdog wants to be fed.
#[derive(Debug)]
pub struct Watchdog {
    /// systemd's WatchdogSec; `None` without a watchdog.
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub fn new(interval: Option<Duration>) -> Self {
        Self { interval, next: Instant::now() }
    }

    /// When to be asked next.
    pub fn next(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    /// Feeds at a third of the interval, if every part has shown life within the interval. Where
    /// one has not, systemd is left to notice.
    pub fn feed_if(&mut self, alive: impl Fn(Duration) -> bool) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + interval / 3;
        if alive(interval) {
            notify::watchdog();
        }
    }
}
