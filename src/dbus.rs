//! Which bus, how to reach it, and how long to wait before the next try: what every part that
//! speaks D-Bus shares.
//!
//! Deliberately absent: names, paths and interfaces; each part knows its own.

#[cfg(test)]
pub mod test_bus;

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

/// Delays between tries, from 0.2 s doubling to 10 s.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(10);

    #[must_use]
    pub const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The delay before the next try; each is twice the last.
    pub fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        delay
    }

    /// To be called once things have gone well for a while.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_seconds_and_start_afresh() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..8).map(|_| backoff.delay().as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.delay(), Backoff::FIRST);
    }
}
