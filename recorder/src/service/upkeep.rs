//! The thread that keeps the store small: it merges the files of each day, and removes what is old.
//!
//! It ends with the process, also in the middle of its work, which the next one then does again.

use crate::{Error, Keep, Store};
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
    let mut upkeep = Upkeep { store, keep, reports, has_failed: false };
    std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || upkeep.run(&changes))?;
    Ok(sender)
}

struct Upkeep {
    store: Store,
    keep: Keep,
    reports: mpsc::Sender<UpkeepReport>,
    has_failed: bool,
}

impl Upkeep {
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
            let done = self.round(is_hour);
            self.note(done);
            next = Instant::now() + REMOVAL;
        }
    }

    fn round(&self, compacts: bool) -> Result<(), Error> {
        // What is removed need not be merged, and makes room for what is.
        self.store.retain(&self.keep, now())?;
        if compacts {
            let done = self.store.compact()?;
            if !done.damaged.is_empty() {
                let _ = self.reports.blocking_send(UpkeepReport::PutAside(done.damaged));
            }
            self.store.retain(&self.keep, now())?;
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

/// The time in microseconds since 1970; a clock before that counts as 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
