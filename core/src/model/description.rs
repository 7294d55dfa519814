//! The names under which a device is described for Home Assistant.

use super::device_name::DeviceName;
use crate::topic::TopicName;
use std::fmt::Write;

/// The place where a monitor of this clientid describes a device.
#[must_use]
pub fn description_topic(prefix: &str, client_id: &str, name: &DeviceName) -> Option<TopicName> {
    let (node, object) = (discovery_id(client_id), discovery_id(name.as_str()));
    TopicName::new(format!("{prefix}/device/{node}/{object}/config")).ok()
}

/// Whether a topic is one of those, below whatever prefix: a removed description lies below a
/// prefix that the configuration no longer names.
#[must_use]
pub fn is_description(topic: &TopicName, client_id: &str) -> bool {
    // Every message is checked, and few end like this, so the bytes are not decoded first.
    let topic: &[u8] = topic.as_ref();
    let Some(path) = topic.strip_suffix(b"/config") else { return false };
    let Some(at) = path.iter().rposition(|&byte| byte == b'/') else { return false };
    let path = path[..at].strip_suffix(discovery_id(client_id).as_bytes());
    path.is_some_and(|path| path.ends_with(b"/device/"))
}

/// A string in the characters that Home Assistant accepts as a node or object id, `[a-zA-Z0-9_-]+`.
/// Every other byte, and the hyphen, is written as a hyphen and two hex digits, so that two names
/// never share an id.
#[must_use]
pub fn discovery_id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            id.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(id, "-{byte:02x}");
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_letters_digits_and_underscores() {
        assert_eq!(discovery_id("Esp_04"), "Esp_04");
    }

    #[test]
    fn own_descriptions_are_known_below_every_prefix() {
        let name = DeviceName::new("lämp").unwrap();
        for prefix in ["homeassistant", "a/b/c"] {
            let topic = description_topic(prefix, "iot-monitor", &name).unwrap();
            assert!(is_description(&topic, "iot-monitor") && !is_description(&topic, "monitor"));
        }
        for other in ["config", "x/config", "a/device/n/config", "a/sensor/n/lamp/config"] {
            assert!(!is_description(&TopicName::new(other).unwrap(), "n"), "{other}");
        }
    }

    #[test]
    fn names_that_differ_have_ids_that_differ() {
        assert_eq!(discovery_id("a-b"), "a-2db");
        assert_eq!(discovery_id("a b"), "a-20b");
        assert_eq!(discovery_id("a-20b"), "a-2d20b");
        assert_eq!(discovery_id("ö"), "-c3-b6");
    }
}
