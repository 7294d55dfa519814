//! Power cuts: a writer at work is recorded call by call, and what a cut at each moment may leave on
//! the disk is opened again. It holds every message that had been durable by then, and none twice.

#[path = "../../../tests/store/power/disk.rs"]
#[expect(dead_code, reason = "the tests of the monitor's store use all of it")]
mod disk;

use crate::common::{all, message, some};
use crate::dice::Dice;
use disk::{Call, Disk, Files, Loss, files_below, read_log, write_files};
use iotmonitor_recorder::{Limits, Message, Store, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
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
    let mut number = std::env::var("RECORDER_TEST_FIRST").unwrap().parse().unwrap();
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

/// A recorded run: the disk before it, and what it did.
struct Recording {
    before: Disk,
    calls: Vec<Call>,
}

/// What the child did with these files, with messages from this number on.
fn record(seed: u64, files: &Files, first: u64) -> Recording {
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
    write_files(files, &root);
    let before = Disk::of(&root);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env("LD_PRELOAD", &library)
        .env("RECORDER_ROOT", &root)
        .env("RECORDER_LOG", &log)
        .env("RECORDER_TEST_POWER", seed.to_string())
        .env("RECORDER_TEST_FIRST", first.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = read_log(&log);
    let mut disk = before.clone();
    calls.iter().for_each(|call| disk.carry_out(call));
    assert!(disk.seen() == files_below(&root), "the recording is not what was written");
    Recording { before, calls }
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
fn fault(mut files: Files, durable: &[Range<u64>], dice: &mut Dice) -> Option<String> {
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

fn judge(found: &[Message], durable: &[Range<u64>]) -> Option<String> {
    let by_time: BTreeMap<i64, &Message> = found.iter().map(|found| (found.time, found)).collect();
    if by_time.len() < found.len() {
        return Some("a message is there twice".to_owned());
    }
    let mut durable = durable.iter().cloned().flatten().map(message);
    let lost = durable.find(|durable| by_time.get(&durable.time) != Some(&durable));
    lost.map(|lost| format!("{lost:?} is lost"))
}

/// Cuts the power after each call of a run whose messages begin with this number, with all lost that
/// is not certain, with all kept, and with something between. Gives the number of images and the
/// first fault.
fn cut_at_every_moment(
    recording: &Recording,
    durable_before: Range<u64>,
    first: u64,
    seed: u64,
) -> (usize, Option<String>) {
    let mut dice = Dice(seed);
    let mut disk = recording.before.clone();
    let (mut durable, mut images) = ([durable_before, first..first], 0);
    // Most calls change nothing that is certain.
    let mut judged = BTreeSet::new();
    for (moment, call) in recording.calls.iter().enumerate() {
        let noted = mark(&disk, call);
        durable[1].end = noted.unwrap_or(durable[1].end);
        disk.carry_out(call);
        if noted.is_some() {
            continue;
        }
        let part = Loss::Percent([5, 50, 95][dice.below(3)]);
        for loss in [Loss::All, Loss::None, part] {
            let files = disk.after_power_cut(loss, &mut dice);
            let mut hasher = DefaultHasher::new();
            (&files, &durable).hash(&mut hasher);
            if !judged.insert(hasher.finish()) {
                continue;
            }
            images += 1;
            if let Some(fault) = fault(files, &durable, &mut dice) {
                return (images, Some(format!("moment {moment}, {loss:?}: {fault}")));
            }
        }
    }
    (images, None)
}

/// What a cut somewhere in the second half of a run leaves, and the number up to which its messages
/// had been durable.
fn cut_somewhere(recording: &Recording, seed: u64) -> (Files, u64) {
    let mut dice = Dice(seed);
    let half = recording.calls.len() / 2;
    let mut disk = recording.before.clone();
    let mut durable = 0;
    for call in &recording.calls[..half + dice.below(half)] {
        durable = mark(&disk, call).unwrap_or(durable);
        disk.carry_out(call);
    }
    let mut files = disk.after_power_cut(Loss::Percent(50), &mut dice);
    files.remove(MARKS);
    (files, durable)
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_durable() {
    const SECOND: u64 = 1_000;
    let seed = std::env::var("SEED").map_or(0x5DEE_CE66, |seed| seed.parse().unwrap());
    let first = record(seed, &Files::new(), 0);
    let (mut images, fault) = cut_at_every_moment(&first, 0..0, 0, seed);
    assert_eq!(fault, None, "seed {seed}");
    // The writer that comes after a cut makes good what it finds, and its power is cut, too.
    let (files, durable) = cut_somewhere(&first, seed);
    let second = record(seed + 1, &files, SECOND);
    let (more, fault) = cut_at_every_moment(&second, 0..durable, SECOND, seed);
    assert_eq!(fault, None, "seed {seed}, second run");
    images += more;
    let moments = first.calls.len() + second.calls.len();
    println!("power cuts: {moments} moments, {images} images, 0 lost, seed {seed}");
}

/// The judge is of no use if it finds nothing where a sync is missing.
#[test]
fn a_writer_that_does_not_sync_is_found_out() {
    let recording = record(7, &Files::new(), 0);
    let files: BTreeSet<u64> = recording.calls.iter().filter_map(created).collect();
    let is_data = |call: &Call| matches!(call, Call::Sync { inode } if files.contains(inode));
    let is_name = |call: &Call| matches!(call, Call::Sync { inode } if !files.contains(inode));
    let found_out = |is_missing: &dyn Fn(&Call) -> bool| {
        let calls = recording.calls.iter().filter(|call| !is_missing(call)).cloned().collect();
        let recording = Recording { before: recording.before.clone(), calls };
        cut_at_every_moment(&recording, 0..0, 0, 7).1.is_some()
    };
    assert!(found_out(&is_data));
    assert!(found_out(&is_name));
}

fn created(call: &Call) -> Option<u64> {
    match call {
        Call::Create { inode, .. } => Some(*inode),
        _ => None,
    }
}
