//! What a message costs on its way from a broker to the disk, through the whole recorder beside a
//! real mosquitto. `cargo bench -p iotmonitor-recorder --bench flood` prints a table; `MESSAGES=`
//! takes another count.
//!
//! The broker and the publisher have the other cores, and slow the recorder down where there are too
//! few. Its time on a core tells what it could do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fault ends the measurement")]

#[path = "../../tests/common/broker.rs"]
#[expect(dead_code, reason = "other tests use all of it")]
mod broker;

use broker::Broker;
use iotmonitor_recorder::Store;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

const TOPICS: u64 = 1_000;

/// Publications without acknowledgement at QoS 1. Brokers take more than they send.
const IN_FLIGHT: u64 = 1_000;

fn main() {
    let messages = std::env::var("MESSAGES").map_or(1_000_000, |count| count.parse().unwrap());
    println!("| | messages | messages/s | µs on a core | bytes on disk | peak memory, kB |");
    println!("|---|---|---|---|---|---|");
    for protocol in ["5", "3.1.1"] {
        measure(protocol, 0, messages);
        measure(protocol, 1, messages / 4);
    }
}

fn measure(protocol: &str, qos: u8, messages: u64) {
    let broker = Broker::with("allow_anonymous true\nmax_inflight_messages 0\n");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut recorder = Recorder::start(&broker, protocol, directory.path());
    let before = recorder.on_core();
    let began = Instant::now();
    publish(&broker, qos, messages);
    recorder.until_told(&format!(" {messages} messages ("));
    // The line is renewed every five seconds, so that the last messages are seen late.
    let took = began.elapsed().as_secs_f64();
    let cost = (recorder.on_core() - before) * 1e6 / messages as f64;
    let memory = recorder.peak_memory();
    recorder.stop();
    let store = Store::new(directory.path().join("store"));
    store.compact().unwrap();
    let bytes = bytes_below(&directory.path().join("store/messages")) as f64 / messages as f64;
    let rate = messages as f64 / took;
    println!(
        "| MQTT {protocol}, QoS {qos} | {messages} | {rate:.0} | {cost:.2} | {bytes:.1} | {memory} |"
    );
}

/// What a sensor of this topic sends: every second one a plain number, the others a few values in
/// JSON.
fn packet(number: u64, qos: u8, random: &mut u64) -> Vec<u8> {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let (sensor, noise) = (*random % TOPICS, (*random >> 32) % 100);
    let tenths = 200 + (number / 5_000 + sensor) % 40;
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let (topic, payload) = if sensor.is_multiple_of(2) {
        let topic = format!("home/room-{:02}/sensor-{sensor}/temperature", sensor % 30);
        (topic, format!("{whole}.{tenth}{noise}"))
    } else {
        let payload = format!("{{\"temperature\":{whole}.{tenth},\"linkquality\":{noise}}}");
        (format!("zigbee2mqtt/sensor-{sensor}"), payload)
    };
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        let identifier = u16::try_from(number % 65_535 + 1).unwrap();
        body.extend_from_slice(&identifier.to_be_bytes());
    }
    body.extend_from_slice(payload.as_bytes());
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 128).unwrap();
    [&[0x30 | qos << 1, length], body.as_slice()].concat()
}

/// Publishes as fast as the broker takes it, over MQTT 3.1.1.
fn publish(broker: &Broker, qos: u8, messages: u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut random = 0x2545_f491_4f6c_dd1d;
    let (mut number, mut acknowledged) = (0, 0);
    while number < messages {
        let end = messages.min(number + IN_FLIGHT / 2);
        let packets: Vec<u8> =
            (number..end).flat_map(|number| packet(number, qos, &mut random)).collect();
        stream.write_all(&packets).unwrap();
        number = end;
        while qos > 0 && acknowledged + IN_FLIGHT / 2 < number
            || qos > 0 && number == messages && acknowledged < messages
        {
            answers.read_exact(&mut answer).unwrap();
            assert_eq!(answer[..2], [0x40, 2]);
            acknowledged += 1;
        }
    }
    stream.write_all(&[0xe0, 0]).unwrap();
}

struct Recorder {
    process: Child,
    manager: UnixDatagram,
}

impl Recorder {
    fn start(broker: &Broker, protocol: &str, directory: &Path) -> Self {
        let config = format!(
            "[mqtt]\nserverAddress = \"tcp://127.0.0.1:{}\"\nprotocol = \"{protocol}\"\n",
            broker.port()
        );
        fs::write(directory.join("config.toml"), config).unwrap();
        let manager = UnixDatagram::bind(directory.join("notify")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_iotmonitor-recorder"))
            .args(["run", "--config"])
            .arg(directory.join("config.toml"))
            .env("STATE_DIRECTORY", directory.join("store"))
            .env("NOTIFY_SOCKET", directory.join("notify"))
            .spawn()
            .unwrap();
        let recorder = Self { process, manager };
        recorder.until_told("READY=1");
        let subscriptions = directory.join("store/subscriptions.json");
        while !fs::read_to_string(&subscriptions).is_ok_and(|text| text.contains("granted")) {
            thread::sleep(Duration::from_millis(10));
        }
        recorder
    }

    fn until_told(&self, text: &str) {
        let mut buffer = [0; 4_096];
        loop {
            let length = self.manager.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).contains(text) {
                return;
            }
        }
    }

    /// Seconds that all its threads have been on a core.
    fn on_core(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            let statistics = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            statistics.split(' ').next().unwrap().parse::<f64>().unwrap()
        });
        nanoseconds.sum::<f64>() / 1e9
    }

    fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn bytes_below(directory: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => bytes_below(&entry.path()),
        metadata => metadata.len(),
    };
    fs::read_dir(directory).unwrap().map(|entry| size(entry.unwrap())).sum()
}
