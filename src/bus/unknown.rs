//! Calls of senders whose user the bus has not reported yet.
//!
//! The waiting calls are bounded. When a bound is reached, the sender with the most waiting calls
//! gives way, so a thousand calls of one sender never displace the first call of another.

use std::collections::HashMap;
use std::hash::Hash;

/// Calls that wait.
const MOST_CALLS: usize = 512;

/// The bytes of the waiting calls: one of the largest messages, and a little more.
const MOST_BYTES: usize = 33 << 20;

/// Calls by their callers, each with its size.
#[derive(Debug)]
pub(super) struct Unknown<K, C> {
    callers: HashMap<K, Waiting<C>>,
    calls: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting<C> {
    calls: Vec<(C, usize)>,
    bytes: usize,
}

impl<K: Clone + Eq + Hash, C> Unknown<K, C> {
    pub fn new() -> Self {
        Self { callers: HashMap::new(), calls: 0, bytes: 0 }
    }

    /// Keeps a call of this size. Returns whether the bus must be asked about the caller, and the
    /// calls that have to give way, possibly including this one.
    pub fn push(&mut self, caller: &K, call: C, bytes: usize) -> (bool, Vec<C>) {
        let new = || Waiting { calls: Vec::new(), bytes: 0 };
        let mut is_new = !self.callers.contains_key(caller);
        let waiting = self.callers.entry(caller.clone()).or_insert_with(new);
        waiting.calls.push((call, bytes));
        waiting.bytes += bytes;
        self.calls += 1;
        self.bytes += bytes;
        let mut given_way = Vec::new();
        while self.calls > MOST_CALLS || self.bytes > MOST_BYTES {
            let Some(most) = self.most(caller) else { break };
            let Some(waiting) = self.callers.get_mut(&most) else { break };
            let Some((call, bytes)) = waiting.calls.pop() else { break };
            waiting.bytes -= bytes;
            self.calls -= 1;
            self.bytes -= bytes;
            given_way.push(call);
            // The bus has already been asked about any other caller, which stays listed until the
            // answer.
            if is_new && most == *caller && waiting.calls.is_empty() {
                self.callers.remove(caller);
                is_new = false;
            }
        }
        (is_new, given_way)
    }

    /// The caller with the most waiting calls or bytes, whichever is exceeded; the newcomer in case
    /// of a tie.
    fn most(&self, comes: &K) -> Option<K> {
        let is_long = self.bytes > MOST_BYTES;
        let weight = |waiting: &Waiting<C>| {
            if is_long { waiting.bytes } else { waiting.calls.len() }
        };
        let most =
            self.callers.iter().max_by_key(|(caller, waiting)| (weight(waiting), *caller == comes));
        most.map(|(caller, _)| caller.clone())
    }

    /// Releases the calls that have waited for the identity of a caller.
    pub fn take(&mut self, caller: &K) -> Vec<C> {
        let Some(waiting) = self.callers.remove(caller) else { return Vec::new() };
        self.calls -= waiting.calls.len();
        self.bytes -= waiting.bytes;
        waiting.calls.into_iter().map(|(call, _)| call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_most_waiting_gives_way() {
        let mut unknown = Unknown::new();
        let refused: usize = (0..2_000).map(|call| unknown.push(&1, call, 200).1.len()).sum();
        assert_eq!(refused, 2_000 - MOST_CALLS);
        let (is_first, given_way) = unknown.push(&2, 9_999, 200);
        assert!(is_first && given_way.len() == 1 && given_way != [9_999], "{given_way:?}");
        assert_eq!(unknown.take(&2), [9_999]);
        assert_eq!(unknown.take(&1).len(), MOST_CALLS - 1);
        assert_eq!((unknown.calls, unknown.bytes), (0, 0));
    }

    #[test]
    fn of_more_callers_than_there_is_room_for_no_more_are_asked_about() {
        let mut unknown = Unknown::new();
        let asked = (0..2_000).filter(|caller| unknown.push(caller, *caller, 200).0).count();
        assert_eq!((asked, unknown.callers.len()), (MOST_CALLS, MOST_CALLS));
        assert_eq!(unknown.push(&2_000, 2_000, 200), (false, vec![2_000]));
    }

    #[test]
    fn whoever_has_the_longest_waiting_gives_way_where_room_is_short() {
        let mut unknown = Unknown::new();
        assert_eq!(unknown.push(&1, 1, 32 << 20), (true, vec![]));
        assert_eq!(unknown.push(&2, 2, 200), (true, vec![]));
        assert_eq!(unknown.push(&3, 3, 2 << 20), (true, vec![1]));
        assert_eq!(unknown.push(&1, 4, 32 << 20), (false, vec![4]));
        assert_eq!((unknown.take(&2), unknown.take(&3)), (vec![2], vec![3]));
        assert_eq!(unknown.take(&1), [0; 0]);
        assert_eq!((unknown.calls, unknown.bytes), (0, 0));
    }
}
