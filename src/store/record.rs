//! Keys and values as bytes: topics of any length as LMDB keys, and a checksum in every record,
//! since LMDB does not notice a flipped bit.
//!
//! Deliberately absent: the database. Numbers are little-endian.
//!
//! A name of up to 494 bytes is its own key. A longer one gives its first 495 bytes and a 16-byte
//! hash of the whole, 511 bytes in all, so that the two kinds never meet and both lie where a scan
//! over a prefix finds them. The hash is SipHash-1-3 with a fixed key, whose values are the same in
//! every release and on every machine; it needs to be that, and quick, and no more.

use bytes::Bytes;
use iotmonitor_core::model::message::QoS;
use iotmonitor_core::model::state::StateRecord;
use iotmonitor_core::topic::TopicName;
use siphasher::{sip::SipHasher13, sip128};
use std::hash::Hasher;
use std::time::Duration;

const KEY_PREFIX_BYTES: usize = 495;
const CHECKSUM_BYTES: usize = 8;

const RETAINED: u8 = 1;
const AT_LEAST_ONCE: u8 = 2;

/// The key of a topic or of a device's name.
pub(super) fn key(name: &[u8]) -> Vec<u8> {
    if name.len() < KEY_PREFIX_BYTES {
        return name.to_vec();
    }
    let mut key = name[..KEY_PREFIX_BYTES].to_vec();
    key.extend_from_slice(&sip128::SipHasher13::new().hash(name).as_bytes());
    key
}

/// Whether a key is the name itself.
pub(super) fn is_whole_topic(key: &[u8]) -> bool {
    key.len() < KEY_PREFIX_BYTES
}

/// A bound for keys, from one for names.
pub(super) fn bound(name: &[u8]) -> Vec<u8> {
    name[..name.len().min(KEY_PREFIX_BYTES)].to_vec()
}

/// Puts a checksum over key and content before the content.
pub(super) fn seal(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHECKSUM_BYTES + content.len());
    value.extend_from_slice(&checksum(key, content));
    value.extend_from_slice(content);
    value
}

/// The content, if it is what was sealed under this key.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, content) = value.split_at_checked(CHECKSUM_BYTES)?;
    (sum == checksum(key, content)).then_some(content)
}

fn checksum(key: &[u8], content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = SipHasher13::new();
    hasher.write(key);
    hasher.write(content);
    hasher.finish().to_le_bytes()
}

/// The value of a state: flags, time in nanoseconds, length of the topic, topic, payload.
pub(super) fn encode_state(key: &[u8], state: &StateRecord) -> Vec<u8> {
    let topic: &[u8] = state.topic.as_ref();
    let qos = match state.qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => AT_LEAST_ONCE,
    };
    let flags = qos | if state.retain { RETAINED } else { 0 };
    let nanos = u64::try_from(state.time.as_nanos()).unwrap_or(u64::MAX);
    // A topic name has at most 65,535 bytes.
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let mut content = Vec::with_capacity(11 + topic.len() + state.payload.len());
    content.push(flags);
    content.extend_from_slice(&nanos.to_le_bytes());
    content.extend_from_slice(&length.to_le_bytes());
    content.extend_from_slice(topic);
    content.extend_from_slice(&state.payload);
    seal(key, &content)
}

/// The topic in a state's value, unchecked but for being one: enough to tell whether a filter
/// wants it.
pub(super) fn peek_topic(value: &[u8]) -> Option<TopicName> {
    let (_, content) = value.split_at_checked(CHECKSUM_BYTES + 9)?;
    let (length, rest) = content.split_first_chunk::<2>()?;
    let topic = rest.get(..u16::from_le_bytes(*length).into())?;
    TopicName::from_bytes(Bytes::copy_from_slice(topic)).ok()
}

/// When a state was recorded; `None` when its value is damaged.
pub(super) fn time_of_state(key: &[u8], value: &[u8]) -> Option<Duration> {
    let content = unseal(key, value)?;
    let nanos = content.get(1..)?.first_chunk::<8>()?;
    Some(Duration::from_nanos(u64::from_le_bytes(*nanos)))
}

/// The state in a value; `None` when it is damaged.
pub(super) fn decode_state(key: &[u8], value: &[u8]) -> Option<StateRecord> {
    let topic = peek_topic(value).filter(|topic| self::key(topic.as_ref()) == key)?;
    let content = unseal(key, value)?;
    let (flags, rest) = content.split_first()?;
    let (nanos, rest) = rest.split_first_chunk::<8>()?;
    let payload = rest.get(2 + topic.as_ref().len()..)?;
    Some(StateRecord {
        payload: Bytes::copy_from_slice(payload),
        qos: if flags & AT_LEAST_ONCE == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: flags & RETAINED != 0,
        time: Duration::from_nanos(u64::from_le_bytes(*nanos)),
        topic,
    })
}

/// Takes bytes for a record, and for a state that is recorded.
#[cfg(any(test, fuzzing))]
pub fn fuzz(data: &[u8]) {
    use super::scan::{self, Verdict};
    use iotmonitor_core::topic::TopicFilter;
    let (key_length, rest) = data.split_first().unwrap_or((&0, &[]));
    let (name, content) = rest.split_at(usize::from(*key_length).min(rest.len()));
    // A record of no one's making is none, or one that would be written just so.
    if let Some(state) = decode_state(name, content) {
        assert_eq!(encode_state(name, &state)[CHECKSUM_BYTES + 1..], content[CHECKSUM_BYTES + 1..]);
    }
    let Ok(topic) = TopicName::from_bytes(Bytes::copy_from_slice(name)) else { return };
    let state = StateRecord {
        payload: Bytes::copy_from_slice(content),
        qos: if name.len() % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: content.len() % 2 == 0,
        time: Duration::from_nanos(content.len() as u64),
        topic,
    };
    let key = key(name);
    let mut value = encode_state(&key, &state);
    assert_eq!(peek_topic(&value).as_ref(), Some(&state.topic));
    assert_eq!(decode_state(&key, &value).as_ref(), Some(&state));
    for filter in ["#", "+/+", "a/#", "a/b"].map(TopicFilter::new).into_iter().flatten() {
        let filter = std::slice::from_ref(&filter);
        let is_passed_over = match scan::judge(filter, state.topic.as_ref()) {
            Verdict::Matches => bound(scan::start(filter)) > key,
            Verdict::NotBefore(_) | Verdict::NoMore => true,
        };
        assert_eq!(is_passed_over, !filter[0].matches(&state.topic));
    }
    // One flipped bit is found.
    let at = usize::from(*key_length) * 7 % value.len();
    value[at] ^= 1;
    assert_eq!(unseal(&key, &value), None);
}
