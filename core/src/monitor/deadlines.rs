//! The table of silence deadlines: when to check a device, and whether its time is up then.

use crate::machines::availability::LONGEST_DOUBT;
use crate::machines::silence::Grace;
use crate::model::device_id::DeviceId;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

/// While nothing can be heard, a doubt is looked at no more often than this: a new configuration may
/// have taken the timeout away that it was to be waited out by.
const LEAST_WAIT: Duration = Duration::from_secs(1);

impl Monitor {
    /// Ensures that the deadline table will check the device.
    pub(super) fn arm(&mut self, id: DeviceId) {
        let device = &mut self.devices[id];
        if device.is_settled() || !device.is_enabled() {
            return;
        }
        if let Some(deadline) = device.silence.enter() {
            self.silence.push(deadline, id);
        }
    }

    pub(super) fn arm_all(&mut self) {
        for id in self.devices.ids() {
            self.arm(id);
            self.wait(id);
            self.wait_in_doubt(id);
        }
    }

    /// Restarts the device's silence without a contact: it was restarted or enabled.
    pub(super) fn restart_silence(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        self.devices[id].silence.begin_anew(watched);
        self.arm(id);
    }

    /// Whether the deadline has passed and no grace is left. A device with a grace is armed for its
    /// end.
    pub(super) fn is_overdue(&mut self, id: DeviceId, watched: Duration) -> bool {
        let device = &self.devices[id];
        let Some(deadline) = device.silence_deadline() else { return false };
        if device.is_settled() || deadline > watched {
            return false;
        }
        let Some(end) = self.grace_end(id, watched) else { return true };
        self.devices[id].silence.hold();
        self.silence.push(end, id);
        false
    }

    /// The end of its grace after an outage, if it has one left.
    pub(super) fn grace_end(&mut self, id: DeviceId, watched: Duration) -> Option<Duration> {
        let (resumed_at, stretch) = (self.clock.resumed_at(), self.clock.stretch());
        match self.devices[id].silence.grant(resumed_at, stretch, watched) {
            Grace::None => None,
            Grace::Until { end, is_new } => {
                if is_new {
                    // A monitor that is restarted again and again must not hide a device either.
                    self.save_soon(id);
                }
                Some(end)
            }
        }
    }

    /// Drops all suspicion and the whole table of deadlines, before it is filled anew.
    pub(super) fn disarm_all(&mut self) {
        self.probes.forget();
        self.silence.clear();
        self.holds.clear();
        for device in self.devices.iter_mut() {
            device.silence.leave_table();
        }
    }

    /// Ensures that a device is checked when its alert is due.
    pub(super) fn wait(&mut self, id: DeviceId) {
        if let Some(due) = self.devices[id].waits_until() {
            self.holds.push(due, id);
        }
    }

    /// Ensures that a device is checked when its doubt may have been waited out.
    pub(super) fn wait_in_doubt(&mut self, id: DeviceId) {
        if let Some(left) = self.doubt_left(id) {
            self.timers.push(self.last_turn.mono + left, Timer::Doubt(id));
        }
    }

    /// How much longer a will is doubted, if it is. A device that talks will do so within its
    /// timeout, of which only time counts in which it could be heard; a longer timeout is not waited
    /// for.
    pub(super) fn doubt_left(&self, id: DeviceId) -> Option<Duration> {
        let device = &self.devices[id];
        let since = device.availability.as_ref()?.doubted_since()?;
        let time = device.silence.timeout().unwrap_or_default().min(LONGEST_DOUBT);
        if !self.clock.is_running() {
            return Some(time.max(LEAST_WAIT));
        }
        let watched = self.clock.at(self.last_turn.mono);
        Some((since.max(self.clock.resumed_at()) + time).saturating_sub(watched))
    }
}
