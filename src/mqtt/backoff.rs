//! How long to wait before the next attempt to connect: growing, jittered, capped.
//!
//! Deliberately absent: waiting.

use super::trouble::TroubleKind;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first delay and the cap of each kind of trouble.
///
/// Refused credentials heal by a person's hand only, and quick tries look like an attack. After a
/// take-over each attempt throws the other client out, so that two instances with one clientid must
/// not come back in turn: at least 30 s, growing to ten minutes.
const fn bounds(kind: TroubleKind) -> (Duration, Duration) {
    match kind {
        TroubleKind::Passing | TroubleKind::Setup => {
            (Duration::from_millis(500), Duration::from_secs(30))
        }
        TroubleKind::Refused => (Duration::from_secs(10), Duration::from_secs(300)),
        TroubleKind::TakenOver => (Duration::from_secs(30), Duration::from_secs(600)),
    }
}

/// A connection that stood this long was a good one: the delays start afresh.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// One that stood this long was not taken over in a struggle of two.
const PEACE_AFTER: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default)]
pub(super) struct RetryDelays {
    failures: u32,
    refusals: u32,
    take_overs: u32,
}

impl RetryDelays {
    /// A connection stood for `stood`.
    pub(super) fn stood(&mut self, stood: Duration) {
        if stood >= GOOD_AFTER {
            self.failures = 0;
            self.refusals = 0;
        }
        if stood >= PEACE_AFTER {
            self.take_overs = 0;
        }
    }

    /// The next connection will do without what ended the last one.
    pub(super) fn learned(&mut self) {
        self.failures = 0;
    }

    /// The wait after this trouble.
    pub(super) fn next(&mut self, kind: TroubleKind) -> Duration {
        let count = match kind {
            TroubleKind::Passing | TroubleKind::Setup => &mut self.failures,
            // Apart from the others: an outage must not make the first refusal wait for minutes.
            TroubleKind::Refused => &mut self.refusals,
            TroubleKind::TakenOver => &mut self.take_overs,
        };
        let delay = grown(kind, *count);
        *count = count.saturating_add(1);
        match kind {
            // Half to whole: clients of one broker do not come back all at once.
            TroubleKind::Passing | TroubleKind::Setup | TroubleKind::Refused => {
                delay.mul_f64(0.5 + random() / 2.0)
            }
            // Never below the delay itself.
            TroubleKind::TakenOver => delay.mul_f64(1.0 + random() / 4.0),
        }
    }
}

fn grown(kind: TroubleKind, count: u32) -> Duration {
    let (first, cap) = bounds(kind);
    first.saturating_mul(2_u32.saturating_pow(count.min(16))).min(cap)
}

/// From 0 up to 1; the standard library seeds each [`RandomState`] anew, which is random enough
/// for a jitter.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_broker_is_tried_again_within_a_second_and_later_every_half_minute() {
        let mut backoff = RetryDelays::default();
        assert!(backoff.next(TroubleKind::Passing) <= Duration::from_millis(500));
        assert!(backoff.next(TroubleKind::Passing) <= Duration::from_secs(1));
        let late = (0..20).map(|_| backoff.next(TroubleKind::Passing)).last().unwrap();
        assert!(late >= Duration::from_secs(15) && late <= Duration::from_secs(30), "{late:?}");
        backoff.stood(GOOD_AFTER);
        assert!(backoff.next(TroubleKind::Passing) <= Duration::from_millis(500));
    }

    #[test]
    fn a_connection_that_falls_at_once_does_not_reset_the_delay() {
        let mut backoff = RetryDelays::default();
        for _ in 0..10 {
            backoff.next(TroubleKind::Passing);
            backoff.stood(Duration::from_millis(20));
        }
        assert!(backoff.next(TroubleKind::Passing) >= Duration::from_secs(15));
    }

    #[test]
    fn outages_and_refusals_do_not_lengthen_each_others_delays() {
        let mut backoff = RetryDelays::default();
        for _ in 0..10 {
            backoff.next(TroubleKind::Passing);
        }
        assert!(backoff.next(TroubleKind::Refused) <= Duration::from_secs(10));
        for _ in 0..10 {
            backoff.next(TroubleKind::Refused);
        }
        assert!(backoff.next(TroubleKind::Refused) >= Duration::from_secs(150));
        backoff.stood(GOOD_AFTER);
        backoff.next(TroubleKind::Refused);
        assert!(backoff.next(TroubleKind::Passing) <= Duration::from_millis(500));
    }

    #[test]
    fn a_take_over_waits_half_a_minute_at_least_and_ten_minutes_in_the_end() {
        let mut backoff = RetryDelays::default();
        let first = backoff.next(TroubleKind::TakenOver);
        assert!(first >= Duration::from_secs(30) && first < Duration::from_secs(38), "{first:?}");
        backoff.stood(Duration::from_secs(120));
        assert!(backoff.next(TroubleKind::TakenOver) >= Duration::from_secs(60));
        let late = (0..10).map(|_| backoff.next(TroubleKind::TakenOver)).last().unwrap();
        assert!(late >= Duration::from_secs(600), "{late:?}");
        backoff.stood(PEACE_AFTER);
        assert!(backoff.next(TroubleKind::TakenOver) < Duration::from_secs(38));
    }
}
