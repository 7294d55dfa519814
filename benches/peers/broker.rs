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
    /// Where it speaks TLS, if it was started with certificates.
    pub tls_port: u16,
}

impl Broker {
    /// A broker that keeps every message for a client that is slower than the stream, and has up
    /// to `window` QoS 1 messages on their way to each.
    pub fn start(window: u16) -> Self {
        Self::start_with(window, "log_dest none\n", None)
    }

    /// The same, which logs every subscription; that costs it time.
    pub fn start_verbose(window: u16) -> Self {
        Self::start_with(window, "log_dest file PATH/log\nlog_type subscribe\n", None)
    }

    /// The same with mosquitto's usual window, and TLS if these certificates are there.
    pub fn start_for_stream(certificates: Option<&Path>) -> Self {
        Self::start_with(20, "log_dest file PATH/log\nlog_type subscribe\n", certificates)
    }

    fn start_with(window: u16, log: &str, certificates: Option<&Path>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let (port, tls_port) = (free_port(), free_port());
        let path = directory.path().display();
        let log = log.replace("PATH", &path.to_string());
        let tls = certificates.map_or_else(String::new, |directory| {
            let at = directory.display();
            format!(
                "listener {tls_port} 127.0.0.1\ncertfile {at}/server.crt\nkeyfile {at}/server.key\n"
            )
        });
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n\
             max_inflight_messages {window}\n{log}{tls}"
        );
        let file = directory.path().join("mosquitto.conf");
        fs::write(&file, config).expect("the directory can be written to");
        let child = run(directory.path(), port);
        Self { child, directory, port, tls_port }
    }

    /// Ends it at once, with all that it keeps.
    pub fn kill(&mut self) {
        // Fails only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its port.
    pub fn go_on(&mut self) {
        self.child = run(self.directory.path(), self.port);
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
        self.kill();
    }
}

/// Runs mosquitto with the configuration in this directory, and waits until it listens.
fn run(directory: &Path, port: u16) -> Child {
    let child = Command::new(MOSQUITTO)
        .arg("-c")
        .arg(directory.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto is installed; `make deps` does it");
    until("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0");
    listener.and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(GLANCE);
    }
}
