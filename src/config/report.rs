//! Collects findings by their place in the source, and turns them into diagnostics at the end.
//!
//! Places are byte ranges here, in the space that all files share; files, lines and columns are
//! determined once, when a diagnostic is created.
//! Only the first findings of each severity become diagnostics and the rest are counted, so that a
//! mistake repeated in every section of a large file still fits on a page. The lines shown are
//! cleared of secrets by [`super::secrecy`], and only the part of a long line that is shown is
//! examined.

use super::error::{Diagnostic, Findings, Severity, Snippet};
use super::sources::Sources;
use crate::printable::replaced;
use iotmonitor_core::model::fleet::PLACEHOLDER;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

/// A place in the sources, in bytes.
pub(super) type ByteSpan = Range<usize>;

/// The number of findings shown of one severity, the first ones of the sources. More would not be
/// read, and each costs time.
pub(super) const MOST_SHOWN: usize = 50;

/// The longest part of a line that is shown, in characters.
const LONGEST_SNIPPET: usize = 120;

/// The replacement for anything that is not shown.
const ELLIPSIS: char = '…';

/// All findings so far.
#[derive(Default)]
pub(super) struct ConfigReport {
    errors: Found,
    warnings: Found,
    fleet: Option<FleetFindings>,
}

/// The findings about a fleet, while it is read.
#[derive(Default)]
struct FleetFindings {
    /// Messages about the template, by their places: they hold for every member.
    template: BTreeMap<usize, Vec<String>>,
    /// The member that is being read, and whether its findings have to name it.
    member: Option<(String, bool)>,
}

/// The first findings of one severity, and the total number.
#[derive(Default)]
struct Found {
    first: BinaryHeap<ReportedFinding>,
    total: usize,
}

/// Ordered by place, and at the same place by the order of discovery.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ReportedFinding {
    start: usize,
    number: usize,
    end: usize,
    message: String,
    hint: String,
    /// Another place that it is about, which the hint then names.
    other: Option<usize>,
}

impl ConfigReport {
    pub fn error(&mut self, span: &ByteSpan, message: impl Into<String>, hint: impl Into<String>) {
        if let Some(message) = self.about_fleet(span, message.into()) {
            self.errors.add(span, None, message, hint.into());
        }
    }

    /// An error about two places, of which `first` comes earlier.
    pub fn conflict(
        &mut self,
        span: &ByteSpan,
        first: &ByteSpan,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors.add(span, Some(first.start), message.into(), hint.into());
    }

    pub fn warning(
        &mut self,
        span: &ByteSpan,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if let Some(message) = self.about_fleet(span, message.into()) {
            self.warnings.add(span, None, message, hint.into());
        }
    }

    /// Begins a fleet with its template, which is the first to be read.
    pub fn begin_fleet(&mut self) {
        self.fleet = Some(FleetFindings::default());
    }

    /// Begins a member of the fleet. What holds for the template as well is not reported again. With
    /// `names_it`, what is left names the member.
    pub fn begin_member(&mut self, name: &str, names_it: bool) {
        if let Some(fleet) = &mut self.fleet {
            fleet.member = Some((name.to_owned(), names_it));
        }
    }

    pub fn end_fleet(&mut self) {
        self.fleet = None;
    }

    /// The message as it is reported; `None` when it has been reported about the whole fleet.
    fn about_fleet(&mut self, span: &ByteSpan, message: String) -> Option<String> {
        let Some(fleet) = &mut self.fleet else { return Some(message) };
        let Some((name, names_it)) = &fleet.member else {
            fleet.template.entry(span.start).or_default().push(message.clone());
            return Some(message);
        };
        let known = fleet.template.get(&span.start).map_or(&[][..], Vec::as_slice);
        if known
            .iter()
            .any(|known| *known == message || known.replace(PLACEHOLDER, name) == message)
        {
            return None;
        }
        let is_named = !names_it || message.contains(name.as_str());
        if is_named {
            return Some(message);
        }
        // A name may be as long as the file.
        let name: String = name.chars().take(LONGEST_SNIPPET).collect();
        Some(format!("{message} (of the member `{name}`)"))
    }

    /// The number of errors so far.
    pub fn errors(&self) -> usize {
        self.errors.total
    }

    /// The message of the first error by its place.
    pub fn first_error(&self) -> Option<&str> {
        self.errors.first.iter().min().map(|error| error.message.as_str())
    }

    /// Returns errors and warnings, each in the order of the sources. `secrets` are the places not
    /// to show.
    pub fn into_diagnostics(
        self,
        sources: &Sources,
        secrets: Vec<ByteSpan>,
    ) -> (Findings, Findings) {
        let secrets = Secrets::new(secrets);
        let [errors, warnings] =
            [(self.errors, Severity::Error), (self.warnings, Severity::Warning)]
                .map(|(found, severity)| found.into_findings(severity, sources, &secrets));
        (errors, warnings)
    }
}

impl Found {
    fn add(&mut self, span: &ByteSpan, other: Option<usize>, message: String, hint: String) {
        let number = self.total;
        self.total += 1;
        if self.first.len() == MOST_SHOWN {
            if self.first.peek().is_some_and(|last| last.start <= span.start) {
                return;
            }
            self.first.pop();
        }
        let clean = |text: String| text.chars().map(printable).collect();
        let (message, hint) = (clean(message), clean(hint));
        self.first.push(ReportedFinding {
            start: span.start,
            number,
            end: span.end,
            message,
            hint,
            other,
        });
    }

    fn into_findings(self, severity: Severity, sources: &Sources, secrets: &Secrets) -> Findings {
        // Lines are counted from one finding to the next rather than from the top for each.
        let (mut counted, mut newlines, mut offset) = (0, 0, 0);
        let shown = self.first.into_sorted_vec().into_iter().map(|finding| {
            let file = sources.at(finding.start);
            let text = file.text.as_str();
            if offset != file.offset {
                (counted, newlines, offset) = (0, 0, file.offset);
            }
            let start = char_boundary(text, finding.start - offset);
            newlines += text[counted..start].matches('\n').count();
            counted = start;
            let line = line_at(text, start);
            let hint = match finding.other {
                Some(other) => {
                    format!("the other one is {}: {}", place(sources, other), finding.hint)
                }
                None => finding.hint,
            };
            let marked = start..finding.end.saturating_sub(offset);
            Diagnostic {
                severity,
                path: file.path.clone(),
                line: newlines + 1,
                column: text[line.start..start].chars().count() + 1,
                message: finding.message,
                hint,
                snippet: snippet(text, line, marked, offset, secrets),
            }
        });
        Findings { shown: shown.collect(), total: self.total }
    }
}

/// The line without its end that contains a position.
fn line_at(text: &str, position: usize) -> ByteSpan {
    let start = text[..position].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[position..].find('\n').map_or(text.len(), |newline| position + newline);
    start..end
}

/// File and line of a place, as a hint names them.
fn place(sources: &Sources, place: usize) -> String {
    let file = sources.at(place);
    let before = &file.text[..char_boundary(&file.text, place - file.offset)];
    let path: String = file.path.display().to_string().chars().map(printable).collect();
    format!("at {path}:{}", before.matches('\n').count() + 1)
}

/// Places that are not shown, in order and without overlap.
struct Secrets(Vec<ByteSpan>);

impl Secrets {
    fn new(mut spans: Vec<ByteSpan>) -> Self {
        spans.sort_by_key(|span| span.start);
        spans.dedup_by(|next, kept| {
            let overlaps = next.start <= kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
        Self(spans)
    }

    /// The end of the secret that contains the position.
    fn end_at(&self, position: usize) -> Option<usize> {
        let after = self.0.partition_point(|span| span.start <= position);
        self.0[..after].last().map(|span| span.end).filter(|end| position < *end)
    }
}

/// Renders one line and the position of the marked part in it; for a long line, the part around the
/// marker. `offset` is the place of the file's first byte.
fn snippet(
    text: &str,
    line: ByteSpan,
    marked: ByteSpan,
    offset: usize,
    secrets: &Secrets,
) -> Snippet {
    // A character is at least as long in bytes as it is wide on the screen, so this is far enough.
    let before = text[line.start..marked.start].char_indices().rev().nth(LONGEST_SNIPPET);
    let from = line.start + before.map_or(0, |(offset, _)| offset);
    let marked_end = marked.end.max(marked.start + 1);
    let mut shown: Vec<char> = Vec::new();
    let mut marker: Option<Range<usize>> = None;
    let mut position = from;
    while let Some(character) = text[position..line.end].chars().next() {
        if shown.len() > 2 * LONGEST_SNIPPET + 1 {
            break;
        }
        // A secret becomes one ellipsis, whatever its length.
        let hidden = secrets.end_at(offset + position).map(|end| end - offset);
        let next = hidden.map_or(position + character.len_utf8(), |end| {
            char_boundary(text, end).clamp(position + character.len_utf8(), line.end)
        });
        shown.push(if hidden.is_some() { ELLIPSIS } else { printable(character) });
        if marked.start < next && position < marked_end {
            let start = marker.map_or(shown.len() - 1, |marker| marker.start);
            marker = Some(start..shown.len());
        }
        position = next;
    }
    let end = shown.len();
    while position == line.end && shown.last() == Some(&' ') {
        shown.pop();
    }
    // A place behind the last character, such as the end of the file, is marked there.
    let marker = marker.unwrap_or_else(|| end..end + 1);
    shorten(&shown, marker, from > line.start, position < line.end)
}

/// Shortens a long line to the part around the marker. The flags state where it has been shortened
/// before.
fn shorten(shown: &[char], marker: Range<usize>, cut_before: bool, cut_after: bool) -> Snippet {
    let is_whole = !cut_before && !cut_after && shown.len() <= LONGEST_SNIPPET;
    let (first, last) = if is_whole {
        (0, shown.len())
    } else {
        let first = marker.start.saturating_sub(LONGEST_SNIPPET / 3).min(shown.len());
        (first, (first + LONGEST_SNIPPET).min(shown.len()))
    };
    let mut text = String::new();
    let is_cut = cut_before || first > 0;
    if is_cut {
        text.push(ELLIPSIS);
    }
    text.extend(&shown[first..last]);
    if cut_after || last < shown.len() {
        text.push(ELLIPSIS);
    }
    let marker_end = marker.end.min(first + LONGEST_SNIPPET);
    Snippet {
        text,
        marker_start: marker.start - first + usize::from(is_cut),
        marker_length: marker_end.saturating_sub(marker.start).max(1),
    }
}

/// Keeps columns aligned, and keeps control characters of the file from the terminal.
fn printable(character: char) -> char {
    if character == '\r' { ' ' } else { replaced(character) }
}

/// The position, or the last character boundary before it.
fn char_boundary(text: &str, position: usize) -> usize {
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
    use std::path::Path;

    fn of_text(text: &str) -> Sources {
        Sources::of_text(Path::new("f"), text)
    }

    fn one(text: &str, span: ByteSpan, secret: Option<ByteSpan>) -> Diagnostic {
        let mut report = ConfigReport::default();
        report.error(&span, "m", "h");
        let (errors, _) = report.into_diagnostics(&of_text(text), secret.into_iter().collect());
        errors[0].clone()
    }

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "ä = 1\n\tkü = 2\n";
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

    #[test]
    fn a_long_secret_before_and_behind_the_marker_takes_one_place() {
        let secret = "s".repeat(5_000);
        let text = format!("p = '{secret}' q = 5 r = '{secret}'");
        let at = text.find("5").unwrap();
        let mut report = ConfigReport::default();
        report.error(&(at..at + 1), "m", "h");
        let secrets = vec![at + 6..text.len(), 4..5_006];
        let (errors, _) = report.into_diagnostics(&of_text(&text), secrets);
        let shown = errors[0].to_string();
        assert!(shown.contains("1 | …… q = 5 r = …\n  |        ^\n"), "{shown}");
    }

    #[test]
    fn the_first_are_shown_and_all_are_counted() {
        let text = "x\n".repeat(3 * MOST_SHOWN);
        let mut report = ConfigReport::default();
        let of = |line: usize| 2 * line..2 * line + 1;
        for line in (0..2 * MOST_SHOWN).rev() {
            report.error(&of(line), format!("{line}"), "");
        }
        report.warning(&of(7), "first", "");
        report.warning(&of(7), "second", "");
        let (errors, warnings) = report.into_diagnostics(&of_text(&text), Vec::new());
        assert_eq!((errors.len(), errors.total()), (MOST_SHOWN, 2 * MOST_SHOWN));
        for (line, error) in errors.iter().enumerate() {
            assert_eq!((error.line, error.message.as_str()), (line + 1, line.to_string().as_str()));
        }
        let said: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!((said, warnings.total()), (vec!["first", "second"], 2));
    }

    proptest! {
        #[test]
        fn no_place_panics(text in "(\\PC|\n|\t){0,300}", start in 0_usize..700, length in 0_usize..700) {
            let found = one(&text, start..start + length, Some(start / 2..start + length / 2));
            prop_assert!(found.to_string().contains('^'));
        }
    }
}
