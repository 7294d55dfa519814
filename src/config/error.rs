//! What is wrong with a configuration, told so that a person can mend it.
//!
//! A diagnostic owns all that it shows, so that it outlives the file. Deliberately absent: secrets;
//! the line that a diagnostic shows has been cleared of them before it comes here.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but is hardly meant so.
    Warning,
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
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
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

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file could not be read at all.
    #[error("cannot read the configuration {}: {source}; {hint}", path.display())]
    Unreadable { path: PathBuf, source: io::Error, hint: &'static str },
    /// The file was read, and has these errors, in the order of their places. Never empty.
    #[error("{}", paragraphs(errors))]
    Invalid { errors: Vec<Diagnostic>, warnings: Vec<Diagnostic> },
}

impl ConfigErrors {
    /// The errors at places of the file; none when it could not be read.
    #[must_use]
    pub fn errors(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { errors, .. } => errors,
        }
    }

    /// What else was found.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { warnings, .. } => warnings,
        }
    }
}

fn paragraphs(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}
