//! A broker, a recorder, and publishers; and waiting for what they do.

use crate::broker::Broker;
use iotmonitor_recorder::{Message, Store};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything that works takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Both versions, as `protocol` in `[mqtt]` names them.
pub const VERSIONS: [&str; 2] = ["5", "3.1.1"];

/// A broker that keeps its sessions over a restart.
pub fn lasting_broker() -> Broker {
    Broker::with("allow_anonymous true\npersistence true\npersistence_location DIR/\n")
}

/// A place for a recorder, which may run or not.
pub struct House {
    directory: tempfile::TempDir,
    /// Where the messages go.
    pub store: PathBuf,
    /// What the service manager was told since the last start.
    told: Arc<Mutex<Vec<String>>>,
    process: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl House {
    pub fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let store = directory.path().join("store");
        let house = Self {
            directory,
            store,
            told: listen(manager),
            process: None,
            said: Arc::default(),
            environment: Vec::new(),
        };
        house.configure(config);
        house
    }

    /// A recorder of everything that this broker has, with more lines for its file.
    pub fn beside(broker: &Broker, protocol: &str, recorder: &str) -> Self {
        Self::new(&config(broker, protocol, recorder))
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn configure(&self, config: &str) {
        fs::write(self.directory().join("config.toml"), config).unwrap();
    }

    /// Starts it, and waits until it says that it is ready.
    pub fn start(&mut self) {
        self.launch();
        self.until_told("READY=1");
    }

    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.told.lock().unwrap().clear();
        let mut process = Command::new(env!("CARGO_BIN_EXE_iotmonitor-recorder"))
            .arg("run")
            .arg("--config")
            .arg(self.directory().join("config.toml"))
            .env("STATE_DIRECTORY", &self.store)
            .env("NOTIFY_SOCKET", self.directory().join("notify"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(process.stderr.take().unwrap());
        let said = Arc::clone(&self.said);
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                said.lock().unwrap().push(line);
            }
        });
        self.process = Some(process);
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as systemd does; gives the time that it took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        (status, began.elapsed())
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {:#?}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// What it has written to its log up to now.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    pub fn lines_with(&self, text: &str) -> usize {
        self.said().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until it has written this so many times in all.
    pub fn until_said(&self, text: &str, times: usize) {
        until(
            || self.lines_with(text) >= times,
            || format!("`{text}` was not written {times} times: {:#?}", self.said()),
        );
    }

    /// Waits until the service manager was told this.
    pub fn until_told(&self, text: &str) {
        let told = || self.told.lock().unwrap().clone();
        until(
            || told().iter().any(|told| told.contains(text)),
            || format!("`{text}` not in {:?}: {:#?}", told(), self.said()),
        );
    }

    /// Waits until the broker has granted these filters and no other.
    pub fn until_subscribed(&self, filters: &[&str]) {
        let file = self.store.join("subscriptions.json");
        let known = || -> BTreeMap<String, String> {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            serde_json::from_value(value["filters"].clone()).unwrap_or_default()
        };
        let wanted: BTreeMap<String, String> =
            filters.iter().map(|filter| ((*filter).to_owned(), "granted".to_owned())).collect();
        until(|| known() == wanted, || format!("{:?}: {:#?}", known(), self.said()));
    }

    /// The messages of a topic, in the order of their times.
    pub fn recorded(&self, topic: &str) -> Vec<Message> {
        let messages = Store::new(&self.store).read(topic, 0..i64::MAX).unwrap();
        messages.collect::<Result<_, _>>().unwrap()
    }

    pub fn payloads(&self, topic: &str) -> Vec<String> {
        let payload = |message: Message| String::from_utf8_lossy(&message.payload).into_owned();
        self.recorded(topic).into_iter().map(payload).collect()
    }

    /// Waits until a topic has these payloads.
    pub fn until_recorded(&self, topic: &str, payloads: &[String]) {
        until(
            || self.payloads(topic) == payloads,
            || {
                let found = self.payloads(topic);
                format!("{} of {} in {topic}: {:#?}", found.len(), payloads.len(), self.said())
            },
        );
    }

    /// Whether segments are left, which a flush makes files of.
    pub fn has_segments(&self) -> bool {
        fs::read_dir(self.store.join("segments")).unwrap().next().is_some()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Reads all the time, because a sender waits for a service manager that does not.
fn listen(manager: UnixDatagram) -> Arc<Mutex<Vec<String>>> {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&told);
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(length) = manager.recv(&mut buffer) {
            heard.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    });
    told
}

pub fn config(broker: &Broker, protocol: &str, recorder: &str) -> String {
    format!(
        "[mqtt]\nserverAddress = \"tcp://127.0.0.1:{}\"\nprotocol = \"{protocol}\"\nkeepAlive = 5\n\
         [recorder]\n{recorder}",
        broker.port()
    )
}

/// Waits for a condition.
pub fn until(mut holds: impl FnMut() -> bool, complaint: impl FnOnce() -> String) {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            panic!("{}", complaint());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Publishes a message for each line, at QoS 1, and returns when the broker has acknowledged all.
pub fn publish(broker: &Broker, topic: &str, payloads: &[String], more: &[&str]) {
    let mut publisher = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-l", "-t", topic])
        .args(if more.contains(&"-q") { &[] } else { &["-q", "1"][..] })
        .args(more)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publisher.stdin.take().unwrap();
    input.write_all((payloads.join("\n") + "\n").as_bytes()).unwrap();
    drop(input);
    assert!(publisher.wait().unwrap().success(), "mosquitto_pub to {topic}");
}

pub fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}
