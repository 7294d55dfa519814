//! `iotmonitor-recorder run`: the service, and its exit code.

use crate::service::{self, Options, ServiceError};
use iotmonitor::cli::check::EXIT_CONFIG;
use iotmonitor::config::ConfigErrors;
use iotmonitor::daemon;
use iotmonitor::logging::{self, LogTarget, Logger};
use iotmonitor_core::model::alert::{Alert, AlertKind};
use std::io::Write;
use std::time::Duration;

const EXIT_FAILURE: u8 = 1;

/// `SYSLOG_IDENTIFIER` of the journal's entries.
const IDENTIFIER: &str = "iotmonitor-recorder";

/// The time limit for the last entries on their way to the journal.
const FLUSH_PATIENCE: Duration = Duration::from_millis(300);

/// Records until it is signalled to stop; returns the exit code.
pub fn run(options: &Options) -> u8 {
    daemon::keep_to_limits();
    let logger = match logging::start(LogTarget::detect(), IDENTIFIER) {
        Ok(logger) => logger,
        Err(error) => {
            let sentence = format!("{IDENTIFIER}: cannot start a thread ({error})\n");
            let _ = std::io::stderr().write_all(sentence.as_bytes());
            return EXIT_FAILURE;
        }
    };
    let code = match service::run(options, &logger) {
        Ok(()) => 0,
        Err(error) => {
            report(&error, &logger);
            match error {
                ServiceError::Config(_) | ServiceError::AnotherRuns { .. } => EXIT_CONFIG,
                ServiceError::StoreLost(_) | ServiceError::Runtime(_) => EXIT_FAILURE,
            }
        }
    };
    // Entries that are not written in time are lost; the exit must not depend on the journal.
    let _ = logger.flush(FLUSH_PATIENCE);
    code
}

/// Each error of a configuration is a separate entry, so that `journalctl` shows one a line.
fn report(error: &ServiceError, logger: &Logger) {
    let messages = match error {
        ServiceError::Config(ConfigErrors::Invalid { errors, .. }) => errors.paragraphs().collect(),
        error => vec![error.to_string()],
    };
    for message in messages {
        logger.alert(&Alert::plain(AlertKind::StartFailed, message));
    }
}
