//! What spares an SD card: commits that wait for more, and nothing written that has not changed.

use super::{Running, TRANSACTIONS, WORD, data_file, state};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::Delivery;
use iotmonitor_core::model::state::StateRecord;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The end of a stream of deliveries is seen by then.
const QUIET: Duration = Duration::from_millis(200);

impl Running {
    /// The time until all deliveries up to this one are committed, and the number of reports.
    fn time_to_commit(&mut self, through: Delivery) -> (Duration, usize) {
        let began = Instant::now();
        for reports in 1.. {
            match self.next() {
                Event::StatesCommitted { through: now } if now >= through => {
                    return (began.elapsed(), reports);
                }
                Event::StatesCommitted { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        unreachable!("it returns or panics")
    }
}

/// The last transaction of the data file, which each commit increases.
fn last_change(directory: &Path) -> usize {
    let data = fs::read(data_file(directory)).unwrap();
    let transaction = |at: usize| usize::from_ne_bytes(data[at..at + WORD].try_into().unwrap());
    TRANSACTIONS.map(transaction).into_iter().max().unwrap()
}

#[test]
fn a_few_deliveries_wait_for_more_and_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    for number in 0..2 {
        running.put(state(&format!("lamp/{number}"), "on"));
        std::thread::sleep(QUIET);
    }
    assert!(running.events.is_empty(), "nothing is reported before it is on disk");
    let last = running.put(state("lamp/2", "on"));
    let (waited, reports) = running.time_to_commit(last);
    assert_eq!(reports, 1, "all three are in one commit");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    running.close();
}

#[test]
fn ten_deliveries_do_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    let mut fastest = Duration::MAX;
    for round in 0..3 {
        std::thread::sleep(QUIET);
        let puts = (0..10).map(|number| running.put(state(&format!("{round}/{number}"), "on")));
        let last = puts.last().unwrap();
        fastest = fastest.min(running.time_to_commit(last).0);
    }
    assert!(fastest < Duration::from_millis(900), "{fastest:?}");
    running.close();
}

#[test]
fn a_broker_that_sends_one_message_at_a_time_is_not_slowed_down() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    let began = Instant::now();
    for number in 0..20 {
        let sent = running.put(state(&format!("lamp/{number}"), "on"));
        running.wait_committed(sent);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    running.close();
}

#[test]
fn a_read_waits_for_nothing_and_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        std::thread::sleep(QUIET);
        let began = Instant::now();
        let sent = running.put(state("lamp", "on"));
        running.send_read(&["lamp"], None);
        assert_eq!(running.next(), Event::StatesCommitted { through: sent });
        let Event::StatesRead { states, .. } = running.next() else { panic!("it was read") };
        assert_eq!(states.len(), 1);
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < Duration::from_millis(900), "{fastest:?}");
    running.close();
}

#[test]
fn what_waits_is_on_disk_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    running.put(state("lamp", "on"));
    let began = Instant::now();
    running.close();
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut running = Running::opened(directory.path());
    assert_eq!(running.read(&["lamp"]).0.len(), 1);
    running.close();
}

#[test]
fn a_state_that_is_repeated_is_not_written_again_for_ten_minutes() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    let at = |seconds| StateRecord { time: Duration::from_secs(seconds), ..state("lamp", "on") };
    let mut record = |record: StateRecord| {
        let sent = running.put(record);
        running.wait_committed(sent);
        last_change(directory.path())
    };
    let first = record(at(1_000));
    assert_eq!(record(at(1_060)), first, "it is a repetition");
    assert_eq!(record(at(1_599)), first);
    let later = record(at(1_600));
    assert_ne!(later, first, "its time is not older than that");
    let other = record(StateRecord { retain: false, ..at(1_601) });
    assert_ne!(other, later, "the flag differs");
    let dark = StateRecord { payload: "off".into(), ..at(1_602) };
    assert_ne!(record(dark), other);
    assert_eq!(running.read(&["lamp"]).0[0].payload, "off");
    running.close();
}
