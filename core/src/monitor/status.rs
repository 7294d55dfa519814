//! When the retained `status/NAME` is published: at each change of what it says.

use crate::model::action::Action;
use crate::model::device_id::DeviceId;
use crate::model::message::QoS;
use crate::model::status::DeviceStatus;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use bytes::Bytes;

impl Monitor {
    pub(super) fn status_publication(&self, id: DeviceId) -> Action {
        let payload = DeviceStatus::published(&self.view_of(id)).to_json();
        self.device_publication("status", id, payload, true)
    }

    pub(super) fn publish_all_statuses(&self, turn: &mut Turn<'_>) {
        for id in self.devices.ids() {
            turn.out.push(self.status_publication(id));
            self.announce(turn, id);
        }
    }

    /// Clears a retained topic below the base (MQTT 5, 3.3.1.3).
    pub(super) fn clearing(&self, below: &str) -> Action {
        self.own_publication(below, Bytes::new(), QoS::AtLeastOnce, true, None)
    }
}
