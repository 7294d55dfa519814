//! The records of the past, in an LMDB environment of their own on a thread of their own, so that no
//! fault of them touches the recorded states.
//!
//! A batch that cannot be written is kept and tried again; the core hands out one at a time. Old
//! records are removed in small steps between the commands. The core decides what is recorded, and
//! computes every figure.

pub mod alert_tables;
pub mod alerts;
mod coding;
mod disk;
mod parts;
mod prune;
mod scans;
mod writer;

use crate::lmdb::StoreError;
use crate::pulse::Pulse;
use alerts::AlertBook;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::EpisodeRecord;
use iotmonitor_core::model::history::HistoryBatch;
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord};
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The name of the directory below that of the states.
pub const DIRECTORY: &str = "history";

/// Commands that may wait: one batch, the last one, and questions. When it is full, a question is
/// refused, and a batch waits for room with the caller.
const CHANNEL_CAPACITY: usize = 64;

/// The address space for the file at first, and at most. Beyond that the oldest records go.
const MAP_BYTES: usize = 64 << 20;
const MOST_MAP_BYTES: usize = if usize::BITS < 64 { 1 << 29 } else { 1 << 30 };

const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);

/// Where the records are, and how long they are kept.
#[derive(Debug, Clone)]
pub struct HistorySettings {
    pub directory: PathBuf,
    pub keep: Duration,
    /// Multiples of the page size; the first is doubled up to the second whenever it is full.
    pub map_bytes: usize,
    pub most_map_bytes: usize,
    /// The interval between two passes that remove old records.
    pub prune_interval: Duration,
}

impl HistorySettings {
    #[must_use]
    pub fn new(directory: PathBuf, keep: Duration) -> Self {
        Self {
            directory,
            keep,
            map_bytes: MAP_BYTES,
            most_map_bytes: MOST_MAP_BYTES,
            prune_interval: PRUNE_INTERVAL,
        }
    }
}

/// Takes an answer, or the reason why there is none, on the thread: what is computed from it does
/// not hold up the watching.
pub struct PastReader<T>(Box<dyn FnOnce(Result<T, String>) + Send>);

impl<T> PastReader<T> {
    pub fn new(read: impl FnOnce(Result<T, String>) + Send + 'static) -> Self {
        Self(Box::new(read))
    }

    /// Hands the answer over.
    pub fn take(self, answer: Result<T, String>) {
        (self.0)(answer);
    }
}

/// Shown the records of one device after the other, until it has enough.
type PastVisitor<'v> = &'v mut dyn FnMut(&DeviceName, &DeviceHistory) -> ControlFlow<()>;

/// Reads the records of the devices that were asked for, or says why they cannot be read.
type PastSource<'s> = &'s dyn Fn(PastVisitor<'_>) -> Result<(), String>;

/// Takes the records of devices, or the reason why they cannot be read, on the thread: what is
/// computed from them does not hold up the watching.
pub struct HistoryReader(Box<dyn FnOnce(PastSource<'_>) + Send>);

impl HistoryReader {
    /// Makes something of the records of each device, and replies with all of it.
    pub fn new<T: 'static>(
        make: impl Fn(&DeviceName, &DeviceHistory) -> T + Send + 'static,
        reply: impl FnOnce(Result<Vec<T>, String>) + Send + 'static,
    ) -> Self {
        Self::until(|_| false, make, reply)
    }

    /// The same, no further than the item with which there is enough.
    pub fn until<T: 'static>(
        mut has_enough: impl FnMut(&T) -> bool + Send + 'static,
        make: impl Fn(&DeviceName, &DeviceHistory) -> T + Send + 'static,
        reply: impl FnOnce(Result<Vec<T>, String>) + Send + 'static,
    ) -> Self {
        Self(Box::new(move |source| {
            let mut made = Vec::new();
            let outcome = source(&mut |device, history| {
                let item = make(device, history);
                let enough = has_enough(&item);
                made.push(item);
                if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            reply(outcome.map(|()| made));
        }))
    }
}

impl std::fmt::Debug for HistoryReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HistoryReader")
    }
}

impl<T> std::fmt::Debug for PastReader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PastReader")
    }
}

/// The history's part of [`iotmonitor_core::model::action::Action`], and questions.
#[derive(Debug)]
pub enum HistoryCommand {
    Save(Box<HistoryBatch>),
    /// The records of devices, with those of the monitor; days and restarts since this time.
    Read {
        devices: Vec<DeviceName>,
        since: Duration,
        now: Duration,
        reader: HistoryReader,
    },
    /// Alerts, the newest first.
    ReadAlerts {
        query: AlertQuery,
        reader: PastReader<Vec<Arc<AlertRecord>>>,
    },
    /// Note that a person has acknowledged an alert, and read when one did so first; `None` where
    /// there is no such alert.
    Acknowledge {
        id: u64,
        time: Duration,
        reader: PastReader<Option<Duration>>,
    },
    /// The latest incidents that lasted into the time since this one, the newest first, and at most so
    /// many: those of a device or of all.
    ReadIncidents {
        device: Option<DeviceName>,
        since: Duration,
        limit: usize,
        reader: PastReader<Vec<EpisodeRecord>>,
    },
    /// The figures of all devices, by name.
    ReadFigures {
        now: Duration,
        reader: PastReader<Vec<PastFigures>>,
    },
    /// Look at the alerts that wait.
    Wake,
    Keep(Duration),
}

/// A handle to the thread.
#[derive(Debug)]
pub struct HistoryHandle {
    commands: SyncSender<HistoryCommand>,
    closing: Arc<OnceLock<Instant>>,
    flushed: Receiver<bool>,
    thread: JoinHandle<()>,
}

/// Starts the thread, which opens the records and reports [`Event::HistoryOpened`], and writes the
/// alerts of the book.
///
/// # Errors
/// Returns an error when the system cannot create a thread.
pub fn spawn(
    settings: HistorySettings,
    book: AlertBook,
    events: tokio::sync::mpsc::Sender<Event>,
) -> std::io::Result<HistoryHandle> {
    let (commands, received) = sync_channel(CHANNEL_CAPACITY);
    // This is the only message, sent as the thread's last act, so the channel is never full.
    let (done, flushed) = sync_channel(1);
    let closing = Arc::new(OnceLock::new());
    let writer = writer::PastWriter::new(settings, book, (events, received), Arc::clone(&closing));
    let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        let flushed = writer.run();
        // A dropped handle does not need the result.
        let _ = done.try_send(flushed);
    })?;
    Ok(HistoryHandle { commands, closing, flushed, thread })
}

impl HistoryHandle {
    /// Hands over a command without waiting.
    ///
    /// # Errors
    /// Returns the command when [`CHANNEL_CAPACITY`] commands already wait.
    pub fn send(&self, command: HistoryCommand) -> Result<(), HistoryCommand> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) | TrySendError::Disconnected(command) => command,
        })
    }

    /// Writes what waits and ends the thread. Blocks for at most `within`. Returns whether
    /// everything is on disk.
    #[must_use]
    pub fn close(self, within: Duration) -> bool {
        let Self { commands, closing, flushed, thread } = self;
        // It is set nowhere else, because `self` is consumed.
        let _ = closing.set(Instant::now() + within);
        drop(commands);
        match flushed.recv_timeout(within) {
            Ok(flushed) => thread.join().is_ok() && flushed,
            Err(_) => false,
        }
    }
}

/// A pulse that is not examined: the watching goes on without a history.
fn unwatched_pulse() -> Pulse {
    Pulse::new()
}
