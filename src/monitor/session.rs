//! The state connection: what arrives on it is recorded, and nothing is restored over it before
//! its backlog has been taken in.
//!
//! MQTT has no signal for the end of a backlog. So a first marker is published, then the filters
//! are subscribed, then a second marker is published; when both came back and it was quiet for a
//! moment, everything that the broker held has been seen. Without a session at the broker there is
//! no subscription that could bring the first marker back, and no backlog before it.

use super::action::{Publication, StateChange};
use super::alert::AlertKind;
use super::device::DeviceId;
use super::event::{
    Connection, Delivery, LossReason, Message, Now, Protocol, QoS, Refusal, StateRecord,
};
use super::liveness::refusal_sentence;
use super::{Action, Monitor, Timer, loss_kind, raise, subscriptions};
use crate::topic::TopicFilter;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
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

/// The state connection's condition.
#[derive(Debug, Default)]
pub struct StateSession {
    pub protocol: Option<Protocol>,
    backlog: Backlog,
    /// Text of this connection's markers, so that those of an earlier one are told apart.
    marker: String,
    connections: u64,
    /// What the broker was asked for.
    subscribed: BTreeMap<TopicFilter, QoS>,
    /// What the kept session may be subscribed to, as the store knows it.
    kept_filters: BTreeSet<TopicFilter>,
    /// Unsubscribed before the second marker, so that its return proves them gone.
    leaving: BTreeSet<TopicFilter>,
    refused: BTreeSet<TopicFilter>,
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

impl StateSession {
    pub fn is_taken_in(&self) -> bool {
        self.backlog == Backlog::TakenIn
    }
}

impl Monitor {
    pub(super) fn session_connected(
        &mut self,
        now: Now,
        protocol: Protocol,
        session_present: bool,
        out: &mut Vec<Action>,
    ) {
        let session = &mut self.session;
        session.protocol = Some(protocol);
        session.loss = None;
        session.connections += 1;
        session.marker = format!("{}-{}", now.wall.as_nanos(), session.connections);
        let told_lost = std::mem::take(&mut session.told_lost);
        if told_lost {
            let message = "the state connection is back: states are recorded and restored again";
            out.push(raise(AlertKind::BrokerBack, message.to_owned()));
        }
        if session_present {
            out.push(self.marker_publication(1));
        } else {
            self.session.subscribed.clear();
        }
        self.session.subscribed = self.planned_state_filters();
        if !session_present {
            self.session.kept_filters.clear();
        }
        self.save_session_filters(out);
        let subscriptions = subscriptions::to_subscriptions(&self.session.subscribed);
        out.push(Action::Subscribe { connection: Connection::State, subscriptions });
        self.session.leaving = self.unsubscribe_stale_filters(out);
        out.push(self.marker_publication(2));
        let until = now.mono + MARKER_PATIENCE;
        let latest = now.mono + BACKLOG_PATIENCE;
        self.session.backlog =
            Backlog::Draining { first: session_present, second: true, until, latest };
        self.timers.push(until, Timer::Session);
    }

    /// Has the store know every filter before the broker does. What left the configuration stays
    /// known until the broker has certainly dropped it.
    fn save_session_filters(&mut self, out: &mut Vec<Action>) {
        let StateSession { kept_filters, subscribed, .. } = &mut self.session;
        if subscribed.keys().all(|filter| kept_filters.contains(filter)) {
            return;
        }
        kept_filters.extend(subscribed.keys().cloned());
        out.push(Action::SaveSessionFilters(kept_filters.iter().cloned().collect()));
    }

    /// For a store that has lost them.
    pub(super) fn session_filters_again(&self) -> Action {
        Action::SaveSessionFilters(self.session.kept_filters.iter().cloned().collect())
    }

    /// Unsubscribes what the kept session has beyond the configuration. It goes out behind the
    /// subscriptions, so that no topic is without one between.
    fn unsubscribe_stale_filters(&mut self, out: &mut Vec<Action>) -> BTreeSet<TopicFilter> {
        let StateSession { kept_filters, subscribed, .. } = &self.session;
        let stale = kept_filters.iter().filter(|filter| !subscribed.contains_key(*filter));
        let stale: BTreeSet<TopicFilter> = stale.cloned().collect();
        if !stale.is_empty() {
            let filters = stale.iter().cloned().collect();
            out.push(Action::Unsubscribe { connection: Connection::State, filters });
        }
        stale
    }

    /// The second marker came back, and what was asked of the broker before it is done.
    fn forget_left_filters(&mut self, out: &mut Vec<Action>) {
        let StateSession { kept_filters, subscribed, leaving, .. } = &mut self.session;
        let before = kept_filters.len();
        for filter in std::mem::take(leaving) {
            if !subscribed.contains_key(&filter) {
                kept_filters.remove(&filter);
            }
        }
        if kept_filters.len() != before {
            out.push(Action::SaveSessionFilters(kept_filters.iter().cloned().collect()));
        }
    }

    fn planned_state_filters(&self) -> BTreeMap<TopicFilter, QoS> {
        let states = self.devices.iter().flat_map(|device| device.spec.state.iter());
        let markers =
            TopicFilter::new(format!("{}/marker/{}/+", self.base_topic, self.client_id)).ok();
        subscriptions::plan(states.chain(&markers).map(|filter| (filter, QoS::AtLeastOnce)))
    }

    fn marker_publication(&self, number: u8) -> Action {
        Action::Publish(Publication {
            connection: Connection::State,
            topic: self.own_topic(&format!("marker/{}/{number}", self.client_id)),
            payload: Bytes::from(self.session.marker.clone()),
            qos: QoS::AtLeastOnce,
            retain: false,
            restored: false,
            token: None,
        })
    }

    pub(super) fn session_subscribed(
        &mut self,
        now: Now,
        refused: &[Refusal],
        out: &mut Vec<Action>,
    ) {
        let before = std::mem::take(&mut self.session.refused);
        for refusal in refused {
            if !before.contains(&refusal.filter) {
                out.push(raise(AlertKind::FilterRefused, refusal_sentence(refusal)));
            }
            self.session.refused.insert(refusal.filter.clone());
        }
        let marker = self.own_topic(&format!("marker/{}/2", self.client_id));
        let draining = matches!(self.session.backlog, Backlog::Draining { .. });
        if draining && self.session.refused.iter().any(|filter| filter.matches(&marker)) {
            // No marker can come back.
            self.settle_backlog(now);
        }
    }

    pub(super) fn session_disconnected(&mut self, now: Now, reason: LossReason) {
        self.session.protocol = None;
        self.session.backlog = Backlog::Away;
        self.restores.interrupt();
        let due = now.mono + LOSS_PATIENCE;
        self.session.loss = Some((due, reason));
        self.timers.push(due, Timer::SessionLoss);
    }

    /// Tells of a state connection that stays away although the watch connection stands. When both
    /// are down, the watch connection's alert says it all.
    pub(super) fn session_loss_due(&mut self, now: Now, due: Duration, out: &mut Vec<Action>) {
        let Some((when, reason)) = &self.session.loss else { return };
        if *when != due {
            return;
        }
        if !self.watch.is_up() {
            let (next, reason) = (now.mono + LOSS_PATIENCE, reason.clone());
            self.session.loss = Some((next, reason));
            self.timers.push(next, Timer::SessionLoss);
            return;
        }
        let message = match reason {
            LossReason::TakenOver => format!(
                "another program connects with the clientid `{}-states`: give one of the two \
                 another `clientid` in [mqtt]",
                self.client_id
            ),
            LossReason::Refused(_) | LossReason::Silent(_) | LossReason::Other(_) => {
                format!("states are neither recorded nor restored: {}", self.loss_sentence(reason))
            }
        };
        out.push(raise(loss_kind(reason), message));
        self.session.loss = None;
        self.session.told_lost = true;
    }

    pub(super) fn state_message(
        &mut self,
        now: Now,
        delivery: Delivery,
        message: Message,
        out: &mut Vec<Action>,
    ) {
        self.note_backlog(now, &message, out);
        let change = self.state_change(now, message, out);
        out.push(Action::Record { delivery, change });
    }

    fn state_change(&mut self, now: Now, message: Message, out: &mut Vec<Action>) -> StateChange {
        if message.topic.is_below(&self.base_topic) {
            return StateChange::Nothing;
        }
        let tells_restored = self.session.protocol == Some(Protocol::V5);
        if message.restored || (!tells_restored && self.restores.awaits_echo(&message)) {
            self.echo_arrived(now, &message, out);
            return StateChange::Nothing;
        }
        if !self.state_index.matches(&message.topic) {
            return StateChange::Nothing;
        }
        let forget = tells_restored && message.retain && message.payload.is_empty();
        let record = StateRecord {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            time: now.wall,
        };
        self.restores.newer_arrived(&record);
        if forget { StateChange::Forget(record.topic) } else { StateChange::Put(record) }
    }

    /// Moves the backlog's end on with each message, and recognises the markers.
    fn note_backlog(&mut self, now: Now, message: &Message, out: &mut Vec<Action>) {
        let mut marker = None;
        if message.topic.is_below(&self.base_topic) {
            if message.payload != self.session.marker.as_bytes() {
                return;
            }
            marker = message.topic.as_str().chars().last();
        }
        if marker == Some('2') {
            self.forget_left_filters(out);
        }
        match &mut self.session.backlog {
            Backlog::Away | Backlog::TakenIn => return,
            Backlog::Settling { until, latest } => *until = (now.mono + QUIET).min(*latest),
            Backlog::Draining { first, second, until, latest } => {
                *until = (now.mono + MARKER_PATIENCE).min(*latest);
                match marker {
                    Some('1') => *first = false,
                    Some('2') => *second = false,
                    Some(_) | None => {}
                }
                if !*first && !*second {
                    self.settle_backlog(now);
                }
            }
        }
        self.session_due(now, Duration::ZERO, out);
    }

    /// Nothing more is known to be on its way: a moment of quiet ends the backlog.
    fn settle_backlog(&mut self, now: Now) {
        let until = now.mono + QUIET;
        self.session.backlog = Backlog::Settling { until, latest: now.mono + SETTLE_PATIENCE };
        self.timers.push(until, Timer::Session);
    }

    /// Looks whether the backlog is in, or given up.
    pub(super) fn session_due(&mut self, now: Now, due: Duration, out: &mut Vec<Action>) {
        let until = match self.session.backlog {
            Backlog::Away | Backlog::TakenIn => return,
            Backlog::Draining { until, .. } | Backlog::Settling { until, .. } => until,
        };
        if now.mono >= until {
            self.session.backlog = Backlog::TakenIn;
            self.backlog_taken_in(out);
        } else if due > Duration::ZERO {
            self.timers.push(until, Timer::Session);
        }
    }

    /// Brings the subscriptions of the session in line with a new configuration.
    pub(super) fn resubscribe_states(&mut self, out: &mut Vec<Action>) {
        if self.session.protocol.is_none() {
            return;
        }
        let planned = self.planned_state_filters();
        if planned == self.session.subscribed {
            return;
        }
        let had = std::mem::replace(&mut self.session.subscribed, planned);
        let wanted: BTreeMap<TopicFilter, QoS> = self
            .session
            .subscribed
            .iter()
            .filter(|(filter, _)| !had.contains_key(*filter))
            .map(|(filter, qos)| (filter.clone(), *qos))
            .collect();
        self.save_session_filters(out);
        if !wanted.is_empty() {
            let subscriptions = subscriptions::to_subscriptions(&wanted);
            out.push(Action::Subscribe { connection: Connection::State, subscriptions });
        }
        self.unsubscribe_stale_filters(out);
    }

    /// Takes in which filters the kept session may have.
    pub(super) fn session_filters_known(&mut self, filters: Vec<TopicFilter>) {
        self.session.kept_filters.extend(filters);
    }

    pub(super) fn records_states(&self, id: DeviceId) -> bool {
        !self.devices[id as usize].spec.state.is_empty()
    }
}
