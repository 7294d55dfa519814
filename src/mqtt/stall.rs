//! Tracks the answers that the broker owes; a late one shows that the broker was stalled.
//!
//! While a broker is stalled, messages from other clients wait in it, and afterwards it may answer
//! before it delivers them. A silent broker is declared lost by the keep alive, not here.

use std::time::Duration;
use tokio::time::Instant;

/// A broker that sends nothing for longer than this while it owes an answer was stalled.
const HELD_UP: Duration = Duration::from_millis(500);

/// On a slow line, the limit is this multiple of its quickest answer.
const HELD_UP_FACTOR: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// The time since which the broker owes an answer and nothing has been read.
    since: Option<Instant>,
    /// The time at which a ping was sent that only checks the broker.
    check: Option<Instant>,
    /// The shortest time in which it has answered such a ping.
    quickest: Option<Duration>,
}

impl StallDetector {
    /// Whether a check may be sent now; the caller must then send it. There is one at a time.
    pub(super) fn begin_check(&mut self) -> bool {
        let free = self.check.is_none();
        self.check.get_or_insert_with(Instant::now);
        free
    }

    pub(super) fn is_checking(&self) -> bool {
        self.check.is_some()
    }

    /// Notes whether the broker owes an answer that this side would read.
    pub(super) fn note(&mut self, owes: bool) {
        self.since = owes.then(|| self.since.unwrap_or_else(Instant::now));
    }

    /// A ping was answered.
    pub(super) fn ping_answered(&mut self) {
        if let Some(sent) = self.check.take() {
            let took = sent.elapsed();
            self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        }
    }

    /// Something was read; returns how long the broker was stalled, if it was.
    pub(super) fn heard(&mut self, now: Instant) -> Option<Duration> {
        let silence = now - self.since.take()?;
        let usual = self.quickest.unwrap_or_default().saturating_mul(HELD_UP_FACTOR);
        (silence > HELD_UP.max(usual)).then_some(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_a_debt_can_be_late() {
        let mut stall = StallDetector::default();
        stall.note(false);
        tokio::time::advance(SLOW).await;
        assert_eq!(stall.heard(Instant::now()), None);
        stall.note(true);
        tokio::time::advance(HELD_UP).await;
        stall.note(true);
        assert_eq!(stall.heard(Instant::now()), None);
        stall.note(true);
        tokio::time::advance(SLOW).await;
        stall.note(true);
        assert_eq!(stall.heard(Instant::now()), Some(SLOW));
        assert_eq!(stall.heard(Instant::now()), None, "reported once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_no_broker_that_was_held_up() {
        let mut stall = StallDetector::default();
        assert!(stall.begin_check());
        assert!(!stall.begin_check(), "one at a time");
        tokio::time::advance(SLOW).await;
        stall.ping_answered();
        assert!(stall.begin_check());
        stall.note(true);
        tokio::time::advance(3 * SLOW).await;
        assert_eq!(stall.heard(Instant::now()), None);
        stall.note(true);
        tokio::time::advance(5 * SLOW).await;
        assert_eq!(stall.heard(Instant::now()), Some(5 * SLOW));
    }
}
