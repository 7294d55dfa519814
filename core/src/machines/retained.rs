//! The payloads that the broker may retain on one topic, to distinguish a replay from news.
//!
//! A broker sends its retained message with every subscription, however old it is. A replay is
//! stale where it equals a payload that the broker is known to have retained already, or may have:
//! messages received live are then newer. Any other replay was retained meanwhile, and is news.
//!
//! In MQTT 5 each live message states whether it is retained, so at most one payload is known. In
//! 3.1.1 none does, and any value received since the last replay may be the retained one.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The number of payloads kept of one topic; beyond it, those received longest ago are dropped.
const MOST: usize = 64;

/// The payloads of a topic of which the broker may retain one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// The recorded payload is one of them. It is hashed when another one replaces it.
    is_own: bool,
    /// Hashes of others, those received last at the end.
    others: Vec<u32>,
}

/// The meaning of a replay.
#[derive(Debug, PartialEq, Eq)]
pub enum Replay {
    /// The recorded payload is newer.
    Stale(Retained),
    /// The recorded payload is the retained one.
    Confirmed(Retained),
    /// It is newer than the recorded payload.
    News(Retained),
}

impl Retained {
    /// The payloads as stored. A payload of which nothing is known may or may not be retained.
    #[must_use]
    pub fn stored(is_own: bool, others: Vec<u32>) -> Self {
        Self { is_own, others }
    }

    /// The recorded payload is the one that the broker retains.
    #[must_use]
    pub fn own() -> Self {
        Self { is_own: true, others: Vec::new() }
    }

    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    #[must_use]
    pub fn others(&self) -> &[u32] {
        &self.others
    }

    /// A payload that the broker does not retain replaces the recorded one.
    #[must_use]
    pub fn replaced(mut self, recorded: &[u8]) -> Self {
        if std::mem::take(&mut self.is_own) {
            self.note(hash(recorded));
        }
        self
    }

    /// A payload that the broker may or may not retain replaces the recorded one.
    #[must_use]
    pub fn replaced_unflagged(mut self, recorded: &[u8], payload: &[u8]) -> Self {
        if self.is_own && recorded != payload {
            self.note(hash(recorded));
        }
        self.is_own = true;
        self
    }

    /// The broker has sent its retained message.
    #[must_use]
    pub fn replayed(&self, recorded: &[u8], payload: &[u8]) -> Replay {
        let hash = || hash(payload);
        let is_known = !self.others.is_empty() && self.others.contains(&hash());
        if recorded == payload && (self.is_own || !is_known) {
            Replay::Confirmed(Self::own())
        } else if is_known {
            Replay::Stale(Self { is_own: false, others: vec![hash()] })
        } else {
            Replay::News(Self::own())
        }
    }

    fn note(&mut self, hash: u32) {
        self.others.retain(|other| *other != hash);
        if self.others.len() >= MOST {
            self.others.remove(0);
        }
        self.others.push(hash);
    }
}

/// The hash is stored, so it is the same in every release and on every machine.
fn hash(payload: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(payload);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_of_a_topic_that_nothing_is_known_of_is_news() {
        assert_eq!(Retained::default().replayed(b"off", b"on"), Replay::News(Retained::own()));
        let same = Retained::default().replayed(b"on", b"on");
        assert_eq!(same, Replay::Confirmed(Retained::own()));
    }

    #[test]
    fn what_was_retained_is_stale_under_values_that_are_not() {
        let retained = Retained::own().replaced(b"on").replaced(b"off");
        let stale = Replay::Stale(retained.clone());
        assert_eq!(retained.replayed(b"dim", b"on"), stale, "and nothing changes");
        assert_eq!(retained.replayed(b"on", b"on"), stale, "it was heard once more, not retained");
        assert_eq!(retained.replayed(b"dim", b"off"), Replay::News(Retained::own()));
    }

    #[test]
    fn each_value_may_be_retained_where_none_is_flagged() {
        let mut retained = Retained::default();
        for (recorded, payload) in [("", "on"), ("on", "on"), ("on", "dim"), ("dim", "off")] {
            retained = retained.replaced_unflagged(recorded.as_bytes(), payload.as_bytes());
        }
        assert_eq!(retained.others(), [hash(b"on"), hash(b"dim")]);
        let confirmed = retained.replayed(b"off", b"off");
        assert_eq!(confirmed, Replay::Confirmed(Retained::own()));
        let Replay::Stale(retained) = retained.replayed(b"off", b"on") else { panic!() };
        assert_eq!(retained.replayed(b"off", b"dim"), Replay::News(Retained::own()));
        assert!(matches!(retained.replayed(b"off", b"on"), Replay::Stale(_)));
    }

    #[test]
    fn a_topic_with_many_values_costs_a_bounded_memory() {
        let value = |number: u32| number.to_string().into_bytes();
        let mut retained = Retained::default();
        for number in 0..1_000 {
            retained = retained.replaced_unflagged(&value(number), &value(number + 1));
        }
        assert_eq!(retained.others().len(), MOST);
        let last = &value(1_000);
        assert!(matches!(retained.replayed(last, &value(999)), Replay::Stale(_)));
        assert!(matches!(retained.replayed(last, &value(9)), Replay::News(_)));
        // A few alternating values are each kept once.
        let mut retained = Retained::default();
        for _ in 0..1_000 {
            retained = retained.replaced_unflagged(b"on", b"off").replaced_unflagged(b"off", b"on");
        }
        assert_eq!(retained.others().len(), 2);
    }

    #[test]
    fn a_hash_never_changes() {
        assert_eq!(hash(b"on"), 0xddc4_4097);
    }
}
