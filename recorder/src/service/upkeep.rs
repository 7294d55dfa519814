//! The thread that keeps the store small: it merges the files of each day, and removes what is old.
//!
//! It ends with the process, also in the middle of its work, which the next one then does again.

use crate::{Error, Keep, Store, files};
use iotmonitor::age_clock::AgeClock;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// The time from the start to the first round.
const FIRST: Duration = Duration::from_secs(60);

/// The time between two removals. A flood of messages fills a disk within an hour.
const REMOVAL: Duration = Duration::from_secs(600);

/// The time between two compactions.
const COMPACTION: Duration = Duration::from_secs(3_600);

/// A clock that is ahead is usually right within this time after the start. Until then no message is old that
/// is not so by the time of earlier runs.
const TRUST: Duration = Duration::from_secs(3_600);

/// What the service is to know of it.
#[derive(Debug)]
pub enum UpkeepReport {
    /// Files that could not be read, and where they were put.
    PutAside(Vec<PathBuf>),
    /// Once for each change.
    Failed(Error),
    Recovered,
}

/// Starts the thread, which takes other limits from the sender that is returned. A channel without
/// bound is enough for them, because a person changes them.
///
/// # Errors
/// Returns an error when the system allows no more threads.
pub fn start(
    store: Store,
    keep: Keep,
    reports: mpsc::Sender<UpkeepReport>,
) -> std::io::Result<Sender<Keep>> {
    let (sender, changes) = channel();
    let mut upkeep = Upkeep::new(store, keep, reports);
    std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || upkeep.run(&changes))?;
    Ok(sender)
}

struct Upkeep {
    store: Store,
    keep: Keep,
    reports: mpsc::Sender<UpkeepReport>,
    ages: AgeClock,
    has_failed: bool,
}

impl Upkeep {
    fn new(store: Store, keep: Keep, reports: mpsc::Sender<UpkeepReport>) -> Self {
        let mut ages = AgeClock::new(TRUST);
        ages.begin(earlier_time(&store), Instant::now());
        Self { store, keep, reports, ages, has_failed: false }
    }

    fn run(&mut self, changes: &Receiver<Keep>) {
        let mut compaction = Instant::now() + FIRST;
        let mut next = compaction;
        loop {
            match changes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(keep) => {
                    self.keep = keep;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let is_hour = compaction <= Instant::now();
            if is_hour {
                compaction = Instant::now() + COMPACTION;
            }
            let done = self.round(is_hour, now(), Instant::now());
            self.note(done);
            next = Instant::now() + REMOVAL;
        }
    }

    fn round(&mut self, compacts: bool, wall: i64, at: Instant) -> Result<(), Error> {
        let by = self.ages.judge(since_1970(wall), at);
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        if compacts {
            // Without it the next run goes by the messages, which are usually right.
            let _ = keep_time(&self.store, by);
        }
        // What is removed need not be merged, and makes room for what is.
        self.store.retain(&self.keep, by)?;
        if compacts {
            let done = self.store.compact()?;
            if !done.damaged.is_empty() {
                let _ = self.reports.blocking_send(UpkeepReport::PutAside(done.damaged));
            }
            self.store.retain(&self.keep, by)?;
        }
        Ok(())
    }

    fn note(&mut self, done: Result<(), Error>) {
        let had_failed = std::mem::replace(&mut self.has_failed, done.is_err());
        let report = match done {
            Err(error) if !had_failed => UpkeepReport::Failed(error),
            Ok(()) if had_failed => UpkeepReport::Recovered,
            _ => return,
        };
        let _ = self.reports.blocking_send(report);
    }
}

/// The file with the time by which messages were old last, in microseconds since 1970.
const TIME_FILE: &str = "time";

/// The time of earlier runs. What the clock shows now may be wrong, and what is recorded meanwhile has
/// such a time as well. A store without the file was written when its newest message was; where that
/// is not known, nothing is old for now.
fn earlier_time(store: &Store) -> Option<Duration> {
    let kept = fs::read_to_string(store.directory().join(TIME_FILE)).ok();
    if let Some(micros) = kept.and_then(|text| text.trim().parse().ok()) {
        return Some(since_1970(micros));
    }
    let newest = store.days().map(|days| days.last().map(|day| since_1970(day.end())));
    newest.unwrap_or(Some(Duration::ZERO))
}

fn keep_time(store: &Store, micros: i64) -> Result<(), Error> {
    let temporary = store.temporary(TIME_FILE);
    let written = File::create(&temporary).and_then(|mut file| {
        writeln!(file, "{micros}")?;
        file.sync_all()
    });
    written.map_err(Error::io("write", &temporary))?;
    files::rename(&temporary, &store.directory().join(TIME_FILE))
}

/// A time before 1970 counts as that.
fn since_1970(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The time in microseconds since 1970; a clock before that counts as 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Received, Writer};

    const DAY: i64 = 86_400 * 1_000_000;
    const TODAY: i64 = 20_000 * DAY;

    /// A store with a message of each of the last five days up to this one.
    fn store(directory: &std::path::Path) -> Store {
        let store = Store::new(directory);
        let mut writer = Writer::open(&store, Limits::default()).unwrap();
        for day in 0..5 {
            record(&mut writer, TODAY - day * DAY);
        }
        store
    }

    fn record(writer: &mut Writer, time: i64) {
        let (topic, payload, qos, retain) = ("a", &b"1"[..], 0, false);
        writer.append(Received { time, topic, payload, qos, retain }).unwrap();
        writer.commit(Instant::now()).unwrap();
        writer.seal();
        while writer.flush_oldest().unwrap() {}
    }

    /// A machine without a battery for its clock starts in the year 2099, and receives messages before
    /// it has asked for the time.
    #[test]
    fn a_clock_that_is_ahead_for_a_while_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let keep = Keep { age: Some(Duration::from_secs(400 * 86_400)), size: None };
        let (reports, _reports) = mpsc::channel(1);
        let start = Instant::now();
        let mut upkeep = Upkeep::new(store.clone(), keep, reports);
        let ahead = TODAY + 27_000 * DAY;
        record(&mut Writer::open(&store, Limits::default()).unwrap(), ahead);
        for minutes in [1, 11, 21] {
            upkeep.round(true, ahead, start + Duration::from_secs(60 * minutes)).unwrap();
        }
        assert_eq!(store.days().unwrap().len(), 6);
        // It starts like this every time. The newest messages are of the wrong year by now.
        let (reports, _reports) = mpsc::channel(1);
        let mut upkeep = Upkeep::new(store.clone(), keep, reports);
        upkeep.round(true, ahead, start + Duration::from_secs(60)).unwrap();
        assert_eq!(store.days().unwrap().len(), 6);
        upkeep.round(true, TODAY, start + Duration::from_secs(60 * 31)).unwrap();
        assert_eq!(store.days().unwrap().len(), 6);
        // Two years later it is off by none, and has been on for hours.
        let later = TODAY + 730 * DAY;
        for hours in [2, 3, 4] {
            upkeep.round(true, later, start + Duration::from_secs(3_600 * hours)).unwrap();
        }
        assert_eq!(store.days().unwrap().len(), 1, "what is old goes");
    }
}
