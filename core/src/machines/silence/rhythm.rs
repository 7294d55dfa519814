//! How long each device is silent between its contacts, and the `watchTimeOut` that follows.
//!
//! Silences are counted in sixteen counters, each of which covers twice the length of the previous
//! one. All are halved when one is full, so that they reflect recent behaviour; the longest silence
//! is known exactly, for four to eight weeks. That is 32 bytes a device, and a few instructions for
//! a contact after a second of silence or more. Messages within a second are one contact, such as
//! five readings that a device sends at once.

use crate::model::snapshot::RhythmRecord;
use crate::model::view::Learned;
use std::time::Duration;

/// The `watchTimeOut = "auto"` before enough is learned: a day, and an hour for devices that speak
/// once a day.
pub const UNLEARNED: Duration = Duration::from_secs(25 * 3_600);

/// The bounds of the learned timeout.
pub const SHORTEST: Duration = Duration::from_secs(60);
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// The timeout is this multiple of the longest silence.
pub const TIMES: u32 = 3;

/// Enough is learned after this many intervals, and after a whole day, because many devices sleep
/// at night.
pub const FEWEST: u32 = 20;
const ENOUGH: Duration = Duration::from_secs(86_400);

/// A device that speaks regularly is followed after this many intervals and this much time already.
/// Its timeout is then at least this bound: three times the longest interval in which firmwares
/// report by default (Tasmota's `TelePeriod` of 300 s), whatever else was received meanwhile.
pub const FEWEST_REGULAR: u32 = 30;
const ENOUGH_REGULAR: Duration = Duration::from_secs(3_600);
pub const SHORTEST_EARLY: Duration = Duration::from_secs(900);

/// The longest silence is remembered for the present period and the previous one, in seconds.
const TURN: u32 = 28 * 86_400;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rhythm(RhythmRecord);

impl Rhythm {
    /// Continues from an earlier run.
    #[must_use]
    pub fn restored(record: RhythmRecord) -> Self {
        Self(record)
    }

    /// The part that the store keeps.
    #[must_use]
    pub fn record(&self) -> RhythmRecord {
        self.0
    }

    /// Counts a silence of a second or more that a contact has ended at this watched time.
    pub fn note(&mut self, silence: Duration, watched: Duration) {
        let seconds = u32::try_from(silence.as_secs()).unwrap_or(u32::MAX).max(1);
        let now = u32::try_from(watched.as_secs()).unwrap_or(u32::MAX).max(1);
        if self.0.turn == 0 {
            self.0.turn = now;
        } else if now.saturating_sub(self.0.turn) > TURN {
            self.0.turn = now;
            self.0.longest_before = std::mem::take(&mut self.0.longest);
        }
        self.0.intervals = self.0.intervals.saturating_add(1);
        self.0.longest = self.0.longest.max(u32::try_from(silence.as_millis()).unwrap_or(u32::MAX));
        let at = (seconds.ilog2() as usize).min(self.0.counts.len() - 1);
        if self.0.counts[at] == u8::MAX {
            self.0.counts = self.0.counts.map(|count| count / 2);
        }
        self.0.counts[at] += 1;
    }

    /// The longest silence of the last weeks.
    fn longest(&self) -> Duration {
        Duration::from_millis(self.0.longest.max(self.0.longest_before).into())
    }

    /// The timeout that follows; `None` before enough is learned.
    #[must_use]
    pub fn timeout(&self, watched: Duration) -> Option<Duration> {
        let learning = watched.saturating_sub(Duration::from_secs(self.0.turn.into()));
        let is_enough = self.0.longest_before > 0 || learning >= ENOUGH;
        let enough = self.0.turn > 0 && self.0.intervals >= FEWEST && is_enough;
        enough.then(|| round(self.longest().saturating_mul(TIMES)).clamp(SHORTEST, LONGEST))
    }

    /// The timeout that follows before a whole day is known, for a device that speaks regularly.
    #[must_use]
    pub fn early_timeout(&self, watched: Duration) -> Option<Duration> {
        let learning = watched.saturating_sub(Duration::from_secs(self.0.turn.into()));
        let is_enough = self.0.turn > 0
            && self.0.intervals >= FEWEST_REGULAR
            && learning >= ENOUGH_REGULAR
            && self.is_regular();
        is_enough
            .then(|| round(self.longest().saturating_mul(TIMES)).clamp(SHORTEST_EARLY, UNLEARNED))
    }

    /// Whether nearly all silences are about as long as the usual one, and none is much longer.
    /// Random events, such as the opening of a door, have silences of all lengths.
    fn is_regular(&self) -> bool {
        let counts = self.0.counts.map(u32::from);
        let all: u32 = counts.iter().sum();
        let usual = self.counter_of(50);
        let about: u32 = counts[usual.saturating_sub(1)..].iter().take(3).sum();
        let usual_end = Duration::from_secs(2 << usual);
        about * 20 >= all * 19 && self.longest() <= usual_end * 2
    }

    #[must_use]
    pub fn learned(&self, watched: Duration) -> Option<Learned> {
        (self.0.intervals > 0).then(|| Learned {
            intervals: self.0.intervals,
            usual: self.percentile(50),
            rare: self.percentile(99),
            longest: self.longest(),
            proposed: self.timeout(watched),
        })
    }

    /// The silence that this percentage does not exceed: the upper end of its counter's range.
    fn percentile(&self, percent: u32) -> Duration {
        Duration::from_secs(2 << self.counter_of(percent)).min(self.longest())
    }

    /// The counter with the silence that this percentage does not exceed.
    fn counter_of(&self, percent: u32) -> usize {
        let all: u32 = self.0.counts.iter().copied().map(u32::from).sum();
        let wanted = (all * percent).div_ceil(100);
        let mut sum = 0;
        let at = self.0.counts.iter().position(|count| {
            sum += u32::from(*count);
            sum >= wanted
        });
        at.unwrap_or(self.0.counts.len() - 1)
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
    fn a_device_that_speaks_regularly_is_followed_after_an_hour() {
        let hour = 3_600;
        assert_eq!(every(10, 360).early_timeout(secs(hour)), None, "an hour after the first");
        assert_eq!(every(10, 361).early_timeout(secs(hour + 10)), Some(SHORTEST_EARLY));
        assert_eq!(every(300, 29).early_timeout(secs(29 * 300)), None);
        assert_eq!(every(300, 30).early_timeout(secs(30 * 300)), Some(secs(900)));
        assert_eq!(every(1_800, 30).early_timeout(secs(30 * 1_800)), Some(secs(5_400)));
        // A message that was lost on the way changes nothing, and a reading that comes early neither.
        let mut rhythm = every(60, 70);
        rhythm.note(secs(120), secs(70 * 60 + 120));
        rhythm.note(secs(35), secs(70 * 60 + 155));
        assert_eq!(rhythm.early_timeout(secs(4_400)), Some(SHORTEST_EARLY));
        assert_eq!(rhythm.timeout(secs(4_400)), None, "and what is proposed waits for the day");
        assert_eq!(Rhythm::default().early_timeout(secs(hour)), None);
    }

    #[test]
    fn what_happens_by_chance_is_not_followed_early() {
        // Silences of all lengths, and regular ones with a long one among them.
        let mut by_chance = Rhythm::default();
        let mut at = 0;
        for number in 0..200 {
            let silence = [4, 11, 23, 40, 61, 90, 130, 200][number % 8];
            at += silence;
            by_chance.note(secs(silence), secs(at));
        }
        assert_eq!(by_chance.early_timeout(secs(at)), None);
        let mut interrupted = every(10, 1_000);
        interrupted.note(secs(120), secs(10_120));
        assert_eq!(interrupted.early_timeout(secs(10_120)), None);
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
        let stored = serde_json::to_string(&rhythm.record()).unwrap();
        assert!(stored.len() < 90, "{stored}");
        assert_eq!(Rhythm::restored(serde_json::from_str(&stored).unwrap()), rhythm);
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
