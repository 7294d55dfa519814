//! Power cuts, by the rules of the store's: the history at work is recorded call by call, and what a
//! cut at each moment may leave on the disk is opened again. Each batch that had been reported by
//! then is there as a whole, so no episode is lost that was on disk, and no contacts but those that
//! were not handed over yet, of at most ten minutes.

#[path = "../store/power/disk.rs"]
mod disk;
#[path = "../store/power/recorder.rs"]
mod recorder;

use super::{NOW, T, Thread, episode};
use crate::dice::Dice;
use disk::{Call, Files, files_below, write_files};
use iotmonitor::history::{HistoryCommand, HistoryReader, HistorySettings};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use iotmonitor_core::model::history::{
    ContactTally, DAY, Date, DayTally, EpisodeRecord, HistoryBatch, HistorySnapshot, HourTally,
    RestartRecord, UsageTally, hour_of,
};
use recorder::{MARKS, Recorder, Recording, Tally, child, scratch, seed, spoil_lock_file};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

const DEVICES: usize = 6;

fn device(number: usize) -> DeviceName {
    DeviceName::new(format!("device{number}")).unwrap()
}

/// Small, so that the file has to grow.
fn settings(root: &Path) -> HistorySettings {
    HistorySettings {
        map_bytes: 128 * 1_024,
        ..HistorySettings::new(root.to_owned(), T(400 * DAY))
    }
}

/// Everything that a history holds.
#[derive(Debug, Clone, Default, PartialEq)]
struct Content {
    snapshot: HistorySnapshot,
    devices: Vec<DeviceHistory>,
}

/// What the batches say, kept in the simplest way.
#[derive(Debug, Clone, Default)]
struct Past {
    run: HistorySnapshot,
    known: BTreeMap<DeviceName, std::time::Duration>,
    episodes: BTreeMap<(Option<DeviceName>, u64), EpisodeRecord>,
    days: BTreeMap<(DeviceName, Date), DayTally>,
    restarts: Vec<RestartRecord>,
}

impl Past {
    fn follow(&mut self, batch: &HistoryBatch) {
        (self.run.mark, self.run.last_id) = (Some(batch.mark), batch.last_id);
        for (name, since) in &batch.known {
            self.known.entry(name.clone()).or_insert(*since);
        }
        for episode in &batch.episodes {
            self.episodes.insert((episode.device.clone(), episode.id), episode.clone());
        }
        for HourTally { device, hour, tally, usage } in &batch.tallies {
            let day = self.days.entry((device.clone(), Date(hour / 24))).or_default();
            day.add((hour % 24) as usize, *tally, *usage);
        }
        self.restarts.extend_from_slice(&batch.restarts);
    }

    fn content(&self) -> Content {
        let open = self.episodes.values().filter(|episode| episode.end.is_none()).cloned();
        let (open, known) = (open.collect(), self.known.keys().cloned().collect());
        let snapshot = HistorySnapshot { open, known, ..self.run.clone() };
        let devices = (0..DEVICES).map(|number| self.of(&device(number))).collect();
        Content { snapshot, devices }
    }

    fn of(&self, name: &DeviceName) -> DeviceHistory {
        let mut episodes: Vec<EpisodeRecord> = self.episodes.values().cloned().collect();
        episodes.retain(|it| it.device.as_ref().is_none_or(|device| device == name));
        episodes.sort_by_key(|episode| (episode.begin, episode.id));
        let days = self.days.iter().filter(|((device, _), _)| device == name);
        DeviceHistory {
            since: self.known.get(name).copied(),
            episodes,
            days: days.map(|((_, date), day)| (*date, day.clone())).collect(),
            restarts: self.restarts.iter().filter(|it| it.agent == *name).cloned().collect(),
        }
    }
}

/// What is done in a run: the same batches for the same seed.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// The number of the first batch, from which its times and the numbers of episodes follow.
    first: u64,
    batches: u64,
}

impl Plan {
    fn batches(self) -> Vec<HistoryBatch> {
        let mut dice = Dice(self.seed | 1);
        let mut open = Vec::new();
        let places = self.first..self.first + self.batches;
        places.map(|place| batch(place, &mut dice, &mut open)).collect()
    }
}

fn batch(place: u64, dice: &mut Dice, open: &mut Vec<EpisodeRecord>) -> HistoryBatch {
    let mark = NOW + place * 600;
    let mut batch = HistoryBatch { mark: T(mark), last_id: place * 10, ..HistoryBatch::default() };
    if !open.is_empty() && dice.below(2) == 0 {
        let over = open.swap_remove(dice.below(open.len()));
        batch.episodes.push(EpisodeRecord { end: Some(T(mark)), ..over });
    }
    for number in 0..dice.below(4) as u64 {
        let end = (dice.below(2) == 0).then_some(mark + 60);
        let device = (dice.below(5) > 0).then(|| device(dice.below(DEVICES)));
        let begun = EpisodeRecord { device, ..episode(place * 10 - number, mark, end) };
        open.extend(begun.end.is_none().then(|| begun.clone()));
        batch.episodes.push(begun);
    }
    for _ in 0..dice.below(8) {
        let number = dice.below(DEVICES);
        let contacts = dice.below(1_000) as u32;
        let memory_kib = Some(contacts).filter(|_| dice.below(2) == 0);
        batch.tallies.push(HourTally {
            device: device(number),
            hour: hour_of(T(mark)),
            tally: ContactTally { contacts, longest_silence: dice.below(100) as u32 },
            usage: (number < 2).then_some(UsageTally { memory_kib, cpu_millis: Some(contacts) }),
        });
    }
    for number in 0..dice.below(3) as u64 {
        batch.restarts.push(RestartRecord {
            agent: device(dice.below(2)),
            time: T(mark + number),
            exit: Some("x".repeat(dice.below(300))),
            memory_peak: Some(mark),
        });
    }
    batch.known.push((device(dice.below(DEVICES)), T(mark)));
    batch
}

/// What a history holds that was just started. But for a damaged file, which is put aside, it may
/// report nothing else: what it then reports comes back.
fn content(thread: &mut Thread, damaged: bool) -> Result<Content, Event> {
    let mut event = thread.next();
    if damaged && matches!(event, Event::HistoryPutAside { .. }) {
        event = thread.next();
    }
    let Event::HistoryOpened(snapshot) = event else { return Err(event) };
    let (sender, answer) = std::sync::mpsc::channel();
    let whole = |_: &DeviceName, history: &DeviceHistory| history.clone();
    let reader = HistoryReader::new(whole, move |all| sender.send(all).unwrap());
    let (devices, since, now) = ((0..DEVICES).map(device).collect(), T(0), T(NOW + 30 * DAY));
    thread.handle.send(HistoryCommand::Read { devices, since, now, reader }).unwrap();
    Ok(Content { snapshot: *snapshot, devices: answer.recv().unwrap().unwrap() })
}

/// Started as a process of its own below the recorder: three sessions of a history, in each of which
/// batches come in bursts. Alone it has nothing to do.
#[test]
fn child_that_works_until_it_is_done() {
    let Ok(work) = std::env::var("POWER_WORK") else { return };
    let root = std::env::var("RECORDER_ROOT").unwrap();
    let root = Path::new(&root);
    let numbers: Vec<u64> = work.split(' ').map(|number| number.parse().unwrap()).collect();
    let plan = Plan { seed: numbers[0], first: numbers[1], batches: numbers[2] };
    let mut dice = Dice(plan.seed | 1);
    let all = plan.batches();
    let mut marks = OpenOptions::new().create(true).append(true).open(root.join(MARKS)).unwrap();
    let mut done = 0;
    for session in all.chunks(all.len().div_ceil(3)) {
        let mut thread = Thread::start(settings(root));
        content(&mut thread, true).unwrap();
        let mut rest = session;
        while !rest.is_empty() {
            let burst;
            (burst, rest) = rest.split_at((1 + dice.below(4)).min(rest.len()));
            burst.iter().for_each(|batch| thread.send(batch.clone()));
            for _ in burst {
                assert_eq!(thread.next(), Event::HistorySaved);
                done += 1;
                // In one write, because each is read by itself.
                marks.write_all(format!("{done}\n").as_bytes()).unwrap();
            }
        }
        thread.close();
    }
}

/// A recorded run, and what the history holds after each of its batches, and before all.
struct Work {
    recording: Recording,
    contents: Vec<Content>,
    end: Past,
}

fn record(recorder: &Recorder, files: &Files, mut past: Past, plan: Plan) -> Work {
    let program = "power::child_that_works_until_it_is_done";
    let Plan { seed, first, batches } = plan;
    let recording = recorder.record(files, program, &format!("{seed} {first} {batches}"));
    let mut contents = vec![past.content()];
    for batch in plan.batches() {
        past.follow(&batch);
        contents.push(past.content());
    }
    Work { recording, contents, end: past }
}

impl Work {
    /// Opens the history after each cut. The recorded run may have begun with this damaged file.
    fn judge(&self, (seed, parts): (u64, usize), damaged: Option<&[u8]>, goes_on: bool) -> Tally {
        self.recording.cut_at_every_moment(seed, parts, |files, reported, dice| {
            let scratch = scratch();
            write_files(&files, scratch.path());
            spoil_lock_file(scratch.path(), dice);
            let mut thread = Thread::start(settings(scratch.path()));
            let found = match content(&mut thread, damaged.is_some()) {
                Ok(found) => found,
                Err(event) => {
                    println!("the history says {event:?}");
                    return false;
                }
            };
            if let Some(damaged) = damaged {
                let files = files_below(scratch.path());
                assert!(files.values().any(|bytes| bytes == damaged), "the damaged file is gone");
            }
            let holds = self.contents[reported..].contains(&found);
            // It also goes on working, which is looked at now and then.
            if goes_on && holds && dice.below(8) == 0 {
                let begun = EpisodeRecord { device: None, ..episode(1, NOW, None) };
                thread.save(HistoryBatch {
                    mark: T(NOW),
                    episodes: vec![begun.clone()],
                    ..HistoryBatch::default()
                });
                thread.close();
                thread = Thread::start(settings(scratch.path()));
                let next = content(&mut thread, false).unwrap();
                assert!(next.snapshot.open.contains(&begun));
                assert_eq!(next.snapshot.open.len(), found.snapshot.open.len() + 1);
            }
            thread.close();
            holds
        })
    }
}

/// The batches of a run of which the disk holds so much after a cut.
fn past_after(work: &Work, plan: Plan, files: &Files) -> Past {
    let scratch = scratch();
    write_files(files, scratch.path());
    let mut thread = Thread::start(settings(scratch.path()));
    let found = content(&mut thread, false).unwrap();
    thread.close();
    let count = work.contents.iter().position(|content| *content == found).unwrap();
    let mut past = Past::default();
    plan.batches().iter().take(count).for_each(|batch| past.follow(batch));
    past
}

/// Started by the test below as a process of its own, which a history that trusts its file would
/// end. Alone it has nothing to do.
#[test]
fn child_that_judges_power_cuts() {
    let Ok(rounds) = std::env::var("POWER_ROUNDS") else { return };
    let recorder = Recorder::build();
    let (mut moments, mut images, mut episodes) = (0, 0, 0);
    for round in 0..rounds.parse().unwrap() {
        let seed = seed() + 1_000 * round;
        let mut take = |work: &Work, parts, damaged| {
            let tally = work.judge((seed, parts), damaged, true);
            assert!(tally.lost.is_empty(), "seed {seed}: lost after {:?}", tally.lost);
            moments += work.recording.calls.len() + 1;
            images += tally.images;
            episodes += work.end.episodes.len();
        };
        let plan = Plan { seed, first: 1, batches: 60 };
        let first = record(&recorder, &Files::new(), Past::default(), plan);
        take(&first, 2, None);
        // A cut in the middle, and a second one while the history is at work again.
        let files = first.recording.cut_somewhere(seed);
        let past = past_after(&first, plan, &files);
        let next = Plan { seed: seed + 1, first: 1_000, batches: 25 };
        take(&record(&recorder, &files, past, next), 2, None);
        // A damaged file is put aside while the power fails.
        let damaged = vec![0xA5; 20_000];
        let files = Files::from([("data.mdb".to_owned(), damaged.clone())]);
        let last = Plan { seed: seed + 2, first: 1, batches: 6 };
        take(&record(&recorder, &files, Past::default(), last), 12, Some(&damaged));
    }
    println!(
        "power cuts: {moments} moments, {images} images, {episodes} episodes, 0 lost, seed {}",
        seed()
    );
}

#[test]
fn a_power_cut_at_any_moment_loses_no_batch_that_was_reported() {
    println!("{}", child("power::child_that_judges_power_cuts"));
}

/// The judge is useless if it finds nothing where syncs are missing.
#[test]
fn a_history_that_does_not_sync_is_found_out() {
    let recorder = Recorder::build();
    let plan = Plan { seed: 7, first: 1, batches: 30 };
    let mut work = record(&recorder, &Files::new(), Past::default(), plan);
    let all = work.recording.calls.clone();
    work.recording.calls.retain(|call| !matches!(call, Call::Written { .. }));
    assert!(!work.judge((7, 0), None, false).lost.is_empty());
    work.recording.calls = all;
    let data = work.recording.inode_of("data.mdb");
    work.recording.calls.retain(|call| !matches!(call, Call::Sync { inode } if *inode == data));
    assert!(!work.judge((7, 1), None, false).lost.is_empty());
}
