//! Times and days of a time zone, as people see them on their machine.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// The time zone of a machine.
#[derive(Debug, Clone)]
pub(super) struct LocalTime(TimeZone);

impl LocalTime {
    /// The zone that TZ names (tzset(3)), or else that of /etc/localtime; UTC without either.
    pub fn of_this_machine() -> Self {
        Self(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// A zone by its rules, which needs no database.
    #[cfg(test)]
    pub fn by_rules(rules: &str) -> Self {
        Self(TimeZone::posix(rules).unwrap())
    }

    /// A time with the zone's abbreviation, which distinguishes the two hours of the same name when
    /// summer time ends.
    pub fn show(&self, seconds: u64) -> String {
        self.at(seconds)
            .to_zoned_datetime(self.0.clone())
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string()
    }

    /// The beginnings of the last days of the zone up to today, and of tomorrow.
    pub fn last_days(&self, count: u64, now: u64) -> Vec<u64> {
        let today = self.at(now).to_zoned_datetime(self.0.clone()).date();
        let begin_of = |days_back: i64| {
            let date = today.checked_sub(days_back.days()).ok()?;
            let begin = date.to_zoned_datetime(self.0.clone()).ok()?.start_of_day().ok()?;
            u64::try_from(begin.timestamp().as_second()).ok()
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut beginnings: Vec<u64> = (-1..count).rev().filter_map(begin_of).collect();
        // A zone that changed sides of the date line has left out a day.
        beginnings.dedup();
        beginnings
    }

    /// Beyond the year 9999 there is no other time.
    fn at(&self, seconds: u64) -> Timestamp {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;

    fn vienna() -> LocalTime {
        LocalTime::by_rules("CET-1CEST,M3.5.0,M10.5.0/3")
    }

    fn lengths(beginnings: &[u64]) -> Vec<u64> {
        beginnings.windows(2).map(|ends| (ends[1] - ends[0]) / HOUR).collect()
    }

    #[test]
    fn days_have_23_and_25_hours_when_summer_time_begins_and_ends() {
        // 2026-03-30 12:00 CEST and 2026-10-26 12:00 CET.
        let (spring, autumn) = (1_774_864_800, 1_793_012_400);
        assert_eq!(lengths(&vienna().last_days(4, spring)), [24, 24, 23, 24]);
        assert_eq!(lengths(&vienna().last_days(4, autumn)), [24, 24, 25, 24]);
        let days = vienna().last_days(2, spring);
        assert_eq!(vienna().show(days[0]), "2026-03-29 00:00:00 CET");
        assert_eq!(vienna().show(days[1]), "2026-03-30 00:00:00 CEST");
    }

    #[test]
    fn the_two_hours_of_the_same_name_are_told_apart() {
        // 2026-10-25 00:30 and 01:30 UTC.
        assert_eq!(vienna().show(1_792_888_200), "2026-10-25 02:30:00 CEST");
        assert_eq!(vienna().show(1_792_888_200 + HOUR), "2026-10-25 02:30:00 CET");
    }

    #[test]
    fn a_zone_with_an_offset_of_30_minutes_has_its_own_midnight() {
        let kolkata = LocalTime::by_rules("IST-5:30");
        // 2000-02-29 18:29:59 UTC is the last second of the leap day there.
        assert_eq!(kolkata.show(951_848_999), "2000-02-29 23:59:59 IST");
        let days = kolkata.last_days(2, 951_848_999);
        assert_eq!(lengths(&days), [24, 24]);
        assert_eq!(days[2], 951_849_000);
    }

    #[test]
    fn a_clock_that_is_beyond_all_dates_is_shown_as_the_last_one() {
        assert!(vienna().show(u64::MAX).starts_with("9999-12-"));
        vienna().last_days(3, u64::MAX);
        assert_eq!(vienna().last_days(2, 0), [23 * HOUR], "nothing was before 1970");
    }
}
