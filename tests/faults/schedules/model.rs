//! The rules of silence as a person would keep them with a stop watch for each device.
//!
//! Written from the contract's sentences and from nothing else: no deadline table, no clock that is
//! carried on, no round trip. Where the monitor cannot know (when a broker went mute, what a crash
//! took along) there are two stop watches, one that runs whenever the device could be heard and one
//! that runs when the monitor can be sure of it. An alarm before the first has reached the timeout
//! is false; one that is not there when the second has is missed.

use std::collections::BTreeMap;

/// Milliseconds.
pub type Millis = u64;

pub const LONGEST_GRACE: Millis = 60_000;
const GRACES: u32 = 3;
/// What is known is saved this often, and within the second where it may matter.
pub const SAVING: Millis = 60_000;
const SAVING_SOON: Millis = 1_500;
const FOR_EVER: Millis = u64::MAX / 4;

/// What the configuration says of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// 0 never expires.
    pub timeout: Millis,
    /// Without watchTopics there is no deadline.
    pub watched: bool,
    pub repeats: bool,
    pub is_agent: bool,
    /// The device by whose way it is heard, with a smaller number. It may not be configured.
    pub behind: Option<usize>,
}

impl Definition {
    fn can_expire(&self) -> bool {
        self.watched && self.timeout > 0
    }

    fn grace(&self) -> Millis {
        self.timeout.min(LONGEST_GRACE)
    }
}

#[derive(Debug, Clone)]
pub struct Device {
    pub definition: Definition,
    pub enabled: bool,
    pub expired: bool,
    /// Silence in which it could have been heard, and in which the monitor can be sure of that.
    could: Millis,
    surely: Millis,
    /// The same since the monitor last came back.
    could_since_return: Millis,
    surely_since_return: Millis,
    returns: u32,
    /// `surely` when its timeout became what it is, or when the monitor was last held up.
    retimed: Millis,
    /// How long ago the last contact was, on any clock.
    last_contact: Millis,
}

impl Device {
    fn new(definition: Definition) -> Self {
        Self {
            definition,
            enabled: true,
            expired: false,
            could: 0,
            surely: 0,
            could_since_return: 0,
            surely_since_return: 0,
            returns: 0,
            retimed: 0,
            last_contact: FOR_EVER,
        }
    }

    fn silence_begins(&mut self) {
        (self.could, self.surely, self.retimed) = (0, 0, 0);
    }

    fn is_judged(&self) -> bool {
        self.enabled && self.definition.can_expire()
    }

    /// Why an alarm now is a false one.
    fn falseness(&self) -> Option<&'static str> {
        if !self.is_judged() {
            Some("for one that is not judged")
        } else if self.expired {
            Some("a second time")
        } else if self.could < self.definition.timeout {
            Some("before its time")
        } else if self.returns <= GRACES && self.could_since_return < self.definition.grace() {
            Some("within its grace")
        } else {
            None
        }
    }

    /// Whether an alarm is overdue by more than `tolerance`.
    fn is_owed(&self, tolerance: Millis) -> bool {
        let (timeout, grace) = (self.definition.timeout, self.definition.grace());
        let silent = self.surely >= timeout + tolerance;
        let graced = self.surely_since_return >= grace + tolerance;
        let due = timeout.max(self.retimed.min(self.surely));
        let hidden = self.surely >= due + u64::from(GRACES) * grace + tolerance;
        self.is_judged() && !self.expired && ((silent && graced) || hidden)
    }
}

/// All devices, and what was counted.
#[derive(Debug, Default)]
pub struct Model {
    pub devices: BTreeMap<usize, Device>,
    pub alarms: usize,
    /// Since the process started, on any clock.
    run: Millis,
}

impl Model {
    /// Time passes; `could` of it a device could be heard, `surely` of it the monitor knows.
    pub fn pass(&mut self, time: Millis, could: Millis, surely: Millis) {
        self.run += time;
        for device in self.devices.values_mut() {
            device.could += could;
            device.surely += surely;
            device.could_since_return += could;
            device.surely_since_return += surely;
            device.last_contact = device.last_contact.saturating_add(time);
        }
    }

    /// The monitor learns that it could not be sure of so much of what has passed.
    pub fn unsure(&mut self, of: Millis) {
        for device in self.devices.values_mut() {
            device.surely = device.surely.saturating_sub(of);
            device.surely_since_return = device.surely_since_return.saturating_sub(of);
        }
    }

    /// The subscriptions are acknowledged on a new connection.
    pub fn hears_again(&mut self) {
        for device in self.devices.values_mut() {
            device.returns += 1;
            (device.could_since_return, device.surely_since_return) = (0, 0);
        }
    }

    /// Whether the device recovers by this contact.
    pub fn contact(&mut self, device: usize) -> bool {
        let found = self.devices.get_mut(&device).expect("it is configured");
        found.silence_begins();
        found.returns = 0;
        found.last_contact = 0;
        let recovers = std::mem::take(&mut found.expired);
        if recovers {
            self.is_back(device);
        }
        recovers
    }

    /// One is back that was expired: those behind it have their timeout from now on, unless they had
    /// that before, and may have less.
    fn is_back(&mut self, device: usize) {
        for other in self.devices.keys().copied().collect::<Vec<_>>() {
            if self.is_behind(other, device) {
                let found = self.devices.get_mut(&other).expect("it is configured");
                (found.surely, found.retimed) = (0, 0);
            }
        }
    }

    fn is_behind(&self, device: usize, other: usize) -> bool {
        let next = |at: &usize| {
            let parent = self.devices.get(at)?.definition.behind?;
            self.devices.contains_key(&parent).then_some(parent)
        };
        std::iter::successors(next(&device), next).any(|parent| parent == other)
    }

    /// Whether anything by whose way it is heard is expired.
    pub fn is_cut_off(&self, device: usize) -> bool {
        let expired = |other: &usize| self.devices[other].expired;
        self.devices.keys().any(|other| expired(other) && self.is_behind(device, *other))
    }

    /// What became due meanwhile is due from now on.
    pub fn was_held_up(&mut self) {
        self.devices.values_mut().for_each(|device| device.retimed = device.surely);
    }

    /// A contact waited on the socket while the monitor was held up: it knows of it only now, and of
    /// the return of one that was expired before it. Whether the device recovers by that.
    pub fn heard_late(&mut self, device: usize, was_expired: bool) -> bool {
        let found = self.devices.get_mut(&device).expect("it is configured");
        (found.surely, found.retimed) = (0, 0);
        let recovers = std::mem::take(&mut found.expired) || was_expired;
        if recovers {
            self.is_back(device);
        }
        recovers
    }

    /// An alarm was raised. What is wrong with it, if anything.
    pub fn alarm(&mut self, device: usize) -> Result<(), String> {
        self.alarms += 1;
        let Some(found) = self.devices.get_mut(&device) else {
            return Err(format!("alarm for device {device}, which is not configured"));
        };
        if let Some(why) = found.falseness() {
            return Err(format!("false alarm for device {device}, {why}: {found:?}"));
        }
        found.expired = true;
        Ok(())
    }

    /// The first device whose alarm is overdue, if time was allowed to pass.
    pub fn missed(&self, tolerance: Millis) -> Result<(), String> {
        match self.devices.iter().find(|(_, device)| device.is_owed(tolerance)) {
            Some((name, device)) => Err(format!("missed alarm for device {name}: {device:?}")),
            None => Ok(()),
        }
    }

    pub fn expired(&self) -> usize {
        self.devices.values().filter(|device| device.expired).count()
    }

    /// What is not named any more is forgotten, what is new is silent from now on.
    pub fn configure(&mut self, definitions: &BTreeMap<usize, Definition>) {
        self.devices.retain(|name, _| definitions.contains_key(name));
        for (name, definition) in definitions {
            let device = self.devices.entry(*name).or_insert_with(|| Device::new(*definition));
            if !device.definition.watched {
                device.silence_begins();
            }
            if device.definition != *definition {
                device.retimed = device.surely;
            }
            device.definition = *definition;
            device.expired &= device.is_judged();
        }
    }

    pub fn set_enabled(&mut self, device: usize, enabled: bool) {
        let found = self.devices.get_mut(&device).expect("it is configured");
        if found.enabled != enabled {
            found.enabled = enabled;
            found.silence_begins();
            if std::mem::take(&mut found.expired) {
                self.is_back(device);
            }
        }
    }

    /// The agent's process was started anew: it has its full timeout.
    pub fn agent_restarted(&mut self, device: usize) {
        self.devices.get_mut(&device).expect("it is configured").silence_begins();
    }

    pub fn orderly_restart(&mut self) {
        self.run = 0;
    }

    /// A crash takes along what was not saved yet, at most `unsaved`: time that was heard, and the
    /// contacts in it, the first of which came at most as long after one that was saved.
    pub fn crash(&mut self, unsaved: Millis) {
        let lost = self.run.min(unsaved);
        for device in self.devices.values_mut() {
            device.surely = device.surely.saturating_sub(lost);
            if device.last_contact <= SAVING_SOON {
                device.could = FOR_EVER;
            } else if device.last_contact <= unsaved {
                device.could += unsaved;
            }
        }
        self.run = 0;
    }
}
