//! The part of the monitor's knowledge that outlives the process, which the store keeps.

use super::alert::Reason;
use super::device_name::DeviceName;
use super::identity::IdentityRecord;
use crate::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The contents of the store when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub heartbeat: Heartbeat,
    pub devices: Vec<DeviceRecord>,
    /// Filters that the persistent session may still be subscribed to.
    pub session_filters: Vec<TopicFilter>,
    /// `None` for a store that was last used by a version before 0.4.0, which kept none.
    pub identity: Option<IdentityRecord>,
}

/// The part that is saved with every batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Watched time in total over all runs: time in which the monitor could have heard a device.
    pub watched: Duration,
    #[serde(default, skip_serializing_if = "AlertsRecord::is_empty")]
    pub alerts: AlertsRecord,
    /// Learning fleets that were reported to be full, and not yet to have room again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full_fleets: Vec<DeviceName>,
}

/// The state of undelivered notifications, except those about a device, which are in its own
/// record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertsRecord {
    /// Matters that concern no device and are undelivered, or delivered and not over.
    #[serde(default)]
    pub unheard: Vec<UnheardRecord>,
    /// Templates whose units fail, and for how long.
    #[serde(default)]
    pub failing: Vec<(String, Duration)>,
    #[serde(default)]
    pub mutes: Vec<MuteRecord>,
}

/// The rest of a silence, at a time of the boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteRecord {
    /// `None` means everything.
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

/// The state of one matter that people are notified of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnheardRecord {
    /// The kind of alert that begins the matter (see `AlertKind::event`).
    pub matter: String,
    /// People have been notified of its beginning, and not of its end.
    #[serde(default, rename = "told")]
    pub notified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<NewsRecord>,
}

/// An undelivered alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsRecord {
    pub event: String,
    /// Wall clock of the alert since the Unix epoch.
    pub time: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub message: String,
}

/// The record of one device.
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
    /// The reason of the expiry.
    #[serde(default)]
    pub cause: Reason,
    /// Its alert has not been sent, because one of its dependencies was down or may have been.
    #[serde(default, rename = "untold")]
    pub unsent: bool,
    /// Graces granted since the last contact.
    pub graces: u8,
    /// A person's choice, which takes precedence over the file's `enabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The remaining time of that choice, where it is not permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseRecord>,
    /// The invocation of an agent's unit whose start was observed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// The prefix of the topic that contains its description for Home Assistant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
    /// Its last own report was that it is gone.
    #[serde(default)]
    pub offline: bool,
    /// The state of each of its availability topics, in order.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub availability: Vec<SourceRecord>,
    /// Undelivered notifications about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<UnheardRecord>,
    /// The learned lengths of its silences.
    #[serde(default, skip_serializing_if = "RhythmRecord::is_empty")]
    pub rhythm: RhythmRecord,
    /// The fleet that it was learned by; `None` for a device of the configuration, and for one that
    /// was forgotten and of which no states remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<DeviceName>,
    /// Its recent alarms, and whether it flaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaps: Option<Box<FlapsRecord>>,
    /// Restarts of an agent over all runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// There is no such device: a person took it out of its fleet, and it does not come back by
    /// itself. `silent_since` is when that was.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forgotten: bool,
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
            unsent: false,
            graces: 0,
            enabled: None,
            pause: None,
            unheard: Vec::new(),
            invocation: None,
            announced: None,
            offline: false,
            availability: Vec::new(),
            rhythm: RhythmRecord::default(),
            fleet: None,
            flaps: None,
            restarts: 0,
            forgotten: false,
        }
    }
}

/// The alarms of a device that may flap, on watched time (see [`crate::machines::flapping`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlapsRecord {
    /// Those that count towards the next spell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Duration>,
    /// Present while it flaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spell: Option<SpellRecord>,
}

/// A spell of flapping that has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpellRecord {
    pub begun: Duration,
    pub count: usize,
    pub last_change: Duration,
    /// The present alarm is one of it, and has no alert of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub holds_alert: bool,
}

/// The state of one of its availability topics (see [`crate::machines::availability`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The last report; `None` before any, and after a contact that contradicts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<bool>,
    /// The broker may still retain that the device is gone, although it spoke after that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_belied: bool,
    /// The broker retains birth messages, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retains_births: bool,
    /// The number of Sparkplug's last birth certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth: Option<u64>,
}

fn says_nothing(sources: &[SourceRecord]) -> bool {
    sources.iter().all(|source| *source == SourceRecord::default())
}

/// Serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The rest of a pause, at a time of the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    pub left: Duration,
    pub at: Duration,
    /// A person had enabled the device against its section, which applies again afterwards.
    #[serde(default)]
    pub enabled_before: bool,
}

/// The learned silences of a device (see [`crate::machines::silence::rhythm`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StoredRhythm", from = "StoredRhythm")]
pub struct RhythmRecord {
    /// Silences of 1 s to 2 s, to 4 s, to 8 s, …; the last takes all from nine hours on.
    pub counts: [u8; 16],
    /// The longest in the present period and in the previous one, in milliseconds.
    pub longest: u32,
    pub longest_before: u32,
    /// The watched time at which the present period began, in seconds starting at 1; 0 before the
    /// first silence.
    pub turn: u32,
    pub intervals: u32,
}

/// The form in which the store keeps it, in few bytes.
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
