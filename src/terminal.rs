//! When a stream is a terminal that wants colours.

use std::ffi::OsStr;
use std::io::IsTerminal;

/// Whether output to this stream may be coloured: it is a terminal that supports colours, and
/// `NO_COLOR` is not set (no-color.org).
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name);
    stream.is_terminal()
        && wants_colours(variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

fn wants_colours(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_value_asks_for_no_colour() {
        for (no_color, term, wants) in [
            (None, Some("xterm"), true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (Some("0"), Some("xterm"), false),
            (None, Some("dumb"), false),
            (None, None, true),
        ] {
            assert_eq!(wants_colours(no_color.map(OsStr::new), term.map(OsStr::new)), wants);
        }
    }
}
