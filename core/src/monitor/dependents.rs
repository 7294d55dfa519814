//! Devices that are heard through another one (`dependsOn`): their silence while that one is down
//! is not their own.
//!
//! A gateway and the devices behind it fall silent together, and their deadlines pass in any order.
//! So the alert of a device whose deadline passes first waits until the state of the other is
//! known: its next message shows that it is alive, its own deadline that it is not. The time for
//! which it was down does not count as silence of the devices behind it, just as an outage of the
//! broker does not.
//!
//! Only the devices behind one that fails or returns are visited, never all. [`super::alarms`]
//! decides the consequences for an alert.

use super::Monitor;
use super::device::Device;
use crate::machines::dependency::Dependencies;
use crate::machines::episode::AlertStage;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::words::counted;
use std::time::Duration;

/// A device without a deadline of its own counts as alive after this long: a broker publishes a
/// will after one and a half times the keep alive (MQTT 5, 3.1.2.10), which is mostly a minute.
const WILL_DUE: Duration = Duration::from_secs(90);

/// The deadline of a dependent device is checked after that of its dependency.
const AFTER: Duration = Duration::from_millis(1);

/// Another node that has the dependency has published its verdict by then.
const AFTER_ANOTHER_NODE: Duration = Duration::from_secs(2);

impl Device {
    /// Whether its dependents cannot be heard.
    pub(super) fn is_down(&self) -> bool {
        if self.monitoring.is_elsewhere() {
            return self.monitoring.is_wanted() && self.monitoring.is_said_down();
        }
        self.is_enabled() && (self.episode.is_open() || self.keeps_failing())
    }

    /// The watched time at which its alert is due, if the alert waits.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        let waits = self.episode.waits() && self.is_enabled();
        self.rare.hold().filter(|_| waits).map(|hold| hold.due())
    }
}

impl Monitor {
    /// Creates the dependencies; the names were checked with the configuration.
    pub(super) fn relate(&mut self, dependences: Vec<(DeviceId, Vec<DeviceName>)>) {
        let ids = |names: Vec<DeviceName>| {
            names.iter().filter_map(|name| self.devices.named(name)).collect()
        };
        let parents = dependences.into_iter().map(|(child, names)| (child, ids(names))).collect();
        self.dependencies = Dependencies::new(parents);
    }

    /// Whether any direct or indirect dependency of a device is down.
    pub(super) fn is_cut_off(&self, id: DeviceId) -> bool {
        self.dependencies.is_cut_off(id)
    }

    /// A device has just expired; returns whether its alert waits for the state of another.
    pub(super) fn begin_hold(&mut self, watched: Duration, id: DeviceId) -> bool {
        if self.dependencies.parents(id).is_empty() {
            return false;
        }
        let device = &mut self.devices[id];
        let silence_ended = device.silence_deadline().filter(|_| !device.is_gone());
        let hold = device.rare.some_hold();
        hold.begin(silence_ended.unwrap_or(watched), watched);
        self.is_held(watched, id)
    }

    /// Whether a dependency of the device may yet be found down, and if so until when to wait.
    pub(super) fn is_held(&mut self, watched: Duration, id: DeviceId) -> bool {
        let parents = self.dependencies.parents(id);
        let Some(hold) = self.devices[id].rare.hold() else { return false };
        let since = hold.overdue_since();
        let verdict = |&parent: &DeviceId| self.verdict_due(since, parent);
        let Some(due) = parents.iter().filter_map(verdict).max() else { return false };
        let hold = self.devices[id].rare.hold_mut();
        if !hold.is_some_and(|hold| hold.await_verdict(due, watched)) {
            return false;
        }
        for &parent in parents {
            self.devices[parent].silence.await_word();
        }
        true
    }

    /// The time at which it will be known whether a device was down already at a watched time;
    /// `None` when it is known that it was not, or never will be.
    fn verdict_due(&self, at: Duration, id: DeviceId) -> Option<Duration> {
        let device = &self.devices[id];
        if !device.monitoring.is_wanted() || device.silence.has_spoken_since(at) {
            return None;
        }
        let after = if device.monitoring.is_elsewhere() { AFTER_ANOTHER_NODE } else { AFTER };
        match device.silence.deadline() {
            Some(deadline) => {
                Some(deadline.max(self.clock.resumed_at() + device.silence.grace()) + after)
            }
            None => device.availability.is_some().then_some(at + WILL_DUE),
        }
    }

    /// Excludes the time in which it could not be heard from a device's silence; returns the
    /// watched time at which that becomes too long again.
    pub(super) fn leave_out_of_silence(
        &mut self,
        from: Duration,
        watched: Duration,
        id: DeviceId,
    ) -> Duration {
        let device = &mut self.devices[id];
        device.silence.leave_out(from, watched);
        device.silence_deadline().unwrap_or(watched + device.silence.grace())
    }

    /// The number of devices, of those that can expire, that depend on a device that is down.
    pub(super) fn dependents_clause(&mut self, id: DeviceId) -> String {
        let devices = &self.devices;
        let is_watched = |id: DeviceId| devices[id].is_enabled() && devices[id].can_expire();
        match self.dependencies.count_behind(id, is_watched) {
            0 => String::new(),
            1 => "; 1 device that depends on it is not alarmed for itself meanwhile".to_owned(),
            count => {
                format!(
                    "; {count} devices that depend on it are not alarmed for themselves meanwhile"
                )
            }
        }
    }

    /// The number of devices that had fallen silent with a device that is back, of those that are
    /// no longer cut off.
    pub(super) fn followers_clause(&self, freed: &[DeviceId]) -> String {
        let silent =
            |id: &&DeviceId| self.devices[**id].episode.stage() == Some(AlertStage::Upstream);
        match freed.iter().filter(silent).count() {
            0 => String::new(),
            count => {
                let devices = counted(count, "device");
                format!("; {devices} that had fallen silent with it may follow now")
            }
        }
    }
}
