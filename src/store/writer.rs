//! The store's thread: collects what waits into groups, commits them, and stays with a group that
//! fails until it is on disk.

use super::disk::{self, Disk};
use super::error::StoreError;
use super::files::{self, DirectoryLock};
use super::stuck::Stuck;
use super::{StoreCommand, StoreSettings, residence};
use crate::pulse::Pulse;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::state::{ReadId, StateChange};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;

/// A group ends after this many commands or payload bytes, whichever is first, so that a burst is
/// acknowledged in steps and a transaction stays small.
const GROUP_COMMANDS: usize = 4_096;
const GROUP_BYTES: usize = 8 << 20;

/// The delay between tries doubles from the first to the longest, which keeps "within 5 s".
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// Between tries while the process ends, for which it has less than two seconds.
const CLOSING_DELAY: Duration = Duration::from_millis(100);

/// The longest sleep between two beats of the pulse.
const TICK: Duration = Duration::from_millis(500);
/// How long to wait for room among the events before looking again.
const EVENTS_FULL_DELAY: Duration = Duration::from_millis(5);

pub(super) struct Writer {
    settings: StoreSettings,
    events: tokio::sync::mpsc::Sender<Event>,
    pulse: Pulse,
    commands: Receiver<StoreCommand>,
    /// The instant by which to end, once that is wanted.
    closing: Arc<OnceLock<Instant>>,
    /// `None` when another try must open it first. Before the lock, to be closed before it goes.
    disk: Option<Disk>,
    lock: Option<DirectoryLock>,
    /// Taken from the channel while there was no store to write it to.
    first: Option<StoreCommand>,
    opened: bool,
    /// A failure was reported and no recovery yet.
    failing: bool,
    /// The database was used since its pages were last let go of.
    used: bool,
    /// That the disk does not answer was told while this thread could not.
    stuck: Arc<Stuck>,
}

/// What to do next, in order: the group, then the read.
struct Work {
    group: Vec<StoreCommand>,
    read: Option<StoreCommand>,
}

/// The thread is to end before the work is done.
struct GivenUp;

impl Writer {
    pub fn new(
        settings: StoreSettings,
        events: tokio::sync::mpsc::Sender<Event>,
        pulse: Pulse,
        commands: Receiver<StoreCommand>,
        (closing, stuck): (Arc<OnceLock<Instant>>, Arc<Stuck>),
    ) -> Self {
        Self {
            settings,
            events,
            pulse,
            commands,
            closing,
            disk: None,
            lock: None,
            first: None,
            opened: false,
            failing: false,
            used: false,
            stuck,
        }
    }

    /// Begins with a store that is open already.
    pub fn with(self, disk: Option<Disk>, lock: Option<DirectoryLock>) -> Self {
        Self { disk, lock, ..self }
    }

    /// Works until the channel is closed and empty. Returns whether everything is on disk.
    pub fn run(mut self) -> bool {
        self.stuck.this_thread_is_watched();
        match self.open() {
            Ok(()) => self.work().is_ok(),
            Err(GivenUp) => self.first.is_none(),
        }
    }

    fn open(&mut self) -> Result<(), GivenUp> {
        let (snapshot, damaged) = self.until_done(|disk, _| disk.snapshot())?;
        self.opened = true;
        self.report_damaged(damaged.len(), damaged.first());
        self.report(Event::StoreOpened(snapshot));
        self.report_recovery();
        Ok(())
    }

    fn work(&mut self) -> Result<(), GivenUp> {
        while let Some(Work { group, read }) = self.collect() {
            if !group.is_empty() {
                self.commit(&group)?;
            }
            if let Some(StoreCommand::ReadStates { read, filters, after }) = read {
                self.read(read, &filters, after.as_ref())?;
            }
        }
        Ok(())
    }

    /// Waits for a command, then takes what else waits, up to a read or the bounds of a group.
    fn collect(&mut self) -> Option<Work> {
        let mut work = Work { group: Vec::new(), read: None };
        let mut bytes = 0;
        let mut next = Some(self.wait_for_command()?);
        while let Some(command) = next {
            if let StoreCommand::ReadStates { .. } = command {
                work.read = Some(command);
                break;
            }
            bytes += payload_bytes(&command);
            work.group.push(command);
            if work.group.len() >= GROUP_COMMANDS || bytes >= GROUP_BYTES {
                break;
            }
            next = self.commands.try_recv().ok();
        }
        Some(work)
    }

    fn wait_for_command(&mut self) -> Option<StoreCommand> {
        if let Some(command) = self.first.take() {
            return Some(command);
        }
        loop {
            self.pulse.beat();
            self.report_recovery();
            match self.commands.recv_timeout(TICK) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Timeout) => self.rest(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Nothing has been asked for during a whole tick.
    fn rest(&mut self) {
        if std::mem::take(&mut self.used) {
            residence::let_go(&self.settings.directory);
        }
    }

    fn commit(&mut self, group: &[StoreCommand]) -> Result<(), GivenUp> {
        let mut written = Vec::new();
        if group.iter().any(needs_commit) {
            written = self.until_done(|disk, _| disk.commit(group))?;
            self.report_recovery();
        }
        if let Some(through) = disk::last_delivery(group) {
            self.report(Event::StatesCommitted { through });
        }
        if let Some(through) = disk::last_former_delivery(group) {
            self.report(Event::FormerStatesCommitted { through });
        }
        if group.iter().any(|command| matches!(command, StoreCommand::SaveDevices { .. })) {
            self.report(Event::DevicesSaved);
        }
        for (write, changed) in written {
            self.report(Event::StatesWritten { write, changed });
        }
        Ok(())
    }

    fn read(
        &mut self,
        read: ReadId,
        filters: &[TopicFilter],
        after: Option<&TopicName>,
    ) -> Result<(), GivenUp> {
        let chunk = self.until_done(|disk, pulse| disk.read(filters, after, pulse))?;
        self.report_recovery();
        if let Some(key) = chunk.damaged.first() {
            let example = String::from_utf8_lossy(key).into_owned();
            self.report_damaged(chunk.damaged.len(), Some(&example));
            // Where it fails, the next reading finds them again.
            let _ = self.disk.as_ref().map(|disk| disk.delete_states(&chunk.damaged));
        }
        self.report(Event::StatesRead { read, states: chunk.states, next: chunk.next });
        Ok(())
    }

    /// Does the work, opening the store first where need be, as often as it takes.
    fn until_done<T>(
        &mut self,
        work: impl Fn(&mut Disk, &Pulse) -> Result<T, StoreError>,
    ) -> Result<T, GivenUp> {
        let mut delay = FIRST_DELAY;
        let mut put_aside = false;
        self.used = true;
        loop {
            self.pulse.beat();
            let pulse = self.pulse.clone();
            let result = match self.open_disk() {
                Ok(disk) => work(disk, &pulse),
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // A database that failed once may refuse everything until it is opened anew.
            self.disk = None;
            // Twice in a row is no damaged file but a disk that damages them.
            let error = match error {
                StoreError::Damaged { .. } if !put_aside => match self.put_aside(&error) {
                    Ok(()) => {
                        put_aside = true;
                        continue;
                    }
                    Err(error) => error,
                },
                error => error,
            };
            if !self.is_failing() {
                self.failing = true;
                self.report(Event::StoreFailed { error: error.to_string() });
            }
            self.pause(delay)?;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    fn open_disk(&mut self) -> Result<&mut Disk, StoreError> {
        if self.lock.is_none() {
            self.lock = Some(files::lock(&self.settings.directory)?);
        }
        let disk = match self.disk.take() {
            Some(disk) => disk,
            None => Disk::open(&self.settings.directory, self.settings.map_bytes)?,
        };
        Ok(self.disk.insert(disk))
    }

    fn put_aside(&mut self, damage: &StoreError) -> Result<(), StoreError> {
        let path = files::put_aside(&self.settings.directory)?;
        let path = path.display().to_string();
        self.report(Event::StorePutAside { path, error: damage.to_string() });
        Ok(())
    }

    /// Waits before another try, unless the thread is to end.
    fn pause(&mut self, delay: Duration) -> Result<(), GivenUp> {
        let start = Instant::now();
        loop {
            self.pulse.beat();
            let delay = match self.closing.get().copied() {
                None => delay,
                Some(deadline) if deadline <= Instant::now() => {
                    self.take_first();
                    return Err(GivenUp);
                }
                // Nothing was sent to a store that never opened: there is nothing to wait for.
                Some(_) if !self.opened && !self.take_first() => return Err(GivenUp),
                Some(_) => CLOSING_DELAY,
            };
            let left = delay.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            thread::park_timeout(left.min(TICK));
        }
    }

    /// Whether a command waits for a store that is not open yet.
    fn take_first(&mut self) -> bool {
        if self.first.is_none() {
            self.first = self.commands.try_recv().ok();
        }
        self.first.is_some()
    }

    /// Whether a failure was reported, by whomever.
    fn is_failing(&mut self) -> bool {
        self.failing |= self.stuck.take_back();
        self.failing
    }

    fn report_recovery(&mut self) {
        if self.is_failing() {
            self.failing = false;
            self.report(Event::StoreRecovered);
        }
    }

    fn report_damaged(&self, count: usize, example: Option<&String>) {
        if let Some(example) = example {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.report(Event::StoreRecordsDamaged { count, example: example.clone() });
        }
    }

    /// Waits for room among the events. While the process ends, an event for which there is no
    /// room is dropped: whoever would read it is waiting for this thread.
    fn report(&self, event: Event) {
        let mut event = event;
        loop {
            match self.events.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(_)) if self.closing.get().is_some() => return,
                Err(TrySendError::Full(returned)) => event = returned,
            }
            self.pulse.beat();
            thread::park_timeout(EVENTS_FULL_DELAY);
        }
    }
}

fn needs_commit(command: &StoreCommand) -> bool {
    match command {
        StoreCommand::Record { change: StateChange::Nothing, .. }
        | StoreCommand::RecordFormer { change: StateChange::Nothing, .. }
        | StoreCommand::ReadStates { .. } => false,
        StoreCommand::Record { change: StateChange::Put(_) | StateChange::Forget(_), .. }
        | StoreCommand::RecordFormer {
            change: StateChange::Put(_) | StateChange::Forget(_), ..
        }
        | StoreCommand::WriteStates { .. }
        | StoreCommand::SaveDevices { .. }
        | StoreCommand::SaveSessionFilters(_)
        | StoreCommand::SaveIdentity(_) => true,
    }
}

fn payload_bytes(command: &StoreCommand) -> usize {
    let of_change = |change: &StateChange| match change {
        StateChange::Put(state) => state.payload.len(),
        StateChange::Nothing | StateChange::Forget(_) => 0,
    };
    match command {
        StoreCommand::Record { change, .. } | StoreCommand::RecordFormer { change, .. } => {
            of_change(change)
        }
        StoreCommand::WriteStates { changes, .. } => changes.iter().map(of_change).sum(),
        StoreCommand::ReadStates { .. }
        | StoreCommand::SaveDevices { .. }
        | StoreCommand::SaveSessionFilters(_)
        | StoreCommand::SaveIdentity(_) => 0,
    }
}
