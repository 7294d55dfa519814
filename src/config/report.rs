//! Collects findings by their place in the text, and turns them into diagnostics at the end.
//!
//! Places are byte ranges here; lines and columns are counted once, when a diagnostic is made. The
//! lines shown are cleared of secrets by [`super::secrecy`].

use super::error::{Diagnostic, Severity, Snippet};
use std::ops::Range;
use std::path::Path;

/// A place in the text, in bytes.
pub(super) type Span = Range<usize>;

/// More of a line than this is not shown, in characters.
const LONGEST_SNIPPET: usize = 120;

/// What stands for something that is not shown.
const ELLIPSIS: char = '…';

/// All findings so far.
#[derive(Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

struct Finding {
    severity: Severity,
    span: Span,
    message: String,
    hint: String,
}

impl Report {
    pub fn error(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, span, message.into(), hint.into());
    }

    pub fn warning(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, span, message.into(), hint.into());
    }

    fn add(&mut self, severity: Severity, span: &Span, message: String, hint: String) {
        let clean = |text: String| text.chars().map(printable).collect();
        self.findings.push(Finding {
            severity,
            span: span.clone(),
            message: clean(message),
            hint: clean(hint),
        });
    }

    /// Errors and warnings, each in the order of the text. `secrets` are the places not to show.
    pub fn into_diagnostics(
        mut self,
        path: &Path,
        text: &str,
        secrets: &[Span],
    ) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.findings.sort_by_key(|finding| finding.span.start);
        self.findings
            .into_iter()
            .map(|finding| finding.into_diagnostic(path, text, secrets))
            .partition(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

impl Finding {
    fn into_diagnostic(self, path: &Path, text: &str, secrets: &[Span]) -> Diagnostic {
        let start = floor_char_boundary(text, self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        Diagnostic {
            severity: self.severity,
            path: path.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message: self.message,
            hint: self.hint,
            snippet: snippet(text, line_start..line_end, start..self.span.end, secrets),
        }
    }
}

/// Renders one line and where the marked part of it comes to stand.
fn snippet(text: &str, line: Span, marked: Span, secrets: &[Span]) -> Snippet {
    let mut shown: Vec<char> = Vec::new();
    let mut marker: Option<Range<usize>> = None;
    let mut hidden_before = false;
    for (offset, character) in text[line.clone()].char_indices() {
        let position = line.start + offset;
        let hidden = secrets.iter().any(|secret| secret.contains(&position));
        if !(hidden && hidden_before) {
            shown.push(if hidden { ELLIPSIS } else { printable(character) });
        }
        hidden_before = hidden;
        if marked.contains(&position) {
            let start = marker.map_or(shown.len() - 1, |marker| marker.start);
            marker = Some(start..shown.len());
        }
    }
    let end = shown.len();
    while shown.last() == Some(&' ') {
        shown.pop();
    }
    // A place behind the last character, such as the end of the file, is marked there.
    let marker = marker.unwrap_or_else(|| end..end + 1);
    shorten(shown, marker)
}

/// Cuts a long line down to what lies around the marker.
fn shorten(shown: Vec<char>, marker: Range<usize>) -> Snippet {
    let (first, last) = if shown.len() <= LONGEST_SNIPPET {
        (0, shown.len())
    } else {
        let first = marker.start.saturating_sub(LONGEST_SNIPPET / 3).min(shown.len());
        (first, (first + LONGEST_SNIPPET).min(shown.len()))
    };
    let mut text = String::new();
    if first > 0 {
        text.push(ELLIPSIS);
    }
    text.extend(&shown[first..last]);
    if last < shown.len() {
        text.push(ELLIPSIS);
    }
    let marker_end = marker.end.min(first + LONGEST_SNIPPET);
    Snippet {
        text,
        marker_start: marker.start - first + usize::from(first > 0),
        marker_length: marker_end.saturating_sub(marker.start).max(1),
    }
}

/// Keeps columns aligned, and a terminal from obeying what stands in a file.
fn printable(character: char) -> char {
    match character {
        '\t' | '\r' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn floor_char_boundary(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str, span: Span, secret: Option<Span>) -> Diagnostic {
        let mut report = Report::default();
        report.error(&span, "m", "h");
        let (errors, _) = report.into_diagnostics(Path::new("f"), text, secret.as_slice());
        errors.into_iter().next().unwrap()
    }

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "ä = 1\r\n\tkü = 2\n";
        let found = one(text, text.find('2').unwrap()..text.len() - 1, None);
        assert_eq!((found.line, found.column), (2, 7));
        assert!(found.to_string().contains("2 |  kü = 2\n  |       ^\n"), "{found}");
    }

    #[test]
    fn the_end_of_the_file_is_a_place() {
        let found = one("a = ", 4..4, None);
        assert_eq!((found.line, found.column), (1, 5));
        assert!(found.to_string().contains("1 | a =\n  |     ^\n"), "{found}");
        assert_eq!(one("", 0..0, None).line, 1);
    }

    #[test]
    fn a_secret_is_one_ellipsis_and_the_marker_stays_in_place() {
        let text = "p = 'hunter2' q = 5";
        let found = one(text, 18..19, Some(4..13));
        assert!(found.to_string().contains("1 | p = … q = 5\n  |           ^\n"), "{found}");
        let found = one(text, 4..13, Some(4..13));
        assert!(found.to_string().contains("1 | p = … q = 5\n  |     ^\n"), "{found}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_marker() {
        let text = format!("{}X{}", "a".repeat(5_000), "b".repeat(5_000));
        let found = one(&text, 5_000..5_001, None);
        assert_eq!(found.column, 5_001);
        let shown = &found.snippet;
        assert_eq!(shown.text.chars().nth(shown.marker_start), Some('X'));
        assert!(shown.text.chars().count() <= LONGEST_SNIPPET + 2);
    }

    proptest! {
        #[test]
        fn no_place_panics(text in "(\\PC|\n|\t){0,300}", start in 0_usize..700, length in 0_usize..700) {
            let found = one(&text, start..start + length, Some(start / 2..start + length / 2));
            prop_assert!(found.to_string().contains('^'));
        }
    }
}
