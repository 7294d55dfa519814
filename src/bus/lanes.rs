//! Decides which call is next: calls wait in lanes, one for each user and purpose, and the lanes
//! take turns.
//!
//! A user that calls a thousand times therefore delays only its own calls, and the number of
//! waiting calls is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// The number of calls of all but the trusted users that are answered at a time.
const MOST_AT_ONCE: usize = 32;

/// The number of calls of a trusted lane that are answered at a time; an answer may wait until an
/// agent has ended.
const MOST_TRUSTED_AT_ONCE: usize = 128;

/// The number of waiting calls of one lane: the number that a bus allows for one connection
/// (dbus-daemon(1), max_replies_per_connection).
const MOST_WAITING: usize = 128;

/// The bytes of one lane that wait or are being answered: one message of the size that a bus allows
/// (dbus-daemon(1), max_message_size), and some reserve.
const MOST_BYTES: usize = 33 << 20;

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// To read what every user may read, which takes a moment.
    Look,
    /// To do what requires authorization, which may take as long as a person needs for a password.
    Command,
}

/// The callers that share a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub user: u32,
    pub purpose: Purpose,
    /// Root and the monitor's own user, which could also end it.
    pub is_trusted: bool,
}

impl Lane {
    fn most_waiting(self) -> usize {
        if self.is_trusted { 8 * MOST_WAITING } else { MOST_WAITING }
    }

    fn most_bytes(self) -> usize {
        if self.is_trusted { 8 * MOST_BYTES } else { MOST_BYTES }
    }

    /// Of other users one call is answered at a time, so that at most one query waits for a person.
    fn most_at_once(self) -> usize {
        if self.is_trusted { MOST_TRUSTED_AT_ONCE } else { 1 }
    }
}

/// The waiting calls, and the number of those that are being answered.
#[derive(Debug)]
pub(super) struct Lanes<C> {
    lanes: BTreeMap<Lane, Queue<C>>,
    /// The lane whose turn it was last.
    last: Option<Lane>,
    /// The calls being answered of all but the trusted users.
    running: usize,
}

#[derive(Debug)]
struct Queue<C> {
    waiting: VecDeque<(C, usize)>,
    running: usize,
    bytes: usize,
}

/// A call that is being answered; it must be returned to [`Lanes::done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneTurn {
    pub lane: Lane,
    bytes: usize,
}

impl<C> Lanes<C> {
    pub fn new() -> Self {
        Self { lanes: BTreeMap::new(), last: None, running: 0 }
    }

    /// Queues a call of this size, or returns it where its lane is full.
    pub fn push(&mut self, lane: Lane, call: C, bytes: usize) -> Result<(), C> {
        let new = || Queue { waiting: VecDeque::new(), running: 0, bytes: 0 };
        let queue = self.lanes.entry(lane).or_insert_with(new);
        let is_full = queue.waiting.len() >= lane.most_waiting();
        if is_full || queue.bytes + bytes > lane.most_bytes() {
            return Err(call);
        }
        queue.bytes += bytes;
        queue.waiting.push_back((call, bytes));
        Ok(())
    }

    /// The next call to answer, if one may be answered now.
    pub fn next(&mut self) -> Option<(LaneTurn, C)> {
        let is_crowded = self.running >= MOST_AT_ONCE;
        let is_ready = |lane: Lane, queue: &Queue<C>| {
            !queue.waiting.is_empty()
                && queue.running < lane.most_at_once()
                && (lane.is_trusted || !is_crowded)
        };
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let (&lane, _) = self
            .lanes
            .range((behind, Bound::Unbounded))
            .chain(self.lanes.iter())
            .find(|(lane, queue)| is_ready(**lane, queue))?;
        let queue = self.lanes.get_mut(&lane)?;
        let (call, bytes) = queue.waiting.pop_front()?;
        queue.running += 1;
        self.running += usize::from(!lane.is_trusted);
        self.last = Some(lane);
        Some((LaneTurn { lane, bytes }, call))
    }

    /// A call has been answered.
    pub fn done(&mut self, turn: LaneTurn) {
        self.running -= usize::from(!turn.lane.is_trusted);
        let Some(queue) = self.lanes.get_mut(&turn.lane) else { return };
        queue.running -= 1;
        queue.bytes -= turn.bytes;
        if queue.running == 0 && queue.waiting.is_empty() {
            self.lanes.remove(&turn.lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(user: u32, purpose: Purpose) -> Lane {
        Lane { user, purpose, is_trusted: user == 0 }
    }

    /// Answers everything one after the other, and returns the users.
    fn order(lanes: &mut Lanes<u32>) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some((turn, call)) = lanes.next() {
            order.push(call);
            lanes.done(turn);
        }
        order
    }

    #[test]
    fn a_crowd_of_one_user_delays_no_other_user() {
        let mut lanes = Lanes::new();
        for _ in 0..100 {
            lanes.push(lane(65_534, Purpose::Look), 1, 1).unwrap();
        }
        lanes.push(lane(0, Purpose::Look), 2, 1).unwrap();
        lanes.push(lane(1_000, Purpose::Look), 3, 1).unwrap();
        let order = order(&mut lanes);
        assert!(order.iter().position(|call| *call == 2).unwrap() < 3, "{order:?}");
        assert!(order.iter().position(|call| *call == 3).unwrap() < 3, "{order:?}");
        assert_eq!(order.len(), 102);
        assert!(lanes.lanes.is_empty(), "a user without calls costs nothing");
    }

    #[test]
    fn of_a_stranger_one_command_is_answered_at_a_time_and_looks_go_on() {
        let mut lanes = Lanes::new();
        for call in 0..3 {
            lanes.push(lane(7, Purpose::Command), call, 1).unwrap();
        }
        let (turn, _) = lanes.next().unwrap();
        assert!(lanes.next().is_none());
        lanes.push(lane(7, Purpose::Look), 9, 1).unwrap();
        assert_eq!(lanes.next().unwrap().1, 9);
        lanes.done(turn);
        assert_eq!(lanes.next().unwrap().1, 1);
    }

    #[test]
    fn what_waits_has_bounds() {
        let mut lanes = Lanes::new();
        let stranger = lane(7, Purpose::Command);
        let taken = (0..400).filter(|call| lanes.push(stranger, *call, 1_000).is_ok()).count();
        assert_eq!(taken, MOST_WAITING);
        // One message of the largest size.
        let stranger = lane(8, Purpose::Command);
        let taken = (0..400).filter(|call| lanes.push(stranger, *call, 32 << 20).is_ok()).count();
        assert_eq!(taken, 1);
        // The call that is being answered is still there.
        lanes.push(lane(9, Purpose::Command), 0, 32 << 20).unwrap();
        let mut turns: Vec<LaneTurn> = Vec::new();
        while let Some((turn, _)) = lanes.next() {
            turns.push(turn);
        }
        assert_eq!(lanes.push(lane(9, Purpose::Command), 1, 32 << 20), Err(1));
        for turn in turns {
            lanes.done(turn);
        }
        lanes.push(lane(9, Purpose::Command), 1, 32 << 20).unwrap();
    }

    #[test]
    fn no_more_are_answered_at_a_time_than_the_monitor_can_bear() {
        let mut lanes = Lanes::new();
        for user in 0..1_000 {
            lanes.push(lane(user, Purpose::Look), user, 1).unwrap();
        }
        let running = std::iter::from_fn(|| lanes.next()).count();
        assert_eq!(running, MOST_AT_ONCE + 1, "and the trusted one");
    }
}
