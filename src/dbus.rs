//! Selects the bus, connects to it, and determines the delay before the next try. Every part that
//! speaks D-Bus shares this module.
//!
//! Names, paths and interfaces are not shared; each part defines its own.

#[cfg(test)]
pub mod test_bus;

use iotmonitor_core::backoff::Backoff;
use std::time::Duration;
use zbus::connection::{Builder, Connection};

/// Time a call may take. PID 1 answers in milliseconds, but a daemon-reload of a large system
/// takes it away for many seconds.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// Time in which a bus must have let us in.
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
/// When there is nobody at the address, or they do not let us in within ten seconds.
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
