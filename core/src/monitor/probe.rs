//! Finds the devices whose time is up, and makes a round trip to the broker before any of them
//! counts as silent (see [`crate::machines::probes`]).

use crate::machines::probes::{Answer, Overdue, PATIENCE};
use crate::model::device_id::DeviceId;
use crate::model::message::QoS;
use crate::model::time::ClockStep;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use bytes::Bytes;
use std::time::Duration;

/// An alarm is published and raised, its status is published, and clients receive two notices. A fleet
/// may fall silent at once, and a list that grows takes up to three times as much as it holds.
const ACTIONS_OF_AN_ALARM: usize = 5;

impl Monitor {
    /// Notes when the monitor itself was held up, and when the wall clock has stepped.
    pub(super) fn note_turn(&mut self, turn: &mut Turn<'_>) {
        let before = std::mem::replace(&mut self.last_turn, turn.now);
        if self.clock.is_running() {
            self.probes.note_turn(before.mono, turn.now.mono);
        }
        self.note_suspension(turn, before);
        if let Some(step) = self.wall_clock.turn(before, turn.now) {
            self.follow_clock(turn, step);
        }
    }

    /// The displayed times of this run move with the wall clock.
    fn follow_clock(&mut self, turn: &mut Turn<'_>, step: ClockStep) {
        self.history_follows(step);
        for id in self.devices.ids() {
            if self.devices[id].follow_clock(step) {
                self.save_soon(id);
                if self.clock.is_running() {
                    self.publish_status(turn, id);
                }
            }
        }
        self.flush_saves(turn);
    }

    /// Sends a probe unless one is in progress, if it has a purpose.
    pub(super) fn send_probe(&mut self, turn: &mut Turn<'_>) {
        if !self.probes.is_wanted() {
            return;
        }
        let token = self.new_token();
        self.probes.send(turn.now.mono, token);
        self.timers.push(turn.now.mono + PATIENCE, Timer::Probe);
        let below = format!("marker/{}/watch", self.connection_id);
        let (payload, qos) = (Bytes::new(), QoS::AtLeastOnce);
        turn.out.push(self.own_publication(&below, payload, qos, false, Some(token)));
    }

    pub(super) fn probe_succeeded(&mut self, turn: &mut Turn<'_>) {
        self.watch.heard(turn.now.mono);
        if let Answer::Silent { sent, suspects } = self.probes.answered() {
            let sent = self.clock.at(sent);
            turn.out.reserve(suspects.overdue.len() * ACTIONS_OF_AN_ALARM);
            for id in suspects.overdue {
                self.devices[id].silence.leave_table();
                if self.is_overdue(id, sent) {
                    self.expire_or_restart(turn, id);
                }
                self.arm(id);
            }
            for held in suspects.held {
                self.judge_held(turn, sent, held);
            }
            for id in suspects.doubted {
                self.believe_gone(turn, id);
            }
            self.send_probe(turn);
            self.flush_saves(turn);
        } else {
            self.send_probe(turn);
        }
    }

    pub(super) fn probe_overdue(&mut self, turn: &mut Turn<'_>) {
        match self.probes.judge(turn.now.mono, self.watch.last_heard()) {
            Overdue::NotYet => {}
            Overdue::AsGoodAsAnswered => self.probe_succeeded(turn),
            Overdue::WaitOn => self.timers.push(turn.now.mono + PATIENCE, Timer::Probe),
        }
    }

    /// Checks every device whose time has come, and adds those that seem too silent to the next
    /// probe.
    pub(super) fn silence_due(&mut self, turn: &mut Turn<'_>) {
        if !self.clock.is_running() {
            return;
        }
        let watched = turn.watched;
        while let Some((_, id)) = self.silence.pop_due(watched) {
            self.devices[id].silence.leave_table();
            if self.is_overdue(id, watched) {
                self.devices[id].silence.hold();
                self.probes.suspect(id);
            } else {
                self.arm(id);
            }
        }
        self.holds_due(watched);
        self.send_probe(turn);
    }

    /// Adds those whose alert is due to the next probe.
    pub(super) fn holds_due(&mut self, watched: Duration) {
        while let Some((due, id)) = self.holds.pop_due(watched) {
            let device = self.devices.get(id);
            if device.is_some_and(|device| device.waits_until() == Some(due)) {
                self.probes.suspect_held(due, id);
            }
        }
    }

    /// A round trip has shown that no message of it was in transit at a watched time.
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
            if let Some(hold) = self.devices[id].rare.hold_mut() {
                hold.put_off(end);
            }
            self.wait(id);
            return;
        }
        self.expire_or_restart(turn, id);
        self.arm(id);
    }

    /// The device has not spoken, as far as it could be heard; a round trip shows that no message
    /// of it is in transit.
    pub(super) fn doubt_due(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = self.devices.get(id);
        let Some(left) = device.and_then(|_| self.doubt_left(id)) else { return };
        if left.is_zero() && self.clock.is_running() {
            self.probes.suspect_doubted(id);
            self.send_probe(turn);
        } else {
            self.wait_in_doubt(id);
        }
    }
}
