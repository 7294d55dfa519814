//! The delay of an expiry: from a device's deadline to its `expire/NAME` at a subscriber.
//!
//! A deadline is counted from the moment before the last message left its publisher, so the way
//! through the broker, there and back, is in the figure. Devices fall silent one after the other, while
//! nothing else happens or beside a stream of another device's messages, which is dense enough for the
//! monitor to let the kernel hold it back.

use crate::broker::Broker;
use crate::client::{Client, Pace};
use crate::common::fleet;
use crate::common::monitor::Monitor;
use crate::table::{Figure, Goal, Row};
use crate::{Settings, until_watching};
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

pub const DEVICES: usize = 300;
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two devices; no multiple of anything.
const STEP: Duration = Duration::from_micros(4_273);
/// How long the last expiry is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The topic of the neighbour's messages.
const STREAM: &str = "b/neighbour";

/// Messages a second of the neighbour. With more, those that wait in the broker would be measured.
const RATES: [usize; 2] = [10_000, 50_000];

pub fn rows(settings: &Settings) -> Vec<Row> {
    let beside = |rate: &usize| lateness_rows(settings, Some(*rate));
    let mut rows: Vec<Row> = lateness_rows(settings, None).into();
    rows.extend(RATES.iter().flat_map(beside));
    rows
}

fn lateness_rows(settings: &Settings, rate: Option<usize>) -> [Row; 3] {
    let (mut medians, mut highest, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds() {
        let lateness = lateness(rate);
        medians.push(Figure::new(lateness.clone(), "ms").quantile(0.5));
        highest.push(Figure::new(lateness.clone(), "ms").quantile(0.99));
        all.extend(lateness);
    }
    let beside = rate.map_or(String::new(), |rate| format!(" beside {rate} messages a second"));
    let row = |work: &str, values, goal| Row {
        work: format!("expiry, lateness{beside}: {work}"),
        references: Vec::new(),
        monitor: Figure::new(values, "ms"),
        goal,
    };
    let usual = if rate.is_some() { 3.0 } else { 2.0 };
    [
        row("median of a round", medians, Some(Goal::AtMost(usual))),
        row("99th percentile of a round", highest, Some(Goal::AtMost(10.0))),
        row("all", all, None),
    ]
}

/// Of each device, in milliseconds, beside so many messages a second.
fn lateness(rate: Option<usize>) -> Vec<f64> {
    let broker = Broker::start(20);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/expire/+", None);
    observer.subscribe("home/monitoring/status/+", None);
    let monitor = Monitor::start(broker.directory(), &config(broker.port), &[]);
    until_watching(&mut observer, DEVICES);
    let mut neighbour = Client::connect(broker.port, "neighbour");
    let streaming = rate.map(|rate| {
        // It lasts until the last device has expired.
        let pace = Pace { messages: 8 * rate, rate: Some(rate), at_least_once: false };
        let topics = [STREAM.to_owned()];
        thread::spawn(move || neighbour.stream(fleet::PAYLOAD, &topics, &pace))
    });
    let late = fall_silent(broker.port, &mut observer);
    assert_eq!(late.len(), DEVICES, "every device expires");
    if let Some(streaming) = streaming {
        assert!(!streaming.is_finished(), "the stream ended before the last device expired");
        streaming.join().expect("it only publishes");
    }
    monitor.stop();
    late
}

/// Has the devices fall silent one after the other, and says by how many milliseconds each is late,
/// as soon as all have expired or the patience has ended.
pub fn fall_silent(port: u16, observer: &mut Client) -> Vec<f64> {
    let mut publisher = Client::connect(port, "publisher");
    let publishing = thread::spawn(move || {
        let began = Instant::now();
        let contacts = (0..DEVICES).map(|device| {
            let due = began + STEP * u32::try_from(device).expect("there are few");
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let contact = Instant::now();
            publisher.publish(&format!("b/d{device}/sensors/x"), b"1", None);
            contact
        });
        contacts.collect::<Vec<Instant>>()
    });
    let deadline = Instant::now() + PATIENCE;
    let mut expired = Vec::new();
    while expired.len() < DEVICES
        && let Some(message) = observer.next_until(deadline)
    {
        if let Some(device) = message.topic.strip_prefix("home/monitoring/expire/d") {
            expired.push((Instant::now(), device.parse::<usize>().expect("devices are numbered")));
        }
    }
    let contacts = publishing.join().expect("it only publishes");
    let late = |(at, device): (Instant, usize)| (at - contacts[device]).as_secs_f64() * 1e3;
    let timeout = TIMEOUT.as_secs_f64() * 1e3;
    expired.into_iter().map(|expired| late(expired) - timeout).collect()
}

fn config(port: u16) -> String {
    let mut text = format!(
        "[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\nprotocol = \"5\"\n\n\
         [device_neighbour]\nwatchTopics=\"{STREAM}\"\nwatchTimeOut=86400\n"
    );
    for device in 0..DEVICES {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[device_d{device}]\nwatchTopics=\"b/d{device}/sensors/#\"\nwatchTimeOut={}\n",
            TIMEOUT.as_secs()
        );
    }
    text
}
