//! One device at run time: its specification and what is known of it.

use super::agent::Agent;
use super::flapping::Flaps;
use super::upstream::Dependence;
use crate::machines::rhythm::Rhythm;
use crate::model::alert::Reason;
use crate::model::device_name::DeviceName;
use crate::model::snapshot::DeviceRecord;
use crate::model::spec::DeviceSpec;
use crate::model::unit_name::UnitTemplate;
use crate::model::view::Liveness;
use crate::monitor::episode::Telling;
use std::ops::Range;
use std::time::Duration;

/// What the configuration says of a device, but for its process, and for its filters, which only
/// the index holds.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: DeviceName,
    pub watch_timeout: Option<Duration>,
    pub auto_timeout: bool,
    /// Whether silence can be heard at all: there are watchTopics.
    pub is_watched: bool,
    /// Whether it says itself that it is there or gone.
    pub has_availability: bool,
    pub records_states: bool,
    pub restore_on_start: bool,
    /// As the file says.
    pub enabled: bool,
}

/// The repetition of `expire/NAME`, which few devices have.
#[derive(Debug, Clone)]
pub struct Repeat {
    pub interval: Duration,
    /// When it is to be repeated next.
    pub due: Option<Duration>,
}

/// What the monitor knows of a device. There may be very many, so what few have is boxed.
#[derive(Debug, Clone)]
pub struct Device {
    pub spec: Settings,
    /// The numbers of its filters in the index.
    pub filters: Range<u32>,
    /// Wall clock of the last contact.
    pub last_contact: Option<Duration>,
    /// Watched time at which the silence began.
    pub silent_since: Duration,
    pub rhythm: Rhythm,
    /// Wall clock of the expiry.
    pub expired_since: Option<Duration>,
    /// What its expiry is put down to; of meaning while it is expired.
    pub cause: Reason,
    /// Where its alert is; of meaning while it is expired.
    pub telling: Telling,
    /// What it depends on, if it does.
    pub dependence: Option<Box<Dependence>>,
    /// Alarms of late, if there were any.
    pub flaps: Option<Box<Flaps>>,
    /// The alerts of others wait for its next word.
    pub awaited: bool,
    /// Wall clock of the last change of state, for `since` in the status.
    pub since: Duration,
    pub graces: u8,
    /// The stretch of watched time in which the last grace was granted.
    pub grace_stretch: u32,
    /// What it last said of itself on its availabilityTopic; `None` when that is not known, or a
    /// later contact belies it.
    pub available: Option<bool>,
    /// A person's choice.
    pub enabled: Option<bool>,
    /// The deadline table holds an entry for it, or it is about to be looked at.
    pub armed: bool,
    /// Its record waits to be saved.
    pub dirty: bool,
    /// It was heard since its status was last published for the sake of Home Assistant.
    pub status_stale: bool,
    /// The broker refused one of its watch filters, so its silence says nothing.
    pub deaf: bool,
    /// The store has a record of it.
    pub recorded: bool,
    pub alert_unit: Option<UnitTemplate>,
    pub repeat: Option<Box<Repeat>>,
    pub hellos: u64,
    pub agent: Option<Box<Agent>>,
}

impl Device {
    /// A device of which nothing is known, silent from now on, whose filters have these numbers.
    #[must_use]
    pub fn new(spec: DeviceSpec, filters: Range<u32>, watched: Duration, wall: Duration) -> Self {
        let agent = spec.agent.map(|agent| Box::new(Agent::new(&spec.name, *agent)));
        let repeat = spec.expire_repeat.map(|interval| Box::new(Repeat { interval, due: None }));
        Self {
            spec: Settings {
                name: spec.name,
                watch_timeout: spec.watch_timeout,
                auto_timeout: spec.auto_timeout,
                is_watched: !spec.watch.is_empty(),
                has_availability: spec.availability.is_some(),
                records_states: !spec.state.is_empty(),
                restore_on_start: spec.restore_on_start,
                enabled: spec.enabled,
            },
            filters,
            last_contact: None,
            silent_since: watched,
            rhythm: Rhythm::default(),
            expired_since: None,
            cause: Reason::default(),
            telling: Telling::default(),
            dependence: None,
            flaps: None,
            awaited: false,
            since: wall,
            graces: 0,
            grace_stretch: 0,
            available: None,
            enabled: None,
            armed: false,
            dirty: false,
            status_stale: false,
            deaf: false,
            recorded: false,
            alert_unit: spec.alert_unit,
            repeat,
            hellos: 0,
            agent,
        }
    }

    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(self.spec.enabled)
    }

    #[must_use]
    pub fn liveness(&self) -> Liveness {
        if !self.is_enabled() {
            Liveness::Disabled
        } else if self.expired_since.is_some() {
            Liveness::Expired
        } else if self.last_contact.is_some() {
            Liveness::Alive
        } else {
            Liveness::Unknown
        }
    }

    /// Whether it has said of itself that it is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.available == Some(false)
    }

    /// Whether silence means anything: without watchTopics or with a timeout of 0 it does not. What
    /// it says of itself always does.
    pub(super) fn can_expire(&self) -> bool {
        self.is_gone() || (self.spec.is_watched && self.spec.watch_timeout.is_some())
    }

    /// Watched time at which the silence becomes too long; `None` without watchTopics or a timeout,
    /// out of the monitoring, and where the broker refused a filter.
    #[must_use]
    pub fn silence_deadline(&self) -> Option<Duration> {
        if !self.spec.is_watched || self.deaf || !self.is_enabled() {
            return None;
        }
        Some(self.silent_since + self.spec.watch_timeout?)
    }

    /// Takes over what holds whatever this run has found out meanwhile.
    pub fn restore_choices(&mut self, record: &DeviceRecord) {
        self.enabled = self.enabled.or(record.enabled);
        self.rhythm = Rhythm::restored(record.rhythm);
        if let Some(agent) = &mut self.agent
            && agent.last_invocation.is_none()
        {
            agent.last_invocation.clone_from(&record.invocation);
        }
    }

    /// Takes over the contacts and the silence of an earlier run. `watched` is the watched time
    /// that run ended at: a record cannot be younger.
    pub fn restore(&mut self, record: &DeviceRecord, watched: Duration) {
        self.last_contact = record.last_contact;
        self.silent_since = record.silent_since.min(watched);
        if record.offline && self.spec.has_availability && self.available.is_none() {
            self.available = Some(false);
        }
        // One that has expired in this run already was told of and stays expired.
        let expired_since = record.expired_since.or(self.expired_since);
        self.expired_since = expired_since.filter(|_| self.can_expire() && self.is_enabled());
        self.cause = record.cause;
        if record.expired_since.is_some() {
            self.telling = Telling::of(record);
        }
        self.graces = record.graces;
        if let Some(since) = self.expired_since.or(record.last_contact) {
            self.since = since;
        }
    }

    /// Goes on where the device of the same name in the configuration before was, and gives back
    /// its agent.
    pub fn inherit(&mut self, before: Device) -> Option<Box<Agent>> {
        let was_enabled = before.is_enabled();
        self.last_contact = before.last_contact;
        if before.spec.is_watched && was_enabled {
            self.silent_since = before.silent_since;
        }
        self.rhythm = before.rhythm;
        self.graces = before.graces;
        self.grace_stretch = before.grace_stretch;
        self.available = before.available.filter(|_| self.spec.has_availability);
        self.enabled = before.enabled;
        self.deaf = before.deaf;
        self.recorded = before.recorded;
        self.hellos = before.hellos;
        if self.is_enabled() == was_enabled {
            self.expired_since = before.expired_since.filter(|_| self.can_expire());
            self.cause = before.cause;
            self.inherit_alert(&before);
            self.flaps = before.flaps;
            if self.expired_since == before.expired_since {
                self.since = before.since;
            }
        }
        before.agent
    }

    /// What the store is to keep. `announced` is the prefix of its description for Home Assistant.
    #[must_use]
    pub fn record(&self, announced: Option<&str>) -> DeviceRecord {
        DeviceRecord {
            name: self.spec.name.clone(),
            last_contact: self.last_contact,
            // Nobody listened so far, so the silence of one that gets watchTopics before the next
            // start begins with that: a record is taken to be no younger than its run.
            silent_since: if !self.spec.is_watched { Duration::MAX } else { self.silent_since },
            expired_since: self.expired_since,
            cause: self.cause,
            untold: self.expired_since.is_some() && self.telling != Telling::Told,
            graces: self.graces,
            enabled: self.enabled,
            // Known elsewhere, for few have one.
            pause: None,
            invocation: self.agent.as_ref().and_then(|agent| agent.last_invocation.clone()),
            announced: announced.map(str::to_owned),
            offline: self.is_gone(),
            rhythm: self.rhythm.record(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_device_takes_224_bytes() {
        // There may be a hundred thousand of them: one that grows shall do so knowingly.
        assert_eq!(size_of::<Device>(), 224);
    }
}
