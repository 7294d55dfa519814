//! A recorded state as a line of JSON, for programs.
//!
//! The keys are `topic`; `payload` where it is valid UTF-8, otherwise `payloadBase64` (RFC 4648,
//! with padding); `qos`, 0 or 1; `retain`; `time` in Unix seconds, to the microsecond. When a line
//! is read, `qos` defaults to 1, `retain` to false, and `time` to the present time.

use crate::printable::escaped_json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
        escaped_json(serde_json::to_string(self).unwrap_or_default())
    }
}
