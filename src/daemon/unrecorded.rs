//! Tracks deliveries for which the store had no room. Nothing from the first of them on is
//! acknowledged, so that the broker repeats them on the next connection. That connection waits
//! until the store has accepted something; otherwise the broker would repeat them into a full store
//! again and again.

use iotmonitor_core::model::message::{Delivery, Redelivery};
use std::ops::RangeInclusive;

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Unrecorded {
    first: Option<Delivery>,
    /// From the first to the last delivery that was ever not recorded.
    lost: Option<RangeInclusive<Delivery>>,
    /// The connection is being replaced.
    is_reconnecting: bool,
}

impl Unrecorded {
    /// Notes the first delivery for which the store had no room.
    pub fn begin(&mut self, delivery: Delivery) {
        self.first.get_or_insert(delivery);
        self.lose(delivery);
    }

    /// Whether a delivery follows one that could not be recorded, and so cannot be recorded either.
    #[must_use]
    pub fn passes_over(&mut self, delivery: Delivery) -> bool {
        if self.first.is_some() {
            self.lose(delivery);
        }
        self.first.is_some()
    }

    /// What the store is to be given although the connection has reported it before.
    #[must_use]
    pub fn judge(&self, redelivery: Redelivery) -> Redelivery {
        match redelivery {
            Redelivery::Reported(before) if self.was_lost(before) => Redelivery::Unknown,
            Redelivery::Reported(_) | Redelivery::Unknown | Redelivery::No => redelivery,
        }
    }

    fn was_lost(&self, delivery: Delivery) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.contains(&delivery))
    }

    fn lose(&mut self, delivery: Delivery) {
        let first = self.lost.as_ref().map_or(delivery, |lost| *lost.start());
        self.lost = Some(first..=delivery);
    }

    /// Whether everything up to this delivery is recorded.
    #[must_use]
    pub fn may_acknowledge(&self, through: Delivery) -> bool {
        self.first.is_none_or(|first| through < first)
    }

    /// The store has accepted something. Returns whether to reconnect now.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        self.first.is_some() && !std::mem::replace(&mut self.is_reconnecting, true)
    }

    /// The connection is established again: the broker repeats everything that was not
    /// acknowledged.
    pub fn connected(&mut self) {
        (self.first, self.is_reconnecting) = (None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_waited_for_before_the_one_new_connection() {
        let mut unrecorded = Unrecorded::default();
        assert!(!unrecorded.passes_over(Delivery(6)) && !unrecorded.has_room());
        unrecorded.begin(Delivery(7));
        assert!(unrecorded.passes_over(Delivery(8)));
        assert!(unrecorded.may_acknowledge(Delivery(6)));
        assert!(!unrecorded.may_acknowledge(Delivery(7)));
        assert!(unrecorded.has_room());
        assert!(!unrecorded.has_room(), "it is being made already");
        unrecorded.connected();
        assert!(!unrecorded.passes_over(Delivery(9)));
        assert!(unrecorded.may_acknowledge(Delivery(9)));
        unrecorded.begin(Delivery(10));
        assert!(unrecorded.has_room());
    }

    #[test]
    fn what_was_not_recorded_is_taken_in_when_it_comes_again() {
        let mut unrecorded = Unrecorded::default();
        let reported = |number| Redelivery::Reported(Delivery(number));
        unrecorded.begin(Delivery(7));
        assert!(unrecorded.passes_over(Delivery(8)));
        unrecorded.connected();
        assert_eq!(unrecorded.judge(reported(6)), reported(6), "the store has it");
        for number in [7, 8] {
            assert_eq!(unrecorded.judge(reported(number)), Redelivery::Unknown);
        }
        assert!(!unrecorded.passes_over(Delivery(9)));
        assert_eq!(unrecorded.judge(reported(9)), reported(9));
        assert_eq!(unrecorded.judge(Redelivery::No), Redelivery::No);
        // The connection broke again before they had all come.
        unrecorded.connected();
        assert_eq!(unrecorded.judge(reported(8)), Redelivery::Unknown);
    }
}
