//! What is wrong with a configuration, told so that a person can mend it.
//!
//! A diagnostic owns all that it shows, so that it outlives the file. It is rendered here and not by
//! annotate-snippets, which renders from the source itself: what is shown is one line that has been cut
//! and cleared of secrets and control characters, in a dozen lines of code. Deliberately absent:
//! secrets; the line that a diagnostic shows has been cleared of them before it comes here.

use iotmonitor_core::model::words::counted;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but is hardly meant so.
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
    /// From 1 on.
    pub line: usize,
    /// From 1 on, in characters.
    pub column: usize,
    /// One sentence that carries the offending value, without a full stop.
    pub message: String,
    /// What would be right.
    pub hint: String,
    pub(super) snippet: Snippet,
}

/// The line that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    /// Without secrets and control characters, shortened when long.
    pub text: String,
    /// Where the marker starts in `text`, in characters from 0 on.
    pub marker_start: usize,
    /// At least 1.
    pub marker_length: usize,
}

impl Diagnostic {
    /// File, line, column, message and hint in one line, for places that have only one.
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

/// In the form that compilers use: message, place, line with a marker below, help.
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

/// Findings of one severity, in the order of the file: the first ones, and how many there are.
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

    /// How many there are, the first ones among them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Each in the form that [`Diagnostic`] shows; the last one counts what is not shown, where
    /// there is more.
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

/// Why there is no configuration.
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
    /// The first errors at places of the file; none when it could not be read.
    #[must_use]
    pub fn errors(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { errors, .. } => errors,
        }
    }

    /// The first of what else was found.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { warnings, .. } => warnings,
        }
    }
}
