//! A mosquitto of the test's own, which ends with it.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// How long a broker may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running broker, killed on drop; its persistence survives [`Broker::kill`].
pub struct Broker {
    child: Option<Child>,
    directory: TempDir,
    port: u16,
}

impl Broker {
    /// A broker on 127.0.0.1 that lets everybody in and keeps no more state than asked for.
    pub fn start() -> Self {
        Self::with("allow_anonymous true\n")
    }

    /// A broker with one plain listener and these lines of mosquitto.conf(5). `DIR` in them stands
    /// for the broker's directory.
    pub fn with(lines: &str) -> Self {
        let port = free_port();
        let config = format!("listener {port} 127.0.0.1\n{lines}");
        Self::with_config(tempfile::tempdir().unwrap(), port, &config)
    }

    /// A broker with these lines alone, in a directory that may hold files already; `port` is one
    /// that shows when it listens.
    pub fn with_config(directory: TempDir, port: u16, config: &str) -> Self {
        let path = directory.path().display().to_string();
        let config = format!("user root\nmax_queued_messages 0\n{config}").replace("DIR", &path);
        fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { child: None, directory, port };
        broker.restart();
        broker
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn log(&self) -> PathBuf {
        self.directory().join("log")
    }

    /// Starts it again with the same configuration.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let log = fs::File::create(self.log()).unwrap();
        let child = Command::new(MOSQUITTO)
            .arg("-v")
            .arg("-c")
            .arg(self.directory().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed");
        self.child = Some(child);
        self.wait_for(self.port);
    }

    /// Waits until it listens on this port of 127.0.0.1.
    pub fn wait_for(&mut self, port: u16) {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(
                ended.is_none() && began.elapsed() < START_TIMEOUT,
                "mosquitto does not listen: {}",
                fs::read_to_string(self.log()).unwrap_or_default()
            );
            std::thread::yield_now();
        }
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends it in good order: it saves its sessions where persistence is configured.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(child.id().try_into().unwrap());
            signal::kill(pid, signal).unwrap();
        }
    }

    /// Publishes a payload from a buffer, at QoS 1.
    pub fn publish_bytes(&self, topic: &str, retain: bool, payload: &[u8]) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-q", "1", "-t", topic, "-s"]);
        if retain {
            command.arg("-r");
        }
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(payload).unwrap();
        assert!(child.wait().unwrap().success(), "mosquitto_pub to {topic}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port on which no process listened a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
