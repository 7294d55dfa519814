//! A device that comes and goes, or an agent whose process ends again and again: one alert, and then
//! none until it has been stable for a while.
//!
//! Only alerts are held back. What happens is published as it happens, and the status says so.
//!
//! Deliberately absent: what outlives the process. After a restart of the monitor one that still
//! flaps has to show it anew.

use super::device::Device;
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::words::{Span, counted};
use crate::monitor::episode::Telling;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer, episode};
use std::collections::VecDeque;
use std::time::Duration;

/// So many alarms, or unforeseen ends of a process, within [`WINDOW`] are flapping.
const MANY: usize = 5;
const WINDOW: Duration = Duration::from_secs(30 * 60);

/// Without a change for so long it is stable again.
const STABLE: Duration = Duration::from_secs(15 * 60);

/// What is known of one that was alarmed lately. All times are watched time, so that an outage of the
/// broker does not count as stability.
#[derive(Debug, Clone, Default)]
pub struct Flaps {
    /// The latest alarms, [`MANY`] at most.
    alarms: VecDeque<Duration>,
    spell: Option<Spell>,
}

/// From the one alert on.
#[derive(Debug, Clone)]
struct Spell {
    begun: Duration,
    count: usize,
    last_change: Duration,
    /// Monotonic time at which to look whether it is over.
    look_at: Duration,
}

/// What an alarm is within the row of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flap {
    Single,
    /// It is the one that makes it flapping.
    Begins,
    GoesOn,
}

impl Flaps {
    fn note(&mut self, watched: Duration) -> Flap {
        if let Some(spell) = &mut self.spell {
            spell.count += 1;
            spell.last_change = watched;
            return Flap::GoesOn;
        }
        self.alarms.push_back(watched);
        while self.alarms.front().is_some_and(|first| *first + WINDOW < watched) {
            self.alarms.pop_front();
        }
        if self.alarms.len() < MANY {
            return Flap::Single;
        }
        let begun = self.alarms.pop_front().unwrap_or(watched);
        self.alarms.clear();
        let (last_change, look_at) = (watched, Duration::ZERO);
        self.spell = Some(Spell { begun, count: MANY, last_change, look_at });
        Flap::Begins
    }

    pub(super) fn carry_over(&mut self, earlier: Duration) {
        self.alarms.iter_mut().for_each(|alarm| *alarm += earlier);
        if let Some(spell) = &mut self.spell {
            spell.begun += earlier;
            spell.last_change += earlier;
        }
    }
}

impl Device {
    pub(super) fn is_flapping(&self) -> bool {
        self.flaps.as_ref().is_some_and(|flaps| flaps.spell.is_some())
    }

    /// What waits on the monotonic clock for it to be stable.
    pub(super) fn stable_timer(&self, id: DeviceId) -> Option<(Duration, Timer)> {
        let spell = self.flaps.as_ref()?.spell.as_ref()?;
        Some((spell.look_at, Timer::Stable(id)))
    }

    /// A sentence on how often it was alarmed; `what` has happened to it.
    fn flapping_sentence(&self, what: &str, watched: Duration) -> String {
        let spell = self.flaps.as_ref().and_then(|flaps| flaps.spell.as_ref());
        let (count, time) =
            spell.map_or((MANY, WINDOW), |spell| (spell.count, watched - spell.begun));
        let times = counted(count, "time");
        format!("{} `{}` {what} {times} within {}", episode::noun(self), self.spec.name, Span(time))
    }
}

impl Monitor {
    /// Notes an alarm, and tells the one that begins a spell; `what` has happened, in words.
    pub(super) fn note_flap(&mut self, turn: &mut Turn<'_>, id: DeviceId, what: &str) -> Flap {
        let watched = turn.watched;
        let flap = self.devices[id].flaps.get_or_insert_default().note(watched);
        if flap == Flap::Begins {
            self.look_for_stability(turn.now.mono + STABLE, id);
            let sentence = self.devices[id].flapping_sentence(what, watched);
            let message = format!(
                "{sentence}: no more is told of that before it has been stable for {}",
                Span(STABLE)
            );
            let reason = Some(Reason::Flapping);
            turn.out.push(self.episode_alert(id, AlertKind::Flapping, reason, message));
            self.tell_state(turn, id);
        }
        flap
    }

    /// It changes within a spell, in whichever direction.
    pub(super) fn note_change(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        let flaps = self.devices[id].flaps.as_mut();
        if let Some(spell) = flaps.and_then(|flaps| flaps.spell.as_mut()) {
            spell.last_change = watched;
        }
    }

    fn look_for_stability(&mut self, due: Duration, id: DeviceId) {
        let flaps = self.devices[id].flaps.as_mut();
        if let Some(spell) = flaps.and_then(|flaps| flaps.spell.as_mut()) {
            spell.look_at = due;
            self.timers.push(due, Timer::Stable(id));
        }
    }

    pub(super) fn stable_due(&mut self, turn: &mut Turn<'_>, due: Duration, id: DeviceId) {
        let watched = turn.watched;
        let Some(device) = self.devices.get(id) else { return };
        let Some(spell) = device.flaps.as_ref().and_then(|flaps| flaps.spell.as_ref()) else {
            return;
        };
        if spell.look_at != due {
            return;
        }
        let stable_at = spell.last_change + STABLE;
        let waits = match device.telling {
            Telling::Held | Telling::Upstream | Telling::Returning => {
                device.expired_since.is_some()
            }
            Telling::Told | Telling::Flapping => false,
        };
        if stable_at > watched {
            self.look_for_stability(turn.now.mono + (stable_at - watched), id);
        } else if waits {
            // What it is will show when the other device is back.
            self.look_for_stability(turn.now.mono + STABLE, id);
        } else {
            self.stable_again(turn, watched, id);
        }
    }

    fn stable_again(&mut self, turn: &mut Turn<'_>, watched: Duration, id: DeviceId) {
        let device = &mut self.devices[id];
        let sentence = device.flapping_sentence("is stable again, after it was alarmed", watched);
        device.flaps = None;
        if device.expired_since.is_none() {
            let reason = Some(Reason::Flapping);
            turn.out.push(self.episode_alert(id, AlertKind::Recovered, reason, sentence));
        } else if device.telling == Telling::Flapping {
            self.tell_silence(turn, id);
        }
        self.tell_state(turn, id);
        self.save_soon(id);
    }
}
