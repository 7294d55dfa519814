//! Errors and warnings of a configuration, shown so that a person can correct the file.
//!
//! A diagnostic owns everything that it shows, so that it outlives the file. It is rendered here
//! rather than by annotate-snippets, which renders from the source itself: the line shown has
//! already been shortened and cleared of secrets and control characters.

use iotmonitor_core::model::words::counted;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One finding at one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub path: PathBuf,
    /// The line, starting at 1.
    pub line: usize,
    /// The column, starting at 1, in characters.
    pub column: usize,
    /// One sentence that carries the offending value, without a full stop.
    pub message: String,
    /// The correction.
    pub hint: String,
    pub(super) snippet: Snippet,
}

/// The line that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    /// Without secrets and control characters, shortened when long.
    pub text: String,
    /// The start of the marker in `text`, in characters, starting at 0.
    pub marker_start: usize,
    /// At least 1.
    pub marker_length: usize,
}

impl Diagnostic {
    /// Formats file, line, column, message and hint as one line, for places that show only one.
    #[must_use]
    pub fn one_line(&self) -> String {
        format!(
            "{}:{}:{}: {} ({})",
            self.path.display(),
            self.line,
            self.column,
            self.message,
            self.hint
        )
    }
}

/// Formats the diagnostic as compilers do: message, place, line with a marker below, help.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity;
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let Snippet { text, marker_start, marker_length } = &self.snippet;
        writeln!(f, "{severity}: {}", self.message)?;
        writeln!(f, "{gutter}--> {}:{}:{}", self.path.display(), self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{}", format!("{number} | {text}").trim_end())?;
        writeln!(f, "{gutter} | {}{}", " ".repeat(*marker_start), "^".repeat(*marker_length))?;
        write!(f, "{gutter} = help: {}", self.hint)
    }
}

/// Findings of one severity, in the order of the file: the first ones, and the total number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    pub(super) shown: Vec<Diagnostic>,
    pub(super) total: usize,
}

impl Findings {
    /// The first ones.
    #[must_use]
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.shown
    }

    /// The total number, including the first ones.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Formats each finding as [`Diagnostic`] does; a last paragraph counts the findings that are
    /// not shown, if there are any.
    pub fn paragraphs(&self) -> impl Iterator<Item = String> {
        self.shown.iter().map(ToString::to_string).chain(self.rest())
    }

    fn rest(&self) -> Option<String> {
        let rest = self.total.saturating_sub(self.shown.len());
        let severity = self.shown.first()?.severity;
        (rest > 0).then(|| format!("and {}, not shown", counted(rest, &format!("more {severity}"))))
    }
}

impl Deref for Findings {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.shown
    }
}

/// All paragraphs, with an empty line between them.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.paragraphs().collect::<Vec<_>>().join("\n\n"))
    }
}

/// Explains why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file could not be read at all.
    #[error("cannot read the configuration {}: {source}; {hint}", path.display())]
    Unreadable { path: PathBuf, source: io::Error, hint: &'static str },
    /// The file was read, and has these errors, in the order of their places. Never empty.
    #[error("{errors}")]
    Invalid { errors: Findings, warnings: Findings },
}

impl ConfigErrors {
    /// The first errors that have a place in the file; none when the file could not be read.
    #[must_use]
    pub fn errors(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { errors, .. } => errors,
        }
    }

    /// The first of the other findings.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { warnings, .. } => warnings,
        }
    }
}
