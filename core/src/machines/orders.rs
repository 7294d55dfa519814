//! Recognises commands that are not states: queries, toggles and relative values, as the
//! conventions define them.
//!
//! Restoring such a command would query, switch or dim once more instead of restoring a state. A
//! message that no convention defines is a value, and so is an empty message. The topics on which
//! devices answer are not examined.

use crate::topic::{TopicFilter, TopicName};

/// The prefix of orders to Tasmota, which its full topic may have at any level but the last.
const TASMOTA_PREFIX: &[u8; 4] = b"cmnd";

/// What Tasmota takes for toggling and blinking, on `POWER` alone.
const TASMOTA_TOGGLES: [&[u8]; 7] =
    [b"toggle", b"2", b"blink", b"3", b"blinkoff", b"blink_off", b"4"];

/// The last levels on which a device is queried: that of Zigbee2MQTT and others, and that of
/// Shelly.
const QUESTION_LEVELS: [&str; 2] = ["get", "rpc"];

/// Whether a message on this topic, with this payload, is not a state.
#[must_use]
pub fn is_no_state(topic: &TopicName, payload: &[u8]) -> bool {
    // Every state is checked, so this works on bytes, which need not be decoded first, and looks at
    // the payload before it searches the topic: few payloads are a question or a toggle.
    let topic: &[u8] = topic.as_ref();
    let Some(at) = topic.iter().rposition(|&byte| byte == b'/') else { return false };
    let (before, last) = (&topic[..at], &topic[at + 1..]);
    QUESTION_LEVELS.iter().any(|level| level.as_bytes() == last)
        || (is_no_tasmota_state(last, payload.trim_ascii())
            && before.split(|&byte| byte == b'/').any(|level| level == TASMOTA_PREFIX))
}

/// Whether nothing that matches the filter is a state.
#[must_use]
pub fn is_for_questions(filter: &TopicFilter) -> bool {
    let last = filter.as_str().rsplit_once('/').map(|(_, last)| last);
    last.is_some_and(|last| QUESTION_LEVELS.contains(&last))
}

/// A sign before a number does not always mean a relative value: `TimeZone +1` is absolute.
fn is_no_tasmota_state(command: &[u8], payload: &[u8]) -> bool {
    let is_toggle = |word: &&[u8]| payload.eq_ignore_ascii_case(word);
    matches!(payload, b"" | b"?" | b"+" | b"-")
        || (is_power(command) && TASMOTA_TOGGLES.iter().any(is_toggle))
}

/// `POWER`, and `POWER<n>` of one output or, with 0, of all.
fn is_power(command: &[u8]) -> bool {
    let digits = command.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    command[..command.len() - digits].eq_ignore_ascii_case(b"power")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_none(topic: &str, payload: &str) -> bool {
        is_no_state(&TopicName::new(topic).unwrap(), payload.as_bytes())
    }

    #[test]
    fn questions_and_relative_values_are_no_states_on_any_command_of_tasmota() {
        for topic in ["cmnd/x/POWER", "x/cmnd/POWER", "home/x/cmnd/Dimmer", "cmnd/x/CT"] {
            for payload in ["", "?", "+", "-", " "] {
                assert!(is_none(topic, payload), "{topic} {payload:?}");
            }
            for payload in ["ON", "0", "1", "50", "+1", "-5", "off"] {
                assert!(!is_none(topic, payload), "{topic} {payload:?}");
            }
        }
    }

    #[test]
    fn toggles_are_no_states_on_power_alone() {
        for payload in ["TOGGLE", "toggle", "2", "3", "4", "BLINK", "blinkoff"] {
            for topic in ["cmnd/x/POWER", "x/cmnd/power1", "cmnd/x/POWER32"] {
                assert!(is_none(topic, payload), "{topic} {payload}");
            }
            for topic in ["cmnd/x/FanSpeed", "cmnd/x/PowerOnState", "x/POWER", "stat/x/POWER"] {
                assert!(!is_none(topic, payload), "{topic} {payload}");
            }
        }
    }

    #[test]
    fn elsewhere_every_payload_is_a_value() {
        for topic in ["home/lamp", "home/cmnd", "cmnd", "home/cmnds/POWER", "get", "a/get/b"] {
            for payload in ["", "?", "+", "TOGGLE", "2"] {
                assert!(!is_none(topic, payload), "{topic} {payload:?}");
            }
        }
    }

    #[test]
    fn where_devices_are_asked_nothing_is_a_state() {
        for topic in ["zigbee2mqtt/lamp/get", "shelly/rpc"] {
            assert!(is_none(topic, "{}"), "{topic}");
            assert!(is_for_questions(&TopicFilter::new(topic).unwrap()));
        }
        for filter in ["zigbee2mqtt/lamp/#", "get", "a/get/b", "a/+"] {
            assert!(!is_for_questions(&TopicFilter::new(filter).unwrap()), "{filter}");
        }
        assert!(is_for_questions(&TopicFilter::new("zigbee2mqtt/+/get").unwrap()));
    }
}
