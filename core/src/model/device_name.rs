//! The names of devices, many of which share one allocation.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A device's name: one level of a topic and a part of a unit's name. It is a part of a string that
/// may contain many names: if those of a fleet were allocated separately, they would keep the
/// memory between them from being released.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName {
    text: Arc<str>,
    start: u32,
    end: u32,
}

/// Explains why a string is not a device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceNameError {
    #[error("a device needs a name after the underscore, as in `[device_lamp]`")]
    Empty,
    #[error(
        "the device name {name:?} may not contain {character:?}, because it becomes a level of a topic"
    )]
    Character { name: String, character: char },
}

impl DeviceName {
    /// # Errors
    /// Returns an error when the name is empty or contains `/`, `+`, `#` or a control character.
    pub fn new(name: impl Into<String>) -> Result<Self, DeviceNameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(DeviceNameError::Empty);
        }
        match name.chars().find(|c| matches!(c, '/' | '+' | '#') || c.is_control()) {
            Some(character) => Err(DeviceNameError::Character { name, character }),
            None => Ok(Self { start: 0, end: end_of(&name), text: name.into() }),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text[self.start as usize..self.end as usize]
    }

    /// The same names as parts of one string.
    #[must_use]
    pub fn side_by_side<'a>(names: impl Iterator<Item = &'a Self> + Clone) -> Vec<Self> {
        let all: Arc<str> = names.clone().map(Self::as_str).collect::<String>().into();
        let mut end = 0;
        names
            .map(|name| {
                let start = end;
                end += end_of(name.as_str());
                Self { text: Arc::clone(&all), start, end }
            })
            .collect()
    }
}

/// The end of a string. All names together are a part of a file, whose length is bounded.
fn end_of(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

impl PartialEq for DeviceName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for DeviceName {}

impl PartialOrd for DeviceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DeviceName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for DeviceName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceNameError;
    fn try_from(name: String) -> Result<Self, DeviceNameError> {
        Self::new(name)
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.as_str().to_owned()
    }
}
