//! The records of the past on a real disk: kept, bounded, and never a danger to anything else.

#[path = "history/alerts.rs"]
mod alerts;
#[path = "store/dice.rs"]
mod dice;
#[path = "store/events.rs"]
mod events;
#[path = "history/figures.rs"]
mod figures;
#[path = "history/power.rs"]
mod power;

use events::next_event;
use iotmonitor::history::alerts::AlertBook;
use iotmonitor::history::{HistoryCommand, HistoryHandle, HistoryReader, HistorySettings, spawn};
use iotmonitor::pulse::Pulse;
use iotmonitor::store::{self, StoreSettings, check_format};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use iotmonitor_core::model::history::{
    ContactTally, DAY, EpisodeKind, EpisodeRecord, HistoryBatch, HistorySnapshot, HourTally,
    RestartRecord, UsageTally, hour_of,
};
use iotmonitor_core::model::time::ClockStep;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

const T: fn(u64) -> Duration = Duration::from_secs;
const NOW: u64 = 1_800_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// The thread, and what it reports.
struct Thread {
    handle: HistoryHandle,
    book: AlertBook,
    events: Receiver<Event>,
}

fn settings(directory: &Path) -> HistorySettings {
    HistorySettings::new(directory.join("history"), T(400 * DAY))
}

/// The same, with passes that follow each other at once.
fn tidying(directory: &Path) -> HistorySettings {
    HistorySettings { prune_interval: Duration::from_millis(50), ..settings(directory) }
}

impl Thread {
    fn start(settings: HistorySettings) -> Self {
        let (sender, events) = tokio::sync::mpsc::channel(64);
        let book = AlertBook::default();
        Self { handle: spawn(settings, book.clone(), sender).unwrap(), book, events }
    }

    fn started(settings: HistorySettings) -> (Self, HistorySnapshot) {
        let mut thread = Self::start(settings);
        match thread.next() {
            Event::HistoryOpened(snapshot) => (thread, *snapshot),
            other => panic!("{other:?}"),
        }
    }

    fn next(&mut self) -> Event {
        next_event(&mut self.events, PATIENCE)
    }

    fn send(&self, batch: HistoryBatch) {
        self.handle.send(HistoryCommand::Save(Box::new(batch))).unwrap();
    }

    fn save(&mut self, batch: HistoryBatch) {
        self.send(batch);
        assert_eq!(self.next(), Event::HistorySaved);
    }

    fn read(&self, device: &DeviceName) -> DeviceHistory {
        let (sender, answer) = std::sync::mpsc::channel();
        let caller = std::thread::current().id();
        let whole = move |_: &DeviceName, history: &DeviceHistory| {
            assert_ne!(std::thread::current().id(), caller, "the caller does not wait for this");
            history.clone()
        };
        let reader = HistoryReader::new(whole, move |histories| sender.send(histories).unwrap());
        self.read_all(vec![device.clone()], reader);
        answer.recv().unwrap().unwrap().remove(0)
    }

    fn read_all(&self, devices: Vec<DeviceName>, reader: HistoryReader) {
        let command = HistoryCommand::Read { devices, since: T(0), now: T(NOW), reader };
        self.handle.send(command).unwrap();
    }

    fn close(self) {
        assert!(self.handle.close(PATIENCE));
    }
}

fn lamp() -> DeviceName {
    DeviceName::new("lamp").unwrap()
}

fn episode(id: u64, begin: u64, end: Option<u64>) -> EpisodeRecord {
    EpisodeRecord {
        id,
        device: Some(lamp()),
        kind: EpisodeKind::Alarm,
        reason: None,
        begin: T(begin),
        end: end.map(T),
        last_contact: None,
        ended_by: None,
    }
}

fn batch(episodes: Vec<EpisodeRecord>) -> HistoryBatch {
    let last_id = episodes.iter().map(|episode| episode.id).max().unwrap_or_default();
    HistoryBatch { mark: T(NOW), last_id, episodes, ..HistoryBatch::default() }
}

fn tally(at: u64, contacts: u32) -> HourTally {
    let tally = ContactTally { contacts, longest_silence: 7 };
    HourTally { device: lamp(), hour: hour_of(T(at)), tally, usage: None }
}

/// Waits until the records of the lamp are as wanted, for old ones are removed in small steps.
fn await_records(thread: &Thread, is_so: impl Fn(&DeviceHistory) -> bool) -> DeviceHistory {
    let start = Instant::now();
    loop {
        let history = thread.read(&lamp());
        if is_so(&history) {
            return history;
        }
        assert!(start.elapsed() < PATIENCE, "{} episodes stay", history.episodes.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// So many devices.
fn fleet(devices: usize) -> impl Iterator<Item = DeviceName> {
    (0..devices).map(|number| DeviceName::new(format!("device-{number}")).unwrap())
}

#[test]
fn a_fleets_batch_is_reported_once_and_all_of_it_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let names: BTreeSet<_> = fleet(5_000).collect();
    let known = fleet(5_000).map(|name| (name, T(NOW - DAY))).collect();
    let episodes = vec![episode(9, NOW - 60, None)];
    // Nothing else is reported before the answer to the next batch.
    thread.save(HistoryBatch { known, ..batch(episodes) });
    thread.save(HistoryBatch { mark: T(NOW + 7), last_id: 9, ..HistoryBatch::default() });
    thread.close();
    let (thread, snapshot) = Thread::started(settings(directory.path()));
    assert_eq!(snapshot.known.into_iter().collect::<BTreeSet<_>>(), names);
    assert_eq!((snapshot.mark, snapshot.last_id, snapshot.open.len()), (Some(T(NOW + 7)), 9, 1));
    thread.close();
}

/// A screen of devices of which each had an incident on most days, with a month of days and a day of
/// hours.
#[test]
fn the_bars_of_a_screen_of_devices_are_made_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let names: Vec<_> = fleet(100).collect();
    let known = names.iter().map(|name| (name.clone(), T(NOW - 60 * DAY))).collect();
    thread.save(HistoryBatch { known, ..batch(Vec::new()) });
    for (at, name) in names.iter().enumerate() {
        let of = |day: u64| {
            let (id, begin) = (at as u64 * 50 + day + 1, NOW - day * DAY - 500);
            EpisodeRecord { device: Some(name.clone()), ..episode(id, begin, Some(begin + 100)) }
        };
        thread.save(batch((0..50).map(of).collect()));
    }
    let days = (0..=30).rev().map(|day| NOW - day * DAY);
    let hours = (1..24).rev().map(|hour| NOW - hour * 3_600);
    let mut boundaries: Vec<_> = days.chain(hours).collect();
    boundaries.sort_unstable();
    let boundaries: Vec<_> = boundaries.into_iter().map(T).collect();
    assert_eq!(boundaries.len() - 1, 53);
    let (answer, received) = std::sync::mpsc::channel();
    let began = Instant::now();
    let reader = HistoryReader::new(
        move |name, history| (name.clone(), history.bars(&boundaries, T(NOW))),
        move |bars| answer.send(bars).unwrap(),
    );
    let command = HistoryCommand::Read { devices: names, since: T(NOW), now: T(NOW), reader };
    thread.handle.send(command).unwrap();
    let bars = received.recv().unwrap().unwrap();
    println!("bars of 100 devices with 53 intervals: {:?}", began.elapsed());
    assert_eq!(bars.len(), 100);
    for (name, bars) in bars {
        let sum = |at: usize| bars.iter().flatten().map(|bar| bar[at]).sum::<u64>();
        assert_eq!((sum(0), sum(3)), (3_000, 30), "{name}: {bars:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    thread.close();
}

#[test]
fn the_next_run_goes_on_with_what_this_one_has_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, snapshot) = Thread::started(settings(directory.path()));
    assert_eq!(snapshot, HistorySnapshot::default(), "a version before had no history");
    thread.save(HistoryBatch {
        known: vec![(lamp(), T(NOW - 5_000))],
        tallies: vec![tally(NOW, 3), tally(NOW, 4)],
        restarts: vec![RestartRecord {
            agent: lamp(),
            time: T(NOW - 9),
            exit: Some("killed".into()),
            memory_peak: Some(4_096),
        }],
        ..batch(vec![episode(1, NOW - 100, Some(NOW - 50)), episode(2, NOW - 10, None)])
    });
    thread.close();

    let (mut thread, snapshot) = Thread::started(settings(directory.path()));
    let expected = HistorySnapshot {
        open: vec![episode(2, NOW - 10, None)],
        mark: Some(T(NOW)),
        last_id: 2,
        known: vec![lamp()],
    };
    assert_eq!(snapshot, expected);
    // The open episode ends, contacts are added, and an earlier time since when it is known stays.
    thread.save(HistoryBatch {
        known: vec![(lamp(), T(NOW))],
        tallies: vec![tally(NOW, 5)],
        ..batch(vec![episode(2, NOW - 10, Some(NOW))])
    });
    let history = thread.read(&lamp());
    assert_eq!(history.since, Some(T(NOW - 5_000)));
    let ends: Vec<_> = history.episodes.iter().map(|episode| episode.end).collect();
    assert_eq!(ends, [Some(T(NOW - 50)), Some(T(NOW))]);
    assert_eq!((history.days.len(), history.days[0].1.total()), (1, 12));
    let restart = &history.restarts[0];
    assert_eq!((restart.exit.as_deref(), restart.memory_peak), (Some("killed"), Some(4_096)));
    let stranger = thread.read(&DeviceName::new("lam").unwrap());
    assert_eq!(stranger, DeviceHistory::default(), "names do not mix");
    thread.close();
}

#[test]
fn several_devices_are_read_at_once_until_there_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let away = EpisodeRecord { device: None, ..episode(9, NOW - 9_000, Some(NOW - 8_000)) };
    let HistoryBatch { mut episodes, .. } = house();
    episodes.push(away);
    thread.save(HistoryBatch { episodes, ..house() });
    let asked = |most: usize| {
        let (sender, answer) = std::sync::mpsc::channel();
        let mut count = 0;
        let has_enough = move |_: &(String, usize)| {
            count += 1;
            count == most
        };
        let make =
            |name: &DeviceName, history: &DeviceHistory| (name.to_string(), history.episodes.len());
        let reply = move |all: Result<Vec<_>, String>| sender.send(all).unwrap();
        let devices = vec![oven(), DeviceName::new("unknown").unwrap(), lamp()];
        thread.read_all(devices, HistoryReader::until(has_enough, make, reply));
        answer.recv().unwrap().unwrap()
    };
    let all = [("oven", 3), ("unknown", 1), ("lamp", 3)];
    let all = all.map(|(name, episodes)| (name.to_owned(), episodes));
    assert_eq!(asked(9), all, "episodes of the monitor are those of each device");
    assert_eq!(asked(1), all[..1]);
    thread.close();
}

#[test]
fn what_an_agent_uses_is_kept_by_the_hour_and_added_up() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let used = |memory_kib, cpu_millis| UsageTally { memory_kib, cpu_millis };
    let hour = |at, usage| HourTally { usage: Some(usage), ..tally(at, 1) };
    let long_ago = NOW - 200 * DAY;
    let of_device = tally(NOW - DAY, 1);
    thread.save(HistoryBatch {
        known: vec![(lamp(), T(NOW - 300 * DAY))],
        tallies: vec![
            hour(long_ago, used(Some(7), None)),
            hour(long_ago + 3_600, used(Some(5), Some(3))),
            of_device,
            hour(NOW, used(None, Some(10))),
        ],
        ..batch(vec![])
    });
    thread.close();
    let (mut thread, _) = Thread::started(tidying(directory.path()));
    thread
        .save(HistoryBatch { tallies: vec![hour(NOW, used(Some(9), Some(30)))], ..batch(vec![]) });
    let history = await_records(&thread, |history| {
        history.days.len() == 3 && history.days[0].1.contacts.len() == 1
    });
    assert_eq!(history.days[0].1.usage, [used(Some(7), Some(3))]);
    assert_eq!(history.days[1].1.usage, []);
    let today = &history.days[2].1;
    assert_eq!((today.contacts.len(), today.usage.len()), (24, 24));
    let place = usize::try_from(hour_of(T(NOW)) % 24).unwrap();
    assert_eq!(today.usage[place], used(Some(9), Some(40)));
    assert_eq!(today.usage[(place + 1) % 24], UsageTally::default());
    thread.close();
}

#[test]
fn a_damaged_file_is_put_aside_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("data.mdb"), "the states").unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(batch(vec![episode(1, NOW - 100, Some(NOW))]));
    thread.close();
    let file = directory.path().join("history/data.mdb");
    let length = std::fs::metadata(&file).unwrap().len();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[usize::try_from(length / 2).unwrap()..].fill(0xA5);
    std::fs::write(&file, bytes).unwrap();

    let mut thread = Thread::start(settings(directory.path()));
    let Event::HistoryPutAside { path, .. } = thread.next() else { panic!("it is used") };
    assert!(Path::new(&path).starts_with(directory.path().join("history")));
    assert_eq!(thread.next(), Event::HistoryOpened(Box::default()));
    thread.save(batch(vec![episode(1, NOW - 100, Some(NOW))]));
    assert_eq!(thread.read(&lamp()).episodes.len(), 1);
    thread.close();
    let states = std::fs::read_to_string(directory.path().join("data.mdb")).unwrap();
    assert_eq!(states, "the states");
}

#[test]
fn a_device_that_flaps_for_a_year_keeps_its_last_episodes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(HistoryBatch { known: vec![(lamp(), T(NOW - 300 * DAY))], ..batch(vec![]) });
    for part in 0..10 {
        let ids = part * 2_000 + 1..=(part + 1) * 2_000;
        let begin = |id: u64| NOW - 2_000_000 + id * 100;
        thread.save(batch(ids.map(|id| episode(id, begin(id), Some(begin(id) + 50))).collect()));
    }
    thread.close();
    let (mut thread, _) = Thread::started(tidying(directory.path()));
    thread.save(batch(vec![]));
    let history = await_records(&thread, |history| history.episodes.len() <= 5_000);
    assert_eq!(history.episodes.len(), 5_000);
    assert_eq!(history.episodes[0].id, 15_001, "the oldest went");
    let complete = NOW - 2_000_000 + 15_000 * 100 + 50;
    assert_eq!(history.since, Some(T(complete)), "uptime covers the time since then");
    thread.close();
}

#[test]
fn what_is_older_than_is_kept_goes_and_hours_become_sums() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let at = |days: u64| NOW - days * DAY;
    thread.save(HistoryBatch {
        known: vec![(lamp(), T(at(800)))],
        tallies: [500, 200, 10].map(|days| tally(at(days), 6)).to_vec(),
        restarts: [500, 10]
            .map(|days| RestartRecord {
                agent: lamp(),
                time: T(at(days)),
                exit: None,
                memory_peak: None,
            })
            .to_vec(),
        ..batch(vec![
            episode(1, at(500), Some(at(499))),
            episode(2, at(500), Some(at(300))),
            episode(3, at(600), None),
        ])
    });
    thread.close();
    let (mut thread, _) = Thread::started(tidying(directory.path()));
    thread.save(batch(vec![]));
    let history = await_records(&thread, |history| {
        history.episodes.len() == 2
            && history.restarts.len() == 1
            && history.days.len() == 2
            && history.days[0].1.contacts.len() == 1
    });
    assert_eq!(history.days[0].1.contacts, [6]);
    assert_eq!(history.days[1].1.contacts.len(), 24);
    assert_eq!(history.since, Some(T(at(400))), "uptime covers what is kept");
    thread.close();
}

/// Reading the configuration again begins a pass at once.
#[test]
fn a_clock_that_is_ahead_at_the_start_removes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let at = |days: u64| NOW - days * DAY;
    thread.save(HistoryBatch {
        known: vec![(lamp(), T(at(800)))],
        tallies: [500, 200].map(|days| tally(at(days), 6)).to_vec(),
        ..batch(vec![episode(1, at(500), Some(at(499))), episode(2, at(300), Some(at(299)))])
    });
    thread.close();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(HistoryBatch { mark: T(NOW + 730 * DAY), ..batch(vec![]) });
    thread.handle.send(HistoryCommand::Keep(T(400 * DAY))).unwrap();
    let history = await_records(&thread, |history| {
        history.days.len() < 2 && history.days.iter().all(|(_, day)| day.contacts.len() == 1)
    });
    let ids: Vec<u64> = history.episodes.iter().map(|episode| episode.id).collect();
    assert_eq!((ids, history.days.len()), (vec![2], 1));
    thread.close();
}

#[test]
fn what_a_run_with_a_clock_ahead_has_recorded_ends_when_the_next_one_begins() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let ahead = NOW + 730 * DAY;
    let away = EpisodeRecord {
        device: None,
        kind: EpisodeKind::NotRunning,
        ..episode(2, NOW - 9_000, Some(ahead))
    };
    let old = episode(1, NOW - 9_999, Some(NOW - 9_000));
    thread.save(HistoryBatch {
        mark: T(ahead),
        known: vec![(lamp(), T(NOW - 10_000))],
        ..batch(vec![old.clone(), away.clone()])
    });
    thread.close();
    let (mut thread, _) = Thread::started(tidying(directory.path()));
    // A machine without a clock of its own begins in the past.
    thread.save(HistoryBatch { mark: T(1_000), ..batch(vec![]) });
    let step = ClockStep { started: T(900), from: T(2_000), to: T(NOW - 4_000) };
    thread.save(HistoryBatch { steps: vec![step], ..batch(vec![]) });
    let end = T(NOW - 5_000);
    let history =
        await_records(&thread, |history| history.episodes.iter().all(|it| it.end <= Some(end)));
    assert_eq!(history.episodes, [old, EpisodeRecord { end: Some(end), ..away }]);
    thread.close();
}

/// Everything that can be recorded of the lamp and of the oven.
fn house() -> HistoryBatch {
    let of = |device: &DeviceName, id| {
        let of_device =
            |episode: EpisodeRecord| EpisodeRecord { device: Some(device.clone()), ..episode };
        [
            of_device(episode(id, NOW - 100, Some(NOW - 50))),
            of_device(episode(id + 1, NOW - 10, None)),
        ]
    };
    let both = [lamp(), oven()];
    HistoryBatch {
        known: both.clone().map(|name| (name, T(NOW - 5_000))).to_vec(),
        tallies: both.clone().map(|device| HourTally { device, ..tally(NOW, 3) }).to_vec(),
        restarts: both
            .map(|agent| RestartRecord { agent, time: T(NOW - 9), exit: None, memory_peak: None })
            .to_vec(),
        ..batch([of(&lamp(), 1), of(&oven(), 3)].concat())
    }
}

fn oven() -> DeviceName {
    DeviceName::new("oven").unwrap()
}

#[test]
fn nothing_is_kept_of_a_device_that_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(house());
    let kept = thread.read(&oven());
    let forgotten = HistoryBatch { forgotten: vec![lamp()], last_id: 4, ..batch(vec![]) };
    thread.save(forgotten.clone());
    await_records(&thread, |history| *history == DeviceHistory::default());
    // It is learned again, and forgotten just before the end of the run.
    thread.save(house());
    assert_eq!(thread.read(&lamp()).episodes.len(), 2);
    thread.send(forgotten);
    thread.close();
    let (mut thread, snapshot) = Thread::started(tidying(directory.path()));
    assert_eq!((snapshot.known, snapshot.open.len()), (vec![oven()], 1));
    thread.save(batch(vec![]));
    await_records(&thread, |history| *history == DeviceHistory::default());
    assert_eq!(thread.read(&oven()).episodes, kept.episodes);
    assert_eq!(thread.read(&oven()).restarts, kept.restarts);
    assert_eq!(thread.read(&oven()).days[0].1.total(), 6);
    thread.close();
}

#[test]
fn a_device_that_has_been_absent_for_as_long_as_records_are_kept_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let left = |id, device: DeviceName, days: u64| EpisodeRecord {
        device: Some(device),
        kind: EpisodeKind::Disabled,
        ..episode(id, NOW - days * DAY, None)
    };
    let shed = DeviceName::new("shed").unwrap();
    thread.save(HistoryBatch {
        known: [lamp(), oven(), shed.clone()].map(|name| (name, T(NOW - 600 * DAY))).to_vec(),
        ..batch(vec![left(1, lamp(), 500), left(2, oven(), 500), left(3, shed.clone(), 300)])
    });
    thread.close();
    let (mut thread, _) = Thread::started(tidying(directory.path()));
    // The oven is in the configuration, and a person has disabled it.
    thread.save(HistoryBatch { known: vec![(oven(), T(NOW))], last_id: 3, ..batch(vec![]) });
    await_records(&thread, |history| *history == DeviceHistory::default());
    thread.close();
    let (thread, snapshot) = Thread::started(settings(directory.path()));
    let open: Vec<u64> = snapshot.open.iter().map(|episode| episode.id).collect();
    assert_eq!((snapshot.known, open), (vec![oven(), shed], vec![2, 3]));
    thread.close();
}

#[test]
fn a_pass_finds_room_in_a_file_that_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let small = HistorySettings {
        map_bytes: 1 << 20,
        most_map_bytes: 1 << 22,
        ..settings(directory.path())
    };
    let (mut thread, _) = Thread::started(small);
    let file = directory.path().join("history/data.mdb");
    let mut days = 20_000;
    while std::fs::metadata(&file).unwrap().len() < (1 << 20) - (1 << 14) {
        days -= 20;
        let tallies = (days..days + 20).rev().map(|days| tally(NOW - days * DAY, 6)).collect();
        thread.save(HistoryBatch { tallies, ..batch(vec![]) });
    }
    thread.save(HistoryBatch {
        known: vec![(lamp(), T(0))],
        tallies: vec![tally(NOW - 200 * DAY, 6)],
        ..batch(vec![])
    });
    // Hours become sums, so that each page is written anew, to another place.
    thread.handle.send(HistoryCommand::Keep(T(20_001 * DAY))).unwrap();
    await_records(&thread, |history| history.days[0].1.contacts.len() == 1);
    assert!(thread.events.try_recv().is_err(), "nothing has failed");
    thread.close();
}

#[test]
fn without_room_for_the_file_the_oldest_records_go_and_new_ones_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let small = HistorySettings {
        map_bytes: 1 << 20,
        most_map_bytes: 1 << 22,
        ..settings(directory.path())
    };
    let (mut thread, _) = Thread::started(small);
    let mut id = 0;
    for day in (0..200).rev() {
        let begin = NOW - day * DAY - 100;
        let mut episodes = Vec::new();
        for _ in 0..400 {
            id += 1;
            episodes.push(episode(id, begin, Some(begin + 10)));
        }
        thread.save(HistoryBatch { tallies: vec![tally(begin, 1)], ..batch(episodes) });
    }
    let history = thread.read(&lamp());
    let ids: Vec<u64> = history.episodes.iter().map(|episode| episode.id).collect();
    assert_eq!(ids.last(), Some(&id), "the newest is there");
    assert!((1_000..80_000).contains(&ids.len()), "{}", ids.len());
    assert!(ids.is_sorted() && ids[0] == id + 1 - u64::try_from(ids.len()).unwrap());
    thread.close();
    let length = std::fs::metadata(directory.path().join("history/data.mdb")).unwrap().len();
    assert!(length <= (1 << 22) + (1 << 20), "{length}");
}

#[test]
fn a_disk_that_fails_is_reported_once_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("history");
    std::fs::write(&place, "in the way").unwrap();
    let mut thread = Thread::start(settings(directory.path()));
    let Event::HistoryFailed { error } = thread.next() else { panic!("there is no directory") };
    assert!(error.contains("history"), "{error}");
    thread.send(batch(vec![episode(1, NOW - 100, Some(NOW))]));
    std::fs::remove_file(&place).unwrap();
    assert!(matches!(thread.next(), Event::HistoryOpened(_)));
    assert_eq!(thread.next(), Event::HistorySaved);
    assert_eq!(thread.next(), Event::HistoryBack);
    assert_eq!(thread.read(&lamp()).episodes.len(), 1);
    thread.close();
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(batch(vec![episode(1, NOW - 100, Some(NOW))]));
    let place: PathBuf = directory.path().join("history");
    std::fs::remove_dir_all(&place).unwrap();
    thread.send(batch(vec![episode(2, NOW - 50, Some(NOW))]));
    let path = place.display().to_string();
    assert_eq!(thread.next(), Event::HistoryReplaced { path });
    assert_eq!(thread.next(), Event::HistoryOpened(Box::default()), "the core begins anew");
    assert_eq!(thread.next(), Event::HistorySaved);
    assert!(place.join("data.mdb").exists());
    thread.close();
}

#[test]
fn times_since_when_devices_are_known_follow_the_clock_of_their_run() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    let early = DeviceName::new("early").unwrap();
    thread.save(HistoryBatch {
        known: vec![(early.clone(), T(50)), (lamp(), T(150))],
        ..batch(vec![])
    });
    let step = ClockStep { started: T(100), from: T(200), to: T(NOW) };
    thread.save(HistoryBatch { steps: vec![step], ..batch(vec![]) });
    assert_eq!(thread.read(&lamp()).since, Some(T(NOW - 50)));
    // It is of an earlier run, and no window is longer than what is kept.
    assert_eq!(thread.read(&early).since, Some(T(NOW - 400 * DAY)));
    thread.close();
}

/// The files below a directory, but lock files, which mean nothing.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("lock.mdb") && !path.ends_with("iotmonitor.lock") {
                let content = std::fs::read(&path).unwrap();
                found.insert(path, content);
            }
        }
    }
    found
}

/// The file was written by version 0.3.0, which has no history. That version neither reads nor
/// changes what is in the directory beside its own file.
#[test]
fn a_store_of_a_version_without_a_history_gets_one_and_both_stay_whole() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::copy("tests/fixtures/store-0.3.0/data.mdb", root.join("data.mdb")).unwrap();
    let states = files(root);
    let (mut thread, snapshot) = Thread::started(settings(root));
    assert_eq!(snapshot, HistorySnapshot::default(), "it begins empty");
    thread.save(house());
    let kept = thread.read(&oven());
    thread.close();
    let with_history = files(root);
    let own: Vec<&PathBuf> =
        with_history.keys().filter(|path| !states.contains_key(*path)).collect();
    assert_eq!(own, [&root.join("history/data.mdb")]);
    let mut beside = with_history.clone();
    beside.retain(|path, _| states.contains_key(path));
    assert_eq!(beside, states, "the states' file was not touched");

    // The states are read, and written in the present format, with a history beside them.
    let opened = check_format(root).unwrap().unwrap();
    assert_eq!(opened.identity(), None, "it is that of version 0.3.0");
    drop(opened);
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let store = store::spawn(StoreSettings::new(root), sender, Pulse::new()).unwrap();
    assert!(matches!(events.blocking_recv(), Some(Event::StoreOpened(_))));
    assert!(store.close(PATIENCE));
    let history = root.join("history/data.mdb");
    assert_eq!(files(root)[&history], with_history[&history]);

    // After a time with a version without a history it goes on where it was.
    let (thread, snapshot) = Thread::started(settings(root));
    assert_eq!((snapshot.mark, snapshot.known), (Some(T(NOW)), vec![lamp(), oven()]));
    assert_eq!(thread.read(&oven()), kept);
    thread.close();
}

#[test]
fn a_history_of_a_newer_format_is_reported_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (mut thread, _) = Thread::started(settings(directory.path()));
    thread.save(house());
    thread.close();
    write_schema(&directory.path().join("history"), br#"{"format":2}"#);
    let before = files(directory.path());
    let mut thread = Thread::start(settings(directory.path()));
    let Event::HistoryFailed { error } = thread.next() else { panic!("it is used") };
    assert!(error.contains("install the newer version again"), "{error}");
    assert!(thread.handle.close(PATIENCE));
    assert_eq!(files(directory.path()), before);
}

/// Writes the record that names the format behind the history's back, with its checksum.
fn write_schema(directory: &Path, content: &[u8]) {
    use std::hash::Hasher as _;
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(b"schema");
    hasher.write(content);
    let value = [&hasher.finish().to_le_bytes()[..], content].concat();
    let mut options = heed::EnvOpenOptions::new();
    #[expect(unsafe_code, reason = "opening a memory map is unsafe in heed")]
    // SAFETY: the history is closed, and no other process uses this directory.
    let env = unsafe { options.max_dbs(6).map_size(1 << 26).open(directory) }.unwrap();
    let transaction = env.write_txn().unwrap();
    let meta: heed::Database<'static, heed::types::Bytes, heed::types::Bytes> = env
        .create_databases_and_commit(transaction, |opener, transaction| {
            let table = opener.create_database(transaction, Some("meta"));
            table.map(heed::CommitOrAbort::<_, ()>::Commit)
        })
        .unwrap()
        .unwrap_commit();
    let mut transaction = env.write_txn().unwrap();
    meta.put(&mut transaction, b"schema", &value).unwrap();
    transaction.commit().unwrap();
}
