//! States that the broker delivered and that were not restored, when the monitor is killed in a
//! burst of them. There may be none.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet;
use crate::common::monitor::Monitor;
use crate::table::{Figure, Goal, Row};
use crate::{Settings, until_watching};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

/// One state each.
const DEVICES: usize = 1_000;

/// How long the states of a round are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two hellos of a device whose state has not come.
const GLANCE: Duration = Duration::from_millis(500);

pub fn rows(settings: &Settings) -> Vec<Row> {
    let trials = if settings.quick { 3 } else { 10 };
    let broker = Broker::start(1_000);
    let config = fleet::config(DEVICES, broker.port);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let mut monitor = Monitor::start(broker.directory(), &config, &[]);
    until_watching(&mut observer, DEVICES);
    let mut publisher = Client::connect(broker.port, "publisher");
    let topics: Vec<String> = (0..DEVICES).map(fleet::state_topic).collect();
    let mut lost = Vec::new();
    for trial in 0..trials {
        let payload = format!("trial {trial}");
        // From before the first commit to after the last one.
        let delay = Duration::from_millis(2) * trial;
        let killing = thread::spawn(move || {
            thread::sleep(delay);
            drop(monitor);
        });
        publisher.publish_all(&topics, payload.as_bytes());
        killing.join().expect("it only kills");
        monitor = Monitor::start(broker.directory(), &config, &[]);
        until_watching(&mut observer, DEVICES);
        lost.push(missing(broker.port, &mut publisher, &payload));
    }
    monitor.stop();
    vec![Row {
        work: format!("states lost by kill -9 in a burst of {DEVICES}"),
        references: Vec::new(),
        monitor: Figure::new(lost, "states"),
        goal: Some(Goal::AtMost(0.0)),
    }]
}

/// How many devices do not get their state of this trial back when they say hello.
fn missing(port: u16, publisher: &mut Client, payload: &str) -> f64 {
    let mut house = Client::connect(port, "house");
    house.subscribe("b/+/actuators/lamp", None);
    let mut missing: BTreeSet<usize> = (0..DEVICES).collect();
    let began = Instant::now();
    while !missing.is_empty() && began.elapsed() < PATIENCE {
        for device in &missing {
            publisher.publish(&format!("b/d{device}/hello"), b"", None);
        }
        let again = Instant::now() + GLANCE;
        while let Some(message) = house.next_until(again) {
            if message.payload == payload {
                let device = message.topic.trim_start_matches("b/d").split('/').next();
                missing.remove(&device.and_then(|device| device.parse().ok()).unwrap_or(DEVICES));
            }
            if missing.is_empty() {
                break;
            }
        }
    }
    u32::try_from(missing.len()).map_or(f64::MAX, f64::from)
}
