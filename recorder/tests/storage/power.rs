//! Power cuts: a writer at work is recorded call by call, and what a cut at each moment may leave on
//! the disk is opened again. It holds every message that had been durable by then, and none twice.

#[path = "../../../tests/store/power/disk.rs"]
#[expect(dead_code, reason = "the tests of the monitor's store use all of it")]
mod disk;

use crate::common::{all, message, some};
use crate::damage::Dice;
use disk::{Call, Disk, Files, Loss, files_below, read_log, write_files};
use iotmonitor_recorder::{Limits, Message, Store, Writer};
use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const CHILD: &str = "power::child_that_works_until_it_is_done";
/// The file in which the recorded program notes how many of its messages are durable.
const MARKS: &str = "marks";

/// Started by the tests below as a process of its own. Alone it has nothing to do.
#[test]
fn child_that_works_until_it_is_done() {
    let Ok(seed) = std::env::var("RECORDER_TEST_POWER") else { return };
    let root = std::env::var("RECORDER_ROOT").unwrap();
    let store = Store::new(Path::new(&root));
    let marks = fs::File::create(Path::new(&root).join(MARKS)).unwrap();
    let mut dice = Dice(seed.parse().unwrap());
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    let mut number = 0;
    for step in 0..12 {
        for _ in 0..some(&mut dice, 1..25) {
            writer.append(&message(number)).unwrap();
            number += 1;
        }
        writer.commit(Instant::now()).unwrap();
        marks.write_all_at(&number.to_le_bytes(), 0).unwrap();
        if step % 3 == 2 {
            writer.flush().unwrap();
        }
        if step % 6 == 5 {
            store.compact().unwrap();
        }
    }
}

/// In memory: what a real disk would keep is what is simulated here.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// What the child did, from an empty directory on.
fn record(seed: u64) -> Vec<Call> {
    let scratch = scratch();
    let (root, log) = (scratch.path().join("root"), scratch.path().join("log"));
    let library = scratch.path().join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/store/power/recorder.c");
    let built = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(built.unwrap().success(), "the recorder is built with cc");
    fs::create_dir(&root).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env("LD_PRELOAD", &library)
        .env("RECORDER_ROOT", &root)
        .env("RECORDER_LOG", &log)
        .env("RECORDER_TEST_POWER", seed.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = read_log(&log);
    let mut disk = Disk::default();
    calls.iter().for_each(|call| disk.carry_out(call));
    assert!(disk.seen() == files_below(&root), "the recording is not what was written");
    calls
}

/// The number that this call notes, if it is a note.
fn mark(disk: &Disk, call: &Call) -> Option<u64> {
    match call {
        Call::Write { inode, bytes, .. } if disk.is_at(MARKS, *inode) => {
            Some(u64::from_le_bytes(bytes.as_slice().try_into().unwrap()))
        }
        _ => None,
    }
}

/// What is wrong with the files that a cut left, if anything is.
fn fault(mut files: Files, durable: u64, dice: &mut Dice) -> Option<String> {
    files.remove(MARKS);
    let scratch = scratch();
    write_files(&files, scratch.path());
    let store = Store::new(scratch.path());
    if dice.below(4) == 0 && scratch.path().join("messages").exists() {
        let found = judge(&all(&store), durable);
        if found.is_some() {
            return found;
        }
    }
    let mut writer = Writer::open(&store, Limits::default()).unwrap();
    let damages = writer.flush().unwrap();
    if !damages.is_empty() {
        return Some(format!("{damages:?}"));
    }
    if dice.below(4) == 0 {
        let compaction = store.compact().unwrap();
        if !compaction.damaged.is_empty() {
            return Some(format!("{compaction:?}"));
        }
    }
    judge(&all(&store), durable)
}

fn judge(found: &[Message], durable: u64) -> Option<String> {
    let numbers = || found.iter().map(|found| found.time);
    let mut times: Vec<i64> = numbers().collect();
    times.sort_unstable();
    let count = times.len();
    times.dedup();
    if times.len() < count {
        return Some("a message is there twice".to_owned());
    }
    let lost = (0..durable).map(message).find(|durable| !found.contains(durable));
    lost.map(|lost| format!("{lost:?} is lost"))
}

/// Cuts the power after each call, with all lost that is not certain, with all kept, and with
/// something between. Gives the number of images and the first fault.
fn cut_at_every_moment(calls: &[Call], seed: u64) -> (usize, Option<String>) {
    let mut dice = Dice(seed);
    let mut disk = Disk::default();
    let (mut durable, mut images) = (0, 0);
    // Most calls change nothing that is certain.
    let mut judged = BTreeSet::new();
    for (moment, call) in calls.iter().enumerate() {
        let noted = mark(&disk, call);
        durable = noted.unwrap_or(durable);
        disk.carry_out(call);
        if noted.is_some() {
            continue;
        }
        let part = Loss::Percent([5, 50, 95][dice.below(3)]);
        for loss in [Loss::All, Loss::None, part] {
            let files = disk.after_power_cut(loss, &mut dice);
            let mut hasher = DefaultHasher::new();
            (&files, durable).hash(&mut hasher);
            if !judged.insert(hasher.finish()) {
                continue;
            }
            images += 1;
            if let Some(fault) = fault(files, durable, &mut dice) {
                return (images, Some(format!("moment {moment}, {loss:?}: {fault}")));
            }
        }
    }
    (images, None)
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_durable() {
    let seed = std::env::var("SEED").map_or(0x5DEE_CE66, |seed| seed.parse().unwrap());
    let calls = record(seed);
    let (images, fault) = cut_at_every_moment(&calls, seed);
    assert_eq!(fault, None, "seed {seed}");
    println!("power cuts: {} moments, {images} images, 0 lost, seed {seed}", calls.len());
}

/// The judge is of no use if it finds nothing where a sync is missing.
#[test]
fn a_writer_that_does_not_sync_is_found_out() {
    let calls = record(7);
    let files: BTreeSet<u64> = calls.iter().filter_map(created).collect();
    let is_data = |call: &Call| matches!(call, Call::Sync { inode } if files.contains(inode));
    let is_name = |call: &Call| matches!(call, Call::Sync { inode } if !files.contains(inode));
    let without_data: Vec<Call> = calls.iter().filter(|call| !is_data(call)).cloned().collect();
    assert!(cut_at_every_moment(&without_data, 7).1.is_some());
    let without_names: Vec<Call> = calls.iter().filter(|call| !is_name(call)).cloned().collect();
    assert!(cut_at_every_moment(&without_names, 7).1.is_some());
}

fn created(call: &Call) -> Option<u64> {
    match call {
        Call::Create { inode, .. } => Some(*inode),
        _ => None,
    }
}
