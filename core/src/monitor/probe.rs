//! Has round trips made before anybody is taken for silent (see [`crate::machines::probes`]).

use super::turn::Turn;
use super::{Monitor, Timer};
use crate::machines::probes::{Answer, Overdue, PATIENCE};
use crate::model::message::QoS;
use bytes::Bytes;

impl Monitor {
    /// Notes when the monitor itself was held up.
    pub(super) fn note_turn(&mut self, turn: &mut Turn<'_>) {
        let before = std::mem::replace(&mut self.last_turn, turn.now).mono;
        if self.clock.is_running() {
            self.probes.note_turn(before, turn.now.mono);
        }
    }

    /// Sends one unless one is under way, if there is anything that it could show.
    pub(super) fn send_probe(&mut self, turn: &mut Turn<'_>) {
        if !self.probes.is_wanted() {
            return;
        }
        let token = self.new_token();
        self.probes.send(turn.now.mono, token);
        self.timers.push(turn.now.mono + PATIENCE, Timer::Probe);
        let below = format!("marker/{}/watch", self.client_id);
        let (payload, qos) = (Bytes::new(), QoS::AtLeastOnce);
        turn.out.push(self.own_publication(&below, payload, qos, false, Some(token)));
    }

    pub(super) fn probe_succeeded(&mut self, turn: &mut Turn<'_>) {
        self.watch.heard(turn.now.mono);
        if let Answer::Silent { sent, suspects } = self.probes.answered() {
            let sent = self.clock.at(sent);
            for id in suspects.overdue {
                self.devices[id].silence.leave_table();
                if self.is_overdue(id, sent) {
                    self.expire(turn, id);
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
}
