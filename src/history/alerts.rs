//! The alerts of the past: those that wait for the disk, and those that are on it.
//!
//! What waits is written in groups: a warning within [`SOON`], notices alone within [`LATER`],
//! and both at once with whatever else is written.

use super::disk::PastRecords;
use crate::lmdb::StoreError;
use heed::RwTxn;
use iotmonitor_core::machines::alert_queue::{AlertQueue, Urgency};
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest interval between two commits of alerts: a storm of them is written in groups.
const SOON: Duration = Duration::from_millis(250);

/// The longest time for which notices wait for something else to be written with.
const LATER: Duration = Duration::from_secs(3);

/// Alerts on their way to the disk, which the daemon's thread leaves for that of the history without
/// waiting.
#[derive(Debug, Clone, Default)]
pub struct AlertBook(Arc<Mutex<AlertQueue>>);

impl AlertBook {
    /// Takes in an alert; returns it with its number, and whether the thread of the history has to be
    /// woken, which knows of the others by then.
    pub fn push(&self, record: AlertRecord) -> (Arc<AlertRecord>, bool) {
        let mut queue = self.queue();
        let before = queue.urgency();
        let record = queue.push(record);
        (record, queue.urgency() > before)
    }

    /// Those that wait and that a query covers, the newest first.
    #[must_use]
    pub fn matching(&self, query: &AlertQuery) -> Vec<Arc<AlertRecord>> {
        self.queue().matching(query)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, AlertQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When what waits is to be written.
#[derive(Debug)]
pub(super) struct AlertSchedule {
    written: Option<Instant>,
    /// Since when notices alone are seen to wait.
    waiting: Option<Instant>,
}

impl AlertSchedule {
    pub fn new() -> Self {
        Self { written: None, waiting: None }
    }

    /// The time at which what waits is due; `None` where nothing waits.
    pub fn due(&mut self, urgency: Option<Urgency>, now: Instant) -> Option<Instant> {
        match urgency {
            None => {
                self.waiting = None;
                None
            }
            Some(Urgency::High) => Some(self.written.map_or(now, |written| written + SOON)),
            Some(Urgency::Low) => Some(*self.waiting.get_or_insert(now) + LATER),
        }
    }

    pub fn written(&mut self, now: Instant) {
        (self.written, self.waiting) = (Some(now), None);
    }
}

impl PastRecords {
    /// Puts alerts on disk as a part of a transaction.
    pub(super) fn put_alerts(
        &self,
        transaction: &mut RwTxn,
        alerts: &[Arc<AlertRecord>],
    ) -> heed::Result<()> {
        self.alerts.put(transaction, self.meta, alerts)
    }

    /// The last number that an alert had.
    pub fn last_alert(&self) -> Result<u64, StoreError> {
        let transaction = self.env.read_txn().map_err(|error| self.fail("read", error))?;
        let last = self.alerts.last_id(&transaction, self.meta);
        last.map_err(|error| self.fail("read", error))
    }

    /// Those that a query covers, the newest first; `waiting` are those of them that are not on disk.
    pub fn read_alerts(
        &self,
        query: &AlertQuery,
        waiting: Vec<Arc<AlertRecord>>,
    ) -> Result<Vec<Arc<AlertRecord>>, StoreError> {
        let mut found = waiting;
        let transaction = self.env.read_txn().map_err(|error| self.fail("read", error))?;
        let read = self.alerts.read(&transaction, query, &mut found);
        read.map_err(|error| self.fail("read", error))?;
        Ok(found)
    }

    pub fn acknowledge(&mut self, id: u64, time: Duration) -> Result<Option<Duration>, StoreError> {
        let mut outcome = None;
        self.commit(|disk, transaction| {
            outcome = disk.alerts.acknowledge(transaction, id, time)?;
            Ok(())
        })?;
        Ok(outcome)
    }

    /// Removes alerts from before this time.
    pub fn prune_alerts(&mut self, cutoff: Duration) -> Result<(), StoreError> {
        self.commit(|disk, transaction| disk.alerts.prune(transaction, cutoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_at_once_and_a_storm_in_groups() {
        let (mut schedule, start) = (AlertSchedule::new(), Instant::now());
        assert_eq!(schedule.due(None, start), None);
        assert_eq!(schedule.due(Some(Urgency::High), start), Some(start));
        schedule.written(start);
        assert_eq!(schedule.due(Some(Urgency::High), start), Some(start + SOON));
    }

    #[test]
    fn notices_wait_for_company_for_seconds_at_most() {
        let (mut schedule, start) = (AlertSchedule::new(), Instant::now());
        assert_eq!(schedule.due(Some(Urgency::Low), start), Some(start + LATER));
        assert_eq!(schedule.due(Some(Urgency::Low), start + SOON), Some(start + LATER));
        schedule.written(start + SOON);
        let later = start + LATER;
        assert_eq!(schedule.due(Some(Urgency::Low), later), Some(later + LATER));
    }
}
