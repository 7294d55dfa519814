//! Alerts on a real disk: kept over restarts, bounded, and written in groups.

use super::{ClockStep, NOW, PATIENCE, T, Thread, settings, tidying};
use heed::EnvOpenOptions;
use iotmonitor::history::alert_tables::{MOST_NOTICES, MOST_WARNINGS};
use iotmonitor::history::{HistoryCommand, PastReader};
use iotmonitor_core::model::alert::{AlertKind, Priority};
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord};
use iotmonitor_core::model::history::{DAY, HistoryBatch};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WARNING: AlertKind = AlertKind::Expired;
const NOTICE: AlertKind = AlertKind::Recovered;

fn everything() -> AlertQuery {
    AlertQuery { since: T(0), device: None, least: Priority::Info, before: None, limit: 100_000 }
}

impl Thread {
    fn raise(&self, time: u64, kind: AlertKind, message: &str) -> Arc<AlertRecord> {
        let (record, is_first) = self.book.push(AlertRecord::plain(T(time), kind, message));
        if is_first {
            let _ = self.handle.send(HistoryCommand::Wake);
        }
        record
    }

    pub fn ask<A: Send + 'static>(&self, ask: impl FnOnce(PastReader<A>) -> HistoryCommand) -> A {
        let (sender, answer) = std::sync::mpsc::channel();
        self.handle.send(ask(PastReader::new(move |it| sender.send(it).unwrap()))).unwrap();
        answer.recv_timeout(PATIENCE).unwrap().unwrap()
    }

    fn alerts(&self, query: AlertQuery) -> Vec<Arc<AlertRecord>> {
        self.ask(|reader| HistoryCommand::ReadAlerts { query, reader })
    }

    fn ids(&self, query: AlertQuery) -> Vec<u64> {
        self.alerts(query).iter().map(|alert| alert.id.unwrap()).collect()
    }

    fn acknowledge(&self, id: u64, time: u64) -> Option<Duration> {
        self.ask(|reader| HistoryCommand::Acknowledge { id, time: T(time), reader })
    }

    /// Waits until no alert waits for the disk.
    fn until_written(&self) {
        let start = Instant::now();
        while !self.book.matching(&everything()).is_empty() {
            assert!(start.elapsed() < PATIENCE, "alerts are not written");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The number of commits that a closed file has had.
fn commits(directory: &Path) -> usize {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 20);
    #[expect(unsafe_code, reason = "opening a memory map is unsafe in heed")]
    // SAFETY: nobody else has the file open.
    let env = unsafe { options.open(directory.join("history")) }.unwrap();
    env.info().last_txn_id
}

#[test]
fn alerts_are_read_after_a_restart_with_their_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    assert_eq!(thread.raise(NOW, WARNING, "one").id, Some(1));
    thread.raise(NOW + 1, NOTICE, "two");
    thread.raise(NOW + 2, WARNING, "three");
    let before = thread.alerts(everything());
    thread.close();
    let (thread, _) = Thread::started(settings(directory.path()));
    assert_eq!(thread.alerts(everything()), before);
    assert_eq!(thread.ids(everything()), [3, 2, 1], "the newest come first");
    assert_eq!(thread.raise(NOW + 3, NOTICE, "four").id, Some(4));
    assert_eq!(thread.ids(everything()), [4, 3, 2, 1]);
    thread.close();
}

#[test]
fn alerts_that_precede_the_history_are_kept_too() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    thread.raise(NOW, WARNING, "of an earlier run");
    thread.close();
    // The directory cannot be opened at first.
    let history = directory.path().join("history");
    std::fs::rename(&history, directory.path().join("away")).unwrap();
    std::fs::write(&history, "").unwrap();
    let thread = Thread::start(settings(directory.path()));
    assert_eq!(thread.raise(NOW + 1, WARNING, "too early").id, None);
    let shown = thread.alerts(everything());
    assert_eq!((shown.len(), shown[0].id), (1, None));
    std::fs::remove_file(&history).unwrap();
    std::fs::rename(directory.path().join("away"), &history).unwrap();
    thread.until_written();
    assert_eq!(thread.ids(everything()), [2, 1]);
    thread.close();
}

/// A machine without a battery for its clock starts with that of 1970, as it did the time before, and asks
/// for the time only when the first alerts are on disk.
#[test]
fn alerts_of_this_run_move_with_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    thread.raise(60, WARNING, "of a run that never knew the time");
    thread.close();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.raise(55, NOTICE, "before the start was complete");
    thread.raise(60, WARNING, "on disk");
    thread.until_written();
    thread.raise(65, NOTICE, "waits");
    thread.raise(NOW + 1, WARNING, "after the step");
    let forward = ClockStep { started: T(50), from: T(70), to: T(NOW) };
    thread.save(HistoryBatch { mark: T(NOW), steps: vec![forward], ..HistoryBatch::default() });
    let times = |thread: &Thread| -> Vec<u64> {
        thread.alerts(everything()).iter().map(|alert| alert.time.as_secs()).collect()
    };
    assert_eq!(times(&thread), [NOW + 1, NOW - 5, NOW - 10, NOW - 15, 60]);
    // What may have been raised by the clock as it is now keeps its time.
    let back = ClockStep { started: T(NOW - 20), from: T(NOW + 100), to: T(NOW - 8) };
    thread.save(HistoryBatch { mark: T(NOW - 7), steps: vec![back], ..HistoryBatch::default() });
    assert_eq!(times(&thread), [NOW - 107, NOW - 113, NOW - 10, NOW - 15, 60]);
    thread.close();
}

#[test]
fn a_query_selects_by_time_device_priority_and_number() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    for number in 1..=9 {
        let kind = if number % 3 == 0 { WARNING } else { NOTICE };
        thread.raise(NOW + number, kind, "");
    }
    let lamp = AlertRecord::plain(T(NOW + 10), WARNING, "");
    thread.book.push(AlertRecord { device: Some("lamp".to_owned()), ..lamp });
    // Some are on disk, and some wait.
    thread.acknowledge(1, NOW);
    thread.raise(NOW + 11, NOTICE, "");
    assert_eq!(thread.ids(AlertQuery { since: T(NOW + 8), ..everything() }), [11, 10, 9, 8]);
    assert_eq!(thread.ids(AlertQuery { least: Priority::Warning, ..everything() }), [10, 9, 6, 3]);
    assert_eq!(thread.ids(AlertQuery { device: Some("lamp".into()), ..everything() }), [10]);
    assert_eq!(thread.ids(AlertQuery { before: Some(10), limit: 2, ..everything() }), [9, 8]);
    assert_eq!(thread.ids(AlertQuery { limit: 3, ..everything() }), [11, 10, 9]);
    thread.close();
}

#[test]
fn an_acknowledgement_is_kept_and_the_first_one_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    thread.raise(NOW, NOTICE, "one");
    thread.raise(NOW, WARNING, "two");
    assert_eq!(thread.acknowledge(1, NOW + 5), Some(T(NOW + 5)));
    assert_eq!(thread.acknowledge(2, NOW + 6), Some(T(NOW + 6)));
    assert_eq!(thread.acknowledge(2, NOW + 7), Some(T(NOW + 6)));
    assert_eq!(thread.acknowledge(3, NOW), None);
    thread.close();
    let (thread, _) = Thread::started(settings(directory.path()));
    let seen: Vec<_> = thread.alerts(everything()).iter().map(|it| it.acknowledged).collect();
    assert_eq!(seen, [Some(T(NOW + 6)), Some(T(NOW + 5))]);
    thread.close();
}

#[test]
fn a_storm_is_written_in_groups_and_removes_no_warning() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    let before = Instant::now();
    thread.raise(NOW, WARNING, "the one that matters");
    for number in 0..10_000 {
        thread.raise(NOW, NOTICE, &format!("`device-{number}` is back after 3 min"));
    }
    thread.until_written();
    let passed = before.elapsed();
    let alerts = thread.alerts(everything());
    assert_eq!(alerts.last().unwrap().message, "the one that matters");
    assert!(alerts.len() as u64 <= MOST_NOTICES + 1);
    thread.close();
    let groups = usize::try_from(passed.as_millis() / 250).unwrap();
    let commits = commits(directory.path());
    assert!(commits <= 8 + groups, "{commits} commits in {passed:?}");
}

#[test]
fn only_so_many_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (thread, _) = Thread::started(settings(directory.path()));
    for (kind, most) in [(WARNING, MOST_WARNINGS), (NOTICE, MOST_NOTICES)] {
        for _ in 0..most / 1_000 + 1 {
            for _ in 0..1_000 {
                thread.raise(NOW, kind, "again");
            }
            thread.until_written();
        }
    }
    let kept = thread.alerts(everything());
    let warnings = kept.iter().filter(|alert| alert.is_warning()).count() as u64;
    assert_eq!((warnings, kept.len() as u64 - warnings), (MOST_WARNINGS, MOST_NOTICES));
    assert_eq!(kept[0].id, Some(MOST_WARNINGS + MOST_NOTICES + 2_000), "the latest");
    thread.close();
}

#[test]
fn alerts_go_when_they_are_older_than_keep() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Thread::started(tidying(directory.path())).0;
    first.raise(NOW - 500 * DAY, WARNING, "old");
    first.raise(NOW - 500 * DAY, NOTICE, "old");
    first.raise(NOW - 300 * DAY, WARNING, "young");
    first.save(HistoryBatch { mark: T(NOW), ..HistoryBatch::default() });
    let start = Instant::now();
    while first.alerts(everything()).len() > 1 {
        assert!(start.elapsed() < PATIENCE, "the old ones stay");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(first.alerts(everything())[0].message, "young");
    first.close();
}
