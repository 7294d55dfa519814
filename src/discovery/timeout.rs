//! Proposes how long a device may be silent.
//!
//! The draft contains a number only where a description or a convention gives one. Some minutes of
//! listening say too little: a device that is in use at that moment seems to be heard all the time,
//! and one that reports every quarter of an hour is not heard at all.

use super::conventions::UsualSilence;
use super::role::TopicRole;
use super::traffic::Traffic;
use iotmonitor_core::machines::silence::rhythm;
use std::time::Duration;

/// A proposed `watchTimeOut`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The value `"auto"`, with the rhythm as far as it is known.
    Auto(HeardRhythm),
    /// A span that a description or a convention gives, and the reason.
    Lasts(Duration, &'static str),
    /// No timeout, because the silence means nothing, and the reason.
    Never(&'static str),
}

/// The part of a rhythm that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeardRhythm {
    /// The number of intervals that were heard, and the longest of them.
    Intervals {
        longest: Duration,
        intervals: u32,
    },
    TooLittle,
    /// Too little was heard, but the convention says that the device reports by itself.
    Expected(&'static str),
}

/// Other knowledge about when a device publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// It publishes again and again, as its convention says.
    ByItself(&'static str),
    /// It publishes whenever it wakes.
    WhenAwake,
    /// Nothing is known beyond what was heard.
    AsHeard,
}

/// The number of intervals below which a rhythm is not mentioned.
const FEWEST: u32 = 3;

/// Returns the proposal for a device with these signs of life.
pub fn timeout<'a>(
    contacts: impl Iterator<Item = (&'a Traffic, TopicRole)> + Clone,
    listened: Duration,
    convention: Option<UsualSilence>,
    described: Option<Duration>,
    by_itself: Speaks,
) -> Timeout {
    if let Some(described) = described {
        return Timeout::Lasts(rhythm::round(described), "Home Assistant waits that long");
    }
    match convention {
        Some(UsualSilence::Lasts(span, why)) => return Timeout::Lasts(span, why),
        Some(UsualSilence::MeansNothing(why)) => return Timeout::Never(why),
        None => {}
    }
    let makes_rhythm = |(traffic, role): (&Traffic, TopicRole)| match role {
        TopicRole::Telemetry => true,
        TopicRole::State => traffic.is_regular(listened),
        _ => false,
    };
    if by_itself == Speaks::AsHeard && !contacts.clone().any(makes_rhythm) {
        return Timeout::Never(
            "known by what happens and what is switched: its silence means nothing",
        );
    }
    // A message on any of its topics ends its silence. The longest silence of the device is
    // therefore at most the shortest among the longest gaps of its topics.
    let silences = contacts
        .filter(|contact| makes_rhythm(*contact) && contact.0.live > FEWEST)
        .map(|(traffic, _)| (traffic.longest_gap, traffic.live - 1));
    Timeout::Auto(match (silences.min(), by_itself) {
        (Some((longest, intervals)), _) => HeardRhythm::Intervals { longest, intervals },
        (None, Speaks::ByItself(why)) => HeardRhythm::Expected(why),
        (None, _) => HeardRhythm::TooLittle,
    })
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
            shortest_gap: s(seconds),
            ..Traffic::default()
        }
    }

    fn proposal(
        heard: &[(Traffic, TopicRole)],
        convention: Option<UsualSilence>,
        described: Option<u64>,
    ) -> Timeout {
        let contacts = heard.iter().map(|(traffic, role)| (traffic, *role));
        timeout(
            contacts,
            Duration::from_secs(120),
            convention,
            described.map(Duration::from_secs),
            Speaks::AsHeard,
        )
    }

    #[test]
    fn observed_silences_stand_in_the_comment_and_set_no_timeout() {
        let ten = HeardRhythm::Intervals { longest: Duration::from_secs(10), intervals: 11 };
        assert_eq!(
            proposal(&[(every(10, 120), TopicRole::Telemetry)], None, None),
            Timeout::Auto(ten)
        );
        let little = Timeout::Auto(HeardRhythm::TooLittle);
        assert_eq!(proposal(&[(every(50, 120), TopicRole::Telemetry)], None, None), little);
    }

    #[test]
    fn a_number_is_what_a_description_or_a_convention_says() {
        let hour = Duration::from_secs(3_600);
        let lasts = UsualSilence::Lasts(hour, "so");
        let heard = [(every(10, 120), TopicRole::Telemetry)];
        assert_eq!(proposal(&heard, Some(lasts), None), Timeout::Lasts(hour, "so"));
        assert!(
            matches!(proposal(&heard, Some(lasts), Some(900)), Timeout::Lasts(span, _) if span.as_secs() == 900)
        );
        assert_eq!(
            proposal(&heard, Some(UsualSilence::MeansNothing("x")), None),
            Timeout::Never("x")
        );
    }

    #[test]
    fn what_happens_and_what_is_switched_makes_no_rhythm() {
        assert!(matches!(
            proposal(&[(every(10, 120), TopicRole::Event)], None, None),
            Timeout::Never(_)
        ));
        assert!(matches!(
            proposal(&[(every(50, 120), TopicRole::State)], None, None),
            Timeout::Never(_)
        ));
        assert!(matches!(
            proposal(&[(every(10, 120), TopicRole::State)], None, None),
            Timeout::Auto(_)
        ));
        assert!(matches!(proposal(&[], None, None), Timeout::Never(_)));
        let switched = [(every(50, 120), TopicRole::State)];
        let contacts = switched.iter().map(|(traffic, role)| (traffic, *role));
        let by_itself = Speaks::ByItself("so");
        let timeout = timeout(contacts, Duration::from_secs(120), None, None, by_itself);
        assert_eq!(timeout, Timeout::Auto(HeardRhythm::Expected("so")));
    }
}
