//! Round trips on the watch connection, before anybody is taken for silent.
//!
//! When a deadline has passed, one QoS 1 publication makes a round trip. Its acknowledgement comes
//! behind everything that the broker had sent before, so a contact that waits on the socket,
//! because the monitor or the broker was held up, is heard before the verdict.
//!
//! After a hold-up of the monitor itself a round trip has to show that the line stood meanwhile:
//! the broker may have dropped it, and devices talked to nobody.

use crate::model::device_id::DeviceId;
use crate::model::message::Token;
use std::time::Duration;

/// After this long without an acknowledgement, any other packet proves the line.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Something is always due within a second: after so long without a turn the monitor was held up.
const HELD_UP: Duration = Duration::from_secs(2);

/// What the next round trip is to show, and the one under way. All times are monotonic, but for
/// those at which alerts were due.
#[derive(Debug, Default)]
pub struct Probes {
    under_way: Option<Probe>,
    waiting: Suspects,
    doubt: Option<Doubt>,
}

/// Devices that a round trip decides on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Their deadlines have passed.
    pub overdue: Vec<DeviceId>,
    /// They are expired, and their alerts were due at these watched times.
    pub held: Vec<(Duration, DeviceId)>,
    /// They may be gone, and would have spoken by now if they were not.
    pub doubted: Vec<DeviceId>,
}

#[derive(Debug)]
struct Probe {
    token: Token,
    sent: Duration,
    suspects: Suspects,
}

/// The monitor was held up, and no round trip has shown yet that the line stood meanwhile.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    from: Duration,
    to: Duration,
}

/// What the answer to a round trip shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// None was under way, or the answer may have stood on the socket before contacts that wait
    /// there too: another round trip has to show it.
    Nothing,
    /// When it was sent, nothing of these devices was on its way.
    Silent { sent: Duration, suspects: Suspects },
}

/// What to think of a round trip that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// None is under way for that long.
    NotYet,
    /// The broker sends other packets, so it is alive all the same.
    AsGoodAsAnswered,
    /// It sends nothing, which is for the keep alive to find.
    WaitOn,
}

impl Probes {
    /// Notes a turn after this one before it; after a long time the monitor itself was held up:
    /// stopped, suspended, starved.
    pub fn note_turn(&mut self, before: Duration, now: Duration) {
        if now > before + HELD_UP {
            let from = self.doubt.map_or(before, |doubt| doubt.from);
            self.doubt = Some(Doubt { from, to: now });
        }
    }

    /// Puts a device to the test by the next round trip.
    pub fn suspect(&mut self, id: DeviceId) {
        self.waiting.overdue.push(id);
    }

    /// The same for one that is expired, whose alert was due then.
    pub fn suspect_held(&mut self, due: Duration, id: DeviceId) {
        self.waiting.held.push((due, id));
    }

    /// The same for one that may be gone.
    pub fn suspect_doubted(&mut self, id: DeviceId) {
        self.waiting.doubted.push(id);
    }

    /// Whether a round trip is to begin now: there is something that it could show, and none is
    /// under way.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let has_suspects = self.waiting != Suspects::default();
        (has_suspects || self.doubt.is_some()) && self.under_way.is_none()
    }

    /// A round trip begins.
    pub fn send(&mut self, now: Duration, token: Token) {
        let suspects = std::mem::take(&mut self.waiting);
        self.under_way = Some(Probe { token, sent: now, suspects });
    }

    #[must_use]
    pub fn is_answered_by(&self, token: Token) -> bool {
        self.under_way.as_ref().is_some_and(|probe| probe.token == token)
    }

    /// The round trip under way is at its end.
    pub fn answered(&mut self) -> Answer {
        let Some(Probe { sent, suspects, .. }) = self.under_way.take() else {
            return Answer::Nothing;
        };
        if self.doubt.is_some_and(|doubt| sent < doubt.to) {
            self.waiting.overdue.extend(suspects.overdue);
            self.waiting.held.extend(suspects.held);
            self.waiting.doubted.extend(suspects.doubted);
            return Answer::Nothing;
        }
        self.doubt = None;
        Answer::Silent { sent, suspects }
    }

    /// What to think of the one under way, when the broker was heard last at `last_heard`.
    #[must_use]
    pub fn judge(&self, now: Duration, last_heard: Duration) -> Overdue {
        match &self.under_way {
            Some(probe) if now >= probe.sent + PATIENCE => {
                if last_heard > probe.sent {
                    Overdue::AsGoodAsAnswered
                } else {
                    Overdue::WaitOn
                }
            }
            Some(_) | None => Overdue::NotYet,
        }
    }

    /// Until when it is known that the devices could be heard, on a connection that is lost now.
    #[must_use]
    pub fn sure_until(&self, now: Duration) -> Duration {
        self.doubt.map_or(now, |doubt| doubt.from)
    }

    /// Drops whoever is under suspicion.
    pub fn forget(&mut self) {
        self.under_way = None;
        self.waiting = Suspects::default();
    }

    /// The connection is lost or new: what was in doubt of the old one is settled.
    pub fn begin_anew(&mut self) {
        self.forget();
        self.doubt = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn overdue(id: usize) -> Suspects {
        Suspects { overdue: vec![DeviceId::at(id)], ..Suspects::default() }
    }

    #[test]
    fn one_round_trip_is_under_way_at_a_time_and_decides_on_whom_it_set_out_with() {
        let mut probes = Probes::default();
        assert!(!probes.is_wanted());
        probes.suspect(DeviceId::at(1));
        assert!(probes.is_wanted());
        probes.send(T(10), Token(7));
        probes.suspect(DeviceId::at(2));
        assert!(!probes.is_wanted() && probes.is_answered_by(Token(7)));
        assert_eq!(probes.answered(), Answer::Silent { sent: T(10), suspects: overdue(1) });
        assert!(probes.is_wanted(), "for the one that came later");
        assert_eq!(probes.answered(), Answer::Nothing);
    }

    #[test]
    fn after_a_hold_up_only_a_round_trip_that_began_later_shows_anything() {
        let mut probes = Probes::default();
        probes.suspect(DeviceId::at(1));
        probes.send(T(10), Token(1));
        probes.note_turn(T(10), T(12));
        assert_eq!(probes.sure_until(T(12)), T(12), "two seconds are no hold-up");
        probes.note_turn(T(12), T(20));
        assert_eq!((probes.answered(), probes.sure_until(T(20))), (Answer::Nothing, T(12)));
        probes.send(T(20), Token(2));
        assert_eq!(probes.answered(), Answer::Silent { sent: T(20), suspects: overdue(1) });
        assert_eq!(probes.sure_until(T(21)), T(21));
    }

    #[test]
    fn a_broker_that_sends_other_packets_need_not_answer() {
        let mut probes = Probes::default();
        assert_eq!(probes.judge(T(99), T(0)), Overdue::NotYet);
        probes.send(T(10), Token(1));
        assert_eq!(probes.judge(T(14), T(12)), Overdue::NotYet);
        assert_eq!(probes.judge(T(15), T(12)), Overdue::AsGoodAsAnswered);
        assert_eq!(probes.judge(T(15), T(9)), Overdue::WaitOn);
    }
}
