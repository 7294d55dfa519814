//! Conducts the state connection: its messages are recorded, and nothing is restored over it before
//! its backlog has been received (see [`crate::machines::state_session`]).

use crate::machines::echoes::Round;
use crate::machines::nodes::Nodes;
use crate::machines::orders;
use crate::machines::state_session::{BacklogProgress, Loss, Marker};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::message::{
    Connection, Delivery, FilterRefusal, Lifetime, LossReason, Message, Protocol, Publication, QoS,
    Redelivery,
};
use crate::model::plan::Plan;
use crate::model::state::{StateChange, StateRecord};
use crate::monitor::restore::ECHO_MARKER;
use crate::monitor::sentences::{loss_kind, loss_sentence, refusal_sentence};
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use crate::topic::TopicFilter;
use bytes::Bytes;
use std::time::Duration;

/// A marker of the present connection that came back.
enum OwnMarker {
    /// Around the subscriptions.
    Backlog(Marker),
    /// Behind a round of restored states.
    Echo(Round),
}

impl Monitor {
    pub(super) fn session_connected(
        &mut self,
        turn: &mut Turn<'_>,
        protocol: Protocol,
        session_present: bool,
    ) {
        let connected = self.session.connected(turn.now, protocol, session_present);
        if connected.is_back {
            let message = "the state connection is back: states are recorded and restored again";
            turn.raise(AlertKind::BrokerBack, message.to_owned());
        }
        if protocol == Protocol::V311 && self.nodes.as_mut().is_some_and(Nodes::cannot_mark) {
            let message = "the broker speaks MQTT 3.1.1 only, in which restored states carry no \
                           mark: nodes of a cluster record states and restore none; use a broker \
                           with MQTT 5 and leave `protocol` out of [mqtt]";
            turn.raise(AlertKind::BrokerLimited, message.to_owned());
        }
        if session_present {
            turn.out.push(self.marker_publication(1));
        } else {
            self.echoes.forget();
            self.session_lost(turn, protocol);
        }
        self.earlier_round = self.last_round;
        let plan = self.state_plan();
        self.save_session_filters(turn, &plan);
        self.subscribe_states(turn, plan);
        self.timers.push(connected.wake, Timer::Session);
    }

    /// Subscribes, and publishes the marker behind that. Filters that left the configuration are
    /// unsubscribed after the subscriptions, so that no topic is without one in between.
    fn subscribe_states(&mut self, turn: &mut Turn<'_>, subscriptions: Plan) {
        turn.out.push(Action::Subscribe { connection: Connection::State, subscriptions });
        self.session.leave_stale();
        self.unsubscribe_stale_filters(turn);
        turn.out.push(self.marker_publication(2));
    }

    /// Subscribes again while the connection is established: the broker's retained messages arrive
    /// again, and restores wait for that.
    fn subscribe_states_again(&mut self, turn: &mut Turn<'_>, subscriptions: Plan) {
        let wake = self.session.subscribes_again(turn.now.mono);
        self.subscribe_states(turn, subscriptions);
        self.timers.push(wake, Timer::Session);
    }

    /// For a store that has lost its states: they are learned again from the broker's retained
    /// messages.
    pub(super) fn learn_states_again(&mut self, turn: &mut Turn<'_>) {
        if self.session.protocol().is_some() {
            let plan = self.state_plan();
            self.subscribe_states_again(turn, plan);
        }
    }

    /// Makes the store record every filter before the broker does. Filters that left the
    /// configuration stay recorded until the broker has certainly dropped them.
    fn save_session_filters(&mut self, turn: &mut Turn<'_>, plan: &Plan) {
        if let Some(filters) = self.session.filters_to_store(plan) {
            turn.out.push(Action::SaveSessionFilters(filters));
        }
    }

    /// Saves the filters again for a store that has lost them.
    pub(super) fn session_filters_again(&self) -> Action {
        Action::SaveSessionFilters(self.session.filters(&self.state_plan()))
    }

    /// Unsubscribes the filters of the kept session that are not in the configuration.
    fn unsubscribe_stale_filters(&self, turn: &mut Turn<'_>) {
        let filters = self.session.stale();
        if !filters.is_empty() {
            turn.out.push(Action::Unsubscribe { connection: Connection::State, filters });
        }
    }

    fn marker_publication(&self, number: u8) -> Action {
        let (marker, subscription) = (self.session.marker(), self.session.subscription());
        Action::Publish(Publication {
            connection: Connection::State,
            topic: self.own_topic(&format!("marker/{}/{number}", self.connection_id)),
            payload: Bytes::from(format!("{marker}/{subscription}")),
            qos: QoS::AtLeastOnce,
            retain: false,
            restored: false,
            lifetime: Lifetime::Connection,
            token: None,
        })
    }

    pub(super) fn session_subscribed(&mut self, turn: &mut Turn<'_>, refused: &[FilterRefusal]) {
        let marker = self.own_topic(&format!("marker/{}/2", self.connection_id));
        for refusal in self.session.subscribed(refused, |filter| filter.matches(&marker)) {
            turn.raise(AlertKind::FilterRefused, refusal_sentence(refusal));
        }
        if self.session.waits_in_vain()
            && let BacklogProgress::WaitUntil(until) = self.session.settle(turn.now.mono)
        {
            // No marker can come back.
            self.timers.push(until, Timer::Session);
        }
    }

    pub(super) fn session_disconnected(&mut self, turn: &mut Turn<'_>, reason: LossReason) {
        let due = self.session.disconnected(turn.now.mono, reason);
        self.restores.interrupt();
        self.echoes.interrupt();
        self.timers.push(due, Timer::SessionLoss);
    }

    /// Reports a state connection that stays away although the watch connection is established.
    /// When both are down, the watch connection's alert covers both.
    pub(super) fn session_loss_due(&mut self, turn: &mut Turn<'_>, due: Duration) {
        match self.session.loss_due(turn.now.mono, due, self.watch.is_up()) {
            Loss::Nothing => {}
            Loss::WaitUntil(next) => self.timers.push(next, Timer::SessionLoss),
            Loss::Report(reason) => {
                let message = self.session_loss_sentence(&reason);
                turn.raise(loss_kind(&reason), message);
            }
        }
    }

    fn session_loss_sentence(&self, reason: &LossReason) -> String {
        match reason {
            LossReason::TakenOver => format!(
                "another program connects with the clientid `{}-states`: give one of the two \
                 another `clientid` in [mqtt]",
                self.connection_id
            ),
            LossReason::Refused(_) | LossReason::Silent { .. } | LossReason::Other(_) => {
                format!(
                    "states are neither recorded nor restored: {}",
                    loss_sentence(&self.connection_id, reason)
                )
            }
        }
    }

    pub(super) fn state_message(
        &mut self,
        turn: &mut Turn<'_>,
        delivery: Delivery,
        message: Message,
        redelivery: Redelivery,
    ) {
        self.note_backlog(turn, &message);
        let change = match redelivery {
            // The store has it, or will have it, and perhaps something newer after it.
            Redelivery::Reported(_) => StateChange::Nothing,
            Redelivery::No | Redelivery::Unknown => {
                // A message that carries the property and was sent before is an echo that an
                // earlier process has not acknowledged.
                let sent_before = redelivery == Redelivery::Unknown && !message.restored;
                let is_replay = message.retain && self.session.is_replay(sent_before);
                self.state_change(turn, message, is_replay)
            }
        };
        turn.out.push(Action::Record { delivery, change });
    }

    fn state_change(
        &mut self,
        turn: &mut Turn<'_>,
        message: Message,
        is_replay: bool,
    ) -> StateChange {
        if self.is_own(&message.topic) {
            return StateChange::Nothing;
        }
        let shows_retain = self.session.protocol() == Some(Protocol::V5);
        let is_echo = if is_replay {
            // A restored state that the broker retains carries the property too.
            message.restored && self.echoes.awaits(&message, false)
        } else {
            message.restored
                || (!self.echoes.is_empty() && self.echoes.awaits(&message, shows_retain))
        };
        if is_echo {
            self.echo_arrived(turn, &message);
            return StateChange::Nothing;
        }
        if !self.is_states_topic(turn, &message, is_replay) {
            return StateChange::Nothing;
        }
        let forget = shows_retain && message.retain && message.payload.is_empty();
        if !forget && orders::is_no_state(&message.topic, &message.payload) {
            return StateChange::Nothing;
        }
        self.takedown.state_arrived(&message.topic, is_replay);
        let record = StateRecord {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            time: turn.now.wall,
        };
        if is_replay && !forget {
            self.restores.replay_arrived();
            return StateChange::Replay(record);
        }
        self.newer_arrived(&record);
        match (forget, shows_retain) {
            (true, _) => StateChange::Forget(record.topic),
            (false, true) => StateChange::Put(record),
            (false, false) => StateChange::PutUnflagged(record),
        }
    }

    /// Moves the end of the backlog with each message, and recognizes the markers.
    fn note_backlog(&mut self, turn: &mut Turn<'_>, message: &Message) {
        if message.topic.is_below(&self.base_topic) {
            match self.marker_of(message) {
                Some(OwnMarker::Backlog(Marker::First)) => {
                    self.session.marker_returned(Marker::First);
                }
                Some(OwnMarker::Backlog(Marker::Second)) => self.second_marker_returned(turn),
                Some(OwnMarker::Echo(round)) => return self.round_returned(turn, round),
                None => return,
            }
        }
        let before = self.session.is_draining();
        match self.session.message_arrived(turn.now.mono) {
            BacklogProgress::WaitUntil(until) if before && !self.session.is_draining() => {
                self.timers.push(until, Timer::Session);
            }
            // A timer is set already.
            BacklogProgress::Nothing | BacklogProgress::WaitUntil(_) => {}
            BacklogProgress::TakenIn { swallows } => self.backlog_ended(turn, swallows),
        }
    }

    /// Identifies a message below the base topic as one of this connection's markers.
    fn marker_of(&self, message: &Message) -> Option<OwnMarker> {
        let last = message.topic.as_str().rsplit_once('/')?.1;
        let behind = message.payload.strip_prefix(self.session.marker().as_bytes())?;
        let number: u64 = std::str::from_utf8(behind.strip_prefix(b"/")?).ok()?.parse().ok()?;
        match last {
            "1" => Some(OwnMarker::Backlog(Marker::First)),
            "2" if number == self.session.subscription() => {
                Some(OwnMarker::Backlog(Marker::Second))
            }
            ECHO_MARKER => Some(OwnMarker::Echo(Round(number))),
            _ => None,
        }
    }

    /// The broker has completed the requests before the marker, and its backlog for this session
    /// from earlier connections has arrived.
    fn second_marker_returned(&mut self, turn: &mut Turn<'_>) {
        let returned = self.session.marker_returned(Marker::Second);
        self.round_returned(turn, self.earlier_round);
        if returned.filters_left {
            turn.out.push(self.session_filters_again());
        }
        if returned.passes_again {
            let message =
                format!("the broker passes on what is published below `{}` again", self.base_topic);
            turn.raise(AlertKind::PublishAccepted, message);
        }
    }

    /// Checks whether the backlog is complete, or given up.
    pub(super) fn session_due(&mut self, turn: &mut Turn<'_>) {
        match self.session.look(turn.now.mono) {
            BacklogProgress::Nothing => {}
            BacklogProgress::WaitUntil(until) => self.timers.push(until, Timer::Session),
            BacklogProgress::TakenIn { swallows } => self.backlog_ended(turn, swallows),
        }
    }

    fn backlog_ended(&mut self, turn: &mut Turn<'_>, swallows: bool) {
        if swallows {
            let marker = self.own_topic(&format!("marker/{}/2", self.connection_id));
            let message = format!(
                "the broker does not pass on what is published below `{}`, such as `{marker}`: let \
                 its access control list allow the user of [mqtt] to publish and to subscribe there",
                self.base_topic
            );
            turn.raise(AlertKind::PublishRefused, message);
        }
        self.round_returned(turn, self.earlier_round);
        let orders = self.takedown.session_stands(turn.now.mono);
        self.take_down(turn, orders);
        self.backlog_taken_in(turn);
    }

    /// Updates the subscriptions of the session to a new configuration; `had` is the previous
    /// request.
    pub(super) fn resubscribe_states(&mut self, turn: &mut Turn<'_>, had: &Plan) {
        let plan = self.state_plan();
        let new = self.session.replan(had, &plan);
        if self.session.protocol().is_none() || plan == *had {
            return;
        }
        self.save_session_filters(turn, &plan);
        if new.is_empty() {
            self.unsubscribe_stale_filters(turn);
        } else {
            self.subscribe_states_again(turn, new);
        }
    }

    /// Records which filters the kept session may have.
    pub(super) fn session_filters_known(&mut self, filters: Vec<TopicFilter>) {
        let plan = self.state_plan();
        self.session.filters_known(filters, &plan);
    }
}
