//! A disk that is full.
//!
//! The tests of this module mount a file system, which takes root and the right to mount.

use crate::common::{all, message, writer};
use crate::sorted;
use iotmonitor_recorder::{Message, Store, Writer};
use std::fs;
use std::process::Command;
use std::time::Instant;

/// A small file system, mounted for one test.
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

    /// Leaves no room, and gives the file whose removal makes room again.
    fn fill(&self) -> std::path::PathBuf {
        let ballast = self.0.path().join("ballast");
        assert!(fs::write(&ballast, vec![0; 64 << 20]).is_err());
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Appends messages from this number on, and commits them, until that fails. Gives the number of
/// the first message that is not durable, and that of the first one that was not taken.
fn until_full(writer: &mut Writer, mut number: u64) -> (u64, u64) {
    let mut durable = number;
    loop {
        for _ in 0..20 {
            writer.append(&message(number)).unwrap();
            number += 1;
        }
        match writer.commit(Instant::now()) {
            Ok(through) => assert_eq!(through, number),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                return (durable, number);
            }
        }
        durable = number;
    }
}

fn expected(numbers: std::ops::Range<u64>) -> Vec<Message> {
    sorted(numbers.map(message).collect())
}

/// The messages that are durable, and none twice; others may be there once.
fn expect_durable(store: &Store, durable: u64, taken: u64) {
    let found = all(store);
    let more = expected(0..taken);
    assert!(found.iter().all(|message| more.contains(message)));
    let of_durable = expected(0..durable);
    let durable: Vec<_> = found.into_iter().filter(|found| of_durable.contains(found)).collect();
    assert_eq!(durable, of_durable);
}

#[test]
fn a_full_disk_withholds_the_commit_and_loses_nothing() {
    let disk = SmallDisk::mount("2m");
    let (store, mut writer) = writer(&disk.0.path().join("store"));
    let (durable, _) = until_full_with_flushes(&mut writer);
    let ballast = disk.fill();
    let (durable, taken) = until_full(&mut writer, durable);
    // Whatever is tried meanwhile fails, and changes nothing.
    for _ in 0..3 {
        assert!(writer.commit(Instant::now()).unwrap_err().is_full());
        let _ = writer.flush();
        let _ = store.compact();
        expect_durable(&store, durable, taken);
    }
    fs::remove_file(&ballast).unwrap();
    assert_eq!(writer.commit(Instant::now()).unwrap(), taken);
    assert_eq!(all(&store), expected(0..taken));
    writer.flush().unwrap();
    assert_eq!(all(&store), expected(0..taken));
    store.compact().unwrap();
    assert_eq!(all(&store), expected(0..taken));
}

/// A few hundred messages in Parquet files, and a segment beside them.
fn until_full_with_flushes(writer: &mut Writer) -> (u64, u64) {
    for number in 0..300 {
        writer.append(&message(number)).unwrap();
        if number % 50 == 0 {
            writer.commit(Instant::now()).unwrap();
            writer.flush().unwrap();
        }
    }
    writer.commit(Instant::now()).unwrap();
    (300, 300)
}

#[test]
fn a_writer_that_ends_while_the_disk_is_full_loses_nothing_that_was_durable() {
    let disk = SmallDisk::mount("2m");
    let directory = disk.0.path().join("store");
    let (_, mut first) = writer(&directory);
    disk.fill();
    let (durable, taken) = until_full(&mut first, 0);
    drop(first);
    // It opens on the full disk, and what is not durable is sent again by the broker.
    let (store, mut writer) = writer(&directory);
    expect_durable(&store, durable, taken);
    let _ = writer.flush();
    expect_durable(&store, durable, taken);
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    writer.flush().unwrap();
    store.compact().unwrap();
    expect_durable(&store, durable, taken);
}

#[test]
fn a_store_that_cannot_be_made_on_a_full_disk_can_be_made_later() {
    let disk = SmallDisk::mount("1m");
    let ballast = disk.fill();
    let store = Store::new(disk.0.path().join("store"));
    if let Ok(mut writer) = Writer::open(&store, Default::default()) {
        writer.append(&message(0)).unwrap();
        assert!(writer.commit(Instant::now()).unwrap_err().is_full());
    }
    fs::remove_file(&ballast).unwrap();
    let mut writer = Writer::open(&store, Default::default()).unwrap();
    writer.append(&message(0)).unwrap();
    writer.commit(Instant::now()).unwrap();
    assert_eq!(all(&store), [message(0)]);
}
