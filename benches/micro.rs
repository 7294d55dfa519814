//! The parts on whose cost everything else rests, each alone and at growing sizes: what is flat
//! here may be asked for once a message. `cargo bench --bench micro -- index` takes some of them.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::ItemsCount};
use iotmonitor::history::alerts::AlertBook;
use iotmonitor::history::{self, HistoryCommand, HistoryHandle, HistoryReader, HistorySettings};
use iotmonitor::pulse::Pulse;
use iotmonitor::store::{self, StoreCommand, StoreHandle, StoreSettings};
use iotmonitor_core::machines::deadline::DeadlineTable;
use iotmonitor_core::machines::restores::Restores;
use iotmonitor_core::model::alert::Reason;
use iotmonitor_core::model::device_id::DeviceId;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::report::DeviceReport;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use iotmonitor_core::model::history::{
    ContactTally, DAY, Ending, EpisodeKind, EpisodeRecord, HistoryBatch, HourTally, hour_of,
};
use iotmonitor_core::model::message::{Delivery, QoS};
use iotmonitor_core::model::state::{ReadId, StateChange, StateRecord};
use iotmonitor_core::topic::index::TopicIndex;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

const FLEETS: [usize; 4] = [10, 1_000, 10_000, 100_000];

fn main() {
    divan::main();
}

fn index_of(devices: usize) -> TopicIndex<usize> {
    let mut index = TopicIndex::new();
    for device in 0..devices {
        for below in ["sensors/#", "hello", "actuators/#"] {
            let filter = TopicFilter::new(format!("b/d{device}/{below}")).expect("it is a filter");
            index.insert(&filter, device);
        }
    }
    index.shrink_to_fit();
    index
}

/// Names in an order that no cache foresees.
fn names(devices: usize) -> Vec<TopicName> {
    let name = |at: usize| format!("b/d{}/sensors/temperature", at * 7_919 % devices);
    (0..1_000).map(|at| TopicName::new(name(at)).expect("it is a name")).collect()
}

#[divan::bench(args = FLEETS)]
fn index_match(bencher: Bencher, devices: usize) {
    let (index, names) = (index_of(devices), names(devices));
    bencher.counter(ItemsCount::new(names.len())).bench(|| {
        for name in &names {
            index.for_each_match(name, |device| {
                black_box(device);
            });
        }
    });
}

#[divan::bench(args = FLEETS, sample_count = 10, sample_size = 1)]
fn index_build(bencher: Bencher, devices: usize) {
    bencher.counter(ItemsCount::new(3 * devices)).bench(|| index_of(devices));
}

/// A device is looked at, found to have spoken since, and put in place anew.
#[divan::bench(args = FLEETS)]
fn deadline_moved_on(bencher: Bencher, devices: usize) {
    let mut table = DeadlineTable::default();
    table.reserve(devices);
    for device in 0..devices {
        table.push(Duration::from_micros(7_919 * device as u64 % 1_000_003), device);
    }
    bencher.counter(ItemsCount::new(1_000_usize)).bench_local(|| {
        for _ in 0..1_000 {
            if let Some((due, device)) = table.pop_due(Duration::MAX / 2) {
                table.push(due + Duration::from_secs(1), device);
            }
        }
    });
}

/// Every device of a fleet says hello twice before the first restore ends, as after a power cut.
#[divan::bench(args = FLEETS, sample_count = 10, sample_size = 1)]
fn restores_requested(bencher: Bencher, devices: usize) {
    bencher.counter(ItemsCount::new(2 * devices)).bench(|| {
        let mut restores = Restores::default();
        for _ in 0..2 {
            (0..devices).for_each(|device| restores.request(DeviceId::at(device)));
        }
        restores
    });
}

/// A store, its events, and the number of its last delivery.
struct Store {
    handle: StoreHandle,
    events: Receiver<Event>,
    last: u64,
}

impl Store {
    fn open(directory: &std::path::Path) -> Self {
        let (sender, events) = tokio::sync::mpsc::channel(64);
        let settings = StoreSettings::new(directory);
        let handle = store::spawn(settings, sender, Pulse::new()).expect("there is a thread");
        Self { handle, events, last: 0 }
    }

    /// Records so many states and waits until they are on disk.
    fn record(&mut self, states: usize) {
        let last = self.last;
        let numbers = last + 1..=last + states as u64;
        self.record_on(
            numbers.map(|number| format!("b/d{}/actuators/lamp", number * 7_919 % 10_000)),
        );
    }

    fn record_on(&mut self, topics: impl Iterator<Item = String>) {
        for topic in topics {
            self.last += 1;
            let state = StateRecord {
                topic: TopicName::new(topic).expect("it is a name"),
                payload: Bytes::from_static(b"payload of 20 bytes."),
                qos: QoS::AtLeastOnce,
                retain: false,
                time: Duration::from_secs(1_700_000_000),
            };
            let change = StateChange::Put(state);
            let command = StoreCommand::Record { delivery: Delivery(self.last), change };
            self.handle.send(command).expect("there is room for a group");
        }
        let wanted = Delivery(self.last);
        loop {
            match self.events.blocking_recv() {
                Some(Event::StatesCommitted { through }) if through == wanted => return,
                Some(_) => {}
                None => panic!("the store ended"),
            }
        }
    }

    /// Reads all states that match, and counts them.
    fn read(&mut self, filters: &[TopicFilter]) -> usize {
        let (mut found, mut after) = (0, None);
        loop {
            let (read, filters) = (ReadId::Question(0), filters.to_vec());
            let command = StoreCommand::ReadStates { read, filters, after };
            self.handle.send(command).expect("there is room for a read");
            after = loop {
                match self.events.blocking_recv() {
                    Some(Event::StatesRead { states, next, .. }) => {
                        found += states.len();
                        break next;
                    }
                    Some(_) => {}
                    None => panic!("the store ended"),
                }
            };
            if after.is_none() {
                return found;
            }
        }
    }
}

/// From the hand-over of a group to the word that it is on disk, with the disk's own time.
#[divan::bench(args = [1, 20, 100, 1_000], sample_count = 30, sample_size = 1)]
fn store_commit(bencher: Bencher, states: usize) {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut store = Store::open(directory.path());
    store.record(1);
    bencher.counter(ItemsCount::new(states)).bench_local(|| store.record(states));
    assert!(store.handle.close(Duration::from_secs(5)), "the store is on disk");
}

/// A thousand states of one device, found by a filter that begins with a wildcard among so many.
#[divan::bench(args = [10_000, 100_000, 1_000_000], sample_count = 5, sample_size = 1)]
fn store_read_behind_a_wildcard(bencher: Bencher, states: usize) {
    const ROOMS: usize = 1_000;
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut store = Store::open(directory.path());
    for first in (0..states).step_by(4_000) {
        let topics = (first..states.min(first + 4_000))
            .map(|at| format!("room{}/lamp{}/set", at % ROOMS, at / ROOMS));
        store.record_on(topics);
    }
    let filters = vec![TopicFilter::new("+/lamp7/#").expect("it is a filter")];
    bencher.bench_local(|| assert_eq!(store.read(&filters), ROOMS));
    assert!(store.handle.close(Duration::from_secs(5)), "the store is on disk");
}

/// The thread of a history in a directory of its own.
struct Past {
    handle: HistoryHandle,
    events: Receiver<Event>,
}

const PAST_DEVICES: usize = 1_000;
const PAST_DAYS: u64 = 90;
const PAST_END: u64 = 1_800_000_000;

fn past_device(number: usize) -> DeviceName {
    DeviceName::new(format!("device{number}")).expect("it is a name")
}

impl Past {
    fn open(directory: &std::path::Path) -> Self {
        let (sender, events) = tokio::sync::mpsc::channel(64);
        let settings = HistorySettings::new(directory.to_owned(), days(400));
        let handle = history::spawn(settings, AlertBook::default(), sender);
        let mut past = Self { handle: handle.expect("there is a thread"), events };
        match past.events.blocking_recv() {
            Some(Event::HistoryOpened(_)) => past,
            other => panic!("{other:?}"),
        }
    }

    fn save(&mut self, batch: HistoryBatch) {
        self.handle.send(HistoryCommand::Save(Box::new(batch))).expect("there is room");
        match self.events.blocking_recv() {
            Some(Event::HistorySaved) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Makes the report of the last 30 days of these devices, as it is sent over D-Bus.
    fn report(&self, devices: Vec<DeviceName>) -> usize {
        let (sender, answer) = std::sync::mpsc::channel();
        let (since, now) =
            (Duration::from_secs(PAST_END) - days(30), Duration::from_secs(PAST_END));
        let report = move |name: &DeviceName, history: &DeviceHistory| {
            DeviceReport::of(name.as_str(), history, days(30), now).to_json().len()
        };
        let reader =
            HistoryReader::new(report, move |all| sender.send(all).expect("it is awaited"));
        let command = HistoryCommand::Read { devices, since, now, reader };
        self.handle.send(command).expect("there is room");
        answer.recv().expect("it answers").expect("it can be read").iter().sum()
    }

    fn close(self) {
        assert!(self.handle.close(Duration::from_secs(5)), "the history is on disk");
    }
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

/// A batch with contacts of each device in the hour that has ended, and with so many alarms of each.
fn past_batch(end: u64, alarms: u64) -> HistoryBatch {
    let day = (end - (PAST_END - PAST_DAYS * DAY)) / DAY;
    let mut batch = HistoryBatch { mark: Duration::from_secs(end), ..HistoryBatch::default() };
    for number in 0..PAST_DEVICES {
        let device = past_device(number);
        for alarm in 0..alarms {
            let begin = Duration::from_secs(end - 7_000 - 10 * alarm);
            batch.last_id = (day * PAST_DEVICES as u64 + number as u64) * alarms + alarm + 1;
            batch.episodes.push(EpisodeRecord {
                id: batch.last_id,
                device: Some(device.clone()),
                kind: EpisodeKind::Alarm,
                reason: Some(Reason::Silent),
                begin,
                end: Some(begin + Duration::from_secs(5)),
                last_contact: Some(begin),
                ended_by: Some(Ending::Contact),
            });
        }
        let tally = ContactTally { contacts: 60, longest_silence: 60 };
        let hour = hour_of(batch.mark);
        batch.tallies.push(HourTally { device: device.clone(), hour, tally, usage: None });
        batch.known.push((device, Duration::from_secs(PAST_END - PAST_DAYS * DAY)));
    }
    batch
}

/// 1,000 devices, 90 days, and an alarm of each on each day.
fn filled_past() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut past = Past::open(directory.path());
    for day in (0..PAST_DAYS).rev() {
        past.save(past_batch(PAST_END - day * DAY, 1));
    }
    past.close();
    directory
}

/// With the check of all pages of the file.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn history_open(bencher: Bencher) {
    let directory = filled_past();
    let file = std::fs::metadata(directory.path().join("data.mdb")).expect("there is a file");
    eprintln!("the file has {:.1} MB", file.len() as f64 / 1e6);
    bencher.bench_local(|| Past::open(directory.path()).close());
}

/// What is written every ten minutes when each device was heard.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn history_save(bencher: Bencher) {
    let directory = filled_past();
    let mut past = Past::open(directory.path());
    bencher
        .counter(ItemsCount::new(PAST_DEVICES))
        .bench_local(|| past.save(past_batch(PAST_END, 0)));
    past.close();
}

/// Uptime, incidents and days of the last 30 days, of one device and of as many as the command asks
/// for at once.
#[divan::bench(args = [1, 200], sample_count = 20, sample_size = 1)]
fn history_report(bencher: Bencher, devices: usize) {
    let directory = filled_past();
    let past = Past::open(directory.path());
    let names: Vec<DeviceName> = (0..devices).map(|number| past_device(number * 5)).collect();
    bencher.counter(ItemsCount::new(devices)).bench_local(|| past.report(names.clone()));
    past.close();
}
