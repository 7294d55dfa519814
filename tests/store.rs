//! The store against real faults: `kill -9`, a full disk, truncated and garbled files, a second
//! process.

#[path = "store/card.rs"]
mod card;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/dice.rs"]
mod dice;
#[path = "store/events.rs"]
mod events;
#[path = "store/orders.rs"]
mod orders;
#[path = "store/power.rs"]
mod power;
#[path = "store/replaced.rs"]
mod replaced;
#[path = "store/replays.rs"]
mod replays;
#[path = "store/small_disk.rs"]
mod small_disk;

use bytes::Bytes;
use events::next_event;
use iotmonitor::pulse::Pulse;
use iotmonitor::store::{self, StoreCommand, StoreHandle, StoreSettings};
use iotmonitor_core::model::alert::Reason;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::identity::IdentityRecord;
use iotmonitor_core::model::message::{Delivery, QoS};
use iotmonitor_core::model::snapshot::{
    AlertsRecord, DeviceRecord, FlapsRecord, Heartbeat, MuteRecord, NewsRecord, Snapshot,
    SourceRecord, SpellRecord, UnheardRecord,
};
use iotmonitor_core::model::state::{ReadId, StateChange, StateRecord};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use proptest::prelude::{Strategy, prop, proptest};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where both meta pages of a data file have `mm_last_pg` and `mm_txnid` of mdb.c, numbers of the machine's width.
const LAST_PAGES: [usize; 2] = [32 + 13 * WORD, 4_096 + 32 + 13 * WORD];
const TRANSACTIONS: [usize; 2] = [LAST_PAGES[0] + WORD, LAST_PAGES[1] + WORD];
const WORD: usize = size_of::<usize>();

struct Running {
    handle: StoreHandle,
    events: Receiver<Event>,
    pulse: Pulse,
    deliveries: u64,
    reads: u64,
}

impl Running {
    fn start(directory: &Path) -> Self {
        Self::start_with(StoreSettings::new(directory))
    }

    fn start_with(settings: StoreSettings) -> Self {
        let (sender, events) = channel(1_000);
        let pulse = Pulse::new();
        let handle = store::spawn(settings, sender, pulse.clone()).unwrap();
        Self { handle, events, pulse, deliveries: 0, reads: 0 }
    }

    fn opened(directory: &Path) -> Self {
        let mut running = Self::start(directory);
        running.wait_opened();
        running
    }

    fn next(&mut self) -> Event {
        next_event(&mut self.events, PATIENCE)
    }

    fn wait_opened(&mut self) -> Snapshot {
        match self.next() {
            Event::StoreOpened(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, change: StateChange) -> Delivery {
        self.deliveries += 1;
        let delivery = Delivery(self.deliveries);
        self.handle.send(StoreCommand::Record { delivery, change }).unwrap();
        delivery
    }

    fn put(&mut self, state: StateRecord) -> Delivery {
        self.change(StateChange::Put(state))
    }

    fn wait_committed(&mut self, delivery: Delivery) {
        loop {
            match self.next() {
                Event::StatesCommitted { through } if through >= delivery => return,
                Event::StatesCommitted { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The same behind everything that was recorded before.
    fn read_after_commits(&mut self, filters: &[&str]) -> Vec<StateRecord> {
        let last = self.change(StateChange::Nothing);
        self.wait_committed(last);
        self.read(filters).0
    }

    fn send_read(&mut self, filters: &[&str], after: Option<TopicName>) -> ReadId {
        self.reads += 1;
        let read = ReadId::Question(self.reads);
        let filters = filters.iter().map(|text| TopicFilter::new(*text).unwrap()).collect();
        self.handle.send(StoreCommand::ReadStates { read, filters, after }).unwrap();
        read
    }

    /// Reads all chunks, and gives the number of states in each beside the states.
    fn read(&mut self, filters: &[&str]) -> (Vec<StateRecord>, Vec<usize>) {
        let (mut all, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let asked = self.send_read(filters, after);
            match self.next() {
                Event::StatesRead { read, states, next } => {
                    assert_eq!(read, asked);
                    sizes.push(states.len());
                    all.extend(states);
                    after = next;
                }
                other => panic!("{other:?}"),
            }
            if after.is_none() {
                return (all, sizes);
            }
        }
    }

    fn close(self) {
        assert!(self.handle.close(PATIENCE));
    }
}

fn topic(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn state(name: &str, payload: impl Into<Bytes>) -> StateRecord {
    StateRecord {
        topic: topic(name),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        time: Duration::new(1_700_000_000, 123_456_789),
    }
}

fn topics(states: &[StateRecord]) -> Vec<&str> {
    states.iter().map(|state| state.topic.as_str()).collect()
}

fn data_file(directory: &Path) -> PathBuf {
    directory.join("data.mdb")
}

/// A closed store with a few states and a device in it.
fn filled(directory: &Path) {
    let mut running = Running::opened(directory);
    for number in 0..500 {
        running.put(state(&format!("home/{number:03}"), vec![b'x'; 200]));
    }
    let last = running.change(StateChange::Nothing);
    running.wait_committed(last);
    running.close();
}

#[test]
fn what_was_saved_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let unheard = UnheardRecord {
        matter: "expired".to_owned(),
        notified: true,
        news: Some(NewsRecord {
            event: "recovered".to_owned(),
            time: Duration::from_secs(9),
            reason: Some(Reason::Silent),
            message: "it is back".to_owned(),
        }),
    };
    let device = DeviceRecord {
        name: DeviceName::new("lamp".repeat(300)).unwrap(),
        last_contact: Some(Duration::new(5, 6)),
        silent_since: Duration::from_secs(7),
        expired_since: None,
        cause: Reason::AgentHung,
        unsent: true,
        graces: 2,
        enabled: Some(false),
        pause: None,
        unheard: vec![unheard.clone()],
        invocation: Some("0123456789abcdef0123456789abcdef".to_owned()),
        announced: Some("homeassistant".to_owned()),
        offline: true,
        availability: vec![
            SourceRecord { here: Some(false), birth: Some(7), ..SourceRecord::default() },
            SourceRecord { is_belied: true, retains_births: true, ..SourceRecord::default() },
        ],
        rhythm: serde_json::from_str("[9000,8000,7,20,[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,255]]")
            .unwrap(),
        fleet: Some(DeviceName::new("esp").unwrap()),
        flaps: Some(Box::new(FlapsRecord {
            alarms: vec![Duration::from_millis(9_500)],
            spell: Some(SpellRecord {
                begun: Duration::from_secs(3),
                count: 7,
                last_change: Duration::from_secs(8),
                holds_alert: true,
            }),
        })),
        restarts: 17,
        forgotten: false,
    };
    let forgotten =
        DeviceRecord { forgotten: true, ..DeviceRecord::new(DeviceName::new("attic").unwrap()) };
    let gone = DeviceRecord { name: DeviceName::new("gone").unwrap(), ..device.clone() };
    let filters = vec![TopicFilter::new("home/+/state").unwrap()];
    let alerts = AlertsRecord {
        unheard: vec![UnheardRecord { news: None, ..unheard }],
        failing: vec![("notify@.service".to_owned(), Duration::from_secs(10))],
        mutes: vec![MuteRecord {
            device: None,
            left: Duration::from_secs(11),
            at: Duration::from_secs(12),
        }],
    };
    let heartbeat = Heartbeat {
        watched: Duration::from_millis(1234),
        alerts,
        full_fleets: vec![DeviceName::new("esp").unwrap()],
    };

    let mut running = Running::start(directory.path());
    assert_eq!(running.wait_opened(), unused());
    let save = |changed, gone| {
        let heartbeat = Box::new(heartbeat.clone());
        StoreCommand::SaveDevices { heartbeat, changed, gone }
    };
    running
        .handle
        .send(save(vec![device.clone(), gone.clone(), forgotten.clone()], vec![]))
        .unwrap();
    assert_eq!(running.next(), Event::DevicesSaved);
    running.handle.send(save(vec![], vec![gone.name])).unwrap();
    assert_eq!(running.next(), Event::DevicesSaved);
    running.handle.send(StoreCommand::SaveSessionFilters(filters.clone())).unwrap();
    let identity = IdentityRecord { main_defaults: true, ..IdentityRecord::default() };
    running.handle.send(StoreCommand::SaveIdentity(Box::new(identity.clone()))).unwrap();
    let mut plain = state("a/b", &b"\0\xff"[..]);
    plain.qos = QoS::AtMostOnce;
    plain.retain = false;
    running.put(plain.clone());
    running.put(state("a/forgotten", "x"));
    running.change(StateChange::Forget(topic("a/forgotten")));
    running.put(state("a/c", ""));
    running.close();

    let mut running = Running::start(directory.path());
    let identity = Some(identity);
    let expected = Snapshot {
        heartbeat,
        devices: vec![forgotten, device],
        session_filters: filters,
        identity,
    };
    assert_eq!(running.wait_opened(), expected);
    assert_eq!(running.read(&["#"]).0, [plain, state("a/c", "")]);
    running.close();
}

/// What a store says that was never used.
fn unused() -> Snapshot {
    Snapshot { identity: Some(IdentityRecord::default()), ..Snapshot::default() }
}

/// The file was written by version 0.3.0, with numbers of 64 bits.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_store_of_an_earlier_version_is_taken_over_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data.mdb");
    fs::copy("tests/fixtures/store-0.3.0/data.mdb", &file).unwrap();
    let opened = store::check_format(directory.path()).unwrap().unwrap();
    assert_eq!(opened.identity(), None);
    drop(opened);
    let mut running = Running::start(directory.path());
    let snapshot = running.wait_opened();
    assert_eq!(snapshot.identity, None);
    let names: Vec<_> = snapshot.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["lamp", "sleeper"]);
    assert_eq!(snapshot.session_filters.len(), 2);
    let states = running.read(&["#"]).0;
    assert_eq!((states.len(), &states[0].payload[..]), (1, &b"red"[..]));
    running.handle.send(StoreCommand::SaveIdentity(Box::default())).unwrap();
    // What version 0.3.0 recorded with the retain flag is what the broker retained.
    assert!(states[0].retain);
    let live = StateRecord { retain: false, payload: "blue".into(), ..states[0].clone() };
    running.put(live.clone());
    running.change(StateChange::Replay(states[0].clone()));
    assert_eq!(running.read_after_commits(&["#"]), [live]);
    let news = StateRecord { payload: "green".into(), ..states[0].clone() };
    running.change(StateChange::Replay(news.clone()));
    assert_eq!(running.read_after_commits(&["#"]), [news]);
    running.close();
    let opened = store::check_format(directory.path()).unwrap().unwrap();
    assert_eq!(opened.identity(), Some(IdentityRecord::default()));
    drop(opened);
    // By which version 0.3.0 knows that it must not touch it.
    let is_new = |schema: &mut Vec<u8>| {
        assert!(String::from_utf8_lossy(schema).contains(r#""format":2,"#), "{schema:?}");
    };
    damage::tamper(directory.path(), "meta", is_new, b"schema");
}

#[test]
fn reports_commits_in_order_and_a_delivery_that_is_no_state_keeps_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    for number in 0..2_000 {
        running.change(match number % 3 {
            0 => StateChange::Nothing,
            1 => StateChange::Put(state("a", number.to_string())),
            _ => StateChange::Forget(topic("a")),
        });
    }
    let mut through = Delivery(0);
    while through < Delivery(2_000) {
        match running.next() {
            Event::StatesCommitted { through: next } => {
                assert!(next > through);
                through = next;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(running.events.is_empty());
    running.close();
}

#[test]
fn a_read_sees_everything_that_was_sent_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    for number in 0..50 {
        running.put(state("a/b", number.to_string()));
        running.send_read(&["a/#"], None);
    }
    let mut seen = 0;
    while seen < 50 {
        if let Event::StatesRead { states, .. } = running.next() {
            assert_eq!(states, [state("a/b", seen.to_string())]);
            seen += 1;
        }
    }
    running.close();
}

#[test]
fn long_topics_are_kept_apart_and_found() {
    let directory = tempfile::tempdir().unwrap();
    let stem = format!("home/{}", "x".repeat(600));
    let longest = format!("{stem}/{}", "y".repeat(65_535 - stem.len() - 1));
    let names = [
        format!("{stem}/a"),
        format!("{stem}/b"),
        stem.clone(),
        longest,
        "z".repeat(494),
        "z".repeat(495),
        "z".repeat(511),
        "z".repeat(512),
    ];
    let mut running = Running::opened(directory.path());
    for name in &names {
        running.put(state(name, name.len().to_string()));
    }
    let last = running.change(StateChange::Forget(topic(&names[1])));
    running.wait_committed(last);
    for (number, name) in names.iter().enumerate() {
        let found = running.read(&[name]).0;
        assert_eq!(found.len(), usize::from(number != 1), "{}", name.len());
    }
    let below = running.read(&[&format!("{stem}/#")]).0;
    assert_eq!(below.len(), 3);
    assert_eq!(running.read(&["#"]).0.len(), 7);
    running.close();
}

#[test]
fn answers_come_in_chunks_that_continue_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::opened(directory.path());
    for number in 0..250 {
        running.put(state(&format!("many/{number:03}"), "x"));
    }
    for number in 0..3 {
        running.put(state(&format!("large/{number}"), vec![0; 3 << 20]));
    }
    let last = running.change(StateChange::Nothing);
    running.wait_committed(last);
    let (many, sizes) = running.read(&["many/#", "many/+", "many/007"]);
    assert_eq!(sizes, [100, 100, 50]);
    let expected: Vec<String> = (0..250).map(|number| format!("many/{number:03}")).collect();
    assert_eq!(topics(&many), expected);
    assert_eq!(running.read(&["large/#"]).1, [1, 1, 1]);
    assert_eq!(running.read(&["nothing/#"]).1, [0]);
    running.close();
}

fn level() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "", "$s", "ü", "LONG"])
        .prop_map(|level| level.replace("LONG", &"l".repeat(300)))
}

fn topic_text() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn filter_text() -> impl Strategy<Value = String> {
    let level = proptest::prop_oneof![level(), proptest::strategy::Just("+".to_owned())];
    (prop::collection::vec(level, 0..4), proptest::bool::ANY)
        .prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn a_scan_finds_what_a_filter_matches(
        names in prop::collection::btree_set(topic_text(), 0..40),
        filters in prop::collection::vec(filter_text(), 1..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Running::opened(directory.path());
        for name in &names {
            running.put(state(name, "x"));
        }
        let last = running.change(StateChange::Nothing);
        running.wait_committed(last);
        let parsed: Vec<_> =
            filters.iter().map(|text| TopicFilter::new(text.as_str()).unwrap()).collect();
        let expected: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| parsed.iter().any(|filter| filter.matches(&topic(name))))
            .collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let found = running.read(&filters).0;
        let mut found = topics(&found);
        // Long topics that share their first 495 bytes come in another order.
        found.sort_unstable();
        assert_eq!(found, expected);
        running.close();
    }
}

#[test]
fn the_map_grows_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = StoreSettings::new(directory.path());
    settings.map_bytes = 64 * 1024;
    let mut running = Running::start_with(settings.clone());
    running.wait_opened();
    for number in 0..200 {
        let delivery = running.put(state(&format!("a/{number:03}"), vec![1; 20_000]));
        running.wait_committed(delivery);
    }
    running.put(state("huge", vec![2; 20 << 20]));
    running.close();

    let mut running = Running::start_with(settings);
    running.wait_opened();
    assert_eq!(running.read(&["a/#"]).0.len(), 200);
    assert_eq!(running.read(&["huge"]).0[0].payload.len(), 20 << 20);
    running.close();
}

#[test]
fn close_writes_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(directory.path());
    for number in 0..4_000 {
        running.put(state(&format!("a/{number}"), "x"));
    }
    running.close();
    let mut running = Running::opened(directory.path());
    assert_eq!(running.read(&["a/#"]).0.len(), 4_000);
    running.close();
}

#[test]
fn close_returns_when_the_events_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, _events) = channel(1);
    let handle = store::spawn(StoreSettings::new(directory.path()), sender, Pulse::new()).unwrap();
    for number in 0..100 {
        let change = StateChange::Put(state("a", "x"));
        handle.send(StoreCommand::Record { delivery: Delivery(number), change }).unwrap();
    }
    assert!(handle.close(PATIENCE));
}

/// Started by other tests as a process of its own: records without end and prints what the store
/// reported. Alone it has nothing to do.
#[test]
fn child_that_records_until_it_is_killed() {
    let Ok(directory) = std::env::var("STORE_TEST_DIRECTORY") else { return };
    let mut running = Running::start(Path::new(&directory));
    let mut out = std::io::stdout();
    loop {
        match running.next() {
            Event::StoreOpened(_) => writeln!(out, "\nopened"),
            Event::StatesCommitted { through } => writeln!(out, "\ncommitted {}", through.0),
            Event::StoreFailed { error } => writeln!(out, "\nfailed {error}"),
            other => panic!("{other:?}"),
        }
        .unwrap();
        out.flush().unwrap();
        while running.events.is_empty() {
            let number = running.deliveries;
            let change = StateChange::Put(state(&format!("a/{number}"), vec![b'x'; 300]));
            let command = StoreCommand::Record { delivery: Delivery(number), change };
            if running.handle.send(command).is_ok() {
                running.deliveries += 1;
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// Runs the child until it has printed a line for which `until` holds, then kills it, and gives
/// that line.
fn run_child(directory: &Path, mut until: impl FnMut(&str) -> bool) -> Option<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_records_until_it_is_killed", "--nocapture"])
        .env("STORE_TEST_DIRECTORY", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let found = lines.find(|line| until(line));
    child.kill().unwrap();
    // What it still printed before it died counts too.
    let last = lines.filter(|line| line.starts_with("committed ")).last().or(found);
    child.wait().unwrap();
    last
}

#[test]
fn what_was_reported_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    for groups in [1, 7, 20] {
        let mut seen = 0;
        let last = run_child(directory.path(), |line| {
            seen += u32::from(line.starts_with("committed "));
            seen == groups
        });
        let last: u64 = last.unwrap().strip_prefix("committed ").unwrap().parse().unwrap();
        let mut running = Running::opened(directory.path());
        for number in [0, last / 2, last] {
            assert_eq!(running.read(&[&format!("a/{number}")]).0.len(), 1);
        }
        let found = running.read(&["a/+"]).0;
        let kept: std::collections::BTreeSet<&str> = topics(&found).into_iter().collect();
        for number in 0..=last {
            assert!(kept.contains(format!("a/{number}").as_str()), "{number} of {last}");
        }
        running.close();
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::opened(directory.path());
    let refusal = run_child(directory.path(), |line| line.starts_with("failed ")).unwrap();
    assert!(refusal.contains("in use by another process"), "{refusal}");
    running.close();
    assert!(run_child(directory.path(), |line| line == "opened").is_some());
}

#[test]
fn a_waiting_instance_takes_over_when_the_lock_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let first = Running::opened(directory.path());
    let mut second = Running::start(directory.path());
    assert!(matches!(second.next(), Event::StoreFailed { .. }));
    let sent = second.put(state("a", "x"));
    first.close();
    second.wait_opened();
    assert_eq!(second.next(), Event::StoreRecovered);
    second.wait_committed(sent);
    second.close();
}
