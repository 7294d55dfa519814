//! What others wrote, made safe to be shown: topics, payloads, names, reasons, lines of a file.
//!
//! Whoever may publish on a broker, or write to a log, must neither command the reader's terminal nor
//! show a line as something else than it is. Everything that goes to a terminal, and is not this
//! program's own, passes through here.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character shows as itself and has no other effect. Control characters, characters that
/// change the direction of a line and characters of no width (Unicode's Bidi_Control and the like) do not.
#[must_use]
pub fn is_printable(c: char) -> bool {
    !c.is_control() && !is_deceptive(c)
}

fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The string on one line: what is not printable is shown as Rust writes it, such as `\u{1b}` and `\n`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, |_| false)
}

/// Escapes all but line ends and tabs, for output that has lines of its own.
#[must_use]
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped_but(text: &str, is_kept: fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| is_printable(c) || is_kept(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_printable(c) || is_kept(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// Bytes of any kind, with line ends and tabs: what is not UTF-8 is shown byte by byte, as `\xff`.
#[must_use]
pub fn escaped_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&escaped_lines(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A character that takes the same room in its place, where columns count.
#[must_use]
pub fn replaced(c: char) -> char {
    match c {
        '\t' => ' ',
        c if is_printable(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// The same value in JSON without any character that is not printable. Outside of its strings JSON
/// has none but line ends and tabs (RFC 8259).
#[must_use]
pub fn escaped_json(json: String) -> String {
    let is_left = |c: char| is_printable(c) || matches!(c, '\n' | '\t' | '\r');
    if json.chars().all(is_left) {
        return json;
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_left(c) {
            shown.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// The same key or basic string in TOML without any character that is not printable.
#[must_use]
pub fn escaped_toml(toml: String) -> String {
    if toml.chars().all(is_printable) {
        return toml;
    }
    let mut shown = String::with_capacity(toml.len() + 16);
    for c in toml.chars() {
        if is_printable(c) {
            shown.push(c);
        } else {
            let code = u32::from(c);
            let _ = if code > 0xFFFF {
                write!(shown, "\\U{code:08X}")
            } else {
                write!(shown, "\\u{code:04X}")
            };
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_commands_or_deceives_is_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("Küche \u{1f600} 厨房", "Küche \u{1f600} 厨房"),
            ("\x1b[2J\n", "\\u{1b}[2J\\n"),
            ("a\u{9b}2Jb", "a\\u{9b}2Jb"),
            ("\u{202e}cod.exe", "\\u{202e}cod.exe"),
            ("off\u{200b}", "off\\u{200b}"),
            ("\u{7f}", "\\u{7f}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
        assert_eq!(escaped_lines("a\tb\nc\rd"), "a\tb\nc\\rd");
        assert_eq!(escaped_bytes(b"\xc3\xbc\xff\0\n\x1b"), "ü\\xff\\u{0}\n\\u{1b}");
        assert_eq!(
            ['\t', '\u{1b}', 'ü', '\u{202e}'].map(replaced),
            [' ', '\u{fffd}', 'ü', '\u{fffd}']
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_not_printable_is_left(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            prop_assert!(escaped(&text).chars().all(is_printable));
            let shown = escaped_bytes(&bytes);
            prop_assert!(shown.chars().all(|c| is_printable(c) || matches!(c, '\n' | '\t')));
        }

        #[test]
        fn json_stays_the_same_value(text in any::<String>(), c in any::<char>()) {
            let text = format!("{text}{c}\u{9b}\u{e0001}");
            let json = escaped_json(serde_json::to_string(&text).unwrap());
            prop_assert!(json.chars().all(is_printable));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
