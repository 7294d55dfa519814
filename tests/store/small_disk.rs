//! A disk that is full.
//!
//! The tests of this module mount a file system, which takes root and the right to mount.

use super::{Running, state, unused};
use iotmonitor::store::StoreCommand;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::Delivery;
use iotmonitor_core::model::state::StateChange;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// A file system of a few pages, mounted for one test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(mount.success(), "this test mounts a tmpfs and must run as root");
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let disk = SmallDisk::mount("4m");
    let directory = disk.0.path().join("store");
    let ballast = disk.0.path().join("ballast");
    let mut running = Running::opened(&directory);
    let before = running.put(state("before", "x"));
    running.wait_committed(before);
    // Fails at the last page, and leaves the disk full.
    assert!(fs::write(&ballast, vec![0; 8 << 20]).is_err());

    for number in 0..100 {
        running.put(state(&format!("full/{number}"), vec![b'x'; 5_000]));
    }
    running.handle.send(StoreCommand::SaveSessionFilters(Vec::new())).unwrap();
    let read = running.send_read(&["full/#"], None);
    // A few may still find room in pages that the file has.
    let mut committed = Delivery(0);
    let error = loop {
        match running.next() {
            Event::StatesCommitted { through } => committed = through,
            Event::StoreFailed { error } => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.contains("No space left on device"), "{error}");
    let later = running.change(StateChange::Nothing);
    // Long enough for another try, which must say nothing and leave the thread alive.
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        assert!(running.events.is_empty());
        assert!(running.pulse.age() < Duration::from_secs(1));
        std::thread::yield_now();
    }
    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    assert_eq!(running.next(), Event::StoreRecovered);
    assert!(freed.elapsed() < Duration::from_secs(5));
    loop {
        match running.next() {
            Event::StatesCommitted { through } => {
                assert!(through > committed);
                committed = through;
            }
            Event::StatesRead { read: answered, states, next } => {
                assert_eq!((answered, states.len(), next), (read, 100, None));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    running.wait_committed(later);
    assert_eq!(running.read(&["before"]).0.len(), 1);
    running.close();
}

/// Started by the test below as a process of its own, in which no other thread reads. Alone it has
/// nothing to do.
#[test]
fn child_with_a_large_store_and_a_full_disk() {
    let Ok(directory) = std::env::var("STORE_TEST_SMALL_DISK") else { return };
    let directory = std::path::Path::new(&directory);
    let ballast = directory.join("ballast");
    let mut running = Running::opened(directory);
    for part in 0..8 {
        for number in 0..4_000 {
            running.put(state(&format!("large/{part}/{number}"), vec![b'x'; 500]));
        }
        let last = running.change(StateChange::Nothing);
        running.wait_committed(last);
    }
    assert!(fs::write(&ballast, vec![0; 80 << 20]).is_err());
    let sent = running.put(state("full", vec![b'x'; 3 << 20]));
    assert!(matches!(running.next(), Event::StoreFailed { .. }));
    let before = bytes_read();
    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    assert_eq!(running.next(), Event::StoreRecovered);
    assert!(freed.elapsed() < Duration::from_secs(5));
    running.wait_committed(sent);
    println!("read {}", bytes_read() - before);
    running.close();
}

/// What this process has read by system calls; pages of a map are none.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_commit_that_failed_has_the_store_not_read_again() {
    let disk = SmallDisk::mount("64m");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "small_disk::child_with_a_large_store_and_a_full_disk", "--nocapture"])
        .env("STORE_TEST_SMALL_DISK", disk.0.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{printed}{}", String::from_utf8_lossy(&child.stderr));
    let read = printed.lines().find_map(|line| line.strip_prefix("read ")).unwrap();
    assert!(read.parse::<u64>().unwrap() < 1 << 20, "{read} bytes of 18 MB were read");
}

#[test]
fn a_file_system_that_is_mounted_over_the_store_is_used_until_it_goes() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("store");
    let mut running = Running::opened(&directory);
    let below = running.put(state("below", "x"));
    running.wait_committed(below);
    let mount = |arguments: &[&str]| {
        let done = Command::new(arguments[0]).args(&arguments[1..]).arg(&directory).status();
        assert!(done.unwrap().success(), "this test mounts a tmpfs and must run as root");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    let above = running.put(state("above", "x"));
    assert!(matches!(running.next(), Event::StoreReplaced { .. }));
    running.wait_committed(above);
    assert!(directory.join("data.mdb").exists());
    mount(&["umount", "-l"]);
    let last = running.put(state("last", "x"));
    assert!(matches!(running.next(), Event::StoreReplaced { .. }));
    running.wait_committed(last);
    // It was committed here, too, before it was noticed.
    assert_eq!(super::topics(&running.read(&["#"]).0), ["above", "below", "last"]);
    running.close();
}

#[test]
fn a_disk_that_stays_full_holds_up_the_end_for_no_longer_than_allowed() {
    let disk = SmallDisk::mount("1m");
    let mut running = Running::opened(&disk.0.path().join("store"));
    running.put(state("a", vec![0; 2 << 20]));
    assert!(matches!(running.next(), Event::StoreFailed { .. }));
    let start = Instant::now();
    assert!(!running.handle.close(Duration::from_millis(300)));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_disk_that_is_full_from_the_start_is_waited_for() {
    let disk = SmallDisk::mount("1m");
    let ballast = disk.0.path().join("ballast");
    assert!(fs::write(&ballast, vec![0; 2 << 20]).is_err());
    let mut running = Running::start(disk.0.path());
    assert!(matches!(running.next(), Event::StoreFailed { .. }));
    fs::remove_file(&ballast).unwrap();
    assert_eq!(running.next(), Event::StoreOpened(Box::new(unused())));
    running.close();
}
