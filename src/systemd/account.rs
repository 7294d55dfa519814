//! Collects the useful details of a unit for an alert: its last lines in the journal, and its peak
//! memory.
//!
//! How the agent's process ended is part of the unit reports, not of this account.

use super::journal;
use super::usage::usages;
use crate::dbus::Bus;
use iotmonitor_core::model::alert::Account;
use iotmonitor_core::model::unit_name::UnitName;
use std::time::Duration;
use tokio::time::timeout;

/// The number of lines shown.
const LINES: usize = 10;

/// The number of characters shown of a line.
const LONGEST_LINE: usize = 300;

/// An alert waits for either no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time that journald may take to write what a process has just printed.
const JOURNAL_DELAY: Duration = Duration::from_millis(100);

/// Adds both to the alert's details; what is not available in time is left out.
pub async fn complete(bus: Bus, unit: &UnitName, known: Account) -> Account {
    let words = timeout(PATIENCE, last_words(bus, unit));
    let units = [unit.as_str()];
    let usage = timeout(PATIENCE, usages(bus, &units));
    let (words, usage) = tokio::join!(words, usage);
    let (lines, complaints) = words.ok().and_then(Result::ok).unwrap_or_default();
    let usage = usage.ok().and_then(Result::ok).and_then(|usages| usages.into_iter().next());
    Account { lines, complaints, memory_peak: usage.and_then(|usage| usage.memory_peak), ..known }
}

/// The unit's own output, or otherwise the complaints of the service manager.
async fn last_words(bus: Bus, unit: &UnitName) -> std::io::Result<(Vec<String>, Vec<String>)> {
    tokio::time::sleep(JOURNAL_DELAY).await;
    let (own, managers) = match bus {
        Bus::System => ("_SYSTEMD_UNIT", "UNIT"),
        Bus::User => ("_SYSTEMD_USER_UNIT", "USER_UNIT"),
    };
    let lines = readable(&last_lines(&[format!("{own}={unit}")]).await?);
    if !lines.is_empty() {
        return Ok((lines, Vec::new()));
    }
    // Errors and warnings (syslog(3)).
    let terms = [format!("{managers}={unit}"), "PRIORITY=3".to_owned(), "PRIORITY=4".to_owned()];
    Ok((lines, complaints(unit, &readable(&last_lines(&terms).await?))))
}

/// The last messages that match the terms of journalctl(1), one a line.
async fn last_lines(terms: &[String]) -> std::io::Result<Vec<u8>> {
    let count = format!("--lines={LINES}");
    journal::output(&["--output=cat", &count], terms).await
}

/// Messages that systemd logs for every failure, whatever its cause; how a process ended is known
/// without them.
const SAID_EACH_TIME: [&str; 5] = [
    "Main process exited",
    "Failed with result",
    "Failed to run 'start' task",
    "Start request repeated",
    "Failed to start",
];

/// The manager's messages without the usual ones and repetitions.
fn complaints(unit: &UnitName, lines: &[String]) -> Vec<String> {
    let mut complaints: Vec<String> = Vec::new();
    for line in lines {
        let text = line.strip_prefix(unit.as_str()).and_then(|rest| rest.strip_prefix(": "));
        let text = text.unwrap_or(line);
        let usual = SAID_EACH_TIME.iter().any(|usual| text.starts_with(usual));
        if !usual && !complaints.iter().any(|complaint| complaint == text) {
            complaints.push(text.to_owned());
        }
    }
    complaints
}

/// The last lines of any output.
fn readable(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    let last = lines.len().saturating_sub(LINES);
    lines[last..].iter().map(|line| shown(line)).collect()
}

fn shown(line: &[u8]) -> String {
    journal::shown(line, LONGEST_LINE, |character| character == '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_lines_are_shown() {
        let text: String = (0..20).map(|number| format!("line {number}\n\n")).collect();
        let lines = readable(text.as_bytes());
        assert_eq!((lines.len(), lines[0].as_str(), lines[9].as_str()), (10, "line 10", "line 19"));
        assert!(readable(b"").is_empty());
    }

    #[test]
    fn a_line_is_text_of_bounded_length() {
        let long = "ä".repeat(1_000);
        let lines = readable(format!("\x1b[2Jred\tgreen\t\r\n{long}\n").as_bytes());
        assert_eq!(lines[0], "\\x1b[2Jred\tgreen");
        assert_eq!(lines[1].chars().count(), LONGEST_LINE + 1);
        assert_eq!(
            readable(b"caf\xe9 \xff\xfeok \xe2\x82\n"),
            ["caf\\xe9 \\xff\\xfeok \\xe2\\x82"]
        );
        assert_eq!(shown("ä".repeat(LONGEST_LINE).as_bytes()).chars().count(), LONGEST_LINE);
    }

    #[test]
    fn of_the_managers_messages_the_cause_is_left() {
        let unit = UnitName::from_systemd("a.service");
        let lines = [
            "a.service: Failed to load environment files: No such file or directory",
            "a.service: Failed to run 'start' task: No such file or directory",
            "a.service: Failed with result 'resources'.",
            "a.service: Failed to load environment files: No such file or directory",
            "a.service: Start request repeated too quickly.",
            "Failed to start a.service - an agent.",
        ];
        let lines = lines.map(str::to_owned);
        let cause = "Failed to load environment files: No such file or directory";
        assert_eq!(complaints(&unit, &lines), [cause]);
    }
}
