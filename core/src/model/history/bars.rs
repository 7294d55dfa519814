//! How devices spent intervals of time, as bars show it.

use super::EpisodeRecord;
use super::uptime::{DeviceHistory, Span, TimeAccount};
use std::time::Duration;

/// The alarm, unwatched and disabled time of an interval in seconds, and the incidents that began in
/// it.
pub type Bar = [u64; 4];

impl DeviceHistory {
    /// One bar for each interval between two of the boundaries, which ascend. There is none where
    /// the interval lies before the device was known, or after `now`.
    #[must_use]
    pub fn bars(&self, boundaries: &[Duration], now: Duration) -> Vec<Option<Bar>> {
        let known = self.window(Duration::MAX, now);
        let spans: Vec<Span> = boundaries
            .windows(2)
            .filter_map(|pair| Some((*pair.first()?, *pair.last()?)))
            .map(|(begin, end)| Span {
                begin: begin.clamp(known.begin, known.end),
                end: end.clamp(known.begin, known.end),
            })
            .collect();
        let incidents: Vec<&EpisodeRecord> =
            self.episodes.iter().filter(|it| it.kind.is_incident()).collect();
        let accounts = TimeAccount::of_each(&spans, &self.episodes);
        spans
            .iter()
            .zip(accounts)
            .map(|(span, account)| {
                let from = incidents.partition_point(|it| it.begin < span.begin);
                let until = incidents.partition_point(|it| it.begin < span.end);
                let began = u64::try_from(until.saturating_sub(from)).unwrap_or(u64::MAX);
                let TimeAccount { alarm, unwatched, disabled, .. } = account;
                let bar = [alarm.as_secs(), unwatched.as_secs(), disabled.as_secs(), began];
                (!span.length().is_zero()).then_some(bar)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::EpisodeKind;
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

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

    fn bars(history: &DeviceHistory, boundaries: &[u64], now: u64) -> Vec<Option<Bar>> {
        let boundaries: Vec<_> = boundaries.iter().copied().map(T).collect();
        history.bars(&boundaries, T(now))
    }

    #[test]
    fn each_interval_has_its_part_and_an_incident_counts_where_it_began() {
        let history = DeviceHistory {
            since: Some(T(150)),
            episodes: vec![
                episode(EpisodeKind::NotRunning, 190, Some(210)),
                episode(EpisodeKind::Alarm, 250, Some(350)),
                episode(EpisodeKind::Alarm, 360, Some(365)),
                episode(EpisodeKind::Disabled, 420, Some(430)),
                episode(EpisodeKind::Alarm, 480, None),
            ],
            ..DeviceHistory::default()
        };
        assert_eq!(
            bars(&history, &[0, 100, 200, 300, 400, 500, 600, 700], 550),
            [
                None,
                Some([0, 10, 0, 0]),
                Some([50, 10, 0, 1]),
                Some([55, 0, 0, 1]),
                Some([20, 0, 10, 1]),
                Some([50, 0, 0, 0]),
                None,
            ]
        );
    }

    #[test]
    fn what_is_not_known_has_no_bars_and_strange_boundaries_do_no_harm() {
        let unknown = DeviceHistory::default();
        assert_eq!(bars(&unknown, &[0, 100, 200], 150), [None, None]);
        let known = DeviceHistory { since: Some(T(50)), ..DeviceHistory::default() };
        assert_eq!(bars(&known, &[], 150), []);
        assert_eq!(bars(&known, &[7], 150), []);
        assert_eq!(bars(&known, &[60, 60, u64::MAX], 150), [None, Some([0, 0, 0, 0])]);
    }

    /// Bars of intervals that follow each other add up to the account of the whole.
    #[test]
    fn bars_add_up_to_the_whole() {
        let episodes = (0..200).map(|at| {
            let kind = match at % 4 {
                0 => EpisodeKind::Disabled,
                1 => EpisodeKind::BrokerLost,
                _ => EpisodeKind::Alarm,
            };
            episode(kind, 100 + at * 37, Some(100 + at * 37 + at % 50))
        });
        let history = DeviceHistory {
            since: Some(T(90)),
            episodes: episodes.collect(),
            ..DeviceHistory::default()
        };
        let boundaries: Vec<u64> = (0..=63).map(|at| at * 131).collect();
        let sum = bars(&history, &boundaries, 8_000).into_iter().flatten().fold(
            [0; 4],
            |mut sum: Bar, bar| {
                sum.iter_mut().zip(bar).for_each(|(sum, part)| *sum += part);
                sum
            },
        );
        let whole = history.account(Duration::MAX, T(8_000));
        let began = history.episodes.iter().filter(|it| it.kind.is_incident()).count() as u64;
        let expected =
            [whole.alarm.as_secs(), whole.unwatched.as_secs(), whole.disabled.as_secs(), began];
        assert_eq!(sum, expected);
    }
}
