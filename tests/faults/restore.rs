//! A restore gives nothing back over something newer.
//!
//! Values are published while devices ask for theirs again and again. When all is quiet, the last
//! word on each topic has to be the last value that was published on it, and so has what the next
//! hello brings back.

use crate::effort::Effort;
use crate::harness::{GARDEN, Machine, Publisher, config, eventually};
use crate::machines;
use crate::row::Row;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Topics that values are published on.
const TOPICS: usize = 12;

/// Two devices that share a part of their topics, and one whose filter covers both.
const DEVICES: &str = "[device_lamp]\nwatchTimeOut = 0\nhelloTopic = \"hello/lamp\"\n\
    stateTopics = [\"home/lamp/#\", \"home/+/shared\"]\n\
    [device_shed]\nwatchTimeOut = 0\nhelloTopic = \"hello/shed\"\nstateTopics = \"home/#\"\n";

const HELLOS: [&str; 2] = ["hello/lamp", "hello/shed"];

/// What is done in one span of publishing.
struct Storm {
    /// Between two hellos, at most.
    hellos: Duration,
    /// Between two values, at most.
    values: Duration,
    retain: bool,
    lasts: Duration,
}

const RACE: Storm = Storm {
    hellos: Duration::from_millis(60),
    values: Duration::from_millis(8),
    retain: false,
    lasts: Duration::from_secs(4),
};

/// A hundred hellos a second.
const STORM: Storm = Storm { hellos: Duration::from_millis(20), ..RACE };

/// A device that says hello, gets its states, and reboots.
const REBOOTS: Storm =
    Storm { hellos: Duration::from_millis(800), values: Duration::from_millis(100), ..RACE };

const RETAINED: Storm = Storm { retain: true, ..RACE };

pub fn of_racing_messages(effort: &Effort) -> Row {
    let row = Row::new(
        "a restore overwrites nothing newer: messages that race with it, a hundred hellos a \
         second, reboot loops, retained values, shared topics",
    );
    // Both versions, because they recognise a restored message in different ways.
    rounds(row, effort, &["5", "3.1.1"], |row, machine, random| {
        for storm in [RACE, STORM, REBOOTS, RETAINED] {
            one_storm(row, machine, &storm, random);
        }
    })
}

pub fn of_two_monitors(effort: &Effort) -> Row {
    let row = Row::new("… and two monitors on one broker, with two clientids (MQTT 5)");
    // In 3.1.1 one cannot distinguish what the other restores from what is new.
    rounds(row, effort, &["5"], |row, machine, random| {
        let text = String::from_utf8_lossy(&machine.read_file("/etc/iotmonitor/config.toml"))
            .replace("[mqtt]\n", "[mqtt]\nclientid = \"garden\"\nbaseTopic = \"garden\"\n");
        machine.write_file("/etc/iotmonitor/garden.toml", &text);
        machine.ok(&["systemctl", "start", GARDEN]);
        let there = machine.subscribe(&["garden/up"]);
        there.wait_topic(0, "garden/up");
        for storm in [RACE, STORM, RETAINED] {
            one_storm(row, machine, &storm, random);
        }
    })
}

fn rounds(
    mut row: Row,
    effort: &Effort,
    protocols: &[&str],
    round: impl Fn(&mut Row, &Machine, &mut Rng),
) -> Row {
    let mut random = effort.random();
    let mut done = 0;
    while effort.goes_on(done, 1) {
        for protocol in protocols {
            let machine = Machine::boot();
            machines::set_up_broker(&machine);
            let bus = machine.launch(&config(protocol, DEVICES));
            machine.await_recording(&bus, "home/lamp/warm-up", HELLOS[0]);
            drop(bus);
            let before = row.broken.len();
            round(&mut row, &machine, &mut random);
            for broken in &mut row.broken[before..] {
                *broken = format!("MQTT {protocol}: {broken}");
            }
        }
        done += 1;
    }
    row
}

/// Publishes values among hellos, and compares the last words with the last values.
fn one_storm(row: &mut Row, machine: &Machine, storm: &Storm, random: &mut Rng) {
    let bus = machine.subscribe(&["home/+/set/#", "home/+/shared"]);
    let mut publisher = Publisher::connect(machine, "values").expect("the broker listens");
    let mut devices = Publisher::connect(machine, "devices").expect("the broker listens");
    let mut values = BTreeMap::new();
    let begun = Instant::now();
    let (mut next_hello, mut next_value) = (begun, begun);
    while begun.elapsed() < storm.lasts {
        let now = Instant::now();
        if now >= next_hello {
            let hello = HELLOS[random.usize(..HELLOS.len())];
            devices.publish(hello, "hello", false, 20).expect("the broker reads");
            next_hello = now + part_of(storm.hellos, random);
            row.faults += 1;
        }
        if now >= next_value {
            let topic = topic(random.usize(..TOPICS));
            let value = format!("{}", row.sent.unwrap_or_default());
            Row::add(&mut row.sent, 1);
            publisher.publish(&topic, &value, storm.retain, 20).expect("the broker reads");
            values.insert(topic, value);
            next_value = now + part_of(storm.values, random);
        }
        thread::sleep(Duration::from_millis(1));
    }
    publisher.settle(0).expect("the broker answers");
    devices.settle(0).expect("the broker answers");
    compare(row, "on the wire", &values, &machines::last_words(&bus));

    let from = bus.end();
    for hello in HELLOS {
        devices.publish(hello, "hello", false, 0).expect("the broker reads");
    }
    eventually("each state to come back", || {
        let back = bus.since(from);
        let is_back = |topic: &String| back.iter().any(|state| state.topic == *topic);
        values.keys().all(is_back).then_some(())
    });
    compare(row, "after a hello", &values, &machines::last_words(&bus));
}

fn topic(number: usize) -> String {
    match number % 4 {
        0 => format!("home/lamp/set/{number}"),
        1 => format!("home/shed/set/{number}"),
        2 => "home/lamp/shared".to_owned(),
        _ => "home/shed/shared".to_owned(),
    }
}

fn part_of(most: Duration, random: &mut Rng) -> Duration {
    most.mul_f64(random.f64())
}

fn compare(
    row: &mut Row,
    place: &str,
    values: &BTreeMap<String, String>,
    words: &BTreeMap<String, String>,
) {
    let wrong = values.iter().filter(|(topic, value)| words.get(*topic) != Some(*value));
    let wrong: Vec<String> = wrong
        .map(|(topic, value)| format!("{topic} {place} is {:?}, not {value}", words.get(topic)))
        .collect();
    Row::add(&mut row.lost, wrong.len());
    row.broken.extend(wrong);
}
