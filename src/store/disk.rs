//! The open database: one transaction for a group of changes, range scans for reading.
//!
//! Three tables: `meta` (the schema record, the heartbeat, the session's filters, the identity),
//! `states` by topic, `devices` by name. Every value carries a checksum. The writer retries,
//! reports errors and sets damaged files aside.

use super::StoreCommand;
use super::record;
use super::scan::{self, ScanVerdict};
use crate::lmdb::files::{self, FileIdentity, Look};
use crate::lmdb::{StoreError, environment, seal};
use crate::pulse::Pulse;
use heed::types::Bytes as HeedBytes;
use heed::{CommitOrAbort, Env, MdbError, RoRange, RoTxn, RwTxn, WithoutTls};
use iotmonitor_core::machines::retained::{Replay, Retained};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::identity::IdentityRecord;
use iotmonitor_core::model::message::Delivery;
use iotmonitor_core::model::snapshot::{DeviceRecord, Heartbeat, Snapshot};
use iotmonitor_core::model::state::{StateChange, StateRecord, WriteId};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 2;

/// One chunk of an answer ends after this many states or payload bytes, whichever is first.
const CHUNK_STATES: usize = 100;
const CHUNK_BYTES: usize = 1 << 20;

const SCHEMA_KEY: &[u8] = b"schema";
const HEARTBEAT_KEY: &[u8] = b"heartbeat";
const SESSION_FILTERS_KEY: &[u8] = b"session-filters";
const IDENTITY_KEY: &[u8] = b"identity";

type Table = heed::Database<'static, HeedBytes, HeedBytes>;

#[derive(Serialize, Deserialize)]
struct Schema {
    format: u32,
    made_by: String,
}

pub(super) struct Disk {
    directory: PathBuf,
    place: FileIdentity,
    env: Env<WithoutTls>,
    meta: Table,
    states: Table,
    devices: Table,
}

/// Which states that are put replace the recorded ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Puts {
    All,
    /// Those that are newer.
    Newer,
    /// Those that are no repetition, which saves writing.
    Changes,
}

/// This many entries are passed faster one by one than by searching for the next one.
const NEAR: usize = 8;

/// One chunk of recorded states.
#[derive(Default)]
pub(super) struct Chunk {
    pub states: Vec<StateRecord>,
    pub next: Option<TopicName>,
    /// Keys of records that fail their checksum.
    pub damaged: Vec<Vec<u8>>,
    /// The number of entries that were examined for it.
    pub examined: usize,
}

impl Disk {
    /// Opens the store, or creates it where there is none. The directory's lock must be held.
    pub fn open(
        directory: &Path,
        map_bytes: usize,
        look: Look,
        pulse: &Pulse,
    ) -> Result<Self, StoreError> {
        let make = |workshop: &Path| Self::open_database(workshop, map_bytes).map(drop);
        environment::prepare(directory, look, pulse, make, |found| newer(found, directory))?;
        let disk = Self::open_database(directory, map_bytes)?;
        disk.check_schema()?;
        Ok(disk)
    }

    fn open_database(directory: &Path, map_bytes: usize) -> Result<Self, StoreError> {
        let fail = |error| StoreError::database("open", directory, error);
        let env = environment::open(directory, map_bytes, 3).map_err(fail)?;
        let transaction = env.write_txn().map_err(fail)?;
        let (meta, states, devices) = env
            .create_databases_and_commit(transaction, |opener, transaction| {
                let [meta, states, devices] = ["meta", "states", "devices"].map(|name| {
                    opener.create_database::<HeedBytes, HeedBytes>(transaction, Some(name))
                });
                let (meta, states, devices) = (meta?, states?, devices?);
                // The record is written in the transaction that creates the tables, so that no
                // crash leaves a store without its schema.
                if meta.is_empty(transaction)? && states.is_empty(transaction)? {
                    meta.put(transaction, SCHEMA_KEY, &schema())?;
                    // A store without an identity is of a version before 0.4.0.
                    let unknown = to_json(IDENTITY_KEY, &IdentityRecord::default())?;
                    meta.put(transaction, IDENTITY_KEY, &unknown)?;
                } else if let Some(value) = meta.get(transaction, SCHEMA_KEY)?
                    && let Ok(found) = from_json::<Schema>(SCHEMA_KEY, value)
                    && found.format < FORMAT
                {
                    // Records of the earlier format are read as they are. A program that supports
                    // only that format must not touch the new ones.
                    meta.put(transaction, SCHEMA_KEY, &schema())?;
                }
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((meta, states, devices)))
            })
            .map_err(fail)?
            .commit()
            .ok_or_else(|| fail(MdbError::BadTxn.into()))?;
        let file = env.try_clone_inner_file().map_err(fail)?;
        let path = directory.join(files::DATA_FILE);
        let place =
            FileIdentity::of(path, &file).map_err(StoreError::file("look at", directory))?;
        Ok(Self { directory: directory.to_owned(), place, env, meta, states, devices })
    }

    /// Where the data file was when it was opened.
    pub fn place(&self) -> &FileIdentity {
        &self.place
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let transaction = self.read_transaction()?;
        let schema: Option<Schema> = self.json(&transaction, SCHEMA_KEY)?.unwrap_or(None);
        match schema {
            Some(schema) if schema.format > FORMAT => Err(newer(schema.format, &self.directory)),
            Some(_) => Ok(()),
            None => Err(StoreError::Damaged {
                path: self.directory.join(files::DATA_FILE),
                reason: "its schema record is missing or unreadable".to_owned(),
            }),
        }
    }

    /// The contents of the store other than the states, and a sentence for each damaged record.
    pub fn snapshot(&self) -> Result<(Snapshot, Vec<String>), StoreError> {
        let transaction = self.read_transaction()?;
        let mut damaged = Vec::new();
        let mut snapshot = Snapshot::default();
        match self.json::<Heartbeat>(&transaction, HEARTBEAT_KEY)? {
            Ok(heartbeat) => snapshot.heartbeat = heartbeat.unwrap_or_default(),
            Err(Unreadable) => damaged.push("the watched time".to_owned()),
        }
        match self.json::<Vec<TopicFilter>>(&transaction, SESSION_FILTERS_KEY)? {
            Ok(filters) => snapshot.session_filters = filters.unwrap_or_default(),
            Err(Unreadable) => damaged.push("the session's topic filters".to_owned()),
        }
        match self.identity()? {
            Ok(identity) => snapshot.identity = identity,
            Err(Unreadable) => {
                snapshot.identity = Some(IdentityRecord::default());
                damaged.push("the identity".to_owned());
            }
        }
        for entry in self.devices.iter(&transaction).map_err(|error| self.fail("read", error))? {
            let (key, value) = entry.map_err(|error| self.fail("read", error))?;
            match from_json::<DeviceRecord>(key, value) {
                Ok(device) => snapshot.devices.push(device),
                Err(Unreadable) => {
                    damaged.push(format!("the device {}", String::from_utf8_lossy(key)));
                }
            }
        }
        Ok((snapshot, damaged))
    }

    /// The identity under which the store was used; `None` where it was used by a version that
    /// recorded none.
    pub fn identity(&self) -> Result<Result<Option<IdentityRecord>, Unreadable>, StoreError> {
        let transaction = self.read_transaction()?;
        self.json(&transaction, IDENTITY_KEY)
    }

    /// Puts a group of changes on disk with one commit, durable when this returns. A full map is
    /// enlarged in the process. Returns how many states each ordered change has changed.
    pub fn commit(&mut self, group: &[StoreCommand]) -> Result<Vec<(WriteId, usize)>, StoreError> {
        loop {
            let mut written = Vec::new();
            let result = self.env.write_txn().and_then(|mut transaction| {
                let mut value = Vec::new();
                for command in group {
                    let changed = self.apply(&mut transaction, &mut value, command)?;
                    if let StoreCommand::WriteStates { write, .. } = command {
                        written.push((*write, changed));
                    }
                }
                transaction.commit()
            });
            match result {
                Ok(()) => return Ok(written),
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.fail("write to", error)),
            }
        }
    }

    fn grow(&mut self) -> Result<(), StoreError> {
        let bytes = self.env.info().map_size.saturating_mul(2);
        environment::resize(&mut self.env, bytes).map_err(|error| self.fail("enlarge", error))
    }

    /// Returns the number of states that were put, or existed and were deleted. `value` is memory
    /// for the values of states.
    fn apply(
        &self,
        transaction: &mut RwTxn,
        value: &mut Vec<u8>,
        command: &StoreCommand,
    ) -> heed::Result<usize> {
        match command {
            StoreCommand::ReadStates { .. } => Ok(0),
            StoreCommand::Record { change, .. } | StoreCommand::RecordFormer { change, .. } => {
                self.change(transaction, value, change, Puts::Changes)
            }
            StoreCommand::WriteStates { changes, keep_newer, .. } => {
                let puts = if *keep_newer { Puts::Newer } else { Puts::All };
                changes
                    .iter()
                    .map(|change| self.change(transaction, value, change, puts))
                    .try_fold(0, |sum, changed| Ok(sum + changed?))
            }
            StoreCommand::SaveDevices { heartbeat, changed, gone } => {
                self.meta.put(transaction, HEARTBEAT_KEY, &to_json(HEARTBEAT_KEY, heartbeat)?)?;
                for device in changed {
                    let key = device_key(&device.name);
                    self.devices.put(transaction, &key, &to_json(&key, device)?)?;
                }
                for name in gone {
                    self.devices.delete(transaction, &device_key(name))?;
                }
                Ok(0)
            }
            StoreCommand::SaveSessionFilters(filters) => {
                let value = to_json(SESSION_FILTERS_KEY, filters)?;
                self.meta.put(transaction, SESSION_FILTERS_KEY, &value)?;
                Ok(0)
            }
            StoreCommand::SaveIdentity(record) => {
                let value = to_json(IDENTITY_KEY, record)?;
                self.meta.put(transaction, IDENTITY_KEY, &value)?;
                Ok(0)
            }
        }
    }

    fn change(
        &self,
        transaction: &mut RwTxn,
        value: &mut Vec<u8>,
        change: &StateChange,
        puts: Puts,
    ) -> heed::Result<usize> {
        match change {
            StateChange::Nothing => Ok(0),
            StateChange::Put(state) | StateChange::PutUnflagged(state) => {
                let shows_retain = matches!(change, StateChange::Put(_));
                self.update(transaction, value, &state.topic, |key, recorded, value| {
                    let recorded_at =
                        || recorded.and_then(|recorded| record::time_of_state(key, recorded));
                    if puts == Puts::Newer
                        && recorded_at().is_some_and(|at| at.as_micros() > state.time.as_micros())
                    {
                        return false;
                    }
                    let known = || {
                        let known = recorded.and_then(|recorded| record::retained(key, recorded));
                        known.unwrap_or_default()
                    };
                    let retained = if shows_retain && state.retain {
                        Retained::own()
                    } else {
                        let (retained, payload) = known();
                        if shows_retain {
                            retained.replaced(payload)
                        } else {
                            retained.replaced_unflagged(payload, &state.payload)
                        }
                    };
                    record::encode_state(value, key, state, &retained);
                    let is_repeated = puts == Puts::Changes
                        && recorded
                            .is_some_and(|recorded| record::is_repetition(key, recorded, value));
                    !is_repeated
                })
            }
            StateChange::Replay(state) => self.replay(transaction, value, state),
            StateChange::Forget(topic) => {
                let key = seal::key(topic.as_ref());
                self.states.delete(transaction, &key).map(usize::from)
            }
        }
    }

    /// Records what the broker retains on a topic, which may be news, or only show what is stale.
    fn replay(
        &self,
        transaction: &mut RwTxn,
        value: &mut Vec<u8>,
        replay: &StateRecord,
    ) -> heed::Result<usize> {
        self.update(transaction, value, &replay.topic, |key, recorded, value| {
            let recorded = recorded.and_then(|value| record::decode_with_retained(key, value));
            let Some((state, retained)) = recorded else {
                record::encode_state(value, key, replay, &Retained::own());
                return true;
            };
            match retained.replayed(&state.payload, &replay.payload) {
                Replay::Stale(now) if now == retained => return false,
                Replay::Confirmed(now) if now == retained && state.retain => return false,
                Replay::Stale(now) => record::encode_state(value, key, &state, &now),
                Replay::Confirmed(now) => {
                    let state = StateRecord { retain: true, ..state };
                    record::encode_state(value, key, &state, &now);
                }
                Replay::News(now) => record::encode_state(value, key, replay, &now),
            }
            true
        })
    }

    /// Replaces the value of a topic by one that depends on it, with a single search of the table.
    /// `encode` gets the key and the recorded value, writes the new one, and returns whether it is
    /// to be put.
    fn update(
        &self,
        transaction: &mut RwTxn,
        value: &mut Vec<u8>,
        topic: &TopicName,
        encode: impl FnOnce(&[u8], Option<&[u8]>, &mut Vec<u8>) -> bool,
    ) -> heed::Result<usize> {
        let key = seal::key(topic.as_ref());
        let from_key = (Bound::Included(&*key), Bound::Unbounded);
        let mut entries = self.states.range_mut(transaction, &from_key)?;
        let recorded = entries.next().transpose()?.filter(|(found, _)| **found == *key);
        let recorded = recorded.map(|(_, recorded)| recorded);
        if !encode(&key, recorded, value) {
            return Ok(0);
        }
        #[expect(unsafe_code, reason = "writing where a cursor is positioned is unsafe in heed")]
        // SAFETY: the key is that of the entry, and neither it nor the value lies in the database.
        let is_replaced = recorded.is_some() && unsafe { entries.put_current(&key, value) }?;
        drop(entries);
        if !is_replaced {
            self.states.put(transaction, &key, value)?;
        }
        Ok(1)
    }

    /// Reads one chunk of the states that match any filter, or of all where there is none, in key
    /// order, behind `after`.
    pub fn read(
        &self,
        filters: &[TopicFilter],
        after: Option<&TopicName>,
        pulse: &Pulse,
    ) -> Result<Chunk, StoreError> {
        let transaction = self.read_transaction()?;
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        let after = after.map(|topic| [&*seal::key(topic.as_ref()), &[0]].concat());
        let mut bound = after.unwrap_or_default().max(seal::bound(scan::start(filters)));
        let mut entries = self.entries_from(&transaction, &bound)?;
        let mut passed = 0;
        while let Some(entry) = entries.next() {
            if chunk.examined % 1_000 == 0 {
                pulse.beat();
            }
            chunk.examined += 1;
            let (key, value) = entry.map_err(|error| self.fail("read", error))?;
            if key < bound.as_slice() {
                passed += 1;
                if passed == NEAR {
                    entries = self.entries_from(&transaction, &bound)?;
                }
                continue;
            }
            match judge(filters, key, value) {
                ScanVerdict::Matches => {}
                ScanVerdict::NoMore => break,
                ScanVerdict::NotBefore(next) => {
                    (bound, passed) = (seal::bound(&next), 0);
                    continue;
                }
            }
            if chunk.states.len() >= CHUNK_STATES || bytes >= CHUNK_BYTES {
                chunk.next = chunk.states.last().map(|state| state.topic.clone());
                break;
            }
            match record::decode_state(key, value) {
                Some(state) => {
                    bytes += state.payload.len();
                    chunk.states.push(state);
                }
                None => chunk.damaged.push(key.to_vec()),
            }
        }
        Ok(chunk)
    }

    fn entries_from<'t>(
        &self,
        transaction: &'t RoTxn,
        bound: &[u8],
    ) -> Result<RoRange<'t, HeedBytes, HeedBytes>, StoreError> {
        // LMDB does not accept an empty key.
        let start = if bound.is_empty() { Bound::Unbounded } else { Bound::Included(bound) };
        self.states
            .range(transaction, &(start, Bound::Unbounded))
            .map_err(|error| self.fail("read", error))
    }

    /// Deletes states by key.
    pub fn delete_states(&self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let delete = || {
            let mut transaction = self.env.write_txn()?;
            for key in keys {
                self.states.delete(&mut transaction, key)?;
            }
            transaction.commit()
        };
        delete().map_err(|error| self.fail("write to", error))
    }

    fn read_transaction(&self) -> Result<RoTxn<'_, WithoutTls>, StoreError> {
        self.env.read_txn().map_err(|error| self.fail("read", error))
    }

    fn json<T: DeserializeOwned>(
        &self,
        transaction: &RoTxn,
        key: &[u8],
    ) -> Result<Result<Option<T>, Unreadable>, StoreError> {
        let value = self.meta.get(transaction, key).map_err(|error| self.fail("read", error))?;
        Ok(value.map(|value| from_json(key, value)).transpose())
    }

    fn fail(&self, action: &'static str, error: heed::Error) -> StoreError {
        StoreError::database(action, &self.directory, error)
    }
}

/// A record that fails its checksum, or has unexpected contents.
pub(super) struct Unreadable;

fn newer(found: u32, directory: &Path) -> StoreError {
    StoreError::NewerFormat { found, supported: FORMAT, path: directory.to_owned() }
}

fn schema() -> Vec<u8> {
    let made_by = concat!("iotmonitor ", env!("CARGO_PKG_VERSION"));
    let text = serde_json::json!({ "format": FORMAT, "made_by": made_by }).to_string();
    seal::seal(SCHEMA_KEY, text.as_bytes())
}

fn device_key(name: &DeviceName) -> Cow<'_, [u8]> {
    seal::key(name.as_str().as_bytes())
}

fn to_json<T: Serialize>(key: &[u8], value: &T) -> heed::Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map(|content| seal::seal(key, &content))
        .map_err(|error| heed::Error::Encoding(error.into()))
}

fn from_json<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, Unreadable> {
    let content = seal::unseal(key, value).ok_or(Unreadable)?;
    serde_json::from_slice(content).map_err(|_| Unreadable)
}

/// The result of the filters for a record. A record whose topic cannot be determined is damaged,
/// and no filter is applied.
fn judge(filters: &[TopicFilter], key: &[u8], value: &[u8]) -> ScanVerdict {
    if seal::is_whole_topic(key) {
        return scan::judge(filters, key);
    }
    match record::peek_topic(value) {
        Some(topic)
            if !filters.is_empty() && !filters.iter().any(|filter| filter.matches(&topic)) =>
        {
            // Topics that share a prefix as long as this are few.
            ScanVerdict::NotBefore(Vec::new())
        }
        Some(_) | None => ScanVerdict::Matches,
    }
}

/// The last delivery of a group.
pub(super) fn last_delivery(group: &[StoreCommand]) -> Option<Delivery> {
    group.iter().rev().find_map(|command| match command {
        StoreCommand::Record { delivery, .. } => Some(*delivery),
        StoreCommand::RecordFormer { .. }
        | StoreCommand::ReadStates { .. }
        | StoreCommand::WriteStates { .. }
        | StoreCommand::SaveDevices { .. }
        | StoreCommand::SaveSessionFilters(_)
        | StoreCommand::SaveIdentity(_) => None,
    })
}

/// The last delivery of a group of a former session.
pub(super) fn last_former_delivery(group: &[StoreCommand]) -> Option<Delivery> {
    group.iter().rev().find_map(|command| match command {
        StoreCommand::RecordFormer { delivery, .. } => Some(*delivery),
        StoreCommand::Record { .. }
        | StoreCommand::ReadStates { .. }
        | StoreCommand::WriteStates { .. }
        | StoreCommand::SaveDevices { .. }
        | StoreCommand::SaveSessionFilters(_)
        | StoreCommand::SaveIdentity(_) => None,
    })
}
