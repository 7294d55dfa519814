//! The durable store: recorded states, the devices' records, and the session's filters, in LMDB on
//! a separate thread.
//!
//! Commands go in through a bounded channel and are carried out in order; waiting commands are
//! combined into one transaction with one fsync, and then reported. A commit of a few deliveries waits
//! up to a second for more of them (`group`). When a commit fails, the group stays in memory and is
//! retried until it succeeds, and everything behind it waits, including reads: no read misses a command
//! that was sent before it. The core decides the meaning of a state and the time of its restore.
//!
//! The flags are LMDB's default, so that a commit that was reported survives a power cut.

mod disk;
mod group;
mod record;
mod scan;
mod writer;

pub use disk::FORMAT;
#[cfg(any(test, fuzzing))]
pub use record::fuzz as fuzz_records;

use crate::bounded::{QueueSender, queue};
pub use crate::lmdb::StoreError;
use crate::lmdb::files;
use crate::lmdb::stuck::Stuck;
use crate::pulse::Pulse;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::identity::IdentityRecord;
use iotmonitor_core::model::message::Delivery;
use iotmonitor_core::model::snapshot::{DeviceRecord, Heartbeat};
use iotmonitor_core::model::state::{ReadId, StateChange, WriteId};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The number of commands that may wait: the 4,096 deliveries that can be unacknowledged, 8 reads,
/// one saving of devices, and room for saved filters. When it is full, [`StoreHandle::send`]
/// returns the command to the sender, which keeps it.
pub const CHANNEL_CAPACITY: usize = 4_096 + 8 + 1 + 55;

/// Bytes of address space reserved for the data at first; the file grows only as it is filled. A
/// process of 32 bits has little more than 2 GiB, which the history and the threads need too.
pub const DEFAULT_MAP_BYTES: usize = if usize::BITS < 64 { 1 << 28 } else { 1 << 30 };

/// The start waits for a check of the store no longer than this, far longer than the check of a
/// large one takes.
const CHECK_PATIENCE: Duration = Duration::from_secs(20);

/// The interval between two pulses of a check of the store.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// The location of the store.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The directory, created if it does not exist; no other process may use it.
    pub directory: PathBuf,
    /// [`DEFAULT_MAP_BYTES`]; a multiple of the page size. Doubled whenever it is full.
    pub map_bytes: usize,
}

impl StoreSettings {
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), map_bytes: DEFAULT_MAP_BYTES }
    }
}

/// The store's part of [`iotmonitor_core::model::action::Action`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreCommand {
    Record { delivery: Delivery, change: StateChange },
    RecordFormer { delivery: Delivery, change: StateChange },
    ReadStates { read: ReadId, filters: Vec<TopicFilter>, after: Option<TopicName> },
    WriteStates { write: WriteId, changes: Vec<StateChange>, keep_newer: bool },
    SaveDevices { heartbeat: Box<Heartbeat>, changed: Vec<DeviceRecord>, gone: Vec<DeviceName> },
    SaveSessionFilters(Vec<TopicFilter>),
    SaveIdentity(Box<IdentityRecord>),
}

/// The channel to the store is full, or its thread is gone; the command comes back.
#[derive(Debug, thiserror::Error)]
#[error("{CHANNEL_CAPACITY} commands wait for the store already")]
pub struct StoreFull(pub Box<StoreCommand>);

/// A handle to the store's thread. If it is dropped without [`StoreHandle::close`], the thread
/// still writes the waiting commands, and the result is not reported.
#[derive(Debug)]
pub struct StoreHandle {
    commands: QueueSender<StoreCommand>,
    closing: Arc<OnceLock<Instant>>,
    flushed: Receiver<bool>,
    thread: JoinHandle<()>,
    stuck: Arc<Stuck>,
    pulse: Pulse,
}

/// The result of [`check_format`], whose check of all pages takes time.
pub struct Opened(Found);

enum Found {
    /// A good store, already open.
    Good {
        // It is declared before the lock, to be closed before the lock is released.
        disk: disk::Disk,
        lock: files::DirectoryLock,
    },
    /// A large store on a slow disk, whose check is still running.
    Looking(Looking),
}

/// A running check of a store.
struct Looking {
    outcome: Receiver<Result<Option<Opened>, StoreError>>,
    pulse: Pulse,
    stuck: Arc<Stuck>,
}

impl Looking {
    fn begin(directory: &Path) -> std::io::Result<Self> {
        let (answer, outcome) = sync_channel(1);
        let (pulse, stuck) = (Pulse::new(), Arc::new(Stuck::default()));
        let (directory, beaten, watched) = (directory.to_owned(), pulse.clone(), stuck.clone());
        let look = move || {
            watched.watch_this_thread();
            // If this fails, the caller has gone away, and the store is closed again.
            let _ = answer.try_send(look_at(&directory, &beaten));
        };
        std::thread::Builder::new().name("store-check".to_owned()).spawn(look)?;
        Ok(Self { outcome, pulse, stuck })
    }

    /// The result, if the check is complete by then. `Ok(None)` also where its thread died.
    fn outcome(&self, within: Duration) -> Option<Result<Option<Opened>, StoreError>> {
        match self.outcome.recv_timeout(within) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Disconnected) => Some(Ok(None)),
            Err(RecvTimeoutError::Timeout) => None,
        }
    }

    fn is_alive(&self) -> bool {
        self.pulse.age() < LOOK_PATIENCE
    }

    fn stuck(&self) -> &Stuck {
        &self.stuck
    }
}

impl Opened {
    /// The identity under which it was used; `None` where it was last used by a version before
    /// 0.4.0. While this is unknown, the store counts as unused.
    #[must_use]
    pub fn identity(&self) -> Option<IdentityRecord> {
        let Found::Good { disk, .. } = &self.0 else { return Some(IdentityRecord::default()) };
        // An error in it is reported when the store's thread reads it.
        disk.identity().ok().and_then(Result::ok).unwrap_or_else(|| Some(IdentityRecord::default()))
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// Checks whether this version may use the store in `directory`; it must be called before
/// [`spawn`]. A good store is returned open, so that it is not checked twice; if the check takes
/// longer than [`CHECK_PATIENCE`], the unfinished check is returned. A missing, damaged, locked or
/// unreadable store gives `None`, and the store's thread reports it.
///
/// # Errors
/// Returns [`StoreError::NewerFormat`] and no other error.
pub fn check_format(directory: &Path) -> Result<Option<Opened>, StoreError> {
    check_format_within(directory, CHECK_PATIENCE)
}

fn check_format_within(directory: &Path, patience: Duration) -> Result<Option<Opened>, StoreError> {
    // If no thread can be started, the same happens to the store's own, which reports it.
    let Ok(looking) = Looking::begin(directory) else { return Ok(None) };
    looking.outcome(patience).unwrap_or_else(|| Ok(Some(Opened(Found::Looking(looking)))))
}

fn look_at(directory: &Path, pulse: &Pulse) -> Result<Option<Opened>, StoreError> {
    if !directory.join(files::DATA_FILE).exists() {
        return Ok(None);
    }
    let Ok(lock) = files::lock(directory) else { return Ok(None) };
    match disk::Disk::open(directory, DEFAULT_MAP_BYTES, files::Look::Whole, pulse) {
        Ok(disk) => Ok(Some(Opened(Found::Good { disk, lock }))),
        Err(error @ StoreError::NewerFormat { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Starts the store's thread. It reports through `events`; while that channel is full, it waits.
///
/// # Errors
/// Returns an error when the system cannot create a thread.
pub fn spawn(
    settings: StoreSettings,
    events: tokio::sync::mpsc::Sender<Event>,
    pulse: Pulse,
) -> std::io::Result<StoreHandle> {
    spawn_with(None, settings, events, pulse)
}

/// Starts the store's thread as [`spawn`] does, with the store that [`check_format`] has opened in
/// the directory of these settings.
///
/// # Errors
/// Returns an error when the system cannot create a thread.
pub fn spawn_with(
    opened: Option<Opened>,
    settings: StoreSettings,
    events: tokio::sync::mpsc::Sender<Event>,
    pulse: Pulse,
) -> std::io::Result<StoreHandle> {
    let (commands, received) = queue(CHANNEL_CAPACITY);
    // This is the only message, sent as the thread's last act, so the channel is never full.
    let (done, flushed) = sync_channel(1);
    let closing = Arc::new(OnceLock::new());
    let stuck = Arc::new(Stuck::default());
    let shared = (Arc::clone(&closing), Arc::clone(&stuck));
    let beaten = pulse.clone();
    let writer = writer::Writer::new(settings, events, beaten, received, shared).with(opened);
    let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        let flushed = writer.run();
        // A dropped handle does not need the result.
        let _ = done.try_send(flushed);
    })?;
    Ok(StoreHandle { commands, closing, flushed, thread, stuck, pulse })
}

impl StoreHandle {
    /// Hands a command to the store without waiting.
    ///
    /// # Errors
    /// Returns the command when [`CHANNEL_CAPACITY`] commands already wait.
    pub fn send(&self, command: StoreCommand) -> Result<(), StoreFull> {
        self.pulse.rouse();
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) | TrySendError::Disconnected(command) => {
                StoreFull(Box::new(command))
            }
        })
    }

    /// Whether the thread waits in the kernel for the disk, which a restart would not end.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        self.stuck.waits_for_disk()
    }

    /// Whether to report now that the disk does not answer, once for each outage. The store reports
    /// [`Event::StoreRecovered`] when it does.
    #[must_use]
    pub fn is_newly_stuck(&self) -> bool {
        !self.stuck.is_reported() && self.stuck.waits_for_disk() && self.stuck.report()
    }

    /// Writes all waiting commands, closes the database and ends the thread. Blocks for at most
    /// `within`, and a tenth of a second more for a running system call; events for which there is
    /// no room are dropped by then. Returns whether everything is on disk.
    #[must_use]
    pub fn close(self, within: Duration) -> bool {
        let Self { commands, closing, flushed, thread, stuck: _, pulse: _ } = self;
        drop(commands);
        // It is set nowhere else, because `self` is consumed.
        let _ = closing.set(Instant::now() + within);
        thread.thread().unpark();
        match flushed.recv_timeout(within + Duration::from_millis(100)) {
            Ok(flushed) => thread.join().is_ok() && flushed,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::message::QoS;
    use iotmonitor_core::model::state::StateRecord;

    fn state(topic: &str) -> StateRecord {
        StateRecord {
            topic: TopicName::new(topic).unwrap(),
            payload: bytes::Bytes::from_static(b"on"),
            qos: QoS::AtLeastOnce,
            retain: false,
            time: Duration::from_secs(1_700_000_000),
        }
    }

    fn group(topics: impl Iterator<Item = String>) -> Vec<StoreCommand> {
        topics
            .map(|topic| StoreCommand::Record {
                delivery: Delivery(1),
                change: StateChange::Put(state(&topic)),
            })
            .collect()
    }

    fn open(directory: &Path) -> disk::Disk {
        let look = files::Look::Whole;
        disk::Disk::open(directory, DEFAULT_MAP_BYTES, look, &Pulse::new()).unwrap()
    }

    #[test]
    fn a_look_that_takes_long_is_waited_for_and_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        // Some time passes before so many pages are checked.
        let topics = (0..50_000).map(|number| format!("home/{number}/state"));
        open(directory.path()).commit(&group(topics)).unwrap();
        let opened = check_format_within(directory.path(), Duration::ZERO).unwrap();
        let (sender, mut events) = tokio::sync::mpsc::channel(8);
        let settings = StoreSettings::new(directory.path());
        let handle = spawn_with(opened, settings, sender, Pulse::new()).unwrap();
        match events.blocking_recv() {
            Some(Event::StoreOpened(_)) => {}
            other => panic!("{other:?}"),
        }
        assert!(handle.close(Duration::from_secs(60)));
    }

    #[test]
    fn a_store_that_has_nothing_to_do_rests_until_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let (sender, mut events) = tokio::sync::mpsc::channel(8);
        let (settings, pulse) = (StoreSettings::new(directory.path()), Pulse::new());
        let handle = spawn(settings, sender, pulse.clone()).unwrap();
        assert!(matches!(events.blocking_recv(), Some(Event::StoreOpened(_))));
        for _ in 0..2 {
            let patience = Instant::now() + Duration::from_secs(20);
            while !pulse.is_resting() {
                assert!(Instant::now() < patience, "the store's thread wakes again and again");
                std::thread::sleep(Duration::from_millis(10));
            }
            for command in group(["lamp/set".to_owned()].into_iter()) {
                handle.send(command).unwrap();
            }
            let committed = events.blocking_recv();
            assert_eq!(committed, Some(Event::StatesCommitted { through: Delivery(1) }));
        }
        assert!(handle.close(Duration::from_secs(60)));
    }

    #[test]
    fn the_pulse_beats_while_all_pages_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let topics = (0..5_000).map(|number| format!("home/{number}/state"));
        open(directory.path()).commit(&group(topics)).unwrap();
        let pulse = Pulse::since(Instant::now() - Duration::from_secs(60));
        assert!(pulse.age() >= Duration::from_secs(60));
        files::inspect(directory.path(), files::Look::Whole, &pulse).unwrap();
        assert!(pulse.age() < Duration::from_secs(60));
    }

    #[test]
    fn a_filter_that_begins_with_a_wildcard_reads_what_matches_and_little_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = open(directory.path());
        let topics = (0..20)
            .flat_map(|room| (0..1_000).map(move |lamp| format!("room{room}/lamp{lamp}/set")));
        disk.commit(&group(topics)).unwrap();
        let filters = [TopicFilter::new("+/lamp7/#").unwrap()];
        let chunk = disk.read(&filters, None, &Pulse::new()).unwrap();
        assert_eq!((chunk.states.len(), chunk.next), (20, None));
        assert!(chunk.examined < 1_000, "{} of 20,000 entries were looked at", chunk.examined);
    }
}
