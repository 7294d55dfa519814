//! Former identities: what concerns them goes to [`Takedown`](super::takedown::Takedown), and what
//! that orders becomes actions.

use super::takedown::{Known, Order};
use crate::model::action::Action;
use crate::model::identity::{Identity, IdentityRecord};
use crate::model::snapshot::DeviceRecord;
use crate::model::spec::MonitorSpec;
use crate::monitor::{Monitor, raise};

impl Monitor {
    /// The store has told under which identity it was used.
    pub(super) fn meet_identity(
        &mut self,
        record: Option<IdentityRecord>,
        devices: &[DeviceRecord],
        out: &mut Vec<Action>,
    ) {
        let known = Known {
            devices: devices.iter().map(|device| device.name.clone()).collect(),
            prefixes: devices.iter().filter_map(|device| device.announced.clone()).collect(),
        };
        let orders = self.takedown.store_opened(record, known);
        self.take_down(orders, out);
    }

    /// A reload may have changed the broker. Called before the devices are those of the reload.
    pub(super) fn identity_reconfigured(&mut self, spec: &MonitorSpec, out: &mut Vec<Action>) {
        let known = Known {
            devices: self.devices.iter().map(|device| device.spec.name.clone()).collect(),
            prefixes: self.discovery_prefix().map(str::to_owned).into_iter().collect(),
        };
        let identity = Identity::of(spec);
        let orders = self.takedown.reconfigured(identity, spec.origin.main_defaults, known);
        self.take_down(orders, out);
    }

    pub(super) fn take_down(&mut self, orders: Vec<Order>, out: &mut Vec<Action>) {
        out.extend(orders.into_iter().map(|order| match order {
            Order::Save(record) => Action::SaveIdentity(record),
            Order::Tell(kind, message) => raise(kind, message),
        }));
    }
}
