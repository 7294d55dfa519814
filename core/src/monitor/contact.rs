//! Processes a contact of a device, and its consequences.

use crate::machines::silence::{EndedSilence, GRACE};
use crate::model::device_id::DeviceId;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;

impl Monitor {
    /// A contact.
    pub(super) fn contact(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        let device = &mut self.devices[id];
        let standing = device.standing();
        let EndedSilence { is_first, silence, is_awaited } =
            device.silence.end(turn.now.wall, watched, standing);
        device.tally.count(silence.as_secs());
        // After a crash it has at least this long; a device that talks less often would count as
        // silent by then if the crash lost this contact.
        self.saving.hurry_if(silence > GRACE);
        if let Some(availability) = &mut device.availability {
            availability.heard();
        }
        self.saving.changed(id, &mut device.dirty);
        if !device.silence.is_pending() {
            self.arm(id);
        }
        let device = &mut self.devices[id];
        if !device.is_enabled() {
            if device.monitoring.is_elsewhere() {
                self.standby.heard(id);
                if is_awaited {
                    self.awaited_word(turn, id);
                }
            }
            return;
        }
        if device.episode.is_open() {
            self.recover(turn, id);
        } else if is_first {
            device.since = turn.now.wall;
            self.report_state(turn, id);
        }
        if is_awaited {
            self.awaited_word(turn, id);
        }
        self.contact_to_publish(id);
    }
}
