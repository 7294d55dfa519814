//! Checks units: one session with systemd, from the first list to the loss of the connection.
//!
//! The known state of each own unit is kept to report differences only. Invariant: units are
//! checked one after the other and by this part alone, so that no older view can overtake a newer
//! one.

use super::condition::{Markers, UnitCondition};
use super::inbox::{Inbox, InboxWork, Knowledge, Relist, UnitCheck};
use super::proxy::{is_timeout, words};
use super::reading::UnitReading;
use super::session::{ManagerSession, Particulars};
use super::usage::{Usage, group_of_process, measure};
use crate::pulse::Pulse;
use futures_util::{StreamExt, stream};
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::unit::{ActiveState, UnitReport, UnitUsage};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use zbus::OwnedObjectPath;

/// The interval at which all units are compared with their known states, so that a lost signal is
/// noticed, and at which what they use is measured.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The number of units that are read concurrently when a session begins: systemd handles one after
/// the other, and is not kept waiting between them.
const READS_AT_ONCE: usize = 16;

/// The number of control groups that are read before other tasks have their turn.
const MEASURED_AT_ONCE: usize = 16;

/// The time for which systemd may be off the bus (daemon-reexec) or fail to answer before it counts
/// as lost.
const ABSENCE_LIMIT: Duration = Duration::from_secs(10);

/// The time after which the end of a daemon-reload counts as missed.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// Reports the changes of own units until the connection is lost.
pub(super) struct UnitWatcher<'a> {
    session: &'a ManagerSession,
    events: &'a mpsc::Sender<Event>,
    pulse: &'a Pulse,
    known: BTreeMap<UnitName, KnownUnit>,
    /// Whether the system is going down, as last reported.
    stopping: bool,
    /// The time since which calls fail or systemd is off the bus.
    failing_since: Option<Instant>,
}

/// An own unit as it was last reported.
struct KnownUnit {
    report: UnitReport,
    particulars: Particulars,
}

impl KnownUnit {
    /// Whether what was signalled with the last change of the state at this time may be older. The
    /// signals and the answers take different ways, and not each change is one of the state.
    fn may_be_newer_than(&self, changed_at: u64) -> bool {
        let known = &self.particulars;
        known.changed_at > changed_at || (known.is_answer && known.changed_at == changed_at)
    }
}

/// Explains why a session ended.
pub(super) struct Lost(pub String);

impl From<zbus::Error> for Lost {
    fn from(error: zbus::Error) -> Self {
        Lost(words(&error))
    }
}

impl<'a> UnitWatcher<'a> {
    pub fn new(
        session: &'a ManagerSession,
        events: &'a mpsc::Sender<Event>,
        pulse: &'a Pulse,
    ) -> Self {
        let known = BTreeMap::new();
        Self { session, events, pulse, known, stopping: false, failing_since: None }
    }

    /// Subscribes and reads all own units.
    pub async fn begin(&mut self) -> Result<(), Lost> {
        self.pulse.beat_during(self.session.subscribe()).await?;
        let session = self.session;
        let read = async |(unit, path, _): (UnitName, OwnedObjectPath, ActiveState)| {
            session.read_path(&unit, &path, &session.client_id).await
        };
        let mut readings = stream::iter(self.list().await?).map(read).buffered(READS_AT_ONCE);
        while let Some(reading) = self.pulse.beat_during(readings.next()).await {
            match reading? {
                (UnitReading::Own(report), particulars) => {
                    let unit = report.unit.clone();
                    self.known.insert(unit, KnownUnit { report, particulars });
                }
                (UnitReading::Absent | UnitReading::Foreign { .. }, _) => {}
            }
        }
        self.stopping = self.pulse.beat_during(self.session.is_stopping()).await?;
        Ok(())
    }

    /// Reports whether the system is going down and all own units, then every change. Returns only
    /// with the reason of the loss.
    pub async fn run(&mut self) -> Lost {
        let units = self.known.values().map(|known| known.report.clone()).collect();
        for event in
            [Event::SystemState { stopping: self.stopping }, Event::ManagerConnected { units }]
        {
            if let Err(lost) = self.send(event).await {
                return lost;
            }
        }
        let mut recheck_due = Instant::now() + RECHECK_INTERVAL;
        let mut reloading_since = None;
        loop {
            self.pulse.beat();
            let work = self.session.inbox.next();
            if !matches!(work, InboxWork::Reloading) {
                reloading_since = None;
            }
            let done = match work {
                InboxWork::Lost(reason) => {
                    // dbus is among the first services to stop in a shutdown.
                    if self.session.inbox.shutdown_expected() {
                        let _ = self.report_state(true).await;
                    }
                    return Lost(reason);
                }
                InboxWork::ManagerAway => self.absent("systemd has left the bus").await,
                InboxWork::Resubscribe => {
                    let again = self.pulse.beat_during(self.session.subscribe()).await;
                    self.judge(again, |inbox| inbox.manager_owner(true)).await
                }
                InboxWork::CheckState => self.check_state().await,
                InboxWork::Relist(relist) => {
                    recheck_due = Instant::now() + RECHECK_INTERVAL;
                    self.relist(relist).await
                }
                InboxWork::Look(unit, check) => self.look(unit, check).await,
                InboxWork::Reloading => {
                    let since = *reloading_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= RELOAD_LIMIT {
                        self.session.inbox.reloading(false);
                    }
                    self.wait(since + RELOAD_LIMIT).await;
                    Ok(())
                }
                InboxWork::Nothing if Instant::now() >= recheck_due => {
                    self.session.inbox.relist(Relist::Compare);
                    Ok(())
                }
                InboxWork::Nothing => {
                    self.wait(recheck_due).await;
                    Ok(())
                }
            };
            if let Err(lost) = done {
                return lost;
            }
        }
    }

    /// Waits for work, until something else is due.
    async fn wait(&self, until: Instant) {
        let work = timeout_at(until, self.session.inbox.work.notified());
        let _either = self.pulse.beat_during(work).await;
    }

    async fn list(&self) -> zbus::Result<Vec<(UnitName, OwnedObjectPath, ActiveState)>> {
        self.pulse.beat_during(self.session.list()).await
    }

    /// Marks for a check the differences from the known state, in both directions.
    async fn relist(&mut self, relist: Relist) -> Result<(), Lost> {
        let listed = match self.list().await {
            Ok(listed) => listed,
            Err(error) => {
                return self.judge(Err(error), |inbox| inbox.relist(relist)).await;
            }
        };
        self.failing_since = None;
        let mut gone: BTreeSet<&UnitName> = self.known.keys().collect();
        for (unit, _, active) in &listed {
            gone.remove(unit);
            let as_known = self.known.get(unit).is_some_and(|it| it.report.active == *active);
            match relist {
                Relist::Compare if as_known => {}
                Relist::Compare | Relist::Full => self.session.inbox.touch(unit.clone()),
            }
        }
        for unit in gone {
            self.session.inbox.touch(unit.clone());
        }
        self.measure().await?;
        self.check_state().await
    }

    /// Reports what the units use. Reading three small files of the kernel for each of them takes no
    /// call to systemd.
    async fn measure(&mut self) -> Result<(), Lost> {
        let mut usages = Vec::new();
        for (unit, known) in &mut self.known {
            let process = known.report.main_pid;
            if process == 0 {
                continue;
            }
            let group = &mut known.particulars.group;
            *group = group.take().or_else(|| group_of_process(process, unit));
            match group {
                Some(group) => usages.push(usage_in(&known.report, measure(group))),
                // The process has left the unit, or has just ended.
                None => self.session.inbox.touch(unit.clone()),
            }
            if usages.len().is_multiple_of(MEASURED_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        if usages.is_empty() {
            return Ok(());
        }
        self.send(Event::UnitsMeasured(usages)).await
    }

    /// Checks one unit and reports it if it has changed.
    async fn look(&mut self, unit: UnitName, check: UnitCheck) -> Result<(), Lost> {
        let UnitCheck { known, waiters } = check;
        let (reading, particulars) = match self.signalled(&unit, known) {
            Some((report, particulars)) => (UnitReading::Own(report), particulars),
            None => {
                let read = self.session.read_in_full(&unit, &self.session.client_id);
                match self.pulse.beat_during(read).await {
                    Ok(read) => read,
                    Err(error) => {
                        return self.judge(Err(error), |inbox| inbox.postpone(unit, waiters)).await;
                    }
                }
            }
        };
        self.failing_since = None;
        let report = match reading {
            UnitReading::Own(report) => Some(report),
            UnitReading::Absent | UnitReading::Foreign { .. } => None,
        };
        self.take_in(unit, report.as_ref(), particulars).await?;
        for waiter in waiters {
            let _ = waiter.send(report.clone());
        }
        Ok(())
    }

    /// What systemd has signalled of a unit, if that is all there is to know: the unit runs, what it
    /// was created with is known, and no answer can be newer.
    fn signalled(&self, unit: &UnitName, known: Knowledge) -> Option<(UnitReport, Particulars)> {
        let Knowledge::Signalled { condition, markers } = known else { return None };
        if !condition.is_running() {
            return None;
        }
        let changed_at = condition.changed_at();
        let before = self.known.get(unit);
        if before.is_some_and(|before| before.may_be_newer_than(changed_at)) {
            return None;
        }
        let markers = markers.or_else(|| before.map(|before| Markers::of(&before.report)))?;
        let group = before.and_then(|before| before.particulars.group.clone());
        let report = UnitCondition::report(*condition, unit.clone(), markers);
        let last_usage = Usage::default();
        Some((report, Particulars { group, changed_at, last_usage, is_answer: false }))
    }

    /// Reports a unit if it has changed, and remembers it.
    async fn take_in(
        &mut self,
        unit: UnitName,
        report: Option<&UnitReport>,
        particulars: Particulars,
    ) -> Result<(), Lost> {
        let before = self.known.get(&unit).map(|known| &known.report);
        if before == report {
            if let Some(known) = self.known.get_mut(&unit) {
                known.particulars = particulars;
            }
            return Ok(());
        }
        let is_shared = before.or(report).is_some_and(|report| report.shared.is_some());
        if let Some(ended) = report.filter(|_| particulars.last_usage != Usage::default()) {
            let usage = usage_in(ended, particulars.last_usage);
            self.send(Event::UnitsMeasured(vec![usage])).await?;
        }
        if !report.is_some_and(|report| report.active.is_alive()) {
            // In a shutdown units end, too; the shutdown must be reported before their end.
            self.check_state().await?;
            if is_shared {
                self.check_guard().await?;
            }
        }
        match report {
            Some(report) => {
                let known = KnownUnit { report: report.clone(), particulars };
                self.known.insert(unit, known);
                self.send(Event::UnitChanged(Box::new(report.clone()))).await
            }
            None => {
                self.known.remove(&unit);
                self.send(Event::UnitRemoved { unit }).await
            }
        }
    }

    /// Reports when the system begins to go down, and when the shutdown is cancelled.
    async fn check_state(&mut self) -> Result<(), Lost> {
        if self.session.inbox.shutdown_expected() {
            return self.report_state(true).await;
        }
        match self.pulse.beat_during(self.session.is_stopping()).await {
            Ok(stopping) => self.report_state(stopping).await,
            Err(error) => self.judge(Err(error), Inbox::check_state).await,
        }
    }

    /// Reports a guard that has ended, before the end of what was bound to it.
    async fn check_guard(&mut self) -> Result<(), Lost> {
        // What cannot be asked now shows when the next renewal does not reach the guard.
        let asked = self.pulse.beat_during(self.session.end_of_guard()).await;
        let Ok(Some(how)) = asked else { return Ok(()) };
        self.send(Event::Cluster(ClusterFact::GuardEnded { how })).await
    }

    async fn report_state(&mut self, stopping: bool) -> Result<(), Lost> {
        if std::mem::replace(&mut self.stopping, stopping) == stopping {
            return Ok(());
        }
        self.send(Event::SystemState { stopping }).await
    }

    /// Decides whether a failed call ends the session, or is retried by `again`.
    async fn judge(
        &mut self,
        outcome: zbus::Result<()>,
        again: impl FnOnce(&Inbox),
    ) -> Result<(), Lost> {
        match outcome {
            Ok(()) => {
                self.failing_since = None;
                Ok(())
            }
            // The call has waited longer already than systemd may be away.
            Err(error) if is_timeout(&error) => Err(error.into()),
            Err(error) => {
                again(&self.session.inbox);
                self.absent(&words(&error)).await
            }
        }
    }

    /// Waits for a moment, unless systemd has been away for too long.
    async fn absent(&mut self, reason: &str) -> Result<(), Lost> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() > ABSENCE_LIMIT {
            return Err(Lost(reason.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    /// When the channel is full this waits for the daemon; signals are still marked meanwhile.
    async fn send(&self, event: Event) -> Result<(), Lost> {
        let sent = self.events.send(event).await;
        sent.map_err(|_closed| Lost("the daemon has ended".to_owned()))
    }
}

fn usage_in(report: &UnitReport, usage: Usage) -> UnitUsage {
    UnitUsage {
        unit: report.unit.clone(),
        invocation: report.invocation.clone(),
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        cpu: usage.cpu,
    }
}
