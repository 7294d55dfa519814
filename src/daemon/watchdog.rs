//! Feeds systemd's watchdog, only while the loop turns and every part is alive.
//!
//! A call of this module proves that the loop turns; the parts prove themselves by their pulses.

use crate::systemd::notify;
use std::time::Duration;
use tokio::time::Instant;

/// Determines when to feed the watchdog.
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

    /// The time of the next call.
    pub fn next(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    /// Feeds the watchdog at a third of the interval, if every part was alive within the interval.
    /// Otherwise systemd notices the missing notification.
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
