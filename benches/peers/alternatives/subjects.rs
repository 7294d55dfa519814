//! The monitor and what stands in for it, each started for the same devices.

use crate::common::monitor;
use crate::installed::installed;
use crate::process;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/alternatives");
const PAHO: &str = "python3 -m venv . && bin/pip install --quiet paho-mqtt==2.2.0";
const NODE_RED: &str = "npm install --no-fund --no-audit node-red@4.1.15";
/// What each puts before its alerts.
const BASE: &str = "home/monitoring";

/// A device: its name, and its time-out in seconds.
pub type Device = (String, u64);

/// One column of the table.
#[derive(Debug, Clone)]
pub enum Subject {
    Monitor,
    Script,
    /// The directory in which paho-mqtt is.
    Python(PathBuf),
    /// The directory in which Node-RED is.
    NodeRed(PathBuf),
}

/// A subject that runs, in a process group of its own; killed on drop.
pub struct Running {
    child: Child,
}

impl Subject {
    /// All of them; a sentence in place of what cannot be installed now.
    pub fn all(with_node_red: bool) -> Vec<Result<Self, String>> {
        let mut all = vec![Ok(Self::Monitor), Ok(Self::Script)];
        all.push(installed("peers", "paho-mqtt", PAHO).map(Self::Python));
        if with_node_red {
            all.push(installed("peers", "node-red", NODE_RED).map(Self::NodeRed));
        }
        all
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Monitor => "iotmonitor",
            Self::Script => "mosquitto_sub and a shell script",
            Self::Python(_) => "Python with paho-mqtt",
            Self::NodeRed(_) => "Node-RED",
        }
    }

    /// Starts it for these devices and a broker on this port; the directory is for its files, and for
    /// those that it left there before.
    pub fn start(
        &self,
        directory: &Path,
        port: u16,
        devices: &[Device],
        wrapper: &[String],
    ) -> Running {
        let list = directory.join("devices");
        let lines: Vec<String> =
            devices.iter().map(|(name, seconds)| format!("{name} {seconds}\n")).collect();
        fs::write(&list, lines.concat()).expect("the directory can be written to");
        let port_word = port.to_string();
        let mut command = match self {
            Self::Monitor => monitor::command(directory, &config(port, devices), wrapper),
            Self::Script => {
                wrapped(wrapper, &["bash", &format!("{PROGRAMS}/watchdog.sh"), "127.0.0.1"])
            }
            Self::Python(home) => {
                let python = home.join("bin/python").display().to_string();
                wrapped(wrapper, &[&python, &format!("{PROGRAMS}/watchdog.py"), "127.0.0.1"])
            }
            Self::NodeRed(home) => node_red(home, directory, &port_word, devices, wrapper),
        };
        if matches!(self, Self::Script | Self::Python(_)) {
            command.args([port_word.as_str(), BASE]).arg(&list);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Running { child: command.spawn().expect("it is installed; `make deps` does it") }
    }
}

impl Running {
    /// Processor time of its processes so far.
    pub fn cpu(&self) -> Duration {
        process::members(self.child.id()).into_iter().map(process::cpu).sum()
    }

    /// Resident memory of its processes, in megabytes.
    pub fn resident(&self) -> f64 {
        process::members(self.child.id()).into_iter().map(process::resident).sum()
    }

    /// Holds all of it up, as a suspended or a busy machine does.
    pub fn hold(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn release(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills its first process, as `kill -9` or the kernel without memory does.
    pub fn kill_first(&self) {
        kill(self.group(), Signal::SIGKILL).expect("it runs");
    }

    fn signal(&self, signal: Signal) {
        killpg(self.group(), signal).expect("it runs");
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("Linux has no larger pids"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where all of it has ended.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn wrapped(wrapper: &[String], words: &[&str]) -> Command {
    let words: Vec<&str> =
        wrapper.iter().map(String::as_str).chain(words.iter().copied()).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn node_red(
    home: &Path,
    directory: &Path,
    port: &str,
    devices: &[Device],
    wrapper: &[String],
) -> Command {
    let settings = directory.join("settings.js");
    // Without its editor and its pages, which would need a port.
    let text = format!(
        "module.exports = {{ httpAdminRoot: false, httpNodeRoot: false, uiHost: '127.0.0.1', uiPort: {},\n\
         userDir: '{}', flowFile: '{PROGRAMS}/flow.json' }};\n",
        crate::broker::free_port(),
        directory.join("node-red").display(),
    );
    fs::write(&settings, text).expect("the directory can be written to");
    let timeouts: Vec<String> =
        devices.iter().map(|(name, seconds)| format!("\"{name}\":{seconds}")).collect();
    let program = home.join("node_modules/node-red/red.js").display().to_string();
    let settings = settings.display().to_string();
    let mut command = wrapped(wrapper, &["node", &program, "--settings", &settings]);
    command.env("MQTT_PORT", port).env("DEVICES", format!("{{{}}}", timeouts.join(",")));
    command
}

fn config(port: u16, devices: &[Device]) -> String {
    let mut text = format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\n");
    for (name, seconds) in devices {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[device_{name}]\nwatchTopics=\"b/{name}/sensors/#\"\nwatchTimeOut={seconds}\n\
             helloTopic=\"b/{name}/hello\"\nstateTopics=\"b/{name}/actuators/#\"\nrestoreOnStart=false\n"
        );
    }
    text
}
