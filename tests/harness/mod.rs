//! Test machines: boot, run commands, read the journal, talk MQTT, and leave nothing behind.

mod journal;
mod log;
mod machine;
mod monitor;
mod mqtt;
mod publisher;

pub use journal::Entry;
pub use machine::{Build, Bus, Machine, enter_network, recorder, script};
pub use monitor::{GARDEN, config};
pub use mqtt::{Message, Subscriber};
pub use publisher::Publisher;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long anything may take that should come soon. Generous, because it is only waited for in full
/// when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Wall clock in whole seconds since the Unix epoch.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

/// Waits until the condition holds and returns its value; `what` names it when it never does.
///
/// For conditions that must be polled; events are awaited in a log.
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, condition)
}

/// The same for what takes its time by design.
pub fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = std::time::Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
