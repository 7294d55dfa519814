//! Questions about all devices, on a real disk.

use super::{NOW, T, Thread, episode, lamp, settings};
use iotmonitor::history::{HistoryCommand, PastReader};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::history::{DAY, EpisodeKind, EpisodeRecord, HistoryBatch};

impl Thread {
    fn figures(&self) -> Vec<PastFigures> {
        self.ask(|reader: PastReader<Vec<PastFigures>>| HistoryCommand::ReadFigures {
            now: T(NOW),
            reader,
        })
    }

    fn incidents(&self, device: Option<DeviceName>, since: u64, limit: usize) -> Vec<u64> {
        let read = self.ask(|reader: PastReader<Vec<EpisodeRecord>>| {
            HistoryCommand::ReadIncidents { device, since: T(since), limit, reader }
        });
        read.iter().map(|episode| episode.id).collect()
    }
}

fn named(number: u64) -> DeviceName {
    DeviceName::new(format!("d{number:05}")).unwrap()
}

/// Devices that are known for a year, with an alarm of an hour each, `number` days ago.
fn fleet(count: u64) -> HistoryBatch {
    let alarm = |number: u64| {
        let begin = NOW - number * DAY - 7_200;
        let device = Some(named(number));
        EpisodeRecord { device, ..episode(number + 1, begin, Some(begin + 3_600)) }
    };
    HistoryBatch {
        mark: T(NOW),
        known: (0..count).map(|number| (named(number), T(NOW - 365 * DAY))).collect(),
        episodes: (0..count).map(alarm).collect(),
        ..HistoryBatch::default()
    }
}

#[test]
fn figures_of_all_devices_agree_with_the_history_of_each() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(fleet(500));
    let figures = thread.figures();
    assert_eq!(figures.len(), 500);
    for (number, figures) in (0..).zip(&figures) {
        assert_eq!((&*figures.name, figures.incidents), (named(number).as_str(), 1));
        let history = thread.read(&named(number));
        for (place, days) in [1, 7, 30, 90].into_iter().enumerate() {
            let expected = history.account(T(days * DAY), T(NOW)).uptime().unwrap();
            let difference = expected - figures.uptime(place).unwrap();
            assert!((0.0..0.000_002).contains(&difference), "{number} {days}: {difference}");
        }
    }
    thread.close();
}

#[test]
fn incidents_are_counted_once_and_also_those_that_are_no_longer_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let known = vec![(lamp(), T(NOW - 500 * DAY))];
    let batch = |episodes| HistoryBatch { mark: T(NOW), episodes, ..HistoryBatch::default() };
    let old = episode(1, NOW - 450 * DAY, Some(NOW - 449 * DAY));
    thread.save(HistoryBatch { known, ..batch(vec![old]) });
    thread.save(batch(vec![episode(2, NOW - 60, None)]));
    let upstream = EpisodeRecord { kind: EpisodeKind::Upstream, ..episode(3, NOW - 60, None) };
    thread.save(batch(vec![episode(2, NOW - 60, Some(NOW - 30)), upstream]));
    assert_eq!(thread.figures()[0].incidents, 2);
    thread.close();
    let (thread, _) = Thread::started(settings(directory.path()));
    assert_eq!(thread.figures()[0].incidents, 2);
    thread.close();
}

#[test]
fn the_latest_incidents_come_first_of_one_device_or_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(fleet(5_000));
    let lasting = EpisodeRecord { device: Some(named(3)), ..episode(9_000, NOW - 99 * DAY, None) };
    let disabled = EpisodeRecord { kind: EpisodeKind::Disabled, ..lasting.clone() };
    let episodes = vec![lasting, EpisodeRecord { id: 9_001, ..disabled }];
    thread.save(HistoryBatch { mark: T(NOW), episodes, ..HistoryBatch::default() });
    assert_eq!(thread.incidents(None, NOW - 3 * DAY, 10), [1, 2, 3, 9_000]);
    assert_eq!(thread.incidents(None, 0, 3), [1, 2, 3]);
    assert_eq!(thread.incidents(None, 0, 100_000).len(), 5_001);
    assert_eq!(thread.incidents(Some(named(3)), 0, 10), [4, 9_000]);
    assert!(thread.incidents(Some(lamp()), 0, 10).is_empty());
    thread.close();
}
