//! Processor time of a watched message, and how many a second are kept up with.
//!
//! Each subject gets the same stream from a broker of its own, one after the other in each round.
//! It has a processor to itself, beside that of broker and publisher: where the scheduler has it
//! wait for the broker to pause, it reads a thousand messages at once and seems to cost nothing.
//! Beside `mosquitto_sub` stand two programs that show where the floor is: one that decodes with
//! the codec that the monitor uses and does nothing else, and one that only tells packets apart.

use crate::broker::Broker;
use crate::client::{Client, frame_length};
use crate::common::fleet::{self, BARRIER_COUNT, BARRIER_HELLO, MQTT_5};
use crate::common::monitor::Monitor;
use crate::process;
use crate::table::{Figure, Goal, Row};
use crate::{Settings, until_watching};
use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v5::Packet;
use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// By which the broker's log tells that a reference has subscribed.
const CLIENT_ID: &str = "reference";
const STREAM: &str = "b/#";

/// What one subject took for one stream.
struct Taken {
    micros_per_message: f64,
    messages_per_second: f64,
}

pub fn rows(settings: &Settings) -> Vec<Row> {
    let sizes = [(10, 0.5), (1_000, 0.5), (10_000, 0.5), (100_000, 0.6)];
    process::on_first_processor(|| {
        sizes.into_iter().flat_map(|(devices, goal)| measure(settings, devices, goal)).collect()
    })
}

fn measure(settings: &Settings, devices: usize, goal: f64) -> [Row; 2] {
    let messages = if settings.quick { 100_000 } else { 300_000 };
    let topics: Vec<String> = (0..devices).map(fleet::watched_topic).collect();
    let mut taken: [Vec<Taken>; 4] = Default::default();
    for _ in 0..settings.rounds() {
        taken[0].push(monitor(devices, &topics, messages));
        for (at, name) in [(1, "mosquitto_sub"), (2, "decode"), (3, "split")] {
            taken[at].push(reference(name, &topics, messages));
        }
    }
    let [monitor, sub, codec, frames] = taken;
    let micros = |taken: &[Taken]| {
        Figure::new(taken.iter().map(|taken| taken.micros_per_message).collect(), "µs")
    };
    let rate = |taken: &[Taken]| {
        Figure::new(taken.iter().map(|taken| taken.messages_per_second).collect(), "/s")
    };
    let fleet = format!("{devices} devices");
    [
        Row {
            work: format!("processor time of a watched message, {fleet}"),
            references: vec![
                ("mosquitto_sub", micros(&sub)),
                ("codec alone", micros(&codec)),
                ("frames alone", micros(&frames)),
            ],
            monitor: micros(&monitor),
            goal: Some(Goal::Ratio(goal)),
        },
        Row {
            work: format!("watched messages kept up with, {fleet}"),
            references: vec![("mosquitto_sub", rate(&sub))],
            monitor: rate(&monitor),
            goal: None,
        },
    ]
}

fn monitor(devices: usize, topics: &[String], messages: usize) -> Taken {
    let broker = Broker::start(20);
    let config = fleet::config(devices, broker.port);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let monitor = Monitor::start(broker.directory(), &config, &process::on_second_processor());
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    // The first contact of each device is announced, which is not what is measured here.
    publisher.flood(topics, topics.len(), false);
    publisher.publish(BARRIER_HELLO, b"", None);
    observer.until(BARRIER_COUNT);
    let (cpu, began) = (process::cpu(monitor.child.id()), Instant::now());
    publisher.flood(topics, messages, false);
    publisher.publish(BARRIER_HELLO, b"", None);
    observer.until(BARRIER_COUNT);
    let taken = taken(process::cpu(monitor.child.id()) - cpu, began.elapsed(), messages);
    monitor.stop();
    taken
}

fn reference(name: &str, topics: &[String], messages: usize) -> Taken {
    let broker = Broker::start(20);
    let mut child = start_reference(name, &broker.port.to_string(), &messages.to_string());
    broker.until_subscribed(CLIENT_ID);
    let mut publisher = Client::connect(broker.port, "publisher");
    let before = process::cpu_of_ended_children() + process::cpu(child.id());
    let began = Instant::now();
    publisher.flood(topics, messages, false);
    let status = child.wait().expect("it is a child");
    let elapsed = began.elapsed();
    assert!(status.success(), "{name} ended with {status}");
    taken(process::cpu_of_ended_children() - before, elapsed, messages)
}

fn start_reference(name: &str, port: &str, messages: &str) -> Child {
    let [program, arguments @ ..] = process::on_second_processor();
    let mut command = Command::new(program);
    command.args(arguments);
    if name == "mosquitto_sub" {
        command.args([name, "-h", "127.0.0.1", "-p", port, "-i", CLIENT_ID]);
        command.args(["-t", STREAM, "-C", messages]);
    } else {
        command.arg(std::env::current_exe().expect("Linux knows it"));
        command.args([name, port, messages]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("taskset and mosquitto_sub are installed; `make deps` does it")
}

#[allow(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
fn taken(cpu: Duration, elapsed: Duration, messages: usize) -> Taken {
    let messages = messages as f64;
    Taken {
        micros_per_message: cpu.as_secs_f64() * 1e6 / messages,
        messages_per_second: messages / elapsed.as_secs_f64(),
    }
}

/// The reference that decodes with the codec, as a process of its own.
pub fn decode(port: u16, messages: usize) {
    let mut left = messages;
    each_block(port, |input| {
        while let Ok(packet) = Packet::read(input, None) {
            left -= usize::from(matches!(black_box(packet), Packet::Publish(_)));
        }
        left > 0
    });
}

/// The reference that only tells packets apart.
pub fn split(port: u16, messages: usize) {
    let mut left = messages;
    each_block(port, |input| {
        while let Some((header, length)) = frame_length(input) {
            left -= usize::from(input[0] >> 4 == 3);
            input.advance(black_box(header + length));
        }
        left > 0
    });
}

fn each_block(port: u16, mut take: impl FnMut(&mut BytesMut) -> bool) {
    let mut client = Client::connect_at(port, CLIENT_ID, MQTT_5);
    client.subscribe(STREAM, Some(MQTT_5));
    let (mut input, mut block) = (BytesMut::new(), vec![0; 64 * 1024]);
    while take(&mut input) {
        client.read_some(&mut input, &mut block);
    }
}
