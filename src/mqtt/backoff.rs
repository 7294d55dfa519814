//! The delay before the next connection attempt, by kind of trouble, with jitter.

use super::trouble::TroubleKind;
use iotmonitor_core::backoff::Backoff;
use std::time::Duration;

/// The first and the longest delay of each kind of trouble.
///
/// Refused credentials are fixed only by a person, and quick tries look like an attack. After a
/// takeover each attempt disconnects the other client, so two instances with one clientid must not
/// alternate quickly: the delay is at least 30 s, growing to ten minutes.
const fn backoff(kind: TroubleKind) -> Backoff {
    let (first, longest) = match kind {
        TroubleKind::Passing | TroubleKind::Setup => {
            (Duration::from_millis(500), Duration::from_secs(30))
        }
        TroubleKind::Refused => (Duration::from_secs(10), Duration::from_secs(300)),
        TroubleKind::TakenOver => (Duration::from_secs(30), Duration::from_secs(600)),
    };
    Backoff::new(first, longest)
}

/// A connection that lasted this long was good: the delays are reset.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// A connection that lasted this long was not taken over by a competing client.
const PEACE_AFTER: Duration = Duration::from_secs(15 * 60);

/// The number of times in a row that new knowledge resets the delays: a broker that closes on
/// whatever it receives must not be tried endlessly.
const MOST_LESSONS: u32 = 20;

/// Separate delays for each kind, so that an outage does not make the first refusal wait for
/// minutes.
#[derive(Debug)]
pub(super) struct RetryDelays {
    passing: Backoff,
    refused: Backoff,
    taken_over: Backoff,
    /// The number of times that something was learned since the last good connection.
    lessons: u32,
}

impl Default for RetryDelays {
    fn default() -> Self {
        Self {
            passing: backoff(TroubleKind::Passing),
            refused: backoff(TroubleKind::Refused),
            taken_over: backoff(TroubleKind::TakenOver),
            lessons: 0,
        }
    }
}

impl RetryDelays {
    /// Notes that a connection lasted for `stood`.
    pub(super) fn stood(&mut self, stood: Duration) {
        if stood >= GOOD_AFTER {
            self.passing.reset();
            self.refused.reset();
            self.lessons = 0;
        }
        if stood >= PEACE_AFTER {
            self.taken_over.reset();
        }
    }

    /// The next connection avoids what ended the last one.
    pub(super) fn learned(&mut self) {
        if self.lessons < MOST_LESSONS {
            self.lessons += 1;
            self.passing.reset();
        }
    }

    /// The delay after this trouble.
    pub(super) fn next(&mut self, kind: TroubleKind) -> Duration {
        match kind {
            // Between half and the whole, so that the clients of one broker do not return all at
            // once.
            TroubleKind::Passing | TroubleKind::Setup => half_to_whole(self.passing.next_delay()),
            TroubleKind::Refused => half_to_whole(self.refused.next_delay()),
            // Never below the delay itself.
            TroubleKind::TakenOver => {
                self.taken_over.next_delay().mul_f64(1.0 + fastrand::f64() / 4.0)
            }
        }
    }
}

fn half_to_whole(delay: Duration) -> Duration {
    delay.mul_f64(0.5 + fastrand::f64() / 2.0)
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
    fn what_is_learned_begins_the_delays_afresh_but_not_for_ever() {
        let mut backoff = RetryDelays::default();
        for _ in 0..MOST_LESSONS {
            assert!(backoff.next(TroubleKind::Passing) <= Duration::from_millis(500));
            backoff.learned();
        }
        for _ in 0..10 {
            backoff.next(TroubleKind::Passing);
            backoff.learned();
        }
        assert!(backoff.next(TroubleKind::Passing) >= Duration::from_secs(15));
        backoff.stood(GOOD_AFTER);
        backoff.next(TroubleKind::Passing);
        backoff.learned();
        assert!(backoff.next(TroubleKind::Passing) <= Duration::from_millis(500));
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
