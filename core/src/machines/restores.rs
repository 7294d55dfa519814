//! The waiting restores and those in progress: the next chunk to read, what it waits for, and the
//! result.
//!
//! A restore reads a device's states chunk by chunk, publishes a chunk, and reads the next when the
//! broker has acknowledged it. It belongs to its connection: a chunk that was not acknowledged is
//! read again after the backlog of the next one. A topic on which something arrived after the read
//! began is skipped.

use crate::model::device_id::DeviceId;
use crate::model::message::Token;
use crate::model::state::ReadId;
use crate::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The number of concurrent restores; each holds one chunk in memory.
const MAX_ACTIVE: usize = 4;

/// All restores, under way and waiting.
#[derive(Debug, Default)]
pub struct Restores {
    /// Devices that are due for a restore, in order; no device occurs twice.
    queue: VecDeque<DeviceId>,
    /// The devices in the queue. A whole fleet can say hello at once, and each hello asks whether
    /// its device waits already.
    queued: BTreeSet<DeviceId>,
    /// What another node has restored of devices in the queue, by the digests of the topics.
    given: BTreeMap<DeviceId, BTreeSet<u64>>,
    active: Vec<Restore>,
    /// The restore of everything at the start, requested once.
    start: StartRestore,
}

#[derive(Debug)]
struct Restore {
    device: DeviceId,
    /// What another node has restored.
    given: BTreeSet<u64>,
    read: ReadId,
    /// The read has not been answered yet.
    reading: bool,
    /// The start of the present chunk, to read it again after an interruption.
    after: Option<TopicName>,
    next: Option<TopicName>,
    /// Publications of this chunk that the broker has not acknowledged.
    unacknowledged: BTreeSet<Token>,
    /// Topics on which something arrived since the read was requested, while it is not answered.
    newer: BTreeSet<TopicName>,
    /// A replay arrived since then; only the store knows whether it is news.
    outdated: bool,
    /// The published states of the completed chunks.
    done: Tally,
    /// The published states of the present chunk, which is read again after an interruption.
    chunk: Tally,
    /// States of the present chunk that go out at QoS 0, which have no acknowledgement.
    unkept: usize,
    /// A hello arrived meanwhile, so the restore is repeated from the beginning.
    again: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    published: usize,
    /// States that the broker refused; they do not count as published.
    refused: usize,
}

/// Progress of the restore of all devices at the start.
#[derive(Debug, Default)]
struct StartRestore {
    begun: bool,
    /// Devices that are not complete yet.
    left: BTreeSet<DeviceId>,
    devices: usize,
    states: usize,
}

/// The index of a restore in progress, until one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestorePlace(usize);

/// The decision about a chunk that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkRead {
    /// Publish it, without these topics.
    Publish(RestorePlace, BTreeSet<TopicName>),
    ReadAgain(RestorePlace),
    /// The restore that requested it no longer exists.
    Unwanted,
}

/// The next step of a restore.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits for the store or for the broker.
    Wait,
    /// The next chunk must be read, as soon as the backlog has been received.
    Read(RestorePlace),
    Finished(Finished),
}

/// A completed restore.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    pub device: DeviceId,
    published: usize,
    /// States that the broker refused.
    refused: usize,
    /// Another node has restored some, or all.
    is_rest: bool,
}

/// The report about a restore.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    Nothing,
    /// The number of states of one device.
    Device(usize),
    /// The last device of the start is complete.
    Start {
        states: usize,
        devices: usize,
    },
}

impl Restore {
    fn of(device: DeviceId, given: BTreeSet<u64>) -> Self {
        Self {
            device,
            given,
            read: ReadId::Restore(0),
            reading: false,
            after: None,
            next: None,
            unacknowledged: BTreeSet::new(),
            newer: BTreeSet::new(),
            outdated: false,
            done: Tally::default(),
            chunk: Tally::default(),
            unkept: 0,
            again: false,
        }
    }
}

impl Tally {
    fn note_refused(&mut self) {
        self.published = self.published.saturating_sub(1);
        self.refused += 1;
    }
}

impl Restores {
    /// Requests a restore of a device; one in progress is repeated after its end.
    pub fn request(&mut self, device: DeviceId) {
        self.request_rest(device, BTreeSet::new());
    }

    /// Requests the same without the states that another node has restored, by the digests of their
    /// topics.
    pub fn request_rest(&mut self, device: DeviceId, given: BTreeSet<u64>) {
        if let Some(active) = self.active.iter_mut().find(|restore| restore.device == device) {
            active.again = true;
        } else {
            self.enqueue(device, given);
        }
    }

    fn enqueue(&mut self, device: DeviceId, given: BTreeSet<u64>) {
        if self.queued.insert(device) {
            self.queue.push_back(device);
            if !given.is_empty() {
                self.given.insert(device, given);
            }
        } else {
            // Another hello was answered by nobody.
            self.given.remove(&device);
        }
    }

    /// Whether the restores at the start have been requested.
    #[must_use]
    pub fn has_begun_start(&self) -> bool {
        self.start.begun
    }

    /// Requests the restore of these devices at the start, the first time that it is called.
    pub fn begin_start(&mut self, devices: Vec<DeviceId>) {
        if std::mem::replace(&mut self.start.begun, true) {
            return;
        }
        for device in devices {
            self.start.left.insert(device);
            self.enqueue(device, BTreeSet::new());
        }
    }

    /// Requests a restore of a device that nobody has watched for a while. Such restores are reported
    /// together.
    pub fn request_as_at_start(&mut self, device: DeviceId) {
        self.start.left.insert(device);
        self.request(device);
    }

    /// Begins the restore that has waited longest, if there is room for one more.
    pub fn begin_next(&mut self) -> Option<RestorePlace> {
        if self.active.len() >= MAX_ACTIVE {
            return None;
        }
        let device = self.queue.pop_front()?;
        self.queued.remove(&device);
        let given = self.given.remove(&device).unwrap_or_default();
        self.active.push(Restore::of(device, given));
        Some(RestorePlace(self.active.len() - 1))
    }

    /// The restores that wait for nothing, left by an interruption.
    #[must_use]
    pub fn idle(&self) -> Vec<RestorePlace> {
        let is_idle = |at: &usize| {
            let restore = &self.active[*at];
            !restore.reading && restore.unacknowledged.is_empty()
        };
        (0..self.active.len()).filter(is_idle).map(RestorePlace).collect()
    }

    /// The present chunk is being read. Returns the device, and the topic after which it begins.
    pub fn read(&mut self, place: RestorePlace, read: ReadId) -> (DeviceId, Option<TopicName>) {
        let restore = &mut self.active[place.0];
        restore.read = read;
        restore.reading = true;
        restore.newer.clear();
        restore.outdated = false;
        (restore.device, restore.after.clone())
    }

    /// A chunk was read, after which the next one begins.
    pub fn chunk_read(&mut self, read: ReadId, next: Option<TopicName>) -> ChunkRead {
        let Some(at) = self.active.iter().position(|r| r.reading && r.read == read) else {
            return ChunkRead::Unwanted;
        };
        let restore = &mut self.active[at];
        restore.reading = false;
        if restore.outdated {
            return ChunkRead::ReadAgain(RestorePlace(at));
        }
        restore.next = next;
        restore.unkept = 0;
        ChunkRead::Publish(RestorePlace(at), std::mem::take(&mut restore.newer))
    }

    /// A replay arrived: the chunk being read may be older.
    pub fn replay_arrived(&mut self) {
        for restore in &mut self.active {
            restore.outdated |= restore.reading;
        }
    }

    /// Whether another node has restored the state on this topic.
    #[must_use]
    pub fn is_given_back(&self, place: RestorePlace, topic: &TopicName) -> bool {
        let given = &self.active[place.0].given;
        !given.is_empty() && given.contains(&topic.digest())
    }

    /// A state of the present chunk is published, and its acknowledgement is expected.
    pub fn publishes(&mut self, place: RestorePlace, token: Token) {
        self.active[place.0].chunk.published += 1;
        self.awaits(place, token);
    }

    /// A state is published at QoS 0, where there is no acknowledgement.
    pub fn publishes_unkept(&mut self, place: RestorePlace) {
        self.active[place.0].chunk.published += 1;
        self.active[place.0].unkept += 1;
    }

    /// Whether states of the present chunk went out at QoS 0.
    #[must_use]
    pub fn has_unkept(&self, place: RestorePlace) -> bool {
        self.active[place.0].unkept > 0
    }

    /// The present chunk waits for this acknowledgement.
    pub fn awaits(&mut self, place: RestorePlace, token: Token) {
        self.active[place.0].unacknowledged.insert(token);
    }

    /// The broker has acknowledged a publication.
    pub fn acknowledged(&mut self, token: Token) -> Step {
        match self.waits_for(token) {
            Some(place) => self.progress(place),
            None => Step::Wait,
        }
    }

    /// The broker refused a publication, which is a state or the marker behind those at QoS 0.
    pub fn refused(&mut self, token: Token, is_state: bool) -> Step {
        let Some(place) = self.waits_for(token) else { return Step::Wait };
        if is_state {
            self.active[place.0].chunk.note_refused();
        }
        self.progress(place)
    }

    /// A state at QoS 0 was refused before it was sent; `is_of` decides which device it belongs to.
    pub fn unkept_refused(&mut self, is_of: impl Fn(DeviceId) -> bool) {
        let refused = self.active.iter_mut().find(|r| r.unkept > 0 && is_of(r.device));
        if let Some(restore) = refused {
            restore.unkept -= 1;
            restore.chunk.note_refused();
        }
    }

    fn waits_for(&mut self, token: Token) -> Option<RestorePlace> {
        self.active.iter_mut().position(|r| r.unacknowledged.remove(&token)).map(RestorePlace)
    }

    /// Continues with the next chunk, or ends the restore, once the present chunk is complete.
    pub fn progress(&mut self, place: RestorePlace) -> Step {
        let restore = &mut self.active[place.0];
        if restore.reading || !restore.unacknowledged.is_empty() {
            return Step::Wait;
        }
        let chunk = std::mem::take(&mut restore.chunk);
        restore.done.published += chunk.published;
        restore.done.refused += chunk.refused;
        if restore.next.is_some() {
            restore.after = restore.next.take();
        } else if restore.again {
            restore.again = false;
            restore.after = None;
            restore.given.clear();
        } else {
            let Restore { device, done, given, .. } = self.active.swap_remove(place.0);
            let Tally { published, refused } = done;
            let is_rest = !given.is_empty();
            return Step::Finished(Finished { device, published, refused, is_rest });
        }
        Step::Read(place)
    }

    /// The report about a completed restore. Where the broker silently drops what it does not
    /// allow, no state is known to have been delivered.
    pub fn report(&mut self, finished: &Finished, is_swallowed: bool) -> Report {
        let (published, refused) = if is_swallowed {
            (0, finished.published)
        } else {
            (finished.published, finished.refused)
        };
        let start = &mut self.start;
        if start.left.remove(&finished.device) {
            start.states += published;
            start.devices += usize::from(published > 0);
            if start.left.is_empty() && start.states > 0 {
                let (states, devices) = (start.states, start.devices);
                (start.states, start.devices) = (0, 0);
                return Report::Start { states, devices };
            }
            Report::Nothing
        } else if published > 0 || (refused == 0 && !finished.is_rest) {
            Report::Device(published)
        } else {
            Report::Nothing
        }
    }

    /// Something arrived on the topic, or its state was deleted, so that any earlier read is
    /// outdated. The topic is copied once for each chunk that is being read; while a chunk waits for
    /// the broker, the topic has no meaning, because the next chunk is read afterwards.
    pub fn pass_over(&mut self, topic: &TopicName) {
        for restore in self.active.iter_mut().filter(|restore| restore.reading) {
            if !restore.newer.contains(topic) {
                restore.newer.insert(topic.detached());
            }
        }
    }

    /// The connection is gone, and with it everything that the broker has not acknowledged. The
    /// present chunk is read again when the backlog of the next connection has been received.
    pub fn interrupt(&mut self) {
        for restore in &mut self.active {
            restore.reading = false;
            restore.unacknowledged.clear();
            restore.chunk = Tally::default();
            restore.unkept = 0;
        }
    }

    /// Whether no restore waits or is in progress.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.active.is_empty()
    }

    /// Drops the restore of a device, if there is one. Returns what another node has restored of it,
    /// by the digests of the topics.
    pub fn drop_device(&mut self, device: DeviceId) -> Option<BTreeSet<u64>> {
        self.start.left.remove(&device);
        if self.queued.remove(&device) {
            self.queue.retain(|queued| *queued != device);
            return Some(self.given.remove(&device).unwrap_or_default());
        }
        let at = self.active.iter().position(|restore| restore.device == device)?;
        let restore = self.active.remove(at);
        Some(if restore.again { BTreeSet::new() } else { restore.given })
    }

    /// Drops everything that refers to devices by their index, which a new configuration changes.
    /// Returns the devices that were due for a restore.
    pub fn abandon(&mut self) -> Vec<DeviceId> {
        let mut devices: Vec<DeviceId> =
            self.active.drain(..).map(|restore| restore.device).collect();
        devices.extend(self.queue.drain(..));
        self.queued.clear();
        self.given.clear();
        self.start.left.clear();
        devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamp() -> DeviceId {
        DeviceId::at(0)
    }

    const READ: fn(u64) -> ReadId = ReadId::Restore;

    fn topic(text: &str) -> TopicName {
        TopicName::new(text).unwrap()
    }

    /// A restore with this many published states, with tokens from 1 on.
    fn publishing(states: u64, next: Option<&str>) -> (Restores, RestorePlace) {
        let mut restores = Restores::default();
        restores.request(lamp());
        let place = restores.begin_next().unwrap();
        assert_eq!(restores.read(place, READ(1)), (lamp(), None));
        let place = read(&mut restores, READ(1), next);
        (1..=states).for_each(|token| restores.publishes(place, Token(token)));
        (restores, place)
    }

    fn read(restores: &mut Restores, read: ReadId, next: Option<&str>) -> RestorePlace {
        match restores.chunk_read(read, next.map(topic)) {
            ChunkRead::Publish(place, newer) if newer.is_empty() => place,
            other => panic!("{other:?}"),
        }
    }

    fn finished(step: Step) -> Finished {
        match step {
            Step::Finished(finished) => finished,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_chunk_is_through_with_its_last_acknowledgement() {
        let (mut restores, place) = publishing(2, Some("b"));
        assert_eq!(restores.progress(place), Step::Wait);
        assert_eq!(restores.acknowledged(Token(1)), Step::Wait);
        assert_eq!(restores.acknowledged(Token(9)), Step::Wait, "this is another one's");
        assert_eq!(restores.acknowledged(Token(2)), Step::Read(place));
        assert_eq!(restores.read(place, READ(2)), (lamp(), Some(topic("b"))));
        read(&mut restores, READ(2), None);
        let finished = finished(restores.progress(place));
        assert_eq!(restores.report(&finished, false), Report::Device(2));
        assert_eq!(restores.report(&finished, true), Report::Nothing);
    }

    #[test]
    fn what_was_refused_was_not_restored() {
        let (mut restores, _) = publishing(2, None);
        restores.refused(Token(1), true);
        let finished = finished(restores.acknowledged(Token(2)));
        assert_eq!(restores.report(&finished, false), Report::Device(1));
        let (mut restores, place) = publishing(0, None);
        restores.publishes_unkept(place);
        restores.awaits(place, Token(5));
        restores.unkept_refused(|device| device == lamp());
        let finished = self::finished(restores.refused(Token(5), false));
        assert_eq!(restores.report(&finished, false), Report::Nothing);
    }

    #[test]
    fn an_interrupted_chunk_is_read_again_and_counted_once() {
        let (mut restores, place) = publishing(2, Some("b"));
        assert!(restores.idle().is_empty());
        restores.acknowledged(Token(1));
        restores.interrupt();
        assert_eq!(restores.acknowledged(Token(2)), Step::Wait);
        assert_eq!(restores.idle(), [place]);
        assert_eq!(restores.read(place, READ(2)), (lamp(), None));
        assert_eq!(restores.chunk_read(READ(1), None), ChunkRead::Unwanted);
        read(&mut restores, READ(2), None);
        restores.publishes(place, Token(3));
        let finished = finished(restores.acknowledged(Token(3)));
        assert_eq!(restores.report(&finished, false), Report::Device(1));
    }

    #[test]
    fn what_arrived_since_the_reading_began_is_passed_over() {
        let (mut restores, place) = publishing(0, None);
        restores.pass_over(&topic("before"));
        restores.read(place, READ(2));
        restores.pass_over(&topic("a"));
        let chunk = restores.chunk_read(READ(2), None);
        assert_eq!(chunk, ChunkRead::Publish(place, [topic("a")].into()));
    }

    #[test]
    fn what_was_read_beside_a_replay_is_read_again() {
        let (mut restores, place) = publishing(0, Some("b"));
        restores.replay_arrived();
        restores.read(place, READ(2));
        restores.replay_arrived();
        assert_eq!(restores.chunk_read(READ(2), None), ChunkRead::ReadAgain(place));
        assert_eq!(restores.read(place, READ(3)), (lamp(), None));
        read(&mut restores, READ(3), None);
    }

    #[test]
    fn a_hello_meanwhile_is_one_more_restore_behind() {
        let (mut restores, place) = publishing(1, None);
        restores.request(lamp());
        restores.request(lamp());
        assert_eq!(restores.begin_next(), None);
        assert_eq!(restores.acknowledged(Token(1)), Step::Read(place));
        assert_eq!(restores.read(place, READ(2)), (lamp(), None), "from the beginning");
        read(&mut restores, READ(2), None);
        finished(restores.progress(place));
    }

    #[test]
    fn so_many_go_on_at_once_and_no_device_waits_twice() {
        let mut restores = Restores::default();
        for _ in 0..2 {
            (0..9).map(DeviceId::at).for_each(|device| restores.request(device));
        }
        assert_eq!(std::iter::from_fn(|| restores.begin_next()).count(), MAX_ACTIVE);
        assert_eq!(restores.abandon().len(), 9);
        restores.request(lamp());
        assert!(restores.begin_next().is_some(), "what was abandoned can be requested again");
    }

    #[test]
    fn a_device_that_had_its_turn_waits_again() {
        let mut restores = Restores::default();
        restores.request(lamp());
        let place = restores.begin_next().unwrap();
        restores.read(place, READ(1));
        read(&mut restores, READ(1), None);
        finished(restores.progress(place));
        restores.request(lamp());
        assert_eq!(restores.begin_next(), Some(place));
        assert_eq!(restores.begin_next(), None);
    }

    #[test]
    fn topics_are_kept_only_while_a_chunk_is_being_read() {
        let (mut restores, place) = publishing(1, Some("b"));
        restores.pass_over(&topic("a"));
        assert!(restores.active[place.0].newer.is_empty(), "the chunk is on its way already");
        restores.acknowledged(Token(1));
        restores.read(place, READ(2));
        restores.pass_over(&topic("a"));
        restores.pass_over(&topic("a"));
        assert_eq!(restores.active[place.0].newer, [topic("a")].into());
    }

    #[test]
    fn the_start_is_reported_as_a_whole_and_happens_once() {
        let mut restores = Restores::default();
        let devices: Vec<DeviceId> = (0..2).map(DeviceId::at).collect();
        restores.begin_start(devices.clone());
        restores.begin_start(vec![DeviceId::at(9)]);
        let mut reports = Vec::new();
        while let Some(place) = restores.begin_next() {
            restores.read(place, READ(1));
            read(&mut restores, READ(1), None);
            restores.publishes(place, Token(1));
            let finished = finished(restores.acknowledged(Token(1)));
            reports.push(restores.report(&finished, false));
        }
        assert_eq!(reports, [Report::Nothing, Report::Start { states: 2, devices: 2 }]);
    }
}
