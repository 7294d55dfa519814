//! Detects another monitor that publishes below the same base topic.
//!
//! All of a monitor's own topics lie there, so two that share one are mistaken for each other. A
//! monitor's own messages differ from another's in their contents: `up` counts the seconds from its
//! own start, so another's count is ahead of its own, or behind what has already come back.

use std::time::Duration;

/// Messages of this monitor's former connection, including its will, may arrive this long after a
/// new one is established.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct SharedBase {
    /// The time at which the watch connection was made; `None` without one.
    since: Option<Duration>,
    /// The highest own or foreign count of this connection.
    highest: u64,
    is_reported: bool,
}

impl SharedBase {
    pub fn connected(&mut self, now: Duration) {
        self.since = Some(now);
        self.highest = 0;
    }

    pub fn disconnected(&mut self) {
        self.since = None;
    }

    /// Whether a live message on `BASE/below` comes from another monitor; `up_count` is this one's.
    pub fn is_foreign(
        &mut self,
        now: Duration,
        below: &str,
        payload: &[u8],
        up_count: u64,
    ) -> bool {
        let Some(since) = self.since else { return false };
        if now < since + SETTLED_AFTER {
            return false;
        }
        match below {
            // This monitor says `online` before it subscribes and `offline` when it ends.
            "availability" => true,
            "up" => {
                let count = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
                let Some(count) = count else { return true };
                let is_foreign = count > up_count || count < self.highest;
                self.highest = self.highest.max(count);
                is_foreign
            }
            _ => false,
        }
    }

    /// Whether to report it now, which happens once.
    pub fn report(&mut self) -> bool {
        !std::mem::replace(&mut self.is_reported, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn connected() -> SharedBase {
        let mut shared = SharedBase::default();
        shared.connected(secs(0));
        shared
    }

    #[test]
    fn its_own_count_comes_back() {
        let mut shared = connected();
        for second in 6..100_u64 {
            let payload = second.to_string();
            // A moment later, and twice where two subscriptions match.
            assert!(!shared.is_foreign(secs(second), "up", payload.as_bytes(), second + 1));
            assert!(!shared.is_foreign(secs(second), "up", payload.as_bytes(), second + 1));
        }
    }

    #[test]
    fn another_count_is_ahead_or_behind() {
        let mut shared = connected();
        assert!(shared.is_foreign(secs(6), "up", b"500", 6));
        let mut shared = connected();
        assert!(!shared.is_foreign(secs(600), "up", b"600", 600));
        assert!(shared.is_foreign(secs(600), "up", b"599", 600));
        assert!(shared.is_foreign(secs(600), "up", b"yes", 600));
    }

    #[test]
    fn what_an_earlier_connection_said_may_be_late() {
        let mut shared = connected();
        assert!(!shared.is_foreign(secs(1), "availability", b"offline", 1));
        assert!(!shared.is_foreign(secs(1), "up", b"500", 1));
        assert!(shared.is_foreign(secs(6), "availability", b"offline", 6));
        shared.disconnected();
        assert!(!shared.is_foreign(secs(7), "availability", b"offline", 7));
    }

    #[test]
    fn it_is_reported_once() {
        let mut shared = connected();
        assert!(shared.report());
        assert!(!shared.report());
    }

    #[test]
    fn other_topics_are_no_proof() {
        assert!(!connected().is_foreign(secs(9), "status/lamp", b"{}", 9));
    }
}
