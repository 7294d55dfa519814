//! `iotmonitor run`: the daemon, and its exit code.

use super::check::EXIT_CONFIG;
use super::output::say;
use super::{EXIT_FAILURE, state_directory};
use crate::config::{ConfigErrors, Environment};
use crate::daemon::{self, DaemonError, Options};
use crate::logging::{self, LogTarget, Logger};
use iotmonitor_core::model::alert::{Alert, AlertKind};
use std::path::PathBuf;
use std::time::Duration;

/// The store is of a newer format (`EX_DATAERR` of sysexits.h(3head)): trying again changes
/// nothing.
const EXIT_DATA: u8 = 65;

/// The time limit for the last entries on their way to the journal.
const FLUSH_PATIENCE: Duration = Duration::from_millis(300);

/// Runs until it is signalled to stop; returns the exit code.
pub fn run(config_file: PathBuf, environment: Environment) -> u8 {
    daemon::keep_to_limits();
    let logger = match logging::start(LogTarget::detect(), logging::IDENTIFIER) {
        Ok(logger) => logger,
        Err(error) => {
            say!("iotmonitor: cannot start a thread ({error}); the system is out of resources");
            return EXIT_FAILURE;
        }
    };
    let state_directory = state_directory(environment.user_manager, &environment.instance);
    let options = Options { config_file, state_directory, environment };
    let code = match daemon::run(&options, &logger) {
        Ok(()) => 0,
        Err(error) => {
            report(&error, &logger);
            match error {
                DaemonError::Config(_)
                | DaemonError::AnotherRuns { .. }
                | DaemonError::AnotherNode { .. } => EXIT_CONFIG,
                DaemonError::Store(_) => EXIT_DATA,
                DaemonError::Runtime(_) | DaemonError::StoreLost => EXIT_FAILURE,
            }
        }
    };
    // Entries that are not written in time are lost; the exit must not depend on the journal.
    let _ = logger.flush(FLUSH_PATIENCE);
    code
}

/// Each error of a configuration is a separate entry, so that `journalctl` shows one a line.
fn report(error: &DaemonError, logger: &Logger) {
    let messages = match error {
        DaemonError::Config(ConfigErrors::Invalid { errors, .. }) => errors.paragraphs().collect(),
        DaemonError::Config(ConfigErrors::Unreadable { .. })
        | DaemonError::Store(_)
        | DaemonError::AnotherRuns { .. }
        | DaemonError::AnotherNode { .. }
        | DaemonError::StoreLost
        | DaemonError::Runtime(_) => vec![error.to_string()],
    };
    for message in messages {
        logger.alert(&Alert::plain(AlertKind::StartFailed, message));
    }
}
