//! The program as a process of its own, beside a broker and without systemd.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// The lines that a process has written up to now.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// Starts the monitor with the configuration in this directory, and with its states below it. No
/// system bus exists there. Programs in `bin` below it are found first. What it says on standard error is
/// added to `said`.
pub fn start(directory: &Path, said: &Lines) -> Child {
    let mut process = Command::new(env!("CARGO_BIN_EXE_iotmonitor"))
        .arg("run")
        .arg("--config")
        .arg(directory.join("config.toml"))
        .env("PATH", format!("{}/bin:{}", directory.display(), std::env::var("PATH").unwrap()))
        .env("STATE_DIRECTORY", directory.join("states"))
        .env("RUNTIME_DIRECTORY", directory.join("run"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}/bus", directory.display()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    collect(BufReader::new(process.stderr.take().unwrap()), said);
    process
}

/// Adds each line that comes, until the end.
pub fn collect(from: impl BufRead + Send + 'static, to: &Lines) {
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            to.lock().unwrap().push(line);
        }
    });
}
