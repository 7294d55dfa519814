//! What people have ordered for all nodes of a cluster, as this node knows it.
//!
//! While the store does not answer, what was known last holds. It is also in the records of this node,
//! so that it holds over a restart without the store.

use crate::model::cluster::orders::SharedOrders;
use crate::model::device_name::DeviceName;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The orders that were known last; `None` before the first ones.
#[derive(Debug, Default)]
pub struct KnownOrders(Option<Arc<SharedOrders>>);

/// What may hold for something else than before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrdersChange {
    pub choices: BTreeSet<DeviceName>,
    pub silences: BTreeSet<Option<DeviceName>>,
}

impl KnownOrders {
    /// Takes what is ordered now. Of what this node itself has recorded earlier, the caller passes the
    /// names: the first orders replace it.
    pub fn take(
        &mut self,
        orders: Arc<SharedOrders>,
        recorded: impl FnOnce() -> OrdersChange,
    ) -> OrdersChange {
        let Some(before) = self.0.replace(Arc::clone(&orders)) else {
            let mut change = recorded();
            change.choices.extend(orders.choices.keys().cloned());
            change.silences.extend(orders.silences.keys().cloned());
            return change;
        };
        let choices = before.choices.keys().chain(orders.choices.keys());
        let silences = before.silences.keys().chain(orders.silences.keys());
        OrdersChange {
            choices: choices
                .filter(|name| before.choices.get(*name) != orders.choices.get(*name))
                .cloned()
                .collect(),
            silences: silences
                .filter(|of| before.silences.get(*of) != orders.silences.get(*of))
                .cloned()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::orders::{OrderStamp, SharedChoice, TimedOrder};

    fn name(name: &str) -> DeviceName {
        DeviceName::new(name).unwrap()
    }

    fn order(stamp: u64) -> TimedOrder {
        TimedOrder { stamp: OrderStamp { stamp }, given: 0, lasts: Some(60) }
    }

    fn disabled(names: &[(&str, u64)]) -> Arc<SharedOrders> {
        let choice =
            |stamp| SharedChoice { enabled: false, enabled_before: false, time: order(stamp) };
        let choices = names.iter().map(|(of, stamp)| (name(of), choice(*stamp)));
        Arc::new(SharedOrders { choices: choices.collect(), ..SharedOrders::default() })
    }

    fn of(names: &[&str]) -> OrdersChange {
        let choices = names.iter().map(|of| name(of)).collect();
        OrdersChange { choices, silences: BTreeSet::new() }
    }

    #[test]
    fn the_first_orders_replace_what_was_recorded_and_later_ones_what_differs() {
        let mut known = KnownOrders::default();
        let first = known.take(disabled(&[("lamp", 1)]), || of(&["pump"]));
        assert_eq!(first, of(&["lamp", "pump"]));
        let recorded = || panic!("what is recorded follows from the orders by now");
        assert_eq!(known.take(disabled(&[("lamp", 1)]), recorded), OrdersChange::default());
        // Given again, given anew and withdrawn.
        let change = known.take(disabled(&[("lamp", 2), ("plug", 3)]), recorded);
        assert_eq!(change, of(&["lamp", "plug"]));
        assert_eq!(known.take(disabled(&[("plug", 3)]), recorded), of(&["lamp"]));
    }
}
