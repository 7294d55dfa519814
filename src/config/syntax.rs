//! Reports every line with an error of a file that is not valid TOML or UTF-8, and what was
//! probably meant.
//!
//! The parser continues after an error, and what it reports then may be a consequence of the first
//! one. Therefore a line has one error, and a list that is never closed has one, at the place where
//! it goes wrong.

use super::report::{ByteSpan, ConfigReport, MOST_SHOWN};
use super::secrecy;

/// Reports the errors of a file, as the parser returns them; returns the places not to show. The
/// first byte of the file is at the place `offset`.
pub(super) fn report(
    text: &str,
    offset: usize,
    errors: &[toml::de::Error],
    report: &mut ConfigReport,
) -> Vec<ByteSpan> {
    let place = |error: &toml::de::Error| error.span().unwrap_or(0..0);
    let mut errors: Vec<_> = errors.iter().collect();
    errors.sort_by_key(|error| place(error).start);
    if errors.iter().any(|error| error.message().starts_with("unclosed array"))
        && let Some(first) = errors.iter().position(|error| error.message().contains("array"))
    {
        errors.truncate(first + 1);
    }
    let mut lines: Vec<ByteSpan> = Vec::new();
    let mut secrets = Vec::new();
    for error in errors {
        let span = place(error);
        let line = line_at(text, span.start);
        if lines.last() == Some(&line) {
            continue;
        }
        // An error that is not shown does not need the text before it examined.
        let secret = (lines.len() < MOST_SHOWN)
            .then(|| secrecy::secret_span_of_line(text, span.start))
            .flatten();
        let (message, hint) = explain(error.message(), text[line.clone()].trim(), secret.is_some());
        let message = message.unwrap_or_else(|| error.message().to_owned());
        report.error(&moved(&span, offset), message, hint);
        secrets.extend(secret.map(|span| moved(&span, offset)));
        lines.push(line);
    }
    secrets
}

fn moved(span: &ByteSpan, by: usize) -> ByteSpan {
    span.start + by..span.end + by
}

fn line_at(text: &str, position: usize) -> ByteSpan {
    let start = text[..position].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[position..].find('\n').map_or(text.len(), |newline| position + newline);
    start..end
}

/// A better message where there is one, and the correction.
fn explain(message: &str, line: &str, hides: bool) -> (Option<String>, String) {
    let value = line.split_once('=').map_or("", |(_, value)| value.trim());
    let header = line.strip_prefix('[').map(|rest| rest.trim_matches(['[', ']', ' ', '\t']));
    let hint = if message.starts_with("duplicate key") {
        "each section, and each key in a section, may stand once: remove or rename one"
    } else if let Some(name) = header.filter(|_| !hides && !line.contains('=')) {
        return explain_header(name, line);
    } else if value.starts_with("!secret") {
        "there is no `!secret` here: write the value between quotes, or keep it out of the file with \
         passwordFile or a systemd credential"
    } else if line.starts_with("include") {
        super::INCLUDE
    } else if line.starts_with('{')
        || line.ends_with(':')
        || !line.contains('=') && line.contains(": ")
    {
        "the file is TOML: a section is a line like [device_lamp], a key is watchTimeOut = 60"
    } else if message.contains("unquoted key") {
        "a key with other characters than letters, digits, `-` and `_` needs quotes: \"Küche\" = 1"
    } else if message.contains("unicode") || message.contains("escape") {
        "a backslash between double quotes begins an escape: use single quotes, as in 'a\\b'"
    } else if message.contains("leading zero") {
        "write the number without the zeros before it"
    } else if message.contains("quote") || message.contains("boolean") || message.contains("string")
    {
        "strings stand between quotes, as in helloTopic = \"home/lamp\""
    } else if message.contains("array") {
        "a list has commas between its entries and ends with `]`: [\"home/a\", \"home/b\"]"
    } else {
        "a line is a section like [device_lamp], or a key with its value like watchTimeOut = 60"
    };
    (None, hint.to_owned())
}

fn explain_header(name: &str, line: &str) -> (Option<String>, String) {
    let name: String = name.chars().take(80).collect();
    if let Some((_, program)) = name.split_once("program:") {
        return (None, format!("an agent is a section like [agent_{program}]"));
    }
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.chars().all(is_bare) || name.contains(['"', '\'', '\\']) {
        let hint = "the name of a section stands between one `[` and one `]`, alone in its line";
        return (None, hint.to_owned());
    }
    let message =
        "a section's name with anything but letters of ASCII, digits, `-` and `_` needs quotes";
    let comment = if line.contains('#') { ", and a comment stands behind the `]`" } else { "" };
    (Some(message.to_owned()), format!("write [\"{name}\"]{comment}"))
}

/// Reports every line of a file that is not UTF-8, whose first byte is at the place `offset`.
/// Returns the file as it is shown, and the places not to show.
pub(super) fn report_encoding(
    bytes: &[u8],
    offset: usize,
    report: &mut ConfigReport,
) -> (String, Vec<ByteSpan>) {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let encoding = if utf16 { "UTF-16" } else { "ISO-8859-1" };
    let hint = format!("save the file as UTF-8, or `iconv -f {encoding} -t UTF-8 FILE > NEW`");
    let (mut text, mut places) = (String::new(), Vec::new());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if let Some(first) = chunk.invalid().first() {
            places.push((text.len(), *first));
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    let mut lines: Vec<ByteSpan> = Vec::new();
    let mut secrets = Vec::new();
    for (place, byte) in places {
        let line = line_at(&text, place);
        if lines.last() == Some(&line) {
            continue;
        }
        let secret = secrecy::secret_span_of_line(&text, place);
        let message = if utf16 {
            "the file is UTF-16, and not UTF-8".to_owned()
        } else if secret.is_some() {
            "a character of this line is not UTF-8".to_owned()
        } else {
            format!(
                "the byte 0x{byte:02X} is not UTF-8 (in ISO-8859-1 it is `{}`)",
                char::from(byte)
            )
        };
        report.error(&moved(&(place..place + 1), offset), message, hint.as_str());
        secrets.extend(secret.map(|span| moved(&span, offset)));
        lines.push(line);
        if utf16 || lines.len() == MOST_SHOWN {
            break;
        }
    }
    (text, secrets)
}
