//! Selects devices among those that were found.

use super::grouping::FoundDevice;
use iotmonitor_core::topic::{TopicError, TopicFilter};

/// A pattern that selects devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePattern {
    /// Selects by name, regardless of case. `*` stands for any characters.
    Name(String),
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
        Ok(Self::Name(text.to_lowercase()))
    }

    #[must_use]
    pub fn takes(&self, device: &FoundDevice) -> bool {
        match self {
            Self::Name(pattern) => is_like(pattern, &device.name.as_str().to_lowercase()),
            Self::Topic(filter) => {
                device.seen.iter().any(|seen| filter.matches(&seen.topic))
                    || device.watch.iter().any(|watched| filter.covers(watched))
            }
        }
    }
}

/// Returns whether a name matches a pattern. The time is at most proportional to the product of
/// their lengths.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, is) in [
            ("lamp", "lamp", true),
            ("lamp", "lamp-2", false),
            ("lamp*", "lamp-2", true),
            ("*lamp", "my-lamp", true),
            ("k*n*p", "kitchen-lamp", true),
            ("k*x*p", "kitchen-lamp", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_like(pattern, name), is, "{pattern} {name}");
        }
    }
}
