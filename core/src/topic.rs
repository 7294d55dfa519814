//! Topic names and topic filters as types, with the rules of the MQTT standard.
//!
//! Everything that holds a [`TopicName`] or a [`TopicFilter`] may rely on the rules below having
//! been checked once, at construction. This module matches one filter against one name, and
//! [`index`] matches one name against many filters. The `$share/` prefix has no meaning here, since
//! the monitor never subscribes with it.

pub mod index;

use bytes::Bytes;
use siphasher::sip::SipHasher13;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The maximum length of a topic in bytes, since the length is sent as a two-byte integer (MQTT 5,
/// 1.5.4).
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// A topic name, to which a message is published. It is not empty, contains neither a wildcard nor
/// NUL, and has at most [`MAX_TOPIC_BYTES`] (MQTT 5, 4.7.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Bytes);

/// A topic filter, for which a subscription asks. `+` stands for one whole level, and `#`, which
/// may only be the last level, for the rest (MQTT 5, 4.7.1). Copies share one string, since the
/// plan of subscriptions and the store hold each filter of a fleet once more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicFilter(Arc<str>);

/// The reason why a string is not a topic name or not a topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a topic may not be empty")]
    Empty,
    #[error("a topic of {0} bytes is too long, MQTT allows 65535")]
    TooLong(usize),
    #[error("a topic may not contain the character U+0000")]
    Nul,
    #[error("a topic must be valid UTF-8")]
    NotUtf8,
    #[error("`{0}` is a topic name here, it may not contain the wildcards `+` and `#`")]
    Wildcard(String),
    #[error("in `{0}`, `#` must be the last level and stand alone in it, as in `home/#`")]
    MisplacedHash(String),
    #[error("in `{0}`, `+` must stand alone in its level, as in `home/+/state`")]
    MisplacedPlus(String),
    #[error("`{0}` is a shared subscription, which would hide messages from the monitor")]
    Shared(String),
}

impl TopicName {
    /// Checks a topic that arrived in a packet, without copying it.
    ///
    /// # Errors
    /// Returns an error if the bytes break a rule for topic names.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, TopicError> {
        // Every message incurs this cost. Nearly every topic is ASCII, which is found out faster than
        // that it is UTF-8.
        if !bytes.is_ascii() && std::str::from_utf8(&bytes).is_err() {
            return Err(TopicError::NotUtf8);
        }
        // All bytes are examined in a single pass, without a branch for each.
        let is_special = |byte: &u8| matches!(byte, 0 | b'+' | b'#');
        let has_special = bytes.iter().fold(false, |any, byte| any | is_special(byte));
        let topic = Self(bytes);
        if has_special || topic.0.is_empty() || topic.0.len() > MAX_TOPIC_BYTES {
            check_length_and_nul(topic.as_str())?;
            return Err(TopicError::Wildcard(topic.as_str().to_owned()));
        }
        Ok(topic)
    }

    /// Checks a topic written by a person or built by the program.
    ///
    /// # Errors
    /// Returns an error if the string breaks a rule for topic names.
    pub fn new(text: impl Into<String>) -> Result<Self, TopicError> {
        Self::from_bytes(Bytes::from(text.into().into_bytes().into_boxed_slice()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns whether this topic is `base` itself or lies below it.
    #[must_use]
    pub fn is_below(&self, base: &TopicName) -> bool {
        self.0.strip_prefix(base.0.as_ref()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Returns the levels of this topic below `base`, or `None` if it does not lie below it.
    #[must_use]
    pub fn below(&self, base: &TopicName) -> Option<&str> {
        self.as_str().strip_prefix(base.as_str())?.strip_prefix('/')
    }

    /// Returns the filter that matches this topic and no other, or `None` if the topic looks like a
    /// shared subscription.
    #[must_use]
    pub fn as_filter(&self) -> Option<TopicFilter> {
        TopicFilter::new(self.as_str()).ok()
    }

    /// Returns a number by which the topic is known again, in place of a copy.
    #[must_use]
    pub fn digest(&self) -> u64 {
        SipHasher13::new().hash(&self.0)
    }

    /// Returns a copy that does not keep alive the packet in which the topic arrived.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl TopicFilter {
    /// # Errors
    /// Returns an error if the string breaks a rule for topic filters.
    pub fn new(text: impl Into<String>) -> Result<Self, TopicError> {
        let text = text.into();
        check_length_and_nul(&text)?;
        if text.starts_with("$share/") {
            return Err(TopicError::Shared(text));
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::MisplacedHash(text));
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::MisplacedPlus(text));
            }
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the filter matches the name. A leading wildcard does not match a topic that
    /// begins with `$` (MQTT 5, 4.7.2), and `a/#` matches `a`, too (4.7.1.2).
    #[must_use]
    pub fn matches(&self, name: &TopicName) -> bool {
        let name = name.as_str();
        if name.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = name.split('/');
        for pattern in self.0.split('/') {
            if pattern == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if pattern == "+" || pattern == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Returns whether this filter, too, matches every topic that `other` matches. As an exception,
    /// `+/#` and `/+/#` are not reported as covering `#` and `/#`, although they match everything
    /// that these match.
    #[must_use]
    pub fn covers(&self, other: &TopicFilter) -> bool {
        if other.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = other.0.split('/');
        for pattern in self.0.split('/') {
            if pattern == "#" {
                return true;
            }
            match levels.next() {
                Some("#") | None => return false,
                Some(level) if pattern == "+" || pattern == level => {}
                Some(_) => return false,
            }
        }
        levels.next().is_none()
    }

    /// Returns whether a topic can match both filters. A leading wildcard counts as matching topics
    /// that begin with `$`, since not every broker makes this distinction.
    #[must_use]
    pub fn overlaps(&self, other: &TopicFilter) -> bool {
        let (mut levels, mut others) = (self.0.split('/'), other.0.split('/'));
        loop {
            match (levels.next(), others.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(level), Some(other)) if level == "+" || other == "+" || level == other => {}
                (_, _) => return false,
            }
        }
    }

    /// Returns the part before the first wildcard, with which every matching topic begins. For
    /// `a/#`, it is `a`, because this filter matches `a` as well.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        let end = self.0.find(['+', '#']).unwrap_or(self.0.len());
        let prefix = &self.0[..end];
        if self.0[end..].starts_with('#') {
            prefix.strip_suffix('/').unwrap_or(prefix)
        } else {
            prefix
        }
    }
}

fn check_length_and_nul(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong(text.len()));
    }
    if text.as_bytes().contains(&0) {
        return Err(TopicError::Nul);
    }
    Ok(())
}

impl Borrow<[u8]> for TopicName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for TopicName {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for TopicFilter {
    type Error = TopicError;
    fn try_from(text: String) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl From<TopicFilter> for String {
    fn from(filter: TopicFilter) -> Self {
        filter.0.as_ref().to_owned()
    }
}
