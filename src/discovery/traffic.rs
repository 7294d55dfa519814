//! What is remembered of each topic: counts and times, no payload.

use super::Observation;
use iotmonitor_core::machines::availability;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// Topics that are remembered; a house has hundreds.
const MOST_TOPICS: usize = 20_000;

/// Bytes of their names altogether.
const MOST_NAME_BYTES: usize = 4 << 20;

/// A longer topic is no device's.
const LONGEST_TOPIC: usize = 1_024;

/// A longer payload is no word about availability, and is not looked at to see whether it is JSON.
const LONGEST_WORD: usize = 64;

/// One topic's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that were sent while somebody listened.
    pub live: u32,
    /// When the first and the last of them came.
    pub first: Duration,
    pub last: Duration,
    /// Between two of them.
    pub longest_gap: Duration,
    /// Whether the broker replayed one.
    pub retained: bool,
    /// Whether the last one began like a JSON object.
    pub object: bool,
    /// What the last one said, read as a word about availability.
    pub here: Option<bool>,
    /// Whether that was a word that hardly means anything else, as `online` does and `1` does not.
    pub in_words: bool,
}

impl Traffic {
    /// The longest time in which nothing came, of `listened` altogether; `None` when nothing came.
    pub fn longest_silence(&self, listened: Duration) -> Option<Duration> {
        let after = listened.saturating_sub(self.last);
        (self.live > 0).then(|| self.longest_gap.max(self.first).max(after))
    }

    fn count(&mut self, observation: &Observation<'_>) {
        let Observation { payload, retained, at, .. } = *observation;
        self.object = payload.trim_ascii_start().first() == Some(&b'{');
        self.here = (payload.len() <= LONGEST_WORD).then(|| availability::says(payload)).flatten();
        let first = payload.trim_ascii_start().first().map_or(b'0', u8::to_ascii_lowercase);
        self.in_words =
            self.here.is_some() && first.is_ascii_alphabetic() && !b"tf".contains(&first);
        if retained {
            self.retained = true;
            return;
        }
        if self.live == 0 {
            self.first = at;
        } else {
            self.longest_gap = self.longest_gap.max(at.saturating_sub(self.last));
        }
        self.last = at;
        self.live = self.live.saturating_add(1);
    }
}

/// All topics, in their order.
#[derive(Debug, Default)]
pub struct Topics {
    traffic: BTreeMap<TopicName, Traffic>,
    name_bytes: usize,
    passed_over: u64,
}

impl Topics {
    /// Counts a message on a topic that is known; says whether it is.
    pub fn note(&mut self, observation: &Observation<'_>) -> bool {
        let known = self.traffic.get_mut(observation.topic);
        known.map(|traffic| traffic.count(observation)).is_some()
    }

    /// Takes a topic in with its first message; says whether there was room.
    pub fn enter(&mut self, observation: &Observation<'_>) -> bool {
        match self.place(observation.topic) {
            Some(traffic) => {
                traffic.count(observation);
                true
            }
            None => {
                self.passed_over += 1;
                false
            }
        }
    }

    /// Takes in a topic that was only told of.
    pub fn announce(&mut self, topic: &TopicName) {
        self.place(topic);
    }

    fn place(&mut self, topic: &TopicName) -> Option<&mut Traffic> {
        let (count, bytes) = (self.traffic.len(), self.name_bytes + topic.as_str().len());
        // A copy, for the name keeps the packet alive in which it came.
        match self.traffic.entry(topic.detached()) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => {
                let fits = count < MOST_TOPICS
                    && bytes <= MOST_NAME_BYTES
                    && topic.as_str().len() <= LONGEST_TOPIC;
                fits.then(|| {
                    self.name_bytes = bytes;
                    entry.insert(Traffic::default())
                })
            }
        }
    }

    pub fn len(&self) -> usize {
        self.traffic.len()
    }

    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TopicName, &Traffic)> {
        self.traffic.iter()
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.traffic.contains_key(topic.as_bytes())
    }

    /// Those that lie below a level and, where it is a topic itself, that one.
    pub fn below<'a>(&'a self, level: &'a str) -> impl Iterator<Item = &'a TopicName> {
        let from: &[u8] = level.as_bytes();
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        let begins = move |topic: &&TopicName| topic.as_str().starts_with(level);
        self.traffic.range::<[u8], _>(range).map(|(topic, _)| topic).take_while(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(topics: &mut Topics, topic: &str, at: u64) -> bool {
        let topic = TopicName::new(topic).unwrap();
        let at = Duration::from_secs(at);
        let observation = Observation { topic: &topic, payload: b"1", retained: false, at };
        topics.note(&observation) || topics.enter(&observation)
    }

    #[test]
    fn silence_is_also_what_lies_before_the_first_message_and_after_the_last() {
        let mut topics = Topics::default();
        for at in [20, 25, 40] {
            note(&mut topics, "a", at);
        }
        let (_, traffic) = topics.iter().next().unwrap();
        let silence = |listened| traffic.longest_silence(Duration::from_secs(listened));
        assert_eq!(silence(41), Some(Duration::from_secs(20)));
        assert_eq!(silence(100), Some(Duration::from_secs(60)));
        assert_eq!(Traffic::default().longest_silence(Duration::from_secs(9)), None);
    }

    #[test]
    fn what_a_hostile_broker_carries_takes_bounded_memory() {
        let mut topics = Topics::default();
        for number in 0..MOST_TOPICS + 5_000 {
            note(&mut topics, &format!("flood/{number}"), 1);
        }
        assert_eq!((topics.len(), topics.passed_over()), (MOST_TOPICS, 5_000));
        assert!(note(&mut topics, "flood/0", 2), "what is known is still counted");
        let mut topics = Topics::default();
        for number in 0..20_000 {
            note(&mut topics, &format!("{number:0>1000}"), 1);
        }
        assert!(topics.name_bytes <= MOST_NAME_BYTES, "{}", topics.name_bytes);
        assert!(!note(&mut topics, &"x".repeat(LONGEST_TOPIC + 1), 1));
    }
}
