//! Selects the bus, connects to it, and determines the delay before the next try. Every part that
//! speaks D-Bus shares this module.
//!
//! Names, paths and interfaces are not shared; each part defines its own.

#[cfg(test)]
pub mod test_bus;

use iotmonitor_core::backoff::Backoff;
use std::time::Duration;
use zbus::connection::{Builder, Connection};

/// The time limit of a call. PID 1 answers in milliseconds, but is unavailable for many seconds
/// during a daemon-reload of a large system.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// The time limit for connecting to a bus.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The bus of the service manager that runs this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    System,
    /// The bus of a user manager (`user@.service`).
    User,
}

/// Connects to a bus; `address` replaces the well-known one. Calls wait for their answers no longer
/// than `timeout`.
///
/// # Errors
/// Returns an error when no bus listens at the address, or it does not accept the connection within
/// ten seconds.
pub async fn connect(
    bus: Bus,
    address: Option<&str>,
    timeout: Duration,
) -> zbus::Result<Connection> {
    let builder = match (address, bus) {
        (Some(address), _) => Builder::address(address),
        (None, Bus::System) => Builder::system(),
        (None, Bus::User) => Builder::session(),
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, builder.method_timeout(timeout).build()).await {
        Ok(result) => result,
        Err(_elapsed) => Err(zbus::Error::Failure("the bus does not answer".to_owned())),
    }
}

/// The delays between tries to reach a bus, or a name on it.
#[must_use]
pub const fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10))
}
