//! `iotmonitor-recorder check [FILE]`: reports whether a configuration can be used, and changes
//! nothing.

use crate::summary::summary;
use iotmonitor::cli::check::{EXIT_CONFIG, show};
use iotmonitor::config::{self, ConfigErrors, Environment};
use iotmonitor_core::model::words::counted;
use std::io::Write;
use std::path::Path;

/// Checks the file; findings go to `err`, one line about a good file to `out`. Returns the exit
/// code: 0, also with warnings, or [`EXIT_CONFIG`].
pub fn check(
    path: &Path,
    environment: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    // A reader that closed the other end does not want more: write errors change no outcome.
    match config::load_for_recorder(path, environment) {
        Ok(loaded) => {
            show(&loaded.warnings, err);
            let _ = writeln!(out, "{}: ok, records {}", path.display(), summary(&loaded.recorder));
            0
        }
        Err(ConfigErrors::Invalid { errors, warnings }) => {
            show(&warnings, err);
            show(&errors, err);
            let _ = writeln!(err, "{}: {}", path.display(), counted(errors.total(), "error"));
            EXIT_CONFIG
        }
        Err(unreadable @ ConfigErrors::Unreadable { .. }) => {
            let _ = writeln!(err, "{unreadable}");
            EXIT_CONFIG
        }
    }
}
