//! Kills, outages, full disks and damaged files: nothing that the broker was told to forget is lost.

use crate::broker::Broker;
use crate::house::{House, VERSIONS, lasting_broker, numbers, publish, until};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The kills of one test.
const KILLS: u32 = 12;

/// Payloads in the order of their first appearance, and how many appear more than once.
fn without_repetitions(payloads: Vec<String>) -> (Vec<String>, usize) {
    let count = payloads.len();
    let mut seen = BTreeSet::new();
    let first: Vec<String> =
        payloads.into_iter().filter(|payload| seen.insert(payload.clone())).collect();
    let repeated = count - first.len();
    (first, repeated)
}

#[test]
fn kills_at_random_lose_nothing_that_the_broker_was_to_forget() {
    for protocol in VERSIONS {
        let broker = lasting_broker();
        let mut house = House::beside(&broker, protocol, "flush = \"1s\"\n");
        house.start();
        house.until_subscribed(&["#"]);
        let (per_kill, kills) = (400, KILLS);
        thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                for part in 0..kills {
                    let payloads = numbers(part * per_kill..(part + 1) * per_kill);
                    publish(&broker, "home/a", &payloads, &[]);
                }
            });
            // At moments that differ from life to life: while it connects, records, flushes.
            for kill in 0..kills {
                thread::sleep(Duration::from_millis(u64::from(kill * 37 % 11) * 60));
                house.kill();
                house.launch();
            }
            publisher.join().unwrap();
        });
        let all = numbers(0..per_kill * kills);
        let found = || without_repetitions(house.payloads("home/a"));
        until(
            || found().0.len() == all.len(),
            || format!("{} of {}: {:#?}", found().0.len(), all.len(), house.said()),
        );
        let (found, repeated) = found();
        let missing: Vec<_> = all.iter().filter(|payload| !found.contains(payload)).collect();
        assert!(missing.is_empty(), "{protocol}: {missing:?}");
        // The broker sends again what was on its way to be acknowledged.
        let in_flight = if protocol == "5" { 500 } else { 20 };
        assert!(repeated <= (kills * in_flight) as usize, "{protocol}: {repeated} are there twice");
        println!("{protocol}: {kills} kills, {} messages, 0 lost, {repeated} twice", all.len());
    }
}

#[test]
fn an_outage_of_the_broker_is_two_entries_and_no_loss() {
    for protocol in VERSIONS {
        let mut broker = lasting_broker();
        let mut house = House::beside(&broker, protocol, "");
        house.start();
        house.until_subscribed(&["#"]);
        publish(&broker, "home/a", &numbers(0..100), &[]);
        house.until_recorded("home/a", &numbers(0..100));
        broker.stop();
        house.until_said("closed the connection", 1);
        // Several attempts fail meanwhile.
        thread::sleep(Duration::from_secs(3));
        broker.restart();
        house.until_said("connected to tcp://", 1);
        publish(&broker, "home/a", &numbers(100..200), &[]);
        house.until_recorded("home/a", &numbers(0..200));
        assert_eq!(house.lines_with("closed the connection"), 1, "{:#?}", house.said());
        assert_eq!(house.lines_with("cannot reach"), 0, "{:#?}", house.said());
        assert_eq!(house.lines_with("connected to tcp://"), 1, "{:#?}", house.said());
    }
}

/// A broker that is killed has forgotten its sessions, and with them what the recorder subscribed to.
#[test]
fn a_broker_that_is_killed_is_subscribed_to_again() {
    for protocol in VERSIONS {
        let mut broker = Broker::start();
        let mut house = House::beside(&broker, protocol, "");
        house.start();
        house.until_subscribed(&["#"]);
        publish(&broker, "home/a", &numbers(0..50), &[]);
        house.until_recorded("home/a", &numbers(0..50));
        broker.kill();
        house.until_said("closed the connection", 1);
        broker.restart();
        house.until_said("connected to tcp://", 1);
        // The subscription follows the connection; until then messages have no receiver.
        let mut sent = 50;
        until(
            || {
                publish(&broker, "home/a", &numbers(sent..sent + 1), &[]);
                sent += 1;
                house.payloads("home/a").len() > 50
            },
            || format!("{:#?}", house.said()),
        );
    }
}

/// A file system of two megabytes, mounted for one test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(directory.path());
        assert!(mount.status().unwrap().success(), "this test mounts a tmpfs and must run as root");
        Self(directory)
    }

    fn fill(&self) {
        assert!(fs::write(self.0.path().join("ballast"), vec![0; 64 << 20]).is_err());
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_messages_with_the_broker_until_there_is_room() {
    for protocol in VERSIONS {
        let broker = lasting_broker();
        let disk = SmallDisk::mount();
        let mut house = House::beside(&broker, protocol, "flush = \"1h\"\n");
        house.store = disk.0.path().join("store");
        house.start();
        house.until_subscribed(&["#"]);
        publish(&broker, "home/a", &numbers(0..100), &[]);
        house.until_recorded("home/a", &numbers(0..100));
        disk.fill();
        publish(&broker, "home/a", &numbers(100..3_000), &[]);
        house.until_said("No space left on device", 1);
        house.until_told(" · cannot write");
        // What is there can be read, and a process that is killed now has acknowledged nothing else.
        let there = house.payloads("home/a");
        assert!(there.len() < 3_000);
        assert_eq!(there, numbers(0..there.len() as u32));
        house.kill();
        house.start();
        // It goes on by itself.
        house.until_said("No space left on device", 2);
        disk.empty();
        house.until_said("messages are recorded again", 1);
        let all = numbers(0..3_000);
        until(
            || without_repetitions(house.payloads("home/a")).0 == all,
            || format!("{}: {:#?}", house.payloads("home/a").len(), house.said()),
        );
        assert_eq!(house.lines_with("No space left on device"), 2, "{:#?}", house.said());
        assert_eq!(house.lines_with("messages are recorded again"), 1);
    }
}

#[test]
fn a_stop_on_a_full_disk_takes_seconds_and_loses_nothing() {
    let broker = lasting_broker();
    let disk = SmallDisk::mount();
    let mut house = House::beside(&broker, "5", "");
    house.store = disk.0.path().join("store");
    house.start();
    house.until_subscribed(&["#"]);
    disk.fill();
    publish(&broker, "home/a", &numbers(0..3_000), &[]);
    house.until_said("No space left on device", 1);
    let began = Instant::now();
    house.stop();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    disk.empty();
    house.start();
    let all = numbers(0..3_000);
    until(
        || without_repetitions(house.payloads("home/a")).0 == all,
        || format!("{}: {:#?}", house.payloads("home/a").len(), house.said()),
    );
}

#[test]
fn a_damaged_segment_is_put_aside_and_named() {
    let broker = lasting_broker();
    let mut house = House::beside(&broker, "5", "flush = \"1h\"\n");
    house.start();
    house.until_subscribed(&["#"]);
    // Two commits at least: the second one shows that the first was whole.
    publish(&broker, "home/a", &numbers(0..1), &[]);
    house.until_recorded("home/a", &numbers(0..1));
    publish(&broker, "home/a", &numbers(1..2), &[]);
    house.until_recorded("home/a", &numbers(0..2));
    house.kill();
    let segment = fs::read_dir(house.store.join("segments")).unwrap().next().unwrap().unwrap();
    let mut bytes = fs::read(segment.path()).unwrap();
    bytes[40] ^= 0xff;
    fs::write(segment.path(), bytes).unwrap();
    house.start();
    let kept = house.store.join("damaged").join(segment.file_name());
    house.until_said(&kept.display().to_string(), 1);
    assert!(kept.is_file());
    publish(&broker, "home/a", &numbers(2..3), &[]);
    // The broker may send the other one again, whose acknowledgement the kill may have come before.
    let found = || without_repetitions(house.payloads("home/a")).0;
    until(|| found().ends_with(&numbers(1..3)), || format!("{:?}", found()));
}
