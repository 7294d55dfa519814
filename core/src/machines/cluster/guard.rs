//! The rule of the guard: what a process of its own does so that nothing shared outlives the lease,
//! whatever has become of the monitor.
//!
//! [`Guard`] takes each confirmed renewal. At the deadline of the last one it has systemd stop
//! everything shared, and kills what is left after [`STOP_BUDGET`]. A guard that was itself held up
//! beyond the deadline kills at once, because other nodes do not wait longer.

use super::Guarded;
use crate::model::cluster::timing::STOP_BUDGET;
use std::time::Duration;

/// The longest time between two signs of life to the service manager, which kills a guard that
/// gives none.
pub const LONGEST_WATCHDOG: Duration = Duration::from_secs(2);

/// A guard that wakes this much after the deadline has no time left for stopping.
const LATE: Duration = Duration::from_millis(300);

/// What the guard is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardAction {
    /// Wait until a renewal arrives, or until [`Guard::next_deadline`].
    Wait,
    /// Have the service manager stop everything shared.
    Stop,
    /// Kill everything shared, and end.
    Kill,
}

/// Why a renewal was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalRefusal {
    /// Its deadline has passed.
    Late,
    /// It is older than what the guard has.
    Older,
    /// Everything shared is being stopped, which is not taken back.
    Stopping,
}

/// The lease as the guard knows it. All times are of the node's own boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    guarded: Guarded,
    stopping: bool,
}

impl Guard {
    /// A guard begins with a lease in force.
    ///
    /// # Errors
    /// Returns an error when the deadline has passed.
    pub fn new(now: Duration, guarded: Guarded) -> Result<Self, RenewalRefusal> {
        if now >= guarded.deadline {
            return Err(RenewalRefusal::Late);
        }
        Ok(Self { guarded, stopping: false })
    }

    /// Takes a renewal of the session, or the first one of a session that follows.
    ///
    /// # Errors
    /// Returns the reason for which it changes nothing.
    pub fn renewed(&mut self, now: Duration, renewal: Guarded) -> Result<(), RenewalRefusal> {
        if self.stopping || now >= self.guarded.deadline {
            return Err(RenewalRefusal::Stopping);
        }
        if now >= renewal.deadline {
            return Err(RenewalRefusal::Late);
        }
        if renewal.session == self.guarded.session && renewal.n < self.guarded.n {
            return Err(RenewalRefusal::Older);
        }
        self.guarded = renewal;
        Ok(())
    }

    /// What a monitor that has been restarted continues from.
    #[must_use]
    pub fn guarded(&self) -> Guarded {
        self.guarded
    }

    /// When [`Guard::woke`] has something to do, if no renewal arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        let budget = if self.stopping { STOP_BUDGET } else { Duration::ZERO };
        self.guarded.deadline.saturating_add(budget)
    }

    /// Returns what is to be done at this time.
    pub fn woke(&mut self, now: Duration) -> GuardAction {
        if now < self.next_deadline() {
            return GuardAction::Wait;
        }
        let was_stopping = std::mem::replace(&mut self.stopping, true);
        if was_stopping || now > self.guarded.deadline.saturating_add(LATE) {
            return GuardAction::Kill;
        }
        GuardAction::Stop
    }

    /// The time within which the service manager is to hear from the guard again. It ends at the
    /// deadline, so that a guard that hangs is killed by then, and with it everything shared.
    #[must_use]
    pub fn watchdog(&self, now: Duration) -> Duration {
        self.guarded.deadline.saturating_sub(now).min(LONGEST_WATCHDOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::SessionId;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn renewal(session: u64, n: u64, deadline: u64) -> Guarded {
        Guarded { session: SessionId { boot: 1, number: session }, n, deadline: at(deadline) }
    }

    fn guard() -> Guard {
        Guard::new(at(1_000), renewal(1, 5, 6_000)).unwrap()
    }

    #[test]
    fn a_guard_begins_only_with_a_lease_in_force() {
        assert_eq!(Guard::new(at(6_000), renewal(1, 5, 6_000)), Err(RenewalRefusal::Late));
    }

    #[test]
    fn everything_shared_is_stopped_at_the_deadline_and_killed_after_the_budget() {
        let mut guard = guard();
        assert_eq!(guard.woke(at(5_999)), GuardAction::Wait);
        assert_eq!(guard.next_deadline(), at(6_000));
        assert_eq!(guard.woke(at(6_000)), GuardAction::Stop);
        assert_eq!(guard.next_deadline(), at(7_200));
        assert_eq!(guard.woke(at(7_199)), GuardAction::Wait);
        assert_eq!(guard.woke(at(7_200)), GuardAction::Kill);
    }

    #[test]
    fn a_guard_that_was_held_up_kills_at_once() {
        assert_eq!(guard().woke(at(6_300)), GuardAction::Stop);
        assert_eq!(guard().woke(at(6_301)), GuardAction::Kill);
    }

    #[test]
    fn a_renewal_moves_the_deadline_and_a_late_or_old_one_changes_nothing() {
        let mut guard = guard();
        assert_eq!(guard.renewed(at(3_000), renewal(1, 6, 8_000)), Ok(()));
        assert_eq!(guard.renewed(at(3_100), renewal(1, 5, 9_000)), Err(RenewalRefusal::Older));
        assert_eq!(guard.renewed(at(3_200), renewal(1, 7, 3_200)), Err(RenewalRefusal::Late));
        assert_eq!(guard.guarded(), renewal(1, 6, 8_000));
        assert_eq!(guard.renewed(at(4_000), renewal(2, 1, 9_000)), Ok(()));
        assert_eq!(guard.next_deadline(), at(9_000));
    }

    #[test]
    fn what_has_begun_to_stop_is_not_taken_back() {
        let mut guard = guard();
        assert_eq!(guard.renewed(at(6_000), renewal(1, 6, 12_000)), Err(RenewalRefusal::Stopping));
        assert_eq!(guard.woke(at(6_000)), GuardAction::Stop);
        assert_eq!(guard.renewed(at(6_100), renewal(2, 1, 12_000)), Err(RenewalRefusal::Stopping));
        assert_eq!(guard.woke(at(7_200)), GuardAction::Kill);
    }

    #[test]
    fn the_watchdog_ends_a_guard_that_hangs_by_the_deadline() {
        assert_eq!(guard().watchdog(at(1_000)), at(2_000));
        assert_eq!(guard().watchdog(at(4_500)), at(1_500));
        assert_eq!(guard().watchdog(at(6_500)), at(0));
    }
}
