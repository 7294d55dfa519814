//! The program beside a broker, and a client that looks on.

use super::broker::{Broker, PASSWORD};
use super::process::{self, Lines, collect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything that works takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(90);

/// What comes at once comes within this time.
const SOON: Duration = Duration::from_secs(3);

pub struct Monitor {
    directory: TempDir,
    address: String,
    user: &'static str,
    process: Option<Child>,
    said: Lines,
}

impl Monitor {
    pub fn start(broker: &Broker) -> Self {
        let mut monitor = Self {
            directory: tempfile::tempdir().unwrap(),
            address: format!("tcp://127.0.0.1:{}", broker.port),
            user: broker.kind.user,
            process: None,
            said: Lines::default(),
        };
        monitor.has_password(PASSWORD);
        monitor.go_on();
        monitor
    }

    /// From its next start on.
    pub fn has_password(&self, password: &str) {
        let config = format!(
            "[mqtt]\nserverAddress = \"{}\"\nuser = \"{}\"\npassword = \"{password}\"\n\
             [device_lamp]\nwatchTimeOut = 2\nhelloTopic = \"home/lamp/hello\"\n\
             watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n",
            self.address, self.user
        );
        let path = self.directory.path().join("config.toml");
        fs::write(&path, config).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Starts it with what it had when it ended; what it said before is forgotten.
    pub fn go_on(&mut self) {
        self.said = Lines::default();
        self.process = Some(process::start(self.directory.path(), &self.said));
    }

    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(process.wait().unwrap().success());
    }

    /// Waits until it has said something with these words so often since its start.
    pub fn until_said(&self, times: usize, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.said.lock().unwrap().iter().filter(|line| line.contains(words)).count() < times {
            assert!(Instant::now() < deadline, "waited in vain for {words:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the monitor said:\n{}", self.said.lock().unwrap().join("\n"));
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A subscriber of a filter, and what it received.
pub struct Subscriber {
    client: Child,
    heard: Lines,
}

impl Subscriber {
    /// Subscribed when this returns.
    pub fn to(broker: &Broker, filter: &str) -> Self {
        let client = broker.client("mosquitto_sub");
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(client.get_program()).args(client.get_args());
        command.args(["-d", "-q", "1", "-t", filter, "-F", "heard %t %p"]);
        let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(client.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("Subscribed") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "mosquitto_sub ended");
        }
        let heard = Lines::default();
        collect(lines, &heard);
        Self { client, heard }
    }

    fn times(&self, begin: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|line| line.starts_with(begin)).count()
    }

    /// How often something came on this topic.
    pub fn count(&self, topic: &str) -> usize {
        self.times(&format!("heard {topic} "))
    }

    fn comes(&self, within: Duration, holds: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + within;
        while !holds() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    pub fn until_more(&self, topic: &str, than: usize) {
        assert!(self.comes(PATIENCE, || self.count(topic) > than), "waited for {topic}: {self}");
    }

    /// Does this again and again until this payload has come so often on the topic.
    pub fn until_after(&self, topic: &str, payload: &str, times: usize, act: impl Fn()) {
        let line = format!("heard {topic} {payload}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            act();
            if self.comes(SOON, || self.times(&line) >= times) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {line}: {self}");
        }
    }

    /// The first payload on this topic.
    pub fn first(&self, topic: &str) -> String {
        self.until_more(topic, 0);
        let begin = format!("heard {topic} ");
        let heard = self.heard.lock().unwrap();
        heard.iter().find_map(|line| line.strip_prefix(&begin)).unwrap_or_default().to_owned()
    }

    /// Whether this comes without delay, as a retained message does.
    pub fn hears_soon(&self, topic: &str, payload: &str) -> bool {
        self.comes(SOON, || self.times(&format!("heard {topic} {payload}")) > 0)
    }
}

impl std::fmt::Display for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.heard.lock().unwrap().join("\n"))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
