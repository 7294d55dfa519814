//! How long each device is silent between its contacts, and the `watchTimeOut` that follows.
//!
//! Twice as long silences share one of sixteen counters, which are halved when one is full, so that
//! they speak of late; the longest silence is known exactly, for four to eight weeks. That is 32
//! bytes a device, and a few instructions for a contact after a second of silence or more. What
//! comes within a second is one contact, as a device that sends five readings at once makes it.

use super::Monitor;
use super::action::Action;
use super::device::Device;
use super::event::Now;
use super::liveness::id_of;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `watchTimeOut = "auto"` until enough is learned: a day, and an hour for who speaks once a day.
pub const UNLEARNED: Duration = Duration::from_secs(25 * 3_600);

/// The bounds of what is learned.
pub const SHORTEST: Duration = Duration::from_secs(60);
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// So many times the longest silence makes the timeout.
pub const TIMES: u32 = 3;

/// Enough is learned with so many intervals, and after a whole day: many a device sleeps at night.
pub const FEWEST: u32 = 20;
const ENOUGH: Duration = Duration::from_secs(86_400);

/// The longest silence is remembered for the present turn and the one before, in seconds.
const TURN: u32 = 28 * 86_400;

/// A silence that raised an alarm counts as no more than so many timeouts: a device that was broken
/// for a week must not be waited for from then on, and one that was only slow is waited for longer.
const ALARMED: u32 = 2;

/// Spans that a person would write, in seconds.
const ROUND: [u64; 24] = [
    10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1_200, 1_800, 2_700, 3_600, 5_400, 7_200,
    10_800, 14_400, 21_600, 43_200, 86_400, 90_000,
];

/// The next span that a person would write; whole days above them, ten years at most.
#[must_use]
pub fn round(span: Duration) -> Duration {
    let next = ROUND.into_iter().map(Duration::from_secs).find(|round| *round >= span);
    let days = span.as_secs().div_ceil(86_400).min(3_650);
    next.unwrap_or(Duration::from_secs(days * 86_400))
}

/// The silences of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", from = "Stored")]
pub struct Rhythm {
    /// Silences of 1 s to 2 s, to 4 s, to 8 s, …; the last takes all from nine hours on.
    counts: [u8; 16],
    /// The longest in this turn and in the one before, in milliseconds.
    longest: u32,
    longest_before: u32,
    /// Watched time at which this turn began, in seconds from 1 on; 0 before the first silence.
    turn: u32,
    intervals: u32,
}

/// As the store keeps it, in few bytes.
type Stored = (u32, u32, u32, u32, [u8; 16]);

/// What was learned of a device, in the words of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    pub intervals: u32,
    /// Half of its silences are no longer, and of a hundred one is.
    pub usual: Duration,
    pub rare: Duration,
    pub longest: Duration,
    /// `None` before enough is learned.
    pub proposed: Option<Duration>,
}

impl Rhythm {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts a silence of a second or more that a contact has ended at this watched time.
    pub(super) fn note(&mut self, silence: Duration, watched: Duration) {
        let seconds = u32::try_from(silence.as_secs()).unwrap_or(u32::MAX).max(1);
        let now = u32::try_from(watched.as_secs()).unwrap_or(u32::MAX).max(1);
        if self.turn == 0 {
            self.turn = now;
        } else if now.saturating_sub(self.turn) > TURN {
            self.turn = now;
            self.longest_before = std::mem::take(&mut self.longest);
        }
        self.intervals = self.intervals.saturating_add(1);
        self.longest = self.longest.max(u32::try_from(silence.as_millis()).unwrap_or(u32::MAX));
        let at = (seconds.ilog2() as usize).min(self.counts.len() - 1);
        if self.counts[at] == u8::MAX {
            self.counts = self.counts.map(|count| count / 2);
        }
        self.counts[at] += 1;
    }

    /// The longest silence of the last weeks.
    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.max(self.longest_before).into())
    }

    /// The timeout that follows; `None` before enough is learned.
    #[must_use]
    pub fn timeout(&self, watched: Duration) -> Option<Duration> {
        let learning = watched.saturating_sub(Duration::from_secs(self.turn.into()));
        let is_enough = self.longest_before > 0 || learning >= ENOUGH;
        let enough = self.turn > 0 && self.intervals >= FEWEST && is_enough;
        enough.then(|| round(self.longest().saturating_mul(TIMES)).clamp(SHORTEST, LONGEST))
    }

    #[must_use]
    pub fn learned(&self, watched: Duration) -> Option<Learned> {
        (self.intervals > 0).then(|| Learned {
            intervals: self.intervals,
            usual: self.percentile(50),
            rare: self.percentile(99),
            longest: self.longest(),
            proposed: self.timeout(watched),
        })
    }

    /// The silence that so many of a hundred do not exceed: the upper end of its counter's range.
    fn percentile(&self, percent: u32) -> Duration {
        let all: u32 = self.counts.iter().copied().map(u32::from).sum();
        let wanted = (all * percent).div_ceil(100);
        let mut sum = 0;
        let at = self.counts.iter().position(|count| {
            sum += u32::from(*count);
            sum >= wanted
        });
        let end = at.map_or(u64::MAX, |at| 2 << at);
        Duration::from_secs(end).min(self.longest())
    }
}

impl From<Rhythm> for Stored {
    fn from(rhythm: Rhythm) -> Self {
        let Rhythm { counts, longest, longest_before, turn, intervals } = rhythm;
        (longest, longest_before, turn, intervals, counts)
    }
}

impl From<Stored> for Rhythm {
    fn from((longest, longest_before, turn, intervals, counts): Stored) -> Self {
        Self { counts, longest, longest_before, turn, intervals }
    }
}

impl Device {
    /// Learns from a silence that a contact ends now.
    pub(super) fn learn(&mut self, silence: Duration, watched: Duration) {
        if self.last_contact.is_none() || !self.is_enabled() || self.deaf {
            return;
        }
        let most = match (self.expired_since, self.spec.watch_timeout) {
            (Some(_), Some(timeout)) => timeout.saturating_mul(ALARMED),
            (_, _) => Duration::MAX,
        };
        self.rhythm.note(silence.min(most), watched);
    }

    /// Takes what was learned as its timeout, where the file says so; whether that is another one.
    /// A shorter one waits until the device speaks in time for it: nobody expires by being known
    /// better.
    fn adopt_timeout(&mut self, watched: Duration) -> bool {
        if !self.spec.auto_timeout {
            return false;
        }
        let before = self.spec.watch_timeout;
        let learned = self.rhythm.timeout(watched).unwrap_or(UNLEARNED);
        let is_late = watched.saturating_sub(self.silent_since) > learned / TIMES;
        if before.is_some_and(|before| learned < before) && is_late {
            return false;
        }
        self.spec.watch_timeout = Some(learned);
        before != self.spec.watch_timeout
    }
}

impl Monitor {
    /// Takes what was learned as the timeouts of those who are to have it so.
    pub(super) fn adopt_timeouts(&mut self, now: Now) -> Vec<usize> {
        let watched = self.clock.at(now.mono);
        let devices = self.devices.iter_mut().enumerate();
        let adopted =
            devices.filter_map(|(at, device)| device.adopt_timeout(watched).then_some(at));
        adopted.collect()
    }

    /// From time to time, while the monitor runs.
    pub(super) fn refresh_timeouts(&mut self, now: Now, out: &mut Vec<Action>) {
        let adopted = self.adopt_timeouts(now);
        if adopted.is_empty() {
            return;
        }
        // The table would look at the old time; one that is under suspicion is put into it again.
        self.disarm_all();
        self.arm_all();
        for at in adopted {
            out.push(self.status_publication(id_of(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn every(seconds: u64, times: u64) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for number in 1..=times {
            rhythm.note(secs(seconds), secs(seconds * number));
        }
        rhythm
    }

    #[test]
    fn percentiles_are_within_a_factor_of_two_and_the_longest_is_exact() {
        let mut rhythm = every(10, 1_000);
        for _ in 0..5 {
            rhythm.note(secs(100), secs(10_100));
        }
        rhythm.note(secs(3_000), secs(13_100));
        let learned = rhythm.learned(secs(13_100)).unwrap();
        assert_eq!((learned.usual, learned.longest), (secs(16), secs(3_000)));
        assert!(learned.rare <= secs(128) && learned.intervals == 1_006, "{learned:?}");
        assert_eq!(Rhythm::default().learned(secs(9)), None);
        let short = every(3, 30).learned(secs(90)).unwrap();
        assert_eq!(
            (short.usual, short.rare),
            (secs(3), secs(3)),
            "no percentile is above the longest"
        );
    }

    #[test]
    fn nothing_is_proposed_before_a_whole_day_and_twenty_intervals() {
        let rhythm = every(100, 500);
        assert_eq!(rhythm.timeout(secs(50_000)), None);
        assert_eq!(rhythm.timeout(secs(86_400 + 99)), None);
        assert_eq!(rhythm.timeout(secs(86_400 + 100)), Some(secs(300)));
        assert_eq!(every(10_000, 19).timeout(secs(190_000)), None);
        assert_eq!(every(10_000, 20).timeout(secs(200_000)), Some(secs(43_200)));
    }

    #[test]
    fn what_is_proposed_has_bounds() {
        assert_eq!(every(1, 100_000).timeout(secs(100_000)), Some(SHORTEST));
        assert_eq!(every(500_000, 30).timeout(secs(15_000_000)), Some(LONGEST));
    }

    #[test]
    fn an_outlier_is_forgotten_after_two_turns_at_the_latest() {
        let mut rhythm = every(100, 1_000);
        rhythm.note(secs(40_000), secs(140_000));
        let after = |rhythm: &mut Rhythm, day: u64| {
            let watched = secs(day * 86_400);
            rhythm.note(secs(100), watched);
            rhythm.timeout(watched)
        };
        assert_eq!(after(&mut rhythm, 20), Some(secs(172_800)));
        assert_eq!(after(&mut rhythm, 30), Some(secs(172_800)), "the turn before counts");
        assert_eq!(after(&mut rhythm, 59), Some(secs(300)));
    }

    #[test]
    fn it_takes_few_bytes_here_and_in_the_store() {
        assert_eq!(size_of::<Rhythm>(), 32);
        let rhythm = every(10, 1_000);
        let stored = serde_json::to_string(&rhythm).unwrap();
        assert!(stored.len() < 90, "{stored}");
        assert_eq!(serde_json::from_str::<Rhythm>(&stored).unwrap(), rhythm);
    }

    #[test]
    fn spans_are_rounded_up_and_stay_within_what_the_file_may_say() {
        for (span, rounded) in [
            (0, 10),
            (11, 15),
            (601, 900),
            (86_401, 90_000),
            (90_001, 172_800),
            (u64::MAX, 315_360_000),
        ] {
            assert_eq!(round(secs(span)), secs(rounded));
        }
    }
}
