//! The units of former clientids, which are stopped before any agent starts.

use super::{Finding, Order, Takedown, UNITS_RETRY};
use crate::model::identity::Former;
use crate::model::unit::UnitsOutcome;
use crate::model::unit_name::UnitName;
use std::time::Duration;

impl Takedown {
    pub fn manager_connected(&mut self) -> Vec<Order> {
        self.manager_is_up = true;
        // Requests from before a loss are never answered.
        self.stopping = None;
        let mut orders = Vec::new();
        self.stop_next_units(&mut orders);
        orders
    }

    pub fn manager_lost(&mut self) {
        self.manager_is_up = false;
        self.stopping = None;
    }

    /// The answer to [`Order::StopUnits`].
    pub fn units_stopped(
        &mut self,
        now: Duration,
        client_id: &str,
        outcome: UnitsOutcome,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.stopping.as_deref() != Some(client_id) {
            return orders;
        }
        self.stopping = None;
        match outcome {
            UnitsOutcome::Stopped { count } => {
                if count > 0 {
                    let client_id = client_id.to_owned();
                    orders.push(Order::Report(Finding::UnitsStopped { client_id, count }));
                }
                self.reported_units = false;
                self.change_formers(&mut orders, |former| {
                    former.units_done |= former.identity.client_id == client_id;
                });
            }
            UnitsOutcome::InUse => {
                let used = client_id.to_owned();
                orders.push(Order::Report(Finding::ClientIdInUse { client_id: used }));
                self.change_formers(&mut orders, |former| {
                    let is_its = former.identity.client_id == client_id;
                    former.units_done |= is_its;
                    former.broker_done |= is_its;
                });
            }
            UnitsOutcome::Failed { reason } => {
                if !std::mem::replace(&mut self.reported_units, true) {
                    let client_id = client_id.to_owned();
                    orders.push(Order::Report(Finding::UnitsNotStopped { client_id, reason }));
                }
                let due = now + UNITS_RETRY;
                self.retry_units_at = Some(due);
                orders.push(Order::WakeAt(due));
                return orders;
            }
        }
        self.stop_next_units(&mut orders);
        self.go_on(&mut orders);
        orders
    }

    pub(super) fn next_units(&self) -> Option<&Former> {
        self.record.as_ref()?.former.iter().find(|former| !former.units_done)
    }

    pub(super) fn stop_next_units(&mut self, orders: &mut Vec<Order>) {
        if !self.manager_is_up || self.stopping.is_some() {
            return;
        }
        self.retry_units_at = None;
        let Some(former) = self.next_units() else { return };
        let client_id = former.identity.client_id.clone();
        let units = former.devices.iter();
        let units =
            units.filter_map(|name| UnitName::for_agent(&client_id, name.as_str()).ok()).collect();
        orders.push(Order::StopUnits { client_id: client_id.clone(), units });
        self.stopping = Some(client_id);
    }
}
