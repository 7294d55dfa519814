//! States recorded a second, durable before they are acknowledged.
//!
//! A group of states waits for its commit, and meanwhile the broker sends no more than its window;
//! so the rows are measured with mosquitto's default and with a large one. The reference is how
//! many `mosquitto_sub` receives at the same QoS, recording nothing.

use crate::broker::Broker;
use crate::client::{Client, PATIENCE};
use crate::common::fleet;
use crate::common::monitor::Monitor;
use crate::references::CLIENT_ID;
use crate::table::{Figure, Goal, Row};
use crate::watched::per_second;
use crate::{Settings, until_watching};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked whether the last state is recorded; the rates are exact to so much.
const GLANCE: Duration = Duration::from_millis(5);

/// How long the first state is waited for before another one is published.
const TRY: Duration = Duration::from_millis(200);

/// Such states until it counts as never.
const TRIES: usize = 300;

pub fn rows(settings: &Settings) -> Vec<Row> {
    let windows = [(20, None), (1_000, Some(Goal::AtLeast(40_000.0)))];
    let fleets = [10, 1_000, 10_000].into_iter();
    fleets
        .flat_map(|devices| windows.map(|(window, goal)| measure(settings, devices, window, goal)))
        .collect()
}

fn measure(settings: &Settings, devices: usize, window: u16, goal: Option<Goal>) -> Row {
    let messages = if settings.quick { 20_000 } else { 60_000 };
    let (mut monitor, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds() {
        monitor.push(recorded(devices, window, messages));
        reference.push(received(devices, window, messages));
    }
    Row {
        work: format!("states recorded, {devices} devices, {window} on their way at once"),
        references: vec![("mosquitto_sub, not recorded", Figure::new(reference, "/s"))],
        monitor: Figure::new(monitor, "/s"),
        goal,
    }
}

/// States recorded a second.
fn recorded(devices: usize, window: u16, messages: usize) -> f64 {
    let broker = Broker::start(window);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let config = fleet::config(devices, broker.port);
    let monitor = Monitor::start(broker.directory(), &config, &[]);
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    let mut restored = Client::connect(broker.port, "restored");
    let stream = Stream::begin(&mut publisher, &mut restored, devices);
    let rate = stream.rate(&mut publisher, &mut restored, messages);
    monitor.stop();
    rate
}

/// States of a fleet, one topic a device; its last device shows when they are recorded.
pub struct Stream {
    topics: Vec<String>,
    last: usize,
}

impl Stream {
    /// Waits until the monitor records: messages before its subscription are lost.
    pub fn begin(publisher: &mut Client, restored: &mut Client, devices: usize) -> Self {
        let last = devices - 1;
        restored.subscribe(&fleet::state_topic(last), None);
        let is_begun =
            |number| is_recorded(publisher, restored, last, &format!("begin {number}"), TRY);
        assert!((0..TRIES).any(is_begun), "the monitor records");
        Self { topics: (0..last).map(fleet::state_topic).collect(), last }
    }

    /// States recorded a second.
    pub fn rate(self, publisher: &mut Client, restored: &mut Client, messages: usize) -> f64 {
        let began = Instant::now();
        publisher.flood(&self.topics, messages, true);
        assert!(is_recorded(publisher, restored, self.last, "end", PATIENCE), "all is recorded");
        per_second(messages, began.elapsed())
    }
}

/// Publishes a state and has it restored until it comes back: once from the broker, and once more
/// from the monitor, which by then has recorded everything before it. Says whether it came in time.
fn is_recorded(
    publisher: &mut Client,
    restored: &mut Client,
    device: usize,
    payload: &str,
    at_most: Duration,
) -> bool {
    let (topic, hello) = (fleet::state_topic(device), format!("b/d{device}/hello"));
    let deadline = Instant::now() + at_most;
    publisher.publish(&topic, payload.as_bytes(), Some(1));
    let mut seen = 0;
    while seen < 2 && Instant::now() < deadline {
        publisher.publish(&hello, b"", None);
        let message = restored.until_deadline(&topic, Instant::now() + GLANCE);
        seen += usize::from(message.is_some_and(|message| message.payload == payload));
    }
    seen == 2
}

/// States that `mosquitto_sub` gets a second.
fn received(devices: usize, window: u16, messages: usize) -> f64 {
    let broker = Broker::start_verbose(window);
    let mut child = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-i", CLIENT_ID, "-q", "1"])
        .args(["-t", "b/#", "-C", &messages.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("mosquitto_sub is installed; `make deps` does it");
    broker.until_subscribed(CLIENT_ID);
    let mut publisher = Client::connect(broker.port, "publisher");
    let topics: Vec<String> = (0..devices - 1).map(fleet::state_topic).collect();
    let began = Instant::now();
    publisher.flood(&topics, messages, true);
    let status = child.wait().expect("it is a child");
    assert!(status.success(), "mosquitto_sub ended with {status}");
    per_second(messages, began.elapsed())
}
