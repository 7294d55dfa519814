//! A store that fails: the watching goes on, and nothing that the broker holds is lost.

use super::harness::{Machine, Publisher, Subscriber, config, eventually};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 3\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n";
const STORE: &str = "/var/lib/iotmonitor";
const BROKER: &str = "/etc/mosquitto/conf.d/unlimited.conf";
pub const DATA: &str = "/var/lib/iotmonitor/data.mdb";

/// A monitor whose disk is full when so many states come; and the value of each, 30 kB, which is
/// more than free pages of the file could take.
fn full_disk(protocol: &str, states: usize) -> (Machine, Subscriber, String) {
    let machine = Machine::boot();
    machine.write_file(BROKER, "max_inflight_messages 0\nmax_queued_messages 0\n");
    machine.sh(&format!("chmod 644 {BROKER}; systemctl restart mosquitto"));
    machine.sh(&format!("mkdir -p {STORE}; mount -t tmpfs -o size=8m tmpfs {STORE}"));
    let bus = machine.launch(&config(protocol, SECTIONS));
    machine.await_recording(&bus, "home/lamp/set/warm-up", "home/lamp");
    machine.run(&["dd", "if=/dev/zero", &format!("of={STORE}/filler"), "bs=4k"]);
    let big = "x".repeat(30_000);
    for i in 0..states {
        machine.publish(&format!("home/lamp/set/{i}"), &big);
    }
    (machine, bus, big)
}

#[test]
fn a_full_disk_holds_back_the_states_and_not_the_watching() {
    let (machine, bus, big) = full_disk("auto", 20);
    let failed = machine.journal().wait_for_alert("store-failed", "");
    assert!(failed.field("PRIORITY").parse::<u8>().is_ok_and(|priority| priority <= 4));
    // Who asks for states is not kept waiting for the disk.
    let refused = machine.run(&["iotmonitor", "states", "list"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the store cannot be used at the moment"), "{refused:?}");
    let from = bus.end();
    machine.publish("home/lamp/sensors/light", "here");
    bus.wait_topic(from, "home/monitoring/expire/lamp");
    machine.publish("home/lamp/sensors/light", "here");
    bus.wait_topic(from, "home/monitoring/recover/lamp");
    // Past more than one try, there is still one entry for the one change.
    bus.let_seconds_pass(7);
    assert_eq!(machine.journal().alerts(&machine, "store-failed", ""), 1);

    machine.sh(&format!("rm {STORE}/filler"));
    machine.journal().wait_for_alert("store-back", "");
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    for i in 0..20 {
        bus.wait_exact(from, &format!("home/lamp/set/{i}"), &big);
    }
    assert!(machine.ok(&["iotmonitor", "states", "list"]).contains("home/lamp/set/19"));
}

#[test]
fn what_waits_for_a_full_disk_is_recorded_over_a_restart_of_the_broker() {
    let (machine, bus, big) = full_disk("3.1.1", 0);
    let mut publisher = Publisher::connect(&machine, "many").unwrap();
    publisher.publish("home/lamp/set/big", &big.repeat(10), false, 0).unwrap();
    machine.journal().wait_for_alert("store-failed", "");
    for number in 0..4_500 {
        publisher.publish(&format!("home/lamp/set/{number}"), "x", false, 100).unwrap();
    }
    publisher.settle(0).unwrap();
    drop(bus);
    machine.ok(&["systemctl", "restart", "mosquitto"]);
    let bus = machine.subscribe(&["home/monitoring/up"]);
    bus.let_seconds_pass(5);
    machine.sh(&format!("rm {STORE}/filler"));
    machine.journal().wait_for_alert("store-back", "");
    eventually("all states to be recorded", || {
        let list = machine.ok(&["iotmonitor", "states", "list", "lamp"]);
        (list.matches("home/lamp/set/").count() == 4_502).then_some(())
    });
}

#[test]
fn what_could_not_be_committed_survives_a_crash_in_the_brokers_session() {
    let (machine, bus, big) = full_disk("auto", 10);
    machine.journal().wait_for_alert("store-failed", "");
    machine.crash_monitor();
    machine.sh(&format!("rm {STORE}/filler"));
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/monitoring/up", "2");
    machine.publish("home/lamp", "hello");
    for i in 0..10 {
        bus.wait_exact(from, &format!("home/lamp/set/{i}"), &big);
    }
}

/// The service may write into its directory alone, so that it can make another only as a new process.
#[test]
fn a_removed_directory_is_made_again_and_the_states_are_recorded_there() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    machine.await_recording(&bus, "home/lamp/set/warm-up", "home/lamp");
    let pid = machine.monitor_pid();
    machine.ok(&["rm", "-rf", STORE]);
    machine.publish_with(&["-q", "1"], "home/lamp/set/colour", b"red");
    let lost = machine.journal().wait_for_alert("store-failed", "");
    assert!(lost.message().contains("was removed or replaced while it was in use"), "{lost:?}");
    machine.await_new_main_pid("iotmonitor.service", pid);
    machine.await_recording(&bus, "home/lamp/set/warm-up", "home/lamp");
    assert_eq!(machine.ok(&["iotmonitor", "states", "get", "home/lamp/set/colour"]).trim(), "red");
    machine.ok(&["test", "-s", DATA]);
}

#[test]
fn a_removed_file_is_made_again_under_the_same_process() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    machine.await_recording(&bus, "home/lamp/set/warm-up", "home/lamp");
    let pid = machine.monitor_pid();
    machine.ok(&["rm", DATA]);
    machine.publish_with(&["-q", "1"], "home/lamp/set/colour", b"red");
    machine.journal().wait_for_alert("store-replaced", "");
    machine.await_recording(&bus, "home/lamp/set/later", "home/lamp");
    machine.crash_monitor();
    machine.await_recording(&bus, "home/lamp/set/last", "home/lamp");
    assert_eq!(machine.ok(&["iotmonitor", "states", "get", "home/lamp/set/colour"]).trim(), "red");
    assert_ne!(machine.monitor_pid(), pid);
}

fn damaged_store_is_put_aside(damage: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    machine.await_recording(&bus, "home/lamp/set/warm-up", "home/lamp");
    machine.stop_monitor();
    machine.sh(&format!("for file in $(find {STORE} -name 'data.mdb'); do {damage}; done"));
    machine.start_monitor();
    let alert = machine.journal().wait_for_alert("store-put-aside", "");
    let path = eventually("the path of what was put aside", || {
        alert.message().split(&[' ', '`', '"', '\''][..]).find(|word| word.starts_with('/'))
    });
    let path = path.trim_end_matches(&['.', ',', ':', ';'][..]);
    machine.ok(&["test", "-e", path]);
    let from = bus.end();
    machine.await_recording(&bus, "home/lamp/set/color", "home/lamp");
    assert!(bus.count(from, "home/lamp/set/warm-up") == 0, "it came from a damaged store");
}

#[test]
fn an_overwritten_store_is_put_aside() {
    damaged_store_is_put_aside("dd if=/dev/urandom of=$file conv=notrunc bs=4k count=4 2>&1");
}

#[test]
fn a_truncated_store_is_put_aside() {
    damaged_store_is_put_aside("truncate -s 6000 $file");
}

#[test]
fn a_store_of_a_newer_version_is_refused_in_one_sentence_and_left_alone() {
    let machine = Machine::boot();
    machine.launch(&config("auto", SECTIONS));
    machine.stop_monitor();
    let newer = of_the_next_format(machine.read_file(DATA));
    machine.write_file(DATA, &newer);
    assert!(!machine.run(&["systemctl", "start", "iotmonitor"]).status.success());
    assert_eq!(machine.property("iotmonitor", "ActiveState"), "failed");
    assert_eq!(machine.property("iotmonitor", "NRestarts"), "0");
    machine.journal().wait_for("the sentence on the format", |entry| {
        entry.message().contains("has format 3, this version of iotmonitor knows formats up to 2")
    });
    assert!(machine.read_file(DATA) == newer);
}

/// The data file with the number of its format counted up, and the record's checksum with it.
pub fn of_the_next_format(mut data: Vec<u8>) -> Vec<u8> {
    let (before, after) = (br#"{"format":2,"#, br#"{"format":3,"#);
    let places: Vec<usize> =
        (8..data.len() - before.len()).filter(|&at| data[at..].starts_with(before)).collect();
    assert!(!places.is_empty(), "the store has no record of its format");
    for at in places {
        let end = at + data[at..].iter().position(|&byte| byte == b'}').unwrap() + 1;
        data[at..at + after.len()].copy_from_slice(after);
        let mut hasher = SipHasher13::new();
        hasher.write(b"schema");
        hasher.write(&data[at..end]);
        data[at - 8..at].copy_from_slice(&hasher.finish().to_le_bytes());
    }
    data
}
