//! Delays between tries, which double from the first to the longest.
//!
//! All parts of the program that retry take their delays from here, with bounds of their own.

use std::time::Duration;

/// The delay before the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// The number of consecutive failed tries.
    failures: u32,
}

impl Backoff {
    /// Delays of `first`, twice `first`, four times `first`, up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The delay before the next try, after a failed one.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.delay_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// The delay after this many earlier failures.
    #[must_use]
    pub fn delay_after(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// Resets the delay to the first one, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_afresh() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let delays: Vec<u128> = (0..8).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_millis(200));
    }

    #[test]
    fn no_count_of_failures_overflows() {
        let mut backoff = Backoff::new(Duration::MAX / 2, Duration::MAX);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next_delay(), Duration::MAX);
        assert_eq!(backoff.next_delay(), Duration::MAX);
        let short = Backoff::new(Duration::from_nanos(1), Duration::from_secs(3_600));
        assert_eq!(short.delay_after(31), Duration::from_nanos(1 << 31));
        assert_eq!(short.delay_after(32), Duration::from_nanos(u32::MAX.into()));
    }
}
