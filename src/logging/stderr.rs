//! The format of an alert on stderr: a single line.

use crate::printable::escaped;
use iotmonitor_core::model::alert::Priority;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The needs of the reader of stderr.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub colour: bool,
    /// Whether lines begin with the time (UTC, RFC 3339).
    pub time: bool,
}

impl Style {
    /// The line with its line break. Control characters in the message, which could forge lines
    /// or move a terminal's cursor, are shown escaped.
    pub fn line(self, priority: Priority, message: &str) -> String {
        let mut line = String::new();
        if self.time {
            // This fails only if the clock is outside of the range of the format.
            let _ = SystemTime.format_time(&mut Writer::new(&mut line));
            line.push(' ');
        }
        let (word, colour) = match priority {
            Priority::Error => ("error", "\x1b[31m"),
            Priority::Warning => ("warning", "\x1b[33m"),
            Priority::Notice => ("notice", "\x1b[1m"),
            Priority::Info => ("info", ""),
        };
        if self.colour {
            line.push_str(&format!("{colour}{word}\x1b[0m: "));
        } else {
            line.push_str(&format!("{word}: "));
        }
        push_plain(&mut line, message);
        line
    }

    /// The same with further lines, which are indented.
    pub fn lines(
        self,
        priority: Priority,
        message: &str,
        rest: impl Iterator<Item = String>,
    ) -> String {
        let mut lines = self.line(priority, message);
        for line in rest {
            lines.push_str("    ");
            push_plain(&mut lines, &line);
        }
        lines
    }
}

fn push_plain(line: &mut String, text: &str) {
    line.push_str(&escaped(text));
    line.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, time: false };

    #[test]
    fn a_plain_line_is_priority_and_message() {
        assert_eq!(PLAIN.line(Priority::Warning, "esp04 is silent"), "warning: esp04 is silent\n");
    }

    #[test]
    fn colour_is_on_the_priority_only() {
        let line = Style { colour: true, ..PLAIN }.line(Priority::Error, "x");
        assert_eq!(line, "\x1b[31merror\x1b[0m: x\n");
    }

    #[test]
    fn the_time_comes_first() {
        let line = Style { time: true, ..PLAIN }.line(Priority::Info, "x");
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() >= "2026-11-23T22:04:31Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!(rest, "info: x\n");
    }

    #[test]
    fn what_belongs_to_a_line_is_indented_below_it() {
        let rest = ["one".to_owned(), "two\nthree".to_owned()];
        let text = PLAIN.lines(Priority::Error, "x", rest.into_iter());
        assert_eq!(text, "error: x\n    one\n    two\\nthree\n");
    }

    #[test]
    fn a_message_cannot_forge_a_second_line() {
        let line = PLAIN.line(Priority::Info, "a\nerror: b\x1b[2J");
        assert_eq!(line, "info: a\\nerror: b\\u{1b}[2J\n");
    }
}
