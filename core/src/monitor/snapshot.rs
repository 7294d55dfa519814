//! What outlives the process: the part of the monitor's knowledge that the store keeps.

use super::episode::{Reason, Telling};
use super::identity::IdentityRecord;
use super::rhythm::Rhythm;
use super::spec::DeviceName;
use crate::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the store held when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub heartbeat: Heartbeat,
    pub devices: Vec<DeviceRecord>,
    /// Filters that the persistent session may still be subscribed to.
    pub session_filters: Vec<TopicFilter>,
    /// `None` of a store that was last used by a version before 0.4.0, which kept none.
    pub identity: Option<IdentityRecord>,
}

/// How far the watched time has come; saved with every batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Watched time in total over all runs: time in which the monitor could have heard a device.
    pub watched: Duration,
}

/// What is known of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    pub name: DeviceName,
    /// Wall clock of the last contact since the Unix epoch; `None` if there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Duration>,
    /// Watched time at which the silence began: at the last contact, or at the (re)start.
    pub silent_since: Duration,
    /// Wall clock of the expiry; `None` when not expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_since: Option<Duration>,
    /// What the expiry was put down to.
    #[serde(default)]
    pub cause: Reason,
    /// Its alert is not out, since something that it depends on was down or may have been.
    #[serde(default)]
    pub untold: bool,
    /// Graces granted since the last contact.
    pub graces: u8,
    /// A person's choice, which wins over the file's `enabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Invocation of an agent's unit that was last seen to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Prefix of the topic that holds its description for Home Assistant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
    /// It last said of itself that it is gone.
    #[serde(default)]
    pub offline: bool,
    /// How long it is silent between its contacts.
    #[serde(default, skip_serializing_if = "Rhythm::is_empty")]
    pub rhythm: Rhythm,
}

impl DeviceRecord {
    /// Where the alert of its expiry was.
    #[must_use]
    pub fn telling(&self) -> Telling {
        if self.untold { Telling::Upstream } else { Telling::Told }
    }
}
