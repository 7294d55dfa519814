//! The store's thread: collects waiting commands into groups, commits them, and retries a failed
//! group until it is on disk.

use super::disk::{self, Disk};
use super::group::{CommitGroup, Lingering};
use super::{Found, Looking, Opened, StoreCommand, StoreSettings};
use crate::bounded::QueueReceiver;
use crate::lmdb::StoreError;
use crate::lmdb::files::{self, DirectoryLock, FileIdentity, Look};
use crate::lmdb::residence::MappedPages;
use crate::lmdb::stuck::Stuck;
use crate::pulse::Pulse;
use iotmonitor_core::backoff::Backoff;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::state::ReadId;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;

/// The delays between tries keep the promise of recovery within 5 s.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// The delay between tries while the process ends, for which it has less than two seconds.
const CLOSING_DELAY: Duration = Duration::from_millis(100);

/// After so many commits and reads without a pause, the pages of the file that are mapped are released:
/// the states of a whole fleet may be read at once.
const MOST_USES: usize = 64;

/// The longest sleep between two beats of the pulse, while there is something to do or has just been.
const TICK: Duration = Duration::from_millis(500);
/// The delay between two checks for room among the events.
const EVENTS_FULL_DELAY: Duration = Duration::from_millis(5);

pub(super) struct Writer {
    settings: StoreSettings,
    events: tokio::sync::mpsc::Sender<Event>,
    pulse: Pulse,
    commands: QueueReceiver<StoreCommand>,
    /// The deadline of the end, once it has been requested.
    closing: Arc<OnceLock<Instant>>,
    /// `None` when the next try must open it first. It is declared before the lock, to be closed
    /// before the lock is released.
    disk: Option<Disk>,
    lock: Option<DirectoryLock>,
    /// A check of the store that was begun before this thread.
    looking: Option<Looking>,
    /// The file of a database that was closed because it refused every operation.
    closed: Option<FileIdentity>,
    /// The data file was removed or replaced, and no other one has been opened yet.
    is_replaced: bool,
    /// Commands taken from the channel while there was no store to write them to.
    first: Option<StoreCommand>,
    opened: bool,
    /// A failure was reported, and the recovery has not been.
    failing: bool,
    lingering: Lingering,
    mapped: MappedPages,
    /// The disk's outage was reported by another thread while this one was stuck.
    stuck: Arc<Stuck>,
}

/// The next work, in order: the group, then the read.
struct Work {
    group: CommitGroup,
    read: Option<StoreCommand>,
}

/// The thread must end before the work is done.
struct GivenUp;

/// The remedies tried since the work began. A second time in a row would help no more than the
/// first.
#[derive(Default)]
struct Mended {
    put_aside: bool,
    looked_for: bool,
    opened_anew: bool,
}

impl Writer {
    pub fn new(
        settings: StoreSettings,
        events: tokio::sync::mpsc::Sender<Event>,
        pulse: Pulse,
        commands: QueueReceiver<StoreCommand>,
        (closing, stuck): (Arc<OnceLock<Instant>>, Arc<Stuck>),
    ) -> Self {
        Self {
            mapped: MappedPages::new(&settings.directory, MOST_USES),
            settings,
            events,
            pulse,
            commands,
            closing,
            disk: None,
            lock: None,
            looking: None,
            closed: None,
            is_replaced: false,
            first: None,
            opened: false,
            failing: false,
            lingering: Lingering::default(),
            stuck,
        }
    }

    /// Starts with a store that is open already, or is being opened.
    pub fn with(self, opened: Option<Opened>) -> Self {
        match opened {
            None => self,
            Some(Opened(Found::Good { disk, lock })) => {
                Self { disk: Some(disk), lock: Some(lock), ..self }
            }
            Some(Opened(Found::Looking(looking))) => Self { looking: Some(looking), ..self },
        }
    }

    /// Works until the channel is closed and empty. Returns whether everything is on disk.
    pub fn run(mut self) -> bool {
        if self.await_look().is_err() {
            return self.first.is_none();
        }
        self.stuck.watch_this_thread();
        match self.open() {
            Ok(()) => self.work().is_ok(),
            Err(GivenUp) => self.first.is_none(),
        }
    }

    /// Waits for the check of the store that another thread has begun and this one would have to
    /// repeat. Meanwhile that thread beats the pulse.
    fn await_look(&mut self) -> Result<(), GivenUp> {
        let Some(looking) = self.looking.take() else { return Ok(()) };
        self.stuck.watch(looking.stuck());
        loop {
            match looking.outcome(TICK) {
                Some(Ok(Some(Opened(Found::Good { disk, lock })))) => {
                    (self.disk, self.lock) = (Some(disk), Some(lock));
                    return Ok(());
                }
                // An error in it is found again, and reported.
                Some(_) => return Ok(()),
                None if looking.is_alive() => self.pulse.beat(),
                None => {}
            }
            if self.closing.get().is_some() {
                self.take_first();
                return Err(GivenUp);
            }
        }
    }

    fn open(&mut self) -> Result<(), GivenUp> {
        let (snapshot, damaged) = self.until_done(|disk, _| disk.snapshot())?;
        self.opened = true;
        self.report_damaged(damaged.len(), damaged.first());
        self.report(Event::StoreOpened(Box::new(snapshot)));
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

    /// Waits for a command, then takes the other waiting ones, up to a read or the limits of a
    /// group, and those that come while the commit may wait.
    fn collect(&mut self) -> Option<Work> {
        let mut work = Work { group: CommitGroup::default(), read: None };
        let mut next = Some(self.wait_for_command()?);
        self.lingering.begin(Instant::now());
        while let Some(command) = next {
            if let StoreCommand::ReadStates { .. } = command {
                work.read = Some(command);
                break;
            }
            work.group.add(command);
            if work.group.is_full() {
                break;
            }
            next = self.commands.try_recv().ok().or_else(|| self.linger(&work.group));
        }
        Some(work)
    }

    /// Waits for another command as long as the group may. At the end there is none.
    fn linger(&self, group: &CommitGroup) -> Option<StoreCommand> {
        let patience = self.lingering.patience(group, Instant::now())?;
        self.commands.recv_timeout(patience).ok()
    }

    fn wait_for_command(&mut self) -> Option<StoreCommand> {
        if let Some(command) = self.first.take() {
            return Some(command);
        }
        self.pulse.beat();
        self.report_recovery();
        match self.commands.recv_timeout(TICK) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => self.rest(),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Nothing was requested during a whole tick: releases what was used, and sleeps until the next
    /// command.
    fn rest(&mut self) -> Option<StoreCommand> {
        self.report_recovery();
        self.mapped.release_if_used();
        self.pulse.rest();
        let command = self.commands.recv().ok();
        self.pulse.beat();
        command
    }

    fn commit(&mut self, group: &CommitGroup) -> Result<(), GivenUp> {
        let mut written = Vec::new();
        let is_needed = group.needs_commit();
        let group = group.commands();
        if is_needed {
            written = self.until_done(|disk, _| disk.commit(group))?;
            self.report_recovery();
        }
        if let Some(through) = disk::last_delivery(group) {
            self.report(Event::StatesCommitted { through });
            self.lingering.reported(Instant::now());
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
            // If this fails, the next read finds them again.
            let _ = self.disk.as_ref().map(|disk| disk.delete_states(&chunk.damaged));
        }
        self.report(Event::StatesRead { read, states: chunk.states, next: chunk.next });
        Ok(())
    }

    /// Does the work, opening the store first where necessary, as often as it takes.
    fn until_done<T>(
        &mut self,
        work: impl Fn(&mut Disk, &Pulse) -> Result<T, StoreError>,
    ) -> Result<T, GivenUp> {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut mended = Mended::default();
        loop {
            self.pulse.beat();
            let outcome = self.try_once(&work);
            self.mapped.note(1);
            let error = match outcome {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let error = match self.mend(error, &mut mended) {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.report_failure(&error);
            self.pause(backoff.next_delay())?;
        }
    }

    /// Does the work, in files that are still found at the store's place: data written into others
    /// is lost with this process.
    fn try_once<T>(
        &mut self,
        work: impl Fn(&mut Disk, &Pulse) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let pulse = self.pulse.clone();
        let outcome = work(self.open_disk()?, &pulse);
        let is_kept = |disk: &Disk| disk.place().is_kept();
        if !self.disk.as_ref().is_some_and(is_kept)
            || !self.lock.as_ref().is_some_and(DirectoryLock::is_in_place)
        {
            return Err(StoreError::Replaced { path: self.settings.directory.clone() });
        }
        outcome
    }

    fn open_disk(&mut self) -> Result<&mut Disk, StoreError> {
        if self.lock.is_none() {
            self.lock = Some(files::lock(&self.settings.directory)?);
        }
        let disk = match self.disk.take() {
            Some(disk) => disk,
            None => {
                let is_known = self.closed.as_ref().is_some_and(FileIdentity::is_kept);
                let look = if is_known { Look::Head } else { Look::Whole };
                let StoreSettings { directory, map_bytes } = &self.settings;
                let disk = Disk::open(directory, *map_bytes, look, &self.pulse)?;
                self.closed = None;
                if std::mem::take(&mut self.is_replaced) {
                    let path = directory.display().to_string();
                    self.report(Event::StoreReplaced { path });
                }
                disk
            }
        };
        Ok(self.disk.insert(disk))
    }

    /// Applies the immediate remedy for an error. Everything else takes time.
    fn mend(&mut self, error: StoreError, mended: &mut Mended) -> Result<(), StoreError> {
        if !error.closes_the_database() {
            return Err(error);
        }
        let disk = self.disk.take();
        let done = match &error {
            StoreError::Replaced { .. } => {
                // This happens while it is still open, because another file could otherwise get its
                // number.
                self.is_replaced |= disk.as_ref().is_some_and(|disk| !disk.place().is_kept());
                drop(disk);
                self.lock = None;
                &mut mended.looked_for
            }
            // Damage twice in a row indicates a disk that damages files rather than a damaged file.
            StoreError::Damaged { .. } => {
                drop(disk);
                if !mended.put_aside {
                    self.put_aside(&error)?;
                }
                &mut mended.put_aside
            }
            StoreError::Database { .. } => {
                let Some(disk) = disk else { return Err(error) };
                self.closed = Some(disk.place().clone());
                &mut mended.opened_anew
            }
            StoreError::NewerFormat { .. } | StoreError::InUse { .. } | StoreError::File { .. } => {
                return Err(error);
            }
        };
        if std::mem::replace(done, true) { Err(error) } else { Ok(()) }
    }

    fn report_failure(&mut self, error: &StoreError) {
        let is_lost = self.is_replaced && error.is_out_of_reach();
        if self.is_failing() {
            return;
        }
        self.failing = true;
        self.report(if is_lost {
            let former = StoreError::Replaced { path: self.settings.directory.clone() };
            Event::StoreLost { error: format!("{former}: {error}") }
        } else {
            Event::StoreFailed { error: error.to_string() }
        });
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

    /// Whether a failure was reported, by this or another thread.
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

    /// Waits for room among the events. While the process ends, an event for which there is no room
    /// is dropped: its reader is waiting for this thread.
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
