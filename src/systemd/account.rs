//! What is worth knowing of a unit that an alert is about: its last lines in the journal, and the most
//! memory that it took.
//!
//! journalctl reads the journal in a process of its own, which has a limit in time and in what is
//! taken of its output, so that a large or a damaged journal holds up nobody. What an agent prints is
//! its own affair, secrets included; it is passed on as it is, but for control characters.
//!
//! Deliberately absent: how its process ended, which the reports say.

use super::usage::usages;
use crate::dbus::Bus;
use iotmonitor_core::monitor::alert::Account;
use iotmonitor_core::unit_name::UnitName;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Lines that are shown.
const LINES: usize = 10;

/// Characters of a line that are shown.
const LONGEST_LINE: usize = 300;

/// Bytes that are read: ten lines of journald's LineMax= (journald.conf(5)), and more than that.
const MOST_BYTES: u64 = 1024 * 1024;

/// An alert waits no longer for either.
const PATIENCE: Duration = Duration::from_secs(2);

/// journald may take so long to write down what a process has just printed.
const JOURNAL_DELAY: Duration = Duration::from_millis(100);

/// Adds both to what is known; what cannot be had in time is left out.
pub async fn complete(bus: Bus, unit: &UnitName, known: Account) -> Account {
    let lines = timeout(PATIENCE, last_lines(bus, unit));
    let units = [unit.as_str()];
    let usage = timeout(PATIENCE, usages(bus, &units));
    let (lines, usage) = tokio::join!(lines, usage);
    let usage = usage.ok().and_then(Result::ok).and_then(|usages| usages.into_iter().next());
    Account {
        lines: lines.ok().and_then(Result::ok).unwrap_or_default(),
        memory_peak: usage.and_then(|usage| usage.memory_peak),
        ..known
    }
}

async fn last_lines(bus: Bus, unit: &UnitName) -> std::io::Result<Vec<String>> {
    tokio::time::sleep(JOURNAL_DELAY).await;
    let field = match bus {
        Bus::System => "_SYSTEMD_UNIT",
        Bus::User => "_SYSTEMD_USER_UNIT",
    };
    let mut journalctl = Command::new("/usr/bin/journalctl")
        .args(["--quiet", "--no-pager", "--output=cat"])
        .arg(format!("--lines={LINES}"))
        .arg(format!("{field}={unit}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut bytes = Vec::new();
    if let Some(output) = journalctl.stdout.take() {
        output.take(MOST_BYTES).read_to_end(&mut bytes).await?;
    }
    Ok(readable(&bytes))
}

/// The last lines of a text of any kind.
fn readable(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(LINES);
    lines[last..].iter().map(|line| shortened(line)).collect()
}

fn shortened(line: &str) -> String {
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut shown: String = line.trim_end().chars().take(LONGEST_LINE).map(plain).collect();
    if line.trim_end().chars().nth(LONGEST_LINE).is_some() {
        shown.push('…');
    }
    shown
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
        let lines = readable(format!("\x1b[2Jred\t\n{long}\n").as_bytes());
        assert_eq!(lines[0], "\u{fffd}[2Jred");
        assert_eq!(lines[1].chars().count(), LONGEST_LINE + 1);
        assert_eq!(readable(b"\xff\xfe"), ["\u{fffd}\u{fffd}"]);
    }
}
