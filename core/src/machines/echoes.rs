//! Restored states of which the broker's copy has not come back on a connection.
//!
//! A message on a topic between a publication and its echo is newer, but the broker has delivered
//! the older one after it: the newer one must be published once more.
//!
//! A copy can be lost, and where it carries no mark of its own, the next equal value would be
//! mistaken for it. So publications belong to rounds. After each round a marker is published, and
//! when the marker is back, no copy of the round can arrive any more. A broker that returns no
//! marker is given [`PATIENCE`], which a delay of the monitor itself does not use up before the
//! waiting messages are read.

use crate::model::message::Message;
use crate::model::state::StateRecord;
use crate::topic::TopicName;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A round whose marker has not come back after this time is given up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Messages that wait on the socket after a delay are read within this time.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// The largest number of expected copies, and of the bytes kept for them; beyond it, the oldest
/// rounds are given up.
const MOST_COPIES: usize = 4_096;
const MOST_BYTES: usize = 16 << 20;

/// The number of a round of publications, counted over both connections on which their copies
/// arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Round(pub u64);

/// Published and not yet heard back, by topic. All times are monotonic.
#[derive(Debug, Default)]
pub struct Echoes {
    awaited: BTreeMap<TopicName, Awaited>,
    copies: usize,
    bytes: usize,
    /// Rounds that a marker or the end of patience will complete, the oldest first.
    open: VecDeque<Open>,
}

/// Restored states of one topic whose echoes have not come.
#[derive(Debug, Default)]
struct Awaited {
    /// In the order of publication; devices that share a topic restore it more than once.
    copies: Vec<Copy>,
    /// The message that arrived on the topic after the publication.
    newer: Option<StateRecord>,
}

#[derive(Debug)]
struct Copy {
    payload: Bytes,
    round: Round,
    /// Published with the user property of a restored state.
    is_marked: bool,
}

#[derive(Debug)]
struct Open {
    round: Round,
    given_up_at: Duration,
    /// The deadline has passed once already.
    is_late: bool,
}

impl Echoes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// A restored state goes out in this round, with the user property or without it.
    pub fn expect(&mut self, round: Round, state: &StateRecord, is_marked: bool) {
        let payload = state.payload.clone();
        self.copies += 1;
        self.bytes += payload.len();
        let awaited = self.awaited.entry(state.topic.clone()).or_default();
        awaited.copies.push(Copy { payload, round, is_marked });
        while self.copies > MOST_COPIES || self.bytes > MOST_BYTES {
            match self.oldest().filter(|oldest| *oldest < round) {
                Some(oldest) => self.round_over(oldest),
                None => return,
            }
        }
    }

    /// A marker follows the round. Returns when to check whether it is overdue.
    pub fn close(&mut self, now: Duration, round: Round) -> Duration {
        let given_up_at = now + PATIENCE;
        self.open.push_back(Open { round, given_up_at, is_late: false });
        given_up_at
    }

    /// Whether a message is a copy although it carries no mark. `shows_marks` states whether it
    /// would carry the mark, if it had been published with one.
    #[must_use]
    pub fn awaits(&self, message: &Message, shows_marks: bool) -> bool {
        let is_it =
            |copy: &Copy| copy.payload == message.payload && !(shows_marks && copy.is_marked);
        let awaited = self.awaited.get(&message.topic);
        awaited.is_some_and(|awaited| awaited.copies.iter().any(is_it))
    }

    #[must_use]
    pub fn awaits_any_on(&self, topic: &TopicName) -> bool {
        self.awaited.contains_key(topic)
    }

    /// Whether something newer will be published on this topic when its echo comes.
    #[must_use]
    pub fn holds_newer(&self, topic: &TopicName) -> bool {
        self.awaited.get(topic).is_some_and(|awaited| awaited.newer.is_some())
    }

    /// Notes a live state.
    pub fn newer_arrived(&mut self, record: &StateRecord) {
        if let Some(awaited) = self.awaited.get_mut(&record.topic) {
            let before = awaited.newer.replace(record.clone());
            self.bytes += record.payload.len();
            self.bytes -= before.map_or(0, |before| before.payload.len());
        }
    }

    /// A restored state came back. Returns the message that arrived on its topic in between, which
    /// has been overwritten on the wire.
    pub fn arrived(&mut self, echo: &Message) -> Option<StateRecord> {
        let awaited = self.awaited.get_mut(&echo.topic)?;
        if let Some(at) = awaited.copies.iter().position(|copy| copy.payload == echo.payload) {
            let copy = awaited.copies.remove(at);
            self.copies -= 1;
            self.bytes -= copy.payload.len();
        }
        let newer = awaited.newer.take();
        self.bytes -= newer.as_ref().map_or(0, |newer| newer.payload.len());
        if awaited.copies.is_empty() {
            self.awaited.remove(&echo.topic);
        }
        newer
    }

    /// No copy of this round or of an earlier one can arrive any more.
    pub fn round_over(&mut self, round: Round) {
        self.open.retain(|open| open.round > round);
        self.drop_copies(|_, copy| copy.round <= round);
    }

    /// No copy of the publications on this topic will arrive.
    pub fn forget_topic(&mut self, topic: &TopicName) {
        self.drop_copies(|at, _| at == topic);
    }

    /// Keeps what is published on topics of which this is true.
    pub fn keep(&mut self, is_kept: impl Fn(&TopicName) -> bool) {
        self.drop_copies(|topic, _| !is_kept(topic));
    }

    /// The markers that are on their way are lost with the connection.
    pub fn interrupt(&mut self) {
        self.open.clear();
    }

    /// No copy can arrive any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Gives up overdue rounds. Returns when to check again.
    pub fn look(&mut self, now: Duration) -> Option<Duration> {
        while let Some(first) = self.open.front_mut() {
            if first.given_up_at > now {
                return Some(first.given_up_at);
            }
            if !std::mem::replace(&mut first.is_late, true) {
                first.given_up_at = now + LAST_LOOK;
                return Some(first.given_up_at);
            }
            let round = first.round;
            self.round_over(round);
        }
        None
    }

    fn oldest(&self) -> Option<Round> {
        self.awaited.values().flat_map(|awaited| &awaited.copies).map(|copy| copy.round).min()
    }

    /// Without its copies nothing on the topic has been overwritten.
    fn drop_copies(&mut self, is_dropped: impl Fn(&TopicName, &Copy) -> bool) {
        let (copies, bytes) = (&mut self.copies, &mut self.bytes);
        self.awaited.retain(|topic, awaited| {
            awaited.copies.retain(|copy| {
                let is_kept = !is_dropped(topic, copy);
                if !is_kept {
                    *copies -= 1;
                    *bytes -= copy.payload.len();
                }
                is_kept
            });
            if awaited.copies.is_empty() {
                *bytes -= awaited.newer.as_ref().map_or(0, |newer| newer.payload.len());
            }
            !awaited.copies.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::QoS;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn state_on(topic: &str, payload: &'static str) -> StateRecord {
        StateRecord {
            topic: TopicName::new(topic).unwrap(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: QoS::AtLeastOnce,
            retain: false,
            time: Duration::ZERO,
        }
    }

    fn state(payload: &'static str) -> StateRecord {
        state_on("a", payload)
    }

    fn message(payload: &'static str) -> Message {
        let StateRecord { topic, payload, qos, retain, .. } = state(payload);
        Message { topic, payload, qos, retain, restored: false, waited_micros: 0 }
    }

    #[test]
    fn each_publication_has_one_echo() {
        let mut echoes = Echoes::default();
        echoes.expect(Round(1), &state("on"), false);
        echoes.expect(Round(1), &state("on"), false);
        assert!(!echoes.awaits(&message("off"), false));
        for _ in 0..2 {
            assert!(echoes.awaits(&message("on"), true));
            assert_eq!(echoes.arrived(&message("on")), None);
        }
        assert!(!echoes.awaits(&message("on"), false) && echoes.is_empty());
        assert_eq!((echoes.copies, echoes.bytes), (0, 0));
    }

    #[test]
    fn a_mark_that_would_be_seen_is_missed() {
        let mut echoes = Echoes::default();
        echoes.expect(Round(1), &state("on"), true);
        assert!(echoes.awaits(&message("on"), false) && !echoes.awaits(&message("on"), true));
    }

    #[test]
    fn what_arrived_before_the_echo_comes_with_it_once() {
        let mut echoes = Echoes::default();
        echoes.newer_arrived(&state("before"));
        echoes.expect(Round(1), &state("on"), false);
        assert!(!echoes.holds_newer(&state("on").topic));
        echoes.newer_arrived(&state("new"));
        echoes.newer_arrived(&state("newer"));
        assert!(echoes.holds_newer(&state("on").topic));
        assert_eq!(echoes.arrived(&message("on")), Some(state("newer")));
        assert_eq!(echoes.arrived(&message("on")), None);
        assert_eq!((echoes.copies, echoes.bytes), (0, 0));
    }

    #[test]
    fn a_round_ends_with_all_before_it_and_with_none_behind_it() {
        let mut echoes = Echoes::default();
        for (round, payload) in [(1, "one"), (2, "two"), (3, "three")] {
            echoes.expect(Round(round), &state(payload), false);
            echoes.close(T(round), Round(round));
        }
        echoes.newer_arrived(&state("new"));
        echoes.round_over(Round(2));
        assert!(!echoes.awaits(&message("one"), false) && !echoes.awaits(&message("two"), false));
        assert!(echoes.awaits(&message("three"), false));
        assert_eq!(echoes.look(T(62)), Some(T(63)), "the two need no patience");
        echoes.round_over(Round(3));
        assert_eq!(echoes.arrived(&message("three")), None, "nothing was overwritten");
        assert_eq!((echoes.copies, echoes.bytes), (0, 0));
    }

    #[test]
    fn patience_ends_with_a_last_look() {
        let mut echoes = Echoes::default();
        echoes.expect(Round(1), &state("on"), false);
        assert_eq!(echoes.close(T(1), Round(1)), T(61));
        assert_eq!(echoes.look(T(600)), Some(T(600) + LAST_LOOK));
        assert!(echoes.awaits(&message("on"), false));
        assert_eq!(echoes.look(T(600) + LAST_LOOK), None);
        assert!(echoes.is_empty());
    }

    #[test]
    fn rounds_of_an_interrupted_connection_have_no_patience_of_their_own() {
        let mut echoes = Echoes::default();
        echoes.expect(Round(1), &state("on"), false);
        echoes.close(T(1), Round(1));
        echoes.interrupt();
        assert_eq!(echoes.look(T(600)), None);
        assert!(!echoes.is_empty());
    }

    #[test]
    fn topics_are_kept_and_forgotten_alone() {
        let mut echoes = Echoes::default();
        for topic in ["a", "b", "c"] {
            echoes.expect(Round(1), &state_on(topic, "on"), false);
        }
        echoes.forget_topic(&state_on("b", "on").topic);
        echoes.keep(|topic| topic.as_str() != "c");
        let left = ["a", "b", "c"].map(|topic| echoes.awaits_any_on(&state_on(topic, "").topic));
        assert_eq!((left, echoes.copies), ([true, false, false], 1));
    }

    #[test]
    fn a_broker_that_gives_nothing_back_costs_a_bounded_memory() {
        let mut echoes = Echoes::default();
        for round in 0..10_000 {
            echoes.expect(Round(round), &state_on(&round.to_string(), "on"), false);
        }
        assert_eq!(echoes.copies, MOST_COPIES);
        let large = StateRecord { payload: vec![0; MOST_BYTES].into(), ..state("") };
        echoes.expect(Round(10_000), &large, false);
        assert_eq!(echoes.copies, 1, "one is waited for however large it is");
        assert!(!echoes.awaits_any_on(&state_on("9999", "on").topic));
    }
}
