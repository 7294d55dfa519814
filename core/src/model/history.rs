//! The records of the past, which outlive the process: episodes, contacts an hour, and restarts.
//!
//! Episodes are the only source of every figure about uptime: what was down, disabled or not heard
//! is never counted a second time elsewhere. All times are on the wall clock, and days are those of
//! UTC, each of which has 24 hours, whatever the time zone of the machine and its summer time.

pub mod alert_record;
pub mod bars;
pub mod figures;
pub mod hours;
pub mod report;
pub mod uptime;

use super::alert::Reason;
use super::device_name::DeviceName;
use super::time::ClockStep;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The length of a day and of an hour in seconds.
pub const DAY: u64 = 86_400;
pub const HOUR: u64 = 3_600;

/// The kinds of episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpisodeKind {
    /// A device was expired.
    Alarm,
    /// The part of an alarm in which another device was the cause.
    Upstream,
    /// systemd could not keep an agent's process up.
    AgentFailed,
    /// A device was disabled, or was not in the configuration.
    Disabled,
    /// The broker could not be reached, so no device could be heard.
    BrokerLost,
    /// The monitor did not run, had not yet connected, or its machine was suspended.
    NotRunning,
}

impl EpisodeKind {
    /// Whether no device could be heard.
    #[must_use]
    pub const fn is_unwatched(self) -> bool {
        matches!(self, Self::BrokerLost | Self::NotRunning)
    }

    /// Whether it counts as an incident of a device.
    #[must_use]
    pub const fn is_incident(self) -> bool {
        matches!(self, Self::Alarm | Self::AgentFailed)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Upstream => "upstream",
            Self::AgentFailed => "agent-failed",
            Self::Disabled => "disabled",
            Self::BrokerLost => "broker-lost",
            Self::NotRunning => "not-running",
        }
    }
}

/// What ended an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The device was heard.
    Contact,
    /// The device reported that it is present, or the monitor heard the broker again.
    Back,
    /// The agent has run for a while.
    Healthy,
    /// A person disabled the device.
    Disabled,
    /// The device is monitored again.
    Enabled,
    /// The device left the configuration.
    Removed,
    /// It ended while the monitor did not run.
    Unseen,
}

impl Ending {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Back => "back",
            Self::Healthy => "healthy",
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Removed => "removed",
            Self::Unseen => "unseen",
        }
    }
}

/// A stretch of time in which something about a device, or about the monitor, was not as it should
/// be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeRecord {
    /// Distinguishes it from all others of this monitor, and grows with each.
    pub id: u64,
    /// `None` where it concerns the monitor as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    pub kind: EpisodeKind,
    /// The reason of an alarm, as it was known last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(with = "millis")]
    pub begin: Duration,
    /// `None` while it lasts.
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub end: Option<Duration>,
    /// The last contact before it.
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<Ending>,
}

impl EpisodeRecord {
    /// The time that it has taken until now.
    #[must_use]
    pub fn length(&self, now: Duration) -> Duration {
        self.end.unwrap_or(now).saturating_sub(self.begin)
    }
}

/// The contacts of a device since they were last collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContactTally {
    pub contacts: u32,
    /// The longest silence that one of them has ended, in seconds.
    pub longest_silence: u32,
}

impl ContactTally {
    /// Counts a contact after a silence of this many seconds.
    pub fn count(&mut self, silence: u64) {
        self.contacts = self.contacts.saturating_add(1);
        self.longest_silence = self.longest_silence.max(u32::try_from(silence).unwrap_or(u32::MAX));
    }

    /// Adds the contacts of a later time.
    pub fn add(&mut self, later: Self) {
        self.contacts = self.contacts.saturating_add(later.contacts);
        self.longest_silence = self.longest_silence.max(later.longest_silence);
    }
}

/// What an agent's processes have used in a stretch of time, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageTally {
    /// The highest memory, in KiB.
    pub memory_kib: Option<u32>,
    /// The processor time, in milliseconds.
    pub cpu_millis: Option<u32>,
}

impl UsageTally {
    /// Adds what was used in another stretch.
    pub fn add(&mut self, other: Self) {
        self.memory_kib = self.memory_kib.max(other.memory_kib);
        self.cpu_millis = match (self.cpu_millis, other.cpu_millis) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Contacts of a device in one hour, and what an agent has used in it, to be added to what is
/// recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourTally {
    pub device: DeviceName,
    /// The number of the hour since the Unix epoch.
    pub hour: u32,
    pub tally: ContactTally,
    /// `None` for a device that is no agent.
    pub usage: Option<UsageTally>,
}

/// What is recorded of a device and a day beside its episodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayTally {
    /// Contacts in each hour; a single sum once the hours are no longer kept.
    pub contacts: Vec<u32>,
    pub longest_silence: u32,
    /// What an agent has used, in as many parts as there are of contacts. Empty for a device that is
    /// no agent.
    pub usage: Vec<UsageTally>,
}

impl DayTally {
    /// Adds what belongs to one hour of the day.
    pub fn add(&mut self, hour_of_day: usize, tally: ContactTally, usage: Option<UsageTally>) {
        if self.contacts.len() != 1 {
            self.contacts.resize(24, 0);
        }
        let place = hour_of_day.min(self.contacts.len() - 1);
        self.contacts[place] = self.contacts[place].saturating_add(tally.contacts);
        self.longest_silence = self.longest_silence.max(tally.longest_silence);
        if let Some(usage) = usage {
            self.usage.resize(self.contacts.len(), UsageTally::default());
            self.usage[place].add(usage);
        }
    }

    /// Keeps the sums alone.
    pub fn forget_hours(&mut self) {
        self.contacts = vec![self.total()];
        if let Some((whole, rest)) = self.usage.split_first_mut() {
            rest.iter().for_each(|usage| whole.add(*usage));
            self.usage.truncate(1);
        }
    }

    #[must_use]
    pub fn total(&self) -> u32 {
        self.contacts.iter().fold(0, |sum, contacts| sum.saturating_add(*contacts))
    }
}

/// A start of an agent's process after an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRecord {
    pub agent: DeviceName,
    #[serde(with = "millis")]
    pub time: Duration,
    /// How the process before it ended, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// The highest memory that the processes before it have used, in bytes, as far as it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
}

/// The part of the records of earlier runs that a run continues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistorySnapshot {
    /// Episodes without an end.
    pub open: Vec<EpisodeRecord>,
    /// When the monitor was last known to run; `None` before its first run with a history.
    pub mark: Option<Duration>,
    pub last_id: u64,
    /// Every device that was ever known and has not been forgotten since.
    pub known: Vec<DeviceName>,
}

/// What is to be recorded in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryBatch {
    /// The time until which the monitor has run.
    pub mark: Duration,
    pub last_id: u64,
    /// Each replaces the record of the same id.
    pub episodes: Vec<EpisodeRecord>,
    pub tallies: Vec<HourTally>,
    pub restarts: Vec<RestartRecord>,
    /// Devices, with the times since which they are known, unless an earlier one is recorded.
    pub known: Vec<(DeviceName, Duration)>,
    /// Steps of the clock that the recorded times of this run's new devices follow.
    pub steps: Vec<ClockStep>,
    /// Devices of which nothing is kept but what this batch says.
    pub forgotten: Vec<DeviceName>,
}

impl HistoryBatch {
    /// The number of records that it changes.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.episodes.len() + self.tallies.len() + self.restarts.len() + self.known.len()
    }
}

/// A day of UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub u32);

impl Date {
    /// The day of a time.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Self(u32::try_from(time.as_secs() / DAY).unwrap_or(u32::MAX))
    }

    /// The time at which it begins.
    #[must_use]
    pub fn begin(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * DAY)
    }

    /// Year, month and day of the month in the Gregorian calendar.
    #[must_use]
    pub fn civil(self) -> (u32, u32, u32) {
        // The calendar repeats itself every 400 years. Counted from the first of March of a year
        // that ends them, leap days are always the last day of a year.
        let shifted = self.0.saturating_add(719_468);
        let (cycle, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (cycle * 400 + year + u32::from(month <= 2), month, day_of_month)
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The number of the hour of a time since the Unix epoch.
#[must_use]
pub fn hour_of(time: Duration) -> u32 {
    u32::try_from(time.as_secs() / HOUR).unwrap_or(u32::MAX)
}

/// Times as milliseconds, which is short and keeps their order.
mod millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

mod optional_millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar_over_leap_days() {
        let date_of = |seconds| Date::of(Duration::from_secs(seconds)).to_string();
        assert_eq!(date_of(0), "1970-01-01");
        assert_eq!(date_of(951_782_400), "2000-02-29");
        assert_eq!(date_of(951_868_800), "2000-03-01");
        assert_eq!(date_of(1_709_164_800), "2024-02-29");
        assert_eq!(date_of(1_735_689_599), "2024-12-31");
        assert_eq!(date_of(1_798_761_600), "2027-01-01");
        assert_eq!(date_of(4_107_542_400), "2100-03-01", "2100 has no leap day");
    }

    #[test]
    fn each_day_is_the_one_after_the_day_before() {
        let days_of = |year: u32, month: u32| match month {
            2 if year.is_multiple_of(4)
                && (!year.is_multiple_of(100) || year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (1970, 1, 1);
        for number in 0..100_000 {
            assert_eq!(Date(number).civil(), expected);
            let (year, month, day) = expected;
            expected = match (day < days_of(year, month), month < 12) {
                (true, _) => (year, month, day + 1),
                (false, true) => (year, month + 1, 1),
                (false, false) => (year + 1, 1, 1),
            };
        }
    }

    #[test]
    fn an_episode_is_recorded_to_the_millisecond_and_in_few_bytes() {
        let episode = EpisodeRecord {
            id: 7,
            device: Some(DeviceName::new("lamp").unwrap()),
            kind: EpisodeKind::Alarm,
            reason: Some(Reason::Silent),
            begin: Duration::from_millis(1_700_000_000_123),
            end: None,
            last_contact: Some(Duration::from_millis(1_699_999_000_000)),
            ended_by: None,
        };
        let text = serde_json::to_string(&episode).unwrap();
        assert_eq!(
            text,
            r#"{"id":7,"device":"lamp","kind":"alarm","reason":"silent","begin":1700000000123,"last_contact":1699999000000}"#
        );
        assert_eq!(serde_json::from_str::<EpisodeRecord>(&text).unwrap(), episode);
    }

    #[test]
    fn hours_of_a_day_become_one_sum() {
        let mut day = DayTally::default();
        let contacts = |contacts, longest_silence| ContactTally { contacts, longest_silence };
        day.add(0, contacts(2, 5), None);
        day.add(23, contacts(3, 4), None);
        assert_eq!((day.contacts.len(), day.contacts[23], day.longest_silence), (24, 3, 5));
        day.forget_hours();
        day.add(7, contacts(u32::MAX, 0), None);
        let expected = DayTally { contacts: vec![u32::MAX], longest_silence: 5, usage: vec![] };
        assert_eq!(day, expected);
    }

    #[test]
    fn of_an_agents_hours_the_highest_memory_and_the_sum_of_the_cpu_time_stay() {
        let used = |memory_kib, cpu_millis| UsageTally { memory_kib, cpu_millis };
        let mut day = DayTally::default();
        day.add(3, ContactTally::default(), Some(used(None, Some(40))));
        day.add(3, ContactTally::default(), Some(used(Some(900), Some(2))));
        day.add(4, ContactTally::default(), Some(used(Some(700), None)));
        assert_eq!(
            day.usage[3..6],
            [used(Some(900), Some(42)), used(Some(700), None), used(None, None)]
        );
        day.forget_hours();
        assert_eq!(day.usage, [used(Some(900), Some(42))]);
        day.add(5, ContactTally::default(), Some(used(Some(1_000), Some(u32::MAX))));
        assert_eq!(day.usage, [used(Some(1_000), Some(u32::MAX))]);
    }
}
