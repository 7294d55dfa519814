//! The time of a turn, which the caller of the monitor reads once.

use std::time::Duration;

/// The time of one turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary start; never steps. All deadlines are on it.
    pub mono: Duration,
    /// Since the Unix epoch; may step. Only shown, never compared.
    pub wall: Duration,
    /// Since the machine was switched on, with the time in which it was suspended; never steps, and
    /// begins anew with each boot. It counts over restarts of the process.
    pub boot: Duration,
}
