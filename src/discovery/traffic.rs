//! Remembers counts and times of the messages on each topic, and no payload except a short last
//! one.

use super::Observation;
use super::content::PayloadContent;
use iotmonitor_core::machines::orders;
use iotmonitor_core::model::availability_words;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// The maximum number of topics that are remembered. A house has hundreds.
const MOST_TOPICS: usize = 20_000;

/// The maximum length in bytes of all their names together.
const MOST_NAME_BYTES: usize = 4 << 20;

/// The length in bytes above which a topic is not taken for a device's.
const LONGEST_TOPIC: usize = 1_024;

/// The length in bytes above which a payload is not read as an availability.
const LONGEST_WORD: usize = 64;

/// The number of messages of a topic that are parsed.
const MOST_PARSED: u32 = 16;

/// The length in bytes up to which a topic's last payload is remembered.
const REMEMBERED_WORD: usize = 16;

/// The time within which an order is answered.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Last levels of topics on which an order on the topic above is answered.
const ANSWERS: [&str; 6] = ["state", "status", "stat", "ack", "response", "result"];

/// The messages on one topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The number of messages that were published during the listening.
    pub live: u32,
    /// The times at which the first and the last of them came.
    pub first: Duration,
    pub last: Duration,
    /// The longest and the shortest time between two of them.
    pub longest_gap: Duration,
    pub shortest_gap: Duration,
    /// Whether the broker replayed a retained message.
    pub retained: bool,
    /// The kinds of values in the payloads.
    pub content: PayloadContent,
    /// The last payload, read as an availability.
    pub here: Option<bool>,
    /// Whether that payload hardly means anything else, which is true of `online` and not of `1`.
    pub in_words: bool,
    /// Whether the device reported itself as gone and afterwards as there again.
    pub came_back: bool,
    pub went: bool,
    /// Whether a message was an order that sets no value because it is empty, toggles or calls.
    pub does: bool,
    /// The number of messages that were followed at once by one on a level such as `state` below.
    pub answered: u32,
    pub word: [u8; REMEMBERED_WORD],
    pub word_length: u8,
}

impl Traffic {
    /// Returns whether any message was published, now or before.
    pub fn passed(&self) -> bool {
        self.live > 0 || self.retained
    }

    /// Returns whether each message was answered on a level below, which means that others
    /// published it.
    pub fn is_answered(&self) -> bool {
        self.live > 0 && self.answered >= self.live
    }

    /// Returns the last payload if it is short, and an empty string otherwise.
    pub fn word(&self) -> &str {
        let word = self.word.get(..usize::from(self.word_length)).unwrap_or_default();
        std::str::from_utf8(word).unwrap_or_default()
    }

    /// Returns whether messages came at about the same interval all the time.
    pub fn is_regular(&self, listened: Duration) -> bool {
        const FEWEST: u32 = 5;
        let after = listened.saturating_sub(self.last);
        self.live > FEWEST
            && self.longest_gap <= self.shortest_gap * 2 + Duration::from_secs(1)
            && self.first.max(after) <= self.longest_gap * 2
    }

    fn count(&mut self, observation: &Observation<'_>) {
        let Observation { payload, retained, at, .. } = *observation;
        let here = says(payload);
        self.in_words = here.is_some() && is_in_words(payload);
        self.remember(payload);
        // A flood of messages is not parsed to its end.
        if self.live < MOST_PARSED {
            self.content.add(payload);
        }
        if retained {
            self.here = here;
            self.retained = true;
            return;
        }
        self.came_back |= self.went && here == Some(true);
        self.went |= here == Some(false) && (self.here == Some(true) || self.live > 0);
        self.here = here;
        self.does |= does_something(observation.topic, payload);
        if self.live == 0 {
            self.first = at;
        } else {
            let gap = at.saturating_sub(self.last);
            self.shortest_gap = if self.live == 1 { gap } else { self.shortest_gap.min(gap) };
            self.longest_gap = self.longest_gap.max(gap);
        }
        self.last = at;
        self.live = self.live.saturating_add(1);
    }

    fn remember(&mut self, payload: &[u8]) {
        self.word_length = 0;
        if let Some(word) = self.word.get_mut(..payload.len()) {
            word.copy_from_slice(payload);
            self.word_length = u8::try_from(payload.len()).unwrap_or(0);
        }
    }
}

/// Returns whether a payload is neither a number nor `true` nor `false`.
fn is_in_words(payload: &[u8]) -> bool {
    let first = payload.trim_ascii_start().first().map_or(b'0', u8::to_ascii_lowercase);
    first.is_ascii_alphabetic() && !b"tf".contains(&first)
}

/// Returns the meaning of a payload that is read as an availability.
fn says(payload: &[u8]) -> Option<bool> {
    (payload.len() <= LONGEST_WORD).then(|| availability_words::says(payload)).flatten()
}

/// Returns whether an order with this payload has something done once, which means that repeating
/// it after a start would not restore a state.
fn does_something(topic: &TopicName, payload: &[u8]) -> bool {
    const VERBS: [&str; 34] = [
        "toggle",
        "restart",
        "reboot",
        "reset",
        "refresh",
        "get",
        "read",
        "update",
        "upgrade",
        "install",
        "press",
        "start",
        "stop",
        "pause",
        "open",
        "close",
        "lock",
        "unlock",
        "locate",
        "identify",
        "clean_spot",
        "return_to_base",
        "next",
        "previous",
        "up",
        "down",
        "play",
        "trigger",
        "fire",
        "ping",
        "status",
        "?",
        "increase",
        "decrease",
    ];
    let Ok(text) = std::str::from_utf8(payload) else { return true };
    let text = text.trim();
    let is_call = text.starts_with('{')
        && ["\"method\"", "\"command\"", "\"action\"", "\"params\"", "\"get\"", "TOGGLE", "toggle"]
            .iter()
            .any(|word| text.contains(word));
    text.is_empty()
        || is_call
        || VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(text))
        || orders::is_no_state(topic, payload)
}

/// All topics, in their order.
#[derive(Debug, Default)]
pub struct Topics {
    traffic: BTreeMap<TopicName, Traffic>,
    name_bytes: usize,
    passed_over: u64,
    /// The number of topics that were looked at, for the tests.
    #[cfg(test)]
    pub steps: std::cell::Cell<u64>,
}

impl Topics {
    /// Counts a message if its topic is known, and returns whether it is.
    pub fn note(&mut self, observation: &Observation<'_>) -> bool {
        self.note_answer(observation);
        let known = self.traffic.get_mut(observation.topic);
        known.map(|traffic| traffic.count(observation)).is_some()
    }

    /// Counts an answer, which shows that the message just before it, one level above, was sent to
    /// the device.
    fn note_answer(&mut self, observation: &Observation<'_>) {
        if observation.retained {
            return;
        }
        let Some((above, last)) = observation.topic.as_str().rsplit_once('/') else { return };
        let payload = observation.payload;
        let is_will = is_in_words(payload) && says(payload).is_some();
        if !ANSWERS.contains(&last) || is_will {
            return;
        }
        if let Some(order) = self.traffic.get_mut(above.as_bytes())
            && order.live > order.answered
            && observation.at.saturating_sub(order.last) <= ANSWERS_WITHIN
        {
            order.answered += 1;
        }
    }

    /// Adds a topic with its first message, and returns whether there was room.
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

    /// Adds a topic that was only announced.
    pub fn announce(&mut self, topic: &TopicName) {
        self.place(topic);
    }

    fn place(&mut self, topic: &TopicName) -> Option<&mut Traffic> {
        let (count, bytes) = (self.traffic.len(), self.name_bytes + topic.as_str().len());
        // The name is copied, since the original would keep alive the packet in which it came.
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

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only the tests count"))]
    fn step(&self) {
        #[cfg(test)]
        self.steps.set(self.steps.get() + 1);
    }

    pub fn get(&self, topic: &str) -> Option<&Traffic> {
        self.step();
        self.traffic.get(topic.as_bytes())
    }

    /// Returns whether any topic lies below this level.
    pub fn has_below(&self, level: &str) -> bool {
        self.step();
        let prefix = format!("{level}/");
        let range = (std::ops::Bound::Included(prefix.as_bytes()), std::ops::Bound::Unbounded);
        let next = self.traffic.range::<[u8], _>(range).next();
        next.is_some_and(|(topic, _)| topic.as_str().starts_with(&prefix))
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.step();
        self.traffic.contains_key(topic.as_bytes())
    }

    /// Returns the topics that begin with a level, including the level where it is a topic itself.
    pub fn below<'a>(&'a self, level: &'a str) -> impl Iterator<Item = &'a TopicName> {
        let from: &[u8] = level.as_bytes();
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        let begins = move |topic: &&TopicName| topic.as_str().starts_with(level);
        self.traffic
            .range::<[u8], _>(range)
            .map(|(topic, _)| topic)
            .take_while(begins)
            .inspect(|_| self.step())
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
    fn a_rhythm_has_intervals_of_about_one_length_all_the_time() {
        let regular = |times: &[u64], listened| {
            let mut topics = Topics::default();
            for &at in times {
                note(&mut topics, "a", at);
            }
            topics.iter().all(|(_, traffic)| traffic.is_regular(Duration::from_secs(listened)))
        };
        assert!(regular(&[10, 20, 30, 41, 50, 60, 70], 80));
        assert!(!regular(&[10, 20, 30, 41, 50, 60, 70], 120), "it has stopped");
        assert!(!regular(&[10, 20, 60, 61, 70, 80], 90));
        assert!(!regular(&[30, 60, 90], 120), "too few");
    }

    #[test]
    fn a_message_that_is_always_answered_was_sent_by_another_client() {
        let mut topics = Topics::default();
        note(&mut topics, "lamp", 5);
        note(&mut topics, "lamp/state", 6);
        assert!(topics.get("lamp").unwrap().is_answered());
        note(&mut topics, "lamp", 20);
        note(&mut topics, "lamp/state", 30);
        assert!(!topics.get("lamp").unwrap().is_answered());
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
