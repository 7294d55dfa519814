//! Restored states of which the broker's copy has not come back.
//!
//! What arrives on a topic between a publication and its echo is newer, but the broker has passed
//! the older one on behind it: the newer one is to be published once more.

use crate::model::message::Message;
use crate::model::state::StateRecord;
use crate::topic::TopicName;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// An echo that has not come after this time is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Published and not yet heard back, by topic. All times are monotonic.
#[derive(Debug, Default)]
pub struct Echoes(BTreeMap<TopicName, Awaited>);

/// Restored states of one topic whose echoes have not come.
#[derive(Debug, Default)]
struct Awaited {
    /// In the order of publication; devices that share a topic restore it more than once.
    payloads: Vec<Bytes>,
    /// What arrived on the topic after the publication.
    newer: Option<StateRecord>,
    given_up_at: Duration,
}

impl Echoes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A restored state goes out. Returns when to look for what is overdue, if nobody does yet.
    pub fn expect(&mut self, now: Duration, state: &StateRecord) -> Option<Duration> {
        let given_up_at = now + PATIENCE;
        let first = self.0.is_empty();
        let awaited = self.0.entry(state.topic.clone()).or_default();
        awaited.payloads.push(state.payload.clone());
        awaited.given_up_at = given_up_at;
        first.then_some(given_up_at)
    }

    /// Whether a message may be an echo, where it does not say so itself.
    #[must_use]
    pub fn awaits(&self, message: &Message) -> bool {
        self.0
            .get(&message.topic)
            .is_some_and(|awaited| awaited.payloads.contains(&message.payload))
    }

    #[must_use]
    pub fn awaits_any_on(&self, topic: &TopicName) -> bool {
        self.0.contains_key(topic)
    }

    /// Whether something newer will be published on this topic when its echo comes.
    #[must_use]
    pub fn holds_newer(&self, topic: &TopicName) -> bool {
        self.0.get(topic).is_some_and(|awaited| awaited.newer.is_some())
    }

    /// Notes a live state.
    pub fn newer_arrived(&mut self, record: &StateRecord) {
        if let Some(awaited) = self.0.get_mut(&record.topic) {
            awaited.newer = Some(record.clone());
        }
    }

    /// A restored state came back. Returns what arrived on its topic in between, which has been
    /// overwritten on the wire.
    pub fn arrived(&mut self, echo: &Message) -> Option<StateRecord> {
        let awaited = self.0.get_mut(&echo.topic)?;
        if let Some(at) = awaited.payloads.iter().position(|payload| *payload == echo.payload) {
            awaited.payloads.remove(at);
        }
        let newer = awaited.newer.take();
        if awaited.payloads.is_empty() {
            self.0.remove(&echo.topic);
        }
        newer
    }

    /// No copy of what was published on this topic will come.
    pub fn forget_topic(&mut self, topic: &TopicName) {
        self.0.remove(topic);
    }

    /// No copy of what was published on an earlier connection can come any more.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Gives up echoes that are overdue. Returns when to look again.
    pub fn look(&mut self, now: Duration) -> Option<Duration> {
        self.0.retain(|_, awaited| awaited.given_up_at > now);
        self.0.values().map(|awaited| awaited.given_up_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::QoS;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn state(payload: &'static str) -> StateRecord {
        StateRecord {
            topic: TopicName::new("a").unwrap(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: false,
            time: Duration::ZERO,
        }
    }

    fn message(payload: &'static str) -> Message {
        let StateRecord { topic, payload, qos, retain, .. } = state(payload);
        Message { topic, payload, qos, retain, restored: false }
    }

    #[test]
    fn each_publication_has_one_echo() {
        let mut echoes = Echoes::default();
        assert_eq!(echoes.expect(T(1), &state("on")), Some(T(61)));
        assert_eq!(echoes.expect(T(2), &state("on")), None);
        assert!(!echoes.awaits(&message("off")));
        for _ in 0..2 {
            assert!(echoes.awaits(&message("on")));
            assert_eq!(echoes.arrived(&message("on")), None);
        }
        assert!(!echoes.awaits(&message("on")) && echoes.is_empty());
    }

    #[test]
    fn what_arrived_before_the_echo_comes_with_it_once() {
        let mut echoes = Echoes::default();
        echoes.newer_arrived(&state("before"));
        echoes.expect(T(1), &state("on"));
        assert!(!echoes.holds_newer(&state("on").topic));
        echoes.newer_arrived(&state("new"));
        assert!(echoes.holds_newer(&state("on").topic));
        assert_eq!(echoes.arrived(&message("on")), Some(state("new")));
        assert_eq!(echoes.arrived(&message("on")), None);
    }

    #[test]
    fn echoes_that_are_overdue_are_given_up() {
        let mut echoes = Echoes::default();
        echoes.expect(T(1), &state("on"));
        assert_eq!(echoes.look(T(60)), Some(T(61)));
        assert_eq!(echoes.look(T(61)), None);
        assert!(!echoes.awaits_any_on(&state("on").topic));
    }
}
