//! Proof that a part is alive: each part signals every completed turn of its loop, and the watchdog
//! is fed only while every part's last signal is recent.
//!
//! The daemon decides which parts are checked and which age is too high.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a part beats that has nothing to do.
pub const BEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Shared between a part and the daemon; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulse {
    start: Instant,
    last_beat_millis: Arc<AtomicU64>,
}

impl Pulse {
    /// A pulse that has just beaten.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a pulse starts at a moment, it has no default")]
    pub fn new() -> Self {
        Self::since(Instant::now())
    }

    /// A pulse that has beaten at `start`, of which all that are since then beat at the same
    /// moments: an idle process wakes once for all of them.
    #[must_use]
    pub fn since(start: Instant) -> Self {
        Self { start, last_beat_millis: Arc::default() }
    }

    /// A pulse of another part, which beats at the same moments and has just beaten.
    #[must_use]
    pub fn sibling(&self) -> Self {
        let sibling = Self::since(self.start);
        sibling.beat();
        sibling
    }

    /// Time until the next moment of beating, from above 0 to [`BEAT_INTERVAL`].
    #[must_use]
    pub fn until_next(&self) -> Duration {
        let interval = BEAT_INTERVAL.as_nanos();
        let rest = u64::try_from(self.start.elapsed().as_nanos() % interval);
        BEAT_INTERVAL - Duration::from_nanos(rest.unwrap_or_default())
    }

    /// To be called at least once a second by a part that lives.
    pub fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat_millis.store(millis, Ordering::Relaxed);
    }

    /// Time since the last beat.
    #[must_use]
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last_beat_millis.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_beat_at_the_same_moments() {
        let pulse = Pulse::since(Instant::now() - Duration::from_millis(720));
        let sibling = pulse.sibling();
        assert!(sibling.age() < Duration::from_millis(100), "it has just beaten");
        let next = Instant::now() + pulse.until_next();
        let apart = (Instant::now() + sibling.until_next()).saturating_duration_since(next);
        assert!(apart < Duration::from_millis(100), "{apart:?}");
        let left = Pulse::since(Instant::now() - Duration::from_millis(720)).until_next();
        assert!(left <= Duration::from_millis(280), "{left:?}");
    }
}
