//! `iotmonitor guard`: the process of iotmonitor-guard.service, and its exit code.

use super::EXIT_FAILURE;
use super::output::say;
use crate::guard;
use std::path::Path;

/// Returns when the lease has ended, with the exit code.
pub fn guard() -> u8 {
    match guard::run(Path::new(guard::DIRECTORY), |warning| say!("{warning}")) {
        Ok(()) => {
            say!("the lease has ended, and everything shared was stopped");
            0
        }
        Err(error) => {
            say!("{error}");
            EXIT_FAILURE
        }
    }
}
