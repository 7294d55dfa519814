//! A message as it is recorded.

use bytes::Bytes;
use parquet::data_type::ByteArray;
use std::cmp::Ordering;

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When it was received, in microseconds since 1970 in UTC.
    pub time: i64,
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
}

impl Message {
    /// The number that the payload is, perhaps with white space around it.
    pub fn number(&self) -> Option<f64> {
        number(&self.payload)
    }
}

/// A message that is to be recorded, as it lies in the memory of whoever received it.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// As in [`Message`].
    pub time: i64,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
}

impl<'a> From<&'a Message> for Received<'a> {
    fn from(message: &'a Message) -> Self {
        let Message { time, topic, payload, qos, retain } = message;
        Self { time: *time, topic, payload, qos: *qos, retain: *retain }
    }
}

/// A message inside this crate, whose bytes are shared with the file that they were read from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub time: i64,
    pub topic: ByteArray,
    pub payload: ByteArray,
    pub qos: u8,
    pub retain: bool,
}

impl Row {
    /// The order of a file: by topic, and then by time.
    pub fn order(&self, other: &Self) -> Ordering {
        self.topic.data().cmp(other.topic.data()).then(self.time.cmp(&other.time))
    }

    pub fn into_message(self) -> Result<Message, std::string::FromUtf8Error> {
        Ok(Message {
            time: self.time,
            topic: String::from_utf8(self.topic.data().to_vec())?,
            payload: Bytes::copy_from_slice(self.payload.data()),
            qos: self.qos,
            retain: self.retain,
        })
    }
}

/// The number that a payload is, as most sensors send it: digits, perhaps with a sign, a point and
/// an exponent, and white space around.
pub(crate) fn number(payload: &[u8]) -> Option<f64> {
    // No number that a device sends is longer, and most payloads that are not numbers are longer.
    const LONGEST: usize = 40;
    let payload = payload.trim_ascii();
    let (first, last) = (payload.first()?, payload.last()?);
    let begins = first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.');
    // Rust also parses `inf` and `nan`, which end otherwise.
    let ends = last.is_ascii_digit() || *last == b'.';
    if payload.len() > LONGEST || !begins || !ends {
        return None;
    }
    std::str::from_utf8(payload).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_payload_that_is_one_number_has_that_value() {
        let numbers = [
            ("21.5", 21.5),
            ("-3", -3.0),
            ("+0.25", 0.25),
            (" 7\r\n", 7.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1_000.0),
            ("0001", 1.0),
        ];
        for (payload, value) in numbers {
            assert_eq!(number(payload.as_bytes()), Some(value), "{payload}");
        }
    }

    #[test]
    fn any_other_payload_has_none() {
        let long = "1".repeat(41);
        let others = [
            "",
            " ",
            "ON",
            "21.5 °C",
            "1,5",
            "inf",
            "-inf",
            "nan",
            "NaN",
            "infinity",
            "1e999",
            "0x10",
            "--1",
            "1_000",
            "{\"t\": 1}",
            ".",
            "-",
            "1 2",
            &long,
        ];
        for payload in others {
            assert_eq!(number(payload.as_bytes()), None, "{payload}");
        }
        assert_eq!(number(&[b'1', 0xff, b'1']), None);
    }
}
