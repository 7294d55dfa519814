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
    /// A watchdog that is fed at whole thirds of its interval since `start`: with the usual ones,
    /// the process is awake then to publish `up`.
    pub fn new(interval: Option<Duration>, start: Instant) -> Self {
        Self { interval, next: start }
    }

    /// The time of the next call.
    pub fn next(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    /// Feeds the watchdog at a third of the interval, if every part was alive within the interval.
    /// Otherwise systemd notices the missing notification. Then the parts are asked to prove
    /// themselves until the next time.
    pub fn feed_if(&mut self, alive: impl FnOnce(Duration) -> bool, ask: impl FnOnce()) {
        let Some(interval) = self.interval else { return };
        let (now, third) = (Instant::now(), interval / 3);
        if now < self.next {
            return;
        }
        self.next += third;
        if self.next <= now {
            self.next = now + third;
        }
        if alive(interval) {
            notify::watchdog();
        }
        ask();
    }
}
