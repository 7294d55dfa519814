//! What is told of a device at once: its status, and a notice for the programs that look on.

use super::Monitor;
use super::device::DeviceId;
use crate::model::action::Action;
use crate::model::notice::Notice;
use crate::model::time::Now;

impl Monitor {
    /// Tells everybody of a device's new state.
    pub(super) fn tell_state(&self, id: DeviceId, out: &mut Vec<Action>) {
        out.push(self.status_publication(id));
        out.push(notify(Notice::StateChanged(self.view_of(id))));
    }

    /// Tells everybody of a new state of an agent's unit.
    pub(super) fn tell_unit(&self, id: DeviceId, out: &mut Vec<Action>) {
        out.push(self.status_publication(id));
        out.push(notify(Notice::UnitChanged(self.view_of(id))));
    }

    pub(super) fn tell_expired(&self, id: DeviceId, out: &mut Vec<Action>) {
        let device = &self.devices[id as usize];
        let (device, last_contact) = (device.spec.name.to_string(), device.last_contact);
        out.push(notify(Notice::Expired { device, last_contact }));
        self.tell_state(id, out);
    }

    pub(super) fn tell_recovered(&self, now: Now, id: DeviceId, out: &mut Vec<Action>) {
        let device = self.devices[id as usize].spec.name.to_string();
        out.push(notify(Notice::Recovered { device, contact: now.wall }));
        self.tell_state(id, out);
    }
}

pub(super) fn notify(notice: Notice) -> Action {
    Action::Notify(Box::new(notice))
}
