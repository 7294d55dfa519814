//! Publishes changes of a device at once: its status, and a notice to connected clients. Whatever is
//! published here is recorded, too.

use super::Monitor;
use crate::model::action::Action;
use crate::model::device_id::DeviceId;
use crate::model::notice::Notice;
use crate::model::status::DeviceStatus;
use crate::monitor::turn::Turn;

impl Monitor {
    /// Publishes the retained `status/NAME` in its present form. Of what another node has, that node
    /// publishes it.
    pub(super) fn publish_status(&self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].monitoring.is_elsewhere() {
            return;
        }
        let payload = self.status_payload(id);
        turn.out.push(self.device_publication("status", id, payload, true));
    }

    /// The present form of `status/NAME`.
    pub(super) fn status_payload(&self, id: DeviceId) -> String {
        let uptime = self.uptimes.of(&self.devices[id].spec.name);
        DeviceStatus::published(&self.view_of(id), uptime).to_json()
    }

    /// Reports a device's new state to all clients.
    pub(super) fn report_state(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.note_standing(turn.now.wall, id);
        self.publish_status(turn, id);
        turn.out.push(Action::Notify(Notice::StateChanged(Box::new(self.view_of(id)))));
    }

    /// Reports a new state of an agent's unit to all clients.
    pub(super) fn report_unit(&self, turn: &mut Turn<'_>, id: DeviceId) {
        self.publish_status(turn, id);
        turn.out.push(Action::Notify(Notice::UnitChanged(Box::new(self.view_of(id)))));
    }

    pub(super) fn report_expired(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &self.devices[id];
        let (device, last_contact) = (device.spec.name.to_string(), device.silence.last_contact());
        turn.out.push(Action::Notify(Notice::Expired { device, last_contact }));
        self.report_state(turn, id);
    }

    pub(super) fn report_recovered(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = self.devices[id].spec.name.to_string();
        turn.out.push(Action::Notify(Notice::Recovered { device, contact: turn.now.wall }));
        self.report_state(turn, id);
    }
}
