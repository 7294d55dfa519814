//! What a message costs to store: time on a core, bytes on the disk, and the time in which a topic's
//! past is read. `cargo bench -p iotmonitor-recorder` prints a table; `MESSAGES=` takes another count.

#![allow(clippy::unwrap_used, reason = "a fault ends the measurement")]

use iotmonitor_recorder::{AppendError, Limits, Message, Store, Writer};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const TOPICS: u64 = 1_000;
const DAYS: u64 = 90;
const DAY: u64 = 86_400_000_000;
/// Messages that become durable together. A broker that sends 100,000 in a second has these in 10 ms.
const WINDOW: u64 = 1_000;

/// The number of this message and its time, and what a sensor of its topic sends then: every second
/// one a plain number, the others a few values in JSON.
fn message(number: u64, time: u64, random: &mut u64) -> Message {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let (sensor, noise) = (*random % TOPICS, (*random >> 32) % 100);
    let tenths = 200 + (number / 5_000 + sensor) % 40;
    let (topic, payload) = if sensor.is_multiple_of(2) {
        (format!("home/room-{:02}/sensor-{sensor}/temperature", sensor % 30), {
            format!("{}.{}{}", tenths / 10, tenths % 10, noise % 10)
        })
    } else {
        (format!("zigbee2mqtt/sensor-{sensor}"), {
            format!("{{\"temperature\":{}.{},\"linkquality\":{noise}}}", tenths / 10, tenths % 10)
        })
    };
    Message { time: time as i64, topic, payload: payload.into(), qos: 1, retain: false }
}

/// The time that this thread has been on a core.
fn on_core() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

fn bytes_below(directory: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => bytes_below(&entry.path()),
        metadata => metadata.len(),
    };
    fs::read_dir(directory).unwrap().map(|entry| size(entry.unwrap())).sum()
}

/// The peak of the memory of this process, in kilobytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn row(name: &str, value: &str) {
    println!("| {name} | {value} |");
}

fn main() {
    let messages: u64 = std::env::var("MESSAGES").map_or(2_000_000, |count| count.parse().unwrap());
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::new(directory.path());
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    let mut random = 0x5DEE_CE66;
    let (mut made, mut bytes) = (Duration::ZERO, 0);
    let begin = on_core();
    let mut batch = Vec::new();
    for number in 0..messages {
        batch.push(message(number, number * DAYS * DAY / messages, &mut random));
        if batch.len() as u64 == WINDOW || number + 1 == messages {
            let start = on_core();
            bytes += batch
                .iter()
                .map(|message| message.topic.len() + message.payload.len())
                .sum::<usize>();
            for message in batch.drain(..) {
                if writer.append(&message) == Err(AppendError::Full) {
                    writer.commit(Instant::now()).unwrap();
                    writer.append(&message).unwrap();
                }
            }
            writer.commit(Instant::now()).unwrap();
            if writer.flush_due(Instant::now()) {
                writer.flush().unwrap();
            }
            made += on_core() - start;
        }
    }
    writer.flush().unwrap();
    let of_bench = on_core() - begin - made;
    row("messages", &messages.to_string());
    row("bytes of topic and payload", &format!("{:.1}", bytes as f64 / messages as f64));
    row("stored a second on a core", &format!("{:.0}", messages as f64 / made.as_secs_f64()));
    row("made by the benchmark meanwhile", &format!("{:.1} s", of_bench.as_secs_f64()));
    let size = bytes_below(&store.messages());
    row("bytes a message in small files", &format!("{:.1}", size as f64 / messages as f64));
    let start = on_core();
    store.compact().unwrap();
    let compacted = (on_core() - start).as_secs_f64();
    row("merged a second on a core", &format!("{:.0}", messages as f64 / compacted));
    let size = bytes_below(&store.messages());
    row("bytes a message in files of days", &format!("{:.1}", size as f64 / messages as f64));
    row("peak memory", &format!("{:.1} MB", peak_memory() as f64 / 1_000.0));
    let month = (DAY * 30) as i64..(DAY * 60) as i64;
    let start = on_core();
    let read = store.read("home/room-10/sensor-100/temperature", month).unwrap();
    let read = read.map(Result::unwrap).count();
    row(
        "30 days of a topic",
        &format!("{read} messages in {:.1} ms", (on_core() - start).as_secs_f64() * 1e3),
    );
}
