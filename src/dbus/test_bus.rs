//! A bus for a single test.

use std::io::BufRead;
use std::process::{Child, Command, Stdio};

/// A dbus-daemon that ends with the test.
pub struct TestBus {
    process: Child,
    pub address: String,
}

impl TestBus {
    pub fn start(address: &str) -> Self {
        let mut process = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .arg(format!("--address={address}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need dbus-daemon, from the package dbus");
        let mut printed = String::new();
        let stdout = process.stdout.take().unwrap();
        std::io::BufReader::new(stdout).read_line(&mut printed).unwrap();
        Self { process, address: printed.trim().to_owned() }
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A bus that is killed leaves its socket behind.
        let path = self.address.strip_prefix("unix:path=").and_then(|rest| rest.split(',').next());
        let _ = path.map(std::fs::remove_file);
    }
}
