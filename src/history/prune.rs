//! Removes old records in small steps, so that no command waits long for one.

use super::disk::{self, PastRecords, PastTable};
use heed::RwTxn;
use iotmonitor_core::model::history::{Date, EpisodeRecord, RestartRecord};
use std::ops::Bound;
use std::time::Duration;

/// The number of records that one step looks at.
const STEP: usize = 2_000;

/// Of a device that flaps for a year, only so many episodes are kept, and of an agent so many
/// restarts. Its uptime covers the time since then.
const MOST_EPISODES: usize = 5_000;
const MOST_RESTARTS: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Episodes,
    Restarts,
    Days,
    Hours,
    Done,
}

/// One pass over everything.
#[derive(Debug)]
pub(super) struct Pruner {
    /// What ended before this time goes.
    cutoff: Duration,
    /// Before this date, hours become sums.
    hours_until: Option<Date>,
    stage: Stage,
    /// The last key that was looked at.
    at: Option<Vec<u8>>,
    /// The records of the present subject that were passed, newest first.
    count: usize,
}

/// A record that goes, and its end if it is an episode.
struct Gone {
    key: Vec<u8>,
    end: Option<Duration>,
}

impl Pruner {
    /// The regular pass.
    pub fn new(now: Duration, keep: Duration) -> Self {
        let cutoff = now.saturating_sub(keep);
        let hours_until = Some(disk::hours_until(now));
        Self { cutoff, hours_until, stage: Stage::Episodes, at: None, count: 0 }
    }

    /// A pass that makes room.
    pub fn shedding(cutoff: Duration) -> Self {
        Self { cutoff, hours_until: None, stage: Stage::Episodes, at: None, count: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Does one step, in a transaction of its own. Returns how many records went.
    pub fn step(&mut self, disk: &PastRecords) -> heed::Result<usize> {
        let mut transaction = disk.env.write_txn()?;
        let removed = match self.stage {
            Stage::Episodes => self.step_newest_first(&mut transaction, disk, disk.episodes)?,
            Stage::Restarts => self.step_newest_first(&mut transaction, disk, disk.restarts)?,
            Stage::Days => self.step_days(&mut transaction, disk)?,
            Stage::Hours => self.step_hours(&mut transaction, disk)?,
            Stage::Done => 0,
        };
        if removed > 0 {
            transaction.commit()?
        } else {
            transaction.abort()
        }
        Ok(removed)
    }

    fn next_stage(&mut self) {
        (self.at, self.count) = (None, 0);
        self.stage = match self.stage {
            Stage::Episodes => Stage::Restarts,
            Stage::Restarts => Stage::Days,
            Stage::Days if self.hours_until.is_some() => Stage::Hours,
            Stage::Days | Stage::Hours | Stage::Done => Stage::Done,
        };
    }

    fn step_newest_first(
        &mut self,
        transaction: &mut RwTxn,
        disk: &PastRecords,
        table: PastTable,
    ) -> heed::Result<usize> {
        let is_episodes = self.stage == Stage::Episodes;
        let most = if is_episodes { MOST_EPISODES } else { MOST_RESTARTS };
        let end = self.at.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let range = (Bound::Unbounded, end.as_ref().map(Vec::as_slice));
        let mut gone = Vec::new();
        let mut looked_at = 0;
        for entry in table.rev_range(transaction, &range)?.take(STEP) {
            let (key, value) = entry?;
            looked_at += 1;
            let subject = disk::subject_of(key);
            let is_same = self.at.as_deref().is_some_and(|at| disk::subject_of(at) == subject);
            self.count = if is_same { self.count + 1 } else { 1 };
            self.at = Some(key.to_vec());
            let end = if is_episodes {
                disk::from_json::<EpisodeRecord>(key, value).and_then(|it| it.end)
            } else {
                disk::from_json::<RestartRecord>(key, value).map(|it| it.time)
            };
            // A damaged record goes, too.
            if self.count > most || end.is_none_or(|end| end < self.cutoff) {
                gone.push(Gone { key: key.to_vec(), end: end.filter(|_| is_episodes) });
            }
        }
        for Gone { key, end } in &gone {
            table.delete(transaction, key)?;
            if let Some(end) = end {
                disk.complete_from(transaction, disk::subject_of(key), *end)?;
            }
        }
        if looked_at < STEP {
            self.next_stage();
        }
        Ok(gone.len())
    }

    fn step_days(&mut self, transaction: &mut RwTxn, disk: &PastRecords) -> heed::Result<usize> {
        let end = Date::of(self.cutoff).0.to_be_bytes();
        let range = (Bound::Unbounded, Bound::Excluded(end.as_slice()));
        let keys: heed::Result<Vec<Vec<u8>>> = disk
            .days
            .range(transaction, &range)?
            .take(STEP)
            .map(|entry| entry.map(|(key, _)| key.to_vec()))
            .collect();
        let keys = keys?;
        for key in &keys {
            disk.days.delete(transaction, key)?;
        }
        if keys.len() < STEP {
            self.next_stage();
        }
        Ok(keys.len())
    }

    /// Returns how many days were changed.
    fn step_hours(&mut self, transaction: &mut RwTxn, disk: &PastRecords) -> heed::Result<usize> {
        let until = self.hours_until.unwrap_or(Date(0)).0.to_be_bytes();
        let from = self.at.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from.as_ref().map(Vec::as_slice), Bound::Excluded(until.as_slice()));
        if matches!(&range, (Bound::Excluded(from), Bound::Excluded(until)) if from >= until) {
            self.next_stage();
            return Ok(0);
        }
        let mut changed = Vec::new();
        let mut looked_at = 0;
        for entry in disk.days.range(transaction, &range)?.take(STEP) {
            let (key, value) = entry?;
            looked_at += 1;
            self.at = Some(key.to_vec());
            if let Some(mut day) = disk::decode_day(key, value)
                && day.contacts.len() > 1
            {
                day.forget_hours();
                changed.push((key.to_vec(), disk::encode_day(key, &day)));
            }
        }
        for (key, value) in &changed {
            disk.days.put(transaction, key, value)?;
        }
        if looked_at < STEP {
            self.next_stage();
        }
        Ok(changed.len())
    }
}
