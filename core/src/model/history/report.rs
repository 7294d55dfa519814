//! What is shown of the past of a device, in the form in which programs receive it.
//!
//! Times are Unix seconds and lengths are seconds, as in the published status. Days are those of
//! UTC, unless the caller says where days begin.

use super::uptime::{DeviceHistory, Span, TimeAccount, WINDOWS};
use super::{DAY, Date, EpisodeRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The past of one device, or of what was asked of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    pub name: String,
    /// Since when it is known, or its records are complete.
    pub since: Option<u64>,
    /// From 0 to 1, by window; null where no time counts.
    pub uptime: BTreeMap<String, Option<f64>>,
    pub incidents: Vec<IncidentReport>,
    pub days: Vec<DayReport>,
    pub restarts: Vec<RestartReport>,
    /// When the monitor could not hear any device.
    pub unwatched: Vec<IncidentReport>,
}

/// One episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentReport {
    pub kind: String,
    pub reason: Option<String>,
    pub begin: u64,
    /// Null while it lasts.
    pub end: Option<u64>,
    pub seconds: f64,
    pub ended_by: Option<String>,
    pub last_contact: Option<u64>,
}

/// One incident, among those of several devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceIncident {
    pub device: String,
    #[serde(flatten)]
    pub incident: IncidentReport,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayReport {
    /// The date of UTC; absent where the caller has chosen other stretches than days of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    pub begin: u64,
    /// The part of the day in which the device was known.
    pub seconds: u64,
    pub uptime: Option<f64>,
    pub alarm: u64,
    /// The part of the alarm in which another device was the cause.
    pub upstream: u64,
    pub unwatched: u64,
    pub disabled: u64,
    pub contacts: u32,
    /// By the hour of UTC; empty for days of which only the sum is kept, and for other stretches.
    pub hours: Vec<u32>,
    /// Absent for other stretches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_silence: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartReport {
    pub time: u64,
    pub exit: Option<String>,
    /// The highest memory that the processes before it have used, in bytes; null where it is not
    /// known.
    pub memory_peak: Option<u64>,
}

impl DeviceReport {
    /// Reports the last stretch of this length.
    #[must_use]
    pub fn of(name: &str, history: &DeviceHistory, length: Duration, now: Duration) -> Self {
        let begin = history.window(length, now).begin;
        let days = u32::try_from(length.as_secs().div_ceil(DAY)).unwrap_or(u32::MAX);
        let days = days.min(Date::of(now).0.saturating_sub(Date::of(begin).0) + 1);
        let days = history.last_days(days, now).iter().map(DayReport::of).collect();
        Self { days, ..Self::without_days(name, history, length, now) }
    }

    /// The same with days that begin at these times.
    #[must_use]
    pub fn with_days_between(
        boundaries: &[Duration],
        name: &str,
        history: &DeviceHistory,
        (length, now): (Duration, Duration),
    ) -> Self {
        let accounts = history.between(boundaries, now);
        let days = boundaries
            .iter()
            .zip(accounts)
            .zip(history.contacts_between(boundaries))
            .map(|((begin, account), contacts)| DayReport::between(*begin, &account, contacts));
        Self { days: days.collect(), ..Self::without_days(name, history, length, now) }
    }

    fn without_days(name: &str, history: &DeviceHistory, length: Duration, now: Duration) -> Self {
        let window = history.window(length, now);
        let uptime = WINDOWS
            .map(|(title, length)| (title.to_owned(), history.account(length, now).uptime()));
        let asked = Span { begin: now.saturating_sub(length), end: now };
        let unwatched = history.episodes.iter().filter(|it| it.kind.is_unwatched());
        let unwatched = unwatched.filter(|it| it.end.is_none_or(|end| end >= asked.begin));
        Self {
            name: name.to_owned(),
            since: history.since.map(|since| since.as_secs()),
            uptime: uptime.into_iter().collect(),
            incidents: history.incidents(window).map(|it| IncidentReport::of(it, now)).collect(),
            days: Vec::new(),
            restarts: history
                .restarts
                .iter()
                .filter(|restart| restart.time >= window.begin)
                .map(|restart| RestartReport {
                    time: restart.time.as_secs(),
                    exit: restart.exit.clone(),
                    memory_peak: restart.memory_peak,
                })
                .collect(),
            unwatched: unwatched.map(|it| IncidentReport::of(it, now)).collect(),
        }
    }

    /// The report in a line of JSON.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl DeviceIncident {
    /// The report of an incident of a device; `None` for an episode of the monitor.
    #[must_use]
    pub fn of(episode: &EpisodeRecord, now: Duration) -> Option<Self> {
        let device = episode.device.as_ref()?.to_string();
        Some(Self { device, incident: IncidentReport::of(episode, now) })
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl IncidentReport {
    fn of(episode: &EpisodeRecord, now: Duration) -> Self {
        Self {
            kind: episode.kind.as_str().to_owned(),
            reason: episode.reason.map(|reason| reason.as_str().to_owned()),
            begin: episode.begin.as_secs(),
            end: episode.end.map(|end| end.as_secs()),
            seconds: episode.length(now).as_secs_f64(),
            ended_by: episode.ended_by.map(|by| by.as_str().to_owned()),
            last_contact: episode.last_contact.map(|contact| contact.as_secs()),
        }
    }
}

impl DayReport {
    fn of(day: &super::uptime::Day) -> Self {
        let hours = &day.tally.contacts;
        Self {
            date: Some(day.date.to_string()),
            hours: if hours.len() > 1 { hours.clone() } else { Vec::new() },
            longest_silence: Some(day.tally.longest_silence),
            ..Self::between(day.date.begin(), &day.account, day.tally.total())
        }
    }

    fn between(begin: Duration, account: &TimeAccount, contacts: u32) -> Self {
        let TimeAccount { window, disabled, unwatched, alarm, upstream } = *account;
        Self {
            date: None,
            begin: begin.as_secs(),
            seconds: window.as_secs(),
            uptime: account.uptime(),
            alarm: alarm.as_secs(),
            upstream: upstream.as_secs(),
            unwatched: unwatched.as_secs(),
            disabled: disabled.as_secs(),
            contacts,
            hours: Vec::new(),
            longest_silence: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DayTally, Ending, EpisodeKind, RestartRecord};
    use super::*;
    use crate::model::alert::Reason;
    use crate::model::device_name::DeviceName;

    const T: fn(u64) -> Duration = Duration::from_secs;
    const NOW: u64 = 951_782_400 + 43_200;

    #[test]
    fn a_report_says_all_that_is_recorded_of_the_window() {
        let name = DeviceName::new("lamp").unwrap();
        let episode = |kind, begin: u64, end: Option<u64>| EpisodeRecord {
            id: begin,
            device: Some(name.clone()),
            kind,
            reason: None,
            begin: T(begin),
            end: end.map(T),
            last_contact: None,
            ended_by: None,
        };
        let mut alarm = episode(EpisodeKind::Alarm, NOW - 3_600, Some(NOW - 1_800));
        (alarm.reason, alarm.ended_by) = (Some(Reason::Silent), Some(Ending::Contact));
        let mut day = DayTally { contacts: vec![0; 24], longest_silence: 9, usage: vec![] };
        day.contacts[3] = 5;
        let history = DeviceHistory {
            since: Some(T(NOW - 2 * DAY)),
            episodes: vec![
                episode(EpisodeKind::Alarm, NOW - 5 * DAY, Some(NOW - 4 * DAY)),
                episode(EpisodeKind::NotRunning, NOW - 7_200, Some(NOW - 5_400)),
                alarm,
            ],
            days: vec![(Date::of(T(NOW)), day)],
            restarts: vec![RestartRecord {
                agent: name.clone(),
                time: T(NOW - 60),
                exit: None,
                memory_peak: Some(4_096),
            }],
        };
        let report = DeviceReport::of("lamp", &history, T(30 * DAY), T(NOW));
        assert_eq!(report.uptime["24h"], Some(1.0 - 1_800.0 / 84_600.0));
        assert_eq!(report.uptime["90d"], Some(1.0 - 1_800.0 / 171_000.0));
        assert_eq!(report.incidents.len(), 1, "the other one was before it was known");
        let incident = &report.incidents[0];
        assert_eq!((incident.reason.as_deref(), incident.seconds), (Some("silent"), 1_800.0));
        assert_eq!(
            (incident.ended_by.as_deref(), incident.end),
            (Some("contact"), Some(NOW - 1_800))
        );
        assert_eq!((report.unwatched.len(), report.restarts.len()), (1, 1));
        assert_eq!(report.restarts[0].memory_peak, Some(4_096));
        let dates: Vec<_> = report.days.iter().filter_map(|day| day.date.as_deref()).collect();
        assert_eq!(dates, ["2000-02-27", "2000-02-28", "2000-02-29"], "it is known for three days");
        // Where the caller's days begin at other times, the same records are divided otherwise.
        let boundaries = [NOW - 3 * DAY, NOW - 2_700, NOW + DAY].map(T);
        let parts =
            DeviceReport::with_days_between(&boundaries, "lamp", &history, (T(30 * DAY), T(NOW)));
        let parts: Vec<_> = parts.days.iter().map(|it| (it.begin, it.seconds, it.alarm)).collect();
        assert_eq!(parts, [(NOW - 3 * DAY, 2 * DAY - 2_700, 900), (NOW - 2_700, 2_700, 900)]);
        let today = &report.days[2];
        assert_eq!((today.alarm, today.unwatched, today.contacts), (1_800, 1_800, 5));
        let parsed = DeviceReport::from_json(&report.to_json()).unwrap();
        assert_eq!(parsed.incidents, report.incidents);
        assert_eq!((parsed.since, parsed.restarts), (report.since, report.restarts));
        assert_eq!(parsed.days.len(), 3);
    }
}
