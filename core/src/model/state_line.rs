//! A recorded state as a line of JSON, for programs.
//!
//! The keys are `topic`; `payload` where it is valid UTF-8, otherwise `payloadBase64` (RFC 4648,
//! with padding); `qos`, 0 or 1; `retain`; `time` in Unix seconds, to the microsecond. When a line
//! is read, `qos` defaults to 1, `retain` to false, and `time` to the present time.

use super::message::QoS;
use super::state::StateRecord;
use crate::topic::TopicName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HALF_MICROSECOND: Duration = Duration::from_nanos(500);

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateLine {
    pub topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    #[serde(default = "at_least_once")]
    pub qos: u8,
    #[serde(default)]
    pub retain: bool,
    pub time: Option<f64>,
}

fn at_least_once() -> u8 {
    1
}

impl StateLine {
    #[must_use]
    pub fn of(topic: &str, payload: &[u8], qos: u8, retain: bool, time: Duration) -> Self {
        let (payload, payload_base64) = match std::str::from_utf8(payload) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(payload))),
        };
        let time = Some(time.as_secs_f64());
        Self { topic: topic.to_owned(), payload, payload_base64, qos, retain, time }
    }

    /// The line, without the line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The state, if the line has all of it.
    #[must_use]
    pub fn record(self) -> Option<StateRecord> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).ok()?,
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let time = Duration::try_from_secs_f64(self.time?).ok()?;
        Some(StateRecord {
            topic: TopicName::new(self.topic).ok()?,
            payload: payload.into(),
            qos: if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
            retain: self.retain,
            // Fractions of a second are exact to the microsecond, which is all that is recorded.
            time: Duration::from_micros(u64::try_from((time + HALF_MICROSECOND).as_micros()).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_from_its_line_as_it_was() {
        for payload in [&b"on"[..], b"", b"\xff\x00"] {
            let state = StateRecord {
                topic: TopicName::new("home/lamp/set").unwrap(),
                payload: payload.to_vec().into(),
                qos: QoS::AtMostOnce,
                retain: true,
                time: Duration::from_micros(1_700_000_000_123_457),
            };
            let StateRecord { topic, qos, retain, time, .. } = &state;
            let line = StateLine::of(topic.as_str(), payload, *qos as u8, *retain, *time);
            let read: StateLine = serde_json::from_str(&line.to_json()).unwrap();
            assert_eq!(read.record(), Some(state));
        }
    }

    #[test]
    fn a_line_without_a_payload_or_with_a_wrong_topic_is_no_state() {
        for line in [r#"{"topic":"a","time":1}"#, r#"{"topic":"a/#","payload":"","time":1}"#] {
            assert_eq!(serde_json::from_str::<StateLine>(line).unwrap().record(), None);
        }
    }
}
