//! The guard of a node in a cluster: a small process that ends everything shared when the lease
//! does, also if the monitor hangs, the machine has no network or PID 1 does not answer.
//!
//! The monitor sends it each confirmed renewal. At the deadline the guard reports STOPPING=1, upon
//! which systemd stops the shared agents, since their units are bound to it. After a budget for
//! that it kills their control group itself, by the kernel alone. If the guard dies, systemd stops the
//! agents at once, and if it hangs, systemd's watchdog kills it by the deadline.
//!
//! From READY=1 on the process allocates nothing, its memory is locked, and no call can wait for
//! another process: the rule is [`Guard`], and what it needs of the system is [`GuardPlatform`].

mod client;
mod platform;
mod renewal;

pub use client::{GuardClient, last_renewal};

use iotmonitor_core::machines::cluster::guard::{Guard, GuardAction};
use platform::GuardPlatform;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The runtime directory of the guard, which only root can reach.
pub const DIRECTORY: &str = "/run/iotmonitor-guard";

/// In that directory: where the guard listens, and the lease that it guards.
const SOCKET: &str = "socket";
const LEASE_FILE: &str = "lease";

/// The guard ends if no lease in force arrives within this time after its start.
const FIRST_LEASE_WITHIN: Duration = Duration::from_secs(5);

/// The shortest time between two signs of life, of which a short lease asks for ever more.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(40);

/// Processes that are forked during a kill are killed with the others, and units that PID 1 starts in
/// spite of it are killed by one of the repetitions.
const KILLS: u32 = 10;
const KILL_EVERY: Duration = Duration::from_millis(50);

/// Explains why the guard cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error(
        "the guard cannot make {path}: {error}; it is to be started as iotmonitor-guard.service"
    )]
    File { path: String, error: io::Error },
    #[error(
        "the guard needs the file cgroup.kill in its control group {0}, which Linux has from version \
        5.14 on with the unified hierarchy: use such a kernel, or remove the section [cluster]"
    )]
    NoKill(String),
    #[error("the guard cannot {what}: {error}; run `systemctl restart iotmonitor`")]
    System { what: &'static str, error: io::Error },
    #[error(
        "no lease arrived within {FIRST_LEASE_WITHIN:?}: the guard is started by the monitor of a \
        cluster, and has nothing to guard without one"
    )]
    NoLease,
}

/// Guards until the lease has ended and everything shared was killed. `warn` takes a sentence about
/// what is not as it should be, before the guard begins.
///
/// # Errors
/// Returns an error if the guard could not begin. Nothing shared runs then, because its units are
/// bound to the guard's.
pub fn run(directory: &Path, warn: impl FnOnce(&str)) -> Result<(), GuardError> {
    let platform = GuardPlatform::prepare(directory)?;
    if let Err(error) = GuardPlatform::lock_memory() {
        warn(&format!(
            "the guard's memory cannot be locked: {error}; a disk that does not answer may delay it. \
            A container needs the capability CAP_IPC_LOCK for that"
        ));
    }
    let mut guard = first_lease(&platform)?;
    platform.ready(watchdog(&guard, platform.now()));
    let mut ping_at = platform.now();
    loop {
        let now = platform.now();
        if now >= ping_at {
            let within = watchdog(&guard, now);
            platform.is_alive(within);
            ping_at = now.saturating_add(within / 2);
        }
        platform.wait(ping_at.min(guard.next_deadline()));
        while let Some(renewal) = platform.receive() {
            // A refused renewal changes nothing: the monitor notices the end of the session itself.
            if guard.renewed(platform.now(), renewal).is_ok() {
                platform.keep(renewal);
            }
        }
        match guard.woke(platform.now()) {
            GuardAction::Wait => {}
            GuardAction::Stop => platform.stopping(),
            GuardAction::Kill => break,
        }
    }
    platform.stopping();
    for _ in 0..KILLS {
        platform.kill();
        std::thread::sleep(KILL_EVERY);
    }
    Ok(())
}

fn first_lease(platform: &GuardPlatform) -> Result<Guard, GuardError> {
    let until = platform.now().saturating_add(FIRST_LEASE_WITHIN);
    while platform.now() < until {
        while let Some(renewal) = platform.receive() {
            if let Ok(guard) = Guard::new(platform.now(), renewal) {
                platform.keep(renewal);
                return Ok(guard);
            }
        }
        platform.wait(until);
    }
    Err(GuardError::NoLease)
}

fn watchdog(guard: &Guard, now: Duration) -> Duration {
    guard.watchdog(now).max(SHORTEST_WATCHDOG)
}
