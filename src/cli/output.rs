//! The output of the commands. Nothing here ends a command early: a reader that has gone has seen
//! enough, and messages on standard error never delay the work.

use crate::printable::escaped_lines;
use clap::builder::styling::Style;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write as _};

/// Standard output does not accept the output of the command.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// Whether the output still has a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    There,
    Gone,
}

/// Writes bytes unchanged.
///
/// # Errors
/// Returns an error when they cannot be written for any reason other than that the reader has gone.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<Reader, OutputError> {
    let mut out = io::stdout().lock();
    reader(out.write_all(bytes.as_ref()).and_then(|()| out.flush()))
}

/// Interprets the result of a write; a broken pipe is not an error.
///
/// # Errors
/// Returns every other failure.
pub fn reader(written: io::Result<()>) -> Result<Reader, OutputError> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(OutputError(error)),
    }
}

/// Writes a message to standard error; where that is closed, the message is lost.
pub fn to_stderr(words: Arguments<'_>) {
    let line = format!("{words}\n");
    let _ = io::stderr().lock().write_all(escaped_lines(&line).as_bytes());
}

/// [`to_stderr`] with a format string.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::output::to_stderr(format_args!($($words)*)) };
}
pub(crate) use say;

/// The format that a stream needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputStyle {
    pub coloured: bool,
    /// A person reads it, whose terminal obeys what it prints.
    pub is_terminal: bool,
    /// The columns of a terminal; a file and a pipe receive whole lines.
    pub width: Option<usize>,
}

impl OutputStyle {
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        let size = if stdout.is_terminal() { console::Term::stdout().size_checked() } else { None };
        Self {
            coloured: crate::terminal::is_coloured(&stdout),
            is_terminal: stdout.is_terminal(),
            width: size.map(|(_, columns)| usize::from(columns)),
        }
    }

    /// The style where styles are enabled.
    pub fn style(self, style: Style) -> Style {
        if self.coloured { style } else { Style::new() }
    }
}
