//! How figures are said in sentences for people.

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

/// A duration to its two largest units: `4.2 s`, `42 s`, `3 min 5 s`, `2 h 30 min`, `3 d 4 h`.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) if self.0.subsec_millis() >= 50 && seconds < 10 => {
                write!(f, "{:.1} s", self.0.as_secs_f64())
            }
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            (_, _, _) => write!(f, "{days} d {hours} h"),
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
            (185_000, "3 min 5 s"),
            (9_000_000, "2 h 30 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(Span(Duration::from_millis(millis)).to_string(), said);
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(devices_and_agents(1, 0), "1 device");
        assert_eq!(devices_and_agents(0, 1), "0 devices and 1 agent");
    }
}
