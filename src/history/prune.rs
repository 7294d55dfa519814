//! Removes old records in small steps, so that no command waits long for one.

use super::disk::{self, PastRecords, PastTable};
use crate::lmdb::StoreError;
use heed::{MdbError, RwTxn};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::{Date, EpisodeKind, EpisodeRecord, RestartRecord};
use std::hash::{DefaultHasher, Hash, Hasher};
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
    Strangers,
    Hours,
    Done,
}

/// What the wall clock shows, as far as that can be trusted.
#[derive(Debug, Clone, Copy)]
pub(super) struct PresentTime {
    pub now: Duration,
    /// The beginning of this run.
    pub run_began: Duration,
}

/// One pass over everything.
#[derive(Debug, Clone)]
pub(super) struct Pruner {
    /// What ended before this time goes.
    cutoff: Duration,
    /// What was over before the run does not end after the present.
    present: Option<PresentTime>,
    /// Records of devices that are not known go, as those that were forgotten.
    sweeps: bool,
    /// Before this date, hours become sums.
    hours_until: Option<Date>,
    stage: Stage,
    /// The last key that was looked at.
    at: Option<Vec<u8>>,
    /// The records of the present subject that were passed, newest first.
    count: usize,
}

/// The devices that have been in the configuration since this run began. Their names are kept as hashes,
/// because a fleet has very many; one that left and shares its hash with another is kept for longer.
#[derive(Debug, Default)]
pub(super) struct PresentDevices {
    hashes: Vec<u64>,
}

impl PresentDevices {
    pub fn add<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a DeviceName>) {
        self.hashes.reserve_exact(names.len());
        self.hashes.extend(names.map(hash_of));
    }

    /// Puts them in the order in which they are found, and drops what was added twice.
    fn settle(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
    }

    /// Whether it is one of those that are settled.
    fn contains(&self, name: &DeviceName) -> bool {
        self.hashes.binary_search(&hash_of(name)).is_ok()
    }
}

fn hash_of(name: &DeviceName) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Forgets devices that left the configuration before this time and are not present.
pub(super) fn forget_absent(
    disk: &mut PastRecords,
    cutoff: Duration,
    present: &mut PresentDevices,
) -> Result<(), StoreError> {
    present.settle();
    disk.commit(|disk, transaction| {
        let mut absent = Vec::new();
        for entry in disk.open.iter(transaction)? {
            let (key, value) = entry?;
            let Some(episode) = disk::from_json::<EpisodeRecord>(key, value) else { continue };
            let is_over = episode.kind == EpisodeKind::Disabled && episode.begin < cutoff;
            if is_over && episode.device.is_some_and(|name| !present.contains(&name)) {
                absent.push(disk::subject_of(key).to_vec());
            }
        }
        absent.iter().try_for_each(|subject| disk.forget(transaction, subject))
    })
}

/// A record that goes, and its end if it is an episode.
struct Gone {
    key: Vec<u8>,
    end: Option<Duration>,
}

impl Pruner {
    /// The regular pass. Where the present is known, episodes end before it.
    pub fn new(
        now: Duration,
        cutoff: Duration,
        present: Option<PresentTime>,
        sweeps: bool,
    ) -> Self {
        let hours_until = Some(disk::hours_until(now));
        Self { cutoff, present, sweeps, hours_until, stage: Stage::Episodes, at: None, count: 0 }
    }

    /// A pass that makes room.
    pub fn shedding(cutoff: Duration) -> Self {
        Self {
            cutoff,
            present: None,
            sweeps: false,
            hours_until: None,
            stage: Stage::Episodes,
            at: None,
            count: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Takes one step, in a map that is enlarged if it has no room for that.
    pub fn step(&mut self, disk: &mut PastRecords) -> Result<(), StoreError> {
        loop {
            let before = self.clone();
            match self.try_step(disk) {
                Ok(()) => return Ok(()),
                Err(heed::Error::Mdb(MdbError::MapFull)) => {
                    *self = before;
                    disk.grow()?;
                }
                Err(error) => return Err(disk.fail("write to", error)),
            }
        }
    }

    /// Does one step in a transaction of its own.
    fn try_step(&mut self, disk: &PastRecords) -> heed::Result<()> {
        let mut transaction = disk.env.write_txn()?;
        let changed = match self.stage {
            Stage::Episodes => self.step_newest_first(&mut transaction, disk, disk.episodes)?,
            Stage::Restarts => self.step_newest_first(&mut transaction, disk, disk.restarts)?,
            Stage::Days => self.step_days(&mut transaction, disk)?,
            Stage::Strangers => self.step_strangers(&mut transaction, disk)?,
            Stage::Hours => self.step_hours(&mut transaction, disk)?,
            Stage::Done => 0,
        };
        if changed > 0 {
            transaction.commit()?;
        } else {
            transaction.abort();
        }
        Ok(())
    }

    fn next_stage(&mut self) {
        (self.at, self.count) = (None, 0);
        self.stage = match self.stage {
            Stage::Episodes => Stage::Restarts,
            Stage::Restarts => Stage::Days,
            Stage::Days if self.sweeps => Stage::Strangers,
            Stage::Days | Stage::Strangers if self.hours_until.is_some() => Stage::Hours,
            Stage::Days | Stage::Strangers | Stage::Hours | Stage::Done => Stage::Done,
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
        let (mut gone, mut cut) = (Vec::new(), Vec::new());
        let (mut looked_at, mut is_stranger) = (0, false);
        for entry in table.rev_range(transaction, &range)?.take(STEP) {
            let (key, value) = entry?;
            looked_at += 1;
            let subject = disk::subject_of(key);
            let is_same = self.at.as_deref().is_some_and(|at| disk::subject_of(at) == subject);
            self.count = if is_same { self.count + 1 } else { 1 };
            if looked_at == 1 || !is_same {
                is_stranger = self.sweeps && !disk.is_known(transaction, subject)?;
            }
            self.at = Some(key.to_vec());
            let end = if is_episodes {
                let episode = disk::from_json::<EpisodeRecord>(key, value);
                if let Some(shorter) = episode.as_ref().and_then(|it| self.cut(it)) {
                    cut.push((key.to_vec(), disk::to_json(key, &shorter)?));
                }
                episode.and_then(|it| it.end)
            } else {
                disk::from_json::<RestartRecord>(key, value).map(|it| it.time)
            };
            // A damaged record goes, too.
            if is_stranger || self.count > most || end.is_none_or(|end| end < self.cutoff) {
                gone.push(Gone { key: key.to_vec(), end: end.filter(|_| is_episodes) });
            }
        }
        for (key, value) in &cut {
            table.put(transaction, key, value)?;
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
        Ok(gone.len() + cut.len())
    }

    /// A run whose clock was ahead has recorded an end that is still to come, by which everything
    /// until then would be unwatched, or down. The episode was over when the present run began.
    fn cut(&self, episode: &EpisodeRecord) -> Option<EpisodeRecord> {
        let PresentTime { now, run_began } = self.present?;
        let is_ahead = episode.end.is_some_and(|end| end > now) && episode.begin <= run_began;
        is_ahead.then(|| EpisodeRecord { end: Some(run_began), ..episode.clone() })
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

    fn step_strangers(
        &mut self,
        transaction: &mut RwTxn,
        disk: &PastRecords,
    ) -> heed::Result<usize> {
        let from = self.at.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let mut gone = Vec::new();
        let mut looked_at = 0;
        for entry in disk.days.range(transaction, &range)?.take(STEP) {
            let (key, _) = entry?;
            looked_at += 1;
            self.at = Some(key.to_vec());
            if !disk.is_known(transaction, &disk::subject_of_day(key))? {
                gone.push(key.to_vec());
            }
        }
        for key in &gone {
            disk.days.delete(transaction, key)?;
        }
        if looked_at < STEP {
            self.next_stage();
        }
        Ok(gone.len())
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
