//! Tracks deliveries for which the store had no room. Nothing from the first of them on is
//! acknowledged, so that the broker repeats them on the next connection. That connection waits
//! until the store has accepted something; otherwise the broker would repeat them into a full store
//! again and again.

use iotmonitor_core::model::message::Delivery;

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Unrecorded {
    first: Option<Delivery>,
    /// The connection is being replaced.
    is_reconnecting: bool,
}

impl Unrecorded {
    /// Notes the first delivery for which the store had no room.
    pub fn begin(&mut self, delivery: Delivery) {
        self.first.get_or_insert(delivery);
    }

    /// Whether a delivery follows one that could not be recorded, and so cannot be recorded either.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.first.is_some()
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
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_waited_for_before_the_one_new_connection() {
        let mut unrecorded = Unrecorded::default();
        assert!(!unrecorded.is_behind() && !unrecorded.has_room());
        for number in [7, 8] {
            unrecorded.begin(Delivery(number));
        }
        assert!(unrecorded.may_acknowledge(Delivery(6)));
        assert!(!unrecorded.may_acknowledge(Delivery(7)));
        assert!(unrecorded.is_behind() && unrecorded.has_room());
        assert!(!unrecorded.has_room(), "it is being made already");
        unrecorded.connected();
        assert!(!unrecorded.is_behind() && unrecorded.may_acknowledge(Delivery(9)));
        unrecorded.begin(Delivery(10));
        assert!(unrecorded.has_room());
    }
}
