//! What is remembered of each topic: counts and times, no payload.

use super::Observation;
use super::content::PayloadContent;
use iotmonitor_core::machines::orders;
use iotmonitor_core::model::availability_words;
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

/// A longer payload is no word about availability.
const LONGEST_WORD: usize = 64;

/// So many messages of a topic are parsed.
const MOST_PARSED: u32 = 16;

/// A payload that is not longer is remembered as the last word of its topic, in bytes.
const REMEMBERED_WORD: usize = 16;

/// An answer comes within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Last levels on which an order to the level above is answered.
const ANSWERS: [&str; 6] = ["state", "status", "stat", "ack", "response", "result"];

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
    pub shortest_gap: Duration,
    /// Whether the broker replayed one.
    pub retained: bool,
    /// What kinds of values passed.
    pub content: PayloadContent,
    /// What the last one said, read as a word about availability.
    pub here: Option<bool>,
    /// Whether that was a word that hardly means anything else, as `online` does and `1` does not.
    pub in_words: bool,
    /// It said that it was gone, and afterwards that it was there again.
    pub came_back: bool,
    pub went: bool,
    /// A message passed that has something done and sets nothing: it is empty, toggles or calls.
    pub does: bool,
    /// Messages that were followed at once by one on the level `state` or the like below.
    pub answered: u32,
    pub word: [u8; REMEMBERED_WORD],
    pub word_length: u8,
}

impl Traffic {
    /// Whether anything passed, now or before.
    pub fn passed(&self) -> bool {
        self.live > 0 || self.retained
    }

    /// Whether each message was answered on a level below, so that it was said by somebody else.
    pub fn is_answered(&self) -> bool {
        self.live > 0 && self.answered >= self.live
    }

    /// The last payload, where it is short; nothing otherwise.
    pub fn word(&self) -> &str {
        let word = self.word.get(..usize::from(self.word_length)).unwrap_or_default();
        std::str::from_utf8(word).unwrap_or_default()
    }

    /// Whether it came again and again in about the same interval, all the time.
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

/// Whether it is neither a number nor `true` nor `false`.
fn is_in_words(payload: &[u8]) -> bool {
    let first = payload.trim_ascii_start().first().map_or(b'0', u8::to_ascii_lowercase);
    first.is_ascii_alphabetic() && !b"tf".contains(&first)
}

/// What a payload says, read as a word about availability.
fn says(payload: &[u8]) -> Option<bool> {
    (payload.len() <= LONGEST_WORD).then(|| availability_words::says(payload)).flatten()
}

/// Whether an order with this payload has something done once, so that giving it again after a start
/// would not bring a state back.
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
    /// Topics that were looked at, for the tests.
    #[cfg(test)]
    pub steps: std::cell::Cell<u64>,
}

impl Topics {
    /// Counts a message on a topic that is known; says whether it is.
    pub fn note(&mut self, observation: &Observation<'_>) -> bool {
        self.note_answer(observation);
        let known = self.traffic.get_mut(observation.topic);
        known.map(|traffic| traffic.count(observation)).is_some()
    }

    /// An answer shows that what came just before, a level above, was said to the device.
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

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only the tests count"))]
    fn step(&self) {
        #[cfg(test)]
        self.steps.set(self.steps.get() + 1);
    }

    pub fn get(&self, topic: &str) -> Option<&Traffic> {
        self.step();
        self.traffic.get(topic.as_bytes())
    }

    /// Whether any topic lies below this level.
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

    /// Those that lie below a level and, where it is a topic itself, that one.
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
    fn what_is_answered_each_time_was_said_by_somebody_else() {
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
