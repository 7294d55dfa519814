//! The two tables of due times: silence deadlines on watched time, timers on monotonic time.
//!
//! Both are lazy: an entry states when to check, and the state found then decides. So a contact
//! stores one time and touches no table, and nothing is ever removed before it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Items ordered by the time of their next check.
#[derive(Debug, Clone)]
pub struct DeadlineTable<T> {
    /// Times in nanoseconds, which take half the room of a [`Duration`] and last for 584 years.
    heap: BinaryHeap<Reverse<(u64, T)>>,
}

impl<T: Ord> Default for DeadlineTable<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<T: Ord> DeadlineTable<T> {
    pub fn push(&mut self, due: Duration, item: T) {
        let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        self.heap.push(Reverse((nanos, item)));
    }

    /// Makes room for this many items in total.
    pub fn reserve(&mut self, items: usize) {
        self.heap.reserve_exact(items.saturating_sub(self.heap.len()));
    }

    /// The time of the next check.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((due, _))| Duration::from_nanos(*due))
    }

    /// The earliest item that is due at `now`, with the time it was pushed for.
    pub fn pop_due(&mut self, now: Duration) -> Option<(Duration, T)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((due, item))| (Duration::from_nanos(due), item))
    }

    pub fn clear(&mut self) {
        self.heap.clear();
    }
}
