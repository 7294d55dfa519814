//! What the commands print. Nothing here can end a command early: a reader who has gone has seen
//! enough, and what is said beside the work does not hold the work up.

use crate::printable::escaped_lines;
use clap::builder::styling::Style;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write as _};

/// Standard output does not take what a command is there to print.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// Whether anybody still reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    There,
    Gone,
}

/// Prints bytes as they are.
///
/// # Errors
/// When they cannot be written for another reason than that the reader has gone.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<Reader, OutputError> {
    let mut out = io::stdout().lock();
    reader(out.write_all(bytes.as_ref()).and_then(|()| out.flush()))
}

/// What a write says of the reader; a broken pipe is no error.
///
/// # Errors
/// Every other failure.
pub fn reader(written: io::Result<()>) -> Result<Reader, OutputError> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(OutputError(error)),
    }
}

/// Says something on standard error; where that is closed, nobody hears it.
pub fn to_stderr(words: Arguments<'_>) {
    let line = format!("{words}\n");
    let _ = io::stderr().lock().write_all(escaped_lines(&line).as_bytes());
}

/// [`to_stderr`] with a format string.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::output::to_stderr(format_args!($($words)*)) };
}
pub(crate) use say;

/// How a stream wants what is printed to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputStyle {
    pub coloured: bool,
    /// Columns of a terminal; a file and a pipe get whole lines.
    pub width: Option<usize>,
}

impl OutputStyle {
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        let size = if stdout.is_terminal() { console::Term::stdout().size_checked() } else { None };
        Self {
            coloured: crate::terminal::is_coloured(&stdout),
            width: size.map(|(_, columns)| usize::from(columns)),
        }
    }

    /// The style where it is wanted.
    pub fn style(self, style: Style) -> Style {
        if self.coloured { style } else { Style::new() }
    }
}
