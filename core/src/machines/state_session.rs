//! The state connection: how much of its backlog has been received, which filters the broker may
//! hold for it, and which of its losses have been reported.
//!
//! MQTT has no signal for the end of a backlog. So a first marker is published, then the filters
//! are subscribed, then a second marker is published; when both have come back and it was quiet for
//! a moment, the whole backlog has been received. Without a session at the broker there is no
//! subscription that could bring the first marker back, and no backlog before it.

use crate::model::message::{FilterRefusal, LossReason, Protocol};
use crate::model::plan::{Plan, filters_beyond, find};
use crate::model::time::Now;
use crate::topic::TopicFilter;
use std::collections::BTreeSet;
use std::time::Duration;

/// After this long without a message behind the markers, the backlog is complete.
const QUIET: Duration = Duration::from_millis(250);

/// Markers that have not come back this long after the last message are given up.
const MARKER_PATIENCE: Duration = Duration::from_secs(10);

/// The time limit for waiting for markers: a broker may withhold markers from a client without the
/// permission, and a busy home is never quiet for long.
const BACKLOG_PATIENCE: Duration = Duration::from_secs(300);

/// The time limit for waiting for quiet; messages that arrive later are newer, and known to be.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// A state connection that returns within this time causes no alert.
const LOSS_PATIENCE: Duration = Duration::from_secs(5);

/// The condition of the state connection. All times are monotonic.
#[derive(Debug, Default)]
pub struct StateSession {
    protocol: Option<Protocol>,
    backlog: Backlog,
    /// The second marker of this connection has not come back, although it was quiet.
    swallowed: bool,
    /// This has been reported.
    reported_swallowed: bool,
    /// The payload of this connection's markers, which distinguishes them from those of an earlier
    /// one.
    marker: String,
    connections: u64,
    /// The number of subscriptions on this connection, which its second markers carry.
    subscribed: u64,
    /// Filters to which the kept session may be subscribed beyond those of the configuration.
    stale: BTreeSet<TopicFilter>,
    /// The store knows all filters of the configuration, and all stale ones.
    stored: bool,
    /// Unsubscribed before the second marker, so that its return proves them gone.
    leaving: BTreeSet<TopicFilter>,
    refused: BTreeSet<TopicFilter>,
    /// The broker last refused the filter that brings markers back.
    markers_refused: bool,
    /// A loss that has not been reported yet, with the time of the report.
    loss: Option<(Duration, LossReason)>,
    reported_lost: bool,
}

/// How much of the broker's backlog has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
enum Backlog {
    /// No connection.
    #[default]
    Away,
    /// The markers (first, second) that have not come back; given up at `until`. Each message moves
    /// that on, but not past `latest`.
    Draining { first: bool, second: bool, until: Duration, latest: Duration },
    /// Both came back; complete when it stays quiet until then, and at `latest` in any case.
    Settling { until: Duration, latest: Duration },
    /// All of it: restores may begin.
    TakenIn,
}

/// One of this connection's two markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    First,
    Second,
}

/// The connection is established.
#[derive(Debug, PartialEq, Eq)]
pub struct Connected {
    /// A reported loss is over.
    pub is_back: bool,
    /// When to check whether the backlog is complete.
    pub wake: Duration,
}

/// The meaning of the second marker's return.
#[derive(Debug, PartialEq, Eq)]
pub struct Returned {
    /// Stale filters are certainly gone from the session, which the store must record.
    pub filters_left: bool,
    /// It was reported that the broker drops markers, which it no longer does.
    pub passes_again: bool,
}

/// The progress of the backlog.
#[derive(Debug, PartialEq, Eq)]
pub enum BacklogProgress {
    /// Nothing is waited for.
    Nothing,
    /// It must be checked again at this time.
    WaitUntil(Duration),
    /// The backlog is complete.
    TakenIn {
        /// The broker was found to drop the second marker, which has not been reported.
        swallows: bool,
    },
}

/// The decision about a loss whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    Report(LossReason),
    /// The other connection is down too, and its alert covers this one. Check again at this time.
    WaitUntil(Duration),
}

impl StateSession {
    /// The protocol of the connection, while there is one.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Whether the whole backlog has been received.
    #[must_use]
    pub fn is_taken_in(&self) -> bool {
        self.backlog == Backlog::TakenIn
    }

    /// Whether markers are still waited for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.backlog, Backlog::Draining { .. })
    }

    /// Whether the broker is known to drop the publications of this connection and to acknowledge
    /// them: MQTT 3.1.1 has no other way to refuse a publication.
    #[must_use]
    pub fn is_swallowed(&self) -> bool {
        self.swallowed && self.protocol == Some(Protocol::V311)
    }

    /// The payload of the connection's markers, to which second markers append their number.
    #[must_use]
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The number of the last subscription, which the second marker carries.
    #[must_use]
    pub fn subscription(&self) -> u64 {
        self.subscribed
    }

    /// Whether a message with the retain flag is a retained message rather than a live one. In MQTT
    /// 5 live messages keep the flag too, so the position decides: messages sent because of a
    /// subscription arrive between the two markers, or a little later. Ahead of them arrive queued
    /// messages, and again those `sent_before`, perhaps as a replay. Where no marker is known to
    /// come back, the two cannot be distinguished, and old values must not replace newer ones.
    #[must_use]
    pub fn is_replay(&self, sent_before: bool) -> bool {
        match (self.protocol, &self.backlog) {
            (Some(Protocol::V5), Backlog::Draining { first: true, .. }) => {
                sent_before || self.reported_swallowed || self.markers_refused
            }
            (Some(Protocol::V5), Backlog::Away | Backlog::TakenIn) => false,
            (Some(Protocol::V5), Backlog::Draining { .. } | Backlog::Settling { .. })
            | (Some(Protocol::V311) | None, _) => true,
        }
    }

    /// The connection is established, with the session that the broker kept or without one.
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
        Connected { is_back: std::mem::take(&mut self.reported_lost), wake: until }
    }

    /// Further filters are subscribed, or the same again, and the broker's retained messages arrive
    /// once more ahead of another second marker. Returns when to check whether they are complete.
    pub fn subscribes_again(&mut self, now: Duration) -> Duration {
        let first = matches!(self.backlog, Backlog::Draining { first: true, .. });
        self.subscribed += 1;
        let (until, latest) = (now + MARKER_PATIENCE, now + BACKLOG_PATIENCE);
        self.backlog = Backlog::Draining { first, second: true, until, latest };
        until
    }

    /// The connection is gone. Returns when to check whether to report that.
    pub fn disconnected(&mut self, now: Duration, reason: LossReason) -> Duration {
        self.protocol = None;
        self.backlog = Backlog::Away;
        let due = now + LOSS_PATIENCE;
        self.loss = Some((due, reason));
        due
    }

    /// Checks a loss whose time has come. `other_is_up` is whether the watch connection is
    /// established.
    pub fn loss_due(&mut self, now: Duration, due: Duration, other_is_up: bool) -> Loss {
        match &mut self.loss {
            Some((when, _)) if *when == due && !other_is_up => {
                *when = now + LOSS_PATIENCE;
                Loss::WaitUntil(*when)
            }
            Some((when, _)) if *when == due => {
                self.reported_lost = true;
                self.loss.take().map_or(Loss::Nothing, |(_, reason)| Loss::Report(reason))
            }
            Some(_) | None => Loss::Nothing,
        }
    }

    /// The filters that the store must know before the broker does, unless it already does.
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

    /// The configuration requests another plan than the one that it `had`. Returns the new part.
    pub fn replan(&mut self, had: &Plan, plan: &Plan) -> Plan {
        let new: Plan = plan.iter().filter(|s| find(had, &s.filter).is_none()).cloned().collect();
        self.stored &= new.iter().all(|wanted| self.stale.contains(&wanted.filter));
        self.stale.extend(filters_beyond(had, plan).cloned());
        self.stale.retain(|filter| find(plan, filter).is_none());
        new
    }

    /// Records which filters the kept session may have.
    pub fn filters_known(&mut self, filters: Vec<TopicFilter>, plan: &Plan) {
        let (planned, stale): (BTreeSet<_>, BTreeSet<_>) =
            filters.into_iter().partition(|filter| find(plan, filter).is_some());
        self.stored |= planned.len() == plan.len();
        self.stale.extend(stale);
    }

    /// Every subscription is answered. `is_marker` identifies the filter that brings markers back.
    /// Returns the refusals that are news.
    pub fn subscribed<'r>(
        &mut self,
        refused: &'r [FilterRefusal],
        is_marker: impl Fn(&TopicFilter) -> bool,
    ) -> Vec<&'r FilterRefusal> {
        let before = std::mem::take(&mut self.refused);
        self.refused = refused.iter().map(|refusal| refusal.filter.clone()).collect();
        // A later subscription on the same connection may be for other filters alone.
        self.markers_refused &= self.subscribed > 0;
        self.markers_refused |= self.refused.iter().any(is_marker);
        refused.iter().filter(|refusal| !before.contains(&refusal.filter)).collect()
    }

    /// Whether no marker can come back, although one is expected.
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
            passes_again: std::mem::take(&mut self.reported_swallowed),
        }
    }

    /// A message arrived, a marker or another, which moves the end of the backlog.
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

    /// Nothing more is known to be in transit: a moment of quiet ends the backlog.
    pub fn settle(&mut self, now: Duration) -> BacklogProgress {
        self.backlog = Backlog::Settling { until: now + QUIET, latest: now + SETTLE_PATIENCE };
        BacklogProgress::WaitUntil(now + QUIET)
    }

    /// Checks whether the backlog is complete, or given up.
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

    /// A marker that does not come back although the broker has nothing else to deliver was
    /// dropped. In a home that is never quiet it may only be late. Returns whether to report that.
    fn note_missing_marker(&mut self, now: Duration) -> bool {
        let Backlog::Draining { second: true, latest, .. } = self.backlog else { return false };
        if now >= latest {
            return false;
        }
        self.swallowed = true;
        !std::mem::replace(&mut self.reported_swallowed, true)
    }
}

#[cfg(test)]
mod tests;
