//! The two tables of what is due when: silence deadlines on watched time, timers on monotonic time.
//!
//! Both are lazy: an entry says when to look, and whoever looks decides by the state at hand. So a
//! contact stores one time and touches no table, and nothing is ever removed before it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Items ordered by when to look at them.
#[derive(Debug, Clone)]
pub struct DeadlineTable<T> {
    heap: BinaryHeap<Reverse<(Duration, T)>>,
}

impl<T: Ord> Default for DeadlineTable<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<T: Ord> DeadlineTable<T> {
    pub fn push(&mut self, due: Duration, item: T) {
        self.heap.push(Reverse((due, item)));
    }

    /// When to look next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// The earliest item that is due at `now`, with the time it was pushed for.
    pub fn pop_due(&mut self, now: Duration) -> Option<(Duration, T)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub fn clear(&mut self) {
        self.heap.clear();
    }
}
