//! Deliveries that the store had no room for: nothing from the first of them on is acknowledged, so
//! that the broker delivers them again on the next connection. That one waits until the store has
//! taken something in, since the broker would only deliver into a full store otherwise, again and
//! again.

use iotmonitor_core::model::message::Delivery;

/// Of one connection.
#[derive(Debug, Default)]
pub struct Unrecorded {
    first: Option<Delivery>,
    /// The connection is being made anew.
    is_reconnecting: bool,
}

impl Unrecorded {
    /// The store had no room for this delivery, the first one to be so.
    pub fn begin(&mut self, delivery: Delivery) {
        self.first.get_or_insert(delivery);
    }

    /// Whether a delivery comes behind one that could not be recorded, and so cannot be either.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.first.is_some()
    }

    /// Whether everything up to this delivery is recorded.
    #[must_use]
    pub fn may_acknowledge(&self, through: Delivery) -> bool {
        self.first.is_none_or(|first| through < first)
    }

    /// The store has taken something in. Returns whether the connection is to be made anew now.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        self.first.is_some() && !std::mem::replace(&mut self.is_reconnecting, true)
    }

    /// The connection stands anew: what was not acknowledged comes again.
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
