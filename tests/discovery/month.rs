//! What becomes of the draft when it is run: a house of many ecosystems, whose draft is made from two
//! minutes of listening, is watched by the core in simulated time.
//!
//! For a month no device dies, and there is no alarm. Afterwards each device dies at a time of its own, and
//! is found. In a second house each dies within the first two days.

use crate::{LISTENED, Traffic};
use bytes::Bytes;
use fastrand::Rng;
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, Protocol, QoS};
use iotmonitor_core::model::snapshot::{Heartbeat, Snapshot};
use iotmonitor_core::model::spec::MonitorSpec;
use iotmonitor_core::model::time::Now;
use iotmonitor_core::monitor::Monitor;
use iotmonitor_core::topic::TopicName;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

pub const HOUR: u64 = 3_600;
pub const DAY: u64 = 24 * HOUR;

/// The listening begins at ten in the morning.
pub const START: u64 = 10 * HOUR;

/// A broker publishes a will when one and a half keep-alives have passed.
const WILL_AFTER: u64 = 90;

/// When a line of the house speaks.
#[derive(Debug, Clone, Copy)]
enum When {
    Every(u64),
    Chance(u64),
    ByDay(u64),
    Wake(u64),
}

struct Line {
    device: String,
    when: When,
    topic: TopicName,
    payload: String,
}

#[derive(Default)]
struct Plan {
    lines: Vec<Line>,
    still: Vec<(String, String)>,
    /// Topic, and the words for here and gone, by device.
    wills: BTreeMap<String, (String, String, String)>,
    naps: BTreeMap<String, (String, String, String)>,
    silent: BTreeSet<String>,
}

impl Plan {
    fn read() -> Self {
        let mut plan = Self::default();
        for line in include_str!("house.txt").lines().filter(|line| !line.starts_with('#')) {
            plan.add(line);
        }
        plan
    }

    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [device, kind] = [words[0], words[1]].map(str::to_owned);
        match kind.as_str() {
            _ if device == "silent" => {
                self.silent.insert(kind);
            }
            "still" => self.still.push((words[2].to_owned(), words[3].to_owned())),
            "will" | "nap" => {
                let (here, gone) = words[3].split_once(' ').unwrap();
                let words = (words[2].to_owned(), here.to_owned(), gone.to_owned());
                let map = if kind == "will" { &mut self.wills } else { &mut self.naps };
                map.insert(device, words);
            }
            _ => {
                let seconds = words[2].parse().unwrap();
                let when = match kind.as_str() {
                    "every" => When::Every(seconds),
                    "chance" => When::Chance(seconds),
                    "day" => When::ByDay(seconds),
                    "wake" => When::Wake(seconds),
                    _ => panic!("{line}"),
                };
                let (topic, payload) = words[3].split_once(' ').unwrap();
                let topic = TopicName::new(topic).unwrap();
                self.lines.push(Line { device, when, topic, payload: payload.to_owned() });
            }
        }
    }

    fn devices(&self) -> BTreeSet<&str> {
        let lines = self.lines.iter().map(|line| line.device.as_str());
        lines.chain(self.wills.keys().map(String::as_str)).collect()
    }
}

/// Messages in the order of their times, in milliseconds of the simulation.
struct Sender<'a> {
    plan: &'a Plan,
    rng: Rng,
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a> Sender<'a> {
    fn new(plan: &'a Plan, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let next = plan.lines.iter().enumerate().map(|(number, line)| {
            let phase = match line.when {
                When::Every(seconds) | When::ByDay(seconds) => rng.u64(0..seconds.min(100) * 1000),
                When::Wake(_) => 5_000,
                When::Chance(seconds) => rng.u64(0..seconds.min(100) * 1000),
            };
            Reverse((START * 1000 + phase, number))
        });
        let next = next.collect();
        Self { plan, rng, next }
    }

    /// The next message before this time: when, whose, on which topic, and what it says.
    fn before(&mut self, end: u64) -> Option<(u64, &'a Line)> {
        loop {
            let Reverse((at, number)) = *self.next.peek()?;
            if at >= end {
                return None;
            }
            self.next.pop();
            let line = &self.plan.lines[number];
            let (pause, is_said) = self.pause(line.when, at);
            self.next.push(Reverse((at + pause, number)));
            if is_said {
                return Some((at, line));
            }
        }
    }

    fn pause(&mut self, when: When, at: u64) -> (u64, bool) {
        let jitter = |rng: &mut Rng, seconds: u64| seconds * 1000 + rng.u64(0..seconds * 20 + 1);
        match when {
            When::Every(seconds) => (jitter(&mut self.rng, seconds), self.rng.u32(0..200) != 0),
            When::ByDay(seconds) => {
                let hour = at / 1000 / HOUR % 24;
                (jitter(&mut self.rng, seconds), (7..19).contains(&hour))
            }
            When::Wake(seconds) => (jitter(&mut self.rng, seconds), true),
            When::Chance(seconds) => {
                let pause = -self.rng.f64().max(1e-9).ln() * 1000.0 * seconds as f64;
                // No device is away for longer than three weeks.
                ((pause as u64).clamp(1_000, 21 * DAY * 1000), true)
            }
        }
    }
}

/// The configuration that two minutes of listening give.
fn draft(plan: &Plan) -> MonitorSpec {
    let mut traffic = Traffic::default();
    for (topic, payload) in &plan.still {
        traffic = traffic.retained(topic, payload);
    }
    for (topic, here, _) in plan.wills.values() {
        traffic = traffic.retained(topic, here);
    }
    let mut sender = Sender::new(plan, 1);
    while let Some((at, line)) = sender.before((START + LISTENED.as_secs()) * 1000) {
        let second = at / 1000 - START;
        if let Some((topic, here, gone)) = plan.naps.get(&line.device) {
            traffic = traffic.once(second, topic, here).once(second + 2, topic, gone);
        }
        traffic = traffic.once(second + 1, line.topic.as_str(), &line.payload);
    }
    let (_, config, _) = traffic.file();
    config.monitor
}

/// A monitor with a broker and a store that answer at once.
pub struct Watch {
    pub monitor: Monitor,
    /// Milliseconds of the simulation.
    pub at: u64,
    /// Which device expired when.
    pub expired: Vec<(u64, String)>,
}

impl Watch {
    pub fn start(spec: MonitorSpec) -> Self {
        let at = START * 1000;
        let monitor = Monitor::new(spec, now(at), 1);
        let mut watch = Self { monitor, at, expired: Vec::new() };
        let (heartbeat, identity) = (Heartbeat::default(), None);
        let (devices, session_filters) = (Vec::new(), Vec::new());
        watch.happen(Event::StoreOpened(Box::new(Snapshot {
            heartbeat,
            devices,
            session_filters,
            identity,
        })));
        watch.happen(Event::ManagerConnected { units: Vec::new() });
        watch.happen(Event::Connected {
            connection: Connection::Watch,
            protocol: Protocol::V5,
            session_present: false,
        });
        watch
    }

    fn happen(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            let mut actions = Vec::new();
            self.monitor.handle(now(self.at), event, &mut actions);
            for action in actions {
                self.answer(action, &mut queue);
            }
        }
    }

    fn answer(&mut self, action: Action, queue: &mut VecDeque<Event>) {
        match action {
            Action::Subscribe { connection, .. } => {
                queue.push_back(Event::Subscribed { connection, refused: Vec::new() });
            }
            Action::Publish(publication) => {
                if let Some(token) = publication.token {
                    queue.push_back(Event::Published { token });
                }
                if let Some((_, name)) = publication.topic.as_str().split_once("/expire/") {
                    self.expired.push((self.at, name.to_owned()));
                }
            }
            Action::SaveDevices { .. } => queue.push_back(Event::DevicesSaved),
            _ => {}
        }
    }

    /// Lets time pass until then.
    pub fn pass(&mut self, until: u64) {
        while let Some(due) = self.monitor.next_deadline() {
            let due = u64::try_from(due.as_nanos().div_ceil(1_000_000)).unwrap();
            if due > until {
                break;
            }
            self.at = self.at.max(due);
            self.happen(Event::TimePassed);
        }
        self.at = until;
    }

    pub fn hear(&mut self, at: u64, topic: &TopicName, payload: &str) {
        self.pass(at);
        let (topic, payload) = (topic.clone(), Bytes::from(payload.to_owned()));
        let qos = QoS::AtMostOnce;
        self.happen(Event::WatchMessage(Message {
            topic,
            payload,
            qos,
            retain: false,
            restored: false,
            waited_micros: 0,
        }));
    }
}

fn now(at: u64) -> Now {
    let mono = Duration::from_millis(at);
    Now { mono, wall: Duration::from_secs(1_700_000_000) + mono, boot: mono }
}

/// Runs a draft until the end of a day; devices die at their times, in milliseconds.
fn run(plan: &Plan, spec: MonitorSpec, days: u64, deaths: &BTreeMap<&str, u64>) -> Watch {
    let mut watch = Watch::start(spec);
    let mut sender = Sender::new(plan, 2);
    let mut wills: Vec<(u64, &str)> = deaths.iter().map(|(name, at)| (*at, *name)).collect();
    wills.sort_unstable();
    let mut wills = VecDeque::from(wills);
    let end = (START + days * DAY) * 1000;
    for will in plan.wills.values() {
        watch.hear(START * 1000, &TopicName::new(will.0.as_str()).unwrap(), &will.1);
    }
    loop {
        let spoken = sender.before(end);
        let at = spoken.as_ref().map_or(end, |(at, _)| *at);
        while let Some((died, name)) =
            wills.front().copied().filter(|(died, _)| died + WILL_AFTER * 1000 <= at)
        {
            wills.pop_front();
            if let Some((topic, _, gone)) = plan.wills.get(name) {
                let at = (died + WILL_AFTER * 1000).max(watch.at);
                watch.hear(at, &TopicName::new(topic.as_str()).unwrap(), gone);
            }
        }
        let Some((at, line)) = spoken else { break };
        if deaths.get(line.device.as_str()).is_some_and(|died| at >= *died) {
            continue;
        }
        let at = at.max(watch.at);
        if let Some((topic, here, gone)) = plan.naps.get(&line.device) {
            let topic = TopicName::new(topic.as_str()).unwrap();
            watch.hear(at, &topic, here);
            watch.hear(at, &line.topic, &line.payload);
            watch.hear(at + 500, &topic, gone);
        } else {
            watch.hear(at, &line.topic, &line.payload);
        }
    }
    watch.pass(end);
    watch
}

/// When each device was found dead, in seconds after its death; false alarms are an error.
fn found<'a>(watch: &'a Watch, deaths: &BTreeMap<&'a str, u64>) -> BTreeMap<&'a str, u64> {
    let mut found = BTreeMap::new();
    for (at, name) in &watch.expired {
        let died = deaths.get(name.as_str()).copied().filter(|died| at >= died);
        let died = died.unwrap_or_else(|| {
            panic!(
                "{name} was alive when it was called dead, {} s after the start",
                at / 1000 - START
            )
        });
        found.entry(name.as_str()).or_insert((at - died) / 1000);
    }
    found
}

fn deaths(plan: &Plan, from_day: u64, to_day: u64) -> BTreeMap<&str, u64> {
    let mut rng = Rng::with_seed(from_day);
    let time = |_| (START + rng.u64(from_day * DAY..to_day * DAY)) * 1000;
    let times: Vec<u64> = plan.devices().iter().map(time).collect();
    plan.devices().into_iter().zip(times).collect()
}

/// No device is awaited for longer than this in the tests: the longest number of a draft, a day and an hour.
fn assert_found(plan: &Plan, found: &BTreeMap<&str, u64>, longest: u64) {
    for name in plan.devices() {
        let after = found.get(name).copied();
        println!("{name}: {}", after.map_or("-".to_owned(), |seconds| format!("{seconds} s")));
        if plan.silent.contains(name) {
            assert_eq!(after, None, "{name}");
        } else {
            assert!(
                after.is_some_and(|after| after <= longest),
                "{name} was found after {after:?}"
            );
        }
    }
}

#[test]
fn every_device_of_the_house_is_drafted_once() {
    let plan = Plan::read();
    let spec = draft(&plan);
    let mut names: Vec<&str> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, plan.devices().into_iter().collect::<Vec<_>>());
}

#[test]
fn a_draft_that_is_run_for_a_month_raises_no_false_alarm_and_finds_every_death() {
    let plan = Plan::read();
    let deaths = deaths(&plan, 28, 30);
    let watch = run(&plan, draft(&plan), 36, &deaths);
    assert_found(&plan, &found(&watch, &deaths), 26 * HOUR);
}

#[test]
fn deaths_in_the_first_days_are_found_too() {
    let plan = Plan::read();
    let deaths = deaths(&plan, 0, 2);
    let watch = run(&plan, draft(&plan), 4, &deaths);
    assert_found(&plan, &found(&watch, &deaths), 27 * HOUR);
}
