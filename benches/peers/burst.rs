//! Everything at once: a fleet that falls silent in one moment, and one that says hello in one.
//!
//! What goes out is checked while it is measured: everything, once, and in order for each device.
//! The monitor has a watchdog meanwhile, and the longest time between two feedings is a row too.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet::{self, BARRIER_COUNT, BARRIER_HELLO, PAYLOAD};
use crate::common::monitor::Monitor;
use crate::process;
use crate::table::{Figure, Goal, Row};
use crate::watchdog::{self, Watchdog};
use crate::{Settings, until_watching};
use std::time::{Duration, Instant};

/// Between two looks whether everything is recorded.
const GLANCE: Duration = Duration::from_millis(200);

/// What one burst took.
#[derive(Default)]
struct Burst {
    seconds: f64,
    /// The longest time between two feedings of the watchdog.
    hungry: f64,
    /// Memory in megabytes before, and at most meanwhile.
    before: f64,
    peak: f64,
}

pub fn rows(settings: &Settings) -> Vec<Row> {
    let silent = if settings.quick { 2_000 } else { 10_000 };
    let expiring: Vec<Burst> = (0..settings.rounds()).map(|_| expiring(silent)).collect();
    let (greeting, states) = (if settings.quick { 200 } else { 1_000 }, 100);
    let restoring: Vec<Burst> =
        (0..settings.rounds()).map(|_| restoring(greeting, states)).collect();
    let mut rows = rows_of(
        &format!("{silent} devices expiring in one moment"),
        "the last alert after",
        &expiring,
        Some(Goal::AtMost(1.0)),
    );
    let work = format!("{greeting} hellos in one moment, each for {states} states");
    rows.extend(rows_of(&work, "all restored after", &restoring, None));
    rows
}

fn rows_of(work: &str, what: &str, bursts: &[Burst], goal: Option<Goal>) -> Vec<Row> {
    let figure =
        |value: fn(&Burst) -> f64, unit| Figure::new(bursts.iter().map(value).collect(), unit);
    let row = |what: &str, references, monitor, goal| Row {
        work: format!("{work}: {what}"),
        references,
        monitor,
        goal,
    };
    let before = figure(|burst| burst.before, "MB");
    let half = watchdog::INTERVAL.as_secs_f64() / 2.0;
    vec![
        row(what, Vec::new(), figure(|burst| burst.seconds, "s"), goal),
        row("most memory", vec![("before", before)], figure(|burst| burst.peak, "MB"), None),
        row(
            &format!("longest wait of a watchdog of {:?}", watchdog::INTERVAL),
            Vec::new(),
            figure(|burst| burst.hungry, "s"),
            Some(Goal::AtMost(half)),
        ),
    ]
}

/// All devices speak for the last time in one moment; measured from the first one's deadline.
fn expiring(devices: usize) -> Burst {
    const TIMEOUT: u32 = 6;
    let broker = Broker::start(20);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let config = fleet::config(devices, broker.port);
    let config = config.replace("watchTimeOut=86400", &format!("watchTimeOut={TIMEOUT}"));
    let watchdog = Watchdog::listen(broker.directory());
    let monitor = Monitor::start(broker.directory(), &config, &watchdog::environment());
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    let topics: Vec<String> = (0..devices).map(fleet::watched_topic).collect();
    let last_words = Instant::now();
    publisher.flood(&topics, devices, false);
    publisher.publish(BARRIER_HELLO, b"", None);
    observer.until(BARRIER_COUNT);
    let before = process::resident(monitor.child.id());
    process::forget_peak(monitor.child.id());
    watchdog.forget();
    let mut seen = vec![Seen::Nothing; devices];
    let mut left = devices;
    while left > 0 {
        let message = observer.next();
        let Some((kind, device)) = device_of(&message.topic) else { continue };
        seen[device] = match (kind, seen[device]) {
            ("expire", Seen::Nothing) => Seen::Expired,
            ("status", Seen::Expired) => {
                assert!(message.payload.windows(9).any(|word| word == b"\"expired\""));
                left -= 1;
                Seen::All
            }
            // The first contact of each.
            ("status", Seen::Nothing) => Seen::Nothing,
            (kind, before) => panic!("`{kind}` of device {device} came after {before:?}"),
        };
    }
    let seconds = (last_words.elapsed().as_secs_f64() - f64::from(TIMEOUT)).max(0.0);
    let burst = Burst {
        seconds,
        before,
        peak: process::peak(monitor.child.id()),
        hungry: watchdog.longest_wait(),
    };
    monitor.stop();
    burst
}

/// The publications that were received about a device that expires.
#[derive(Debug, Clone, Copy)]
enum Seen {
    Nothing,
    Expired,
    All,
}

/// Kind and device of an own topic.
fn device_of(topic: &str) -> Option<(&str, usize)> {
    let (kind, name) = topic.strip_prefix("home/monitoring/")?.split_once('/')?;
    Some((kind, name.strip_prefix('d')?.parse().ok()?))
}

/// All devices have their states recorded and say hello in one moment; measured until the last
/// state came back.
fn restoring(devices: usize, states: usize) -> Burst {
    let broker = Broker::start(1_000);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let config = fleet::config(devices, broker.port);
    let watchdog = Watchdog::listen(broker.directory());
    let monitor = Monitor::start(broker.directory(), &config, &watchdog::environment());
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    record(&mut publisher, broker.port, devices, states);
    let mut house = Client::connect(broker.port, "house");
    house.subscribe("b/+/actuators/#", None);
    let before = process::resident(monitor.child.id());
    process::forget_peak(monitor.child.id());
    watchdog.forget();
    let hellos: Vec<String> = (0..devices).map(|device| format!("b/d{device}/hello")).collect();
    let began = Instant::now();
    publisher.flood(&hellos, devices, false);
    let mut next = vec![0; devices];
    for _ in 0..devices * states {
        let message = house.next();
        let (device, state) = state_of(&message.topic);
        assert_eq!(state, next[device], "device {device} gets its states in their order");
        assert_eq!(message.payload, PAYLOAD.as_slice());
        next[device] += 1;
    }
    let burst = Burst {
        seconds: began.elapsed().as_secs_f64(),
        before,
        peak: process::peak(monitor.child.id()),
        hungry: watchdog.longest_wait(),
    };
    monitor.stop();
    burst
}

/// Has so many states of each device recorded, and waits for it.
fn record(publisher: &mut Client, port: u16, devices: usize, states: usize) {
    let mut topics = Vec::with_capacity(devices * states);
    for device in 0..devices {
        topics.extend((0..states).map(|state| format!("b/d{device}/actuators/{state:03}")));
    }
    let mut restored = Client::connect(port, "restored");
    let last = topics.last().expect("there are some").clone();
    restored.subscribe(&last, None);
    publisher.flood(&topics, topics.len(), true);
    // It comes once from the publisher, and once more when the device says hello behind it.
    restored.until(&last);
    let hello = format!("b/d{}/hello", devices - 1);
    loop {
        publisher.publish(&hello, b"", None);
        if restored.until_deadline(&last, Instant::now() + GLANCE).is_some() {
            break;
        }
    }
}

/// Device and number of a state's topic.
fn state_of(topic: &str) -> (usize, usize) {
    let parse = || {
        let (device, state) = topic.strip_prefix("b/d")?.split_once("/actuators/")?;
        Some((device.parse().ok()?, state.parse().ok()?))
    };
    parse().unwrap_or_else(|| panic!("nothing was published on {topic}"))
}
