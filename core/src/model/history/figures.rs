//! The few figures of each device that programs ask for again and again.

use super::EpisodeRecord;
use super::uptime::{Span, TimeAccount, WINDOWS};
use std::time::Duration;

/// An uptime of 1 in the form in which it is kept.
const WHOLE: u32 = 1_000_000;

/// Stands for an uptime of which no time counts.
const NONE: u32 = u32::MAX;

/// The uptime of a device in each of [`WINDOWS`], and the number of its incidents. There may be a
/// hundred thousand of them at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastFigures {
    pub name: Box<str>,
    /// In millionths, rounded down, so that a device that was ever down has less than all of them.
    millionths: [u32; WINDOWS.len()],
    /// Since the device is known, also those that are no longer kept.
    pub incidents: u32,
}

impl PastFigures {
    /// The uptime in a window of [`WINDOWS`]; `None` where no time counts.
    #[must_use]
    pub fn uptime(&self, window: usize) -> Option<f64> {
        let millionths = self.millionths.get(window).filter(|it| **it != NONE)?;
        Some(f64::from(*millionths) / f64::from(WHOLE))
    }
}

/// Computes figures of many devices, of which most had no episode of late: for those it is enough to
/// know when nothing could be heard.
#[derive(Debug)]
pub struct FiguresMaker {
    now: Duration,
    /// When nothing could be heard.
    unwatched: Vec<EpisodeRecord>,
    /// The accounts of a device without an episode that is known for longer than each window.
    usual: [u32; WINDOWS.len()],
}

impl FiguresMaker {
    /// `unwatched` are the monitor's own episodes.
    #[must_use]
    pub fn new(now: Duration, mut unwatched: Vec<EpisodeRecord>) -> Self {
        unwatched.retain(|episode| is_recent(episode, now));
        let usual = WINDOWS.map(|(_, length)| {
            let window = Span { begin: now.saturating_sub(length), end: now };
            millionths(&TimeAccount::of(window, &unwatched))
        });
        Self { now, unwatched, usual }
    }

    /// Whether an episode matters to any figure but the number of incidents.
    #[must_use]
    pub fn concerns(&self, episode: &EpisodeRecord) -> bool {
        is_recent(episode, self.now)
    }

    /// The figures of a device that is known since this time, with its episodes.
    #[must_use]
    pub fn figures(
        &self,
        name: String,
        since: Duration,
        episodes: &[EpisodeRecord],
        incidents: u32,
    ) -> PastFigures {
        let mut figures =
            PastFigures { name: name.into_boxed_str(), millionths: self.usual, incidents };
        for (millionth, (_, length)) in figures.millionths.iter_mut().zip(WINDOWS) {
            let begin = self.now.saturating_sub(length);
            if episodes.is_empty() && since <= begin {
                continue;
            }
            let window = Span { begin: begin.max(since).min(self.now), end: self.now };
            let all = self.unwatched.iter().chain(episodes);
            *millionth = millionths(&TimeAccount::of(window, all));
        }
        figures
    }
}

fn is_recent(episode: &EpisodeRecord, now: Duration) -> bool {
    let longest = WINDOWS.iter().map(|(_, length)| *length).max().unwrap_or_default();
    episode.end.is_none_or(|end| end >= now.saturating_sub(longest))
}

fn millionths(account: &TimeAccount) -> u32 {
    let rest = account.window.saturating_sub(account.unwatched).saturating_sub(account.disabled);
    if rest.is_zero() {
        return NONE;
    }
    let up = rest.saturating_sub(account.alarm);
    let share = up.as_nanos() * u128::from(WHOLE) / rest.as_nanos();
    u32::try_from(share).unwrap_or(WHOLE).min(WHOLE)
}

#[cfg(test)]
mod tests {
    use super::super::uptime::DeviceHistory;
    use super::super::{DAY, EpisodeKind};
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;
    const NOW: u64 = 1_000 * DAY;

    fn episode(kind: EpisodeKind, begin: u64, end: Option<u64>) -> EpisodeRecord {
        EpisodeRecord {
            id: begin,
            device: None,
            kind,
            reason: None,
            begin: T(begin),
            end: end.map(T),
            last_contact: None,
            ended_by: None,
        }
    }

    #[test]
    fn the_figures_are_those_of_the_history() {
        let unwatched = vec![
            episode(EpisodeKind::NotRunning, NOW - 200 * DAY, Some(NOW - 199 * DAY)),
            episode(EpisodeKind::BrokerLost, NOW - 5_000, Some(NOW - 4_000)),
        ];
        let maker = FiguresMaker::new(T(NOW), unwatched.clone());
        let own = [
            vec![],
            vec![episode(EpisodeKind::Alarm, NOW - 4_500, Some(NOW - 1_500))],
            vec![
                episode(EpisodeKind::Disabled, NOW - 60 * DAY, Some(NOW - 20 * DAY)),
                episode(EpisodeKind::AgentFailed, NOW - 3 * DAY, None),
            ],
        ];
        for since in [NOW - 400 * DAY, NOW - 10 * DAY, NOW - 60, NOW, NOW + 60] {
            for episodes in &own {
                let figures = maker.figures("lamp".to_owned(), T(since), episodes, 3);
                let mut all = [&unwatched[..], episodes].concat();
                all.sort_by_key(|episode| episode.begin);
                let history =
                    DeviceHistory { since: Some(T(since)), episodes: all, ..Default::default() };
                for (place, (title, length)) in WINDOWS.iter().enumerate() {
                    let expected = history.account(*length, T(NOW)).uptime();
                    let uptime = figures.uptime(place);
                    assert_eq!(uptime.is_some(), expected.is_some(), "{title} {since}");
                    let difference = expected.unwrap_or(0.0) - uptime.unwrap_or(0.0);
                    assert!((0.0..0.000_002).contains(&difference), "{title}: {difference}");
                }
                assert_eq!((&*figures.name, figures.incidents), ("lamp", 3));
            }
        }
    }

    #[test]
    fn a_device_that_was_down_for_a_moment_was_not_up_all_the_time() {
        let maker = FiguresMaker::new(T(NOW), Vec::new());
        let alarm = [episode(EpisodeKind::Alarm, NOW - 9, Some(NOW - 8))];
        let figures = maker.figures("lamp".to_owned(), T(0), &alarm, 1);
        assert!(figures.uptime(3).unwrap() < 1.0);
        assert_eq!(maker.figures("oven".to_owned(), T(0), &[], 0).uptime(3), Some(1.0));
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_figures_of_a_device_take_40_bytes_and_its_name() {
        assert_eq!(size_of::<PastFigures>(), 40);
    }
}
