//! Round trips on the watch connection, before anybody is taken for silent.
//!
//! When a deadline has passed, one QoS 1 publication makes a round trip. Its acknowledgement comes
//! behind everything that the broker had sent before, so a contact that waits on the socket,
//! because the monitor or the broker was held up, is heard before the verdict.
//!
//! After a hold-up of the monitor itself a round trip has to show that the line stood meanwhile:
//! the broker may have dropped it, and devices talked to nobody.

use crate::model::device_id::DeviceId;
use crate::model::message::{QoS, Token};
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use bytes::Bytes;
use std::time::Duration;

/// After this long without an acknowledgement, any other packet proves the line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something is always due within a second: after so long without a turn the monitor was held up.
const HELD_UP: Duration = Duration::from_secs(2);

/// What a round trip is to show.
#[derive(Debug, Default)]
pub struct Probes {
    under_way: Option<Probe>,
    /// Devices whose deadline has passed since the last one went out.
    suspects: Vec<DeviceId>,
    /// Devices whose alert is due that waited for another one, and when it was.
    held: Vec<(Duration, DeviceId)>,
    doubt: Option<Doubt>,
}

/// A round trip under way, and who is judged by it.
#[derive(Debug)]
struct Probe {
    token: Token,
    sent: Duration,
    suspects: Vec<DeviceId>,
    held: Vec<(Duration, DeviceId)>,
}

/// The monitor was held up, and no round trip has shown yet that the line stood meanwhile.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    from: Duration,
    to: Duration,
}

impl Probes {
    pub fn is_answered_by(&self, token: Token) -> bool {
        self.under_way.as_ref().is_some_and(|probe| probe.token == token)
    }

    /// Until when it is known that the devices could be heard, on a connection that is lost now.
    pub fn sure_until(&self, turn: &mut Turn<'_>) -> Duration {
        self.doubt.map_or(turn.now.mono, |doubt| doubt.from)
    }

    /// Puts a device to the test by the next round trip.
    pub fn suspect(&mut self, id: DeviceId) {
        self.suspects.push(id);
    }

    /// The same for one that is expired, whose alert was due then.
    pub fn suspect_held(&mut self, due: Duration, id: DeviceId) {
        self.held.push((due, id));
    }

    pub fn forget(&mut self) {
        self.under_way = None;
        self.suspects.clear();
        self.held.clear();
    }

    /// The connection is lost or new: what was in doubt of the old one is settled.
    pub fn begin_anew(&mut self) {
        self.forget();
        self.doubt = None;
    }
}

impl Monitor {
    /// Notes when the monitor itself was held up: stopped, suspended, starved.
    pub(super) fn note_turn(&mut self, turn: &mut Turn<'_>) {
        let before = std::mem::replace(&mut self.last_turn, turn.now).mono;
        if turn.now.mono > before + HELD_UP && self.clock.is_running() {
            let doubt = &mut self.watch.probes.doubt;
            let from = doubt.map_or(before, |doubt| doubt.from);
            *doubt = Some(Doubt { from, to: turn.now.mono });
        }
    }

    /// Sends one unless one is under way, if there is anything that it could show.
    pub(super) fn send_probe(&mut self, turn: &mut Turn<'_>) {
        let probes = &self.watch.probes;
        let suspected = !probes.suspects.is_empty() || !probes.held.is_empty();
        let wanted = suspected || probes.doubt.is_some();
        if !wanted || probes.under_way.is_some() {
            return;
        }
        let token = self.new_token();
        let suspects = std::mem::take(&mut self.watch.probes.suspects);
        let held = std::mem::take(&mut self.watch.probes.held);
        self.watch.probes.under_way = Some(Probe { token, sent: turn.now.mono, suspects, held });
        self.timers.push(turn.now.mono + PATIENCE, Timer::Probe);
        let below = format!("marker/{}/watch", self.client_id);
        turn.out.push(self.own_publication(
            &below,
            Bytes::new(),
            QoS::AtLeastOnce,
            false,
            Some(token),
        ));
    }

    pub(super) fn probe_succeeded(&mut self, turn: &mut Turn<'_>) {
        self.watch.last_heard = turn.now.mono;
        let probes = &mut self.watch.probes;
        let Some(probe) = probes.under_way.take() else { return };
        if probes.doubt.is_some_and(|doubt| probe.sent < doubt.to) {
            // Its answer may stand on the socket before contacts that wait there too.
            probes.suspects.extend(probe.suspects);
            probes.held.extend(probe.held);
            self.send_probe(turn);
            return;
        }
        probes.doubt = None;
        let sent = self.clock.at(probe.sent);
        for id in probe.suspects {
            self.devices[id].armed = false;
            if self.is_overdue(id, sent) {
                self.expire(turn, id);
            }
            self.arm(id);
        }
        for held in probe.held {
            self.judge_held(turn, sent, held);
        }
        self.send_probe(turn);
        self.flush_saves(turn);
    }

    /// A broker that answers no probe but sends other packets is alive all the same; one that
    /// sends nothing is for the keep alive to find.
    pub(super) fn probe_overdue(&mut self, turn: &mut Turn<'_>) {
        let Some(probe) = &self.watch.probes.under_way else { return };
        if turn.now.mono < probe.sent + PATIENCE {
            return;
        }
        if self.watch.last_heard > probe.sent {
            self.probe_succeeded(turn);
        } else {
            self.timers.push(turn.now.mono + PATIENCE, Timer::Probe);
        }
    }
}
