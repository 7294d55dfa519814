//! Finds the parts of a configuration file that no diagnostic may show.
//!
//! It errs on the side of hiding. These values are hidden: one whose key suggests a secret, in any
//! section; every value of an agent's environment; a command that seems to contain a secret; the
//! value of every unknown key in `[mqtt]` and `[http]` (perhaps a misspelled `password` or
//! `token`); and every address that contains a user or a query. In a file that is not valid TOML
//! there are no values yet, and the line itself is judged: below `[mqtt]` and `[http]` nothing is
//! shown past the key, because a typing error may have joined the secret to anything.

use super::exposure;
use super::report::ByteSpan;
use iotmonitor_core::model::spec::Exec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Parts of keys whose values are not shown, in lower case.
const SECRET_WORDS: &[&str] = &["pass", "secret", "token", "credential", "auth", "key", "pwd"];

/// How the names of sections begin.
const SECTION_NAMES: &[&str] =
    &["mqtt", "http", "alerts", "history", "homeassistant", "device_", "agent_", "fleet_"];

/// Keys that contain such a word but hold no secret.
const HARMLESS_KEYS: &[&str] = &["passwordFile", "keyFile", "tokenFile"];

/// The secret places of a file that is valid TOML. `guarded` are the sections that contain a
/// secret, with the keys that they know.
pub(super) fn secret_spans(root: &DeTable<'_>, guarded: &[(&str, &[&str])]) -> Vec<ByteSpan> {
    let mut spans = Vec::new();
    for (name, known) in guarded {
        if let Some(DeValue::Table(table)) = root.get(*name).map(Spanned::get_ref) {
            let unknown = table.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref()));
            spans.extend(unknown.flat_map(|(_, value)| leaves(value.get_ref(), value.span())));
        }
    }
    collect(root, &mut spans);
    spans
}

fn collect(table: &DeTable<'_>, spans: &mut Vec<ByteSpan>) {
    for (key, value) in table {
        let key = key.get_ref();
        if sounds_secret(key) || key == "exec" && command_shows_secret(value.get_ref()) {
            spans.extend(leaves(value.get_ref(), value.span()));
            continue;
        }
        match value.get_ref() {
            DeValue::Table(inner) => collect(inner, spans),
            DeValue::Array(items) => {
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect(inner, spans);
                    }
                }
            }
            DeValue::String(text) => {
                if may_hold_credentials(text) {
                    spans.push(value.span());
                }
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

fn command_shows_secret(value: &DeValue<'_>) -> bool {
    let exec = match value {
        DeValue::Array(words) => {
            let words = words.iter().filter_map(|word| word.get_ref().as_str());
            Exec::Argv(words.map(str::to_owned).collect())
        }
        other => Exec::Shell(other.as_str().unwrap_or_default().to_owned()),
    };
    exposure::command_shows_secret(&exec)
}

/// The places of all single values: a table's own place may be no more than its header.
fn leaves(value: &DeValue<'_>, span: ByteSpan) -> Vec<ByteSpan> {
    match value {
        DeValue::Table(table) => {
            table.values().flat_map(|inner| leaves(inner.get_ref(), inner.span())).collect()
        }
        DeValue::Array(items) => {
            items.iter().flat_map(|item| leaves(item.get_ref(), item.span())).collect()
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => vec![span],
    }
}

/// The secret place of the line at `position` in a file that is not valid TOML.
pub(super) fn secret_span_of_line(text: &str, position: usize) -> Option<ByteSpan> {
    let before = text.get(..position).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = &text[start..end];
    if within_a_secret_text(&text[..start]) {
        return Some(start..end);
    }
    let key_end = line
        .find(|c: char| !(c.is_alphanumeric() || "_-.\"' \t".contains(c)))
        .unwrap_or(line.len());
    let key = line[..key_end].trim();
    // Without an equals sign, the value may follow the key's first word directly.
    let key_end = if line[key_end..].starts_with("= ") {
        key_end + 2
    } else if line[key_end..].starts_with('=') {
        key_end + 1
    } else {
        line.len() - line.trim_start().len() + key.find(char::is_whitespace).unwrap_or(0)
    };
    let hides = sounds_secret(key)
        || mentions_secret(line)
        || within_environment(&text[..end])
        || within_guarded(&text[..end]);
    hides.then_some(start + key_end..end).filter(|span| !span.is_empty())
}

/// Whether a multi-line string that began after a secret's key is still open.
fn within_a_secret_text(before: &str) -> bool {
    ["\"\"\"", "'''"].iter().any(|quotes| {
        before.matches(quotes).count() % 2 == 1
            && before.rfind(quotes).is_some_and(|at| {
                let key_line = before[..at].rfind('\n').map_or(0, |newline| newline + 1);
                mentions_secret(&before[key_line..at]) || within_environment(&before[..at])
            })
    })
}

fn within_environment(before: &str) -> bool {
    before.lines().next_back().is_some_and(|line| line.contains("environment"))
        || last_header(before).is_some_and(|header| header.contains("environment"))
}

/// Whether the last line is one below `[mqtt]` or `[http]`, and not the header itself.
fn within_guarded(before: &str) -> bool {
    let is_guarded = |header: &str| ["[mqtt", "[http"].iter().any(|name| header.starts_with(name));
    last_header(before).is_some_and(|header| is_guarded(header.trim_start()))
        && !before.lines().next_back().is_some_and(is_header)
}

fn last_header(before: &str) -> Option<&str> {
    before.lines().rfind(|line| is_header(line))
}

/// A bracket alone does not make a header: it may have slipped before a key, or into its place.
fn is_header(line: &str) -> bool {
    let Some(name) = line.trim_start().strip_prefix('[') else { return false };
    let name = name.trim_start_matches(['[', '"', '\'', ' ', '\t']);
    let is_known = SECTION_NAMES.iter().any(|known| name.starts_with(known));
    let is_closed = line.split('#').next().is_some_and(|line| line.trim_end().ends_with(']'));
    !line.contains('=') && (is_known || is_closed)
}

fn mentions_secret(line: &str) -> bool {
    line.split(['=', ',', '{', ':']).any(sounds_secret) || may_hold_credentials(line)
}

/// Whether a key's value is not to be shown.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key = key.trim().trim_matches(['"', '\'']);
    let lower = key.to_lowercase();
    key == "environment"
        || !HARMLESS_KEYS.contains(&key) && SECRET_WORDS.iter().any(|word| lower.contains(word))
}

fn may_hold_credentials(text: &str) -> bool {
    text.contains("://") && (text.contains('@') || text.contains('?'))
        || text.contains("serverAddress") && text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, position: usize) -> String {
        match secret_span_of_line(text, position) {
            Some(span) => format!("{}…{}", &text[..span.start], &text[span.end..]),
            None => text.to_owned(),
        }
    }

    #[test]
    fn broken_lines_with_secrets_are_hidden() {
        for line in [
            "password = \"hunter2",
            "password = hunter2",
            "password hunter2",
            "  password \"hunter2\"",
            "\"password\": \"hunter2\"",
            "{\"password\": \"hunter2\"}",
            "mqtt = { user = 'a', password = 'hunter2 }",
            "mqtt_passwd='hunter2",
            "API_KEY = hunter2",
            "serverAddress = tcp://user:hunter2@broker",
            "serverAddress = user:hunter2@broker",
            "serverAddress = wss://broker/mqtt?token=hunter2",
            "[mqtt]\nsesame = 'hunter2",
            "[mqtt]\n= 'hunter2'",
            "[mqtt]\n[assword = 'hunter2'",
            "[http]\n[ \"hunter2\"",
            "[http]\n[hunter2\"",
            "[http]\n[\"hunter2\"",
            "[http]\ntoken = 'hunter2",
            "[http]\nsesame = 'hunter2",
            "[mqtt]\nuser = \"mord = 'hunter2'",
            "[agent_x.environment]\nNAME = 'hunter2",
            "environment = { NAME = 'hunter2 }",
            "password = \"\"\"\nhunter2\\q\"\"\"",
        ] {
            let text = format!("# first\n{line}");
            assert!(!shown(&text, text.len()).contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn other_broken_lines_are_shown_whole() {
        for line in [
            "watchTopics = \"home/#",
            "user = pi pi",
            "keyFile = /etc/x.pem",
            "[mqtt",
            "[mqtt]\n[\"device_Küche\"",
            "[mqtt]\n[Küche] # x",
        ] {
            assert_eq!(shown(line, line.len()), line);
        }
    }
}
