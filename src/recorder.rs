//! What this program knows of `iotmonitor-recorder`, which is a package of its own: its commands read what
//! was recorded, so that this program contains no reader of Parquet files.

use crate::printable::escaped_lines;
use serde::Deserialize;
use std::io;
use std::process::{Command, Output};

/// The name of the program, which is searched for in `PATH`.
pub const PROGRAM: &str = "iotmonitor-recorder";

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    #[error(
        "recorded messages are read by iotmonitor-recorder, which is not installed: \
         `sudo apt install ./iotmonitor-recorder_*.deb` installs it"
    )]
    NotInstalled,
    #[error("iotmonitor-recorder cannot be run: {0}")]
    NotRun(io::Error),
    /// Its own sentence.
    #[error("{0}")]
    Failed(String),
    #[error("iotmonitor-recorder is of a version whose answers this version does not understand")]
    Unknown,
}

impl From<io::Error> for RecorderError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotInstalled,
            _ => Self::NotRun(error),
        }
    }
}

/// A Parquet file that counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordedFile {
    pub path: std::path::PathBuf,
    pub bytes: u64,
    pub inode: u64,
}

/// A topic of which messages were recorded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RecordedTopic {
    pub topic: String,
    pub messages: u64,
    /// The messages that are numbers.
    pub numbers: u64,
}

/// The command with these arguments. No argument is taken for an option behind `--`.
pub fn command<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    command
}

/// Runs the command to its end, and returns what it printed.
///
/// # Errors
/// Returns an error when it cannot be run, or fails.
pub fn read(mut command: Command) -> Result<Vec<u8>, RecorderError> {
    printed(command.output()?)
}

/// What a command printed that has succeeded.
///
/// # Errors
/// Returns the sentence of one that has failed.
pub fn printed(output: Output) -> Result<Vec<u8>, RecorderError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().strip_prefix("iotmonitor-recorder: ").unwrap_or(said.trim());
    Err(RecorderError::Failed(match said.is_empty() {
        true => format!("iotmonitor-recorder has failed ({})", output.status),
        false => escaped_lines(said).into_owned(),
    }))
}

/// Interprets what a command printed.
///
/// # Errors
/// Returns an error when it is not what this version expects.
pub fn parse<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, RecorderError> {
    serde_json::from_slice(bytes).map_err(|_| RecorderError::Unknown)
}
