//! A monitor with a broker, a bus, a page and recorded messages of its own.

use crate::broker::{Broker, free_port};
use bytes::Bytes;
use iotmonitor_recorder::{Limits, Message, Store, Writer};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
pub const SECOND: i64 = 1_000_000;
pub const TOKEN: &str = "a-token-of-32-good-characters-at-least";

/// The time in microseconds.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

pub fn message(time: i64, topic: &str, payload: &str) -> Message {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Message { time, topic: topic.to_owned(), payload, qos: 1, retain: false }
}

/// A process of the tests with this variable is a monitor.
pub const IS_MONITOR: &str = "IOTMONITOR_TEST_IS_MONITOR";

pub struct House {
    pub directory: TempDir,
    pub port: u16,
    _broker: Broker,
    bus: Child,
    address: String,
    monitor: Option<Child>,
}

impl House {
    /// A monitor of these sections that hears its devices, beside these messages.
    pub fn with(sections: &str, messages: &[Message]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        record(&directory.path().join("recorded"), messages);
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let script = format!(
            "#!/bin/sh\ncommand=$1\nshift\nexec {} \"$command\" --directory '{}' \"$@\"\n",
            env!("CARGO_BIN_EXE_iotmonitor-recorder"),
            directory.path().join("recorded").display()
        );
        script_at(&bin.join("iotmonitor-recorder"), &script);
        let (broker, port) = (Broker::start(), free_port());
        let token = directory.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "[mqtt]\nserverAddress = \"tcp://127.0.0.1:{}\"\n[http]\nport = {port}\ntokenFile = \"{}\"\n{sections}",
            broker.port(),
            token.display()
        );
        fs::write(directory.path().join("config.toml"), config).unwrap();
        let (bus, address) = bus();
        let mut house = Self { directory, port, _broker: broker, bus, address, monitor: None };
        house.start();
        house
    }

    /// A directory of programs that is searched before all others.
    pub fn bin(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    pub fn start(&mut self) {
        let mut run = self.command(&["run", "--config"]);
        run.arg(self.directory.path().join("config.toml"));
        run.env("STATE_DIRECTORY", self.directory.path().join("states"));
        run.env("RUNTIME_DIRECTORY", self.directory.path().join("runtime"));
        run.stderr(fs::File::create(self.directory.path().join("log")).unwrap());
        self.monitor = Some(run.spawn().unwrap());
        self.until("the monitor to be on the bus and to hear its devices", || {
            self.command(&["status"]).output().unwrap().status.success()
                && self.try_get("/healthz").is_some_and(|(status, _)| status == 200)
        });
    }

    pub fn stop(&mut self) {
        if let Some(mut monitor) = self.monitor.take() {
            let _ = monitor.kill();
            let _ = monitor.wait();
        }
    }

    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command of the monitor's program.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(IS_MONITOR, "1")
            .arg("--user")
            .args(arguments)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("PATH", format!("{}:/usr/bin:/bin", self.bin().display()));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints that succeeds.
    pub fn printed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that fails.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The status and the body of what the page answers to one who has the token.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).unwrap()
    }

    fn try_get(&self, path: &str) -> Option<(u16, String)> {
        self.ask(path, &format!("Authorization: Bearer {TOKEN}\r\n"))
    }

    pub fn ask(&self, path: &str, headers: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

/// Stores these messages as Parquet files.
pub fn record(directory: &Path, messages: &[Message]) {
    let mut writer = Writer::open(&Store::new(directory), Limits::default()).unwrap();
    for part in messages.chunks(10_000) {
        for message in part {
            writer.append(message).unwrap();
        }
        writer.commit(Instant::now()).unwrap();
    }
    writer.flush().unwrap();
}

pub fn script_at(path: &Path, script: &str) {
    // Another thread may fork while the file is open for writing, which keeps it from being run.
    let draft = path.with_extension("draft");
    fs::write(&draft, script).unwrap();
    let done = Command::new("install").args(["-m", "755"]).arg(&draft).arg(path).status().unwrap();
    assert!(done.success());
}

fn bus() -> (Child, String) {
    let mut bus = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--nopidfile", "--print-address"])
        .arg("--address=unix:tmpdir=/tmp")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (bus, address.trim().to_owned())
}
