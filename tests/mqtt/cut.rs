//! What the kernel holds back while the network is cut, and does not send when it is whole again.
//!
//! The test runs in a network namespace of its own and its broker in another one, joined by a pair of
//! interfaces of which one is set down.

use crate::common::client::{Client, publication, settings};
use iotmonitor::mqtt::ConnectionOptions;
use iotmonitor::mqtt::settings::{BrokerAddress, MqttSettings, ProtocolChoice};
use iotmonitor_core::model::message::{Connection, Lifetime, Publication, Token};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that runs in the namespace.
const INSIDE: &str = "IOTMONITOR_TEST_NETWORK";

const PORT: u16 = 1883;
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test of this file in a network of its own; returns whether this is that process.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]).arg(program);
    command.args(["--exact", &format!("cut::{test}"), "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("unshare(1) is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "it has run: {said}");
    false
}

fn run(command: &str) {
    let mut words = command.split_ascii_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A broker behind a line that can be cut.
struct FarBroker {
    /// Keeps the other namespace.
    holder: Child,
    broker: Child,
    observer: Child,
    heard: std::sync::mpsc::Receiver<String>,
    _directory: tempfile::TempDir,
}

impl FarBroker {
    fn start() -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = holder.unwrap();
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let pid = holder.id();
        let (near, address) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        run(&format!(
            "ip link add near address {near} type veth peer name far address {address} netns {pid}"
        ));
        run("ip address add 10.9.0.1/24 dev near");
        run("ip link set near up");
        // The line is cut in its middle: no packet waits for the address of a neighbour.
        run(&format!("ip neigh add 10.9.0.2 lladdr {address} dev near nud permanent"));
        let far = |command: &str| run(&format!("nsenter --net=/proc/{pid}/ns/net {command}"));
        far("ip address add 10.9.0.2/24 dev far");
        far("ip link set far up");
        far("ip link set lo up");
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("mosquitto.conf");
        std::fs::write(&config, format!("listener {PORT}\nallow_anonymous true\nuser root\n"))
            .unwrap();
        let inside = |program: &str| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{pid}/ns/net")).arg(program);
            command
        };
        let mut broker = inside("/usr/sbin/mosquitto");
        let broker = broker.arg("-c").arg(&config).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while std::net::TcpStream::connect(("10.9.0.2", PORT)).is_err() {
            assert!(began.elapsed() < PATIENCE, "mosquitto does not listen");
            std::thread::yield_now();
        }
        let mut observer = inside("stdbuf")
            .args(["-oL", "mosquitto_sub"])
            .args(["-h", "127.0.0.1", "-d", "-v", "-q", "1", "-t", "out/#"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, heard) = std::sync::mpsc::channel();
        let lines = BufReader::new(observer.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let far = Self { holder, broker, observer, heard, _directory: directory };
        far.hears(|line| line.starts_with("Subscribed"));
        far
    }

    /// Waits for a line of the observer; returns those before it.
    fn hears(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let line = self.heard.recv_timeout(PATIENCE).expect("it was to be heard");
            if fits(&line) {
                return before;
            }
            before.push(line);
        }
    }

    fn set(&self, state: &str) {
        run(&format!("nsenter --net=/proc/{}/ns/net ip link set far {state}", self.holder.id()));
    }
}

impl Drop for FarBroker {
    fn drop(&mut self) {
        for child in [&mut self.observer, &mut self.broker, &mut self.holder] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn far_settings() -> MqttSettings {
    let server = BrokerAddress::Tcp { host: "10.9.0.2".to_owned(), port: PORT };
    MqttSettings { server, ..settings(PORT, ProtocolChoice::V5) }
}

/// Waits until the kernel holds bytes that it could not send to the broker.
async fn is_held_back() {
    let began = Instant::now();
    let is_waiting = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_to_broker = words.get(2).is_some_and(|to| to.ends_with(&format!(":{PORT:04X}")));
        is_to_broker && words.get(4).is_some_and(|queue| !queue.starts_with("00000000"))
    };
    let table = Path::new("/proc/thread-self/net/tcp");
    while !std::fs::read_to_string(table).unwrap().lines().any(is_waiting) {
        assert!(began.elapsed() < PATIENCE, "nothing is held back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How a connection ends before the line is whole again.
#[derive(PartialEq)]
enum End {
    /// It does not.
    Never,
    /// The kernel gives it up.
    GivenUp,
    /// It is severed.
    Severed,
}

/// Cuts the line, and has `old` published into it. Returns what arrives before what is published when
/// the line is whole again.
async fn arrives(end: End) -> Vec<String> {
    let far = FarBroker::start();
    let gives_up_after = (end == End::GivenUp).then_some(Duration::from_secs(2));
    let options = ConnectionOptions { gives_up_after, ..ConnectionOptions::default() };
    let mut client = Client::with(Connection::State, far_settings(), options, 1_024);
    client.connected().await;
    client.handle.attend();
    far.set("down");
    let old = publication(Connection::State, "out/old", b"old");
    client.handle.publish(Publication { lifetime: Lifetime::Connection, ..old });
    is_held_back().await;
    if end == End::Severed {
        client.handle.sever();
    }
    if end != End::Never {
        client.disconnected().await;
    }
    far.set("up");
    if end != End::Never {
        client.reconnected().await;
        client.handle.attend();
    }
    let new = publication(Connection::State, "out/new", b"new");
    client.handle.publish(Publication { token: Some(Token(1)), ..new });
    client.published(1).await;
    let before = far.hears(|line| line == "out/new new");
    before.into_iter().filter(|line| line.starts_with("out/")).collect()
}

#[tokio::test]
async fn without_a_limit_the_kernel_sends_it_when_the_line_is_whole_again() {
    if is_inside("without_a_limit_the_kernel_sends_it_when_the_line_is_whole_again") {
        assert_eq!(arrives(End::Never).await, ["out/old old"]);
    }
}

#[tokio::test]
async fn what_was_not_sent_for_two_seconds_never_arrives() {
    if is_inside("what_was_not_sent_for_two_seconds_never_arrives") {
        assert_eq!(arrives(End::GivenUp).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_was_severed_never_arrives() {
    if is_inside("what_was_severed_never_arrives") {
        assert_eq!(arrives(End::Severed).await, [""; 0]);
    }
}
