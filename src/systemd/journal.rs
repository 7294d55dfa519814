//! Reads the journal.
//!
//! journalctl does it in a separate process, with a limit on its time and on the output that is
//! read, so a large or damaged journal delays nothing else. What agents print may contain secrets;
//! it is passed on unchanged, except for characters that have another effect than to be seen.

use crate::dbus::Bus;
use crate::printable::is_printable;
use crate::request::JournalEntry;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::unit_name::UnitName;
use serde::Deserialize;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The number of bytes read: more than ten lines of journald's LineMax= (journald.conf(5)).
const MOST_BYTES: u64 = 1024 * 1024;

/// The time for the last entries, that of waiting for another reader included.
const PATIENCE: Duration = Duration::from_secs(8);

/// The number of characters shown of a message.
const LONGEST_MESSAGE: usize = 2_000;

/// Reads for people, one at a time.
#[derive(Debug)]
pub struct JournalReader(Semaphore);

impl Default for JournalReader {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl JournalReader {
    /// The last entries about a device or agent, oldest first.
    ///
    /// # Errors
    /// Returns a sentence about the reason.
    pub async fn last(
        &self,
        bus: Bus,
        name: &DeviceName,
        unit: Option<&UnitName>,
        lines: u16,
    ) -> Result<Vec<JournalEntry>, String> {
        let reading = async {
            let _turn = self.0.acquire().await;
            // The newest come first, so that the limit on the output cuts off the oldest.
            let count = format!("--lines={lines}");
            let options =
                ["--output=json", "--output-fields=MESSAGE,PRIORITY", "--reverse", &count];
            let terms = terms_about(bus, name, unit);
            output(&options, &terms).await
        };
        match timeout(PATIENCE, reading).await {
            Ok(Ok(bytes)) => Ok(entries(&bytes)),
            Ok(Err(error)) => Err(format!("the journal cannot be read: {error}")),
            Err(_elapsed) => {
                let seconds = PATIENCE.as_secs();
                Err(format!("the journal could not be read within {seconds} s: try again later"))
            }
        }
    }
}

/// Terms of journalctl(1): the alerts about a device, and for an agent its own entries and
/// systemd's about its unit.
#[must_use]
pub fn terms_about(bus: Bus, name: &DeviceName, unit: Option<&UnitName>) -> Vec<String> {
    let mut terms = vec![format!("IOTMONITOR_DEVICE={name}")];
    let user = match bus {
        Bus::System => None,
        Bus::User => Some(format!("_UID={}", nix::unistd::getuid())),
    };
    terms.extend(user.clone());
    let Some(unit) = unit else { return terms };
    let (own, manager, witness) = match bus {
        Bus::System => ("_SYSTEMD_UNIT", "UNIT", Some("_PID=1".to_owned())),
        Bus::User => ("_SYSTEMD_USER_UNIT", "USER_UNIT", user.clone()),
    };
    terms.extend(["+".to_owned(), format!("{own}={unit}")]);
    terms.extend(user);
    terms.extend(["+".to_owned(), format!("{manager}={unit}")]);
    terms.extend(witness);
    terms
}

/// What journalctl prints with these options and terms, up to the limit.
pub(super) async fn output(options: &[&str], terms: &[String]) -> std::io::Result<Vec<u8>> {
    let mut journalctl = Command::new("/usr/bin/journalctl")
        .args(["--quiet", "--no-pager"])
        .args(options)
        .args(terms)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut bytes = Vec::new();
    if let Some(output) = journalctl.stdout.take() {
        output.take(MOST_BYTES).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The fields of an entry (systemd.journal-fields(7)), as journalctl writes them: a value that is
/// not a string of text is a list of bytes, and one that is too long is null.
#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    micros: String,
    #[serde(rename = "PRIORITY", default)]
    priority: Value,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

/// The entries of an output that may be cut off, oldest first.
fn entries(output: &[u8]) -> Vec<JournalEntry> {
    let lines = output.split(|&byte| byte == b'\n');
    let mut entries: Vec<_> = lines.filter_map(entry).collect();
    entries.reverse();
    entries
}

fn entry(line: &[u8]) -> Option<JournalEntry> {
    /// What has none was printed by a process.
    const INFO: u8 = 6;
    let fields: Fields = serde_json::from_slice(line).ok()?;
    let priority = fields.priority.as_str().and_then(|it| it.parse().ok());
    let message = match fields.message {
        Value::String(text) => text.into_bytes(),
        Value::Array(bytes) => {
            let bytes = bytes.iter().map(|byte| byte.as_u64().and_then(|it| it.try_into().ok()));
            bytes.collect::<Option<Vec<u8>>>()?
        }
        Value::Null => b"(a message that is too long to be shown)".to_vec(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    Some(JournalEntry {
        time: Duration::from_micros(fields.micros.parse().ok()?),
        priority: priority.filter(|level| *level <= 7).unwrap_or(INFO),
        message: shown(&message, LONGEST_MESSAGE, |character| matches!(character, '\t' | '\n')),
    })
}

/// Bytes as a string of bounded length. Control characters that are not kept, and bytes that are not
/// valid UTF-8, are shown as `\xNN`.
pub(super) fn shown(bytes: &[u8], longest: usize, is_kept: fn(char) -> bool) -> String {
    let mut shown = String::new();
    let mut characters = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if characters == longest {
                shown.push('…');
                return shown;
            }
            characters += 1;
            if is_printable(character) || is_kept(character) {
                shown.push(character);
            } else if character.is_ascii() {
                shown.push_str(&format!("\\x{:02x}", u32::from(character)));
            } else {
                shown.extend(character.escape_default());
            }
        }
        for byte in chunk.invalid() {
            if characters == longest {
                shown.push('…');
                return shown;
            }
            characters += 1;
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_sources_are_alternatives() {
        let name = DeviceName::new("pump").unwrap();
        let unit = UnitName::for_agent("garden", "pump").unwrap();
        assert_eq!(
            terms_about(Bus::System, &name, Some(&unit)).join(" "),
            "IOTMONITOR_DEVICE=pump + _SYSTEMD_UNIT=iotmonitor-garden-agent-pump.service + \
             UNIT=iotmonitor-garden-agent-pump.service _PID=1"
        );
        let own = terms_about(Bus::User, &name, Some(&unit)).join(" ");
        for alternative in own.split(" + ") {
            assert!(alternative.contains(" _UID="), "{alternative}");
        }
        assert_eq!(terms_about(Bus::System, &name, None), ["IOTMONITOR_DEVICE=pump"]);
    }

    #[test]
    fn entries_are_the_oldest_first_and_safe_to_be_shown() {
        let output = br#"{"__REALTIME_TIMESTAMP":"1795473762123457","PRIORITY":"3","MESSAGE":"red \u001b[2J\nline two"}
{"MESSAGE":[99,97,102,233],"__REALTIME_TIMESTAMP":"1795473761000000","__CURSOR":"s=1"}
{"MESSAGE":null,"PRIORITY":"99","__REALTIME_TIMESTAMP":"1795473760000000"}
not an entry
{"__REALTIME_TIMESTAMP":"17954737"#;
        let found = entries(output);
        let messages: Vec<_> = found.iter().map(|it| (it.priority, it.message.as_str())).collect();
        assert_eq!(
            messages,
            [
                (6, "(a message that is too long to be shown)"),
                (6, "caf\\xe9"),
                (3, "red \\x1b[2J\nline two"),
            ]
        );
        assert_eq!(found[2].time, Duration::from_micros(1_795_473_762_123_457));
        let long = "ä".repeat(5_000);
        let line = format!(r#"{{"MESSAGE":"{long}","__REALTIME_TIMESTAMP":"1"}}"#);
        assert_eq!(entries(line.as_bytes())[0].message.chars().count(), LONGEST_MESSAGE + 1);
    }
}
