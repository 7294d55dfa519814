//! Broker round trips on the watch connection, before a device counts as silent.
//!
//! When a deadline has passed, one QoS 1 publication makes a round trip. Its acknowledgement comes
//! after everything that the broker had sent before, so a contact that waits on the socket, because
//! the monitor or the broker was held up, is received before the verdict.
//!
//! After the monitor itself was held up, a round trip has to show that the connection lasted
//! meanwhile: the broker may have dropped it, and messages of devices were lost.

use crate::model::device_id::DeviceId;
use crate::model::message::Token;
use std::time::Duration;

/// After this long without an acknowledgement, any other packet proves the line.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Something is always due within a second: after this long without a turn the monitor was held up.
const HELD_UP: Duration = Duration::from_secs(2);

/// The purpose of the next round trip, and the one in progress. All times are monotonic, except
/// those at which alerts were due.
#[derive(Debug, Default)]
pub struct Probes {
    under_way: Option<Probe>,
    waiting: Suspects,
    doubt: Option<Doubt>,
}

/// Devices that a round trip decides about.
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

/// The monitor was held up, and no round trip has shown yet that the connection lasted meanwhile.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    from: Duration,
    to: Duration,
}

/// The meaning of a round trip's answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// None was in progress, or the answer may have waited on the socket before contacts that wait
    /// there too: another round trip has to show it.
    Nothing,
    /// When it was sent, nothing of these devices was on its way.
    Silent { sent: Duration, suspects: Suspects },
}

/// The meaning of a round trip that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// None is under way for that long.
    NotYet,
    /// The broker sends other packets, so it is alive all the same.
    AsGoodAsAnswered,
    /// It sends nothing, which the keep alive detects.
    WaitOn,
}

impl Probes {
    /// Notes a turn: a long time since the previous one means that the monitor itself was held up,
    /// stopped, suspended or starved.
    pub fn note_turn(&mut self, before: Duration, now: Duration) {
        if now > before + HELD_UP {
            let from = self.doubt.map_or(before, |doubt| doubt.from);
            self.doubt = Some(Doubt { from, to: now });
        }
    }

    /// Adds a device to the next round trip.
    pub fn suspect(&mut self, id: DeviceId) {
        self.waiting.overdue.push(id);
    }

    /// Adds an expired device, whose alert was due at this time.
    pub fn suspect_held(&mut self, due: Duration, id: DeviceId) {
        self.waiting.held.push((due, id));
    }

    /// Adds a device that may be gone.
    pub fn suspect_doubted(&mut self, id: DeviceId) {
        self.waiting.doubted.push(id);
    }

    /// Whether a round trip must begin now: it has a purpose, and none is in progress.
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

    /// The round trip in progress has ended.
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

    /// The verdict on the one in progress, when the broker was last heard at `last_heard`.
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

    /// The time until which the devices could certainly be heard, on a connection that is lost now.
    #[must_use]
    pub fn sure_until(&self, now: Duration) -> Duration {
        self.doubt.map_or(now, |doubt| doubt.from)
    }

    /// Drops all suspects.
    pub fn forget(&mut self) {
        self.under_way = None;
        self.waiting = Suspects::default();
    }

    /// The connection is lost or new: doubts about the old one are settled.
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
    fn one_round_trip_is_in_progress_at_a_time_and_decides_on_the_devices_it_began_with() {
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
        assert_eq!(probes.sure_until(T(12)), T(12), "two seconds are not a hold-up");
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
