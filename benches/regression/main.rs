//! How many instructions the monitor spends on a message, counted and not timed.
//!
//! The program that `IOTMONITOR_PROGRAM` names, which is the release build in `make bench-check`,
//! runs under valgrind's callgrind against a scripted broker, once with some messages and once with
//! twice as many, so that everything else cancels out. What one message costs more is compared with
//! what the bare codec takes to decode it, counted in the same way, so that another compiler, which
//! changes both, changes the ratio little. The ratio is compared with that of
//! `benches/baseline.toml`; where it is more than a tenth above, this fails.
//!
//! `renew` as argument writes the baseline instead. What the kernel does is not counted.

#[path = "../common/mod.rs"]
mod common;

mod broker;

use broker::Broker;
use bytes::BytesMut;
use common::fleet;
use common::monitor::Monitor;
use rumqttc::mqttbytes::v5::Packet;
use std::fs;
use std::hint::black_box;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline.toml");

/// A ratio may be so much of the baseline's.
const TOLERANCE: f64 = 1.10;

const DEVICES: usize = 1_000;
const WATCHED: usize = 60_000;
const STATES: usize = 40_000;
const DECODED: usize = 20_000;

/// States that are on their way at once: one commit each time.
const WINDOW: usize = 100;

/// Instructions of one message, as a multiple of those of its bare decoding.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratios {
    watched: f64,
    state: f64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).filter(|word| *word != "--bench").collect::<Vec<_>>()[..]
    {
        [] => check(&measure()),
        ["renew"] => renew(&measure()),
        ["decode", count] => {
            decode(count.parse().expect("a number of messages"));
            ExitCode::SUCCESS
        }
        _ => panic!("the arguments are none, or `renew`"),
    }
}

fn check(now: &Ratios) -> ExitCode {
    let text = fs::read_to_string(BASELINE).expect("there is a baseline");
    let before: Ratios = toml::from_str(&text).expect("the baseline is as `renew` writes it");
    let mut code = ExitCode::SUCCESS;
    for (name, now, before) in
        [("watched", now.watched, before.watched), ("state", now.state, before.state)]
    {
        let change = (now / before - 1.0) * 100.0;
        println!(
            "{name}: {now:.2} times the bare decoding, {change:+.1} % to the baseline's {before:.2}"
        );
        if now > before * TOLERANCE {
            println!("{name}: FAILED, a message costs more than a tenth above the baseline");
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn renew(now: &Ratios) -> ExitCode {
    let text = format!(
        "# Instructions of one message, as a multiple of those of its bare decoding;\n\
         # written by `make bench-baseline`.\nwatched = {:.2}\nstate = {:.2}\n",
        now.watched, now.state
    );
    fs::write(BASELINE, &text).expect("the baseline can be written");
    print!("{text}");
    ExitCode::SUCCESS
}

fn measure() -> Ratios {
    let base = serve(WATCHED, STATES);
    let watched = per_message(serve(2 * WATCHED, STATES), base, WATCHED);
    let state = per_message(serve(WATCHED, 2 * STATES), base, STATES);
    let decoded = per_message(decode_counted(2 * DECODED), decode_counted(DECODED), DECODED);
    println!(
        "instructions: {watched:.0} a watched message, {state:.0} a state, {decoded:.0} a bare decoding"
    );
    Ratios { watched: watched / decoded, state: state / decoded }
}

#[allow(clippy::cast_precision_loss, reason = "counts of instructions are far below 2^52")]
fn per_message(more: u64, fewer: u64, messages: usize) -> f64 {
    (more as f64 - fewer as f64) / messages as f64
}

/// Instructions of a whole run with so many messages.
fn serve(watched: usize, states: usize) -> u64 {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let counts = directory.path().join("callgrind");
    let config = fleet::config(DEVICES, port);
    let monitor = Monitor::start(directory.path(), &config, &callgrind(&counts));
    let broker = Broker::accept(&listener);
    warm_up(&broker);
    send_watched(&broker, watched);
    send_states(&broker, states);
    monitor.stop();
    total(&counts)
}

/// Ends when all subscriptions are made and a state was given back, which comes after everything
/// that a connection begins with.
fn warm_up(broker: &Broker) {
    broker.watch.until_published(&format!("home/monitoring/status/d{}", DEVICES - 1));
    let mut packet = BytesMut::new();
    fleet::put_publish(&mut packet, fleet::MQTT_5, &fleet::state_topic(0), fleet::PAYLOAD, Some(1));
    broker.state.send(&packet);
    broker.state.until_acknowledged(1);
    packet.clear();
    fleet::put_publish(&mut packet, fleet::MQTT_5, "b/d0/hello", b"", None);
    broker.watch.send(&packet);
    broker.state.until_published(&fleet::state_topic(0));
}

fn send_watched(broker: &Broker, messages: usize) {
    let mut packets = BytesMut::new();
    for number in 0..messages {
        let topic = fleet::watched_topic(number % DEVICES);
        fleet::put_publish(&mut packets, fleet::MQTT_5, &topic, fleet::PAYLOAD, None);
    }
    fleet::put_publish(&mut packets, fleet::MQTT_5, fleet::BARRIER_HELLO, b"", None);
    broker.watch.send(&packets);
    broker.watch.until_published(fleet::BARRIER_COUNT);
}

fn send_states(broker: &Broker, messages: usize) {
    let mut packets = BytesMut::new();
    for window in 0..messages / WINDOW {
        packets.clear();
        for number in 0..WINDOW {
            let topic = fleet::state_topic((window * WINDOW + number) % DEVICES);
            let pkid = u16::try_from(number + 1).expect("a window is small");
            fleet::put_publish(&mut packets, fleet::MQTT_5, &topic, fleet::PAYLOAD, Some(pkid));
        }
        broker.state.send(&packets);
        broker.state.until_acknowledged(WINDOW);
    }
}

fn callgrind(counts: &Path) -> Vec<String> {
    let file = format!("--callgrind-out-file={}", counts.display());
    ["valgrind", "--quiet", "--tool=callgrind", &file].map(str::to_owned).to_vec()
}

/// Instructions of this program when it decodes so many messages.
fn decode_counted(messages: usize) -> u64 {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let counts = directory.path().join("callgrind");
    let words = callgrind(&counts);
    let status = Command::new(&words[0])
        .args(&words[1..])
        .arg(std::env::current_exe().expect("Linux knows it"))
        .args(["decode", &messages.to_string()])
        .stdin(Stdio::null())
        .status()
        .expect("valgrind is installed; `make deps` does it");
    assert!(status.success(), "the decoding ended with {status}");
    total(&counts)
}

/// The reference: the codec alone on the same messages, in blocks as a socket gives them.
fn decode(messages: usize) {
    let mut block = BytesMut::new();
    for number in 0..DEVICES {
        fleet::put_publish(
            &mut block,
            fleet::MQTT_5,
            &fleet::watched_topic(number),
            fleet::PAYLOAD,
            None,
        );
    }
    let mut input = BytesMut::new();
    for _ in 0..messages / DEVICES {
        input.extend_from_slice(&block);
        while let Ok(packet) = Packet::read(&mut input, None) {
            black_box(packet);
        }
    }
}

/// The sum of all instructions that callgrind counted.
fn total(counts: &Path) -> u64 {
    let text = fs::read_to_string(counts).expect("valgrind has written its counts");
    text.lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|number| number.trim().parse().ok())
        .expect("callgrind writes a line of totals")
}
