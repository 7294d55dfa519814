//! What each costs: processor time, memory, and how late it is.

use super::scene::{Scene, Speaking};
use super::subjects::{Device, Subject};
use crate::broker::Broker;
use crate::client::{Client, Pace};
use crate::common::fleet;
use crate::table::Figure;
use crate::watched::per_second;
use crate::{Settings, expiry, process};
use std::thread;
use std::time::{Duration, Instant};

const FEW: usize = 10;
const MANY: usize = 1_000;
/// Messages a second of a house.
const RATE: usize = 1_000;
/// A device that never expires here.
const DAY: u64 = 86_400;
/// For how long the subject is left alone.
const REST: Duration = Duration::from_secs(10);

/// One stream, as a subject took it.
struct Taken {
    micros: f64,
    per_second: f64,
    resident: f64,
}

/// The rows of the table, without the subjects' names.
pub const ROWS: [&str; 10] = [
    "processor time of a message, 1000 a second, 10 devices",
    "processor time of a message, 1000 a second, 1000 devices",
    "processor time of a message of a flood, 10 devices",
    "processor time of a message of a flood, 1000 devices",
    "messages of a flood handled, 1000 devices",
    "resident memory, 1000 devices that have all been heard",
    "resident memory after a flood, 1000 devices",
    "idle processor time a minute, 1000 devices",
    "expiry, lateness: median of a round",
    "expiry, lateness: 99th percentile of a round",
];

/// Figures of a subject in the order of [`ROWS`].
pub fn measure(settings: &Settings, subject: &Subject) -> Vec<Figure> {
    let mut rounds: Vec<[f64; ROWS.len()]> = Vec::new();
    for _ in 0..settings.rounds() {
        rounds.push(process::on_first_processor(|| round(settings, subject)));
    }
    let units = ["µs", "µs", "µs", "µs", "/s", "MB", "MB", "s", "ms", "ms"];
    let figure = |(at, unit)| Figure::new(rounds.iter().map(|round| round[at]).collect(), unit);
    units.into_iter().enumerate().map(figure).collect()
}

fn round(settings: &Settings, subject: &Subject) -> [f64; ROWS.len()] {
    let flood = if settings.quick { 20_000 } else { 200_000 };
    let steady = |devices| {
        stream(
            subject,
            devices,
            &Pace { messages: 5 * RATE, rate: Some(RATE), at_least_once: false },
        )
    };
    let flooded = |devices| {
        stream(subject, devices, &Pace { messages: flood, rate: None, at_least_once: false })
    };
    let (few, _) = steady(FEW);
    let (many, scene) = steady(MANY);
    let idle = idle(&scene);
    drop(scene);
    let (few_flooded, _) = flooded(FEW);
    let (many_flooded, _) = flooded(MANY);
    let late = Figure::new(lateness(subject), "ms");
    [
        few.micros,
        many.micros,
        few_flooded.micros,
        many_flooded.micros,
        many_flooded.per_second,
        many.resident,
        many_flooded.resident,
        idle,
        late.quantile(0.5),
        late.quantile(0.99),
    ]
}

/// The scene is left with the subject at rest.
fn stream(subject: &Subject, devices: usize, pace: &Pace) -> (Taken, Scene) {
    let named: Vec<Device> = (0..devices).map(|device| (format!("d{device}"), DAY)).collect();
    let mut scene = Scene::begin(subject, &named, &process::on_second_processor());
    let topics: Vec<String> = (0..devices).map(fleet::watched_topic).collect();
    // The first message of a device may be announced, which is not what is measured here.
    scene.publisher.flood(&topics, topics.len(), false);
    scene.until_handled();
    scene.until_watching();
    let (began, before) = (Instant::now(), scene.running.cpu());
    scene.publisher.stream(fleet::PAYLOAD, &topics, pace);
    scene.until_handled();
    let (took, elapsed) = (scene.running.cpu() - before, began.elapsed());
    scene.until_watching();
    let taken = Taken {
        micros: process::micros_of_each(took, pace.messages),
        per_second: per_second(pace.messages, elapsed),
        resident: scene.running.resident(),
    };
    (taken, scene)
}

/// Seconds of processor time in a minute of rest.
fn idle(scene: &Scene) -> f64 {
    let before = scene.running.cpu();
    thread::sleep(REST);
    (scene.running.cpu() - before).as_secs_f64() * 60.0 / REST.as_secs_f64()
}

/// Of each device that expired, in milliseconds.
fn lateness(subject: &Subject) -> Vec<f64> {
    let timeout = expiry::TIMEOUT.as_secs();
    let named: Vec<Device> =
        (0..expiry::DEVICES).map(|device| (format!("d{device}"), timeout)).collect();
    let broker = Broker::start(20);
    let speaking = Speaking::begin(broker.port, 0..expiry::DEVICES);
    let scene = Scene::begin_at(broker, subject, &named, &process::on_second_processor());
    let mut observer = Client::connect(scene.broker.port, "observer");
    observer.subscribe("home/monitoring/expire/+", None);
    drop(speaking);
    let late = expiry::fall_silent(scene.broker.port, &mut observer);
    assert_eq!(late.len(), expiry::DEVICES, "{} finds every device", subject.name());
    late
}
