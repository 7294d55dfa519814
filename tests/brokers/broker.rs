//! Brokers of several makers, each a process on 127.0.0.1 with a directory of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An Erlang machine beside a full test run takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub const PASSWORD: &str = "secret";

/// What one kind of broker is and does. What the table in docs/brokers.md says is from here, and the
/// tests prove it.
pub struct Kind {
    pub name: &'static str,
    pub user: &'static str,
    /// What the monitor uses where the configuration leaves it the choice.
    pub protocol: &'static str,
    /// A message for a session whose client is away waits for it over a restart of the broker.
    pub keeps_sessions: bool,
    /// Retained messages are there after a restart of the broker.
    pub keeps_retained: bool,
    /// Writes the configuration for this port into the directory, and gives the command.
    pub command: fn(&Path, u16) -> Command,
}

/// A running broker, which ends with the test.
pub struct Broker {
    pub kind: &'static Kind,
    pub port: u16,
    directory: TempDir,
    process: Option<Child>,
}

impl Broker {
    pub fn start(kind: &'static Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut broker = Self { kind, port: free_port(), directory, process: None };
        broker.go_on();
        broker
    }

    /// Starts it with what it had when it ended.
    pub fn go_on(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = (self.kind.command)(self.directory.path(), self.port);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = self.process.insert(command.spawn().expect("the broker's program is there"));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = process.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > START_TIMEOUT {
                panic!(
                    "{} does not listen: {}",
                    self.kind.name,
                    fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Has it end in good order.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // The first process below `unshare` is the broker itself, in a process space of its own.
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        let broker = children.split_whitespace().next().map_or(process.id(), |child| {
            child.parse().expect("the kernel names processes by numbers")
        });
        let broker = nix::unistd::Pid::from_raw(broker.try_into().unwrap());
        nix::sys::signal::kill(broker, nix::sys::signal::Signal::SIGTERM).unwrap();
        process.wait().unwrap();
    }

    /// A client of mosquitto's with the right name and password.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-u", self.kind.user, "-P", PASSWORD]);
        command
    }

    pub fn publish(&self, topic: &str, payload: &str, retained: bool) {
        let mut command = self.client("mosquitto_pub");
        command.args(["-q", "1", "-t", topic, "-m", payload]);
        if retained {
            command.arg("-r");
        }
        assert!(command.status().unwrap().success(), "mosquitto_pub to {topic}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the broker said:\n{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
        if let Some(mut process) = self.process.take() {
            // With it ends everything in its process space.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A command in a root file system with these packages of this release of Debian.
pub fn debian(suite: &str, packages: &str, directory: &Path, command: &[&str]) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/brokers");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("brokers");
    let built = Command::new(scripts.join("image.sh"))
        .arg(cache)
        .args([suite, packages])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(built.status.success(), "the root file system could not be built");
    let root = String::from_utf8(built.stdout).unwrap();
    let mut entering = Command::new("unshare");
    entering.args(["--mount", "--pid", "--fork", "--kill-child"]);
    entering.arg(scripts.join("enter.sh")).arg(root.trim()).arg(directory).args(command);
    entering
}
