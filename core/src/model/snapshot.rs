//! What outlives the process: the part of the monitor's knowledge that the store keeps.

use super::alert::Reason;
use super::device_name::DeviceName;
use super::identity::IdentityRecord;
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

/// What is saved with every batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Watched time in total over all runs: time in which the monitor could have heard a device.
    pub watched: Duration,
    #[serde(default, skip_serializing_if = "AlertsRecord::is_empty")]
    pub alerts: AlertsRecord,
}

/// What is known of alerts on their way to people, but of those about a device, which are in its own
/// record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertsRecord {
    /// What concerns no device and is not told yet, or has been told and is not over.
    #[serde(default)]
    pub unheard: Vec<UnheardRecord>,
    /// Templates whose units fail, and for how long.
    #[serde(default)]
    pub failing: Vec<(String, Duration)>,
    #[serde(default)]
    pub mutes: Vec<MuteRecord>,
}

/// What was left of a time in which nobody is told of something, at a time of the boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteRecord {
    /// `None` stands for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    pub left: Duration,
    pub at: Duration,
}

impl AlertsRecord {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known of one matter that a person is to hear about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnheardRecord {
    /// The kind of alert that begins the matter (see `AlertKind::event`).
    pub matter: String,
    /// A person has heard that it has begun, and not that it is over.
    #[serde(default)]
    pub told: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<NewsRecord>,
}

/// An alert that is not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsRecord {
    pub event: String,
    /// Wall clock of the alert since the Unix epoch.
    pub time: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub message: String,
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
    /// How long that choice has still to hold, where it does not for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseRecord>,
    /// Invocation of an agent's unit that was last seen to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Prefix of the topic that holds its description for Home Assistant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
    /// It last said of itself that it is gone.
    #[serde(default)]
    pub offline: bool,
    /// What is known from each of its availability topics, in their order.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub availability: Vec<SourceRecord>,
    /// What a person is still to hear about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<UnheardRecord>,
    /// How long it is silent between its contacts.
    #[serde(default, skip_serializing_if = "RhythmRecord::is_empty")]
    pub rhythm: RhythmRecord,
}

impl DeviceRecord {
    /// A device of which nothing is known.
    #[must_use]
    pub fn new(name: DeviceName) -> Self {
        Self {
            name,
            last_contact: None,
            silent_since: Duration::ZERO,
            expired_since: None,
            cause: Reason::default(),
            untold: false,
            graces: 0,
            enabled: None,
            pause: None,
            unheard: Vec::new(),
            invocation: None,
            announced: None,
            offline: false,
            availability: Vec::new(),
            rhythm: RhythmRecord::default(),
        }
    }
}

/// What is known from one of its availability topics (see [`crate::machines::availability`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The last word; `None` before any, and after a contact that belies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<bool>,
    /// The broker may still retain that the device is gone, though it spoke after that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_belied: bool,
    /// The broker retains birth messages, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retains_births: bool,
    /// Of Sparkplug's last birth certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth: Option<u64>,
}

fn says_nothing(sources: &[SourceRecord]) -> bool {
    sources.iter().all(|source| *source == SourceRecord::default())
}

/// Serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What was left of a pause, at a time of the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    pub left: Duration,
    pub at: Duration,
    /// A person had taken the device into the monitoring against its section, which holds again
    /// afterwards.
    #[serde(default)]
    pub enabled_before: bool,
}

/// What is learned of a device's silences (see [`crate::machines::silence::rhythm`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StoredRhythm", from = "StoredRhythm")]
pub struct RhythmRecord {
    /// Silences of 1 s to 2 s, to 4 s, to 8 s, …; the last takes all from nine hours on.
    pub counts: [u8; 16],
    /// The longest in this turn and in the one before, in milliseconds.
    pub longest: u32,
    pub longest_before: u32,
    /// Watched time at which this turn began, in seconds from 1 on; 0 before the first silence.
    pub turn: u32,
    pub intervals: u32,
}

/// As the store keeps it, in few bytes.
type StoredRhythm = (u32, u32, u32, u32, [u8; 16]);

impl RhythmRecord {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<RhythmRecord> for StoredRhythm {
    fn from(rhythm: RhythmRecord) -> Self {
        let RhythmRecord { counts, longest, longest_before, turn, intervals } = rhythm;
        (longest, longest_before, turn, intervals, counts)
    }
}

impl From<StoredRhythm> for RhythmRecord {
    fn from((longest, longest_before, turn, intervals, counts): StoredRhythm) -> Self {
        Self { counts, longest, longest_before, turn, intervals }
    }
}
