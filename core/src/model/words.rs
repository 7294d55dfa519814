//! Formats figures for sentences.

use std::fmt;
use std::time::Duration;

/// `1 state`, `3 states`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `3 devices and 1 agent`; agents only where there are any.
#[must_use]
pub fn devices_and_agents(devices: usize, agents: usize) -> String {
    if agents == 0 {
        counted(devices, "device")
    } else {
        format!("{} and {}", counted(devices, "device"), counted(agents, "agent"))
    }
}

/// A size in memory: `12.3 MiB`.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    const TENTH: u64 = 1024 * 1024 / 10;
    let tenths = bytes / TENTH;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// A duration to its two largest units: `4.2 s`, `42 s`, `3 min 5 s`, `2 h 30 min`, `3 d 4 h`; the
/// smaller one is left out where it is nothing.
#[derive(Debug, Clone, Copy)]
pub struct RoundedDuration(pub Duration);

impl fmt::Display for RoundedDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        let (large, small) = match (days, hours, minutes) {
            (0, 0, 0) if self.0.subsec_millis() >= 50 && seconds < 10 => {
                return write!(f, "{:.1} s", self.0.as_secs_f64());
            }
            (0, 0, 0) => return write!(f, "{seconds} s"),
            (0, 0, _) => ((minutes, "min"), (seconds % 60, "s")),
            (0, _, _) => ((hours, "h"), (minutes, "min")),
            (_, _, _) => ((days, "d"), (hours, "h")),
        };
        write!(f, "{} {}", large.0, large.1)?;
        if small.0 > 0 { write!(f, " {} {}", small.0, small.1) } else { Ok(()) }
    }
}

/// The time since an event, to its largest unit: `now`, `42 s ago`, `3 min ago`, `2 h ago`.
#[derive(Debug, Clone, Copy)]
pub struct Ago(pub Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => f.write_str("now"),
            seconds @ 1..60 => write!(f, "{seconds} s ago"),
            seconds @ 60..3_600 => write!(f, "{} min ago", seconds / 60),
            seconds @ 3_600..86_400 => write!(f, "{} h ago", seconds / 3_600),
            seconds => write!(f, "{} d ago", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_to_their_two_largest_units() {
        for (millis, said) in [
            (0, "0 s"),
            (4_210, "4.2 s"),
            (3_010, "3 s"),
            (42_900, "42 s"),
            (60_000, "1 min"),
            (185_000, "3 min 5 s"),
            (7_200_000, "2 h"),
            (9_000_000, "2 h 30 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(RoundedDuration(Duration::from_millis(millis)).to_string(), said);
        }
    }

    #[test]
    fn how_long_ago_is_said_to_the_largest_unit() {
        for (seconds, said) in [
            (0, "now"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (7_300, "2 h ago"),
            (200_000, "2 d ago"),
        ] {
            assert_eq!(Ago(Duration::from_secs(seconds)).to_string(), said);
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(devices_and_agents(1, 0), "1 device");
        assert_eq!(devices_and_agents(0, 1), "0 devices and 1 agent");
    }
}
