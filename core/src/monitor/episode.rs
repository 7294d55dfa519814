//! An alert is an episode with a reason, from the alarm to its end.
//!
//! An episode begins when a device falls silent or says that it is gone, or when an agent keeps
//! failing. What has happened is published at once, and repeated where the section asks for it; a
//! person gets one alert, and none where the silence is another device's (see [`super::upstream`]).

use super::device::Device;
use super::flapping::Flap;
use super::liveness::GRACE;
use crate::model::alert::{Account, AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::snapshot::DeviceRecord;
use crate::model::view::Liveness;
use crate::model::words::Span;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

/// Where an expired device stands with its alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Telling {
    /// It is out.
    #[default]
    Told,
    /// It waits for what becomes of a device that this one depends on.
    Held,
    /// There is none, for the silence is that of a device that this one depends on.
    Upstream,
    /// That one is back, and this one has a grace to follow.
    Returning,
    /// It was told once that the device flaps, and that is all.
    Flapping,
}

impl Telling {
    /// Where the alert of an earlier run's expiry was.
    #[must_use]
    pub fn of(record: &DeviceRecord) -> Self {
        if record.untold { Self::Upstream } else { Self::Told }
    }
}

impl Device {
    /// Why there is an alarm, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        if !self.is_enabled() {
            return None;
        }
        if self.keeps_failing() {
            return Some(Reason::AgentFailed);
        }
        let is_expired = self.liveness() == Liveness::Expired;
        match self.telling {
            Telling::Upstream | Telling::Returning if is_expired => Some(Reason::Upstream),
            _ if self.is_flapping() => Some(Reason::Flapping),
            _ if !is_expired => None,
            _ if self.is_gone() => Some(Reason::LwtOffline),
            _ => Some(self.cause),
        }
    }

    pub(super) fn keeps_failing(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.keeps_failing())
    }

    /// What a silence that is noticed now is put down to.
    fn cause_of_silence(&self) -> Reason {
        let lives = self.agent.as_ref().is_some_and(|agent| agent.is_running());
        if lives { Reason::AgentHung } else { Reason::Silent }
    }

    /// Nothing more to find out by waiting: it is expired, and nothing follows from that later.
    pub(super) fn is_settled(&self) -> bool {
        self.expired_since.is_some()
            && match self.telling {
                Telling::Told | Telling::Flapping => !self.restarts_on_expire(),
                // It is looked at when its alert is due.
                Telling::Upstream | Telling::Held | Telling::Returning => true,
            }
    }

    fn restarts_on_expire(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.spec.restart_on_expire)
    }

    /// What it has at least after it could not be heard.
    pub(super) fn grace(&self) -> Duration {
        self.spec.watch_timeout.map_or(GRACE, |timeout| timeout.min(GRACE))
    }

    /// What is known here of an agent's process.
    pub(super) fn account(&self) -> Option<Account> {
        let report = self.agent.as_ref()?.report.as_ref();
        let exit = report.and_then(|report| report.last_exit.clone());
        Some(Account { exit, ..Account::default() })
    }

    /// What its expiry is told with; `wall` is the present time.
    fn expired_sentence(&self, wall: Duration) -> String {
        let (noun, name) = (noun(self), &self.spec.name);
        let contact = match self.last_contact {
            Some(contact) => format!("last contact {} ago", Span(wall.saturating_sub(contact))),
            None => "no contact yet".to_owned(),
        };
        if self.is_gone() {
            return format!("{noun} `{name}` is gone, its availabilityTopic says: {contact}");
        }
        let timeout = Span(self.spec.watch_timeout.unwrap_or_default());
        let report = self.agent.as_ref().and_then(|agent| agent.report.as_ref());
        match report.map(|report| report.main_pid).filter(|_| self.cause == Reason::AgentHung) {
            Some(pid) => format!(
                "agent `{name}` hangs, its process (PID {pid}) lives and is silent: {contact}, \
                 watchTimeOut is {timeout}"
            ),
            None => format!("{noun} `{name}` is silent: {contact}, watchTimeOut is {timeout}"),
        }
    }
}

impl Monitor {
    /// The deadline has passed, or it said that it is gone; or what its alert waited for has.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        let device = &mut self.devices[id];
        if device.expired_since.is_none() {
            device.expired_since = Some(turn.now.wall);
            device.since = turn.now.wall;
            device.cause = device.cause_of_silence();
            self.expired_count += 1;
            self.judge_alert(watched, id);
            self.publish_expire(turn, id);
            self.tell_expired(turn, id);
            if self.devices[id].telling == Telling::Told {
                self.alarm(turn, id);
            }
            self.save_soon(id);
            self.schedule_repeat(turn, id);
            self.fell(turn, watched, id);
        } else {
            self.alert_due(turn, id);
        }
        let device = &mut self.devices[id];
        let is_silent = device.silence_deadline().is_none_or(|end| end <= watched);
        if device.restarts_on_expire() && device.telling != Telling::Upstream && is_silent {
            device.silent_since = watched;
            self.restart_agent(turn, id);
        }
    }

    /// The one alert of the episode, unless it is one of too many.
    pub(super) fn alarm(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        match self.note_flap(turn, id, "has fallen silent") {
            Flap::Single => self.tell_silence(turn, id),
            Flap::Begins | Flap::GoesOn => self.devices[id].telling = Telling::Flapping,
        }
    }

    pub(super) fn tell_silence(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.devices[id].telling = Telling::Told;
        let device = &self.devices[id];
        let (reason, mut message) = (device.reason(), device.expired_sentence(turn.now.wall));
        message.push_str(&self.dependents_clause(id));
        turn.out.push(self.episode_alert(id, AlertKind::Expired, reason, message));
    }

    /// The alert of one that expired before is due now, for the silence is its own.
    fn alert_due(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        let telling = self.devices[id].telling;
        match telling {
            Telling::Told | Telling::Upstream | Telling::Flapping => return,
            Telling::Held if self.is_held(watched, id) => return self.wait(id),
            Telling::Held | Telling::Returning => {}
        }
        let device = &mut self.devices[id];
        device.cause = device.cause_of_silence();
        self.alarm(turn, id);
        self.tell_state(turn, id);
        self.save_soon(id);
    }

    pub(super) fn recover(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].telling == Telling::Held {
            // It is heard again, so what it depends on is not down: the silence was its own.
            self.alarm(turn, id);
        }
        let device = &mut self.devices[id];
        let reason = device.reason();
        let told = std::mem::take(&mut device.telling) == Telling::Told && !device.is_flapping();
        let silent = device.expired_since.take();
        device.since = turn.now.wall;
        self.expired_count -= 1;
        let name = &device.spec.name;
        let how_long = silent
            .map(|since| format!(" after {} of alarm", Span(turn.now.wall.saturating_sub(since))))
            .unwrap_or_default();
        let mut message = format!("{} `{name}` is back{how_long}", noun(device));
        message.push_str(&self.followers_clause(id));
        turn.out.push(self.device_publication(
            "recover",
            id,
            turn.now.wall.as_secs().to_string(),
            false,
        ));
        self.tell_recovered(turn, id);
        if told {
            turn.out.push(self.episode_alert(id, AlertKind::Recovered, reason, message));
        }
        self.note_change(turn, id);
        self.save_soon(id);
        self.rose(turn, id);
        self.flush_saves(turn);
        self.arm(id);
    }

    fn publish_expire(&self, turn: &mut Turn<'_>, id: DeviceId) {
        let last_contact = self.devices[id].last_contact.unwrap_or_default();
        turn.out.push(self.device_publication(
            "expire",
            id,
            last_contact.as_secs().to_string(),
            false,
        ));
    }

    pub(super) fn expire_repeat_due(&mut self, turn: &mut Turn<'_>, due: Duration, id: DeviceId) {
        let Some(device) = self.devices.get(id) else { return };
        let is_due = device.repeat.as_ref().is_some_and(|repeat| repeat.due == Some(due));
        if !is_due || device.expired_since.is_none() {
            return;
        }
        if self.clock.is_running() {
            self.publish_expire(turn, id);
        }
        self.schedule_repeat(turn, id);
    }

    /// Puts the next repetition of `expire/NAME` on the timetable, if the device wants one.
    pub(super) fn schedule_repeat(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &mut self.devices[id];
        if device.expired_since.is_none() || !device.is_enabled() {
            return;
        }
        if let Some(repeat) = &mut device.repeat {
            let due = turn.now.mono + repeat.interval;
            repeat.due = Some(due);
            self.timers.push(due, Timer::ExpireRepeat(id));
        }
    }
}

pub(super) fn noun(device: &Device) -> &'static str {
    if device.agent.is_some() { "agent" } else { "device" }
}
