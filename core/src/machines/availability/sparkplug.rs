//! The birth and death certificates of Sparkplug B (Eclipse Sparkplug 3.0, chapter 6.4).
//!
//! An edge node registers `NDEATH` as its will and publishes `NBIRTH`; both hold the metric `bdSeq`, by
//! which a will that the broker publishes late is known to be of an earlier connection. The node
//! publishes `DBIRTH` and `DDEATH` for each device behind it, and with `NDEATH` all of them are gone.

use crate::topic::TopicName;

const NAMESPACE: &str = "spBv1.0";

/// What a topic name of Sparkplug certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    NodeBirth,
    NodeDeath,
    DeviceBirth,
    DeviceDeath,
}

impl Certificate {
    /// What a message on this topic certifies; `None` for every other topic.
    #[must_use]
    pub fn of(topic: &TopicName) -> Option<Self> {
        // Few topics pass this, and all come by here.
        let levels = topic.as_str().strip_prefix(NAMESPACE)?.strip_prefix('/')?;
        match levels.split('/').collect::<Vec<_>>()[..] {
            [_, "NBIRTH", _] => Some(Self::NodeBirth),
            [_, "NDEATH", _] => Some(Self::NodeDeath),
            [_, "DBIRTH", _, _] => Some(Self::DeviceBirth),
            [_, "DDEATH", _, _] => Some(Self::DeviceDeath),
            _ => None,
        }
    }

    /// Whether it says that something is gone.
    #[must_use]
    pub fn is_death(self) -> bool {
        matches!(self, Self::NodeDeath | Self::DeviceDeath)
    }
}

/// The topics that speak of the same node or device as this one; itself outside Sparkplug.
#[must_use]
pub fn topics_beside(topic: &TopicName) -> Vec<TopicName> {
    let levels: Vec<&str> = topic.as_str().split('/').collect();
    let (Some(certificate), [_, group, _, node, ..]) = (Certificate::of(topic), &levels[..]) else {
        return vec![topic.clone()];
    };
    let of_node = |kind: &str| format!("{NAMESPACE}/{group}/{kind}/{node}");
    let mut all = vec![of_node("NBIRTH"), of_node("NDEATH")];
    if matches!(certificate, Certificate::DeviceBirth | Certificate::DeviceDeath) {
        let device = levels.last().copied().unwrap_or_default();
        all.extend(["DBIRTH", "DDEATH"].map(|kind| format!("{}/{device}", of_node(kind))));
    }
    // They are no longer than the one that they were made of.
    all.into_iter().filter_map(|name| TopicName::new(name).ok()).collect()
}

/// The metric `bdSeq` of a payload (`org.eclipse.tahu.protobuf.Payload`); `None` where there is none.
#[must_use]
pub fn birth_number(payload: &[u8]) -> Option<u64> {
    const METRICS: u64 = 2;
    Fields(payload)
        .filter(|(number, _)| *number == METRICS)
        .find_map(|(_, metric)| birth_number_in(metric.bytes()?))
}

fn birth_number_in(metric: &[u8]) -> Option<u64> {
    const NAME: u64 = 1;
    const INT_VALUE: u64 = 10;
    const LONG_VALUE: u64 = 11;
    let field = |wanted: &[u64]| Fields(metric).find(|(number, _)| wanted.contains(number));
    let (_, name) = field(&[NAME])?;
    if name.bytes()? != b"bdSeq" {
        return None;
    }
    match field(&[INT_VALUE, LONG_VALUE])? {
        (_, Value::Number(number)) => Some(number),
        (_, Value::Bytes(_)) => None,
    }
}

/// The fields of a protobuf message, up to its end or to what is none
/// (<https://protobuf.dev/programming-guides/encoding/>).
struct Fields<'p>(&'p [u8]);

enum Value<'p> {
    Number(u64),
    Bytes(&'p [u8]),
}

impl<'p> Value<'p> {
    fn bytes(&self) -> Option<&'p [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Number(_) => None,
        }
    }
}

impl<'p> Iterator for Fields<'p> {
    type Item = (u64, Value<'p>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'p> Fields<'p> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Eclipse Tahu's Python client encodes an NDEATH with `bdSeq` 7: name, timestamp, type Int64,
    /// `long_value`.
    const DEATH: &[u8] = b"\x12\x12\x0a\x05bdSeq\x18\x80\xd0\x95\xff\xbb\x31\x20\x04\x58\x07";

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn names(of: &str) -> Vec<String> {
        topics_beside(&topic(of)).iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn certificates_are_known_by_their_topics() {
        for (name, certificate) in [
            ("spBv1.0/plant/NBIRTH/press", Some(Certificate::NodeBirth)),
            ("spBv1.0/plant/NDEATH/press", Some(Certificate::NodeDeath)),
            ("spBv1.0/plant/DBIRTH/press/motor", Some(Certificate::DeviceBirth)),
            ("spBv1.0/plant/DDEATH/press/motor", Some(Certificate::DeviceDeath)),
            ("spBv1.0/plant/NDATA/press", None),
            ("spBv1.0/plant/NDEATH/press/motor", None),
            ("spBv1.0/STATE/host", None),
            ("spBv1.0x/plant/NDEATH/press", None),
            ("plant/NDEATH/press", None),
        ] {
            assert_eq!(Certificate::of(&topic(name)), certificate, "{name}");
        }
    }

    #[test]
    fn one_topic_stands_for_all_that_speak_of_the_same_thing() {
        let node = ["spBv1.0/p/NBIRTH/n", "spBv1.0/p/NDEATH/n"];
        assert_eq!(names("spBv1.0/p/NDEATH/n"), node);
        assert_eq!(names("spBv1.0/p/NBIRTH/n"), node);
        let device = [node[0], node[1], "spBv1.0/p/DBIRTH/n/d", "spBv1.0/p/DDEATH/n/d"];
        assert_eq!(names("spBv1.0/p/DDEATH/n/d"), device);
        assert_eq!(names("tele/plug/LWT"), ["tele/plug/LWT"]);
    }

    #[test]
    fn the_number_of_a_birth_is_read() {
        assert_eq!(birth_number(DEATH), Some(7));
        // With a time before it, another metric, and the number as an `int_value`.
        let birth = b"\x08\x01\x12\x05\x0a\x01x\x50\x09\x12\x09\x0a\x05bdSeq\x50\x2a\x18\x00";
        assert_eq!(birth_number(birth), Some(42));
        for none in [&b""[..], b"offline", &DEATH[..DEATH.len() - 1], b"\x12\xff\xff\xff\xff\x0f"] {
            assert_eq!(birth_number(none), None);
        }
    }

    proptest! {
        #[test]
        fn no_payload_is_too_odd(payload: Vec<u8>) {
            let number = birth_number(&payload);
            prop_assert!(number.is_none() || payload.len() > 8);
        }
    }
}
