//! Power cuts: a store at work is recorded call by call, and what a cut at each moment may leave on
//! the disk is opened again. It opens without a word of damage, holds every change that had been
//! reported by then, and changes only in whole groups.
//!
//! The recording needs `cc`, as LMDB's build does.

#[path = "power/disk.rs"]
mod disk;
#[path = "power/work.rs"]
mod work;

use super::{Running, state};
use crate::damage::Dice;
use disk::{Call, Disk, Files, Loss, files_below, read_log, write_files};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use work::{Content, MARKS, histories, workload};

/// A recorded run: the disk before it, what it did, and what it was asked to keep.
struct Recording {
    before: Disk,
    calls: Vec<Call>,
    /// Contents after each of its commands, the one before it first.
    history: Vec<Content>,
}

impl Recording {
    fn inode_of(&self, name: &str) -> u64 {
        let mut disk = self.before.clone();
        self.calls.iter().for_each(|call| disk.carry_out(call));
        disk.inode_of(name)
    }
}

/// In memory: what a real disk would keep is what is simulated here, and thousands of stores are
/// opened.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Where recordings are made: a directory for the store, and the recorder.
struct Recorder {
    scratch: tempfile::TempDir,
    library: PathBuf,
}

impl Recorder {
    fn build() -> Self {
        let scratch = scratch();
        let library = scratch.path().join("recorder.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/power/recorder.c");
        let built = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status()
            .unwrap();
        assert!(built.success(), "the recorder is built with cc");
        Self { scratch, library }
    }

    /// Runs the store over these files, on whose content it works on.
    fn record(&self, files: &Files, content: Content, seed: u64, commands: usize) -> Recording {
        let root = self.scratch.path().join("root");
        let log = self.scratch.path().join("log");
        let _ = fs::remove_dir_all(&root);
        let _ = fs::remove_file(&log);
        fs::create_dir(&root).unwrap();
        write_files(files, &root);
        let before = Disk::of(&root);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "power::work::child_that_works_until_it_is_done", "--nocapture"])
            .env("LD_PRELOAD", &self.library)
            .env("RECORDER_ROOT", &root)
            .env("RECORDER_LOG", &log)
            .env("POWER_WORK", format!("{seed} {commands}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let calls = read_log(&log);
        let mut end = before.clone();
        calls.iter().for_each(|call| end.carry_out(call));
        expect_same_files(end.seen(), files_below(&root));
        Recording { before, calls, history: histories(content, &workload(seed, commands)) }
    }
}

/// The log has everything that was written, except through LMDB's map of its lock file, whose
/// content means nothing after a restart of the machine.
fn expect_same_files(mut recorded: Files, mut found: Files) {
    for files in [&mut recorded, &mut found] {
        files.retain(|name, _| !name.ends_with("lock.mdb"));
    }
    assert!(recorded.keys().eq(found.keys()), "{:?} {:?}", recorded.keys(), found.keys());
    for (name, bytes) in &recorded {
        assert!(bytes == &found[name], "the recording of {name} is not what was written");
    }
}

/// What became of the images.
#[derive(Debug, Default)]
struct Tally {
    images: usize,
    /// Images in which something reported was missing, by the moment of the cut.
    lost: BTreeSet<usize>,
}

/// Opens a store after a power cut and judges it.
struct Judge<'a> {
    recording: &'a Recording,
    dice: Dice,
    tally: Tally,
    /// The recorded run began with this damaged file, which is put aside once.
    damaged: Option<&'a [u8]>,
    /// Whether the store also has to go on. One that did not sync may hold all that was reported,
    /// and be damaged where it has not been read yet.
    goes_on: bool,
}

impl Judge<'_> {
    /// Every moment, with all lost, with all kept, and `parts` times with something between.
    fn every_moment(&mut self, parts: usize) {
        let mut disk = self.recording.before.clone();
        let mut reported = 0;
        for moment in 0..=self.recording.calls.len() {
            let call = self.recording.calls.get(moment);
            // Before a note of the test's own there is less to be asked for than behind it.
            let mark = call.and_then(|call| work::mark(&disk, call));
            if mark.is_none() {
                self.moment(moment, &disk, reported, parts);
            }
            reported = reported.max(mark.unwrap_or(0));
            call.into_iter().for_each(|call| disk.carry_out(call));
        }
    }

    fn moment(&mut self, moment: usize, disk: &Disk, reported: usize, parts: usize) {
        let mut losses = vec![Loss::All, Loss::None];
        losses.extend((0..parts).map(|_| Loss::Percent([5, 50, 95][self.dice.below(3)])));
        for loss in losses {
            let files = disk.after_power_cut(loss, &mut self.dice);
            println!("cut at {moment}, loss {loss:?}");
            self.tally.images += 1;
            if self.content_after(files, reported).is_none() {
                self.tally.lost.insert(moment);
            }
        }
    }

    /// What the store holds, as a place in its history; `None` when something reported is missing.
    fn content_after(&mut self, mut files: Files, reported: usize) -> Option<usize> {
        files.remove(MARKS);
        let scratch = scratch();
        write_files(&files, scratch.path());
        self.spoil_lock_file(scratch.path());
        let mut running = Running::start(scratch.path());
        let content = work::content(&mut running, self.damaged.is_some())
            .inspect_err(|event| println!("the store says {event:?}"))
            .ok()?;
        if let Some(damaged) = self.damaged {
            let found = files_below(scratch.path());
            assert!(found.values().any(|bytes| bytes == damaged), "the damaged file is gone");
        }
        let history = &self.recording.history;
        let found = (reported..history.len()).find(|at| history[*at] == content);
        // It also goes on working, which is looked at now and then.
        if self.goes_on && found.is_some() && self.dice.below(8) == 0 {
            goes_on(running, scratch.path(), content);
        } else {
            running.close();
        }
        found
    }

    /// LMDB's lock file is mapped, so a cut may leave anything of it.
    fn spoil_lock_file(&mut self, directory: &Path) {
        let lock = directory.join("lock.mdb");
        match self.dice.below(4) {
            0 => drop(fs::remove_file(lock)),
            1 => {
                let length = self.dice.below(20_000);
                fs::write(lock, vec![0xA5; length]).unwrap();
            }
            _ => {}
        }
    }
}

/// What comes after the cut is kept beside what was there.
fn goes_on(mut running: Running, directory: &Path, mut content: Content) {
    let more = state("after", "the cut");
    let sent = running.put(more.clone());
    running.wait_committed(sent);
    running.close();
    content.states.insert("after".to_owned(), more);
    let mut running = Running::start(directory);
    assert!(work::content(&mut running, false).as_ref() == Ok(&content));
    running.close();
}

fn judge(recording: &Recording, seed: u64, parts: usize, damaged: Option<&[u8]>) -> Tally {
    let (dice, tally) = (Dice(seed | 1), Tally::default());
    let mut judge = Judge { recording, dice, tally, damaged, goes_on: true };
    judge.every_moment(parts);
    judge.tally
}

/// The same of a recording in which syncs are missing.
fn judge_unsynced(recording: &Recording, parts: usize) -> Tally {
    let (dice, tally) = (Dice(7), Tally::default());
    let mut judge = Judge { recording, dice, tally, damaged: None, goes_on: false };
    judge.every_moment(parts);
    judge.tally
}

/// Pseudo-random, and the same in each run unless `SEED` says otherwise.
fn seed() -> u64 {
    std::env::var("SEED").map_or(0x5DEE_CE66, |seed| seed.parse().unwrap())
}

/// Started by the test below as a process of its own, which a store that trusts its file would
/// lose. Alone it has nothing to do.
#[test]
fn child_that_judges_power_cuts() {
    let Ok(rounds) = std::env::var("POWER_ROUNDS") else { return };
    let recorder = Recorder::build();
    let (mut moments, mut images) = (0, 0);
    for round in 0..rounds.parse().unwrap() {
        let seed = seed() + 1_000 * round;
        let mut take = |recording: &Recording, parts, damaged| {
            let tally = judge(recording, seed, parts, damaged);
            assert!(tally.lost.is_empty(), "seed {seed}: lost after {:?}", tally.lost);
            moments += recording.calls.len() + 1;
            images += tally.images;
        };
        let first = recorder.record(&Files::new(), Content::default(), seed, 100);
        take(&first, 2, None);
        // A cut in the middle, and a second one while the store is at work again.
        let (files, content) = cut_somewhere(&first, seed);
        take(&recorder.record(&files, content, seed + 1, 40), 2, None);
        // A damaged file is put aside while the power fails.
        let damaged = vec![0xA5; 20_000];
        let files = Files::from([("data.mdb".to_owned(), damaged.clone())]);
        take(&recorder.record(&files, Content::default(), seed + 2, 8), 12, Some(&damaged));
    }
    println!("power cuts: {moments} moments, {images} images, 0 lost, seed {}", seed());
}

/// The moment and what the disk holds after a cut in the second half of the recording.
fn cut_somewhere(recording: &Recording, seed: u64) -> (Files, Content) {
    let mut dice = Dice(seed | 1);
    let half = recording.calls.len() / 2;
    let moment = half + dice.below(half);
    let mut disk = recording.before.clone();
    recording.calls[..moment].iter().for_each(|call| disk.carry_out(call));
    let mut files = disk.after_power_cut(Loss::Percent(50), &mut dice);
    files.remove(MARKS);
    let scratch = scratch();
    write_files(&files, scratch.path());
    let mut running = Running::start(scratch.path());
    let content = work::content(&mut running, false).unwrap();
    running.close();
    (files, content)
}

/// Runs the child and gives the last line that it prints.
fn child(name: &str, rounds: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("power::{name}"), "--nocapture"])
        .env("POWER_ROUNDS", rounds)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&child.stdout);
    let lines: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    let end = lines[lines.len().saturating_sub(8)..].join("\n");
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{}: {end}\n{errors}", child.status);
    let last = lines.iter().rfind(|line| line.contains("power cuts: "));
    last.unwrap_or_else(|| panic!("{end}")).to_string()
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_reported() {
    let rounds = std::env::var("ROUNDS").unwrap_or_else(|_| "1".to_owned());
    println!("{}", child("child_that_judges_power_cuts", &rounds));
}

/// The judge is useless if it finds nothing where syncs are missing.
#[test]
fn a_store_that_does_not_sync_is_found_out() {
    let recorder = Recorder::build();
    let mut recording = recorder.record(&Files::new(), Content::default(), 7, 60);
    let all = recording.calls.clone();
    recording.calls.retain(|call| !matches!(call, Call::Written { .. }));
    let without_durable_writes = judge_unsynced(&recording, 0);
    assert!(!without_durable_writes.lost.is_empty());
    recording.calls = all;
    let data = recording.inode_of("data.mdb");
    recording.calls.retain(|call| !matches!(call, Call::Sync { inode } if *inode == data));
    let without_syncs = judge_unsynced(&recording, 1);
    assert!(!without_syncs.lost.is_empty());
}
