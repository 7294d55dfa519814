//! Processes a contact of a device, and its consequences.

use crate::machines::silence::{EndedSilence, GRACE};
use crate::model::device_id::DeviceId;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use std::time::Duration;

impl Monitor {
    /// A contact by a message that had waited to be read for so long.
    pub(super) fn contact(&mut self, turn: &mut Turn<'_>, id: DeviceId, waited: Duration) {
        let watched = turn.watched.saturating_sub(waited);
        let device = &mut self.devices[id];
        let standing = device.standing();
        let EndedSilence { is_first, silence, is_awaited } =
            device.silence.end(turn.now.wall, watched, standing);
        device.tally.count(silence.as_secs());
        // If a crash loses this contact, the device seems to have been silent since the one before. One
        // that uses up most of its time would count as silent soon. Each commit wears a card.
        let is_close = |timeout: Duration| silence > timeout / 2;
        self.saving.hurry_if(silence > GRACE && device.silence.timeout().is_some_and(is_close));
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
            device.since = turn.now.wall.into();
            self.report_state(turn, id);
        }
        if is_awaited {
            self.awaited_word(turn, id);
        }
        self.contact_to_publish(id);
    }
}
