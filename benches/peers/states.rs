//! State messages recorded a second: QoS 1, on disk before they are acknowledged.
//!
//! How many the broker has on their way at once bounds the rate, since each window waits for a
//! commit. `mosquitto_sub`, which records nothing, shows what broker and window allow.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet;
use crate::common::monitor::Monitor;
use crate::table::{Figure, Goal, Row};
use crate::{Settings, until_watching};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEVICES: usize = 1_000;
const CLIENT_ID: &str = "reference";
/// How often it is looked whether the last state is recorded; the rates are exact to so much.
const GLANCE: Duration = Duration::from_millis(5);

pub fn rows(settings: &Settings) -> Vec<Row> {
    [(20, None), (1_000, Some(Goal::AtLeast(40_000.0)))]
        .into_iter()
        .map(|(window, goal)| measure(settings, window, goal))
        .collect()
}

fn measure(settings: &Settings, window: u16, goal: Option<Goal>) -> Row {
    let messages = if settings.quick { 20_000 } else { 100_000 };
    let (mut monitor, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds() {
        monitor.push(recorded(window, messages));
        reference.push(received(window, messages));
    }
    Row {
        work: format!("states recorded, {DEVICES} devices, {window} on their way at once"),
        references: vec![("mosquitto_sub, not recorded", Figure::new(reference, "/s"))],
        monitor: Figure::new(monitor, "/s"),
        goal,
    }
}

/// States recorded a second.
fn recorded(window: u16, messages: usize) -> f64 {
    let broker = Broker::start(window);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let config = fleet::config(DEVICES, broker.port);
    let monitor = Monitor::start(broker.directory(), &config, &[]);
    until_watching(&mut observer, DEVICES);
    let mut publisher = Client::connect(broker.port, "publisher");
    let mut restored = Client::connect(broker.port, "restored");
    // The device behind those that the stream is of.
    let last = DEVICES - 1;
    let topics: Vec<String> = (0..last).map(fleet::state_topic).collect();
    restored.subscribe(&fleet::state_topic(last), None);
    until_recorded(&mut publisher, &mut restored, last, b"begin");
    let began = Instant::now();
    publisher.flood(&topics, messages, true);
    until_recorded(&mut publisher, &mut restored, last, b"end");
    let elapsed = began.elapsed();
    monitor.stop();
    per_second(messages, elapsed)
}

/// Publishes a state and has it restored until it comes back: once from the broker, and once more
/// from the monitor, which by then has recorded everything before it.
fn until_recorded(publisher: &mut Client, restored: &mut Client, device: usize, payload: &[u8]) {
    let (topic, hello) = (fleet::state_topic(device), format!("b/d{device}/hello"));
    publisher.publish(&topic, payload, Some(1));
    let mut seen = 0;
    while seen < 2 {
        publisher.publish(&hello, b"", None);
        let message = restored.until_deadline(&topic, Instant::now() + GLANCE);
        seen += usize::from(message.is_some_and(|message| message.payload == payload));
    }
}

/// States that `mosquitto_sub` gets a second.
fn received(window: u16, messages: usize) -> f64 {
    let broker = Broker::start(window);
    let mut child = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-i", CLIENT_ID, "-q", "1"])
        .args(["-t", "b/#", "-C", &messages.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("mosquitto_sub is installed; `make deps` does it");
    broker.until_subscribed(CLIENT_ID);
    let mut publisher = Client::connect(broker.port, "publisher");
    let topics: Vec<String> = (0..DEVICES - 1).map(fleet::state_topic).collect();
    let began = Instant::now();
    publisher.flood(&topics, messages, true);
    let status = child.wait().expect("it is a child");
    assert!(status.success(), "mosquitto_sub ended with {status}");
    per_second(messages, began.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
fn per_second(messages: usize, elapsed: Duration) -> f64 {
    messages as f64 / elapsed.as_secs_f64()
}
