//! Orders that people have given on any node of the cluster: they become what they would be if they had
//! been given here.

use super::Monitor;
use super::turn::Turn;
use crate::machines::shared_orders::OrdersChange;
use crate::model::cluster::orders::{SharedChoice, SharedOrders, TimedOrder};
use crate::model::device_name::DeviceName;
use std::sync::Arc;

impl Monitor {
    pub(super) fn orders_read(&mut self, turn: &mut Turn<'_>, orders: &Arc<SharedOrders>) {
        let Self { known_orders, devices, mutes, .. } = self;
        let recorded = || OrdersChange {
            choices: devices
                .iter()
                .filter(|device| device.monitoring.choice().is_some())
                .map(|device| device.spec.name.clone())
                .collect(),
            silences: mutes.subjects().cloned().collect(),
        };
        let OrdersChange { choices, silences } = known_orders.take(Arc::clone(orders), recorded);
        for name in choices {
            self.choice_read(turn, &name, orders.choices.get(&name));
        }
        for of in silences {
            self.silence_read(turn, of, orders);
        }
    }

    fn choice_read(
        &mut self,
        turn: &mut Turn<'_>,
        name: &DeviceName,
        choice: Option<&SharedChoice>,
    ) {
        let Some(id) = self.id_named(name) else { return };
        let now = self.devices[id].monitoring.choice();
        let wall = turn.now.wall;
        match choice {
            Some(SharedChoice { enabled: false, time, enabled_before }) => {
                match time.left(wall) {
                    None if now != Some(false) || self.pauses.contains(name) => {
                        self.set_enabled(turn, name, false);
                    }
                    None => {}
                    Some(left) if left.is_zero() => {
                        self.choice_ended(turn, name, enabled_before.then_some(true));
                    }
                    // It may be this node that has taken the order.
                    Some(left) if self.pauses.ends_at_about(name, turn.now.boot, left) => {}
                    Some(left) => self.pause(turn, name, left),
                }
            }
            Some(SharedChoice { enabled: true, .. }) if now == Some(true) => {}
            Some(SharedChoice { enabled: true, .. }) => self.set_enabled(turn, name, true),
            None => self.choice_ended(turn, name, None),
        }
    }

    fn choice_ended(&mut self, turn: &mut Turn<'_>, name: &DeviceName, choice: Option<bool>) {
        let Some(id) = self.id_named(name) else { return };
        if self.devices[id].monitoring.choice() == choice {
            return;
        }
        self.pauses.end(name);
        let message = if self.devices[id].monitoring.by_section() || choice == Some(true) {
            format!("`{name}` is monitored again")
        } else {
            format!("`{name}` is disabled by its section again")
        };
        self.choose(turn, id, choice, message);
    }

    fn silence_read(&mut self, turn: &mut Turn<'_>, of: Option<DeviceName>, orders: &SharedOrders) {
        let wall = turn.now.wall;
        let order = orders.silences.get(&of).filter(|order| !order.is_over(wall));
        let Some(left) = order.and_then(|order: &TimedOrder| order.left(wall)) else {
            return self.unsilence(turn, of);
        };
        if !self.mutes.ends_at_about(&of, turn.now.boot, left) {
            self.silence(turn, of, left);
        }
    }
}
