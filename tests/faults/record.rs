//! States that the broker has acknowledged to their publisher are in the store in the end.
//!
//! Each span between two kills has topics of its own, so that no later value covers up a lost one.

use crate::effort::Effort;
use crate::harness::{Machine, PATIENCE, Publisher, config, eventually};
use crate::machines;
use crate::row::Row;
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 0\nhelloTopic = \"home/lamp\"\n\
    stateTopics = \"home/lamp/set/#\"\n";
const STORE: &str = "/var/lib/iotmonitor";
const FILLER: &str = "/var/lib/iotmonitor/filler";

/// Topics of each span between two kills.
const TOPICS: usize = 40;

/// Publications on their way to the broker at once.
const WINDOW: usize = 20;

/// Between two publications.
const PACE: Duration = Duration::from_micros(700);

/// Kills at random moments, restarts of the broker, a disk that fills and is freed: in the end each
/// topic has its last acknowledged value.
pub fn survives_everything(effort: &Effort) -> Row {
    let mut row = Row::new(
        "no acknowledged state is lost over kills of the monitor, restarts of the broker and a \
         full disk",
    );
    let mut random = effort.random();
    for protocol in ["5", "3.1.1"] {
        round(&mut row, protocol, effort.either(10, 250), &mut random);
    }
    row
}

fn round(row: &mut Row, protocol: &str, kills: usize, random: &mut Rng) {
    let machine = Machine::boot();
    machines::set_up_broker(&machine);
    machines::restart_at_once(&machine);
    let size = 8 + kills / 4;
    machine.sh(&format!("mkdir -p {STORE}; mount -t tmpfs -o size={size}m tmpfs {STORE}"));
    let bus = machine.launch(&config(protocol, SECTIONS));
    machine.await_recording(&bus, "home/lamp/set/warm-up", "home/lamp");
    drop(bus);

    let span = AtomicUsize::new(0);
    let ends = AtomicBool::new(false);
    let seed = random.u64(..);
    let expected = thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_until(&machine, &ends, &span, seed));
        for kill in 1..=kills {
            disturb(row, &machine, random);
            span.store(kill, Ordering::Relaxed);
        }
        machine.sh(&format!("rm -f {FILLER}"));
        ends.store(true, Ordering::Relaxed);
        publisher.join().expect("the publisher goes on")
    });
    let (values, sent) = expected;
    Row::add(&mut row.sent, sent);
    let restored = read_back(&machine, &values);
    let wrong: Vec<String> = values
        .iter()
        .filter(|(topic, value)| restored.get(*topic) != Some(*value))
        .map(|(topic, value)| {
            format!("MQTT {protocol}: {topic} is {:?}, and not {value}", restored.get(topic))
        })
        .collect();
    Row::add(&mut row.lost, wrong.len());
    row.broken.extend(wrong);
}

/// One kill at a random moment, often beside another fault.
fn disturb(row: &mut Row, machine: &Machine, random: &mut Rng) {
    let pid =
        eventually("the monitor to run", || Some(machine.monitor_pid()).filter(|pid| *pid != 0));
    let pause = |random: &mut Rng, most| thread::sleep(Duration::from_millis(random.u64(..most)));
    match random.u8(..6) {
        0 => {
            pause(random, 300);
            machine.ok(&["systemctl", "restart", "mosquitto"]);
            row.faults += 1;
            pause(random, 300);
        }
        1 => {
            machine.run(&["dd", "if=/dev/zero", &format!("of={FILLER}"), "bs=4k"]);
            row.faults += 1;
            pause(random, 1500);
        }
        2 => {
            machine.ok(&["rm", "-f", FILLER]);
            pause(random, 300);
        }
        _ => pause(random, 800),
    }
    machine.signal(Signal::SIGKILL, pid);
    row.faults += 1;
    machine.await_new_main_pid("iotmonitor.service", pid);
}

/// Publishes distinct values until it is stopped, and returns the last one of each topic, and
/// how many it sent. What a restart of the broker leaves in doubt is sent again, in order.
fn publish_until(
    machine: &Machine,
    ends: &AtomicBool,
    span: &AtomicUsize,
    seed: u64,
) -> (BTreeMap<String, String>, usize) {
    let mut random = Rng::with_seed(seed);
    let mut values = BTreeMap::new();
    let mut sent = 0;
    let mut publisher = connect(machine);
    let mut in_doubt = Vec::new();
    let mut failed = false;
    loop {
        if failed {
            // Nothing newer was sent while some of these were not acknowledged.
            in_doubt.extend(publisher.outstanding());
            publisher = connect(machine);
            failed = in_doubt
                .iter()
                .any(|sent| publisher.publish(&sent.topic, &sent.payload, false, WINDOW).is_err())
                || publisher.settle(0).is_err();
            if !failed {
                in_doubt.clear();
            }
            continue;
        }
        if ends.load(Ordering::Relaxed) {
            failed = publisher.settle(0).is_err();
            if !failed {
                return (values, sent);
            }
            continue;
        }
        let span = span.load(Ordering::Relaxed);
        let topic = format!("home/lamp/set/{span}/{}", random.usize(..TOPICS));
        sent += 1;
        values.insert(topic.clone(), sent.to_string());
        failed = publisher.publish(&topic, &sent.to_string(), false, WINDOW).is_err();
        thread::sleep(PACE);
    }
}

fn connect(machine: &Machine) -> Publisher {
    eventually("the broker to take the publisher", || Publisher::connect(machine, "states").ok())
}

/// All states, as a device gets them that says hello.
fn read_back(machine: &Machine, values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pid = machine.monitor_pid().to_string();
    machine.journal().wait_for("the monitor's connection", |entry| {
        entry.is_alert("broker-back", "") && entry.field("_PID") == pid
    });
    let bus = machine.subscribe(&["home/lamp/set/#"]);
    machine.publish("home/lamp", "hello");
    // One that does not come back is lost, and is waited for in vain.
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let back: BTreeSet<String> = bus.all().into_iter().map(|state| state.topic).collect();
        if values.keys().all(|topic| back.contains(topic)) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    machines::last_words(&bus)
}
