//! A monitor with a broker and a status page of its own, and a reader of that.

#[path = "../common/broker.rs"]
#[allow(dead_code, reason = "the tests of the MQTT adapter use the rest of it")]
mod broker;
#[path = "../common/process.rs"]
mod process;

pub use broker::free_port;

use super::past::Past;
use broker::Broker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process::Lines;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Longer than anything that works takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TOKEN: &str = "a-token-of-32-good-characters-at-least";

pub struct House {
    pub broker: Broker,
    pub port: u16,
    monitor: Option<Child>,
    said: Lines,
    directory: TempDir,
}

impl House {
    /// A monitor of these sections that hears its devices.
    pub fn with(sections: &str) -> Self {
        Self::on(free_port(), "", sections)
    }

    /// The same with a page on this port, and with these further lines below `[http]`.
    pub fn on(port: u16, page: &str, sections: &str) -> Self {
        let house = Self::starting(port, page, sections);
        house.until_it_hears();
        house
    }

    /// One that has just been started.
    pub fn starting(port: u16, page: &str, sections: &str) -> Self {
        let mut house = Self::at_rest(port, page, sections);
        house.start();
        house
    }

    /// One of which this past was recorded, and that hears its devices.
    pub fn with_past(page: &str, sections: &str, past: Past) -> Self {
        let mut house = Self::at_rest(free_port(), page, sections);
        past.write(&house.directory.path().join("states"));
        house.start();
        house.until_it_hears();
        house
    }

    /// One whose monitor does not run yet.
    fn at_rest(port: u16, page: &str, sections: &str) -> Self {
        let broker = Broker::start();
        let directory = tempfile::tempdir().unwrap();
        write_config(&directory, &broker, &format!("[http]\nport = {port}\n{page}\n{sections}"));
        Self { broker, port, monitor: None, said: Arc::default(), directory }
    }

    fn until_it_hears(&self) {
        self.until("the monitor to hear its devices", || {
            self.try_get("/healthz").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Starts the monitor, which does not run.
    pub fn start(&mut self) {
        self.monitor = Some(process::start(self.directory.path(), &self.said));
    }

    /// Puts a script of this name where the monitor finds it before all other programs.
    pub fn install(&self, name: &str, script: &str) {
        let bin = self.directory.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let draft = bin.join("draft");
        std::fs::write(&draft, script).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(draft, bin.join(name)).unwrap();
    }

    /// Ends the monitor in good order.
    pub fn stop(&mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let ended = self.monitor.take().unwrap().wait().unwrap();
        assert!(ended.success(), "{ended}");
    }

    /// Ends the monitor as a crash would.
    pub fn crash(&mut self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
        let ended = self.monitor.take().unwrap().wait().unwrap();
        assert!(!ended.success());
    }

    /// Puts other sections, with or without `[http]`, into the file.
    pub fn write(&self, sections: &str) {
        write_config(&self.directory, &self.broker, sections);
    }

    /// Puts a pipe in the file's place: its reader waits until [`Self::feed`] has written.
    pub fn write_slowly(&self) {
        let draft = self.directory.path().join("draft");
        nix::unistd::mkfifo(&draft, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::rename(draft, self.directory.path().join("config.toml")).unwrap();
    }

    /// Waits until the monitor reads that pipe; what is written there, with these sections, is all
    /// that it gets.
    pub fn feed(&self) -> impl FnOnce(&str) {
        let path = self.directory.path().join("config.toml");
        let mut pipe = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let server = self.broker.port();
        move |sections: &str| pipe.write_all(config(server, sections).as_bytes()).unwrap()
    }

    /// And into force.
    pub fn reload(&self, sections: &str) {
        self.write(sections);
        kill(self.pid(), Signal::SIGHUP).unwrap();
    }

    pub fn pid(&self) -> Pid {
        let monitor = self.monitor.as_ref().expect("it runs");
        Pid::from_raw(monitor.id().try_into().unwrap())
    }

    pub fn publish(&self, topic: &str, payload: &str) {
        self.broker.publish_bytes(topic, false, payload.as_bytes());
    }

    /// How often the monitor has said something with these words.
    pub fn said(&self, words: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    /// Waits for it.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let said = self.said.lock().unwrap().join("\n");
            assert!(Instant::now() < deadline, "waited in vain for {what}; it said:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publishes a state until it is recorded: states are subscribed to on a connection of their
    /// own, which may be there later than the one that hears the devices.
    pub fn until_recorded(&self, device: &str, topic: &str, payload: &str) {
        let path = format!("/api/v1/devices/{device}/states");
        let bearer = format!("Bearer {TOKEN}");
        self.until("the state to be recorded", || {
            self.publish(topic, payload);
            self.ask("GET", &path, &[("authorization", &bearer)]).unwrap().body.contains(topic)
        });
    }

    /// Waits for a device's state.
    pub fn until_state(&self, name: &str, state: &str) {
        self.until(&format!("{name} to be {state}"), || {
            self.get(&format!("/api/v1/devices/{name}")).json()["state"] == state
        });
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory since [`Self::forget_peak`], in KiB (proc_pid_status(5)).
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    fn memory(&self, kind: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(kind)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    pub fn try_get(&self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, &[])
    }

    /// Makes a request with these headers; a `host` among them replaces the right one.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(self.request(method, path, headers).as_bytes())?;
        Answer::read(&mut BufReader::new(stream))
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            text.push_str(&format!("Host: 127.0.0.1:{}\r\n", self.port));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n"
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut monitor) = self.monitor.take() {
            let _ = monitor.kill();
            let _ = monitor.wait();
        }
        if std::thread::panicking() {
            eprintln!("the monitor said:\n{}", self.said.lock().unwrap().join("\n"));
        }
    }
}

fn config(port: u16, sections: &str) -> String {
    format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\n{sections}")
}

fn write_config(directory: &TempDir, broker: &Broker, sections: &str) {
    let text = config(broker.port(), sections);
    let draft = directory.path().join("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, directory.path().join("config.toml")).unwrap();
}

/// A subscriber of a filter, and what it received.
pub struct Subscriber {
    client: Child,
    heard: Arc<Mutex<Vec<(SystemTime, String)>>>,
}

impl Subscriber {
    /// Subscribed when this returns.
    pub fn to(house: &House, filter: &str) -> Self {
        let mut client = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub", "-d", "-h", "127.0.0.1"])
            .args(["-p", &house.broker.port().to_string(), "-t", filter, "-F", "payload %p"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(client.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("Subscribed")));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines {
                if let Some(payload) = line.strip_prefix("payload ") {
                    sink.lock().unwrap().push((SystemTime::now(), payload.to_owned()));
                }
            }
        });
        Self { client, heard }
    }

    pub fn count(&self, payload: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|(_, it)| it == payload).count()
    }

    /// The last payload; empty before there is one.
    pub fn last(&self) -> String {
        self.heard.lock().unwrap().last().map(|(_, it)| it.clone()).unwrap_or_default()
    }

    /// When each message came.
    pub fn times(&self) -> Vec<SystemTime> {
        self.heard.lock().unwrap().iter().map(|(time, _)| *time).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// Reads an answer whose connection ends with it.
    pub fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let mut answer = Self::read_head(stream)?;
        let mut body = String::new();
        if answer.header("transfer-encoding") == "chunked" {
            while let Some(chunk) = read_chunk(stream)? {
                body.push_str(&chunk);
            }
        } else {
            stream.read_to_string(&mut body)?;
        }
        answer.body = body;
        Ok(answer)
    }

    /// Reads what comes before the body.
    pub fn read_head(stream: &mut impl BufRead) -> io::Result<Self> {
        let first = read_line(stream)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer but {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(stream)?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Ok(Self { status, headers, body: String::new() })
    }

    /// A header's value; empty without one.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The next chunk (RFC 9112, 7.1); `None` after the last.
pub fn read_chunk(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let length = usize::from_str_radix(&read_line(stream)?, 16).map_err(io::Error::other)?;
    let mut chunk = vec![0; length];
    stream.read_exact(&mut chunk)?;
    read_line(stream)?;
    let chunk = String::from_utf8(chunk).map_err(io::Error::other)?;
    Ok((length > 0).then_some(chunk))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
