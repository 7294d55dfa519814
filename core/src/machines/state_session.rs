//! The state connection: how far its backlog has been taken in, which filters the broker may hold
//! for it, and what of its losses has been told.
//!
//! MQTT has no signal for the end of a backlog. So a first marker is published, then the filters
//! are subscribed, then a second marker is published; when both came back and it was quiet for a
//! moment, everything that the broker held has been seen. Without a session at the broker there is
//! no subscription that could bring the first marker back, and no backlog before it.

use crate::model::message::{FilterRefusal, LossReason, Protocol};
use crate::model::plan::{Plan, filters_beyond, find};
use crate::model::time::Now;
use crate::topic::TopicFilter;
use std::collections::BTreeSet;
use std::time::Duration;

/// Quiet for this long after the markers: the backlog is in.
const QUIET: Duration = Duration::from_millis(250);

/// Markers that have not come back this long after the last message are given up.
const MARKER_PATIENCE: Duration = Duration::from_secs(10);

/// A broker may pass no marker on to a client without the right to it, and a house is never quiet
/// for long: this is the end of waiting for markers.
const BACKLOG_PATIENCE: Duration = Duration::from_secs(300);

/// And this the end of waiting for quiet; what arrives later is newer, and known to be.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// A state connection that is back within this time was not worth an alert.
const LOSS_PATIENCE: Duration = Duration::from_secs(5);

/// The state connection's condition. All times are monotonic.
#[derive(Debug, Default)]
pub struct StateSession {
    protocol: Option<Protocol>,
    backlog: Backlog,
    /// The second marker of this connection has not come back, although it was quiet.
    swallowed: bool,
    /// This was told.
    told_swallowed: bool,
    /// Payload of this connection's markers, by which those of an earlier one are recognized.
    marker: String,
    connections: u64,
    /// How often was subscribed to on this connection, which its second markers number.
    subscribed: u64,
    /// What the kept session may be subscribed to beyond what the configuration asks for.
    stale: BTreeSet<TopicFilter>,
    /// The store knows all that the configuration asks for, and all that is stale.
    stored: bool,
    /// Unsubscribed before the second marker, so that its return proves them gone.
    leaving: BTreeSet<TopicFilter>,
    refused: BTreeSet<TopicFilter>,
    /// The broker last refused the filter that brings markers back.
    markers_refused: bool,
    /// A loss that is not told yet, with the time of telling.
    loss: Option<(Duration, LossReason)>,
    told_lost: bool,
}

/// How much of what the broker kept has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
enum Backlog {
    /// No connection.
    #[default]
    Away,
    /// The markers (first, second) still to come back; given up at `until`.
    /// Each message moves that on, but not past `latest`.
    Draining { first: bool, second: bool, until: Duration, latest: Duration },
    /// Both came back; done when it stays quiet until then, and at `latest` where it never does.
    Settling { until: Duration, latest: Duration },
    /// All of it: restores may go out.
    TakenIn,
}

/// One of this connection's two markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    First,
    Second,
}

/// The connection stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Connected {
    /// A loss that was told is over.
    pub is_back: bool,
    /// When to look whether the backlog is in.
    pub wake: Duration,
}

/// What the return of the second marker shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Returned {
    /// Stale filters are gone from the session for certain, which the store is to know.
    pub filters_left: bool,
    /// It was told that the broker swallows markers, and it does no longer.
    pub passes_again: bool,
}

/// What has become of the backlog.
#[derive(Debug, PartialEq, Eq)]
pub enum BacklogProgress {
    /// Nothing is waited for.
    Nothing,
    /// It is to be looked at again then.
    WaitUntil(Duration),
    /// Everything is in.
    TakenIn {
        /// The broker was found to swallow the second marker, which has not been told.
        swallows: bool,
    },
}

/// What to do about a loss whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    Tell(LossReason),
    /// The other connection is down too, whose alert says it all. Look again then.
    WaitUntil(Duration),
}

impl StateSession {
    /// The protocol of the connection, while there is one.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Whether everything that the broker kept has been seen.
    #[must_use]
    pub fn is_taken_in(&self) -> bool {
        self.backlog == Backlog::TakenIn
    }

    /// Whether markers are still waited for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.backlog, Backlog::Draining { .. })
    }

    /// Whether the broker is known to drop what this connection publishes, and to acknowledge it:
    /// in MQTT 3.1.1 there is no other way to refuse a publication.
    #[must_use]
    pub fn is_swallowed(&self) -> bool {
        self.swallowed && self.protocol == Some(Protocol::V311)
    }

    /// Payload of the connection's markers, to which those behind something add its number.
    #[must_use]
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Number of the last subscription, which the second marker bears.
    #[must_use]
    pub fn subscription(&self) -> u64 {
        self.subscribed
    }

    /// Whether a message with the retain flag is what the broker retains, and no live one. In MQTT
    /// 5 the flag is kept on live ones too, so it depends on where it comes: what the broker sends
    /// because of a subscription comes between the two markers, or a little later. Ahead of them
    /// comes what was queued, and again what was `sent_before`, perhaps as a replay. Where no marker
    /// is known to come back, nothing tells the two apart, and old values must not replace newer ones.
    #[must_use]
    pub fn is_replay(&self, sent_before: bool) -> bool {
        match (self.protocol, &self.backlog) {
            (Some(Protocol::V5), Backlog::Draining { first: true, .. }) => {
                sent_before || self.told_swallowed || self.markers_refused
            }
            (Some(Protocol::V5), Backlog::Away | Backlog::TakenIn) => false,
            (Some(Protocol::V5), Backlog::Draining { .. } | Backlog::Settling { .. })
            | (Some(Protocol::V311) | None, _) => true,
        }
    }

    /// The connection stands, with the session that the broker kept or without one.
    pub fn connected(&mut self, now: Now, protocol: Protocol, session_present: bool) -> Connected {
        self.protocol = Some(protocol);
        self.loss = None;
        self.swallowed = false;
        self.connections += 1;
        self.subscribed = 0;
        self.marker = format!("{}-{}", now.wall.as_nanos(), self.connections);
        if !session_present && !self.stale.is_empty() {
            self.stale.clear();
            self.stored = false;
        }
        let (until, latest) = (now.mono + MARKER_PATIENCE, now.mono + BACKLOG_PATIENCE);
        self.backlog = Backlog::Draining { first: session_present, second: true, until, latest };
        Connected { is_back: std::mem::take(&mut self.told_lost), wake: until }
    }

    /// More is subscribed to, or again, and what the broker retains comes once more ahead of another
    /// second marker. Returns when to look whether that is in.
    pub fn subscribes_again(&mut self, now: Duration) -> Duration {
        let first = matches!(self.backlog, Backlog::Draining { first: true, .. });
        self.subscribed += 1;
        let (until, latest) = (now + MARKER_PATIENCE, now + BACKLOG_PATIENCE);
        self.backlog = Backlog::Draining { first, second: true, until, latest };
        until
    }

    /// The connection is gone. Returns when to look whether that is to be told.
    pub fn disconnected(&mut self, now: Duration, reason: LossReason) -> Duration {
        self.protocol = None;
        self.backlog = Backlog::Away;
        let due = now + LOSS_PATIENCE;
        self.loss = Some((due, reason));
        due
    }

    /// The time has come to look at a loss. `other_is_up` is whether the watch connection stands.
    pub fn loss_due(&mut self, now: Duration, due: Duration, other_is_up: bool) -> Loss {
        match &mut self.loss {
            Some((when, _)) if *when == due && !other_is_up => {
                *when = now + LOSS_PATIENCE;
                Loss::WaitUntil(*when)
            }
            Some((when, _)) if *when == due => {
                self.told_lost = true;
                self.loss.take().map_or(Loss::Nothing, |(_, reason)| Loss::Tell(reason))
            }
            Some(_) | None => Loss::Nothing,
        }
    }

    /// The filters that the store has to know before the broker does, unless it knows them.
    pub fn filters_to_store(&mut self, plan: &Plan) -> Option<Vec<TopicFilter>> {
        (!std::mem::replace(&mut self.stored, true)).then(|| self.filters(plan))
    }

    /// All filters that the broker may hold for this session.
    #[must_use]
    pub fn filters(&self, plan: &Plan) -> Vec<TopicFilter> {
        let planned = plan.iter().map(|subscription| &subscription.filter);
        planned.chain(&self.stale).cloned().collect()
    }

    /// The filters to unsubscribe.
    #[must_use]
    pub fn stale(&self) -> Vec<TopicFilter> {
        self.stale.iter().cloned().collect()
    }

    /// The stale filters are unsubscribed before the second marker.
    pub fn leave_stale(&mut self) {
        self.leaving = self.stale.clone();
    }

    /// The configuration asks for another plan than it `had`. Returns what of it is new.
    pub fn replan(&mut self, had: &Plan, plan: &Plan) -> Plan {
        let new: Plan = plan.iter().filter(|s| find(had, &s.filter).is_none()).cloned().collect();
        self.stored &= new.iter().all(|wanted| self.stale.contains(&wanted.filter));
        self.stale.extend(filters_beyond(had, plan).cloned());
        self.stale.retain(|filter| find(plan, filter).is_none());
        new
    }

    /// Takes in which filters the kept session may have.
    pub fn filters_known(&mut self, filters: Vec<TopicFilter>, plan: &Plan) {
        let (planned, stale): (BTreeSet<_>, BTreeSet<_>) =
            filters.into_iter().partition(|filter| find(plan, filter).is_some());
        self.stored |= planned.len() == plan.len();
        self.stale.extend(stale);
    }

    /// Every subscription is answered. `is_marker` tells the filter that brings markers back. Returns
    /// the refusals that are news.
    pub fn subscribed<'r>(
        &mut self,
        refused: &'r [FilterRefusal],
        is_marker: impl Fn(&TopicFilter) -> bool,
    ) -> Vec<&'r FilterRefusal> {
        let before = std::mem::take(&mut self.refused);
        self.refused = refused.iter().map(|refusal| refusal.filter.clone()).collect();
        // A later subscription on the same connection may be one to other filters alone.
        self.markers_refused &= self.subscribed > 0;
        self.markers_refused |= self.refused.iter().any(is_marker);
        refused.iter().filter(|refusal| !before.contains(&refusal.filter)).collect()
    }

    /// Whether no marker can come back, although one is waited for.
    #[must_use]
    pub fn waits_in_vain(&self) -> bool {
        self.is_draining() && self.markers_refused
    }

    /// A marker came back.
    pub fn marker_returned(&mut self, marker: Marker) -> Returned {
        if let Backlog::Draining { first, second, .. } = &mut self.backlog {
            match marker {
                Marker::First => *first = false,
                Marker::Second => *second = false,
            }
        }
        if marker == Marker::First {
            return Returned { filters_left: false, passes_again: false };
        }
        let leaving = std::mem::take(&mut self.leaving);
        let before = self.stale.len();
        self.stale.retain(|filter| !leaving.contains(filter));
        self.swallowed = false;
        Returned {
            filters_left: self.stale.len() != before,
            passes_again: std::mem::take(&mut self.told_swallowed),
        }
    }

    /// A message arrived, a marker or another, which moves the end of the backlog on.
    pub fn message_arrived(&mut self, now: Duration) -> BacklogProgress {
        match &mut self.backlog {
            Backlog::Away | Backlog::TakenIn => BacklogProgress::Nothing,
            Backlog::Settling { until, latest } => {
                *until = (now + QUIET).min(*latest);
                self.look(now)
            }
            Backlog::Draining { first: false, second: false, .. } => self.settle(now),
            Backlog::Draining { until, latest, .. } => {
                *until = (now + MARKER_PATIENCE).min(*latest);
                self.look(now)
            }
        }
    }

    /// Nothing more is known to be on its way: a moment of quiet ends the backlog.
    pub fn settle(&mut self, now: Duration) -> BacklogProgress {
        self.backlog = Backlog::Settling { until: now + QUIET, latest: now + SETTLE_PATIENCE };
        BacklogProgress::WaitUntil(now + QUIET)
    }

    /// Looks whether the backlog is in, or given up.
    pub fn look(&mut self, now: Duration) -> BacklogProgress {
        let until = match self.backlog {
            Backlog::Away | Backlog::TakenIn => return BacklogProgress::Nothing,
            Backlog::Draining { until, .. } | Backlog::Settling { until, .. } => until,
        };
        if now < until {
            return BacklogProgress::WaitUntil(until);
        }
        let swallows = self.note_missing_marker(now);
        self.backlog = Backlog::TakenIn;
        BacklogProgress::TakenIn { swallows }
    }

    /// A marker that does not come back although the broker has nothing else to pass on was dropped.
    /// In a house that is never quiet it may only be late. Returns whether that is to be told.
    fn note_missing_marker(&mut self, now: Duration) -> bool {
        let Backlog::Draining { second: true, latest, .. } = self.backlog else { return false };
        if now >= latest {
            return false;
        }
        self.swallowed = true;
        !std::mem::replace(&mut self.told_swallowed, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::QoS;
    use crate::model::plan::{plan, wanted};

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn at(seconds: u64) -> Now {
        Now { mono: T(seconds), wall: T(seconds), boot: T(seconds) }
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    fn plan_of(filters: &[&str]) -> Plan {
        plan(filters.iter().map(|text| wanted(filter(text), QoS::AtLeastOnce)))
    }

    fn connected(session_present: bool) -> StateSession {
        let mut session = StateSession::default();
        session.connected(at(100), Protocol::V311, session_present);
        session
    }

    const TAKEN_IN: BacklogProgress = BacklogProgress::TakenIn { swallows: false };

    #[test]
    fn the_backlog_is_in_when_both_markers_are_back_and_it_was_quiet() {
        let mut session = connected(true);
        session.marker_returned(Marker::Second);
        assert_eq!(session.message_arrived(T(101)), BacklogProgress::WaitUntil(T(111)));
        session.marker_returned(Marker::First);
        assert_eq!(session.message_arrived(T(102)), BacklogProgress::WaitUntil(T(102) + QUIET));
        assert_eq!(session.look(T(102)), BacklogProgress::WaitUntil(T(102) + QUIET));
        assert_eq!(session.look(T(103)), TAKEN_IN);
        assert!(session.is_taken_in());
        assert_eq!(session.message_arrived(T(104)), BacklogProgress::Nothing);
    }

    #[test]
    fn without_a_kept_session_the_second_marker_is_enough() {
        let mut session = connected(false);
        session.marker_returned(Marker::Second);
        session.message_arrived(T(100));
        assert_eq!(session.look(T(101)), TAKEN_IN);
    }

    #[test]
    fn a_trickle_is_waited_for_and_no_longer_than_is_reasonable() {
        let mut session = connected(false);
        session.marker_returned(Marker::Second);
        let tenth = |number: u64| T(100) + Duration::from_millis(number * 100);
        for number in 0..20 {
            assert_ne!(session.message_arrived(tenth(number)), TAKEN_IN, "{number}");
        }
        assert_eq!(session.message_arrived(tenth(20)), TAKEN_IN);
    }

    #[test]
    fn a_marker_that_stays_away_from_a_quiet_broker_was_swallowed() {
        let mut session = connected(false);
        assert_eq!(session.look(T(110)), BacklogProgress::TakenIn { swallows: true });
        assert!(session.is_swallowed());
        session.connected(at(200), Protocol::V311, false);
        assert_eq!(session.look(T(210)), TAKEN_IN, "it is told once");
        assert!(session.marker_returned(Marker::Second).passes_again);
        assert!(!session.marker_returned(Marker::Second).passes_again && !session.is_swallowed());
    }

    #[test]
    fn a_marker_that_stays_away_from_a_busy_broker_may_be_late() {
        let mut session = connected(false);
        for second in 100..400 {
            assert_ne!(session.message_arrived(T(second)), TAKEN_IN, "{second}");
        }
        assert_eq!(session.message_arrived(T(400)), TAKEN_IN);
        assert!(!session.is_swallowed());
    }

    #[test]
    fn a_filter_that_left_is_stale_until_a_marker_behind_its_end_is_back() {
        let (had, plan) = (plan_of(&["a", "b"]), plan_of(&["b", "c"]));
        let mut session = connected(true);
        assert_eq!(session.filters_to_store(&had).map(|filters| filters.len()), Some(2));
        assert_eq!(session.filters_to_store(&had), None);
        assert_eq!(session.replan(&had, &plan), plan_of(&["c"]));
        let all = ["b", "c", "a"].map(filter);
        assert_eq!(session.filters_to_store(&plan).as_deref(), Some(&all[..]));
        assert_eq!(session.stale(), [filter("a")]);
        assert!(!session.marker_returned(Marker::Second).filters_left, "it was sent before");
        session.leave_stale();
        assert!(session.marker_returned(Marker::Second).filters_left);
        assert!(session.stale().is_empty());
    }

    #[test]
    fn replays_come_behind_the_first_marker_and_in_311_alone_at_any_time() {
        let mut session = connected(true);
        assert!(session.is_replay(false));
        session.connected(at(200), Protocol::V5, true);
        assert!(!session.is_replay(false) && session.is_replay(true), "it is queued");
        session.marker_returned(Marker::First);
        assert!(session.is_replay(false));
        session.marker_returned(Marker::Second);
        session.message_arrived(T(200));
        assert!(session.is_replay(false), "some brokers are late");
        session.look(T(201));
        assert!(session.is_taken_in() && !session.is_replay(false));
        let before = session.subscription();
        assert_eq!(session.subscribes_again(T(300)), T(310));
        assert!(session.is_replay(false) && session.subscription() != before);
        session.marker_returned(Marker::Second);
        session.message_arrived(T(300));
        assert_eq!(session.look(T(301)), TAKEN_IN, "no first marker is published");
    }

    #[test]
    fn filters_go_with_the_session() {
        let plan = plan_of(&["a"]);
        let mut session = StateSession::default();
        session.filters_known(["a", "old"].map(filter).to_vec(), &plan);
        assert_eq!(session.filters_to_store(&plan), None, "the store has them");
        session.connected(at(1), Protocol::V5, false);
        assert!(session.stale().is_empty());
        assert_eq!(session.filters_to_store(&plan).as_deref(), Some(&[filter("a")][..]));
    }

    #[test]
    fn a_refusal_is_news_once() {
        let mut session = connected(false);
        let refused = [FilterRefusal { filter: filter("a"), reason: "not authorized".into() }];
        let is_marker = |filter: &TopicFilter| *filter == self::filter("a");
        assert_eq!(session.subscribed(&refused, is_marker).len(), 1);
        assert_eq!(session.subscribed(&refused, is_marker).len(), 0);
        assert!(session.waits_in_vain());
        session.connected(at(200), Protocol::V5, true);
        assert!(session.is_replay(false), "it is not known to be queued");
        session.subscribed(&[], is_marker);
        assert!(!session.waits_in_vain() && !session.is_replay(false));
        assert_eq!(session.subscribed(&refused, is_marker).len(), 1);
    }

    #[test]
    fn a_loss_is_told_after_a_while_beside_a_living_connection() {
        let mut session = connected(false);
        let due = session.disconnected(T(200), LossReason::TakenOver);
        assert_eq!(session.loss_due(T(205), due, false), Loss::WaitUntil(T(210)));
        assert_eq!(
            session.loss_due(T(210), due, true),
            Loss::Nothing,
            "this is another one's time"
        );
        assert_eq!(session.loss_due(T(210), T(210), true), Loss::Tell(LossReason::TakenOver));
        assert!(session.connected(at(220), Protocol::V5, true).is_back);
        let due = session.disconnected(T(300), LossReason::TakenOver);
        assert!(!session.connected(at(301), Protocol::V5, true).is_back);
        assert_eq!(session.loss_due(due, due, true), Loss::Nothing);
    }
}
