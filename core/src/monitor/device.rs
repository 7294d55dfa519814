//! One device at run time: its specification and its state.

use super::Timer;
use super::rare::{Rare, Repeat};
use crate::machines::agent::Agent;
use crate::machines::availability::Availability;
use crate::machines::episode::{AlertStage, Episode};
use crate::machines::fleets::FleetId;
use crate::machines::monitoring::Monitoring;
use crate::machines::silence::{Silence, Standing, Terms};
use crate::model::alert::Account;
use crate::model::alert::Reason;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::history::ContactTally;
use crate::model::snapshot::DeviceRecord;
use crate::model::spec::DeviceSpec;
use crate::model::time::{ClockStep, Nanos};
use crate::model::unit_name::UnitTemplate;
use crate::model::view::Liveness;
use std::ops::Range;
use std::time::Duration;

/// The configuration of a device, without its process, and without its filters, which only the
/// index holds.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: DeviceName,
    /// The fleet that it was learned by.
    pub fleet: Option<FleetId>,
    /// There is no device here any more.
    pub is_vacant: bool,
    pub records_states: bool,
    pub restore_on_start: bool,
}

/// The state of a device. There may be very many, so rare parts are boxed.
///
/// The fields are laid out in this order. What each contact needs comes first, so that a message of a
/// large fleet waits for as little memory as possible.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Device {
    pub monitoring: Monitoring,
    /// Its record waits to be saved.
    pub dirty: bool,
    /// It was heard since its status was last published for Home Assistant.
    pub status_stale: bool,
    /// The store has a record of it.
    pub recorded: bool,
    pub hellos: u32,
    /// Its contacts since they were last recorded.
    pub tally: ContactTally,
    /// Its alarm, while it is expired.
    pub episode: Episode,
    /// Boxed, because only a few devices have availability topics.
    pub availability: Option<Box<Availability>>,
    pub silence: Silence,
    pub spec: Settings,
    /// The numbers of its filters in the index.
    pub filters: Range<u32>,
    pub rare: Rare,
    /// The wall clock at the last change of state, for `since` in the status.
    pub since: Nanos,
    pub alert_unit: Option<UnitTemplate>,
}

impl Device {
    /// A device of unknown state, silent from now on, whose filters have these numbers.
    #[must_use]
    pub fn new(spec: DeviceSpec, filters: Range<u32>, watched: Duration, wall: Duration) -> Self {
        let agent = spec.agent.map(|agent| Box::new(Agent::new(&spec.name, *agent)));
        let terms = Terms {
            timeout: spec.watch_timeout,
            auto: spec.auto_timeout,
            is_watched: !spec.watch.is_empty(),
        };
        let availability = (!spec.availability.is_empty())
            .then(|| Box::new(Availability::new(&spec.availability, spec.availability_words)));
        let repeat = spec.expire_repeat.map(|interval| Repeat { interval, due: None });
        Self {
            spec: Settings {
                name: spec.name,
                fleet: None,
                is_vacant: false,
                records_states: !spec.state.is_empty(),
                restore_on_start: spec.restore_on_start,
            },
            filters,
            silence: Silence::new(terms, watched),
            episode: Episode::default(),
            rare: Rare::new(agent, repeat),
            since: wall.into(),
            availability,
            monitoring: Monitoring::new(spec.enabled),
            dirty: false,
            status_stale: false,
            recorded: false,
            alert_unit: spec.alert_unit,
            hellos: 0,
            tally: ContactTally::default(),
        }
    }

    /// The place of a device that was taken out: nothing is ever due for it.
    #[must_use]
    pub fn vacant(name: DeviceName) -> Self {
        let terms = Terms { timeout: None, auto: false, is_watched: false };
        Self {
            spec: Settings {
                name,
                fleet: None,
                is_vacant: true,
                records_states: false,
                restore_on_start: false,
            },
            filters: 0..0,
            silence: Silence::new(terms, Duration::ZERO),
            episode: Episode::default(),
            rare: Rare::default(),
            since: Duration::ZERO.into(),
            availability: None,
            monitoring: Monitoring::new(false),
            dirty: false,
            status_stale: false,
            recorded: false,
            alert_unit: None,
            hellos: 0,
            tally: ContactTally::default(),
        }
    }

    /// Whether this node monitors it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.monitoring.is_active()
    }

    /// The kind of silence that a contact would end now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if !self.is_enabled() {
            return self.standing_elsewhere();
        }
        if self.episode.is_open() { Standing::Alarmed } else { Standing::Quiet }
    }

    /// The same for a device that is not monitored here.
    fn standing_elsewhere(&self) -> Standing {
        if !self.monitoring.is_wanted() {
            Standing::Disabled
        } else if self.monitoring.is_said_down() {
            Standing::Alarmed
        } else {
            Standing::Quiet
        }
    }

    #[must_use]
    pub fn liveness(&self) -> Liveness {
        if !self.monitoring.is_wanted() {
            Liveness::Disabled
        } else if self.monitoring.is_elsewhere() {
            Liveness::Elsewhere
        } else if self.episode.is_open() {
            Liveness::Expired
        } else if self.silence.last_contact().is_some() {
            Liveness::Alive
        } else {
            Liveness::Unknown
        }
    }

    /// Whether it has reported that it is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.availability.as_ref().is_some_and(|availability| availability.is_gone())
    }

    /// Whether it has reported that it is present.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.availability.as_ref().is_some_and(|availability| availability.is_here())
    }

    /// Whether silence has a meaning: without watchTopics or with a timeout of 0 it has none. The
    /// device's own reports always have one.
    pub(super) fn can_expire(&self) -> bool {
        self.is_gone() || self.silence.has_timeout()
    }

    /// The watched time at which the silence becomes too long; `None` without watchTopics or a
    /// timeout, when disabled, and where the broker refused a filter.
    #[must_use]
    pub fn silence_deadline(&self) -> Option<Duration> {
        self.silence.deadline().filter(|_| self.is_enabled())
    }

    /// Takes over the values that hold whatever this run has found out meanwhile.
    pub fn restore_choices(&mut self, record: &DeviceRecord) {
        self.monitoring.choose(self.monitoring.choice().or(record.enabled));
        let has_spoken = self.silence.last_contact().is_some();
        if let Some(availability) = &mut self.availability {
            availability.resume(record, has_spoken);
        }
        self.silence.know(record);
        if let Some(agent) = self.rare.agent_mut() {
            agent.resume(record.invocation.as_deref(), record.restarts);
        }
    }

    /// Takes over the recent alarms of an earlier run, which ended at this watched time.
    pub fn resume_flaps(&mut self, record: &DeviceRecord, watched: Duration) {
        if let Some(flaps) = record.flaps.as_ref().filter(|_| self.is_enabled()) {
            self.rare.some_flaps().resume(flaps, watched);
        }
    }

    /// Takes over the contacts and the silence of an earlier run. `watched` is the watched time at
    /// which that run ended: a record cannot be more recent.
    pub fn restore(&mut self, record: &DeviceRecord, watched: Duration) {
        self.silence.resume(record, watched);
        // A device that has already expired in this run was reported and stays expired.
        match record.expired_since {
            Some(since) => {
                self.episode = Episode::resumed(since, record.cause, record.unsent);
                let spell = record.flaps.as_ref().and_then(|flaps| flaps.spell);
                if spell.is_some_and(|spell| spell.holds_alert) {
                    self.episode.move_to(AlertStage::Flapping);
                }
            }
            None => self.episode.put_down_to(record.cause),
        }
        if !self.can_expire() || !self.is_enabled() {
            self.episode = Episode::default();
        }
        if let Some(since) = self.episode.since().or(record.last_contact) {
            self.since = since.into();
        }
    }

    /// Continues from the device of the same name in the previous configuration, and returns its
    /// agent.
    pub fn inherit(&mut self, mut before: Device) -> Option<Box<Agent>> {
        let was_enabled = before.is_enabled();
        self.silence.inherit(&before.silence, was_enabled);
        if let (Some(availability), Some(before)) = (&mut self.availability, before.availability) {
            availability.inherit(*before);
        }
        self.monitoring.choose(before.monitoring.choice());
        self.recorded = before.recorded;
        self.hellos = before.hellos;
        self.tally = before.tally;
        if self.is_enabled() == was_enabled {
            let since = before.episode.since();
            if self.can_expire() {
                self.episode = before.episode;
            }
            self.rare.inherit(&mut before.rare);
            if self.episode.since() == since {
                self.since = before.since;
            }
        }
        before.rare.into_agent()
    }

    pub fn reason(&self) -> Option<Reason> {
        if !self.is_enabled() {
            return None;
        }
        if self.keeps_failing() {
            return Some(Reason::AgentFailed);
        }
        match self.episode.stage() {
            Some(AlertStage::Upstream | AlertStage::Returning) => Some(Reason::Upstream),
            _ if self.is_flapping() => Some(Reason::Flapping),
            None => None,
            Some(_) => Some(self.reason_of_silence()),
        }
    }

    /// The reason of its alarm by itself, whether or not it flaps.
    pub(super) fn reason_of_silence(&self) -> Reason {
        match self.episode.stage() {
            Some(AlertStage::Upstream | AlertStage::Returning) => Reason::Upstream,
            _ if self.is_gone() => Reason::LwtOffline,
            _ => self.episode.cause(),
        }
    }

    pub(super) fn keeps_failing(&self) -> bool {
        self.rare.agent().is_some_and(|agent| agent.keeps_failing())
    }

    /// The cause to which a silence noticed now is attributed.
    pub(super) fn cause_of_silence(&self) -> Reason {
        let lives = self.rare.agent().is_some_and(|agent| agent.is_running());
        if lives { Reason::AgentHung } else { Reason::Silent }
    }

    /// Waiting brings no further knowledge: it is expired, and nothing follows from that later.
    pub(super) fn is_settled(&self) -> bool {
        match self.episode.stage() {
            None => false,
            Some(AlertStage::Sent | AlertStage::Flapping) => !self.restarts_on_expire(),
            // It is checked when its alert is due.
            Some(AlertStage::Upstream | AlertStage::Held | AlertStage::Returning) => true,
        }
    }

    pub(super) fn restarts_on_expire(&self) -> bool {
        self.rare.agent().is_some_and(|agent| agent.spec().restart_on_expire)
    }

    /// The known state of an agent's process.
    pub(super) fn account(&self) -> Option<Account> {
        let exit = self.rare.agent()?.last_exit().map(str::to_owned);
        Some(Account { exit, ..Account::default() })
    }

    pub(super) fn is_flapping(&self) -> bool {
        self.rare.flaps().is_some_and(|flaps| flaps.is_flapping())
    }

    /// The timer on the monotonic clock for it to become stable.
    pub(super) fn stable_timer(&self, id: DeviceId) -> Option<(Duration, Timer)> {
        let look_at = self.rare.flaps()?.next_look()?;
        Some((look_at, Timer::Stable(id)))
    }

    /// The wall clock has stepped; returns whether a displayed time of the device has changed.
    pub(super) fn follow_clock(&mut self, step: ClockStep) -> bool {
        let since = step.follow(self.since.get()).into();
        let is_other = std::mem::replace(&mut self.since, since) != since;
        self.episode.follow_clock(step);
        if let Some(agent) = self.rare.agent_mut() {
            agent.follow_clock(step);
        }
        self.silence.follow_clock(step) || is_other
    }

    /// Moves its watched times when earlier runs become known.
    pub(super) fn carry_over(&mut self, earlier: Duration) {
        self.silence.carry_over(earlier);
        if let Some(flaps) = self.rare.flaps_mut() {
            flaps.carry_over(earlier);
        }
        if let Some(hold) = self.rare.hold_mut() {
            hold.carry_over(earlier);
        }
    }

    /// The part that the store keeps. `announced` is the prefix of its description for Home
    /// Assistant.
    #[must_use]
    pub fn record(&self, announced: Option<&str>) -> DeviceRecord {
        self.silence.record(DeviceRecord {
            expired_since: self.episode.since(),
            cause: self.episode.cause(),
            unsent: self.episode.is_unsent(),
            enabled: self.monitoring.choice(),
            // Stored elsewhere, because only a few have any.
            pause: None,
            unheard: Vec::new(),
            invocation: self
                .rare
                .agent()
                .and_then(|agent| agent.last_invocation())
                .map(str::to_owned),
            announced: announced.map(str::to_owned),
            offline: self.is_gone(),
            availability: self.availability.as_ref().map(|own| own.record()).unwrap_or_default(),
            flaps: self
                .rare
                .flaps()
                .and_then(|flaps| flaps.record(self.episode.stage() == Some(AlertStage::Flapping))),
            restarts: self.rare.agent().map_or(0, |agent| agent.restarts()),
            ..DeviceRecord::new(self.spec.name.clone())
        })
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::Device;

    #[test]
    fn a_device_takes_168_bytes() {
        // There may be a hundred thousand of them, so any growth must be intended. Its contacts are
        // counted in it, so that a message looks nothing up for that.
        assert_eq!(size_of::<Device>(), 168);
    }
}
