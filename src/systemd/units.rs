//! Checks units: one session with systemd, from the first list to the loss of the connection.
//!
//! The known state of each own unit is kept to report differences only. Invariant: units are
//! checked one after the other and by this part alone, so that no older view can overtake a newer
//! one.

use super::inbox::{Inbox, InboxWork, JobWatch, Relist, Waiter};
use super::properties::GUARD;
use super::proxy::{ManagerProxy, Meaning, SYSTEMD, is_timeout, meaning, words};
use super::reading::{UNIT_PATTERN, UnitReading, active_state, interpret};
use super::usage::{Usage, directory_of, group_of, measure, usage_of};
use crate::pulse::Pulse;
use futures_util::{StreamExt, stream};
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::unit::{ActiveState, UnitReport, UnitUsage};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use zbus::{Connection, OwnedObjectPath, Variant};

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

/// One connection to systemd, shared by the unit checks and the jobs.
pub(super) struct ManagerSession {
    pub manager: ManagerProxy<'static>,
    pub inbox: Arc<Inbox>,
    calls: Connection,
    client_id: String,
}

impl ManagerSession {
    pub async fn new(
        calls: Connection,
        inbox: Arc<Inbox>,
        client_id: String,
    ) -> zbus::Result<Self> {
        let manager = ManagerProxy::new(&calls).await?;
        Ok(Self { manager, inbox, calls, client_id })
    }

    /// Makes systemd send its signals, which it does only for subscribers.
    async fn subscribe(&self) -> zbus::Result<()> {
        match self.manager.subscribe().await {
            Err(error) if meaning(&error) == Meaning::AlreadySubscribed => Ok(()),
            other => other,
        }
    }

    /// All units with an agent's name, including those of others.
    pub async fn list(&self) -> zbus::Result<Vec<(UnitName, OwnedObjectPath, ActiveState)>> {
        let listed = self.manager.list_units_by_patterns(&[], &[UNIT_PATTERN]).await?;
        Ok(listed
            .into_iter()
            .filter(|row| row.2 != "not-found")
            .map(|row| (UnitName::from_systemd(row.0), row.6, active_state(&row.3)))
            .collect())
    }

    /// Whether a name on the bus has an owner.
    pub async fn is_owned(&self, name: &str) -> zbus::Result<bool> {
        const BUS: &str = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        let reply = self.calls.call_method(Some(BUS), path, Some(BUS), "NameHasOwner", &(name));
        reply.await?.body().deserialize()
    }

    /// The object behind a unit's name at present. It never makes systemd load the unit: a query by
    /// object path alone would, and each load is signalled as a new unit.
    pub async fn read(&self, unit: &UnitName) -> zbus::Result<UnitReading> {
        self.read_as(unit, &self.client_id).await
    }

    /// The same where the unit must carry the marker of this clientid.
    pub async fn read_as(&self, unit: &UnitName, client_id: &str) -> zbus::Result<UnitReading> {
        self.read_with_figures(unit, client_id).await.map(|(reading, _)| reading)
    }

    async fn read_with_figures(
        &self,
        unit: &UnitName,
        client_id: &str,
    ) -> zbus::Result<(UnitReading, UnitFigures)> {
        let path = match self.manager.get_unit(unit.as_str()).await {
            Ok(path) => path,
            Err(error) if meaning(&error) == Meaning::NoSuchUnit => {
                return Ok((UnitReading::Absent, UnitFigures::default()));
            }
            Err(error) => return Err(error),
        };
        self.read_path(unit, &path, client_id).await
    }

    /// The properties of all interfaces of a unit, at one moment.
    pub async fn all_properties(&self, path: &OwnedObjectPath) -> zbus::Result<zbus::Message> {
        let interface = Some("org.freedesktop.DBus.Properties");
        // An empty interface name means all.
        self.calls.call_method(Some(SYSTEMD), path, interface, "GetAll", &("")).await
    }

    /// The unit with what it uses.
    async fn read_path(
        &self,
        unit: &UnitName,
        path: &OwnedObjectPath,
        client_id: &str,
    ) -> zbus::Result<(UnitReading, UnitFigures)> {
        let reply = self.all_properties(path).await?;
        let body = reply.body();
        let properties: HashMap<String, Variant<'_>> = body.deserialize()?;
        let reading = interpret(unit, client_id, &properties);
        let figures = match &reading {
            UnitReading::Own(report) if report.main_pid == 0 => {
                UnitFigures { group: None, last: usage_of(&properties) }
            }
            UnitReading::Own(_) => {
                let group = group_of(&properties).map(directory_of);
                UnitFigures { group, last: Usage::default() }
            }
            UnitReading::Absent | UnitReading::Foreign { .. } => UnitFigures::default(),
        };
        Ok((reading, figures))
    }

    /// The end of a job of this unit; the watch must begin before the call that creates the job.
    pub fn watch_jobs(&self, unit: &UnitName) -> JobWatch<'_> {
        self.inbox.watch_jobs(unit)
    }

    /// How the guard of this node has ended; `None` while it is up or starts.
    async fn end_of_guard(&self) -> zbus::Result<Option<String>> {
        let path = match self.manager.get_unit(GUARD).await {
            Ok(path) => path,
            Err(error) if meaning(&error) == Meaning::NoSuchUnit => {
                return Ok(Some("not loaded".to_owned()));
            }
            Err(error) => return Err(error),
        };
        let reply = self.all_properties(&path).await?;
        let body = reply.body();
        let properties: HashMap<String, Variant<'_>> = body.deserialize()?;
        let word = |name: &str| match properties.get(name) {
            Some(Variant::Str(word)) => word.to_string(),
            Some(_) | None => String::new(),
        };
        Ok((!lives(active_state(&word("ActiveState")))).then(|| word("Result")))
    }

    /// Whether the manager is going down.
    pub async fn is_stopping(&self) -> zbus::Result<bool> {
        Ok(self.manager.system_state().await? == "stopping")
    }

    /// Whether a job is still queued or running.
    pub async fn job_exists(&self, job: &OwnedObjectPath) -> zbus::Result<bool> {
        let reply = self
            .calls
            .call_method(
                Some(SYSTEMD),
                job,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &("org.freedesktop.systemd1.Job", "State"),
            )
            .await;
        match reply {
            Ok(_) => Ok(true),
            Err(error) if meaning(&error) == Meaning::ManagerAway => Err(error),
            Err(_unknown_object) => Ok(false),
        }
    }
}

/// Reports the changes of own units until the connection is lost.
pub(super) struct UnitWatcher<'a> {
    session: &'a ManagerSession,
    events: &'a mpsc::Sender<Event>,
    pulse: &'a Pulse,
    known: BTreeMap<UnitName, UnitReport>,
    /// The directories of the control groups of those with a main process.
    groups: BTreeMap<UnitName, PathBuf>,
    /// Whether the system is going down, as last reported.
    stopping: bool,
    /// The time since which calls fail or systemd is off the bus.
    failing_since: Option<Instant>,
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
        let (known, groups) = (BTreeMap::new(), BTreeMap::new());
        Self { session, events, pulse, known, groups, stopping: false, failing_since: None }
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
                (UnitReading::Own(report), UnitFigures { group, .. }) => {
                    self.groups.extend(group.map(|group| (report.unit.clone(), group)));
                    self.known.insert(report.unit.clone(), report);
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
        let units = self.known.values().cloned().collect();
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
                InboxWork::Look(unit, waiters) => self.look(unit, waiters).await,
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
            let as_known = self.known.get(unit).is_some_and(|report| report.active == *active);
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
    async fn measure(&self) -> Result<(), Lost> {
        let mut usages = Vec::new();
        for (unit, group) in &self.groups {
            let Some(report) = self.known.get(unit) else { continue };
            usages.push(usage_in(report, measure(group)));
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
    async fn look(&mut self, unit: UnitName, waiters: Vec<Waiter>) -> Result<(), Lost> {
        let session = self.session;
        let read = session.read_with_figures(&unit, &session.client_id);
        let (reading, UnitFigures { group, last }) = match self.pulse.beat_during(read).await {
            Ok(read) => read,
            Err(error) => {
                return self.judge(Err(error), |inbox| inbox.postpone(unit, waiters)).await;
            }
        };
        self.failing_since = None;
        let report = match reading {
            UnitReading::Own(report) => Some(report),
            UnitReading::Absent | UnitReading::Foreign { .. } => None,
        };
        match group {
            Some(group) => drop(self.groups.insert(unit.clone(), group)),
            None => drop(self.groups.remove(&unit)),
        }
        if self.known.get(&unit) != report.as_ref() {
            if let Some(ended) = report.as_ref().filter(|_| last != Usage::default()) {
                self.send(Event::UnitsMeasured(vec![usage_in(ended, last)])).await?;
            }
            if !report.as_ref().is_some_and(|report| lives(report.active)) {
                // In a shutdown units end, too; the shutdown must be reported before their end.
                self.check_state().await?;
                let before = self.known.get(&unit).or(report.as_ref());
                if before.is_some_and(|report| report.shared.is_some()) {
                    self.check_guard().await?;
                }
            }
            match &report {
                Some(report) => {
                    self.known.insert(unit, report.clone());
                    self.send(Event::UnitChanged(Box::new(report.clone()))).await?;
                }
                None => {
                    self.known.remove(&unit);
                    self.send(Event::UnitRemoved { unit }).await?;
                }
            }
        }
        for waiter in waiters {
            let _ = waiter.send(report.clone());
        }
        Ok(())
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

/// What a unit uses, beside what is reported of it.
#[derive(Debug, Default)]
struct UnitFigures {
    /// The directory of its control group, if it has a main process.
    group: Option<PathBuf>,
    /// What it has used, if its main process has ended.
    last: Usage,
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

/// Whether a unit in this state has processes, or is about to have some.
pub(super) fn lives(active: ActiveState) -> bool {
    match active {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Activating => true,
        ActiveState::Inactive | ActiveState::Failed | ActiveState::Deactivating => false,
    }
}
