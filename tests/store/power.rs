//! Power cuts: a store at work is recorded call by call, and what a cut at each moment may leave on
//! the disk is opened again. It opens without a word of damage, holds every change that had been
//! reported by then, and changes only in whole groups.

#[path = "power/disk.rs"]
mod disk;
#[path = "power/recorder.rs"]
mod recorder;
#[path = "power/work.rs"]
mod work;

use super::{Running, state};
use disk::{Call, Files, files_below, write_files};
use recorder::{Recorder, Recording, Tally, child, scratch, seed, spoil_lock_file};
use std::path::Path;
use work::{Content, histories, workload};

/// A recorded run, and what the store was asked to keep.
struct Work {
    recording: Recording,
    /// Contents after each of its commands, the one before it first.
    history: Vec<Content>,
}

/// Records the store over these files, on whose content it works on.
fn record(
    recorder: &Recorder,
    files: &Files,
    content: Content,
    (seed, commands): (u64, usize),
) -> Work {
    let program = "power::work::child_that_works_until_it_is_done";
    let recording = recorder.record(files, program, &format!("{seed} {commands}"));
    Work { recording, history: histories(content, &workload(seed, commands)) }
}

impl Work {
    /// Opens the store after each cut. The recorded run may have begun with this damaged file, which
    /// is put aside once. `goes_on` says whether the store also has to go on: one that did not sync
    /// may hold all that was reported, and be damaged where it has not been read yet.
    fn judge(&self, (seed, parts): (u64, usize), damaged: Option<&[u8]>, goes_on: bool) -> Tally {
        self.recording.cut_at_every_moment(seed, parts, |files, reported, dice| {
            let scratch = scratch();
            write_files(&files, scratch.path());
            spoil_lock_file(scratch.path(), dice);
            let mut running = Running::start(scratch.path());
            let content = match work::content(&mut running, damaged.is_some()) {
                Ok(content) => content,
                Err(event) => {
                    println!("the store says {event:?}");
                    return false;
                }
            };
            if let Some(damaged) = damaged {
                let found = files_below(scratch.path());
                assert!(found.values().any(|bytes| bytes == damaged), "the damaged file is gone");
            }
            let holds = self.history[reported..].contains(&content);
            // It also goes on working, which is looked at now and then.
            if goes_on && holds && dice.below(8) == 0 {
                expect_to_go_on(running, scratch.path(), content);
            } else {
                running.close();
            }
            holds
        })
    }
}

/// What comes after the cut is kept beside what was there.
fn expect_to_go_on(mut running: Running, directory: &Path, mut content: Content) {
    let more = state("after", "the cut");
    let sent = running.put(more.clone());
    // Someone who reads does not wait for a second, so neither does the commit.
    running.send_read(&["after"], None);
    running.wait_committed(sent);
    running.close();
    content.states.insert("after".to_owned(), more);
    let mut running = Running::start(directory);
    assert!(work::content(&mut running, false).as_ref() == Ok(&content));
    running.close();
}

/// What a round judges: a recorded run, how many losses between all and nothing it tries at each moment,
/// and the damaged file with which the run began.
struct Round {
    work: Work,
    parts: usize,
    damaged: Option<Vec<u8>>,
}

/// Judges a round for each seed. The tests below start this as processes of their own, which a store that
/// trusts its file would lose. Alone it has nothing to do.
fn judge_rounds(round: impl Fn(&Recorder, u64) -> Round) {
    let Ok(rounds) = std::env::var("POWER_ROUNDS") else { return };
    let recorder = Recorder::build();
    let (mut moments, mut images) = (0, 0);
    for number in 0..rounds.parse().unwrap() {
        let seed = seed() + 1_000 * number;
        let Round { work, parts, damaged } = round(&recorder, seed);
        let tally = work.judge((seed, parts), damaged.as_deref(), true);
        assert!(tally.lost.is_empty(), "seed {seed}: lost after {:?}", tally.lost);
        moments += work.recording.calls.len() + 1;
        images += tally.images;
    }
    println!("power cuts: {moments} moments, {images} images, 0 lost, seed {}", seed());
}

/// A new store at work.
fn first_run(recorder: &Recorder, seed: u64) -> Work {
    record(recorder, &Files::new(), Content::default(), (seed, 100))
}

#[test]
fn child_that_judges_power_cuts() {
    judge_rounds(|recorder, seed| Round {
        work: first_run(recorder, seed),
        parts: 2,
        damaged: None,
    });
}

#[test]
fn child_that_judges_second_power_cuts() {
    judge_rounds(|recorder, seed| {
        let files = first_run(recorder, seed).recording.cut_somewhere(seed);
        let content = content_of(&files);
        let work = record(recorder, &files, content, (seed + 1, 40));
        Round { work, parts: 2, damaged: None }
    });
}

#[test]
fn child_that_judges_power_cuts_beside_a_damaged_file() {
    judge_rounds(|recorder, seed| {
        let damaged = vec![0xA5; 20_000];
        let files = Files::from([("data.mdb".to_owned(), damaged.clone())]);
        let work = record(recorder, &files, Content::default(), (seed + 2, 8));
        Round { work, parts: 12, damaged: Some(damaged) }
    });
}

fn content_of(files: &Files) -> Content {
    let scratch = scratch();
    write_files(files, scratch.path());
    let mut running = Running::start(scratch.path());
    let content = work::content(&mut running, false).unwrap();
    running.close();
    content
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_reported() {
    println!("{}", child("power::child_that_judges_power_cuts"));
}

#[test]
fn a_second_power_cut_loses_nothing_that_was_reported() {
    println!("{}", child("power::child_that_judges_second_power_cuts"));
}

#[test]
fn a_power_cut_while_a_damaged_file_is_put_aside_loses_nothing() {
    println!("{}", child("power::child_that_judges_power_cuts_beside_a_damaged_file"));
}

/// The judge is useless if it finds nothing where syncs are missing.
#[test]
fn a_store_that_does_not_sync_is_found_out() {
    let recorder = Recorder::build();
    let mut work = record(&recorder, &Files::new(), Content::default(), (7, 60));
    let all = work.recording.calls.clone();
    work.recording.calls.retain(|call| !matches!(call, Call::Written { .. }));
    let without_durable_writes = work.judge((7, 0), None, false);
    assert!(!without_durable_writes.lost.is_empty());
    work.recording.calls = all;
    let data = work.recording.inode_of("data.mdb");
    work.recording.calls.retain(|call| !matches!(call, Call::Sync { inode } if *inode == data));
    let without_syncs = work.judge((7, 1), None, false);
    assert!(!without_syncs.lost.is_empty());
}
