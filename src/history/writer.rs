//! The thread: writes batches and tries again what fails, answers questions, and prunes.

use super::alerts::{AlertBook, AlertSchedule};
use super::disk::PastRecords;
use super::parts::{self, BatchPart};
use super::prune::{self, PresentDevices, PresentTime, Pruner};
use super::scans::{FiguresScan, IncidentScan, Scan};
use super::{HistoryCommand, HistorySettings, PastVisitor};
use crate::age_clock::AgeClock;
use crate::lmdb::StoreError;
use crate::lmdb::files::{self, DirectoryLock};
use crate::lmdb::residence::MappedPages;
use iotmonitor_core::backoff::Backoff;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::alert_record::AlertRecord;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Questions about all devices that are under way at a time; a further one is refused.
const MOST_SCANS: usize = 16;

/// The pause between two steps of a pass that removes old records.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// After so many records were written, the pages of the file that are mapped are released: a fleet that
/// falls silent at once touches much of it.
const MOST_MAPPED: usize = 1_000;

/// The delay between two checks for room among the events.
const EVENTS_FULL_DELAY: Duration = Duration::from_millis(5);

pub(super) struct PastWriter {
    settings: HistorySettings,
    events: tokio::sync::mpsc::Sender<Event>,
    commands: Receiver<HistoryCommand>,
    closing: Arc<OnceLock<Instant>>,
    /// Alerts that wait for the disk.
    book: AlertBook,
    schedule: AlertSchedule,
    /// The last number of earlier runs, once it is known.
    earlier_alert: Option<u64>,
    /// It is declared before the lock, to be closed before the lock is released.
    disk: Option<PastRecords>,
    lock: Option<DirectoryLock>,
    batches: VecDeque<BatchPart>,
    backoff: Backoff,
    scans: VecDeque<Scan>,
    mapped: MappedPages,
    /// When a failed try may be repeated.
    retry_at: Option<Instant>,
    is_failing: bool,
    pruner: Option<Pruner>,
    /// The next pass looks for records of devices that were forgotten; the first one of a run may
    /// find some that the last run has left.
    sweeps: bool,
    present: PresentDevices,
    prune_at: Instant,
    /// Wall clock of the last batch, and how far it is trusted with the age of records.
    mark: Option<Duration>,
    ages: AgeClock,
    began: Instant,
    /// Wall clock of the first batch, which follows the steps of the clock.
    run_began: Option<Duration>,
}

impl PastWriter {
    pub fn new(
        settings: HistorySettings,
        book: AlertBook,
        (events, commands): (tokio::sync::mpsc::Sender<Event>, Receiver<HistoryCommand>),
        closing: Arc<OnceLock<Instant>>,
    ) -> Self {
        let (began, interval) = (Instant::now(), settings.prune_interval);
        Self {
            mapped: MappedPages::new(&settings.directory, MOST_MAPPED),
            settings,
            events,
            commands,
            closing,
            book,
            schedule: AlertSchedule::new(),
            earlier_alert: None,
            disk: None,
            lock: None,
            batches: VecDeque::new(),
            scans: VecDeque::new(),
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
            retry_at: None,
            is_failing: false,
            pruner: None,
            sweeps: true,
            present: PresentDevices::default(),
            // By then the clock of a machine that has none of its own is usually set.
            prune_at: began + interval,
            mark: None,
            ages: AgeClock::new(interval),
            began,
            run_began: None,
        }
    }

    /// Works until the channel is closed and empty. Returns whether everything is on disk.
    pub fn run(mut self) -> bool {
        self.work();
        loop {
            let patience = self.patience();
            match self.commands.recv_timeout(patience) {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => self.scan(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.retry_at = None;
                    self.work();
                    return self.batches.is_empty() && self.book.queue().urgency().is_none();
                }
            }
            self.work();
        }
    }

    /// How long there is nothing to do.
    fn patience(&mut self) -> Duration {
        if !self.scans.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let wait = match (self.retry_at, self.run_began) {
            (Some(at), _) => return at.saturating_duration_since(now),
            (None, Some(_)) => self.prune_at.saturating_duration_since(now),
            (None, None) => self.settings.prune_interval,
        };
        let alerts = self.schedule.due(self.book.queue().urgency(), now);
        alerts.map_or(wait, |due| wait.min(due.saturating_duration_since(now)))
    }

    fn take(&mut self, command: HistoryCommand) {
        match command {
            HistoryCommand::Save(batch) => self.batches.extend(parts::divide(*batch)),
            HistoryCommand::Keep(keep) => {
                self.settings.keep = keep;
                self.prune_at = Instant::now();
            }
            HistoryCommand::Read { devices, since, now, reader } => {
                (reader.0)(&|visitor| self.read(&devices, (since, now), visitor));
            }
            HistoryCommand::ReadAlerts { query, reader } => {
                let waiting = self.book.matching(&query);
                let answer = match &self.disk {
                    Some(disk) => disk.read_alerts(&query, waiting),
                    // Those of this run are better than none.
                    None => Ok(waiting),
                };
                reader.take(answer.map_err(|error| error.to_string()));
            }
            HistoryCommand::Acknowledge { id, time, reader } => {
                reader.take(self.acknowledge(id, time));
            }
            HistoryCommand::ReadIncidents { device, since, limit, reader } => {
                let scan = IncidentScan::new(device.as_ref(), since, limit, reader);
                self.begin_scan(Scan::Incidents(scan));
            }
            HistoryCommand::ReadFigures { now, reader } => {
                let scan = FiguresScan::new(now, self.settings.keep, reader);
                self.begin_scan(Scan::Figures(scan));
            }
            HistoryCommand::Wake => {}
        }
    }

    fn begin_scan(&mut self, scan: Scan) {
        if self.scans.len() < MOST_SCANS {
            self.scans.push_back(scan);
        } else {
            scan.give_up();
        }
    }

    /// Takes a step of each question in turn.
    fn scan(&mut self) {
        let Some(scan) = self.scans.pop_front() else { return };
        match &self.disk {
            Some(disk) => self.scans.extend(scan.step(disk)),
            None => scan.give_up(),
        }
        if self.scans.is_empty() {
            self.mapped.release();
        }
    }

    /// An alert that waits for the disk is written before.
    fn acknowledge(&mut self, id: u64, time: Duration) -> Result<Option<Duration>, String> {
        let answer = self.write_alerts().and_then(|()| match &mut self.disk {
            Some(disk) => disk.acknowledge(id, time).map(Some),
            None => Ok(None),
        });
        match answer {
            Ok(Some(acknowledged)) => Ok(acknowledged),
            Ok(None) => Err("the history cannot be written at the moment".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes the alerts that wait.
    fn write_alerts(&mut self) -> Result<(), StoreError> {
        let alerts = self.book.queue().waiting();
        let Some(disk) = &mut self.disk else { return Ok(()) };
        if !alerts.is_empty() {
            disk.write(None, &alerts)?;
            self.mapped.note(alerts.len());
        }
        self.alerts_written(&alerts);
        Ok(())
    }

    fn alerts_written(&mut self, alerts: &[Arc<AlertRecord>]) {
        if let Some(through) = alerts.iter().filter_map(|alert| alert.id).max() {
            self.book.queue().written(through);
            self.schedule.written(Instant::now());
        }
    }

    fn alerts_are_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.schedule.due(self.book.queue().urgency(), now);
        due.is_some_and(|due| due <= now || self.closing.get().is_some())
    }

    fn read(
        &self,
        devices: &[DeviceName],
        (since, now): (Duration, Duration),
        visitor: PastVisitor<'_>,
    ) -> Result<(), String> {
        let Some(disk) = &self.disk else {
            return Err("the history cannot be read at the moment".to_owned());
        };
        let keep = self.settings.keep;
        disk.read(devices, (since, now, keep), visitor).map_err(|error| error.to_string())
    }

    /// Does what is due: opens the records, writes batches, removes what is old.
    fn work(&mut self) {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.retry_at = None;
        let mut is_mended = false;
        loop {
            let error = match self.try_once() {
                Ok(()) => return self.succeeded(),
                Err(error) => error,
            };
            if error.closes_the_database() {
                self.disk = None;
                self.lock = None;
            }
            let is_damage = matches!(error, StoreError::Damaged { .. });
            if is_damage && !std::mem::replace(&mut is_mended, true) && self.put_aside(&error) {
                continue;
            }
            return self.failed(&error);
        }
    }

    fn try_once(&mut self) -> Result<(), StoreError> {
        if self.disk.as_ref().is_some_and(|disk| !disk.is_in_place()) {
            self.disk = None;
            self.lock = None;
            let path = self.settings.directory.display().to_string();
            self.report(Event::HistoryReplaced { path });
        }
        if self.disk.is_none() {
            if self.lock.is_none() {
                self.lock = Some(files::lock(&self.settings.directory)?);
            }
            let mut disk = PastRecords::open(&self.settings)?;
            let snapshot = disk.snapshot()?;
            self.mark = self.mark.or(snapshot.mark);
            self.ages.begin(snapshot.mark, Instant::now());
            let last_alert = disk.last_alert()?;
            disk.earlier_alert = *self.earlier_alert.get_or_insert(last_alert);
            self.book.queue().number_after(last_alert);
            self.disk = Some(disk);
            self.report(Event::HistoryOpened(Box::new(snapshot)));
        }
        while let (Some(disk), Some(part)) = (&mut self.disk, self.batches.front_mut()) {
            // Before its last part is written, a batch does not say until when the monitor has run.
            if let Some(mark) = self.mark.filter(|_| !part.is_last) {
                part.batch.mark = mark;
            }
            let alerts = self.book.queue().waiting();
            disk.write(Some(&part.batch), &alerts)?;
            self.mapped.note(alerts.len());
            self.alerts_written(&alerts);
            if let Some(part) = self.batches.pop_front() {
                self.part_written(part);
            }
            self.make_room()?;
        }
        if self.alerts_are_due() {
            self.write_alerts()?;
        }
        self.prune()
    }

    fn part_written(&mut self, part: BatchPart) {
        let BatchPart { batch, is_last } = part;
        self.mapped.note(batch.records());
        if !batch.forgotten.is_empty() {
            (self.sweeps, self.pruner, self.prune_at) = (true, None, Instant::now());
        }
        self.present.add(batch.known.iter().map(|(name, _)| name));
        if is_last {
            self.mark = Some(batch.mark);
            self.ages.begin(self.mark, Instant::now());
            let followed = |wall| batch.steps.iter().fold(wall, |wall, step| step.follow(wall));
            self.run_began = self.run_began.map(followed).or(self.mark);
            self.report(Event::HistorySaved);
        }
    }

    /// Where the records fill more than they may, the older half goes.
    fn make_room(&mut self) -> Result<(), StoreError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let cutoff = disk.overflow().map_err(|error| disk.fail("write to", error))?;
        let Some(cutoff) = cutoff else { return Ok(()) };
        let mut pruner = Pruner::shedding(cutoff);
        while !pruner.is_done() {
            pruner.step(disk)?;
        }
        Ok(())
    }

    /// Takes one step of a pass, if one is due.
    fn prune(&mut self) -> Result<(), StoreError> {
        if Instant::now() < self.prune_at || self.closing.get().is_some() {
            return Ok(());
        }
        let pruner = match self.pruner.take() {
            Some(pruner) => Some(pruner),
            None => self.begin_pass()?,
        };
        let (Some(disk), Some(mut pruner)) = (&mut self.disk, pruner) else { return Ok(()) };
        pruner.step(disk)?;
        let pause = if pruner.is_done() {
            self.sweeps = false;
            self.mapped.release();
            self.settings.prune_interval
        } else {
            self.pruner = Some(pruner);
            PRUNE_PAUSE
        };
        self.prune_at = Instant::now() + pause;
        Ok(())
    }

    /// Nothing can be judged before there is a batch of this run.
    fn begin_pass(&mut self) -> Result<Option<Pruner>, StoreError> {
        let (Some(disk), Some(mark), Some(run_began)) = (&mut self.disk, self.mark, self.run_began)
        else {
            return Ok(None);
        };
        let now = Instant::now();
        let by = self.ages.judge(mark, now);
        let cutoff = by.saturating_sub(self.settings.keep);
        prune::forget_absent(disk, cutoff, &mut self.present)?;
        disk.prune_alerts(cutoff)?;
        let has_lasted = now.saturating_duration_since(self.began) >= self.settings.prune_interval;
        let present = has_lasted.then_some(PresentTime { now: mark, run_began });
        Ok(Some(Pruner::new(by, cutoff, present, self.sweeps)))
    }

    fn succeeded(&mut self) {
        self.backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        if std::mem::take(&mut self.is_failing) {
            self.report(Event::HistoryBack);
        }
    }

    fn failed(&mut self, error: &StoreError) {
        self.retry_at = Some(Instant::now() + self.backoff.next_delay());
        if !std::mem::replace(&mut self.is_failing, true) {
            self.report(Event::HistoryFailed {
                error: format!("the past is not recorded for now, and what waits is kept: {error}"),
            });
        }
    }

    fn put_aside(&mut self, damage: &StoreError) -> bool {
        let Ok(path) = files::put_aside(&self.settings.directory) else { return false };
        let path = path.display().to_string();
        self.report(Event::HistoryPutAside { path, error: damage.to_string() });
        true
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
            std::thread::sleep(EVENTS_FULL_DELAY);
        }
    }
}
