//! Devices that are heard by way of another one (`dependsOn`): their silence while that is down is
//! not their own.
//!
//! A gateway and what is behind it fall silent together, and their deadlines pass in any order. So
//! the alert of a device whose deadline passes first waits until it is known what became of the
//! other: its next word shows that it lives, its own deadline that it does not. The time in which it
//! was down does not count as silence of those behind it, as it does not when the broker is away.
//!
//! Deliberately absent: a look at all devices. Only those behind a device that falls or comes back
//! are visited.

use super::Monitor;
use super::device::Device;
use super::episode::Telling;
use super::liveness::MAX_GRACES;
use crate::machines::rhythm::Rhythm;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::words::counted;
use crate::monitor::turn::Turn;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An alert waits no longer than this for another device.
const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// What it said meanwhile is lost, so a device has its timeout from the return of the other on; of a
/// longer one so much, or what it had left before.
const LONGEST_RETURN: Duration = Duration::from_secs(3600);

/// A device without a deadline of its own is taken for alive after this long: a broker publishes a
/// will after one and a half times the keep alive (MQTT 5, 3.1.2.10), which is mostly a minute.
const WILL_DUE: Duration = Duration::from_secs(90);

/// A deadline of one that depends on another is looked at after that of the other.
const AFTER: Duration = Duration::from_millis(1);

/// What a device depends on.
#[derive(Debug, Clone, Default)]
pub struct Dependence {
    parents: Vec<DeviceId>,
    /// Watched time at which its alert is due, while it is held or the device is returning.
    pub due: Duration,
    /// An alert that is held does not wait longer, in watched time.
    limit: Duration,
    /// Watched time at which it fell silent too long: a later word of a parent shows that it lives.
    overdue_since: Duration,
}

/// A device that others depend on.
#[derive(Debug, Default)]
pub(super) struct Branch {
    children: Vec<DeviceId>,
    /// Watched time of its last word, while it is down.
    down_since: Option<Duration>,
}

pub(super) type Branches = BTreeMap<DeviceId, Branch>;

impl Device {
    /// Whether what depends on it cannot be heard.
    fn is_down(&self) -> bool {
        self.is_enabled() && (self.expired_since.is_some() || self.keeps_failing())
    }

    /// Watched time at which its alert is due, if that waits.
    fn waits_until(&self) -> Option<Duration> {
        let waits = match self.telling {
            Telling::Held | Telling::Returning => self.expired_since.is_some() && self.is_enabled(),
            Telling::Told | Telling::Upstream | Telling::Flapping => false,
        };
        self.dependence.as_ref().filter(|_| waits).map(|dependence| dependence.due)
    }

    fn parents(&self) -> &[DeviceId] {
        self.dependence.as_ref().map_or(&[], |dependence| &dependence.parents)
    }

    /// Takes over what the same device waited for in the configuration before.
    pub(super) fn inherit_alert(&mut self, before: &Device) {
        self.telling = before.telling;
        if let Some(before) = &before.dependence {
            let mine = self.dependence.get_or_insert_default();
            let parents = std::mem::take(&mut mine.parents);
            **mine = Dependence { parents, ..*before.clone() };
        }
    }

    /// Moves what is on watched time when earlier runs become known.
    pub(super) fn carry_over(&mut self, earlier: Duration) {
        self.silent_since += earlier;
        // It was learned on another time, and of seconds.
        self.rhythm = Rhythm::default();
        if let Some(flaps) = &mut self.flaps {
            flaps.carry_over(earlier);
        }
        if let Some(dependence) = &mut self.dependence {
            dependence.due += earlier;
            dependence.limit += earlier;
            dependence.overdue_since += earlier;
        }
    }
}

impl Monitor {
    /// Takes in who depends on whom; the names were checked when the configuration was read.
    pub(super) fn relate(&mut self, dependences: Vec<(DeviceId, Vec<DeviceName>)>) {
        self.branches.clear();
        for (child, names) in dependences {
            let parents: Vec<DeviceId> =
                names.iter().filter_map(|name| self.id_named(name)).collect();
            for &parent in &parents {
                self.branches.entry(parent).or_default().children.push(child);
            }
            let dependence = Dependence { parents, ..Dependence::default() };
            self.devices[child].dependence = Some(Box::new(dependence));
        }
    }

    /// Everything that depends on a device, also by way of others.
    fn descendants(&self, id: DeviceId) -> BTreeSet<DeviceId> {
        let mut found = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let children = self.branches.get(&id).map_or(&[][..], |branch| &branch.children);
            open.extend(children.iter().filter(|child| found.insert(**child)));
        }
        found
    }

    /// Whether anything that a device depends on is down, also by way of others.
    fn is_cut_off(&self, id: DeviceId) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = self.devices[id].parents().to_vec();
        while let Some(id) = open.pop() {
            let parent = &self.devices[id];
            if parent.is_down() {
                return true;
            }
            if seen.insert(id) {
                open.extend(parent.parents());
            }
        }
        false
    }

    /// Decides on the alert of a device that has expired just now.
    pub(super) fn judge_alert(&mut self, watched: Duration, id: DeviceId) {
        if self.is_cut_off(id) {
            self.devices[id].telling = Telling::Upstream;
            return;
        }
        let device = &mut self.devices[id];
        let silence_ended = device.silence_deadline().filter(|_| !device.is_gone());
        device.telling = Telling::Told;
        let Some(dependence) = &mut device.dependence else { return };
        dependence.limit = watched + LONGEST_HOLD;
        dependence.overdue_since = silence_ended.unwrap_or(watched).min(watched);
        if self.is_held(watched, id) {
            self.devices[id].telling = Telling::Held;
            self.wait(id);
        }
    }

    /// Has a look at a device when its alert is due. Who is looked at decides by what is so then.
    pub(super) fn wait(&mut self, id: DeviceId) {
        if let Some(due) = self.devices[id].waits_until() {
            self.holds.push(due, id);
        }
    }

    /// Puts those to the test whose alert is due.
    pub(super) fn holds_due(&mut self, watched: Duration) {
        while let Some((due, id)) = self.holds.pop_due(watched) {
            let device = self.devices.get(id);
            if device.is_some_and(|device| device.waits_until() == Some(due)) {
                self.watch.probes.suspect_held(due, id);
            }
        }
    }

    /// A round trip has shown that nothing of it was on its way at a watched time.
    pub(super) fn judge_held(
        &mut self,
        turn: &mut Turn<'_>,
        sent: Duration,
        (due, id): (Duration, DeviceId),
    ) {
        if self.devices[id].waits_until() != Some(due) {
            return;
        }
        if let Some(end) = self.grace_end(id, sent) {
            if let Some(dependence) = &mut self.devices[id].dependence {
                dependence.due = end;
            }
            self.wait(id);
            return;
        }
        self.expire(turn, id);
        self.arm(id);
    }

    /// Whether what a device depends on may be found down yet, and if so until when to wait.
    pub(super) fn is_held(&mut self, watched: Duration, id: DeviceId) -> bool {
        let Some(dependence) = &self.devices[id].dependence else { return false };
        let (limit, since) = (dependence.limit, dependence.overdue_since);
        let parents = dependence.parents.clone();
        let verdict = |&parent: &DeviceId| self.verdict_due(since, parent);
        let Some(due) = parents.iter().filter_map(verdict).max() else { return false };
        let due = due.min(limit);
        if due <= watched {
            return false;
        }
        if let Some(dependence) = &mut self.devices[id].dependence {
            dependence.due = due;
        }
        for parent in parents {
            self.devices[parent].awaited = true;
        }
        true
    }

    /// When it will be known whether a device was down already at a watched time; `None` when it is
    /// known that it was not, or never will be.
    fn verdict_due(&self, at: Duration, id: DeviceId) -> Option<Duration> {
        let device = &self.devices[id];
        if !device.is_enabled() || device.silent_since >= at && device.last_contact.is_some() {
            return None;
        }
        match device.silence_deadline() {
            Some(deadline) => Some(deadline.max(self.clock.resumed_at() + device.grace()) + AFTER),
            None => device.spec.has_availability.then_some(at + WILL_DUE),
        }
    }

    /// A device speaks whose next word was awaited.
    pub(super) fn awaited_word(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.devices[id].awaited = false;
        let watched = turn.watched;
        let Some(branch) = self.branches.get(&id) else { return };
        for child in branch.children.clone() {
            let device = &self.devices[child];
            if device.expired_since.is_none() || device.telling != Telling::Held {
                continue;
            }
            if self.is_held(watched, child) {
                self.wait(child);
            } else {
                self.alarm(turn, child);
                self.arm(child);
                self.save_soon(child);
            }
        }
    }

    /// A device is down from now on: those behind it are not alarmed for themselves.
    pub(super) fn fell(&mut self, turn: &mut Turn<'_>, watched: Duration, id: DeviceId) {
        let silent_since = self.devices[id].silent_since.min(watched);
        let Some(branch) = self.branches.get_mut(&id) else { return };
        if branch.down_since.is_some() {
            return;
        }
        branch.down_since = Some(silent_since);
        for child in self.descendants(id) {
            let device = &mut self.devices[child];
            match device.telling {
                Telling::Held | Telling::Returning if device.expired_since.is_some() => {
                    device.telling = Telling::Upstream;
                    self.save_soon(child);
                    self.tell_state(turn, child);
                }
                Telling::Held
                | Telling::Returning
                | Telling::Told
                | Telling::Upstream
                | Telling::Flapping => {}
            }
        }
    }

    /// A device may be up again: those behind it go on where they were when it fell.
    pub(super) fn rose(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].is_down() {
            return;
        }
        let Some(from) = self.branches.get_mut(&id).and_then(|branch| branch.down_since.take())
        else {
            return;
        };
        let watched = turn.watched;
        for child in self.descendants(id) {
            if !self.is_cut_off(child) {
                self.go_on(from, watched, child);
            }
        }
    }

    /// Leaves the time out of a device's silence in which it could not be heard.
    fn go_on(&mut self, from: Duration, watched: Duration, id: DeviceId) {
        let device = &mut self.devices[id];
        if device.expired_since.is_some() && device.telling != Telling::Upstream {
            return;
        }
        device.silent_since += watched.saturating_sub(from.max(device.silent_since));
        if let Some(timeout) = device.spec.watch_timeout {
            let least = watched + timeout.min(LONGEST_RETURN);
            if device.silent_since + timeout < least && device.graces < MAX_GRACES {
                device.graces += 1;
                device.silent_since = least.saturating_sub(timeout);
            }
        }
        let due = device.silence_deadline().unwrap_or(watched + device.grace());
        if device.telling == Telling::Upstream {
            self.let_return(id, due);
        }
        self.save_soon(id);
    }

    /// Its alert is due then, unless it is heard before.
    fn let_return(&mut self, id: DeviceId, due: Duration) {
        let device = &mut self.devices[id];
        device.telling = Telling::Returning;
        device.dependence.get_or_insert_default().due = due;
        self.wait(id);
    }

    /// Brings the alerts that are not out in line with what is down now: after a start, and with
    /// another configuration.
    pub(super) fn settle_dependents(&mut self, turn: &mut Turn<'_>) {
        let watched = turn.watched;
        for (&id, branch) in &mut self.branches {
            let device = &self.devices[id];
            let since = device.silent_since.min(watched);
            branch.down_since = device.is_down().then_some(since);
        }
        for id in self.devices.ids() {
            let device = &self.devices[id];
            if device.expired_since.is_none()
                || matches!(device.telling, Telling::Told | Telling::Flapping)
            {
                continue;
            }
            self.settle_alert(turn, watched, id);
        }
    }

    fn settle_alert(&mut self, turn: &mut Turn<'_>, watched: Duration, id: DeviceId) {
        let device = &self.devices[id];
        let due = watched + device.grace();
        let is_held = device.telling == Telling::Held;
        if self.is_cut_off(id) {
            self.devices[id].telling = Telling::Upstream;
            if is_held {
                self.tell_state(turn, id);
            }
        } else if !is_held {
            self.let_return(id, due);
            if self.devices[id].parents().is_empty() {
                // Whatever its alert waited for before, it is for itself now.
                self.devices[id].telling = Telling::Held;
            }
        }
    }

    /// How many that can be heard silent depend on a device that is down.
    pub(super) fn dependents_clause(&self, id: DeviceId) -> String {
        let watched = |id: &DeviceId| {
            let device = &self.devices[*id];
            device.is_enabled() && device.can_expire()
        };
        match self.descendants(id).iter().filter(|id| watched(id)).count() {
            0 => String::new(),
            1 => "; 1 device that depends on it is not alarmed for itself meanwhile".to_owned(),
            count => {
                format!(
                    "; {count} devices that depend on it are not alarmed for themselves meanwhile"
                )
            }
        }
    }

    /// How many had fallen silent with a device that is back.
    pub(super) fn followers_clause(&self, id: DeviceId) -> String {
        let silent = |id: &DeviceId| {
            let device = &self.devices[*id];
            device.expired_since.is_some() && device.telling == Telling::Upstream
        };
        match self.descendants(id).iter().filter(|id| silent(id)).count() {
            0 => String::new(),
            count => {
                let devices = counted(count, "device");
                format!("; {devices} that had fallen silent with it may follow now")
            }
        }
    }
}
