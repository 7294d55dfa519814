//! How long a device may be silent, from how long it was.

use super::conventions::Convention;
use super::traffic::Traffic;
use iotmonitor_core::machines::rhythm;
use std::time::Duration;

/// A proposed `watchTimeOut`, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    pub span: Duration,
    pub basis: Basis,
}

/// What a proposal rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Its own rhythm: so many times the longest silence in so many intervals.
    Learned { longest: Duration, intervals: u32, times: u32 },
    /// The convention's default settings, in words.
    Usual(&'static str),
    /// Home Assistant is told to wait so long.
    Told(Duration),
    /// Too little was heard.
    Unknown,
}

/// For a device of which nothing is known: it is reported on the day after.
const UNKNOWN: Duration = Duration::from_secs(25 * 3_600);

/// Nothing shorter is proposed: a busy broker or a weak radio is no alarm.
const SHORTEST: Duration = Duration::from_secs(10);

/// Fewer intervals are no rhythm.
const FEWEST: u32 = 3;

/// From so many on the longest silence is well known.
const MANY: u32 = 10;

/// A silence must fit so many times into the time of listening: who was silent for half of it is
/// heard by chance.
const FITS: u32 = 3;

/// The proposal for a device that spoke on these topics while somebody listened for so long.
///
/// A device's silence ends with a message on any of its topics, so its longest silence is at most
/// that of the topic whose longest is the shortest.
pub fn timeout<'a>(
    contacts: impl Iterator<Item = &'a Traffic>,
    listened: Duration,
    convention: Convention,
    told: Option<Duration>,
) -> Timeout {
    let silences = contacts.filter_map(|traffic| {
        let longest = traffic.longest_silence(listened)?;
        Some((longest, traffic.live - 1))
    });
    let steady =
        silences.filter(|(longest, intervals)| *intervals >= FEWEST && *longest * FITS <= listened);
    if let Some((longest, intervals)) = steady.min() {
        let times = if intervals >= MANY { 3 } else { 5 };
        let basis = Basis::Learned { longest, intervals, times };
        let span = rounded(longest * times);
        return match told.filter(|told| *told > span) {
            Some(told) => Timeout { span: rounded(told), basis: Basis::Told(told) },
            None => Timeout { span, basis },
        };
    }
    match (told, convention.usual_silence()) {
        (Some(told), _) => Timeout { span: rounded(told), basis: Basis::Told(told) },
        (None, Some((span, why))) => Timeout { span, basis: Basis::Usual(why) },
        (None, None) => Timeout { span: UNKNOWN, basis: Basis::Unknown },
    }
}

/// As a person would write it.
fn rounded(span: Duration) -> Duration {
    rhythm::round(span.max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(seconds: u64, listened: u64) -> Traffic {
        let s = Duration::from_secs;
        let live = u32::try_from(listened / seconds).unwrap();
        Traffic {
            live,
            first: s(seconds),
            last: s(u64::from(live) * seconds),
            longest_gap: s(seconds),
            ..Traffic::default()
        }
    }

    fn proposal(traffic: &[Traffic], listened: u64, told: Option<u64>) -> (u64, Basis) {
        let told = told.map(Duration::from_secs);
        let timeout =
            timeout(traffic.iter(), Duration::from_secs(listened), Convention::Shape, told);
        (timeout.span.as_secs(), timeout.basis)
    }

    #[test]
    fn a_steady_device_gets_a_multiple_of_its_longest_silence() {
        let ten = Duration::from_secs(10);
        let learned = |longest, intervals, times| Basis::Learned { longest, intervals, times };
        assert_eq!(proposal(&[every(10, 120)], 120, None), (30, learned(ten, 11, 3)));
        let (span, basis) = proposal(&[every(30, 120)], 120, None);
        assert_eq!((span, basis), (180, learned(Duration::from_secs(30), 3, 5)));
        assert_eq!(proposal(&[every(1, 120)], 120, None).0, 10);
        // The liveliest topic decides.
        assert_eq!(proposal(&[every(40, 120), every(10, 120)], 120, None).0, 30);
    }

    #[test]
    fn whoever_was_heard_by_chance_has_no_rhythm() {
        assert_eq!(proposal(&[every(50, 120)], 120, None), (90_000, Basis::Unknown));
        // A burst at the start, and then nothing.
        let burst = Traffic { live: 20, last: Duration::from_secs(5), ..Traffic::default() };
        assert_eq!(proposal(&[burst], 120, None).1, Basis::Unknown);
        assert_eq!(proposal(&[], 120, None).1, Basis::Unknown);
    }

    #[test]
    fn what_home_assistant_is_told_to_wait_is_waited_here_too() {
        assert_eq!(
            proposal(&[], 120, Some(3_600)),
            (3_600, Basis::Told(Duration::from_secs(3_600)))
        );
        assert_eq!(proposal(&[every(10, 120)], 120, Some(120)).0, 120);
        assert_eq!(proposal(&[every(10, 120)], 120, Some(20)).0, 30);
    }
}
