//! The watch connection: whether devices can be heard, and what was reported about it.

use crate::model::message::{FilterRefusal, LossReason, Protocol};
use crate::topic::TopicFilter;
use std::collections::BTreeSet;
use std::time::Duration;

/// A connection that has lasted this long after a takeover is undisputed.
const LASTING: Duration = Duration::from_secs(60);

/// The state of the watch connection. Times are monotonic.
#[derive(Debug, Default)]
pub struct WatchLink {
    protocol: Option<Protocol>,
    /// Filters that it refused on this connection, or on the last one while there is none.
    refused: BTreeSet<TopicFilter>,
    /// The time of the last message or answer from the broker.
    last_heard: Duration,
    /// A loss was reported, so the return is reported too.
    reported_lost: bool,
    /// Another client took the clientid, which was reported. Nothing more is reported about it
    /// before a connection has lasted.
    taken: bool,
    /// When a connection after a takeover will have lasted.
    lasting_at: Option<Duration>,
}

/// The time at which the return of the connection is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportTime {
    Now,
    /// When it has lasted until this time.
    At(Duration),
}

/// The contents of the report of the return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    pub protocol: Protocol,
    /// A loss was reported before.
    pub is_again: bool,
}

impl WatchLink {
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.protocol.is_some()
    }

    /// The protocol of the connection, while there is one.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    pub fn connected(&mut self, now: Duration, protocol: Protocol) {
        self.protocol = Some(protocol);
        self.last_heard = now;
    }

    /// The broker sent something.
    pub fn heard(&mut self, now: Duration) {
        self.last_heard = now;
    }

    #[must_use]
    pub fn last_heard(&self) -> Duration {
        self.last_heard
    }

    /// Records which filters the broker refused. Each answer includes all earlier refusals, because
    /// those filters were requested again. Returns the news.
    pub fn subscribed<'r>(
        &mut self,
        now: Duration,
        refused: Vec<&'r FilterRefusal>,
    ) -> Vec<&'r FilterRefusal> {
        self.last_heard = now;
        let known = std::mem::take(&mut self.refused);
        let is_news = |refusal: &&FilterRefusal| {
            self.refused.insert(refusal.filter.clone()) && !known.contains(&refusal.filter)
        };
        refused.into_iter().filter(is_news).collect()
    }

    #[must_use]
    pub fn has_refused_any(&self) -> bool {
        !self.refused.is_empty()
    }

    #[must_use]
    pub fn has_refused(&self, filter: &TopicFilter) -> bool {
        self.refused.contains(filter)
    }

    /// Drops refused filters that are no longer requested.
    pub fn forget_refused_unless(&mut self, is_planned: impl Fn(&TopicFilter) -> bool) {
        self.refused.retain(is_planned);
    }

    /// The devices can be heard again.
    pub fn resumed(&mut self, now: Duration) -> ReportTime {
        if !self.taken {
            return ReportTime::Now;
        }
        let due = now + LASTING;
        self.lasting_at = Some(due);
        ReportTime::At(due)
    }

    /// Checks whether the connection that had to last until then has lasted.
    pub fn has_lasted(&mut self, due: Duration) -> bool {
        let has_lasted = self.lasting_at == Some(due);
        if has_lasted {
            self.lasting_at = None;
            self.taken = false;
        }
        has_lasted
    }

    /// The return is reported now.
    pub fn report_return(&mut self) -> Return {
        let is_again = std::mem::take(&mut self.reported_lost);
        Return { protocol: self.protocol.unwrap_or(Protocol::V311), is_again }
    }

    /// The connection is lost; returns whether to report that.
    pub fn disconnected(&mut self, reason: &LossReason) -> bool {
        self.protocol = None;
        self.reported_lost = true;
        self.lasting_at = None;
        let is_taken = *reason == LossReason::TakenOver;
        let was_taken = self.taken;
        self.taken |= is_taken;
        !(was_taken && is_taken)
    }
}

/// The time until which the broker was known to answer, on a connection that is lost now.
#[must_use]
pub fn answered_until(now: Duration, reason: &LossReason) -> Duration {
    match reason {
        LossReason::Silent { quiet, .. } => now.saturating_sub(*quiet),
        LossReason::TakenOver | LossReason::Refused(_) | LossReason::Other(_) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn connected() -> WatchLink {
        let mut link = WatchLink::default();
        link.connected(T(1), Protocol::V311);
        link
    }

    fn lost() -> LossReason {
        LossReason::Other("the broker is gone".into())
    }

    fn refusal(filter: &str) -> FilterRefusal {
        FilterRefusal { filter: TopicFilter::new(filter).unwrap(), reason: "not authorized".into() }
    }

    #[test]
    fn a_loss_is_reported_and_so_is_the_return() {
        let mut link = connected();
        assert_eq!((link.is_up(), link.resumed(T(2))), (true, ReportTime::Now));
        assert!(!link.report_return().is_again);
        assert!(link.disconnected(&lost()) && !link.is_up());
        link.connected(T(9), Protocol::V5);
        assert_eq!(link.report_return(), Return { protocol: Protocol::V5, is_again: true });
        assert!(!link.report_return().is_again);
    }

    #[test]
    fn a_takeover_is_reported_once_until_a_connection_has_lasted() {
        let mut link = connected();
        assert!(link.disconnected(&LossReason::TakenOver));
        link.connected(T(10), Protocol::V5);
        assert_eq!(link.resumed(T(11)), ReportTime::At(T(71)));
        assert!(!link.disconnected(&LossReason::TakenOver));
        assert!(!link.has_lasted(T(71)), "that connection is gone");
        link.connected(T(80), Protocol::V5);
        assert_eq!(link.resumed(T(80)), ReportTime::At(T(140)));
        assert!(link.has_lasted(T(140)) && link.disconnected(&LossReason::TakenOver));
    }

    #[test]
    fn a_refused_filter_is_news_once_even_across_connections() {
        let mut link = connected();
        let refused = refusal("home/+/x");
        assert_eq!(link.subscribed(T(2), vec![&refused]), [&refused]);
        link.disconnected(&lost());
        link.connected(T(9), Protocol::V5);
        assert!(link.subscribed(T(10), vec![&refused]).is_empty());
        assert!(link.has_refused_any() && link.has_refused(&refused.filter));
        link.forget_refused_unless(|_| false);
        assert!(!link.has_refused(&refused.filter));
        assert!(link.subscribed(T(11), vec![]).is_empty());
        assert_eq!(link.subscribed(T(12), vec![&refused]), [&refused], "it was granted between");
    }

    #[test]
    fn of_a_broker_that_fell_silent_only_the_time_to_its_last_packet_is_sure() {
        let silent = LossReason::Silent { sentence: String::new(), quiet: T(45) };
        assert_eq!(answered_until(T(100), &silent), T(55));
        assert_eq!(answered_until(T(100), &lost()), T(100));
    }
}
