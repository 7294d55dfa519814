//! Keys and sealed values: names of any length as LMDB keys, and a checksum in every record, because
//! LMDB does not notice a flipped bit. Numbers are little-endian.
//!
//! A name of up to 494 bytes is its own key. A longer one becomes its first 495 bytes and a 16-byte
//! hash of the whole, 511 bytes in all, so that the two kinds never meet and both lie where a scan
//! over a prefix finds them. The hash is SipHash-1-3 with a fixed key, whose values are the same in
//! every release and on every machine; it only needs to be stable and fast.

use siphasher::{sip::SipHasher13, sip128};
use std::borrow::Cow;
use std::hash::Hasher;

pub const KEY_PREFIX_BYTES: usize = 495;
pub const CHECKSUM_BYTES: usize = 8;

/// The key of a topic or of a device's name.
pub fn key(name: &[u8]) -> Cow<'_, [u8]> {
    key_within(name, KEY_PREFIX_BYTES)
}

/// The key of a name of which so many bytes at most are kept before the hash, where it is a part of
/// a longer key.
pub fn key_within(name: &[u8], prefix_bytes: usize) -> Cow<'_, [u8]> {
    if name.len() < prefix_bytes {
        return Cow::Borrowed(name);
    }
    let mut key = name[..prefix_bytes].to_vec();
    key.extend_from_slice(&sip128::SipHasher13::new().hash(name).as_bytes());
    Cow::Owned(key)
}

/// Whether a key is the name itself.
pub fn is_whole_topic(key: &[u8]) -> bool {
    key.len() < KEY_PREFIX_BYTES
}

/// A bound for keys, from one for names.
pub fn bound(name: &[u8]) -> Vec<u8> {
    name[..name.len().min(KEY_PREFIX_BYTES)].to_vec()
}

/// Puts a checksum over key and content before the content.
pub fn seal(key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHECKSUM_BYTES + content.len());
    value.extend_from_slice(&checksum(key, content));
    value.extend_from_slice(content);
    value
}

/// The content, if it was sealed under this key.
pub fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, content) = value.split_at_checked(CHECKSUM_BYTES)?;
    (sum == checksum(key, content)).then_some(content)
}

/// The checksum over key and content.
pub fn checksum(key: &[u8], content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = SipHasher13::new();
    hasher.write(key);
    hasher.write(content);
    hasher.finish().to_le_bytes()
}
