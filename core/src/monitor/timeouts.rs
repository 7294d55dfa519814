//! The `watchTimeOut` of devices whose rhythm is learned.

use super::Monitor;
use crate::model::device_id::DeviceId;
use crate::monitor::turn::Turn;
use std::time::Duration;

impl Monitor {
    /// Applies the learned timeouts of the devices with `watchTimeOut = "auto"`.
    pub(super) fn adopt_timeouts(&mut self, watched: Duration) -> Vec<DeviceId> {
        let mut adopted = self.devices.ids().collect::<Vec<_>>();
        adopted.retain(|&id| self.devices[id].silence.adopt_timeout(watched));
        adopted
    }

    /// Does so at intervals while the monitor runs, and publishes the changes.
    pub(super) fn refresh_timeouts(&mut self, turn: &mut Turn<'_>) {
        let adopted = self.adopt_timeouts(turn.watched);
        if adopted.is_empty() {
            return;
        }
        // The table would check at the old time; a device under suspicion is added to it again.
        self.disarm_all();
        self.arm_all();
        for id in adopted {
            self.publish_status(turn, id);
        }
    }
}
