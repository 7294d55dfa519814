//! Signals are noted here until they are handled: a set instead of a queue.
//!
//! The set cannot overflow: it holds at most one entry for each unit with an agent's name, however
//! many signals arrive, and job results only of units that an operation waits for.

use iotmonitor_core::model::unit::UnitReport;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use zbus::OwnedObjectPath;

/// Waits for a new look at a unit; receives the report if the unit belongs to this monitor.
pub(super) type Waiter = oneshot::Sender<Option<UnitReport>>;

/// The result of a job as systemd names it (org.freedesktop.systemd1(5), JobRemoved).
pub(super) type JobResult = (OwnedObjectPath, String);

/// How thoroughly to check all units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relist {
    /// Check only units whose state in the list differs from the known one.
    Compare,
    /// Check every unit, because signals may have been lost.
    Full,
}

/// The next thing to do.
pub(super) enum InboxWork {
    /// The connection is gone, with the reason.
    Lost(String),
    /// systemd left the bus and is not back yet.
    ManagerAway,
    /// systemd is back on the bus and may have lost the subscription.
    Resubscribe,
    Relist(Relist),
    /// The system may be going down, or the shutdown may have been cancelled.
    CheckState,
    Look(UnitName, Vec<Waiter>),
    /// A daemon-reload is in progress: units come and go without meaning.
    Reloading,
    Nothing,
}

#[derive(Default)]
struct InboxState {
    dirty: BTreeMap<UnitName, Vec<Waiter>>,
    jobs: BTreeMap<UnitName, Vec<JobResult>>,
    relist: Option<Relist>,
    check_state: bool,
    shutdown_announced: bool,
    reloading: bool,
    away: bool,
    resubscribe: bool,
    lost: Option<String>,
}

/// Shared by the signal pump, which writes, and its readers.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    /// Wakes the task that checks units.
    pub work: Notify,
    /// Wakes all tasks that wait for a job.
    jobs: Notify,
    /// Wakes all tasks that wait for systemd to appear or the connection to end.
    presence: Notify,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, InboxState> {
        // No code that holds the lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a unit for a check. A unit whose job is awaited is left alone: the waiting operation
    /// requests a check at its end, and each check costs systemd more than a start does.
    pub fn touch(&self, unit: UnitName) {
        let mut state = self.state();
        if state.jobs.contains_key(&unit) {
            return;
        }
        state.dirty.entry(unit).or_default();
        drop(state);
        self.work.notify_one();
    }

    /// Requests a check of the unit; the receiver fails when the connection ends first.
    pub fn look(&self, unit: UnitName) -> oneshot::Receiver<Option<UnitReport>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.lost.is_none() {
            state.dirty.entry(unit).or_default().push(sender);
        }
        drop(state);
        self.work.notify_one();
        receiver
    }

    /// Puts back units that could not be checked.
    pub fn postpone(&self, unit: UnitName, waiters: Vec<Waiter>) {
        self.state().dirty.entry(unit).or_default().extend(waiters);
    }

    pub fn relist(&self, relist: Relist) {
        let mut state = self.state();
        state.relist = state.relist.max(Some(relist));
        drop(state);
        self.work.notify_one();
    }

    /// Requests a check whether the system is going down.
    pub fn check_state(&self) {
        self.state().check_state = true;
        self.work.notify_one();
    }

    /// logind is about to shut the system down, or has cancelled the shutdown.
    pub fn shutdown_announced(&self, announced: bool) {
        let mut state = self.state();
        state.check_state |= state.shutdown_announced != announced;
        state.shutdown_announced = announced;
        drop(state);
        self.work.notify_one();
    }

    /// Whether the end of the session, or of a unit, is to be treated as part of a shutdown about
    /// which systemd could not be asked.
    pub fn shutdown_expected(&self) -> bool {
        let state = self.state();
        state.shutdown_announced || (state.check_state && state.lost.is_some())
    }

    pub fn reloading(&self, active: bool) {
        let mut state = self.state();
        state.reloading = active;
        if !active {
            state.relist = state.relist.max(Some(Relist::Compare));
        }
        drop(state);
        self.work.notify_one();
    }

    /// systemd's name on the bus gained or lost its owner.
    pub fn manager_owner(&self, present: bool) {
        let mut state = self.state();
        state.away = !present;
        if present {
            state.resubscribe = true;
            state.reloading = false;
            state.relist = Some(Relist::Full);
        }
        drop(state);
        self.work.notify_one();
        self.presence.notify_waiters();
    }

    pub fn lose(&self, reason: String) {
        let mut state = self.state();
        if state.lost.is_none() {
            state.lost = Some(reason);
        }
        // Dropped waiters make their operations notice that no check will follow.
        state.dirty.clear();
        drop(state);
        self.work.notify_one();
        self.jobs.notify_waiters();
        self.presence.notify_waiters();
    }

    /// Takes the most important thing to do.
    pub fn next(&self) -> InboxWork {
        let mut state = self.state();
        if let Some(reason) = &state.lost {
            return InboxWork::Lost(reason.clone());
        }
        if state.away {
            return InboxWork::ManagerAway;
        }
        if std::mem::take(&mut state.resubscribe) {
            return InboxWork::Resubscribe;
        }
        if std::mem::take(&mut state.check_state) {
            return InboxWork::CheckState;
        }
        if state.reloading {
            return InboxWork::Reloading;
        }
        if let Some(relist) = state.relist.take() {
            return InboxWork::Relist(relist);
        }
        match state.dirty.pop_first() {
            Some((unit, waiters)) => InboxWork::Look(unit, waiters),
            None => InboxWork::Nothing,
        }
    }

    /// Collects the results of the unit's jobs from now on, until the watch is dropped. It must
    /// begin before the call that creates the job, whose end may be reported before the call
    /// returns.
    pub fn watch_jobs(&self, unit: &UnitName) -> JobWatch<'_> {
        self.state().jobs.entry(unit.clone()).or_default();
        JobWatch { inbox: self, unit: unit.clone() }
    }

    pub fn job_removed(&self, unit: &UnitName, job: OwnedObjectPath, result: String) {
        if let Some(results) = self.state().jobs.get_mut(unit) {
            results.push((job, result));
        }
        self.jobs.notify_waiters();
    }

    /// Waits until systemd is on the bus. Also ends when the connection is lost.
    pub async fn manager_present(&self) {
        loop {
            let notified = self.presence.notified();
            {
                let state = self.state();
                if !state.away || state.lost.is_some() {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Waits until the connection is lost.
    pub async fn lost(&self) {
        loop {
            let notified = self.presence.notified();
            if self.state().lost.is_some() {
                return;
            }
            notified.await;
        }
    }
}

/// A watch for the end of one unit's jobs.
pub(super) struct JobWatch<'a> {
    inbox: &'a Inbox,
    unit: UnitName,
}

impl JobWatch<'_> {
    /// Waits for this job's end. It never returns when the signal was lost, so the caller must set
    /// a time limit.
    pub async fn result(&self, job: &OwnedObjectPath) -> String {
        loop {
            let notified = self.inbox.jobs.notified();
            if let Some(result) = self.result_of(job) {
                return result;
            }
            notified.await;
        }
    }

    /// The number of jobs of the unit that have ended so far.
    pub fn count(&self) -> usize {
        self.inbox.state().jobs.get(&self.unit).map_or(0, Vec::len)
    }

    /// Waits for the end of a job after this many. It never returns when there is none, so the
    /// caller must set a time limit.
    pub async fn another(&self, after: usize) -> String {
        loop {
            let notified = self.inbox.jobs.notified();
            let result = {
                let state = self.inbox.state();
                let results = state.jobs.get(&self.unit);
                results.and_then(|results| results.get(after)).map(|(_, result)| result.clone())
            };
            if let Some(result) = result {
                return result;
            }
            notified.await;
        }
    }

    fn result_of(&self, job: &OwnedObjectPath) -> Option<String> {
        let state = self.inbox.state();
        let results = state.jobs.get(&self.unit)?;
        results.iter().find(|(ended, _)| ended == job).map(|(_, result)| result.clone())
    }
}

impl Drop for JobWatch<'_> {
    fn drop(&mut self) {
        self.inbox.state().jobs.remove(&self.unit);
    }
}
