//! The value of a state as bytes. Numbers are little-endian.

use crate::lmdb::seal::{CHECKSUM_BYTES, checksum, key as key_of, unseal};
use bytes::Bytes;
use iotmonitor_core::machines::retained::Retained;
use iotmonitor_core::model::message::QoS;
use iotmonitor_core::model::state::StateRecord;
use iotmonitor_core::topic::TopicName;
use std::ops::Range;
use std::time::Duration;

/// Checksum, flags, time and the topic's length.
const HEAD_BYTES: usize = CHECKSUM_BYTES + 1 + 8 + 2;

const RETAINED: u8 = 1;
const AT_LEAST_ONCE: u8 = 2;
/// The payload may be what the broker retains. It is where [`RETAINED`] is set and nothing else is
/// known, which is all that format 1 recorded.
const MAY_BE_RETAINED: u8 = 4;
/// The number of hashes of other payloads that may be retained, and these hashes, follow the topic.
const HASHES: u8 = 8;
const HASH_BYTES: usize = 4;

/// A state that is repeated is not written again for so long: ten minutes.
const REPETITION_NANOS: u64 = 600_000_000_000;

/// Writes the value of a state into `value`: checksum, flags, time in nanoseconds, length of the
/// topic, topic, perhaps hashes, payload. A group of states is written with the memory of one.
pub(super) fn encode_state(
    value: &mut Vec<u8>,
    key: &[u8],
    state: &StateRecord,
    retained: &Retained,
) {
    let topic: &[u8] = state.topic.as_ref();
    let qos = match state.qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => AT_LEAST_ONCE,
    };
    // No topic has more than a few dozen.
    let hashes = &retained.others()[..retained.others().len().min(u8::MAX.into())];
    let mut flags = qos;
    flags |= if state.retain { RETAINED } else { 0 };
    flags |= if hashes.is_empty() { 0 } else { HASHES };
    let is_flagged = state.retain && hashes.is_empty();
    flags |= if retained.is_own() && !is_flagged { MAY_BE_RETAINED } else { 0 };
    let nanos = u64::try_from(state.time.as_nanos()).unwrap_or(u64::MAX);
    // A topic name has at most 65,535 bytes.
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    let mut head = [0; HEAD_BYTES];
    head[CHECKSUM_BYTES] = flags;
    head[CHECKSUM_BYTES + 1..HEAD_BYTES - 2].copy_from_slice(&nanos.to_le_bytes());
    head[HEAD_BYTES - 2..].copy_from_slice(&length.to_le_bytes());
    value.clear();
    value.extend_from_slice(&head);
    value.extend_from_slice(topic);
    if let Some(count) = u8::try_from(hashes.len()).ok().filter(|count| *count > 0) {
        value.push(count);
        value.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes()));
    }
    value.extend_from_slice(&state.payload);
    if let Some((sum, content)) = value.split_first_chunk_mut() {
        *sum = checksum(key, content);
    }
}

/// The parts of a state's content that are not the topic.
struct Parts<'a> {
    flags: u8,
    nanos: u64,
    hashes: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(content: &'a [u8]) -> Option<Self> {
        let (&flags, rest) = content.split_first()?;
        let (nanos, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.get(u16::from_le_bytes(*length).into()..)?;
        let (hashes, payload) = if flags & HASHES == 0 {
            (&rest[..0], rest)
        } else {
            let (&count, rest) = rest.split_first().filter(|(count, _)| **count > 0)?;
            rest.split_at_checked(usize::from(count) * HASH_BYTES)?
        };
        Some(Self { flags, nanos: u64::from_le_bytes(*nanos), hashes, payload })
    }

    fn retained(&self) -> Retained {
        let is_flagged = self.flags & RETAINED != 0 && self.hashes.is_empty();
        let hashes = self.hashes.chunks_exact(HASH_BYTES);
        let hashes = hashes.filter_map(|hash| hash.first_chunk().copied().map(u32::from_le_bytes));
        Retained::stored(is_flagged || self.flags & MAY_BE_RETAINED != 0, hashes.collect())
    }
}

/// What the broker may retain on the topic of a recorded state, and the recorded payload; `None`
/// where nothing is known of that, as the flags show, or where the value is damaged.
pub(super) fn retained<'a>(key: &[u8], value: &'a [u8]) -> Option<(Retained, &'a [u8])> {
    let flags = value.get(CHECKSUM_BYTES)?;
    if flags & (RETAINED | MAY_BE_RETAINED | HASHES) == 0 {
        return None;
    }
    let parts = Parts::of(unseal(key, value)?)?;
    Some((parts.retained(), parts.payload))
}

/// The topic in a state's value, checked only to be a valid topic: enough to decide whether a
/// filter matches it.
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

/// Whether a new value says the same as the recorded one and is not much younger. A device that repeats
/// its state every minute need not be written every minute.
pub(super) fn is_repetition(key: &[u8], recorded: &[u8], value: &[u8]) -> bool {
    const TIME: Range<usize> = CHECKSUM_BYTES + 1..CHECKSUM_BYTES + 9;
    let is_same = recorded.len() == value.len()
        && recorded.get(CHECKSUM_BYTES) == value.get(CHECKSUM_BYTES)
        && recorded.get(TIME.end..) == value.get(TIME.end..);
    let nanos = |value: &[u8]| value.get(TIME)?.first_chunk().copied().map(u64::from_le_bytes);
    let is_recent = || {
        let age = nanos(value)?.checked_sub(nanos(recorded)?)?;
        (age < REPETITION_NANOS).then_some(())
    };
    is_same && is_recent().is_some() && unseal(key, recorded).is_some()
}

/// The state in a value; `None` when it is damaged.
pub(super) fn decode_state(key: &[u8], value: &[u8]) -> Option<StateRecord> {
    decode_with_retained(key, value).map(|(state, _)| state)
}

/// The state in a value, and what the broker may retain on its topic.
pub(super) fn decode_with_retained(key: &[u8], value: &[u8]) -> Option<(StateRecord, Retained)> {
    let topic = peek_topic(value).filter(|topic| *key_of(topic.as_ref()) == *key)?;
    let parts = Parts::of(unseal(key, value)?)?;
    let state = StateRecord {
        payload: Bytes::copy_from_slice(parts.payload),
        qos: if parts.flags & AT_LEAST_ONCE == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: parts.flags & RETAINED != 0,
        time: Duration::from_nanos(parts.nanos),
        topic,
    };
    Some((state, parts.retained()))
}

/// Decodes bytes as a record, and as a recorded state.
#[cfg(any(test, fuzzing))]
pub fn fuzz(data: &[u8]) {
    use super::scan::{self, ScanVerdict};
    use crate::lmdb::seal::bound;
    use iotmonitor_core::topic::TopicFilter;
    let (key_length, rest) = data.split_first().unwrap_or((&0, &[]));
    let (name, content) = rest.split_at(usize::from(*key_length).min(rest.len()));
    // Arbitrary bytes are rejected, unless they are exactly what would be written.
    if let Some((state, retained)) = decode_with_retained(name, content) {
        let mut again = Vec::new();
        encode_state(&mut again, name, &state, &retained);
        assert_eq!(again[CHECKSUM_BYTES + 1..], content[CHECKSUM_BYTES + 1..]);
    }
    let Ok(topic) = TopicName::from_bytes(Bytes::copy_from_slice(name)) else { return };
    let state = StateRecord {
        payload: Bytes::copy_from_slice(content),
        qos: if name.len() % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: content.len() % 2 == 0,
        time: Duration::from_nanos(content.len() as u64),
        topic,
    };
    let key = key_of(name);
    let hashes = (0..u32::from(*key_length) % 65).collect();
    let known = Retained::stored(content.len() % 3 == 0, hashes);
    // A retained payload of which nothing else is known is what the broker retains.
    let is_flagged = state.retain && known.others().is_empty();
    let known = if is_flagged { Retained::own() } else { known };
    let mut value = content.to_vec();
    encode_state(&mut value, &key, &state, &known);
    assert_eq!(peek_topic(&value).as_ref(), Some(&state.topic));
    assert_eq!(decode_with_retained(&key, &value), Some((state.clone(), known)));
    for filter in ["#", "+/+", "a/#", "a/b"].map(TopicFilter::new).into_iter().flatten() {
        let filter = std::slice::from_ref(&filter);
        let is_passed_over = match scan::judge(filter, state.topic.as_ref()) {
            ScanVerdict::Matches => bound(scan::start(filter)).as_slice() > &*key,
            ScanVerdict::NotBefore(_) | ScanVerdict::NoMore => true,
        };
        assert_eq!(is_passed_over, !filter[0].matches(&state.topic));
    }
    // A single flipped bit is detected.
    let at = usize::from(*key_length) * 7 % value.len();
    value[at] ^= 1;
    assert_eq!(unseal(&key, &value), None);
}
