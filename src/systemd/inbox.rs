//! Signals are noted here until they are handled: a set instead of a queue.
//!
//! The set cannot overflow: it holds at most one entry for each unit with an agent's name, however
//! many signals arrive, and job results only of units that an operation waits for.

use super::condition::{Markers, UnitCondition};
use iotmonitor_core::model::unit::UnitReport;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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

/// What is known of a unit that is to be checked.
#[derive(Debug, Default)]
pub(super) enum Knowledge {
    /// systemd has to be asked.
    #[default]
    None,
    /// systemd has signalled how it is now, and nothing else since.
    Signalled {
        condition: Box<UnitCondition>,
        /// What the unit was given, if this monitor has just created it.
        markers: Option<Markers>,
    },
}

/// A check that is due.
#[derive(Default)]
pub(super) struct UnitCheck {
    pub known: Knowledge,
    pub waiters: Vec<Waiter>,
}

/// What was signalled of a unit while an operation on it goes on.
#[derive(Default)]
struct Watched {
    results: Vec<JobResult>,
    /// Whether a change was signalled, for which no check was marked.
    is_changed: bool,
    /// How the unit is, unless something was signalled since that shows no more than a change.
    condition: Option<Box<UnitCondition>>,
}

/// The operations on units, by their numbers. Two may overlap: a stop is requested while a start goes
/// on.
type Operations = BTreeMap<u64, Watched>;

/// A unit that a job has just created.
pub(super) struct CreatedUnit {
    pub markers: Markers,
    /// The job, which has ended.
    pub job: OwnedObjectPath,
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
    Look(UnitName, UnitCheck),
    /// A daemon-reload is in progress: units come and go without meaning.
    Reloading,
    Nothing,
}

#[derive(Default)]
struct InboxState {
    dirty: BTreeMap<UnitName, UnitCheck>,
    operations: BTreeMap<UnitName, Operations>,
    last_operation: u64,
    relist: Option<Relist>,
    check_state: bool,
    shutdown_announced: bool,
    reloading: bool,
    away: bool,
    resubscribe: bool,
    lost: Option<String>,
}

impl InboxState {
    fn watched(&self, unit: &UnitName, operation: u64) -> Option<&Watched> {
        self.operations.get(unit)?.get(&operation)
    }

    /// Notes what was signalled in the operations on the unit. Returns whether there is one.
    fn note_in_operations(&mut self, unit: &UnitName, condition: Option<&UnitCondition>) -> bool {
        let Some(operations) = self.operations.get_mut(unit) else { return false };
        for watched in operations.values_mut() {
            watched.is_changed = true;
            watched.condition = condition.cloned().map(Box::new);
        }
        true
    }

    fn end_operation(&mut self, unit: &UnitName, operation: u64) -> Option<Watched> {
        let operations = self.operations.get_mut(unit)?;
        let ended = operations.remove(&operation);
        if operations.is_empty() {
            self.operations.remove(unit);
        }
        ended
    }

    /// Has systemd asked for everything that it has signalled.
    fn forget_signals(&mut self) {
        for check in self.dirty.values_mut() {
            check.known = Knowledge::None;
        }
        for watched in self.operations.values_mut().flat_map(BTreeMap::values_mut) {
            watched.condition = None;
        }
    }
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

    /// Marks a unit for a check in which systemd is asked. A unit on which an operation goes on is
    /// left alone: the operation requests a check at its end, and while systemd answers, it starts
    /// nothing.
    pub fn touch(&self, unit: UnitName) {
        let mut state = self.state();
        if state.note_in_operations(&unit, None) {
            return;
        }
        state.dirty.entry(unit).or_default().known = Knowledge::None;
        drop(state);
        self.work.notify_one();
    }

    /// Marks a unit of which systemd has signalled how it is now.
    pub fn changed(&self, unit: UnitName, condition: UnitCondition) {
        let mut state = self.state();
        if state.note_in_operations(&unit, Some(&condition)) {
            return;
        }
        let condition = Box::new(condition);
        match state.dirty.entry(unit) {
            Entry::Vacant(entry) => {
                let known = Knowledge::Signalled { condition, markers: None };
                entry.insert(UnitCheck { known, waiters: Vec::new() });
            }
            Entry::Occupied(mut entry) => match &mut entry.get_mut().known {
                // The reason why systemd is to be asked remains.
                Knowledge::None => {}
                Knowledge::Signalled { condition: before, .. } => *before = condition,
            },
        }
        drop(state);
        self.work.notify_one();
    }

    /// Puts back a unit that could not be checked.
    pub fn postpone(&self, unit: UnitName, waiters: Vec<Waiter>) {
        let mut state = self.state();
        let check = state.dirty.entry(unit).or_default();
        check.known = Knowledge::None;
        check.waiters.extend(waiters);
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
            state.forget_signals();
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
            Some((unit, check)) => InboxWork::Look(unit, check),
            None => InboxWork::Nothing,
        }
    }

    /// Collects what is signalled of the unit and of its jobs from now on, until the watch ends. It
    /// must begin before the call that creates a job, whose end may be reported before the call
    /// returns.
    pub fn watch(&self, unit: &UnitName) -> UnitWatch<'_> {
        let mut state = self.state();
        state.last_operation += 1;
        let number = state.last_operation;
        state.operations.entry(unit.clone()).or_default().insert(number, Watched::default());
        UnitWatch { inbox: self, unit: unit.clone(), number }
    }

    pub fn job_removed(&self, unit: &UnitName, job: OwnedObjectPath, result: String) {
        if let Some(operations) = self.state().operations.get_mut(unit) {
            for watched in operations.values_mut() {
                watched.results.push((job.clone(), result.clone()));
            }
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

/// An operation on one unit, which waits for the end of jobs.
pub(super) struct UnitWatch<'a> {
    inbox: &'a Inbox,
    unit: UnitName,
    number: u64,
}

impl UnitWatch<'_> {
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
        let state = self.inbox.state();
        state.watched(&self.unit, self.number).map_or(0, |watched| watched.results.len())
    }

    /// Waits for the end of a job after this many. It never returns when there is none, so the
    /// caller must set a time limit.
    pub async fn another(&self, after: usize) -> String {
        loop {
            let notified = self.inbox.jobs.notified();
            let result = {
                let state = self.inbox.state();
                let watched = state.watched(&self.unit, self.number);
                watched.and_then(|it| it.results.get(after)).map(|(_, result)| result.clone())
            };
            if let Some(result) = result {
                return result;
            }
            notified.await;
        }
    }

    fn result_of(&self, job: &OwnedObjectPath) -> Option<String> {
        let state = self.inbox.state();
        let results = &state.watched(&self.unit, self.number)?.results;
        results.iter().find(|(ended, _)| ended == job).map(|(_, result)| result.clone())
    }

    /// Ends the watch with a check of the unit; the receiver fails when the connection ends first.
    /// If a job of this operation has just created the unit, nothing is asked that systemd has
    /// signalled.
    pub fn check(self, created: Option<CreatedUnit>) -> oneshot::Receiver<Option<UnitReport>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.inbox.state();
        let watched = state.end_operation(&self.unit, self.number);
        if state.lost.is_none() {
            let check = state.dirty.entry(self.unit.clone()).or_default();
            check.waiters.push(sender);
            check.known = match (created, watched.and_then(|watched| watched.condition)) {
                // The job, which has ended, may have been there still when this was signalled.
                (Some(CreatedUnit { markers, job }), Some(condition)) => Knowledge::Signalled {
                    condition: Box::new(condition.without_job(job.as_str())),
                    markers: Some(markers),
                },
                (Some(_), None) | (None, _) => Knowledge::None,
            };
        }
        drop(state);
        self.inbox.work.notify_one();
        receiver
    }
}

impl Drop for UnitWatch<'_> {
    /// Ends a watch that has not ended with a check.
    fn drop(&mut self) {
        let watched = self.inbox.state().end_operation(&self.unit, self.number);
        if watched.is_some_and(|watched| watched.is_changed) {
            self.inbox.touch(self.unit.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn unit() -> UnitName {
        UnitName::from_systemd("iotmonitor-agent-box.service")
    }

    fn job(number: u32) -> OwnedObjectPath {
        let path = format!("/org/freedesktop/systemd1/job/{number}");
        OwnedObjectPath::try_from(path).unwrap()
    }

    /// Whether systemd is to be asked for the unit, which is the next thing to do.
    fn is_asked_for(inbox: &Inbox) -> bool {
        match inbox.next() {
            InboxWork::Look(_, check) => matches!(check.known, Knowledge::None),
            _ => false,
        }
    }

    /// A stop is requested while the start goes on, and cancels its job.
    #[tokio::test]
    async fn each_of_two_operations_hears_of_the_end_of_its_job() {
        let inbox = Inbox::default();
        let start = inbox.watch(&unit());
        let stop = inbox.watch(&unit());
        inbox.job_removed(&unit(), job(1), "canceled".to_owned());
        assert_eq!(start.result(&job(1)).await, "canceled");
        let _report = start.check(None);
        inbox.job_removed(&unit(), job(2), "done".to_owned());
        assert_eq!(stop.result(&job(2)).await, "done");
        assert!(is_asked_for(&inbox), "the check of the start");
        inbox.touch(unit());
        assert!(!is_asked_for(&inbox), "the stop still goes on");
        let _report = stop.check(None);
        assert!(is_asked_for(&inbox));
    }

    #[test]
    fn what_was_signalled_during_an_operation_is_checked_after_it() {
        let inbox = Inbox::default();
        drop(inbox.watch(&unit()));
        assert!(matches!(inbox.next(), InboxWork::Nothing));
        let watch = inbox.watch(&unit());
        inbox.touch(unit());
        assert!(matches!(inbox.next(), InboxWork::Nothing));
        drop(watch);
        assert!(is_asked_for(&inbox));
    }

    /// Signals were lost while systemd was away.
    #[test]
    fn what_was_signalled_before_systemd_was_away_is_asked_for() {
        let inbox = Inbox::default();
        inbox.changed(unit(), UnitCondition::read(&HashMap::new()));
        inbox.manager_owner(true);
        assert!(matches!(inbox.next(), InboxWork::Resubscribe));
        assert!(matches!(inbox.next(), InboxWork::Relist(Relist::Full)));
        assert!(is_asked_for(&inbox));
    }
}
