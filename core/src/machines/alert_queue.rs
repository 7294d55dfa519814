//! The alerts that are not on disk yet.
//!
//! They have numbers that grow over restarts, so those of a run wait for the last number of the runs
//! before it. What waits is bounded in bytes, because a disk may fail for as long as it likes;
//! warnings and errors have a bound of their own, so that no number of notices removes one.

use crate::model::history::alert_record::{AlertQuery, AlertRecord};
use std::collections::VecDeque;
use std::sync::Arc;

/// What warnings and errors may take while they wait, and what the others may, in bytes.
const MOST_WARNING_BYTES: usize = 4 << 20;
const MOST_NOTICE_BYTES: usize = 512 << 10;

/// How soon what waits has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// There are notices alone.
    Low,
    /// There is a warning or an error.
    High,
}

/// The alerts of one class, the oldest first, with the order in which they came.
#[derive(Debug, Default)]
struct Class {
    alerts: VecDeque<(u64, Arc<AlertRecord>)>,
    bytes: usize,
}

impl Class {
    fn push(&mut self, turn: u64, record: Arc<AlertRecord>, most: usize) {
        self.bytes += record.size();
        self.alerts.push_back((turn, record));
        while self.bytes > most && self.alerts.len() > 1 {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, gone)) = self.alerts.pop_front() {
            self.bytes = self.bytes.saturating_sub(gone.size());
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct AlertQueue {
    /// The number that was given last; `None` before those of earlier runs are known.
    last_id: Option<u64>,
    /// How many alerts there were in this run.
    count: u64,
    warnings: Class,
    notices: Class,
}

impl AlertQueue {
    /// Takes in an alert, and returns it with its number, if it can have one yet.
    pub fn push(&mut self, record: AlertRecord) -> Arc<AlertRecord> {
        self.count += 1;
        self.last_id = self.last_id.map(|last| last + 1);
        let record = Arc::new(AlertRecord { id: self.last_id, ..record });
        if record.is_warning() {
            self.warnings.push(self.count, Arc::clone(&record), MOST_WARNING_BYTES);
        } else {
            self.notices.push(self.count, Arc::clone(&record), MOST_NOTICE_BYTES);
        }
        record
    }

    /// The records of earlier runs have been read, of which this was the last number. Returns
    /// whether alerts have received theirs now.
    pub fn number_after(&mut self, last_id: u64) -> bool {
        if let Some(own) = &mut self.last_id {
            // Other records were found in place of those that were used: no number comes again.
            *own = last_id.max(*own);
            return false;
        }
        let mut all: Vec<&mut (u64, Arc<AlertRecord>)> =
            self.warnings.alerts.iter_mut().chain(&mut self.notices.alerts).collect();
        all.sort_by_key(|(turn, _)| *turn);
        let mut id = last_id;
        for (_, record) in &mut all {
            id += 1;
            Arc::make_mut(record).id = Some(id);
        }
        let are_numbered = !all.is_empty();
        self.last_id = Some(id);
        are_numbered
    }

    /// How soon what waits has to be on disk; `None` where nothing waits.
    #[must_use]
    pub fn urgency(&self) -> Option<Urgency> {
        if !self.warnings.alerts.is_empty() {
            return Some(Urgency::High);
        }
        (!self.notices.alerts.is_empty()).then_some(Urgency::Low)
    }

    /// All that wait, the oldest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<Arc<AlertRecord>> {
        let mut all: Vec<&(u64, Arc<AlertRecord>)> =
            self.warnings.alerts.iter().chain(&self.notices.alerts).collect();
        all.sort_by_key(|(turn, _)| *turn);
        all.into_iter().map(|(_, record)| Arc::clone(record)).collect()
    }

    /// Those that a query covers, the newest first.
    #[must_use]
    pub fn matching(&self, query: &AlertQuery) -> Vec<Arc<AlertRecord>> {
        let mut all = self.waiting();
        all.reverse();
        all.retain(|record| query.covers(record));
        all.truncate(query.limit);
        all
    }

    /// Those up to this number are on disk.
    pub fn written(&mut self, through: u64) {
        for class in [&mut self.warnings, &mut self.notices] {
            let is_written = |record: &AlertRecord| record.id.is_some_and(|id| id <= through);
            while class.alerts.front().is_some_and(|(_, record)| is_written(record)) {
                class.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::alert::{AlertKind, Priority};
    use std::time::Duration;

    const WARNING: AlertKind = AlertKind::Expired;
    const NOTICE: AlertKind = AlertKind::Recovered;

    fn alert(kind: AlertKind, message: &str) -> AlertRecord {
        AlertRecord::plain(Duration::from_secs(1), kind, message)
    }

    fn ids(queue: &AlertQueue) -> Vec<Option<u64>> {
        queue.waiting().iter().map(|record| record.id).collect()
    }

    #[test]
    fn alerts_receive_their_numbers_in_their_order_once_those_of_earlier_runs_are_known() {
        let mut queue = AlertQueue::default();
        for kind in [NOTICE, WARNING, NOTICE] {
            assert_eq!(queue.push(alert(kind, "early")).id, None);
        }
        assert!(queue.number_after(41));
        assert_eq!(ids(&queue), [Some(42), Some(43), Some(44)]);
        assert_eq!(queue.waiting()[1].event, "expired");
        assert_eq!(queue.push(alert(WARNING, "later")).id, Some(45));
    }

    #[test]
    fn no_number_comes_again_whatever_records_are_found_later() {
        let mut queue = AlertQueue::default();
        assert!(!queue.number_after(0));
        queue.push(alert(WARNING, "one"));
        assert!(!queue.number_after(0), "the records begin anew");
        assert_eq!(queue.push(alert(WARNING, "two")).id, Some(2));
        assert!(!queue.number_after(90), "those of another time are there");
        assert_eq!(queue.push(alert(WARNING, "three")).id, Some(91));
    }

    #[test]
    fn what_is_written_no_longer_waits() {
        let mut queue = AlertQueue::default();
        queue.number_after(0);
        assert_eq!(queue.urgency(), None);
        queue.push(alert(NOTICE, "one"));
        assert_eq!(queue.urgency(), Some(Urgency::Low));
        queue.push(alert(WARNING, "two"));
        queue.push(alert(NOTICE, "three"));
        assert_eq!(queue.urgency(), Some(Urgency::High));
        queue.written(2);
        assert_eq!(ids(&queue), [Some(3)]);
        assert_eq!(queue.urgency(), Some(Urgency::Low));
        queue.written(3);
        assert_eq!((queue.urgency(), queue.notices.bytes, queue.warnings.bytes), (None, 0, 0));
    }

    #[test]
    fn a_flood_of_notices_is_bounded_and_removes_no_warning() {
        let mut queue = AlertQueue::default();
        queue.number_after(0);
        queue.push(alert(WARNING, "the one that matters"));
        for _ in 0..10_000 {
            queue.push(alert(NOTICE, &"x".repeat(500)));
        }
        assert!(queue.notices.bytes <= MOST_NOTICE_BYTES);
        let waiting = queue.waiting();
        assert_eq!(waiting[0].message, "the one that matters");
        assert_eq!(waiting.last().unwrap().id, Some(10_001), "the latest are kept");
    }

    #[test]
    fn ten_thousand_warnings_wait_and_more_do_not() {
        let mut queue = AlertQueue::default();
        queue.number_after(0);
        for _ in 0..10_000 {
            queue.push(alert(WARNING, "`kitchen-lamp-042` is silent for 1 min, usually for 10 s"));
        }
        assert_eq!(queue.waiting().len(), 10_000);
        for _ in 0..10_000 {
            queue.push(alert(WARNING, &"x".repeat(2_000)));
        }
        assert!(queue.warnings.bytes <= MOST_WARNING_BYTES);
    }

    #[test]
    fn a_query_finds_what_waits_newest_first() {
        let mut queue = AlertQueue::default();
        queue.number_after(0);
        for kind in [WARNING, NOTICE, WARNING, WARNING] {
            queue.push(alert(kind, ""));
        }
        let query = AlertQuery {
            since: Duration::ZERO,
            device: None,
            least: Priority::Warning,
            before: None,
            limit: 2,
        };
        let found = queue.matching(&query).into_iter().map(|record| record.id);
        assert_eq!(found.collect::<Vec<_>>(), [Some(4), Some(3)]);
    }
}
