//! Proof of life of a part: it beats each time its loop has really gone round, and the watchdog is
//! fed only while every part's last beat is young.
//!
//! Deliberately absent: who is asked, and how old is too old; that is the daemon's decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
        Self { start: Instant::now(), last_beat_millis: Arc::default() }
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
