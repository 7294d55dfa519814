//! A mosquitto of the bench's own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(1);

/// A running broker, killed on drop.
pub struct Broker {
    child: Child,
    directory: TempDir,
    pub port: u16,
}

impl Broker {
    /// A broker that keeps every message for a client that is slower than the stream, and has up
    /// to `window` QoS 1 messages on their way to each.
    pub fn start(window: u16) -> Self {
        Self::start_with(window, "log_dest none\n")
    }

    /// The same, which logs every subscription; that costs it time.
    pub fn start_verbose(window: u16) -> Self {
        Self::start_with(window, "log_dest file PATH/log\nlog_type subscribe\n")
    }

    fn start_with(window: u16, log: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let path = directory.path().display();
        let log = log.replace("PATH", &path.to_string());
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n\
             max_inflight_messages {window}\n{log}"
        );
        let file = directory.path().join("mosquitto.conf");
        fs::write(&file, config).expect("the directory can be written to");
        let child = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed; `make deps` does it");
        let broker = Self { child, directory, port };
        until("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        broker
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until this client has subscribed to something; for a broker with a verbose log.
    pub fn until_subscribed(&self, client_id: &str) {
        let log = self.directory().join("log");
        until(&format!("{client_id} subscribes"), || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains(&format!(": {client_id} ")))
        });
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fails only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(GLANCE);
    }
}
