//! How large it is and how fast it starts.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet::{self, BARRIER_COUNT, BARRIER_HELLO};
use crate::common::monitor::Monitor;
use crate::process;
use crate::table::{Figure, Goal, Row};
use crate::{Settings, until_watching};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// So long after everything was heard.
const REST: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(30);

pub fn rows(settings: &Settings) -> Vec<Row> {
    let mut rows: Vec<Row> = [
        (1_000, Goal::AtMost(8.0), None),
        (10_000, Goal::AtMost(14.0), Some(Goal::AtMost(0.25))),
        (100_000, Goal::AtMost(70.0), Some(Goal::AtMost(3.0))),
    ]
    .into_iter()
    .flat_map(|(devices, memory, start)| fleet_rows(settings, devices, memory, start))
    .collect();
    rows.push(Row {
        work: "start to READY=1, the example configuration".to_owned(),
        references: Vec::new(),
        monitor: Figure::new((0..settings.rounds()).map(|_| ready()).collect(), "ms"),
        goal: Some(Goal::AtMost(30.0)),
    });
    rows.push(Row {
        work: "size of the program".to_owned(),
        references: Vec::new(),
        monitor: Figure::new(vec![program_megabytes()], "MB"),
        goal: None,
    });
    rows
}

fn fleet_rows(
    settings: &Settings,
    devices: usize,
    memory_goal: Goal,
    start_goal: Option<Goal>,
) -> [Row; 2] {
    let (mut memory, mut start, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds() {
        let (megabytes, seconds) = fleet(devices);
        memory.push(megabytes);
        start.push(seconds);
        alone.push(subscribe_alone(devices));
    }
    [
        Row {
            work: format!("resident memory, {devices} devices that have all been heard"),
            references: Vec::new(),
            monitor: Figure::new(memory, "MB"),
            goal: Some(memory_goal),
        },
        Row {
            work: format!("start to subscribed, {devices} devices"),
            references: vec![("the subscriptions alone", Figure::new(alone, "s"))],
            monitor: Figure::new(start, "s"),
            goal: start_goal,
        },
    ]
}

/// Megabytes, and seconds from the start to the first status, which follows the last SUBACK.
#[allow(clippy::cast_precision_loss, reason = "memory is below 2^52 bytes")]
fn fleet(devices: usize) -> (f64, f64) {
    let broker = Broker::start(20);
    let config = fleet::config(devices, broker.port);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let began = Instant::now();
    let monitor = Monitor::start(broker.directory(), &config, &[]);
    while !observer.next().topic.starts_with("home/monitoring/status/") {}
    let started = began.elapsed();
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    let topics: Vec<String> = (0..devices).map(fleet::watched_topic).collect();
    publisher.flood(&topics, devices, false);
    publisher.publish(BARRIER_HELLO, b"", None);
    observer.until(BARRIER_COUNT);
    // Memory at rest: what a start needs for a moment is given back within seconds.
    std::thread::sleep(REST);
    let megabytes = process::resident(monitor.child.id()) as f64 / 1e6;
    monitor.stop();
    (megabytes, started.as_secs_f64())
}

/// Seconds that the broker takes for what the watch connection subscribes to, from a client that
/// has nothing else to do.
fn subscribe_alone(devices: usize) -> f64 {
    let broker = Broker::start(20);
    let filters: Vec<String> = (0..devices)
        .flat_map(|device| [format!("b/d{device}/sensors/#"), format!("b/d{device}/hello")])
        .collect();
    let mut client = Client::connect(broker.port, "alone");
    let began = Instant::now();
    client.subscribe_all(&filters);
    began.elapsed().as_secs_f64()
}

/// Milliseconds from the start to READY=1; no broker is needed for it.
fn ready() -> f64 {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a new name");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let config = include_str!("../../config.toml");
    let began = Instant::now();
    let monitor = Monitor::start(directory.path(), config, &[]);
    let mut word = [0; 4_096];
    loop {
        let count = socket.recv(&mut word).expect("the monitor gets ready");
        if word[..count].starts_with(b"READY=1") {
            break;
        }
    }
    let elapsed = began.elapsed();
    monitor.stop();
    elapsed.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "a program is below 2^52 bytes")]
fn program_megabytes() -> f64 {
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_iotmonitor")).expect("it was built");
    program.len() as f64 / 1e6
}
