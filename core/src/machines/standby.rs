//! What a node keeps about the devices of which other nodes speak, to go on where they end: what the
//! retained status says, whether the device has spoken since, when it last said hello, and what was
//! restored for that.

use crate::model::device_id::DeviceId;
use crate::model::status::StatusWord;
use crate::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A hello within this time before a take-over was perhaps answered by nobody: it takes longer than a
/// failover.
const UNANSWERED: Duration = Duration::from_secs(15);

/// A state that was restored within this time before a hello may have answered it: the two come over
/// different connections, and one of them may be behind.
const OUT_OF_ORDER: Duration = Duration::from_secs(1);

/// All of them; empty where no node but this one speaks.
#[derive(Debug, Default)]
pub struct StandbyDevices {
    devices: Vec<StandbyDevice>,
    /// Since when hellos may not be answered for longer, on monotonic time.
    unserved_since: Option<Duration>,
}

/// What is known of one device.
#[derive(Debug, Clone, Default)]
pub struct StandbyDevice {
    word: Option<StatusWord>,
    /// It was heard after that.
    has_spoken: bool,
    hello: Option<Duration>,
    /// What other nodes have restored, by the digests of the topics. Those of a crowd that says hello at
    /// once stay until its next hello, so the topics themselves would take more memory.
    answers: BTreeMap<u64, RestoredState>,
    /// A node has had it since this one came.
    was_served: bool,
}

/// A state that another node has restored.
#[derive(Debug, Clone, Copy)]
struct RestoredState {
    at: Duration,
    /// No hello before it waited for it, so it may belong to one that has not been heard yet.
    is_ahead: bool,
}

impl StandbyDevice {
    /// Whether the status says that what depends on the device cannot be heard.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.word.as_ref().is_some_and(StatusWord::is_down)
    }
}

impl StandbyDevices {
    fn entry(&mut self, id: DeviceId) -> &mut StandbyDevice {
        let place = id.place();
        if self.devices.len() <= place {
            self.devices.resize(place + 1, StandbyDevice::default());
        }
        &mut self.devices[place]
    }

    fn known(&self, id: DeviceId) -> Option<&StandbyDevice> {
        self.devices.get(id.place())
    }

    /// The retained status says this.
    pub fn said(&mut self, id: DeviceId, word: StatusWord) {
        let entry = self.entry(id);
        entry.word = Some(word);
        entry.has_spoken = false;
    }

    /// Another node has it now, or this node has had it.
    pub fn served(&mut self, id: DeviceId) {
        self.entry(id).was_served = true;
    }

    /// Whether a node has had the device since this one came.
    #[must_use]
    pub fn was_served(&self, id: DeviceId) -> bool {
        self.known(id).is_some_and(|entry| entry.was_served)
    }

    /// An earlier process of this node has said so, unless it is known what the broker retains.
    pub fn recall(&mut self, id: DeviceId, word: StatusWord) {
        self.entry(id).word.get_or_insert(word);
    }

    /// The status was cleared.
    pub fn unsaid(&mut self, id: DeviceId) {
        self.entry(id).word = None;
    }

    /// A contact of a device of which another node speaks.
    pub fn heard(&mut self, id: DeviceId) {
        if let Some(entry) = self.devices.get_mut(id.place()) {
            entry.has_spoken = true;
        }
    }

    /// A hello that this node may not answer.
    pub fn hello(&mut self, now: Duration, id: DeviceId) {
        let entry = self.entry(id);
        entry.hello = Some(now);
        entry.answers.retain(|_, answer| {
            let is_ahead = std::mem::take(&mut answer.is_ahead);
            is_ahead && answer.at + OUT_OF_ORDER >= now
        });
    }

    /// What this node was restoring for a hello is cut off. Other nodes had restored these states before,
    /// by the digests of the topics.
    pub fn cut_off(&mut self, now: Duration, id: DeviceId, given: BTreeSet<u64>) {
        let entry = self.entry(id);
        entry.hello = Some(now);
        let given =
            given.into_iter().map(|topic| (topic, RestoredState { at: now, is_ahead: false }));
        entry.answers = given.collect();
    }

    /// Another node has restored a state of the device.
    pub fn restored(&mut self, now: Duration, id: DeviceId, topic: &TopicName) {
        let entry = self.entry(id);
        let topic = topic.digest();
        let is_ahead = entry.hello.is_none() || entry.answers.contains_key(&topic);
        entry.answers.insert(topic, RestoredState { at: now, is_ahead });
    }

    /// From now on it is not known whether other nodes answer hellos.
    pub fn cut(&mut self, now: Duration) {
        self.unserved_since.get_or_insert(now);
    }

    /// The cluster works again, so that what has no owner will soon have one.
    pub fn back(&mut self, now: Duration) {
        if let Some(since) = self.unserved_since.take() {
            let from = since.saturating_sub(UNANSWERED);
            let late = self.devices.iter_mut().filter_map(|entry| entry.hello.as_mut());
            late.filter(|hello| **hello >= from).for_each(|hello| *hello = now);
        }
    }

    /// What the status says of a device.
    #[must_use]
    pub fn word(&self, id: DeviceId) -> Option<&StatusWord> {
        self.known(id)?.word.as_ref()
    }

    /// Whether the device was heard since the status came, which counts once.
    pub fn take_spoken(&mut self, id: DeviceId) -> bool {
        let entry = self.devices.get_mut(id.place());
        entry.is_some_and(|entry| std::mem::take(&mut entry.has_spoken))
    }

    /// Takes the hello of a device that was perhaps answered by nobody, or not in full. Returns what
    /// was restored for it, by the digests of the topics.
    pub fn take_unanswered(&mut self, now: Duration, id: DeviceId) -> Option<BTreeSet<u64>> {
        let entry = self.devices.get_mut(id.place())?;
        let answers = std::mem::take(&mut entry.answers);
        let hello = entry.hello.take()?;
        let from = self.unserved_since.unwrap_or(now).min(now);
        (hello + UNANSWERED >= from).then(|| answers.into_keys().collect())
    }

    /// Takes everything out, with the ids under which it was kept.
    pub fn take(&mut self) -> impl Iterator<Item = (DeviceId, StandbyDevice)> + use<> {
        let devices = std::mem::take(&mut self.devices);
        devices.into_iter().enumerate().map(|(place, entry)| (DeviceId::at(place), entry))
    }

    /// Puts back what was taken, under another id.
    pub fn put(&mut self, id: DeviceId, entry: StandbyDevice) {
        *self.entry(id) = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::view::Liveness;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn lamp() -> DeviceId {
        DeviceId::at(3)
    }

    fn word(state: Liveness) -> StatusWord {
        StatusWord { state, ..StatusWord::default() }
    }

    #[test]
    fn a_contact_counts_until_the_next_word() {
        let mut standby = StandbyDevices::default();
        standby.heard(lamp());
        assert!(!standby.take_spoken(lamp()) && standby.word(lamp()).is_none());
        standby.said(lamp(), word(Liveness::Expired));
        standby.heard(lamp());
        assert!(standby.take_spoken(lamp()) && !standby.take_spoken(lamp()));
        standby.heard(lamp());
        standby.said(lamp(), word(Liveness::Expired));
        assert!(!standby.take_spoken(lamp()));
        standby.recall(lamp(), word(Liveness::Alive));
        assert_eq!(standby.word(lamp()).unwrap().state, Liveness::Expired);
        standby.unsaid(lamp());
        standby.recall(lamp(), word(Liveness::Alive));
        assert_eq!(standby.word(lamp()).unwrap().state, Liveness::Alive);
    }

    #[test]
    fn a_hello_is_unanswered_for_fifteen_seconds_and_once() {
        let mut standby = StandbyDevices::default();
        for (later, is_due) in [(0, true), (15, true), (16, false)] {
            standby.hello(T(100), lamp());
            assert_eq!(standby.take_unanswered(T(100 + later), lamp()).is_some(), is_due);
            assert_eq!(standby.take_unanswered(T(100), lamp()), None);
        }
    }

    #[test]
    fn while_nobody_restores_hellos_wait() {
        let mut standby = StandbyDevices::default();
        standby.hello(T(100), lamp());
        standby.cut(T(110));
        assert!(standby.take_unanswered(T(10_000), lamp()).is_some());
        standby.hello(T(9_000), lamp());
        standby.back(T(10_000));
        let unanswered = standby.take_unanswered(T(10_010), lamp());
        assert!(unanswered.is_some(), "there was no owner before");
        standby.cut(T(20_000));
        standby.hello(T(19_000), lamp());
        let unanswered = standby.take_unanswered(T(20_001), lamp());
        assert_eq!(unanswered, None, "this one had an answer");
    }
}
