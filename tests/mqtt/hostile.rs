//! A broker that breaks the rules on purpose, and a client that floods what is watched.

use crate::common::broker::Broker;
use crate::common::client::{Client, PATIENCE, VERSIONS, settings};
use crate::fake::FakeBroker;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, LossReason, Protocol};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// What the adapter is to do about some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Pass over them: the broker would send a message that breaks a connection again and again.
    GoesOn,
    /// End the connection with a sentence that says whose fault it is.
    Ends,
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        packet.push(u8::try_from(length % 128).unwrap() | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    [packet, body.to_vec()].concat()
}

/// A PUBLISH at QoS 0; the properties count in MQTT 5 alone.
fn publish(protocol: Protocol, topic: &[u8], properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    let properties = match protocol {
        Protocol::V5 => [&[u8::try_from(properties.len()).unwrap()], properties].concat(),
        Protocol::V311 => Vec::new(),
    };
    frame(0x30, &[&length, topic, &properties, payload].concat())
}

fn malice(protocol: Protocol) -> Vec<(&'static str, Vec<u8>, Outcome)> {
    use Outcome::{Ends, GoesOn};
    let v5 = protocol == Protocol::V5;
    let properties = |properties: &[u8]| publish(protocol, b"a", properties, b"x");
    let suback: &[u8] = if v5 { &[0, 9, 0, 0] } else { &[0, 9, 0] };
    let unsuback: &[u8] = if v5 { &[0, 9, 0, 0] } else { &[0, 9] };
    let mut all = vec![
        ("a topic of 65,535 bytes", publish(protocol, &[b'a'; 65_535], &[], b"x"), GoesOn),
        ("a topic that is no UTF-8", publish(protocol, b"a\xff", &[], b"x"), GoesOn),
        ("a topic with U+0000", publish(protocol, b"a\0b", &[], b"x"), GoesOn),
        ("a topic with a wildcard", publish(protocol, b"a/#", &[], b"x"), GoesOn),
        ("an empty topic", publish(protocol, b"", &[], b"x"), GoesOn),
        ("a topic of the broker's own", publish(protocol, b"$SYS/uptime", &[], b"x"), GoesOn),
        ("an empty payload", publish(protocol, b"a", &[], b""), GoesOn),
        ("a topic longer than its packet", frame(0x30, &[0xff, 0xff, b'a']), GoesOn),
        ("an acknowledgement of nothing", frame(0x40, &[0, 9]), GoesOn),
        ("subscriptions acknowledged that were not asked for", frame(0x90, suback), GoesOn),
        ("their end likewise", frame(0xB0, unsuback), GoesOn),
        ("an answer to no ping", frame(0xD0, &[]), GoesOn),
        ("a PUBREL that nothing came before", frame(0x62, &[0, 1]), Ends),
        ("QoS 2", frame(0x34, &[0, 1, b'a', 0, 1, 0, b'x']), Ends),
        ("QoS 3", frame(0x36, &[0, 1, b'a', 0, 1, 0, b'x']), Ends),
        ("a client's packet", frame(0xC0, &[]), Ends),
        ("a packet of no kind", frame(0x00, &[1, 2, 3]), Ends),
        ("a length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], Ends),
        ("a second CONNACK", frame(0x20, if v5 { &[0, 0, 0] } else { &[0, 0] }), Ends),
        ("an empty acknowledgement", frame(0x40, &[]), Ends),
    ];
    if v5 {
        all.extend([
            ("topic alias 0", properties(&[0x23, 0, 0]), GoesOn),
            ("a topic alias over the maximum", properties(&[0x23, 0xff, 0xff]), GoesOn),
            ("an alias of nothing", publish(protocol, b"", &[0x23, 0, 7], b"x"), GoesOn),
            ("a property twice", properties(&[0x01, 1, 0x01, 0]), GoesOn),
            ("a property of no kind", properties(&[0x7f, 1]), GoesOn),
            ("a property that ends early", properties(&[0x26, 0, 9, b'k']), GoesOn),
            ("properties longer than the packet", frame(0x30, &[0, 1, b'a', 0x7f, 1]), GoesOn),
            ("an authentication that was not asked for", frame(0xF0, &[0x18, 0]), Ends),
        ]);
    }
    all
}

#[tokio::test]
async fn a_packet_against_the_rules_is_passed_over_or_ends_the_connection() {
    for (choice, protocol) in VERSIONS {
        let mut wrong = Vec::new();
        for (what, bytes, expected) in malice(protocol) {
            let broker = FakeBroker::start().await;
            let mut client = Client::new(Connection::Watch, settings(broker.port(), choice));
            let mut stream = broker.welcome().await;
            client.connected().await;
            stream.write_all(&bytes).await.unwrap();
            // Behind an end it is not read.
            let _ = stream.write_all(&publish(protocol, b"marker", &[], b"x")).await;
            if client.until(|event| outcome(event, what)).await != expected {
                wrong.push(what);
            }
        }
        assert!(wrong.is_empty(), "{protocol:?}: {wrong:#?}");
    }
}

fn outcome(event: &Event, what: &str) -> Option<Outcome> {
    match event {
        Event::WatchMessage(message) if message.topic.as_str() == "marker" => Some(Outcome::GoesOn),
        Event::Disconnected { reason: LossReason::Other(sentence), .. } => {
            assert!(sentence.contains("violates the MQTT protocol"), "{what}: {sentence}");
            Some(Outcome::Ends)
        }
        Event::Disconnected { reason, .. } => panic!("{what}: {reason:?}"),
        _ => None,
    }
}

/// The program itself, against a broker on this port.
struct Program {
    child: Child,
    directory: tempfile::TempDir,
}

/// Resident memory that no broker and no client may drive the program above, in mebibytes.
const MEMORY_BOUND: u64 = 64;

impl Program {
    fn start(port: u16, sections: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let address = format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\n");
        std::fs::write(&config, address + sections).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_iotmonitor"))
            .args(["run", "--config"])
            .arg(&config)
            .env("STATE_DIRECTORY", directory.path().join("store"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    /// The most memory that it ever had, in mebibytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// That it lives, has not panicked, and kept within its memory.
    fn expect_well(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it has ended");
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
        let peak = self.peak();
        println!("peak {peak} MiB");
        assert!(peak <= MEMORY_BOUND, "{peak} MiB");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A subscriber's lines, each with when it came.
struct Subscriber {
    child: Child,
    lines: std::sync::mpsc::Receiver<(Instant, String)>,
}

impl Subscriber {
    fn of(port: u16, topics: &[&str]) -> Self {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-F", "%t %p"]);
        command.args(topics.iter().flat_map(|topic| ["-t", topic]));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        Self { child, lines }
    }

    fn wait_for(&self, topic: &str) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).expect(topic);
            if line.starts_with(topic) {
                return at;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes at QoS 0 as fast as the broker takes it, until it is stopped. Returns the number.
fn flood(port: u16, packets: &[Vec<u8>], stop: &AtomicBool) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // A broker that takes nothing more fails the test, and does not hang it.
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // CONNECT of 3.1.1, a clean session without keep alive and without a clientid.
    stream.write_all(&frame(0x10, b"\0\x04MQTT\x04\x02\0\0\0\0")).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for packet in packets {
            stream.write_all(packet).unwrap();
            sent += 1;
        }
    }
    sent
}

/// Ends the floods also where an assertion fails meanwhile, or their scope would wait for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Small messages by the ten thousands and large ones that are watched and recorded.
#[test]
fn a_flood_holds_up_no_alert_and_takes_no_memory() {
    let broker = Broker::start();
    let port = broker.port();
    let mut program = Program::start(
        port,
        "[device_loud]\nwatchTopics = \"loud/#\"\nstateTopics = \"loud/state/#\"\n\
         [device_quiet]\nwatchTopics = \"quiet/#\"\nwatchTimeOut = 2\n",
    );
    let alerts = Subscriber::of(
        port,
        &["home/monitoring/availability", "home/monitoring/expire/#", "home/monitoring/recover/#"],
    );
    alerts.wait_for("home/monitoring/availability online");
    alerts.wait_for("home/monitoring/expire/quiet");
    let mut packets = vec![publish(Protocol::V311, b"loud/x", &[], &[b'x'; 64]); 2_000];
    packets.push(publish(Protocol::V311, b"loud/large", &[], &vec![b'x'; 1 << 20]));
    packets.push(publish(Protocol::V311, b"loud/state/large", &[], &vec![b'x'; 1 << 20]));
    packets.push(publish(Protocol::V311, &[b"loud/", &[b'l'; 65_530][..]].concat(), &[], b"x"));
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let floods = [(); 2].map(|()| scope.spawn(|| flood(port, &packets, &stop)));
        let stopper = StopOnDrop(&stop);
        for _ in 0..3 {
            // The contact comes after this, and its report may be late.
            let published = Instant::now();
            broker.publish_bytes("quiet/x", false, b"1");
            let recovered = alerts.wait_for("home/monitoring/recover/quiet");
            let expired = alerts.wait_for("home/monitoring/expire/quiet");
            assert!(expired - published >= Duration::from_secs(2), "{:?}", expired - published);
            assert!(expired - recovered <= Duration::from_secs(5), "{:?}", expired - recovered);
        }
        drop(stopper);
        floods.map(|flood| flood.join().unwrap()).iter().sum::<usize>()
    });
    println!("{sent} messages");
    assert!(sent > 10_000, "{sent} are not a flood");
    program.expect_well();
}

/// The memory is taken as the bytes come, and not as the header says.
#[tokio::test]
async fn a_header_that_promises_much_takes_no_memory() {
    let broker = FakeBroker::start().await;
    let mut program = Program::start(
        broker.port(),
        "[device_loud]\nwatchTopics = \"loud/#\"\nstateTopics = \"loud/state/#\"\n",
    );
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = broker.welcome().await;
        stream.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a']).await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        // What it subscribes and publishes comes nevertheless.
        for _ in 0..2 {
            assert!(crate::fake::read(stream).await.is_some(), "it keeps the connection");
        }
    }
    program.expect_well();
}

/// At QoS 0 the broker waits for no acknowledgement, so nothing but this keeps large messages from
/// gathering before a store that is slow.
#[tokio::test]
async fn large_states_that_wait_for_the_store_stop_the_reading() {
    const MEBIBYTE: usize = 1 << 20;
    for (choice, protocol) in VERSIONS {
        let broker = FakeBroker::start().await;
        let mut client = Client::new(Connection::State, settings(broker.port(), choice));
        let mut stream = broker.welcome().await;
        client.connected().await;
        let packet = publish(protocol, b"a", &[], &vec![b'x'; MEBIBYTE]);
        let sending = tokio::spawn(async move {
            for _ in 0..40 {
                stream.write_all(&packet).await.unwrap();
            }
            stream
        });
        let mut last = None;
        for _ in 0..8 {
            last = client.message().await.0;
        }
        let more = tokio::time::timeout(Duration::from_millis(300), client.events.recv()).await;
        assert!(more.is_err(), "{more:?}");
        for _ in 8..40 {
            client.handle.acknowledge(last.unwrap());
            last = client.message().await.0;
        }
        drop(sending.await.unwrap());
    }
}
