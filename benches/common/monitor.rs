//! The monitor's program as a process of its own, outside of systemd.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program of this build, or the one that `IOTMONITOR_PROGRAM` names.
fn program() -> String {
    env::var("IOTMONITOR_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_iotmonitor").to_owned())
}

/// The command that runs it with this configuration, as [`Monitor::start`] does.
pub fn command(directory: &Path, config: &str, wrapper: &[String]) -> Command {
    let file = directory.join("config.toml");
    fs::write(&file, config).expect("the directory can be written to");
    let program = program();
    let mut words = wrapper.iter().chain([&program]);
    let mut command = Command::new(words.next().unwrap_or(&program));
    command
        .args(words)
        .args(["run", "--config"])
        .arg(&file)
        .env("STATE_DIRECTORY", directory.join("store"))
        // No bus on any machine, so that it is the same everywhere.
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/iotmonitor-bench")
        .env("NOTIFY_SOCKET", directory.join("notify"));
    command
}

/// A running monitor; killed on drop.
pub struct Monitor {
    pub child: Child,
    log: PathBuf,
}

impl Monitor {
    /// Starts it with this configuration; `directory` takes its file, its store and its log, and
    /// may hold a socket `notify` for its words to systemd. `wrapper` is a program, with arguments,
    /// that runs it.
    pub fn start(directory: &Path, config: &str, wrapper: &[String]) -> Self {
        let log = directory.join("log");
        let output = File::create(&log).expect("the directory can be written to");
        let child = command(directory, config, wrapper)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program()));
        Self { child, log }
    }

    /// Ends it in good order.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).expect("Linux has no larger pids");
        signal::kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it is a child that runs");
        let status = self.child.wait().expect("it is a child");
        assert!(status.success(), "the monitor ended with {status}");
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the monitor said:\n{}", self.said());
        }
        // Fails where it was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
