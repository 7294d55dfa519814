//! Classifies the values in a payload by the names of its keys. No payload is kept.

use serde_json::Value;

/// The length in bytes above which a payload is not parsed.
const LONGEST: usize = 8 * 1024;

/// The depth to which nested objects are read.
const DEEPEST: u32 = 4;

/// Words in keys and topic levels of readings that change by themselves.
const MEASURES: [&str; 52] = [
    "temp",
    "tempc",
    "tempf",
    "temperature",
    "humidity",
    "pressure",
    "power",
    "energy",
    "current",
    "voltage",
    "co2",
    "pm2",
    "pm1",
    "voc",
    "illumina",
    "lux",
    "uptime",
    "rssi",
    "heap",
    "moisture",
    "flow",
    "weight",
    "distance",
    "wind",
    "windspeed",
    "flowrate",
    "rain",
    "consum",
    "yield",
    "total",
    "frequency",
    "factor",
    "watt",
    "volt",
    "amp",
    "kwh",
    "noise",
    "dewpoint",
    "radiation",
    "soc",
    "fuel",
    "depth",
    "ph",
    "ec",
    "tds",
    "signal",
    "battery",
    "vbat",
    "level",
    "speed",
    "counter",
    "hum",
];

/// Keys and topic levels that name events.
const EVENTS: [&str; 36] = [
    "motion",
    "occupancy",
    "occupied",
    "presence",
    "pir",
    "movement",
    "contact",
    "door",
    "window",
    "doorbell",
    "bell",
    "ding",
    "ring",
    "button",
    "click",
    "action",
    "press",
    "vibration",
    "tamper",
    "water_leak",
    "leak",
    "flood",
    "smoke",
    "opening",
    "event",
    "events",
    "input_event",
    "longpush",
    "shortpush",
    "tilt",
    "shake",
    "gas_alarm",
    "alarm",
    "trigger",
    "scene",
    "gate",
];

/// Keys of values that a device is set to.
const STATES: [&str; 22] = [
    "state",
    "brightness",
    "color",
    "color_mode",
    "color_temp",
    "position",
    "relay",
    "output",
    "switch",
    "lock_state",
    "mode",
    "ison",
    "preset",
    "speed_level",
    "effect",
    "fan",
    "fan_mode",
    "turn",
    "on",
    "update",
    "power_on_behavior",
    "child_lock",
];

/// Keys about the radio or the battery, which are sent along with any other value.
const ALONG: [&str; 14] = [
    "battery",
    "battery_low",
    "low_battery",
    "linkquality",
    "last_seen",
    "rssi",
    "signal_strength",
    "lqi",
    "device_temperature",
    "update_available",
    "batt",
    "battery_voltage",
    "id",
    "ts",
];

/// The kinds of values that were found in the payloads of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadContent {
    /// Whether a payload began like a JSON object.
    pub object: bool,
    pub measures: bool,
    pub events: bool,
    pub states: bool,
    /// Whether a payload was a number.
    pub number: bool,
    /// Whether a payload was a word such as `ON`.
    pub word: bool,
}

impl PayloadContent {
    /// Adds the kinds of values that a payload holds.
    pub fn add(&mut self, payload: &[u8]) {
        let text = payload.trim_ascii();
        if text.first() == Some(&b'{') {
            self.object = true;
            if payload.len() <= LONGEST
                && let Ok(value) = serde_json::from_slice::<Value>(text)
            {
                self.add_value(&value, DEEPEST);
            }
            return;
        }
        let Ok(text) = std::str::from_utf8(text) else { return };
        if text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') {
            self.number = true;
        } else if is_switch_word(text) {
            self.word = true;
        }
    }

    fn add_value(&mut self, value: &Value, depth: u32) {
        let Value::Object(map) = value else { return };
        for (key, value) in map {
            if value.is_object() {
                if depth > 0 {
                    self.add_value(value, depth - 1);
                }
                continue;
            }
            let key = key.to_ascii_lowercase();
            if ALONG.contains(&key.as_str()) || (key == "voltage" && has_battery(map)) {
                continue;
            }
            // Tasmota's `POWER` and `POWER1` are switches.
            let is_switch = value.as_str().is_some_and(is_switch_word) || value.is_boolean();
            if EVENTS.contains(&key.as_str()) {
                self.events = true;
            } else if STATES.contains(&key.as_str()) || key.starts_with("color") || is_switch {
                self.states = true;
            } else if is_number(value) && measures(&key) {
                self.measures = true;
            }
        }
    }
}

fn has_battery(map: &serde_json::Map<String, Value>) -> bool {
    map.contains_key("battery") || map.contains_key("battery_low")
}

fn is_number(value: &Value) -> bool {
    value.is_number()
        || value.as_str().is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()))
}

/// Returns whether a key or a topic level names a reading.
pub fn measures(word: &str) -> bool {
    MEASURES.iter().any(|measure| {
        if measure.len() > 4 { contains(word, measure) } else { begins_a_part(word, measure) }
    })
}

/// Returns whether a topic level names an event.
pub fn is_event(level: &str) -> bool {
    EVENTS.iter().any(|event| event.eq_ignore_ascii_case(level))
        || level
            .rsplit(['_', '-', ' '])
            .next()
            .is_some_and(|last| EVENTS.iter().any(|event| event.eq_ignore_ascii_case(last)))
}

fn contains(word: &str, part: &str) -> bool {
    word.to_ascii_lowercase().contains(part)
}

/// Returns whether a part of the level begins with a short word, which would otherwise match too
/// much.
fn begins_a_part(word: &str, part: &str) -> bool {
    word.to_ascii_lowercase().split(['_', '-', ' ', '.']).any(|piece| {
        piece.strip_prefix(part).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
    })
}

fn is_switch_word(text: &str) -> bool {
    const WORDS: [&str; 20] = [
        "on", "off", "open", "opened", "close", "closed", "true", "false", "locked", "unlocked",
        "idle", "heat", "cool", "auto", "playing", "paused", "detected", "clear", "home", "away",
    ];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(payload: &str) -> (bool, bool, bool) {
        let mut content = PayloadContent::default();
        content.add(payload.as_bytes());
        (content.measures, content.events, content.states)
    }

    #[test]
    fn keys_distinguish_readings_from_events_and_settings() {
        for (payload, kinds) in [
            (r#"{"temperature":21.5,"battery":90}"#, (true, false, false)),
            (
                r#"{"occupancy":true,"battery":90,"voltage":3000,"linkquality":80}"#,
                (false, true, false),
            ),
            (r#"{"state":"ON","brightness":254,"linkquality":80}"#, (false, false, true)),
            (r#"{"ENERGY":{"Power":3,"Total":1.2}}"#, (true, false, false)),
            (r#"{"POWER":"ON"}"#, (false, false, true)),
            (r#"{"params":{"switch:0":{"id":0,"apower":12.5}}}"#, (true, false, false)),
            ("{}", (false, false, false)),
            ("{", (false, false, false)),
        ] {
            assert_eq!(content(payload), kinds, "{payload}");
        }
    }

    #[test]
    fn levels_name_readings_and_events() {
        for level in ["temperature", "PM25", "co2", "Temp_1", "ph", "battery"] {
            assert!(measures(level), "{level}");
        }
        for level in ["door", "photo", "echo", "lamp", "x"] {
            assert!(!measures(level), "{level}");
        }
        assert!(is_event("hall_motion") && is_event("Button") && !is_event("buttons_total"));
    }
}
