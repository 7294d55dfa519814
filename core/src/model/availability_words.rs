//! The words by which devices report that they are present or gone.

use serde_json::Value;

/// The words of firmwares and bridges for a device that is present: Tasmota, Zigbee2MQTT, ESPHome
/// and Home Assistant `online`, Shelly `true`, Homie `ready`, mqtt-smarthome `2`, …
const HERE: [&str; 13] = [
    "online",
    "true",
    "1",
    "2",
    "ready",
    "init",
    "sleeping",
    "alert",
    "connected",
    "up",
    "available",
    "alive",
    "reachable",
];

/// The words for a device that is gone.
const GONE: [&str; 13] = [
    "offline",
    "false",
    "0",
    "lost",
    "disconnected",
    "down",
    "unavailable",
    "connection lost",
    "connectionlost",
    "connection_lost",
    "dead",
    "unreachable",
    "not connected",
];

/// The members of a JSON object that may contain the word, in order of precedence: Zigbee2MQTT and
/// Homie 5 `state`, Sparkplug's host applications `online`, …
const MEMBERS: [&str; 7] =
    ["state", "status", "online", "availability", "available", "connected", "value"];

/// Words of one device that no convention defines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnWords {
    pub offline: Vec<String>,
    pub online: Vec<String>,
}

impl OwnWords {
    /// The meaning of the payload; `None` when it is neither. These words take precedence over the
    /// known ones.
    #[must_use]
    pub fn says(&self, payload: &[u8]) -> Option<bool> {
        let own = |text: &str| {
            let is_in = |words: &[String]| words.iter().any(|word| is_same(word, text));
            if is_in(&self.offline) { Some(false) } else { is_in(&self.online).then_some(true) }
        };
        // A whole object may be one of the words, too.
        let whole = std::str::from_utf8(payload).ok().and_then(|text| own(text.trim()));
        whole.or_else(|| reads(payload, &own)).or_else(|| says(payload))
    }
}

/// The meaning of the payload by any convention; `None` when it is neither.
#[must_use]
pub fn says(payload: &[u8]) -> Option<bool> {
    reads(payload, &known)
}

/// Finds the word in the payload: unquoted, in quotation marks, or in a JSON object.
fn reads(payload: &[u8], meaning: &dyn Fn(&str) -> Option<bool>) -> Option<bool> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    if !text.starts_with(['{', '"']) {
        return meaning(text);
    }
    let of = |value: &Value| match value {
        Value::String(text) => meaning(text.trim()),
        Value::Bool(_) | Value::Number(_) => meaning(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match serde_json::from_str(text).ok()? {
        Value::Object(members) => MEMBERS.iter().find_map(|name| members.get(*name).and_then(of)),
        value => of(&value),
    }
}

fn known(text: &str) -> Option<bool> {
    let is = |word: &&str| is_same(word, text);
    if HERE.iter().any(is) { Some(true) } else { GONE.iter().any(is).then_some(false) }
}

/// Whether two words are equal except for case and surrounding characters.
#[must_use]
pub fn is_same(word: &str, text: &str) -> bool {
    let (word, text) = (word.trim(), text.trim());
    word.eq_ignore_ascii_case(text) || word.to_lowercase() == text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_common_firmwares_are_known() {
        for here in [
            "online",
            "Online",
            " true\n",
            "ready",
            "{\"state\":\"online\"}",
            "1",
            "2",
            "\"online\"",
            "{\"online\":true,\"timestamp\":1700000000000}",
            "{\"value\":true}",
            "{\"connected\":2}",
        ] {
            assert_eq!(says(here.as_bytes()), Some(true), "{here}");
        }
        for gone in [
            "Offline",
            "false",
            "lost",
            "{ \"state\": \"offline\", \"x\": 1 }",
            "0",
            "Connection Lost",
            "\"offline\"",
            "{\"value\":false}",
            "{\"status\":\"offline\"}",
            "{\"online\":false}",
            "{\"state\":21.5,\"status\":\"offline\"}",
        ] {
            assert_eq!(says(gone.as_bytes()), Some(false), "{gone}");
        }
        for neither in [&b""[..], b"21.5", b"{}", b"{\"state\":21}", b"{", b"\xff", b"\"", b"[0]"] {
            assert_eq!(says(neither), None);
        }
    }

    #[test]
    fn own_words_count_before_those_that_are_known() {
        let words = OwnWords {
            offline: vec!["weg".into(), "GETRENNT ÜBER NACHT".into(), "1".into()],
            online: vec!["da".into(), "{\"up\": 1}".into()],
        };
        for (payload, says) in [
            ("Weg", Some(false)),
            (" getrennt über nacht ", Some(false)),
            ("{\"state\":\"weg\"}", Some(false)),
            ("1", Some(false)),
            ("da", Some(true)),
            ("{\"up\": 1}", Some(true)),
            ("offline", Some(false)),
            ("21.5", None),
        ] {
            assert_eq!(words.says(payload.as_bytes()), says, "{payload}");
        }
    }
}
