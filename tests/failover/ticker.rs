//! The program of the shared agents: it notes where and when it runs.
//!
//! All machines share the kernel, so its boot clock is one clock for all of them, and the files of
//! ticks are in a directory that is in each of them.

use super::ticks::{Tick, boot_clock};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What the test's own program is called in the machines.
pub const PROGRAM: &str = "/usr/bin/ticker";
pub const DIRECTORY: &str = "/srv/ticks";

const TICK_EVERY: Duration = Duration::from_millis(2);

/// The name of the agent, if this process is one.
pub fn agent() -> Option<String> {
    let mut arguments = std::env::args();
    (arguments.next()? == PROGRAM).then(|| arguments.next()).flatten()
}

/// Ticks until it is killed.
pub fn run(agent: &str) -> ExitCode {
    match tick(agent) {
        Ok(never) => never,
        Err(error) => {
            eprintln!("agent {agent} cannot tick: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tick(agent: &str) -> std::io::Result<ExitCode> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let node = host.trim().trim_start_matches("pi").parse().map_err(std::io::Error::other)?;
    let epoch = std::env::var("IOTMONITOR_EPOCH").map_err(std::io::Error::other)?;
    let epoch = epoch.parse().map_err(std::io::Error::other)?;
    let path = Path::new(DIRECTORY).join(agent);
    // Each tick is one write at the end, so that those of several processes are whole and in order.
    let mut file = OpenOptions::new().append(true).open(path)?;
    loop {
        file.write_all(&Tick { at: boot_clock(), epoch, node }.to_bytes())?;
        std::thread::sleep(TICK_EVERY);
    }
}
