//! How long a lease lasts, and what must be longer than what, so that an agent is dead on one node
//! before it starts on another.

use std::time::Duration;

/// Between the sending of two renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);

/// A renewal extends the lease to this long after it was sent.
pub const LEASE: Duration = Duration::from_secs(6);

/// Agents may take this long to stop after the lease. Then the guard kills them.
pub const STOP_BUDGET: Duration = Duration::from_millis(1_200);

/// What systemd needs beyond `TimeoutStopUSec=` to kill an agent that does not stop.
const KILL_TIME: Duration = Duration::from_millis(200);

/// What the guard may be late, and clocks that run differently may gain, between the last moment
/// of an agent and its start elsewhere.
const MARGIN: Duration = Duration::from_millis(800);

/// The longest time that other nodes may wait.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What was checked to fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    evict_after: Duration,
}

/// Explains why times do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error(
        "failoverAfter is {:?}, but a node that is cut off needs {needed:?} until its agents have \
        certainly ended ({LEASE:?} of lease, {stopping:?} to stop them, {MARGIN:?} of reserve): \
        set failoverAfter to {needed:?} or more{}",
        failover_after,
        if *stopping > STOP_BUDGET { ", or shorten the stopTimeout of shared agents" } else { "" }
    )]
    TooShort { failover_after: Duration, stopping: Duration, needed: Duration },
    #[error(
        "failoverAfter is {0:?}, but a node that has failed cannot be waited for longer than \
        {LONGEST:?}: shorten failoverAfter"
    )]
    TooLong(Duration),
}

impl Timing {
    /// Takes the configured `failoverAfter` and the longest `stopTimeout` of a shared agent.
    ///
    /// # Errors
    /// Returns an error when another node could start an agent before it has ended here.
    pub fn new(failover_after: Duration, stop_timeout: Duration) -> Result<Self, TimingError> {
        let stopping = STOP_BUDGET.max(stop_timeout.saturating_add(KILL_TIME));
        let needed = LEASE.saturating_add(stopping).saturating_add(MARGIN);
        if failover_after < needed {
            return Err(TimingError::TooShort { failover_after, stopping, needed });
        }
        if failover_after > LONGEST {
            return Err(TimingError::TooLong(failover_after));
        }
        Ok(Self { evict_after: failover_after })
    }

    /// Other nodes end the session after this time without a renewal.
    #[must_use]
    pub fn evict_after(&self) -> Duration {
        self.evict_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(millis: u64, stop_timeout: Duration) -> Result<Timing, TimingError> {
        Timing::new(Duration::from_millis(millis), stop_timeout)
    }

    #[test]
    fn eight_seconds_are_just_enough_for_agents_that_stop_within_one() {
        let timing = after(8_000, SECOND).unwrap();
        assert_eq!(timing.evict_after(), Duration::from_secs(8));
        let error = after(7_999, SECOND).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failoverAfter is 7.999s, but a node that is cut off needs 8s until its agents have \
            certainly ended (6s of lease, 1.2s to stop them, 800ms of reserve): set failoverAfter \
            to 8s or more"
        );
    }

    #[test]
    fn an_agent_that_stops_at_once_needs_as_long_since_the_guard_waits() {
        assert!(after(8_000, Duration::ZERO).is_ok() && after(7_999, Duration::ZERO).is_err());
    }

    #[test]
    fn a_longer_stop_timeout_needs_a_longer_wait_and_the_error_names_both() {
        assert!(after(12_000, 5 * SECOND).is_ok());
        let error = after(11_999, 5 * SECOND).unwrap_err().to_string();
        assert!(error.contains("needs 12s") && error.contains("5.2s to stop them"), "{error}");
        assert!(error.ends_with("or shorten the stopTimeout of shared agents"), "{error}");
    }

    #[test]
    fn times_without_end_are_refused_and_overflow_nothing() {
        assert!(matches!(after(8_000, Duration::MAX), Err(TimingError::TooShort { .. })));
        let error = Timing::new(Duration::MAX, SECOND).unwrap_err();
        assert_eq!(error, TimingError::TooLong(Duration::MAX));
    }

    /// At the ends of what clocks may deviate, the slow clock of the node that is cut off and the
    /// fast one of the observer.
    #[test]
    fn clocks_that_differ_by_two_percent_leave_half_a_second() {
        let last_moment = (LEASE + STOP_BUDGET).mul_f64(1.01);
        let first_elsewhere = after(8_000, SECOND).unwrap().evict_after().mul_f64(0.99);
        assert!(first_elsewhere - last_moment > Duration::from_millis(500));
    }
}
