//! The open records: one transaction for a batch, and reading by device.
//!
//! | PastTable | Key | Value |
//! |---|---|---|
//! | `meta` | name | schema, and the state of the last run |
//! | `open` | device, number | episodes that last |
//! | `episodes` | device, number | episodes that are over |
//! | `days` | date, device | contacts of each hour, and what an agent has used in it |
//! | `restarts` | device, time | how the process before ended |
//! | `known` | device | since when it is known |
//! | `warnings`, `notices` | number | alerts of these priorities (see [`super::alert_tables`]) |
//!
//! Episodes of the monitor have an empty device. Days are in the order of their dates, so that those
//! that are written together lie together.

use super::alert_tables::AlertTables;
pub(super) use super::coding::{from_json, to_json};
use super::{HistorySettings, PastVisitor, StoreError, unwatched_pulse};
use crate::lmdb::files::{self, FileIdentity, Look};
use crate::lmdb::{environment, seal};
use heed::types::Bytes as HeedBytes;
use heed::{CommitOrAbort, Env, MdbError, RoTxn, RwTxn, WithoutTls};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::hours::HOURS_KEPT;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use iotmonitor_core::model::history::{
    DAY, Date, DayTally, EpisodeRecord, HistoryBatch, HistorySnapshot, HourTally, RestartRecord,
    UsageTally, alert_record::AlertRecord,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const TABLES: [&str; 6] = ["meta", "open", "episodes", "days", "restarts", "known"];
const SCHEMA_KEY: &[u8] = b"schema";
const RUN_KEY: &[u8] = b"run";

/// Bytes of a name before its hash, so that a number fits behind it.
const NAME_BYTES: usize = 470;
/// The memory or processor time of an hour in which it could not be measured.
const NOT_KNOWN: u32 = u32::MAX;

/// Behind a name, which contains no control character.
const SEPARATOR: u8 = 0;

pub(super) type PastTable = heed::Database<'static, HeedBytes, HeedBytes>;

#[derive(Serialize, Deserialize)]
struct Schema {
    format: u32,
}

/// The state of the last run.
#[derive(Default, Serialize, Deserialize)]
struct Run {
    mark_millis: u64,
    last_id: u64,
}

/// Since when a device is known, and from when on its episodes are complete.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct KnownSince {
    pub name_millis: u64,
    #[serde(default)]
    pub complete_millis: u64,
    /// The number of its incidents, also of those that are no longer kept.
    #[serde(default)]
    pub incidents: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KnownRecord {
    pub name: String,
    #[serde(flatten)]
    pub known: KnownSince,
}

pub(super) struct PastRecords {
    directory: PathBuf,
    place: FileIdentity,
    most_map_bytes: usize,
    pub(super) env: Env<WithoutTls>,
    pub(super) meta: PastTable,
    pub(super) open: PastTable,
    pub(super) episodes: PastTable,
    pub(super) days: PastTable,
    pub(super) restarts: PastTable,
    pub(super) known: PastTable,
    pub(super) alerts: AlertTables,
    /// The last number of an alert of earlier runs.
    pub(super) earlier_alert: u64,
}

impl PastRecords {
    /// Opens the records, or creates them where there are none. The directory's lock must be held.
    pub fn open(settings: &HistorySettings) -> Result<Self, StoreError> {
        let directory = &settings.directory;
        let make = |workshop: &Path| Self::open_database(workshop, settings).map(drop);
        let newer = |found| newer(found, directory);
        environment::prepare(directory, Look::Whole, &unwatched_pulse(), make, newer)?;
        let disk = Self::open_database(directory, settings)?;
        disk.check_schema()?;
        Ok(disk)
    }

    fn open_database(directory: &Path, settings: &HistorySettings) -> Result<Self, StoreError> {
        let fail = |error| StoreError::database("open", directory, error);
        // A file that has grown is given its room at once.
        let length = std::fs::metadata(directory.join(files::DATA_FILE)).map_or(0, |it| it.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let map_bytes = if length < settings.map_bytes / 2 {
            settings.map_bytes
        } else {
            length.saturating_mul(2).next_multiple_of(settings.map_bytes)
        };
        let count = TABLES.len() + AlertTables::NAMES.len();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let env = environment::open(directory, map_bytes, count).map_err(fail)?;
        let transaction = env.write_txn().map_err(fail)?;
        let tables = env
            .create_databases_and_commit(transaction, |opener, transaction| {
                let [meta, open, episodes, days, restarts, known] = TABLES.map(|name| {
                    opener.create_database::<HeedBytes, HeedBytes>(transaction, Some(name))
                });
                let [warnings, notices] = AlertTables::NAMES.map(|name| {
                    opener.create_database::<HeedBytes, HeedBytes>(transaction, Some(name))
                });
                let alerts = (warnings?, notices?);
                let (meta, days, open) = (meta?, days?, open?);
                let (episodes, restarts, known) = (episodes?, restarts?, known?);
                if meta.is_empty(transaction)? {
                    let schema = to_json(SCHEMA_KEY, &Schema { format: FORMAT })?;
                    meta.put(transaction, SCHEMA_KEY, &schema)?;
                }
                let tables = ((meta, days, open), (episodes, restarts, known), alerts);
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(tables))
            })
            .map_err(fail)?
            .commit()
            .ok_or_else(|| fail(MdbError::BadTxn.into()))?;
        let ((meta, days, open), (episodes, restarts, known), (warnings, notices)) = tables;
        let file = env.try_clone_inner_file().map_err(fail)?;
        let place = FileIdentity::of(directory.join(files::DATA_FILE), &file)
            .map_err(StoreError::file("look at", directory))?;
        let (directory, most_map_bytes) = (directory.to_owned(), settings.most_map_bytes);
        Ok(Self {
            directory,
            place,
            most_map_bytes,
            env,
            meta,
            open,
            episodes,
            days,
            restarts,
            known,
            alerts: AlertTables { warnings, notices },
            earlier_alert: u64::MAX,
        })
    }

    /// Whether the file is still found at its place.
    pub fn is_in_place(&self) -> bool {
        self.place.is_kept()
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let transaction = self.env.read_txn().map_err(|error| self.fail("read", error))?;
        match self.json::<Schema>(&transaction, SCHEMA_KEY).map_err(|e| self.fail("read", e))? {
            Some(schema) if schema.format > FORMAT => Err(newer(schema.format, &self.directory)),
            Some(_) => Ok(()),
            None => Err(StoreError::Damaged {
                path: self.directory.join(files::DATA_FILE),
                reason: "its schema record is missing or unreadable".to_owned(),
            }),
        }
    }

    /// What a run continues. A record that fails its checksum counts as missing.
    pub fn snapshot(&self) -> Result<HistorySnapshot, StoreError> {
        self.read_snapshot().map_err(|error| self.fail("read", error))
    }

    fn read_snapshot(&self) -> heed::Result<HistorySnapshot> {
        let transaction = self.env.read_txn()?;
        let run = self.json::<Run>(&transaction, RUN_KEY)?;
        let mut snapshot = HistorySnapshot {
            mark: run.as_ref().map(|run| Duration::from_millis(run.mark_millis)),
            last_id: run.map_or(0, |run| run.last_id),
            ..HistorySnapshot::default()
        };
        for entry in self.open.iter(&transaction)? {
            let (key, value) = entry?;
            snapshot.open.extend(from_json::<EpisodeRecord>(key, value));
        }
        // The number is never used twice, not even after the record of the run was damaged.
        let open = snapshot.open.iter().map(|episode| episode.id).max().unwrap_or_default();
        snapshot.last_id = snapshot.last_id.max(open);
        for entry in self.known.iter(&transaction)? {
            let (key, value) = entry?;
            let record = from_json::<KnownRecord>(key, value);
            snapshot.known.extend(record.and_then(|it| DeviceName::new(it.name).ok()));
        }
        Ok(snapshot)
    }

    /// Puts a batch and alerts on disk with one commit, durable when this returns.
    pub fn write(
        &mut self,
        batch: Option<&HistoryBatch>,
        alerts: &[Arc<AlertRecord>],
    ) -> Result<(), StoreError> {
        self.commit(|disk, transaction| {
            disk.put_alerts(transaction, alerts)?;
            batch.map_or(Ok(()), |batch| disk.put_batch(transaction, batch))
        })
    }

    /// Makes a change with one commit. A full map is enlarged in the process.
    pub(super) fn commit(
        &mut self,
        mut change: impl FnMut(&Self, &mut RwTxn) -> heed::Result<()>,
    ) -> Result<(), StoreError> {
        loop {
            let written = self.env.write_txn().and_then(|mut transaction| {
                change(self, &mut transaction)?;
                transaction.commit()
            });
            match written {
                Ok(()) => return Ok(()),
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.fail("write to", error)),
            }
        }
    }

    /// Doubles the map. Beyond the limit there is a reserve, for what makes room needs some itself.
    pub(super) fn grow(&mut self) -> Result<(), StoreError> {
        let (bytes, limit) = (self.env.info().map_size, self.most_map_bytes);
        let bytes = match bytes {
            bytes if bytes < limit => bytes.saturating_mul(2).min(limit),
            bytes if bytes < limit + limit / 4 => limit + limit / 4,
            _ => return Err(self.fail("write to", MdbError::MapFull.into())),
        };
        environment::resize(&mut self.env, bytes).map_err(|error| self.fail("enlarge", error))
    }

    /// The time before which records should go, because they fill more than the limit: half of what
    /// there is.
    pub fn overflow(&self) -> heed::Result<Option<Duration>> {
        if self.env.info().map_size <= self.most_map_bytes {
            return Ok(None);
        }
        let transaction = self.env.read_txn()?;
        let mut used = 0;
        for table in [self.open, self.episodes, self.days, self.restarts, self.known] {
            used += table.stat(&transaction)?.non_free_page_size();
        }
        used += self.alerts.used(&transaction)?;
        drop(transaction);
        // What is beyond that limit, and may be in the list of free pages, is in the reserve.
        if used <= self.most_map_bytes {
            return Ok(None);
        }
        let extent = self.extent()?;
        Ok(extent.map(|(first, last)| Date(first.0 + (last.0 - first.0) / 2 + 1).begin()))
    }

    /// The first and the last date of which there is anything.
    fn extent(&self) -> heed::Result<Option<(Date, Date)>> {
        let transaction = self.env.read_txn()?;
        let date = |entry: Option<(&[u8], &[u8])>| entry.and_then(|(key, _)| date_of(key));
        let mut dates: Vec<Date> = [self.days.first(&transaction)?, self.days.last(&transaction)?]
            .into_iter()
            .filter_map(date)
            .collect();
        for entry in self.episodes.iter(&transaction)?.step_by(64) {
            let (key, value) = entry?;
            dates
                .extend(from_json::<EpisodeRecord>(key, value).and_then(|it| it.end).map(Date::of));
        }
        Ok(dates.iter().min().copied().zip(dates.iter().max().copied()))
    }

    fn put_batch(&self, transaction: &mut RwTxn, batch: &HistoryBatch) -> heed::Result<()> {
        for name in &batch.forgotten {
            self.forget(transaction, &subject_key(Some(name)))?;
        }
        let mut begun = Vec::new();
        for episode in &batch.episodes {
            let key = numbered_key(episode.device.as_ref(), episode.id);
            let value = to_json(&key, episode)?;
            let is_new = self.open.get(transaction, &key)?.is_none()
                && self.episodes.get(transaction, &key)?.is_none();
            if is_new && episode.kind.is_incident() {
                begun.push(subject_of(&key).to_vec());
            }
            if episode.end.is_some() {
                self.open.delete(transaction, &key)?;
                self.episodes.put(transaction, &key, &value)?;
            } else {
                self.open.put(transaction, &key, &value)?;
            }
        }
        if !batch.steps.is_empty() {
            self.follow_clock(transaction, batch)?;
            let (earlier, steps) = (self.earlier_alert, &batch.steps);
            self.alerts.follow_clock(transaction, earlier, steps, batch.mark)?;
        }
        for (name, since) in &batch.known {
            let key = subject_key(Some(name));
            if self.known.get(transaction, &key)?.is_none() {
                let known = KnownSince { name_millis: millis(*since), ..KnownSince::default() };
                let record = KnownRecord { name: name.to_string(), known };
                self.known.put(transaction, &key, &to_json(&key, &record)?)?;
            }
        }
        for subject in &begun {
            self.count_incident(transaction, subject)?;
        }
        for tally in &batch.tallies {
            self.add_tally(transaction, tally)?;
        }
        for restart in &batch.restarts {
            let key = numbered_key(Some(&restart.agent), millis(restart.time));
            self.restarts.put(transaction, &key, &to_json(&key, restart)?)?;
        }
        let run = Run { mark_millis: millis(batch.mark), last_id: batch.last_id };
        self.meta.put(transaction, RUN_KEY, &to_json(RUN_KEY, &run)?)
    }

    fn count_incident(&self, transaction: &mut RwTxn, subject: &[u8]) -> heed::Result<()> {
        let value = self.known.get(transaction, subject)?;
        let Some(mut record) = value.and_then(|it| from_json::<KnownRecord>(subject, it)) else {
            return Ok(());
        };
        record.known.incidents = record.known.incidents.saturating_add(1);
        self.known.put(transaction, subject, &to_json(subject, &record)?)
    }

    /// A subject that is not known any more: what else there is of it is removed by passes.
    pub(super) fn forget(&self, transaction: &mut RwTxn, subject: &[u8]) -> heed::Result<()> {
        self.known.delete(transaction, subject)?;
        let open: heed::Result<Vec<Vec<u8>>> = self
            .open
            .prefix_iter(transaction, subject)?
            .map(|entry| entry.map(|(key, _)| key.to_vec()))
            .collect();
        open?.iter().try_for_each(|key| self.open.delete(transaction, key).map(drop))
    }

    /// Whether a subject is known, as the monitor itself always is.
    pub(super) fn is_known(&self, transaction: &RoTxn, subject: &[u8]) -> heed::Result<bool> {
        Ok(subject == [SEPARATOR] || self.known.get(transaction, subject)?.is_some())
    }

    /// The times since which devices are known move with the clock, if they are of this run.
    fn follow_clock(&self, transaction: &mut RwTxn, batch: &HistoryBatch) -> heed::Result<()> {
        let mut moved = Vec::new();
        for entry in self.known.iter(transaction)? {
            let (key, value) = entry?;
            let Some(mut record) = from_json::<KnownRecord>(key, value) else { continue };
            let before = Duration::from_millis(record.known.name_millis);
            let after = batch.steps.iter().fold(before, |time, step| step.follow(time));
            if after != before {
                record.known.name_millis = millis(after);
                moved.push((key.to_vec(), to_json(key, &record)?));
            }
        }
        moved.iter().try_for_each(|(key, value)| self.known.put(transaction, key, value))
    }

    fn add_tally(&self, transaction: &mut RwTxn, tally: &HourTally) -> heed::Result<()> {
        let (date, hour) = (Date(tally.hour / 24), tally.hour % 24);
        let key = day_key(date, &tally.device);
        let recorded = self.days.get(transaction, &key)?;
        let mut day = recorded.and_then(|value| decode_day(&key, value)).unwrap_or_default();
        day.add(usize::try_from(hour).unwrap_or(0), tally.tally, tally.usage);
        self.days.put(transaction, &key, &encode_day(&key, &day))
    }

    /// Shows everything about each of the devices that is kept, with the episodes of the monitor,
    /// from one moment.
    pub fn read(
        &self,
        devices: &[DeviceName],
        times: (Duration, Duration, Duration),
        visitor: PastVisitor<'_>,
    ) -> Result<(), StoreError> {
        let read = |visitor: PastVisitor<'_>| {
            let transaction = self.env.read_txn()?;
            let monitor = self.episodes_of(&transaction, None)?;
            for device in devices {
                let history = self.read_device(&transaction, device, times, &monitor)?;
                if visitor(device, &history).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read(visitor).map_err(|error| self.fail("read", error))
    }

    fn episodes_of(
        &self,
        transaction: &RoTxn,
        device: Option<&DeviceName>,
    ) -> heed::Result<Vec<EpisodeRecord>> {
        let mut episodes = Vec::new();
        let prefix = subject_key(device);
        for table in [self.episodes, self.open] {
            for entry in table.prefix_iter(transaction, &prefix)? {
                let (key, value) = entry?;
                episodes.extend(from_json::<EpisodeRecord>(key, value));
            }
        }
        Ok(episodes)
    }

    fn read_device(
        &self,
        transaction: &RoTxn,
        device: &DeviceName,
        (since, now, keep): (Duration, Duration, Duration),
        of_monitor: &[EpisodeRecord],
    ) -> heed::Result<DeviceHistory> {
        let mut history = DeviceHistory::default();
        let known = self.known_of(transaction, Some(device))?;
        let monitor = self.known_of(transaction, None)?;
        history.since = known.map(|known| {
            let complete = known.complete_millis.max(monitor.map_or(0, |it| it.complete_millis));
            let since = Duration::from_millis(known.name_millis.max(complete));
            since.max(now.saturating_sub(keep))
        });
        history.episodes = self.episodes_of(transaction, Some(device))?;
        history.episodes.extend_from_slice(of_monitor);
        history.episodes.sort_by_key(|episode| (episode.begin, episode.id));
        let today = Date::of(now);
        let first = Date::of(since).0.max(today.0.saturating_sub(366 * 3));
        for date in (first..=today.0).map(Date) {
            let key = day_key(date, device);
            let value = self.days.get(transaction, &key)?;
            let day = value.and_then(|value| decode_day(&key, value));
            history.days.extend(day.map(|day| (date, day)));
        }
        let from = numbered_key(Some(device), millis(since));
        let end = numbered_key(Some(device), u64::MAX);
        let range = (Bound::Included(from.as_slice()), Bound::Included(end.as_slice()));
        for entry in self.restarts.range(transaction, &range)? {
            let (key, value) = entry?;
            history.restarts.extend(from_json::<RestartRecord>(key, value));
        }
        Ok(history)
    }

    pub(super) fn known_of(
        &self,
        transaction: &RoTxn,
        device: Option<&DeviceName>,
    ) -> heed::Result<Option<KnownSince>> {
        let key = subject_key(device);
        let value = self.known.get(transaction, &key)?;
        Ok(value.and_then(|value| from_json::<KnownRecord>(&key, value)).map(|it| it.known))
    }

    /// Notes that the episodes of a subject are complete only from this time on.
    pub(super) fn complete_from(
        &self,
        transaction: &mut RwTxn,
        subject: &[u8],
        time: Duration,
    ) -> heed::Result<()> {
        if !self.is_known(transaction, subject)? {
            return Ok(());
        }
        let value = self.known.get(transaction, subject)?;
        let mut record = match value.and_then(|it| from_json::<KnownRecord>(subject, it)) {
            Some(record) => record,
            None => KnownRecord { name: String::new(), known: KnownSince::default() },
        };
        record.known.complete_millis = record.known.complete_millis.max(millis(time));
        self.known.put(transaction, subject, &to_json(subject, &record)?)
    }

    fn json<T: DeserializeOwned>(
        &self,
        transaction: &RoTxn,
        key: &[u8],
    ) -> heed::Result<Option<T>> {
        Ok(self.meta.get(transaction, key)?.and_then(|value| from_json(key, value)))
    }

    pub(super) fn fail(&self, action: &'static str, error: heed::Error) -> StoreError {
        StoreError::database(action, &self.directory, error)
    }
}

fn newer(found: u32, directory: &Path) -> StoreError {
    StoreError::NewerFormat { found, supported: FORMAT, path: directory.to_owned() }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn short_name(device: Option<&DeviceName>) -> Vec<u8> {
    device.map_or_else(Vec::new, |name| {
        seal::key_within(name.as_str().as_bytes(), NAME_BYTES).into_owned()
    })
}

/// The prefix of the keys of a device; that of the monitor is the separator alone.
pub(super) fn subject_key(device: Option<&DeviceName>) -> Vec<u8> {
    let mut key = short_name(device);
    key.push(SEPARATOR);
    key
}

fn numbered_key(device: Option<&DeviceName>, number: u64) -> Vec<u8> {
    let mut key = subject_key(device);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The part of a numbered key before its number.
pub(super) fn subject_of(key: &[u8]) -> &[u8] {
    key.get(..key.len().saturating_sub(8)).unwrap_or_default()
}

fn day_key(date: Date, device: &DeviceName) -> Vec<u8> {
    let mut key = date.0.to_be_bytes().to_vec();
    key.extend_from_slice(&short_name(Some(device)));
    key
}

/// The subject of the key of a day.
pub(super) fn subject_of_day(key: &[u8]) -> Vec<u8> {
    let mut subject = key.get(4..).unwrap_or_default().to_vec();
    subject.push(SEPARATOR);
    subject
}

pub(super) fn date_of(key: &[u8]) -> Option<Date> {
    key.first_chunk().map(|date| Date(u32::from_be_bytes(*date)))
}

/// The longest silence, and contacts by the hour or their sum; of an agent also memory and processor
/// time of the same parts.
pub(super) fn encode_day(key: &[u8], day: &DayTally) -> Vec<u8> {
    let memory = day.usage.iter().map(|usage| usage.memory_kib.unwrap_or(NOT_KNOWN));
    let cpu = day.usage.iter().map(|usage| usage.cpu_millis.unwrap_or(NOT_KNOWN));
    let numbers = std::iter::once(day.longest_silence).chain(day.contacts.iter().copied());
    let content: Vec<u8> = numbers.chain(memory).chain(cpu).flat_map(u32::to_le_bytes).collect();
    seal::seal(key, &content)
}

pub(super) fn decode_day(key: &[u8], value: &[u8]) -> Option<DayTally> {
    let content = seal::unseal(key, value)?;
    let numbers = content.chunks_exact(4).filter_map(|number| number.first_chunk().copied());
    let mut numbers = numbers.map(u32::from_le_bytes);
    let longest_silence = numbers.next()?;
    let mut contacts: Vec<u32> = numbers.collect();
    let parts = match contacts.len() {
        1 | 3 => 1,
        24 | 72 => 24,
        _ => return None,
    };
    let used = contacts.split_off(parts);
    let known = |number: &u32| Some(*number).filter(|number| *number != NOT_KNOWN);
    let usage = used
        .iter()
        .zip(used.iter().skip(parts))
        .map(|(memory, cpu)| UsageTally { memory_kib: known(memory), cpu_millis: known(cpu) });
    Some(DayTally { longest_silence, usage: usage.take(parts).collect(), contacts })
}

/// The time of the last hour of a date that is no longer kept by the hour.
pub(super) fn hours_until(now: Duration) -> Date {
    Date::of(now.saturating_sub(Duration::from_secs(HOURS_KEPT * DAY)))
}
