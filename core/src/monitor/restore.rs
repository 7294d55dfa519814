//! Conducts restores: recorded states are published again, and never over something newer (see
//! [`crate::machines::restores`] and [`crate::machines::echoes`]).

use crate::machines::echoes::Round;
use crate::machines::orders;
use crate::machines::restores::{ChunkRead, Finished, Report, RestorePlace, Step};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::message::{Connection, Lifetime, Message, Protocol, Publication, QoS, Token};
use crate::model::state::{ReadId, StateRecord};
use crate::model::words::counted;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use crate::topic::TopicName;
use bytes::Bytes;
use std::collections::BTreeSet;

/// The last level of the marker's topic behind a round of restored states.
pub(super) const ECHO_MARKER: &str = "echo";

impl Monitor {
    /// A hello, or a person, requests a restore of a device's states.
    pub(super) fn request_restore(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.request_rest(turn, id, BTreeSet::new());
    }

    /// The same without what another node has restored, by the digests of the topics.
    pub(super) fn request_rest(&mut self, turn: &mut Turn<'_>, id: DeviceId, given: BTreeSet<u64>) {
        if self.records_states(id) && self.may_restore(id) {
            self.restores.request_rest(id, given);
            self.start_restores(turn);
        }
    }

    /// The state connection has received its backlog: restores that wait for that may continue.
    pub(super) fn backlog_taken_in(&mut self, turn: &mut Turn<'_>) {
        if self.takedown.holds_restores() || self.catch_up.is_missing() {
            return;
        }
        if !self.restores.has_begun_start() {
            self.restores.begin_start(self.wanted_at_start());
        }
        for place in self.restores.idle() {
            self.read_chunk(turn, place);
        }
        self.start_restores(turn);
    }

    /// Devices to restore at the start. Shards are restored when they come to a node.
    fn wanted_at_start(&self) -> Vec<DeviceId> {
        let is_alone = self.sharing.is_none();
        let wanted = self.devices.ids().filter(|&id| {
            (is_alone || self.devices[id].rare.agent().is_some()) && self.is_restored_at_start(id)
        });
        wanted.collect()
    }

    /// Whether the states of a device are restored after nobody has watched it for a while.
    pub(super) fn is_restored_at_start(&self, id: DeviceId) -> bool {
        let device = &self.devices[id];
        let is_wanted =
            device.spec.restore_on_start && device.is_enabled() && device.spec.records_states;
        is_wanted && self.may_restore(id)
    }

    /// A device was taken out; another restore may begin in place of its own.
    pub(super) fn drop_restore(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.restores.drop_device(id);
        self.start_restores(turn);
    }

    pub(super) fn start_restores(&mut self, turn: &mut Turn<'_>) {
        while self.session.is_taken_in()
            && !self.takedown.holds_restores()
            && !self.catch_up.is_missing()
            && let Some(place) = self.restores.begin_next()
        {
            self.read_chunk(turn, place);
        }
    }

    fn read_chunk(&mut self, turn: &mut Turn<'_>, place: RestorePlace) {
        self.next_read += 1;
        let read = ReadId::Restore(self.next_read);
        let (device, after) = self.restores.read(place, read);
        let filters = self.state_filters(device);
        turn.out.push(Action::ReadStates { read, filters, after });
    }

    pub(super) fn states_read(
        &mut self,
        turn: &mut Turn<'_>,
        read: ReadId,
        states: Vec<StateRecord>,
        next: Option<TopicName>,
    ) {
        let (place, newer) = match self.restores.chunk_read(read, next) {
            ChunkRead::Publish(place, newer) => (place, newer),
            ChunkRead::ReadAgain(place) => return self.read_chunk(turn, place),
            ChunkRead::Unwanted => return,
        };
        let mut is_published = false;
        for state in states {
            if newer.contains(&state.topic)
                || self.echoes.holds_newer(&state.topic)
                || self.restores.is_given_back(place, &state.topic)
                || orders::is_no_state(&state.topic, &state.payload)
            {
                continue;
            }
            let token = match state.qos {
                QoS::AtLeastOnce => {
                    let token = self.new_token();
                    self.restores.publishes(place, token);
                    Some(token)
                }
                QoS::AtMostOnce => {
                    self.restores.publishes_unkept(place);
                    None
                }
            };
            self.publish_restored(turn, state, token);
            is_published = true;
        }
        if is_published {
            // States at QoS 0 have no acknowledgement; that of a publication behind them shows that
            // they have been sent, so the next chunk does not pile up behind them.
            let token = self.restores.has_unkept(place).then(|| self.new_token());
            if let Some(token) = token {
                self.restores.awaits(place, token);
            }
            self.end_round(turn, token);
        }
        let step = self.restores.progress(place);
        self.take_step(turn, step);
    }

    /// Publishes one state that no restore waits for.
    pub(super) fn publish_alone(&mut self, turn: &mut Turn<'_>, state: StateRecord) {
        self.publish_restored(turn, state, None);
        self.end_round(turn, None);
    }

    /// Publishes a restored state, which [`Self::end_round`] has to follow.
    fn publish_restored(&mut self, turn: &mut Turn<'_>, state: StateRecord, token: Option<Token>) {
        let round = self.next_round();
        let is_marked = self.session.protocol() == Some(Protocol::V5);
        self.echoes.expect(round, &state, is_marked);
        let shows_marks = self.watch.protocol() == Some(Protocol::V5);
        if self.watch.is_up() && !(is_marked && shows_marks) && self.is_heard(&state.topic) {
            self.heard_echoes.expect(round, &state, is_marked);
        }
        turn.out.push(Action::Publish(Publication {
            connection: Connection::State,
            topic: state.topic,
            payload: state.payload,
            qos: QoS::AtLeastOnce.min(state.qos),
            retain: state.retain,
            restored: true,
            lifetime: Lifetime::Connection,
            token,
        }));
    }

    /// The round that the next publication belongs to.
    fn next_round(&self) -> Round {
        Round(self.last_round.0 + 1)
    }

    /// Publishes the marker behind a round of restored states, whose return shows that no copy of
    /// them can arrive any more.
    pub(super) fn end_round(&mut self, turn: &mut Turn<'_>, token: Option<Token>) {
        self.last_round = self.next_round();
        let due = self.echoes.close(turn.now.mono, self.last_round);
        self.timers.push(due, Timer::Echoes);
        if !self.heard_echoes.is_empty() {
            self.heard_echoes.close(turn.now.mono, self.last_round);
        }
        turn.out.push(Action::Publish(Publication {
            connection: Connection::State,
            topic: self.own_topic(&format!("marker/{}/{ECHO_MARKER}", self.connection_id)),
            payload: Bytes::from(format!("{}/{}", self.session.marker(), self.last_round.0)),
            qos: QoS::AtLeastOnce,
            retain: false,
            restored: false,
            lifetime: Lifetime::Connection,
            token,
        }));
    }

    /// A marker came back that was published behind this round. The broker's messages for the other
    /// connection are in transit, ahead of the answer to what is published there now.
    pub(super) fn round_returned(&mut self, turn: &mut Turn<'_>, round: Round) {
        self.echoes.round_over(round);
        if self.heard_echoes.is_empty() {
            return;
        }
        let token = self.new_token();
        let before = self.heard_until.map_or(round, |(_, before)| before);
        self.heard_until = Some((token, round.max(before)));
        let below = format!("marker/{}/{ECHO_MARKER}", self.connection_id);
        let (payload, qos) = (Bytes::new(), QoS::AtLeastOnce);
        turn.out.push(self.own_publication(&below, payload, qos, false, Some(token)));
    }

    /// The watch connection has delivered everything ahead of this acknowledgement.
    fn heard_through(&mut self, token: Token) -> bool {
        let round = self.heard_until.take_if(|(until, _)| *until == token);
        if let Some((_, round)) = round {
            self.heard_echoes.round_over(round);
        }
        round.is_some()
    }

    pub(super) fn restored_published(&mut self, turn: &mut Turn<'_>, token: Token) {
        if !self.heard_through(token) {
            let step = self.restores.acknowledged(token);
            self.take_step(turn, step);
        }
    }

    /// The broker refused a state, or the publication behind those at QoS 0.
    pub(super) fn restored_refused(
        &mut self,
        turn: &mut Turn<'_>,
        token: Option<Token>,
        topic: &TopicName,
    ) {
        let Some(token) = token else { return self.unkept_refused(topic) };
        if self.heard_through(token) {
            return;
        }
        let step = self.restores.refused(token, !topic.is_below(&self.base_topic));
        self.take_step(turn, step);
    }

    /// A state at QoS 0 was refused before it was sent.
    fn unkept_refused(&mut self, topic: &TopicName) {
        if self.echoes.awaits_any_on(topic) {
            let mut restores = std::mem::take(&mut self.restores);
            restores.unkept_refused(|device| {
                self.state_filters(device).iter().any(|filter| filter.matches(topic))
            });
            self.restores = restores;
        }
    }

    /// No copy of the publications on this topic will arrive.
    pub(super) fn forget_echoes_of(&mut self, topic: &TopicName) {
        self.echoes.forget_topic(topic);
        self.heard_echoes.forget_topic(topic);
    }

    fn take_step(&mut self, turn: &mut Turn<'_>, step: Step) {
        match step {
            Step::Wait => {}
            Step::Read(place) => {
                if self.session.is_taken_in() {
                    self.read_chunk(turn, place);
                }
            }
            Step::Finished(finished) => {
                self.restore_finished(turn, &finished);
                self.start_restores(turn);
            }
        }
    }

    fn restore_finished(&mut self, turn: &mut Turn<'_>, finished: &Finished) {
        match self.restores.report(finished, self.session.is_swallowed()) {
            Report::Nothing => {}
            Report::Start { states, devices } => {
                let (states, devices) = (counted(states, "state"), counted(devices, "device"));
                let message = format!("restored {states} of {devices} at the start");
                turn.raise(AlertKind::Restored, message);
            }
            Report::Device(states) => {
                let name = &self.devices[finished.device].spec.name;
                let message = format!("restored {} of `{name}`", counted(states, "state"));
                turn.out.push(self.device_alert(finished.device, AlertKind::Restored, message));
            }
        }
    }

    /// A restored state came back from the broker: a message that arrived on its topic in between
    /// has been overwritten on the wire, and is published once more.
    pub(super) fn echo_arrived(&mut self, turn: &mut Turn<'_>, echo: &Message) {
        if let Some(newer) = self.echoes.arrived(echo) {
            self.publish_alone(turn, newer);
        }
    }

    /// Whether a message on the watch connection is the copy of a restored state, where it carries
    /// no mark; each copy is recognized once.
    pub(super) fn swallow_echo(&mut self, message: &Message) -> bool {
        let shows_marks = self.watch.protocol() == Some(Protocol::V5);
        let is_echo = self.heard_echoes.awaits(message, shows_marks);
        if is_echo {
            self.heard_echoes.arrived(message);
        }
        is_echo
    }

    /// Notes a live state, which is newer than anything read or published before.
    pub(super) fn newer_arrived(&mut self, record: &StateRecord) {
        self.restores.pass_over(&record.topic);
        if !self.echoes.is_empty() {
            self.echoes.newer_arrived(record);
        }
    }

    /// Gives up echoes that are overdue: the broker returns no markers.
    pub(super) fn echoes_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        for next in [self.echoes.look(now), self.heard_echoes.look(now)].into_iter().flatten() {
            self.timers.push(next, Timer::Echoes);
        }
    }

    /// Keeps the expectations of topics that the new configuration records and watches.
    pub(super) fn echoes_reconfigured(&mut self) {
        let mut echoes = std::mem::take(&mut self.echoes);
        echoes.keep(|topic| self.is_recorded(topic));
        self.echoes = echoes;
        let mut heard = std::mem::take(&mut self.heard_echoes);
        heard.keep(|topic| self.is_heard(topic));
        self.heard_echoes = heard;
    }
}
