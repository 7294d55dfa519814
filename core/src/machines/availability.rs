//! What a device says of itself on its `availabilityTopic`: its birth message and its will.
//!
//! A will is published by the broker when the device's connection breaks, so that the device is known
//! to be gone at once. Here a retained message counts too: what was retained long ago is no sign of
//! life, but the last word of a will is that the device is gone.

/// What firmwares and bridges call it when a device is there: Tasmota, Zigbee2MQTT, ESPHome and
/// Home Assistant `online`, Shelly `true`, Homie `ready`, …
const HERE: [&str; 10] =
    ["online", "true", "1", "ready", "init", "sleeping", "alert", "connected", "up", "available"];

/// And when it is not.
const GONE: [&str; 7] = ["offline", "false", "0", "lost", "disconnected", "down", "unavailable"];

/// What the payload says; `None` when it is neither.
#[must_use]
pub fn says(payload: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    // Zigbee2MQTT: {"state":"online"}.
    if text.starts_with('{') {
        let object: serde_json::Value = serde_json::from_str(text).ok()?;
        return word(object.get("state")?.as_str()?);
    }
    word(text)
}

fn word(text: &str) -> Option<bool> {
    let is = |word: &&str| word.eq_ignore_ascii_case(text);
    if HERE.iter().any(is) { Some(true) } else { GONE.iter().any(is).then_some(false) }
}

/// The last word of one device.
#[derive(Debug, Clone, Copy)]
pub struct Availability {
    has_topic: bool,
    /// `None` when it is not known, or a later contact belies it.
    word: Option<bool>,
}

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub verdict: Verdict,
    /// The last word was not the same.
    pub is_news: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Gone,
    /// The device says so itself, which is a contact.
    Here,
    /// It came back while nobody listened.
    Returned,
    /// It was there at some time, which shows nothing.
    Nothing,
}

impl Availability {
    #[must_use]
    pub fn new(has_topic: bool) -> Self {
        Self { has_topic, word: None }
    }

    /// Takes in a word, which may be a replay of something old.
    pub fn told(&mut self, here: bool, is_replay: bool) -> Told {
        let before = self.word.replace(here);
        let verdict = match (here, is_replay) {
            (false, _) => Verdict::Gone,
            (true, false) => Verdict::Here,
            (true, true) if before == Some(false) => Verdict::Returned,
            (true, true) => Verdict::Nothing,
        };
        Told { verdict, is_news: before != Some(here) }
    }

    /// A contact belies that the device is gone.
    pub fn heard(&mut self) {
        self.word = self.word.filter(|here| *here);
    }

    /// Whether the device says of itself whether it is there.
    #[must_use]
    pub fn has_topic(&self) -> bool {
        self.has_topic
    }

    /// Whether it has said that it is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.word == Some(false)
    }

    /// Whether it has said that it is there.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.word == Some(true)
    }

    /// Goes on where an earlier run was, unless this one knows better.
    pub fn resume(&mut self, was_gone: bool) {
        if was_gone && self.has_topic && self.word.is_none() {
            self.word = Some(false);
        }
    }

    /// Goes on where the device of the same name in the configuration before was.
    pub fn inherit(&mut self, before: Self) {
        self.word = before.word.filter(|_| self.has_topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_common_firmwares_are_known() {
        for here in ["online", "Online", " true\n", "ready", "{\"state\":\"online\"}", "1"] {
            assert_eq!(says(here.as_bytes()), Some(true), "{here}");
        }
        for gone in ["Offline", "false", "lost", "{ \"state\": \"offline\", \"x\": 1 }", "0"] {
            assert_eq!(says(gone.as_bytes()), Some(false), "{gone}");
        }
        for neither in [&b""[..], b"21.5", b"{}", b"{\"state\":1}", b"{", b"\xff"] {
            assert_eq!(says(neither), None);
        }
    }

    #[test]
    fn the_last_word_counts_until_a_contact_belies_it() {
        let mut device = Availability::new(true);
        assert_eq!(device.told(true, true), Told { verdict: Verdict::Nothing, is_news: true });
        assert_eq!(device.told(false, false), Told { verdict: Verdict::Gone, is_news: true });
        assert_eq!(device.told(false, true), Told { verdict: Verdict::Gone, is_news: false });
        device.heard();
        assert!(!device.is_gone() && !device.is_here());
        assert_eq!(device.told(true, false), Told { verdict: Verdict::Here, is_news: true });
        device.heard();
        assert!(device.is_here());
    }

    #[test]
    fn a_replay_shows_a_return_only_of_one_that_was_gone() {
        let mut device = Availability::new(true);
        device.resume(true);
        assert_eq!(device.told(true, true), Told { verdict: Verdict::Returned, is_news: true });
        assert_eq!(device.told(true, true), Told { verdict: Verdict::Nothing, is_news: false });
        device.resume(true);
        assert!(device.is_here(), "what this run has heard is newer");
    }

    #[test]
    fn without_a_topic_of_its_own_nothing_is_taken_over() {
        let mut device = Availability::new(false);
        device.resume(true);
        assert!(!device.has_topic() && !device.is_gone());
        let mut before = Availability::new(true);
        before.told(false, false);
        device.inherit(before);
        assert!(!device.is_gone());
        let mut device = Availability::new(true);
        device.inherit(before);
        assert!(device.is_gone());
    }
}
