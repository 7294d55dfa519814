//! What is shown of the hours of a device, in the form in which programs receive it.

use super::uptime::DeviceHistory;
use super::{Date, HOUR, UsageTally, hour_of};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The days of which hours are kept. Of earlier ones there are only sums.
pub const HOURS_KEPT: u64 = 90;

/// The last hours of a device. Each list has an item for each of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HoursReport {
    /// The beginning of the first hour, in Unix seconds.
    pub begin: u64,
    pub contacts: Vec<u32>,
    /// The highest memory of an agent, in bytes; null where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Vec<Option<u64>>>,
    /// The processor time of an agent, in seconds; null where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Vec<Option<f64>>>,
}

impl HoursReport {
    /// Reports the hours of the last stretch of this length up to the present one, from no earlier
    /// than the device is known and hours are kept.
    #[must_use]
    pub fn of(history: &DeviceHistory, length: Duration, now: Duration) -> Self {
        let kept = Date(Date::of(now).0.saturating_sub(u32::try_from(HOURS_KEPT).unwrap_or(0)));
        let begin = history.window(length, now).begin.max(kept.begin());
        let (first, last) = (hour_of(begin), hour_of(now));
        let mut report = Self { begin: u64::from(first) * HOUR, ..Self::default() };
        let is_agent = history.days.iter().any(|(_, day)| !day.usage.is_empty());
        let mut usage = Vec::new();
        for hour in first..=last {
            let place = history.days.binary_search_by_key(&Date(hour / 24), |(date, _)| *date);
            let day = place.ok().and_then(|place| history.days.get(place)).map(|(_, day)| day);
            let day = day.filter(|day| day.contacts.len() > 1);
            let of_day = usize::try_from(hour % 24).unwrap_or(0);
            let contacts = day.and_then(|day| day.contacts.get(of_day));
            report.contacts.push(contacts.copied().unwrap_or(0));
            usage.push(day.and_then(|day| day.usage.get(of_day)).copied().unwrap_or_default());
        }
        if is_agent {
            let bytes = |used: &UsageTally| used.memory_kib.map(|kib| u64::from(kib) * 1_024);
            let seconds = |used: &UsageTally| used.cpu_millis.map(|it| f64::from(it) / 1_000.0);
            report.memory = Some(usage.iter().map(bytes).collect());
            report.cpu = Some(usage.iter().map(seconds).collect());
        }
        report
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Numbers always serialize.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ContactTally, DAY, DayTally};
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;
    /// Half past noon on a day of UTC.
    const NOW: u64 = 951_782_400 + 45_000;

    fn history(usage: Option<UsageTally>) -> DeviceHistory {
        let day = |hour| {
            let mut day = DayTally::default();
            day.add(hour, ContactTally { contacts: 5, longest_silence: 9 }, usage);
            day
        };
        let today = Date::of(T(NOW));
        let mut sums = day(23);
        sums.forget_hours();
        DeviceHistory {
            since: Some(T(NOW - 100 * DAY)),
            days: vec![(Date(today.0 - 95), sums), (Date(today.0 - 1), day(23)), (today, day(12))],
            ..DeviceHistory::default()
        }
    }

    #[test]
    fn hours_are_those_of_utc_up_to_the_present_one() {
        let report = HoursReport::of(&history(None), T(DAY), T(NOW));
        assert_eq!((report.begin % HOUR, report.contacts.len()), (0, 25));
        assert_eq!(report.begin, NOW - DAY - HOUR / 2);
        let heard = |report: &HoursReport| -> Vec<usize> {
            (0..report.contacts.len()).filter(|place| report.contacts[*place] > 0).collect()
        };
        assert_eq!(heard(&report), [11, 24]);
        assert_eq!(
            HoursReport::of(&history(None), T(600), T(NOW)).to_json(),
            r#"{"begin":951825600,"contacts":[5]}"#,
            "of a device there is no memory"
        );
    }

    #[test]
    fn of_an_agent_there_are_memory_and_cpu_time_where_they_are_known() {
        let usage = UsageTally { memory_kib: Some(2), cpu_millis: Some(1_500) };
        let report = HoursReport::of(&history(Some(usage)), T(HOUR), T(NOW));
        assert_eq!(report.memory, Some(vec![None, Some(2_048)]));
        assert_eq!(report.cpu, Some(vec![None, Some(1.5)]));
    }

    #[test]
    fn there_are_as_many_hours_as_are_kept_and_the_device_is_known() {
        let report = HoursReport::of(&history(None), T(400 * DAY), T(NOW));
        assert_eq!(report.contacts.len(), usize::try_from(HOURS_KEPT).unwrap() * 24 + 13);
        let new = DeviceHistory { since: Some(T(NOW - 3 * HOUR)), ..history(None) };
        assert_eq!(HoursReport::of(&new, T(400 * DAY), T(NOW)).contacts.len(), 4);
        let unknown = DeviceHistory::default();
        assert_eq!(HoursReport::of(&unknown, T(DAY), T(NOW)).contacts, [0]);
    }
}
