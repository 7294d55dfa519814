//! Uptime, computed from episodes.
//!
//! Each moment of a window counts once: as disabled, else as unwatched, else as alarm, else as up.
//! Uptime is the share of the alarm in the time that remains without what was disabled or
//! unwatched, taken from 1.

use super::{Date, DayTally, EpisodeKind, EpisodeRecord, RestartRecord};
use std::time::Duration;

/// The windows for which people ask.
pub const WINDOWS: [(&str, Duration); 4] =
    [("24h", days(1)), ("7d", days(7)), ("30d", days(30)), ("90d", days(90))];

/// The place in [`WINDOWS`] of the window for which one figure stands.
pub const USUAL_WINDOW: usize = 2;

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * super::DAY)
}

/// From `begin` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub begin: Duration,
    pub end: Duration,
}

impl Span {
    #[must_use]
    pub fn length(self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    /// The part of an episode in it. One that has not ended lasts until the end.
    fn part_of(self, episode: &EpisodeRecord) -> Option<Span> {
        let begin = episode.begin.max(self.begin);
        let end = episode.end.unwrap_or(self.end).min(self.end);
        (begin < end).then_some(Span { begin, end })
    }
}

/// How the time of a window was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeAccount {
    pub window: Duration,
    pub disabled: Duration,
    pub unwatched: Duration,
    pub alarm: Duration,
    /// The part of the alarm in which another device was the cause.
    pub upstream: Duration,
}

/// The number of running episodes of each class at a moment.
#[derive(Default)]
struct Running {
    disabled: usize,
    unwatched: usize,
    alarm: usize,
    failed: usize,
    upstream: usize,
}

impl Running {
    fn of(&mut self, kind: EpisodeKind) -> &mut usize {
        match kind {
            EpisodeKind::Disabled => &mut self.disabled,
            EpisodeKind::BrokerLost | EpisodeKind::NotRunning => &mut self.unwatched,
            EpisodeKind::Alarm => &mut self.alarm,
            EpisodeKind::AgentFailed => &mut self.failed,
            EpisodeKind::Upstream => &mut self.upstream,
        }
    }
}

impl TimeAccount {
    /// Accounts for a window, from the episodes of a device and those of the monitor.
    #[must_use]
    pub fn of<'a>(window: Span, episodes: impl IntoIterator<Item = &'a EpisodeRecord>) -> Self {
        Self::of_each(&[window], episodes).pop().unwrap_or_default()
    }

    /// The same for windows of which each begins where the one before has ended, in one sweep.
    #[must_use]
    pub fn of_each<'a>(
        windows: &[Span],
        episodes: impl IntoIterator<Item = &'a EpisodeRecord>,
    ) -> Vec<Self> {
        let length = |window: &Span| Self { window: window.length(), ..Self::default() };
        let mut accounts: Vec<Self> = windows.iter().map(length).collect();
        let Some((first, last)) = windows.first().zip(windows.last()) else { return accounts };
        let whole = Span { begin: first.begin, end: last.end };
        let mut edges = Vec::new();
        for episode in episodes {
            if let Some(Span { begin, end }) = whole.part_of(episode) {
                edges.push((begin, true, episode.kind));
                edges.push((end, false, episode.kind));
            }
        }
        edges.sort_unstable();
        let (mut running, mut from) = (Running::default(), whole.begin);
        let mut spent_in = windows.iter().zip(&mut accounts);
        let mut present = spent_in.next();
        for (time, begins, kind) in edges {
            while let Some((window, account)) = &mut present {
                let until = time.min(window.end);
                account.spend(&running, until.saturating_sub(from));
                from = from.max(until);
                if time <= window.end {
                    break;
                }
                present = spent_in.next();
            }
            let count = running.of(kind);
            // A part has a length, so its beginning comes before its end.
            *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        }
        accounts
    }

    fn spend(&mut self, running: &Running, time: Duration) {
        if running.disabled > 0 {
            self.disabled += time;
        } else if running.unwatched > 0 {
            self.unwatched += time;
        } else if running.failed > 0 {
            self.alarm += time;
        } else if running.alarm > 0 {
            self.alarm += time;
            if running.upstream > 0 {
                self.upstream += time;
            }
        }
    }

    /// The uptime, from 0 to 1; `None` where no time remains of which it could be the share.
    #[must_use]
    pub fn uptime(&self) -> Option<f64> {
        let rest = self.window.saturating_sub(self.unwatched).saturating_sub(self.disabled);
        (!rest.is_zero()).then(|| 1.0 - self.alarm.as_secs_f64() / rest.as_secs_f64())
    }
}

/// One day of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    pub date: Date,
    pub tally: DayTally,
    pub account: TimeAccount,
}

/// Everything that is recorded of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceHistory {
    /// When it was first known, or from when on its episodes are complete.
    pub since: Option<Duration>,
    /// Its episodes and those of the monitor, in the order of their beginnings.
    pub episodes: Vec<EpisodeRecord>,
    /// In the order of their dates.
    pub days: Vec<(Date, DayTally)>,
    pub restarts: Vec<RestartRecord>,
}

impl DeviceHistory {
    /// The last stretch of this length, from no earlier than the device is known.
    #[must_use]
    pub fn window(&self, length: Duration, now: Duration) -> Span {
        let begin = now.saturating_sub(length).max(self.since.unwrap_or(now)).min(now);
        Span { begin, end: now }
    }

    #[must_use]
    pub fn account(&self, length: Duration, now: Duration) -> TimeAccount {
        TimeAccount::of(self.window(length, now), &self.episodes)
    }

    /// The last days up to today, of which the first may have begun before the device was known.
    #[must_use]
    pub fn last_days(&self, count: u32, now: Duration) -> Vec<Day> {
        let today = Date::of(now);
        let dates = (today.0.saturating_sub(count.saturating_sub(1))..=today.0).map(Date);
        let end = Date(today.0 + 1);
        let boundaries: Vec<Duration> =
            dates.clone().chain(std::iter::once(end)).map(Date::begin).collect();
        let accounts = self.between(&boundaries, now);
        dates
            .zip(accounts)
            .map(|(date, account)| {
                let recorded = self.days.binary_search_by_key(&date, |(of, _)| *of).ok();
                let tally =
                    recorded.and_then(|at| self.days.get(at)).map(|(_, tally)| tally.clone());
                Day { date, tally: tally.unwrap_or_default(), account }
            })
            .collect()
    }

    /// Accounts for each stretch from one of these times up to the next, as far as the device was
    /// known in it.
    #[must_use]
    pub fn between(&self, boundaries: &[Duration], now: Duration) -> Vec<TimeAccount> {
        let whole = self.window(Duration::MAX, now);
        let spans: Vec<Span> = boundaries
            .windows(2)
            .map(|ends| Span { begin: ends[0].max(whole.begin), end: ends[1].min(whole.end) })
            .collect();
        TimeAccount::of_each(&spans, &self.episodes)
    }

    /// The contacts in each stretch from one of these times up to the next. An hour counts where it
    /// begins, and a day of which there is only a sum where its noon is.
    #[must_use]
    pub fn contacts_between(&self, boundaries: &[Duration]) -> Vec<u32> {
        let mut sums = vec![0_u32; boundaries.len().saturating_sub(1)];
        for (date, day) in &self.days {
            let step = super::DAY / u64::try_from(day.contacts.len()).unwrap_or(1).max(1);
            let first = if day.contacts.len() == 1 { step / 2 } else { 0 };
            let times = (0..).map(|place| date.begin() + Duration::from_secs(first + place * step));
            for (time, contacts) in times.zip(&day.contacts) {
                let after = boundaries.partition_point(|boundary| *boundary <= time);
                if let Some(sum) = after.checked_sub(1).and_then(|place| sums.get_mut(place)) {
                    *sum = sum.saturating_add(*contacts);
                }
            }
        }
        sums
    }

    /// Its alarms and failures that lasted into the window.
    pub fn incidents(&self, window: Span) -> impl Iterator<Item = &EpisodeRecord> {
        let is_in = move |episode: &&EpisodeRecord| {
            episode.kind.is_incident()
                && episode.begin < window.end
                && episode.end.is_none_or(|end| end >= window.begin)
        };
        self.episodes.iter().filter(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn episode((kind, begin, length): (usize, u64, Option<u64>)) -> EpisodeRecord {
        let kinds = [
            EpisodeKind::Alarm,
            EpisodeKind::Upstream,
            EpisodeKind::AgentFailed,
            EpisodeKind::Disabled,
            EpisodeKind::BrokerLost,
            EpisodeKind::NotRunning,
        ];
        EpisodeRecord {
            id: 0,
            device: None,
            kind: kinds[kind],
            reason: None,
            begin: T(begin),
            end: length.map(|length| T(begin + length)),
            last_contact: None,
            ended_by: None,
        }
    }

    /// Looks at every second by itself.
    fn naive(window: std::ops::Range<u64>, episodes: &[EpisodeRecord]) -> TimeAccount {
        let mut account =
            TimeAccount { window: T(window.end - window.start), ..TimeAccount::default() };
        for second in window {
            let is_on = |kind| {
                episodes.iter().any(|episode| {
                    episode.kind == kind
                        && episode.begin <= T(second)
                        && episode.end.is_none_or(|end| end > T(second))
                })
            };
            if is_on(EpisodeKind::Disabled) {
                account.disabled += T(1);
            } else if is_on(EpisodeKind::BrokerLost) || is_on(EpisodeKind::NotRunning) {
                account.unwatched += T(1);
            } else if is_on(EpisodeKind::AgentFailed) {
                account.alarm += T(1);
            } else if is_on(EpisodeKind::Alarm) {
                account.alarm += T(1);
                account.upstream += T(u64::from(is_on(EpisodeKind::Upstream)));
            }
        }
        account
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_second_counts_once_and_as_the_first_that_applies(
            episodes in prop::collection::vec(
                (0_usize..6, 0_u64..200, prop::option::weighted(0.9, 0_u64..60)), 0..12),
            begin in 0_u64..150,
            length in 0_u64..150,
        ) {
            let episodes: Vec<EpisodeRecord> = episodes.into_iter().map(episode).collect();
            let window = Span { begin: T(begin), end: T(begin + length) };
            prop_assert_eq!(
                TimeAccount::of(window, &episodes),
                naive(begin..begin + length, &episodes)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn windows_that_follow_each_other_are_accounted_for_as_each_by_itself(
            episodes in prop::collection::vec(
                (0_usize..6, 0_u64..200, prop::option::weighted(0.9, 0_u64..60)), 0..12),
            begin in 0_u64..100,
            lengths in prop::collection::vec(0_u64..40, 0..8),
        ) {
            let episodes: Vec<EpisodeRecord> = episodes.into_iter().map(episode).collect();
            let mut end = begin;
            let windows: Vec<_> = lengths
                .into_iter()
                .map(|length| {
                    end += length;
                    end - length..end
                })
                .collect();
            let spans: Vec<Span> = windows
                .iter()
                .map(|window| Span { begin: T(window.start), end: T(window.end) })
                .collect();
            let each: Vec<_> = windows.into_iter().map(|it| naive(it, &episodes)).collect();
            prop_assert_eq!(TimeAccount::of_each(&spans, &episodes), each);
        }
    }

    #[test]
    fn without_time_that_counts_there_is_no_uptime() {
        let disabled = episode((3, 0, None));
        let window = Span { begin: T(10), end: T(20) };
        assert_eq!(TimeAccount::of(window, [&disabled]).uptime(), None);
        assert_eq!(TimeAccount::of(Span { begin: T(5), end: T(5) }, []).uptime(), None);
        let alarm = episode((0, 15, Some(2)));
        assert_eq!(TimeAccount::of(window, [&alarm]).uptime(), Some(0.8));
        assert_eq!(TimeAccount::of(window, []).uptime(), Some(1.0));
    }

    #[test]
    fn a_window_begins_no_earlier_than_the_device_is_known() {
        let mut history = DeviceHistory { since: Some(T(50)), ..DeviceHistory::default() };
        history.episodes.push(episode((0, 40, Some(35))));
        let account = history.account(T(100), T(100));
        assert_eq!((account.window, account.alarm), (T(50), T(25)));
        history.since = None;
        assert_eq!(history.account(T(100), T(100)).uptime(), None, "nothing is known of it");
    }

    #[test]
    fn contacts_belong_to_the_stretch_in_which_their_hour_begins() {
        let day = |contacts: Vec<u32>| DayTally { contacts, ..DayTally::default() };
        let (sums, hours) = (Date(100), Date(102));
        let history = DeviceHistory {
            days: vec![(sums, day(vec![7])), (hours, day((1..=24).collect()))],
            ..DeviceHistory::default()
        };
        let half_past = |date: Date, hour: u64| date.begin() + T(hour * 3_600 + 1_800);
        let boundaries = [half_past(sums, 11), half_past(hours, 0), half_past(hours, 22)];
        // Midnight is before the second boundary, and 23:00 after the last one.
        assert_eq!(history.contacts_between(&boundaries), [7 + 1, (2..=23).sum::<u32>()]);
        assert!(history.contacts_between(&boundaries[..1]).is_empty());
        assert!(history.contacts_between(&[]).is_empty());
    }

    #[test]
    fn days_are_those_of_utc_and_the_first_and_the_last_are_shorter() {
        let now = Date::of(T(951_782_400)).begin() + T(600);
        let mut history = DeviceHistory { since: Some(now - T(4_200)), ..DeviceHistory::default() };
        history.episodes.push(EpisodeRecord {
            begin: now - T(1_200),
            end: Some(now - T(300)),
            ..episode((0, 0, None))
        });
        let days = history.last_days(3, now);
        let seen: Vec<_> = days
            .iter()
            .map(|day| {
                let TimeAccount { window, alarm, .. } = day.account;
                (day.date.to_string(), window.as_secs(), alarm.as_secs())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("2000-02-27".to_owned(), 0, 0),
                ("2000-02-28".to_owned(), 3_600, 600),
                ("2000-02-29".to_owned(), 600, 300),
            ]
        );
    }
}
