//! The state connection: what arrives on it is recorded, and nothing is restored over it before
//! its backlog has been taken in.
//!
//! MQTT has no signal for the end of a backlog. So a first marker is published, then the filters
//! are subscribed, then a second marker is published; when both came back and it was quiet for a
//! moment, everything that the broker held has been seen. Without a session at the broker there is
//! no subscription that could bring the first marker back, and no backlog before it.

use super::liveness::refusal_sentence;
use crate::machines::orders;
use crate::machines::subscriptions::{Plan, filters_beyond, find};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::message::{
    Connection, Delivery, FilterRefusal, Lifetime, LossReason, Message, Protocol, Publication, QoS,
};
use crate::model::state::{StateChange, StateRecord};
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer, loss_kind};
use crate::topic::TopicFilter;
use bytes::Bytes;
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

/// The state connection's condition.
#[derive(Debug, Default)]
pub struct StateSession {
    pub protocol: Option<Protocol>,
    backlog: Backlog,
    /// The second marker of this connection has not come back, although it was quiet.
    swallowed: bool,
    /// This was told.
    told_swallowed: bool,
    /// Text of this connection's markers, so that those of an earlier one are told apart.
    marker: String,
    connections: u64,
    /// What the kept session may be subscribed to beyond what the configuration asks for.
    stale: BTreeSet<TopicFilter>,
    /// The store knows all that the configuration asks for, and all that is stale.
    stored: bool,
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

    /// Whether the broker is known to drop what this connection publishes, and to acknowledge it:
    /// in MQTT 3.1.1 there is no other way to refuse a publication.
    pub fn is_swallowed(&self) -> bool {
        self.swallowed && self.protocol == Some(Protocol::V311)
    }
}

impl Monitor {
    pub(super) fn session_connected(
        &mut self,
        turn: &mut Turn<'_>,
        protocol: Protocol,
        session_present: bool,
    ) {
        let session = &mut self.session;
        session.protocol = Some(protocol);
        session.loss = None;
        session.swallowed = false;
        session.connections += 1;
        session.marker = format!("{}-{}", turn.now.wall.as_nanos(), session.connections);
        let told_lost = std::mem::take(&mut session.told_lost);
        if told_lost {
            let message = "the state connection is back: states are recorded and restored again";
            turn.raise(AlertKind::BrokerBack, message.to_owned());
        }
        if !session_present {
            self.restores.forget_echoes();
        }
        if session_present {
            turn.out.push(self.marker_publication(1));
        } else if !self.session.stale.is_empty() {
            self.session.stale.clear();
            self.session.stored = false;
        }
        let plan = self.state_plan();
        self.save_session_filters(turn, &plan);
        turn.out.push(Action::Subscribe { connection: Connection::State, subscriptions: plan });
        self.session.leaving = self.session.stale.clone();
        self.unsubscribe_stale_filters(turn);
        turn.out.push(self.marker_publication(2));
        let until = turn.now.mono + MARKER_PATIENCE;
        let latest = turn.now.mono + BACKLOG_PATIENCE;
        self.session.backlog =
            Backlog::Draining { first: session_present, second: true, until, latest };
        self.timers.push(until, Timer::Session);
    }

    /// Has the store know every filter before the broker does. What left the configuration stays
    /// known until the broker has certainly dropped it.
    fn save_session_filters(&mut self, turn: &mut Turn<'_>, plan: &Plan) {
        if !self.session.stored {
            self.session.stored = true;
            turn.out.push(self.saving_of(plan));
        }
    }

    fn saving_of(&self, plan: &Plan) -> Action {
        let planned = plan.iter().map(|subscription| &subscription.filter);
        Action::SaveSessionFilters(planned.chain(&self.session.stale).cloned().collect())
    }

    /// For a store that has lost them.
    pub(super) fn session_filters_again(&self) -> Action {
        self.saving_of(&self.state_plan())
    }

    /// Unsubscribes what the kept session has beyond the configuration. It goes out behind the
    /// subscriptions, so that no topic is without one between.
    fn unsubscribe_stale_filters(&self, turn: &mut Turn<'_>) {
        let filters: Vec<TopicFilter> = self.session.stale.iter().cloned().collect();
        if !filters.is_empty() {
            turn.out.push(Action::Unsubscribe { connection: Connection::State, filters });
        }
    }

    /// The second marker came back, and what was asked of the broker before it is done.
    fn forget_left_filters(&mut self, turn: &mut Turn<'_>) {
        let leaving = std::mem::take(&mut self.session.leaving);
        let before = self.session.stale.len();
        self.session.stale.retain(|filter| !leaving.contains(filter));
        if self.session.stale.len() != before {
            turn.out.push(self.saving_of(&self.state_plan()));
        }
    }

    fn marker_publication(&self, number: u8) -> Action {
        Action::Publish(Publication {
            connection: Connection::State,
            topic: self.own_topic(&format!("marker/{}/{number}", self.client_id)),
            payload: Bytes::from(self.session.marker.clone()),
            qos: QoS::AtLeastOnce,
            retain: false,
            restored: false,
            lifetime: Lifetime::Connection,
            token: None,
        })
    }

    pub(super) fn session_subscribed(&mut self, turn: &mut Turn<'_>, refused: &[FilterRefusal]) {
        let before = std::mem::take(&mut self.session.refused);
        for refusal in refused {
            if !before.contains(&refusal.filter) {
                turn.raise(AlertKind::FilterRefused, refusal_sentence(refusal));
            }
            self.session.refused.insert(refusal.filter.clone());
        }
        let marker = self.own_topic(&format!("marker/{}/2", self.client_id));
        let draining = matches!(self.session.backlog, Backlog::Draining { .. });
        if draining && self.session.refused.iter().any(|filter| filter.matches(&marker)) {
            // No marker can come back.
            self.settle_backlog(turn);
        }
    }

    pub(super) fn session_disconnected(&mut self, turn: &mut Turn<'_>, reason: LossReason) {
        self.session.protocol = None;
        self.session.backlog = Backlog::Away;
        self.restores.interrupt();
        let due = turn.now.mono + LOSS_PATIENCE;
        self.session.loss = Some((due, reason));
        self.timers.push(due, Timer::SessionLoss);
    }

    /// Tells of a state connection that stays away although the watch connection stands. When both
    /// are down, the watch connection's alert says it all.
    pub(super) fn session_loss_due(&mut self, turn: &mut Turn<'_>, due: Duration) {
        let Some((when, reason)) = &self.session.loss else { return };
        if *when != due {
            return;
        }
        if !self.watch.is_up() {
            let (next, reason) = (turn.now.mono + LOSS_PATIENCE, reason.clone());
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
            LossReason::Refused(_) | LossReason::Silent { .. } | LossReason::Other(_) => {
                format!("states are neither recorded nor restored: {}", self.loss_sentence(reason))
            }
        };
        turn.raise(loss_kind(reason), message);
        self.session.loss = None;
        self.session.told_lost = true;
    }

    pub(super) fn state_message(
        &mut self,
        turn: &mut Turn<'_>,
        delivery: Delivery,
        message: Message,
    ) {
        self.note_backlog(turn, &message);
        let change = self.state_change(turn, message);
        turn.out.push(Action::Record { delivery, change });
    }

    fn state_change(&mut self, turn: &mut Turn<'_>, message: Message) -> StateChange {
        if self.is_own(&message.topic) {
            return StateChange::Nothing;
        }
        let tells_restored = self.session.protocol == Some(Protocol::V5);
        if message.restored || (!tells_restored && self.restores.awaits_echo(&message)) {
            self.echo_arrived(turn, &message);
            return StateChange::Nothing;
        }
        if !self.is_recorded(&message.topic) {
            return StateChange::Nothing;
        }
        let forget = tells_restored && message.retain && message.payload.is_empty();
        if !forget && orders::is_no_state(&message.topic, &message.payload) {
            return StateChange::Nothing;
        }
        let replay = message.retain && !self.session.is_taken_in();
        self.takedown.state_arrived(&message.topic, replay);
        let record = StateRecord {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            time: turn.now.wall,
        };
        self.restores.newer_arrived(&record);
        if forget { StateChange::Forget(record.topic) } else { StateChange::Put(record) }
    }

    /// Moves the backlog's end on with each message, and recognises the markers.
    fn note_backlog(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let mut marker = None;
        if message.topic.is_below(&self.base_topic) {
            if message.payload != self.session.marker.as_bytes() {
                return;
            }
            marker = message.topic.as_str().chars().last();
        }
        if marker == Some('2') {
            self.forget_left_filters(turn);
            self.marker_returned(turn);
        }
        match &mut self.session.backlog {
            Backlog::Away | Backlog::TakenIn => return,
            Backlog::Settling { until, latest } => *until = (turn.now.mono + QUIET).min(*latest),
            Backlog::Draining { first, second, until, latest } => {
                *until = (turn.now.mono + MARKER_PATIENCE).min(*latest);
                match marker {
                    Some('1') => *first = false,
                    Some('2') => *second = false,
                    Some(_) | None => {}
                }
                if !*first && !*second {
                    self.settle_backlog(turn);
                }
            }
        }
        self.session_due(turn, Duration::ZERO);
    }

    /// Nothing more is known to be on its way: a moment of quiet ends the backlog.
    fn settle_backlog(&mut self, turn: &mut Turn<'_>) {
        let until = turn.now.mono + QUIET;
        self.session.backlog = Backlog::Settling { until, latest: turn.now.mono + SETTLE_PATIENCE };
        self.timers.push(until, Timer::Session);
    }

    /// Looks whether the backlog is in, or given up.
    pub(super) fn session_due(&mut self, turn: &mut Turn<'_>, due: Duration) {
        let until = match self.session.backlog {
            Backlog::Away | Backlog::TakenIn => return,
            Backlog::Draining { until, .. } | Backlog::Settling { until, .. } => until,
        };
        if turn.now.mono >= until {
            self.tell_missing_marker(turn);
            self.restores.forget_echoes();
            self.session.backlog = Backlog::TakenIn;
            let orders = self.takedown.session_stands(turn.now.mono);
            self.take_down(turn, orders);
            self.backlog_taken_in(turn);
        } else if due > Duration::ZERO {
            self.timers.push(until, Timer::Session);
        }
    }

    /// A marker that does not come back although the broker has nothing else to pass on was dropped.
    /// In a house that is never quiet it may only be late.
    fn tell_missing_marker(&mut self, turn: &mut Turn<'_>) {
        let Backlog::Draining { second: true, latest, .. } = self.session.backlog else { return };
        if turn.now.mono >= latest {
            return;
        }
        self.session.swallowed = true;
        if !std::mem::replace(&mut self.session.told_swallowed, true) {
            let marker = self.own_topic(&format!("marker/{}/2", self.client_id));
            let message = format!(
                "the broker does not pass on what is published below `{}`, such as `{marker}`: let \
                 its access control list allow the user of [mqtt] to publish and to subscribe there",
                self.base_topic
            );
            turn.raise(AlertKind::PublishRefused, message);
        }
    }

    fn marker_returned(&mut self, turn: &mut Turn<'_>) {
        self.session.swallowed = false;
        if std::mem::take(&mut self.session.told_swallowed) {
            let message =
                format!("the broker passes on what is published below `{}` again", self.base_topic);
            turn.raise(AlertKind::PublishAccepted, message);
        }
    }

    /// Brings the subscriptions of the session in line with a new configuration; `had` is what the
    /// one before asked for.
    pub(super) fn resubscribe_states(&mut self, turn: &mut Turn<'_>, had: &Plan) {
        let plan = self.state_plan();
        let new: Plan = plan.iter().filter(|s| find(had, &s.filter).is_none()).cloned().collect();
        let session = &mut self.session;
        session.stored &= new.iter().all(|wanted| session.stale.contains(&wanted.filter));
        session.stale.extend(filters_beyond(had, &plan).cloned());
        session.stale.retain(|filter| find(&plan, filter).is_none());
        if session.protocol.is_none() || plan == *had {
            return;
        }
        self.save_session_filters(turn, &plan);
        if !new.is_empty() {
            turn.out.push(Action::Subscribe { connection: Connection::State, subscriptions: new });
        }
        self.unsubscribe_stale_filters(turn);
    }

    /// Takes in which filters the kept session may have.
    pub(super) fn session_filters_known(&mut self, filters: Vec<TopicFilter>) {
        let plan = self.state_plan();
        let (planned, stale): (BTreeSet<_>, BTreeSet<_>) =
            filters.into_iter().partition(|filter| find(&plan, filter).is_some());
        self.session.stored |= planned.len() == plan.len();
        self.session.stale.extend(stale);
    }

    pub(super) fn records_states(&self, id: DeviceId) -> bool {
        self.devices[id].spec.records_states
    }
}
