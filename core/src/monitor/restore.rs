//! Conducts restores: recorded states are given back, and never over something newer (see
//! [`crate::machines::restores`] and [`crate::machines::echoes`]).

use crate::machines::orders;
use crate::machines::restores::{Finished, Place, Report, Step};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::message::{Connection, Lifetime, Message, Publication, QoS, Token};
use crate::model::state::{ReadId, StateRecord};
use crate::model::words::counted;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use crate::topic::TopicName;
use bytes::Bytes;

impl Monitor {
    /// A hello, or a person, asks for a device's states.
    pub(super) fn request_restore(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.records_states(id) {
            self.restores.request(id);
            self.start_restores(turn);
        }
    }

    /// The state connection has taken in its backlog: what waits for that may go on.
    pub(super) fn backlog_taken_in(&mut self, turn: &mut Turn<'_>) {
        if self.takedown.holds_restores() {
            return;
        }
        let devices = &self.devices;
        let is_wanted = |id: &DeviceId| {
            let device = &devices[*id];
            device.spec.restore_on_start && device.is_enabled() && device.spec.records_states
        };
        self.restores.begin_start(|| devices.ids().filter(is_wanted).collect());
        for place in self.restores.idle() {
            self.read_chunk(turn, place);
        }
        self.start_restores(turn);
    }

    fn start_restores(&mut self, turn: &mut Turn<'_>) {
        while self.session.is_taken_in()
            && !self.takedown.holds_restores()
            && let Some(place) = self.restores.begin_next()
        {
            self.read_chunk(turn, place);
        }
    }

    fn read_chunk(&mut self, turn: &mut Turn<'_>, place: Place) {
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
        let Some((place, newer)) = self.restores.chunk_read(read, next) else { return };
        for state in states {
            if newer.contains(&state.topic)
                || self.echoes.holds_newer(&state.topic)
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
        }
        if let Some(device) = self.restores.has_unkept(place) {
            let token = self.new_token();
            self.restores.awaits(place, token);
            turn.out.push(self.end_of_unkept(device, token));
        }
        let step = self.restores.progress(place);
        self.take_step(turn, step);
    }

    /// States at QoS 0 have no acknowledgement; that of a publication behind them says that they
    /// have gone out, so that the next chunk does not heap up on them.
    fn end_of_unkept(&self, device: DeviceId, token: Token) -> Action {
        Action::Publish(Publication {
            connection: Connection::State,
            topic: self.own_topic(&format!("marker/{}/restore/{device}", self.client_id)),
            payload: Bytes::new(),
            qos: QoS::AtLeastOnce,
            retain: false,
            restored: false,
            lifetime: Lifetime::Connection,
            token: Some(token),
        })
    }

    pub(super) fn publish_restored(
        &mut self,
        turn: &mut Turn<'_>,
        state: StateRecord,
        token: Option<Token>,
    ) {
        if let Some(due) = self.echoes.expect(turn.now.mono, &state) {
            self.timers.push(due, Timer::Echoes);
        }
        if self.watch.needs_echoes() && self.is_heard(&state.topic) {
            self.watch.expect_echo(&state.topic, &state.payload);
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

    pub(super) fn restored_published(&mut self, turn: &mut Turn<'_>, token: Token) {
        let step = self.restores.acknowledged(token);
        self.take_step(turn, step);
    }

    /// The broker did not take a state, or the publication behind those at QoS 0.
    pub(super) fn restored_refused(
        &mut self,
        turn: &mut Turn<'_>,
        token: Option<Token>,
        topic: &TopicName,
    ) {
        let Some(token) = token else { return self.unkept_refused(topic) };
        let step = self.restores.refused(token, !topic.is_below(&self.base_topic));
        self.take_step(turn, step);
    }

    /// The same of a state at QoS 0, which was not even sent.
    fn unkept_refused(&mut self, topic: &TopicName) {
        if self.echoes.awaits_any_on(topic) {
            let mut restores = std::mem::take(&mut self.restores);
            restores.unkept_refused(|device| {
                self.state_filters(device).iter().any(|filter| filter.matches(topic))
            });
            self.restores = restores;
        }
    }

    /// No copy of what was published on this topic will come.
    pub(super) fn forget_echoes_of(&mut self, topic: &TopicName) {
        self.echoes.forget_topic(topic);
        self.watch.forget_echoes_of(topic);
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

    /// A restored state came back from the broker: whatever arrived on its topic in between has
    /// been overwritten on the wire, and is published once more.
    pub(super) fn echo_arrived(&mut self, turn: &mut Turn<'_>, echo: &Message) {
        if let Some(newer) = self.echoes.arrived(echo) {
            self.publish_restored(turn, newer, None);
        }
    }

    /// Notes a live state, which whatever was read or published before is older than.
    pub(super) fn newer_arrived(&mut self, record: &StateRecord) {
        self.restores.pass_over(&record.topic);
        self.echoes.newer_arrived(record);
    }

    /// Gives up echoes that are overdue: the filter was refused, or another session took them.
    pub(super) fn echoes_due(&mut self, turn: &mut Turn<'_>) {
        let next = self.echoes.look(turn.now.mono);
        self.watch.forget_echoes_if(self.echoes.is_empty());
        if let Some(next) = next {
            self.timers.push(next, Timer::Echoes);
        }
    }
}
