//! The names of units. Those of agents are escaped as systemd-escape(1) does it, and are no longer
//! than systemd allows. The others are instances of templates that people have written.
//!
//! The systemd adapter determines whether such a unit exists.

use std::fmt;
use std::sync::Arc;

/// The longest unit name in bytes, NUL excluded (systemd.unit(5)).
pub const MAX_UNIT_NAME_BYTES: usize = 255;

/// The clientid whose agents carry no instance in their unit names.
pub const DEFAULT_CLIENT_ID: &str = "iotmonitor";

/// The name of an agent's unit, `iotmonitor-agent-NAME.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName(String);

/// A unit name that systemd would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the unit name `{name}` has {} bytes, but systemd allows 255: choose a shorter name", name.len())]
pub struct UnitNameTooLong {
    pub name: String,
}

impl UnitName {
    /// Returns the name of an agent's unit, which is `iotmonitor-agent-NAME.service` with the
    /// default clientid, and `iotmonitor-CLIENTID-agent-NAME.service` with any other.
    ///
    /// # Errors
    /// Returns an error if the escaped name is longer than [`MAX_UNIT_NAME_BYTES`].
    pub fn for_agent(client_id: &str, agent: &str) -> Result<Self, UnitNameTooLong> {
        let name = format!("{}{}.service", prefix_of(client_id), escape(agent));
        if name.len() > MAX_UNIT_NAME_BYTES {
            return Err(UnitNameTooLong { name });
        }
        Ok(Self(name))
    }

    /// Returns whether it is the name of an agent's unit of this instance.
    #[must_use]
    pub fn is_of(&self, client_id: &str) -> bool {
        self.0.starts_with(&prefix_of(client_id))
    }

    /// Wraps a name that came from systemd.
    #[must_use]
    pub fn from_systemd(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A template of services such as `notify@.service` (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitTemplate {
    /// The part before the `@`. Each of very many devices may have one, so the pointer is one word.
    prefix: Arc<String>,
}

/// A string that is not the name of a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a service template such as `notify@.service`")]
pub struct NoTemplate {
    pub text: String,
}

/// The maximum length in bytes of the prefix of a template, and of an instance.
const LONGEST_PART: usize = 120;

impl UnitTemplate {
    /// # Errors
    /// Returns an error unless the string is `NAME@.service` with a name of at most 120 bytes that
    /// systemd accepts.
    pub fn new(text: &str) -> Result<Self, NoTemplate> {
        let is_part = |prefix: &&str| {
            !prefix.is_empty() && prefix.len() <= LONGEST_PART && prefix.bytes().all(is_plain)
        };
        match text.strip_suffix("@.service").filter(is_part) {
            Some(prefix) => Ok(Self { prefix: Arc::new(prefix.into()) }),
            None => Err(NoTemplate { text: text.to_owned() }),
        }
    }

    /// Returns the unit of an instance, whose name comes from [`instance_of`].
    #[must_use]
    pub fn instance(&self, instance: &str) -> UnitName {
        UnitName(format!("{}@{instance}.service", self.prefix))
    }
}

impl fmt::Display for UnitTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@.service", self.prefix)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'-')
}

/// Returns a readable name for an instance or a file. Each byte that systemd would escape becomes
/// `_`. A name that differs from the string ends with a hash of the string, which keeps the names
/// of two strings distinct.
#[must_use]
pub fn instance_of(text: &str) -> String {
    let is_own = text.len() <= LONGEST_PART && text.bytes().all(is_plain);
    if is_own && !text.starts_with('.') {
        return text.to_owned();
    }
    let plain = text.bytes().take(LONGEST_PART - HASH_PART);
    let mut name: String =
        plain.map(|byte| if is_plain(byte) { char::from(byte) } else { '_' }).collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    name.push_str(&format!("-{:08x}", hash(text)));
    name
}

/// The length in bytes of a hash and the hyphen before it.
const HASH_PART: usize = 9;

/// Returns the FNV-1a hash (Fowler, Noll, Vo), whose values are the same in every release.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Returns the beginning of the names of an instance's agents.
fn prefix_of(client_id: &str) -> String {
    if client_id == DEFAULT_CLIENT_ID {
        "iotmonitor-agent-".to_owned()
    } else {
        format!("iotmonitor-{}-agent-", escape(client_id))
    }
}

/// Escapes a string as systemd-escape(1) does without `--path`: `/` becomes `-`, ASCII letters,
/// digits, `:`, `_` and `.` stay (a leading `.` does not), and every other byte becomes `\xNN`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'.' if position == 0 => out.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => out.push(byte.into()),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_systemd_escape_does() {
        for (text, escaped) in [
            ("ledbox", "ledbox"),
            ("led-box", "led\\x2dbox"),
            (".hidden.x", "\\x2ehidden.x"),
            ("küche 1", "k\\xc3\\xbcche\\x201"),
            ("a:b_c.d", "a:b_c.d"),
            ("back\\slash", "back\\x5cslash"),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }

    #[test]
    fn a_name_of_256_bytes_is_refused_and_one_of_255_is_not() {
        let fixed = "iotmonitor-agent-.service".len();
        let longest = "a".repeat(MAX_UNIT_NAME_BYTES - fixed);
        assert!(UnitName::for_agent("iotmonitor", &longest).is_ok());
        assert!(UnitName::for_agent("iotmonitor", &format!("{longest}a")).is_err());
    }

    #[test]
    fn a_template_has_instances_with_readable_names() {
        let template = UnitTemplate::new("notify@.service").unwrap();
        assert_eq!(template.instance("led-box").as_str(), "notify@led-box.service");
        assert_eq!(template.to_string(), "notify@.service");
        for text in [
            "",
            "@.service",
            "notify.service",
            "notify@x.service",
            "notify@.target",
            "a/b@.service",
        ] {
            assert_eq!(UnitTemplate::new(text), Err(NoTemplate { text: text.to_owned() }));
        }
        assert!(UnitTemplate::new(&format!("{}@.service", "x".repeat(121))).is_err());
    }

    #[test]
    fn the_name_of_an_instance_needs_no_escape_and_is_no_path() {
        assert_eq!(instance_of("led-box"), "led-box");
        for (text, start) in [("küche 1", "k__che_1-"), ("..", "_.-"), ("a\\b*?", "a_b__-")] {
            let name = instance_of(text);
            assert!(name.starts_with(start) && name.len() == start.len() + 8, "{name}");
        }
        let long = "x".repeat(1_000);
        assert_eq!(instance_of(&long).len(), 120);
        assert_eq!(instance_of(&long[..120]), long[..120]);
        assert_ne!(instance_of(&long), instance_of(&long[..999]));
        assert_ne!(instance_of("küche 1"), instance_of("küche?1"));
        assert_eq!(hash("foobar"), 0xbf9c_f968, "as its authors give it");
    }

    #[test]
    fn another_client_id_gives_another_prefix() {
        let unit = UnitName::for_agent("garden", "pump").unwrap();
        assert_eq!(unit.as_str(), "iotmonitor-garden-agent-pump.service");
    }
}
