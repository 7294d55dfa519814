//! Giving recorded states back, and never over something newer.
//!
//! A restore reads a device's states chunk by chunk, publishes a chunk, and reads the next when
//! the broker has acknowledged it. It belongs to its connection: a chunk that was not acknowledged
//! is read again after the backlog of the next one. A topic on which something arrived after the
//! reading began is passed over. What arrives between a publication and its echo is newer too, but the broker has
//! passed the older one on behind it: then the newer is published once more.

use crate::machines::orders;
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
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Restores under way at once; each holds one chunk in memory.
const MAX_ACTIVE: usize = 4;

/// An echo that has not come after this time is not waited for any more.
const ECHO_PATIENCE: Duration = Duration::from_secs(60);

/// All restores, under way and waiting.
#[derive(Debug, Default)]
pub struct Restores {
    /// Whom a restore is due for, in order; no device twice.
    queue: VecDeque<DeviceId>,
    active: Vec<Restore>,
    /// Published and not yet heard back, by topic.
    awaited: BTreeMap<TopicName, Awaited>,
    /// The restore of everything at the start: asked for once.
    start: StartRestore,
}

#[derive(Debug)]
struct Restore {
    device: DeviceId,
    read: ReadId,
    /// The read has not been answered yet.
    reading: bool,
    /// Where the present chunk began, to read it again after an interruption.
    after: Option<TopicName>,
    next: Option<TopicName>,
    /// Publications of this chunk that the broker has not acknowledged.
    unacknowledged: BTreeSet<Token>,
    /// Topics on which something arrived since the read was asked for.
    newer: BTreeSet<TopicName>,
    /// Of the chunks that are through.
    done: Tally,
    /// Of the present chunk, which is read again after an interruption.
    chunk: Tally,
    /// States of the present chunk that go out at QoS 0, which have no acknowledgement.
    unkept: usize,
    /// A hello came meanwhile: once more from the beginning.
    again: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    published: usize,
    /// What the broker did not take; not among the published.
    refused: usize,
}

impl Tally {
    fn note_refused(&mut self) {
        self.published = self.published.saturating_sub(1);
        self.refused += 1;
    }
}

/// Restored states of one topic whose echoes have not come.
#[derive(Debug, Default)]
struct Awaited {
    /// In the order of publication; devices that share a topic restore it more than once.
    payloads: Vec<Bytes>,
    /// What arrived on the topic after the publication.
    newer: Option<StateRecord>,
    given_up_at: Duration,
}

/// Progress of the restore of all devices at the start.
#[derive(Debug, Default)]
struct StartRestore {
    begun: bool,
    /// Devices that are not done yet.
    left: BTreeSet<DeviceId>,
    devices: usize,
    states: usize,
}

impl Restores {
    /// In 3.1.1 an echo is known by its topic and payload alone.
    pub fn awaits_echo(&self, message: &Message) -> bool {
        self.awaited
            .get(&message.topic)
            .is_some_and(|awaited| awaited.payloads.contains(&message.payload))
    }

    /// Notes a live state, which whatever was read before is older than.
    pub fn newer_arrived(&mut self, record: &StateRecord) {
        for restore in &mut self.active {
            restore.newer.insert(record.topic.detached());
        }
        if let Some(awaited) = self.awaited.get_mut(&record.topic) {
            awaited.newer = Some(record.clone());
        }
    }

    /// Leaves a topic out of the restores under way: it has just been forgotten.
    pub fn pass_over(&mut self, topic: &TopicName) {
        for restore in &mut self.active {
            restore.newer.insert(topic.clone());
        }
    }

    /// The connection is gone, and with it what the broker has not acknowledged. The present chunk
    /// is read again when the backlog of the next connection has been taken in.
    pub fn interrupt(&mut self) {
        for restore in &mut self.active {
            restore.reading = false;
            restore.unacknowledged.clear();
            restore.chunk = Tally::default();
            restore.unkept = 0;
        }
    }

    /// No copy of what was published on an earlier connection can come any more.
    pub fn forget_echoes(&mut self) {
        self.awaited.clear();
    }

    /// Forgets everything that concerns devices by their index, which a new configuration changes.
    pub fn abandon(&mut self) -> Vec<DeviceId> {
        let mut devices: Vec<DeviceId> =
            self.active.drain(..).map(|restore| restore.device).collect();
        devices.extend(self.queue.drain(..));
        self.start.left.clear();
        devices
    }
}

impl Monitor {
    /// A hello, or a person, asks for a device's states.
    pub(super) fn request_restore(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if !self.records_states(id) {
            return;
        }
        if let Some(active) = self.restores.active.iter_mut().find(|restore| restore.device == id) {
            active.again = true;
        } else if !self.restores.queue.contains(&id) {
            self.restores.queue.push_back(id);
        }
        self.start_restores(turn);
    }

    /// The state connection has taken in its backlog: what waits for that may go on.
    pub(super) fn backlog_taken_in(&mut self, turn: &mut Turn<'_>) {
        if self.takedown.holds_restores() {
            return;
        }
        if !self.restores.start.begun {
            self.restores.start.begun = true;
            let queued: BTreeSet<DeviceId> = self.restores.queue.iter().copied().collect();
            for id in self.devices.ids() {
                let device = &self.devices[id];
                if device.spec.restore_on_start && device.is_enabled() && device.spec.records_states
                {
                    self.restores.start.left.insert(id);
                    if !queued.contains(&id) {
                        self.restores.queue.push_back(id);
                    }
                }
            }
        }
        for at in 0..self.restores.active.len() {
            if !self.restores.active[at].reading
                && self.restores.active[at].unacknowledged.is_empty()
            {
                self.read_chunk(turn, at);
            }
        }
        self.start_restores(turn);
    }

    fn start_restores(&mut self, turn: &mut Turn<'_>) {
        while self.session.is_taken_in()
            && !self.takedown.holds_restores()
            && self.restores.active.len() < MAX_ACTIVE
        {
            let Some(device) = self.restores.queue.pop_front() else { return };
            self.restores.active.push(Restore {
                device,
                read: ReadId::Restore(0),
                reading: false,
                after: None,
                next: None,
                unacknowledged: BTreeSet::new(),
                newer: BTreeSet::new(),
                done: Tally::default(),
                chunk: Tally::default(),
                unkept: 0,
                again: false,
            });
            self.read_chunk(turn, self.restores.active.len() - 1);
        }
    }

    /// Asks for the chunk behind `after` of the restore at this place.
    fn read_chunk(&mut self, turn: &mut Turn<'_>, at: usize) {
        self.next_read += 1;
        let restore = &mut self.restores.active[at];
        restore.read = ReadId::Restore(self.next_read);
        restore.reading = true;
        restore.newer.clear();
        let (read, device, after) = (restore.read, restore.device, restore.after.clone());
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
        let Some(at) = self.restores.active.iter().position(|r| r.reading && r.read == read) else {
            return;
        };
        self.restores.active[at].reading = false;
        self.restores.active[at].next = next;
        let newer = std::mem::take(&mut self.restores.active[at].newer);
        self.restores.active[at].unkept = 0;
        for state in states {
            if newer.contains(&state.topic)
                || self.newer_is_awaited(&state.topic)
                || orders::is_no_state(&state.topic, &state.payload)
            {
                continue;
            }
            self.restores.active[at].chunk.published += 1;
            let token = match state.qos {
                QoS::AtLeastOnce => Some(self.awaited_token(at)),
                QoS::AtMostOnce => {
                    self.restores.active[at].unkept += 1;
                    None
                }
            };
            self.publish_restored(turn, state, token);
        }
        if self.restores.active[at].unkept > 0 {
            turn.out.push(self.end_of_unkept(at));
        }
        self.chunk_progressed(turn, at);
    }

    /// A token that the present chunk waits for.
    fn awaited_token(&mut self, at: usize) -> Token {
        let token = self.new_token();
        self.restores.active[at].unacknowledged.insert(token);
        token
    }

    /// States at QoS 0 have no acknowledgement; that of a publication behind them says that they
    /// have gone out, so that the next chunk does not heap up on them.
    fn end_of_unkept(&mut self, at: usize) -> Action {
        let token = self.awaited_token(at);
        let device = self.restores.active[at].device;
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

    fn newer_is_awaited(&self, topic: &TopicName) -> bool {
        self.restores.awaited.get(topic).is_some_and(|awaited| awaited.newer.is_some())
    }

    pub(super) fn publish_restored(
        &mut self,
        turn: &mut Turn<'_>,
        state: StateRecord,
        token: Option<Token>,
    ) {
        let given_up_at = turn.now.mono + ECHO_PATIENCE;
        if self.restores.awaited.is_empty() {
            self.timers.push(given_up_at, Timer::Echoes);
        }
        let awaited = self.restores.awaited.entry(state.topic.clone()).or_default();
        awaited.payloads.push(state.payload.clone());
        awaited.given_up_at = given_up_at;
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
        let found = self.restores.active.iter_mut().position(|r| r.unacknowledged.remove(&token));
        if let Some(at) = found {
            self.chunk_progressed(turn, at);
        }
    }

    /// The broker did not take a state, or the publication behind those at QoS 0.
    pub(super) fn restored_refused(
        &mut self,
        turn: &mut Turn<'_>,
        token: Option<Token>,
        topic: &TopicName,
    ) {
        let Some(token) = token else { return self.unkept_refused(topic) };
        let is_own = topic.is_below(&self.base_topic);
        let found = self.restores.active.iter_mut().position(|r| r.unacknowledged.remove(&token));
        let Some(at) = found else { return };
        if !is_own {
            self.restores.active[at].chunk.note_refused();
        }
        self.chunk_progressed(turn, at);
    }

    /// The same of a state at QoS 0, which was not even sent.
    fn unkept_refused(&mut self, topic: &TopicName) {
        let of = |restore: &Restore| {
            restore.unkept > 0
                && self.state_filters(restore.device).iter().any(|filter| filter.matches(topic))
        };
        if self.restores.awaited.contains_key(topic)
            && let Some(at) = self.restores.active.iter().position(of)
        {
            let restore = &mut self.restores.active[at];
            restore.unkept -= 1;
            restore.chunk.note_refused();
        }
    }

    /// No copy of what was published on this topic will come.
    pub(super) fn forget_echoes_of(&mut self, topic: &TopicName) {
        self.restores.awaited.remove(topic);
        self.watch.forget_echoes_of(topic);
    }

    /// Goes on with the next chunk, or ends the restore, once the present chunk is through.
    fn chunk_progressed(&mut self, turn: &mut Turn<'_>, at: usize) {
        let restore = &mut self.restores.active[at];
        if restore.reading || !restore.unacknowledged.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut restore.chunk);
        restore.done.published += chunk.published;
        restore.done.refused += chunk.refused;
        if restore.next.is_some() {
            restore.after = restore.next.take();
        } else if restore.again {
            restore.again = false;
            restore.after = None;
        } else {
            let restore = self.restores.active.swap_remove(at);
            self.restore_finished(turn, &restore);
            self.start_restores(turn);
            return;
        }
        if self.session.is_taken_in() {
            self.read_chunk(turn, at);
        }
    }

    fn restore_finished(&mut self, turn: &mut Turn<'_>, restore: &Restore) {
        // Where the broker swallows what it does not allow, nothing is known to have come through.
        let (published, refused) = if self.session.is_swallowed() {
            (0, restore.done.published)
        } else {
            (restore.done.published, restore.done.refused)
        };
        let start = &mut self.restores.start;
        if start.left.remove(&restore.device) {
            start.states += published;
            start.devices += usize::from(published > 0);
            if start.left.is_empty() && start.states > 0 {
                let message = format!(
                    "restored {} of {} at the start",
                    counted(start.states, "state"),
                    counted(start.devices, "device")
                );
                turn.raise(AlertKind::Restored, message);
            }
        } else if published > 0 || refused == 0 {
            let name = &self.devices[restore.device].spec.name;
            let message = format!("restored {} of `{name}`", counted(published, "state"));
            turn.out.push(self.device_alert(restore.device, AlertKind::Restored, message));
        }
    }

    /// A restored state came back from the broker: whatever arrived on its topic in between has
    /// been overwritten on the wire, and is published once more.
    pub(super) fn echo_arrived(&mut self, turn: &mut Turn<'_>, echo: &Message) {
        let Some(awaited) = self.restores.awaited.get_mut(&echo.topic) else { return };
        if let Some(at) = awaited.payloads.iter().position(|payload| *payload == echo.payload) {
            awaited.payloads.remove(at);
        }
        let newer = awaited.newer.take();
        if awaited.payloads.is_empty() {
            self.restores.awaited.remove(&echo.topic);
        }
        if let Some(newer) = newer {
            self.publish_restored(turn, newer, None);
        }
    }

    /// Gives up echoes that are overdue: the filter was refused, or another session took them.
    pub(super) fn echoes_due(&mut self, turn: &mut Turn<'_>) {
        self.restores.awaited.retain(|_, awaited| awaited.given_up_at > turn.now.mono);
        self.watch.forget_echoes_if(self.restores.awaited.is_empty());
        if let Some(next) = self.restores.awaited.values().map(|awaited| awaited.given_up_at).min()
        {
            self.timers.push(next, Timer::Echoes);
        }
    }
}
