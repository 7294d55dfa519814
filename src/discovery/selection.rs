//! Selects devices among those that were found.

use super::grouping::FoundDevice;
use iotmonitor_core::model::name_pattern::NamePattern;
use iotmonitor_core::topic::{TopicError, TopicFilter};

/// A pattern that selects devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePattern {
    /// Selects by name, regardless of case. `*` stands for any characters.
    Name(NamePattern),
    /// Selects by a topic of the device.
    Topic(TopicFilter),
}

impl DevicePattern {
    /// Parses a pattern. One with `/`, `+` or `#` is a topic filter, and any other one is a name.
    ///
    /// # Errors
    /// Returns an error if the string looks like a topic filter and is not a valid one.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        if text.contains(['/', '+', '#']) {
            return TopicFilter::new(text).map(Self::Topic);
        }
        Ok(Self::Name(NamePattern::new(text.to_lowercase())))
    }

    #[must_use]
    pub fn takes(&self, device: &FoundDevice) -> bool {
        match self {
            Self::Name(pattern) => pattern.matches(&device.name.as_str().to_lowercase()),
            Self::Topic(filter) => {
                device.seen.iter().any(|seen| filter.matches(&seen.topic))
                    || device.watch.iter().any(|watched| filter.covers(watched))
            }
        }
    }
}
