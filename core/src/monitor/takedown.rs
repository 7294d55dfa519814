//! What is to become of what a monitor left under names that it no longer has.
//!
//! A closed machine: what happens goes in by its methods, and what is to be done comes out as
//! [`Order`]s. An identity that is no longer in use stays in the store's record until all that it
//! left has been taken down, so that a crash at any point only has it done again.
//!
//! Deliberately absent: what a store of another machine says is left, which is that machine's.

use crate::model::alert::AlertKind;
use crate::model::device_name::DeviceName;
use crate::model::identity::{Former, Identity, IdentityRecord};
use std::collections::BTreeSet;

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Keep this on disk.
    Save(IdentityRecord),
    /// Tell a person.
    Tell(AlertKind, String),
}

/// The former identities of one monitor.
#[derive(Debug)]
pub struct Takedown {
    own: Identity,
    main_defaults: bool,
    /// As it is on disk, or on its way there; `None` before the store has been read.
    record: Option<IdentityRecord>,
    /// The store came from another machine.
    is_copied: bool,
}

/// What the store knew of the devices when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub devices: Vec<DeviceName>,
    /// Prefixes below which they were described for Home Assistant.
    pub prefixes: BTreeSet<String>,
}

impl Takedown {
    #[must_use]
    pub fn new(own: Identity, main_defaults: bool) -> Self {
        Self { own, main_defaults, record: None, is_copied: false }
    }

    /// Whether the store came from another machine, which goes on under the same names.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// The store has been read: `record` is what it kept of identities, if it kept any.
    pub fn store_opened(&mut self, record: Option<IdentityRecord>, known: Known) -> Vec<Order> {
        let before = record.clone();
        let mut record = record.unwrap_or_default();
        record.main_defaults = self.main_defaults;
        let mut orders = Vec::new();
        if record.current.as_ref().is_some_and(|last| last.is_of_another_machine(&self.own)) {
            self.is_copied = true;
            record.former.clear();
            orders.push(Order::Tell(
                AlertKind::LeftBehind,
                "the store was made on another machine, which may still be in use: nothing that \
                 was published from there is taken back. If both are to run, give one of them \
                 another clientid and baseTopic"
                    .to_owned(),
            ));
        } else {
            retire(&mut record, &self.own, known);
        }
        record.current = Some(self.own.clone());
        if before.as_ref() != Some(&record) {
            orders.push(Order::Save(record.clone()));
        }
        self.record = Some(record);
        orders
    }

    /// A reload has changed what of the identity a reload can change.
    pub fn reconfigured(&mut self, own: Identity, main_defaults: bool, known: Known) -> Vec<Order> {
        self.own = own;
        self.main_defaults = main_defaults;
        let Some(mut record) = self.record.take() else { return Vec::new() };
        let before = record.clone();
        record.main_defaults = main_defaults;
        retire(&mut record, &self.own, known);
        record.current = Some(self.own.clone());
        let orders = if record == before { Vec::new() } else { vec![Order::Save(record.clone())] };
        self.record = Some(record);
        orders
    }

    /// A new store has taken the place of the one that was read.
    #[must_use]
    pub fn save_again(&self) -> Vec<Order> {
        self.record.clone().map(Order::Save).into_iter().collect()
    }
}

/// Has the identity of the last use join the former ones, if it is not this one.
fn retire(record: &mut IdentityRecord, own: &Identity, known: Known) {
    if let Some(last) = record.current.take().filter(|last| !own.takes_over_from(last)) {
        let mut prefixes = known.prefixes;
        prefixes.extend(last.discovery_prefix.clone());
        // One that was used twice left what it left at either time.
        let again = record.former.iter().position(|former| last.takes_over_from(&former.identity));
        let mut devices: BTreeSet<DeviceName> = known.devices.into_iter().collect();
        if let Some(at) = again {
            let former = record.former.remove(at);
            devices.extend(former.devices);
            prefixes.extend(former.prefixes);
        }
        record.former.push(Former {
            identity: last,
            devices: devices.into_iter().collect(),
            prefixes: prefixes.into_iter().collect(),
        });
    }
    record.former.retain(|former| !own.takes_over_from(&former.identity));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(client_id: &str, base_topic: &str) -> Identity {
        Identity {
            machine: Some("here".to_owned()),
            client_id: client_id.to_owned(),
            base_topic: base_topic.to_owned(),
            discovery_prefix: None,
            server: "tcp://localhost:1883".to_owned(),
        }
    }

    fn known(names: &[&str]) -> Known {
        let devices = names.iter().map(|name| DeviceName::new(*name).unwrap()).collect();
        Known { devices, prefixes: BTreeSet::new() }
    }

    fn used_by(identity: Identity) -> IdentityRecord {
        IdentityRecord { current: Some(identity), ..IdentityRecord::default() }
    }

    fn saved(orders: &[Order]) -> &IdentityRecord {
        let saved = orders.iter().find_map(|order| match order {
            Order::Save(record) => Some(record),
            _ => None,
        });
        saved.unwrap_or_else(|| panic!("nothing was saved: {orders:?}"))
    }

    #[test]
    fn the_first_use_is_remembered_and_the_same_one_again_is_no_news() {
        let own = identity("iotmonitor", "home/monitoring");
        for record in [None, Some(IdentityRecord::default())] {
            let mut takedown = Takedown::new(own.clone(), false);
            let orders = takedown.store_opened(record, known(&["lamp"]));
            assert_eq!(orders, [Order::Save(used_by(own.clone()))]);
        }
        let mut takedown = Takedown::new(own.clone(), false);
        assert_eq!(takedown.store_opened(Some(used_by(own)), known(&["lamp"])), []);
    }

    #[test]
    fn names_that_were_given_up_are_remembered_until_they_are_taken_again() {
        let (first, second) = (identity("a", "base"), identity("b", "base"));
        let mut takedown = Takedown::new(second.clone(), false);
        let orders = takedown.store_opened(Some(used_by(first.clone())), known(&["lamp"]));
        let record = saved(&orders).clone();
        assert_eq!(record.current.as_ref(), Some(&second));
        assert_eq!(record.former.len(), 1);
        assert_eq!(record.former[0].identity, first);
        assert_eq!(record.former[0].devices, known(&["lamp"]).devices);

        // A crash changes nothing, and neither does the way back and forth.
        let mut again = Takedown::new(second.clone(), false);
        let kept = again.store_opened(Some(record.clone()), known(&["lamp"]));
        assert!(!kept.iter().any(|order| matches!(order, Order::Save(_))), "{kept:?}");
        let mut back = Takedown::new(first.clone(), false);
        let record = saved(&back.store_opened(Some(record), known(&["door"]))).clone();
        assert_eq!(record.former.len(), 1);
        assert_eq!(record.former[0].identity, second);
        let mut forth = Takedown::new(second, false);
        let record = saved(&forth.store_opened(Some(record), known(&["lamp"]))).clone();
        assert_eq!(record.former.len(), 1);
        assert_eq!(record.former[0].identity, first);
    }

    #[test]
    fn a_store_of_another_machine_has_nothing_taken_down_and_says_so_once() {
        let there = Identity { machine: Some("there".to_owned()), ..identity("a", "base") };
        let mut record = used_by(there);
        let old = identity("z", "base");
        record.former.push(Former { identity: old, devices: Vec::new(), prefixes: Vec::new() });
        let own = identity("b", "other");
        let mut takedown = Takedown::new(own.clone(), false);
        let orders = takedown.store_opened(Some(record), known(&["lamp"]));
        assert!(matches!(orders[0], Order::Tell(AlertKind::LeftBehind, _)), "{orders:?}");
        assert_eq!(saved(&orders), &used_by(own.clone()));
        assert!(takedown.is_copied());
        let mut next = Takedown::new(own.clone(), false);
        assert_eq!(next.store_opened(Some(used_by(own)), known(&["lamp"])), []);
    }

    #[test]
    fn a_machine_without_a_number_is_taken_for_the_same() {
        let own = Identity { machine: None, ..identity("a", "base") };
        let mut takedown = Takedown::new(own.clone(), false);
        let orders = takedown.store_opened(Some(used_by(identity("a", "base"))), Known::default());
        assert_eq!(orders, [Order::Save(used_by(own))]);
    }

    #[test]
    fn whether_an_instance_goes_by_the_main_monitors_names_is_kept() {
        let own = identity("iotmonitor", "home/monitoring");
        let mut takedown = Takedown::new(own, true);
        assert!(saved(&takedown.store_opened(None, Known::default())).main_defaults);
    }
}
