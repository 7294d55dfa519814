//! A million devices against the core alone: memory, a message, the start, and a mass expiry.
//!
//! `cargo bench -p iotmonitor-core --bench million -- 100000` takes another number of devices. No broker,
//! store or network takes part: the program answers each action as they would, at once.

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the core itself may neither measure time nor print"
)]

use bytes::Bytes;
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, Protocol, QoS};
use iotmonitor_core::model::snapshot::{Heartbeat, Snapshot};
use iotmonitor_core::model::spec::{
    DEFAULT_MAX_SUBSCRIPTIONS, DeviceSpec, HomeAssistant, MonitorSpec, Origin,
};
use iotmonitor_core::model::time::Now;
use iotmonitor_core::monitor::Monitor;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DEVICES: usize = 1_000_000;

/// One device in so many falls silent.
const EXPIRING: usize = 10;

const SHORT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(86_400);

/// The messages whose mean time is measured.
const MESSAGES: usize = 1_000_000;

fn main() {
    let given = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let devices: usize = given.unwrap_or(DEVICES);
    println!("| {devices} devices, the core alone | |\n|---|--:|");
    let before = resident();
    let spec = spec(devices);
    row("memory of the configuration", megabytes(resident() - before));
    let began = Instant::now();
    let mut house = House::start(spec);
    row("start, to the last subscription", seconds(began.elapsed()));
    row("memory after the start", megabytes(resident() - before));
    let began = Instant::now();
    let topics: Vec<TopicName> = (0..devices).map(topic).collect();
    let built = began.elapsed();
    let began = Instant::now();
    for topic in &topics {
        house.hear(topic);
    }
    row("each device heard once, per message", nanos(began.elapsed(), devices));
    row("memory with each device heard", megabytes(resident() - before));
    let mut place = 0;
    let began = Instant::now();
    for _ in 0..MESSAGES {
        // An order that no cache foresees.
        place = (place + 7_919_003) % devices;
        house.hear(&topics[place]);
    }
    row("a message of a random device", nanos(began.elapsed(), MESSAGES));
    house.expired = 0;
    let began = Instant::now();
    house.pass(SHORT + SHORT);
    let took = began.elapsed();
    let name =
        format!("{} devices that fall silent at once, until all are published", house.expired);
    row(&name, seconds(took));
    row("memory after that", megabytes(resident() - before));
    eprintln!(
        "(the names of all topics were made in {built:?} and are part of the memory from then on)"
    );
    assert_eq!(house.expired, devices.div_ceil(EXPIRING), "some are missing");
}

struct House {
    monitor: Monitor,
    now: Duration,
    actions: Vec<Action>,
    answers: VecDeque<Event>,
    expired: usize,
}

impl House {
    fn start(spec: MonitorSpec) -> Self {
        let now = Now { mono: Duration::ZERO, wall: wall(Duration::ZERO), boot: Duration::ZERO };
        let mut house = Self {
            monitor: Monitor::new(spec, now, 1),
            now: Duration::ZERO,
            actions: Vec::new(),
            answers: VecDeque::new(),
            expired: 0,
        };
        house.happen(Event::StoreOpened(Box::new(Snapshot {
            heartbeat: Heartbeat::default(),
            devices: Vec::new(),
            session_filters: Vec::new(),
            identity: None,
        })));
        house.happen(Event::Connected {
            connection: Connection::Watch,
            protocol: Protocol::V5,
            session_present: false,
        });
        house
    }

    fn hear(&mut self, topic: &TopicName) {
        self.happen(Event::WatchMessage(Message {
            topic: topic.clone(),
            payload: Bytes::from_static(b"21.5"),
            qos: QoS::AtMostOnce,
            retain: false,
            restored: false,
            waited_micros: 0,
        }));
    }

    /// Lets time pass from deadline to deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.monitor.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.happen(Event::TimePassed);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        self.answers.push_back(event);
        while let Some(event) = self.answers.pop_front() {
            let now = Now { mono: self.now, wall: wall(self.now), boot: self.now };
            self.monitor.handle(now, event, &mut self.actions);
            for action in self.actions.drain(..) {
                match action {
                    Action::Publish(publication) => {
                        let is_expiry = publication.topic.as_str().contains("/expire/");
                        self.expired += usize::from(is_expiry);
                        let answer = publication.token.map(|token| Event::Published { token });
                        self.answers.extend(answer);
                    }
                    Action::Subscribe { connection, .. } => {
                        let refused = Vec::new();
                        self.answers.push_back(Event::Subscribed { connection, refused });
                    }
                    Action::SaveDevices { .. } => self.answers.push_back(Event::DevicesSaved),
                    _ => {}
                }
            }
        }
    }
}

fn spec(devices: usize) -> MonitorSpec {
    MonitorSpec {
        client_id: "iotmonitor".to_owned(),
        base_topic: TopicName::new("home/monitoring").expect("it is a name"),
        devices: (0..devices).map(device).collect(),
        fleets: Vec::new(),
        max_subscriptions: DEFAULT_MAX_SUBSCRIPTIONS,
        home_assistant: HomeAssistant::default(),
        alert_unit: None,
        broker_grace: Duration::from_secs(60),
        origin: Origin::default(),
        command: "iotmonitor".to_owned(),
        cluster: None,
    }
}

fn device(number: usize) -> DeviceSpec {
    DeviceSpec {
        name: DeviceName::new(format!("d{number}")).expect("it is a name"),
        area: None,
        watch_timeout: Some(if number.is_multiple_of(EXPIRING) { SHORT } else { LONG }),
        auto_timeout: false,
        expire_repeat: None,
        watch: vec![TopicFilter::new(format!("b/d{number}/sensors/#")).expect("it is a filter")],
        hello: None,
        state: Vec::new(),
        availability: Vec::new(),
        availability_words: None,
        depends_on: Vec::new(),
        alert_unit: None,
        restore_on_start: false,
        enabled: true,
        agent: None,
    }
}

fn topic(number: usize) -> TopicName {
    TopicName::new(format!("b/d{number}/sensors/temperature")).expect("it is a name")
}

fn wall(mono: Duration) -> Duration {
    Duration::from_secs(1_700_000_000) + mono
}

/// Resident memory in bytes (proc_pid_statm(5)).
fn resident() -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<i64>().ok());
    kilobytes.expect("Linux says it") * 1_024
}

fn row(work: &str, figure: String) {
    println!("| {work} | {figure} |");
}

#[expect(clippy::cast_precision_loss, reason = "memory is below 2^52 bytes")]
fn megabytes(bytes: i64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "some million messages")]
fn nanos(time: Duration, messages: usize) -> String {
    format!("{:.0} ns", time.as_secs_f64() * 1e9 / messages as f64)
}
