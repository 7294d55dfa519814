//! The `watchTimeOut` of devices whose rhythm is learned.

use super::Monitor;
use crate::model::device_id::DeviceId;
use crate::monitor::turn::Turn;
use std::time::Duration;

impl Monitor {
    /// Takes what was learned as the timeouts of those with `watchTimeOut = "auto"`.
    pub(super) fn adopt_timeouts(&mut self, watched: Duration) -> Vec<DeviceId> {
        let mut adopted = self.devices.ids().collect::<Vec<_>>();
        adopted.retain(|&id| self.devices[id].silence.adopt_timeout(watched));
        adopted
    }

    /// Does so from time to time while the monitor runs, and publishes what has changed.
    pub(super) fn refresh_timeouts(&mut self, turn: &mut Turn<'_>) {
        let adopted = self.adopt_timeouts(turn.watched);
        if adopted.is_empty() {
            return;
        }
        // The table would look at the old time; one that is under suspicion is put into it again.
        self.disarm_all();
        self.arm_all();
        for id in adopted {
            turn.out.push(self.status_publication(id));
        }
    }
}
