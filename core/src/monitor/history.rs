//! Shows the machine of the past what a device is, and hands on what is to be recorded.

use crate::machines::history::{ObservedStanding, TALLY_INTERVAL};
use crate::model::action::Action;
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::history::{ContactTally, EpisodeKind, HistorySnapshot, RestartRecord, hour_of};
use crate::model::status::StatusWord;
use crate::model::time::{ClockStep, Now};
use crate::model::unit::UnitUsage;
use crate::model::view::Liveness;
use crate::monitor::device::Device;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

/// A machine that was suspended for more seconds than this has missed something.
const SUSPENDED: i64 = 10;

impl Monitor {
    /// Something about the device may have changed. While its own record is still to come, it may not
    /// be what it seems.
    pub(super) fn note_standing(&mut self, wall: Duration, id: DeviceId) {
        if !self.is_store_settled() {
            return;
        }
        let standing = standing_of(&self.devices[id], self.standby.word(id));
        self.history.observe(&self.devices[id].spec.name, &standing, wall);
    }

    /// The same for all devices, after a start or a reload; each change counts as of the time in
    /// this run at which the device's own state has changed.
    pub(super) fn note_all_standings(&mut self, wall: Duration) {
        for id in self.devices.ids() {
            let device = &self.devices[id];
            let at = device.since.get().max(self.wall_clock.started()).min(wall);
            let standing = standing_of(device, self.standby.word(id));
            self.history.observe(&device.spec.name, &standing, at);
        }
    }

    /// The records of earlier runs are known. They are not compared with devices whose own records
    /// have not been read yet.
    pub(super) fn history_opened(&mut self, turn: &mut Turn<'_>, snapshot: Box<HistorySnapshot>) {
        if self.history.is_known() {
            // The former records were put aside.
            let names = self.devices.iter().map(|device| &device.spec.name);
            self.history.begins_anew(names, turn.now.wall);
        } else {
            self.history_snapshot = Some(snapshot);
            self.begin_history(turn);
        }
        self.flush_history(turn);
    }

    /// The devices' records have been read, or cannot be read for now.
    pub(super) fn begin_history(&mut self, turn: &mut Turn<'_>) {
        if self.is_store_settled()
            && let Some(snapshot) = self.history_snapshot.take()
        {
            let wall = turn.now.wall;
            let names = self.devices.iter().map(|device| &device.spec.name);
            self.history.opened(*snapshot, names, wall);
            // Of what waited, only so much was kept.
            if self.clock.is_running() {
                self.history.watching(wall);
            } else {
                self.history.deaf(wall);
            }
        }
        if self.saving.is_store_read() {
            self.history.all_known(self.devices.iter().map(|device| &device.spec.name));
            self.note_all_standings(turn.now.wall);
        }
    }

    /// Whether the devices' records are known, or are known not to come for now.
    pub(super) fn is_store_settled(&self) -> bool {
        self.saving.is_store_read() || self.store_fails
    }

    pub(super) fn history_saved(&mut self, turn: &mut Turn<'_>) {
        self.history.saved();
        self.flush_history(turn);
    }

    /// The interval has passed in which contacts are counted.
    pub(super) fn history_due(&mut self, turn: &mut Turn<'_>) {
        // Shortly before the hour is over, so that it counts all that it should.
        let before = turn.now.wall.saturating_sub(TALLY_INTERVAL / 2);
        self.collect_tallies(before);
        self.history.interval_passed();
        self.await_tallies(turn.now);
        self.flush_history(turn);
    }

    /// Puts the end of the present interval of the wall clock on the timetable.
    pub(super) fn await_tallies(&mut self, now: Now) {
        let interval = TALLY_INTERVAL.as_secs();
        let left = interval - now.wall.as_secs() % interval;
        self.timers.push(now.mono + Duration::from_secs(left), Timer::History);
    }

    /// Collects what was counted since the last time, up to this one.
    fn collect_tallies(&mut self, wall: Duration) {
        if !self.history.takes_tallies() {
            return;
        }
        let hour = hour_of(wall);
        for device in self.devices.iter_mut().filter(|device| device.tally.contacts > 0) {
            let tally = std::mem::take(&mut device.tally);
            self.history.count(&device.spec.name, hour, tally, None);
        }
        for (agent, used) in self.usage.collect() {
            self.history.count(agent, hour, ContactTally::default(), Some(used));
        }
    }

    /// An agent's process has started, after an earlier one if that is a restart.
    pub(super) fn note_start(&mut self, turn: &Turn<'_>, id: DeviceId, is_restart: bool) {
        let device = &self.devices[id];
        let Some(agent) = device.rare.agent() else { return };
        let (name, time) = (&device.spec.name, turn.now.wall);
        let memory_peak = self.usage.started(name, agent.last_invocation().unwrap_or_default());
        if is_restart {
            let exit = agent.last_exit().map(str::to_owned);
            let restart = RestartRecord { agent: name.clone(), time, exit, memory_peak };
            self.history.restarted(restart);
        }
    }

    /// The counters of the agents' processes.
    pub(super) fn units_measured(&mut self, usages: &[UnitUsage]) {
        for usage in usages {
            if let Some(id) = self.devices.of_unit(&usage.unit) {
                self.usage.measured(&self.devices[id].spec.name, usage);
            }
        }
    }

    /// No device could be heard for this long, up to now.
    pub(super) fn note_missed(&mut self, turn: &mut Turn<'_>, kind: EpisodeKind, span: Duration) {
        let now = turn.now.wall;
        self.history.missed(kind, now.saturating_sub(span), now);
        self.flush_history(turn);
    }

    /// A suspended machine hears nothing, although its clocks go on.
    pub(super) fn note_suspension(&mut self, turn: &mut Turn<'_>, before: Now) {
        // This is on the way of each message, and whole seconds are enough.
        let passed = turn.now.boot.as_secs().wrapping_sub(before.boot.as_secs());
        let awake = turn.now.mono.as_secs().wrapping_sub(before.mono.as_secs());
        let suspended = passed.wrapping_sub(awake).cast_signed();
        if suspended > SUSPENDED {
            let suspended = Duration::from_secs(suspended.unsigned_abs());
            self.note_missed(turn, EpisodeKind::NotRunning, suspended);
        }
    }

    /// Contacts before a step of the clock belong to the hour that it showed then.
    pub(super) fn history_follows(&mut self, step: ClockStep) {
        self.collect_tallies(step.from);
        self.history.follow_clock(step);
    }

    /// Hands on what waits, one batch at a time.
    pub(super) fn flush_history(&mut self, turn: &mut Turn<'_>) {
        if let Some(batch) = self.history.next_batch(turn.now.wall) {
            turn.out.push(Action::SaveHistory(Box::new(batch)));
        }
    }

    /// Hands on everything, at the end of the run.
    pub(super) fn save_history(&mut self, turn: &mut Turn<'_>) {
        self.collect_tallies(turn.now.wall);
        if let Some(batch) = self.history.last_batch(turn.now.wall) {
            turn.out.push(Action::SaveHistory(Box::new(batch)));
        }
    }
}

/// The records were damaged.
pub(super) fn put_aside(turn: &mut Turn<'_>, path: &str, error: &str) {
    let message = format!(
        "the history was damaged ({error}); it was put aside as {path} and a new one was made: \
         uptime and incidents start afresh, and states are not affected"
    );
    turn.raise(AlertKind::HistoryPutAside, message);
}

/// The records were removed while the monitor runs, or replaced by others.
pub(super) fn replaced(turn: &mut Turn<'_>, path: &str) {
    let message = format!(
        "the history in {path} was removed or replaced while it was in use, or another file system \
         was mounted there; the monitor now uses what is there: uptime and incidents from before \
         are missing unless they are there as well, and states are not affected"
    );
    turn.raise(AlertKind::HistoryReplaced, message);
}

/// Of a device that another node has, its status says how it is.
fn standing_of(device: &Device, word: Option<&StatusWord>) -> ObservedStanding {
    if device.monitoring.is_elsewhere() {
        let is_disabled = !device.monitoring.is_wanted();
        let word = word.filter(|_| !is_disabled);
        let alarm = word.filter(|word| word.state == Liveness::Expired);
        return ObservedStanding {
            is_disabled,
            alarm: alarm.map(|word| (word.since, word.reason.unwrap_or(Reason::Silent))),
            is_failing: word.is_some_and(|word| word.reason == Some(Reason::AgentFailed)),
            last_contact: device.silence.last_contact(),
        };
    }
    let reason = device.episode.stage().map(|_| device.reason_of_silence());
    ObservedStanding {
        is_disabled: !device.is_enabled(),
        alarm: device.episode.since().zip(reason),
        is_failing: device.keeps_failing(),
        last_contact: device.silence.last_contact(),
    }
}
