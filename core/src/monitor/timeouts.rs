//! The `watchTimeOut` of devices whose rhythm is learned.

use super::Monitor;
use super::device::Device;
use crate::machines::rhythm::{TIMES, UNLEARNED};
use crate::model::device_id::DeviceId;
use crate::monitor::turn::Turn;
use std::time::Duration;

/// A silence that raised an alarm counts as no more than so many timeouts: a device that was broken
/// for a week must not be waited for from then on, and one that was only slow is waited for longer.
const ALARMED: u32 = 2;

impl Device {
    /// Learns from a silence that a contact ends now.
    pub(super) fn learn(&mut self, silence: Duration, watched: Duration) {
        if self.last_contact.is_none() || !self.is_enabled() || self.deaf {
            return;
        }
        let was_known = self.rhythm.timeout(watched.saturating_sub(silence)).is_some();
        let most = match (self.episode.since(), self.spec.watch_timeout) {
            (Some(_), Some(timeout)) if was_known => timeout.saturating_mul(ALARMED),
            // A night that was taken for a death counts as a night, and there is one such alarm.
            (Some(_), Some(timeout)) => timeout.saturating_mul(ALARMED).max(UNLEARNED),
            (_, _) => Duration::MAX,
        };
        self.rhythm.note(silence.min(most), watched);
    }

    /// Takes what was learned as its timeout, where the file says so; whether that is another one.
    /// A shorter one waits until the device speaks in time for it: nobody expires by being known
    /// better.
    fn adopt_timeout(&mut self, watched: Duration) -> bool {
        if !self.spec.auto_timeout {
            return false;
        }
        let before = self.spec.watch_timeout;
        let learned = self.rhythm.timeout(watched);
        let learned = learned.or_else(|| self.rhythm.early_timeout(watched)).unwrap_or(UNLEARNED);
        let is_late = watched.saturating_sub(self.silent_since) > learned / TIMES;
        if before.is_some_and(|before| learned < before) && is_late {
            return false;
        }
        self.spec.watch_timeout = Some(learned);
        before != self.spec.watch_timeout
    }
}

impl Monitor {
    /// Takes what was learned as the timeouts of those who are to have it so.
    pub(super) fn adopt_timeouts(&mut self, watched: Duration) -> Vec<DeviceId> {
        let mut adopted = self.devices.ids().collect::<Vec<_>>();
        adopted.retain(|&id| self.devices[id].adopt_timeout(watched));
        adopted
    }

    /// From time to time, while the monitor runs.
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
