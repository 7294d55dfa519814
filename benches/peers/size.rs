//! How large it is, how fast it starts, and what it costs while nothing happens.

use crate::broker::{Broker, free_port};
use crate::client::Client;
use crate::common::fleet::{self, BARRIER_COUNT, BARRIER_HELLO, MQTT_5};
use crate::common::monitor::Monitor;
use crate::table::{Figure, Goal, Row};
use crate::{Settings, process, references, until_watching};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Messages after which the memory is looked at again.
const FLOOD: usize = 200_000;

/// So long after everything was heard.
const REST: Duration = Duration::from_secs(8);

/// Within this time, the monitor has saved what was heard, and has returned memory.
const LONG_REST: Duration = Duration::from_secs(65);
const PATIENCE: Duration = Duration::from_secs(30);

/// Goals for a fleet.
struct Wanted {
    devices: usize,
    /// Megabytes.
    memory: f64,
    /// Seconds.
    start: Option<f64>,
    /// Seconds of processor time a minute.
    idle: Option<f64>,
}

const FLEETS: [Wanted; 3] = [
    Wanted { devices: 1_000, memory: 8.0, start: None, idle: Some(0.05) },
    Wanted { devices: 10_000, memory: 12.0, start: Some(0.25), idle: Some(0.1) },
    Wanted { devices: 100_000, memory: 45.0, start: Some(1.0), idle: None },
];

pub fn rows(settings: &Settings) -> Vec<Row> {
    let fleets = FLEETS.iter().filter(|wanted| settings.takes(wanted.devices));
    let mut rows: Vec<Row> = fleets.flat_map(|wanted| fleet_rows(settings, wanted)).collect();
    let single = |work: &str, values, unit, goal| Row {
        work: work.to_owned(),
        references: Vec::new(),
        monitor: Figure::new(values, unit),
        goal,
    };
    let ready = (0..settings.rounds()).map(|_| example_ready()).collect();
    rows.push(single(
        "start to READY=1, the example configuration",
        ready,
        "ms",
        Some(Goal::AtMost(30.0)),
    ));
    let program = Path::new(env!("CARGO_BIN_EXE_iotmonitor"));
    rows.push(single("size of the program", vec![megabytes(program)], "MB", None));
    if let Some(package) = package() {
        rows.push(single("size of the Debian package", vec![package], "MB", None));
    }
    rows
}

fn fleet_rows(settings: &Settings, wanted: &Wanted) -> [Row; 4] {
    let devices = wanted.devices;
    let rounds = settings.rounds_of(devices);
    let taken: Vec<Taken> = (0..rounds).map(|round| fleet(settings, devices, round == 0)).collect();
    let watching = (0..rounds).map(|_| subscribe_alone(&[references::watch_filters(devices)]));
    let both = (0..rounds)
        .map(|_| subscribe_alone(&[references::watch_filters(devices), state_filters(devices)]));
    let watched: Vec<(f64, OfBroker)> = (0..rounds)
        .map(|_| {
            let broker = Broker::start(20);
            let config = fleet::watched_config(devices, broker.port);
            let (monitor, _, start) = start(&broker, &config);
            let taken = OfBroker::now(&broker);
            monitor.stop();
            (start, taken)
        })
        .collect();
    let part = |value: fn(&(f64, OfBroker)) -> f64, unit| {
        Figure::new(watched.iter().map(value).collect(), unit)
    };
    let figure =
        |value: fn(&Taken) -> f64, unit| Figure::new(taken.iter().map(value).collect(), unit);
    [
        Row {
            work: format!("resident memory after a flood, {devices} devices"),
            references: vec![
                ("of it not the program's files", figure(|taken| taken.flooded.own, "MB")),
                ("with each device heard once", figure(|taken| taken.heard.all, "MB")),
                ("with the status page open", figure(|taken| taken.shown.all, "MB")),
            ],
            monitor: figure(|taken| taken.flooded.all, "MB"),
            goal: Some(Goal::AtMost(wanted.memory)),
        },
        Row {
            work: format!("start to subscribed, {devices} devices"),
            references: vec![
                ("the same subscriptions alone", Figure::new(both.collect(), "s")),
                ("those of one connection", Figure::new(watching.collect(), "s")),
                ("the broker's memory afterwards", figure(|taken| taken.broker.memory, "MB")),
                ("its processor time", figure(|taken| taken.broker.cpu, "s")),
            ],
            monitor: figure(|taken| taken.start, "s"),
            goal: wanted.start.map(Goal::AtMost),
        },
        Row {
            work: format!("start to subscribed, {devices} devices with watchTopics alone"),
            references: vec![
                ("the broker's memory afterwards", part(|it| it.1.memory, "MB")),
                ("its processor time", part(|it| it.1.cpu, "s")),
            ],
            monitor: part(|it| it.0, "s"),
            goal: wanted.start.map(Goal::AtMost),
        },
        Row {
            work: format!("idle processor time a minute, {devices} devices"),
            references: Vec::new(),
            monitor: Figure::new(taken.iter().filter_map(|taken| taken.idle).collect(), "s"),
            goal: wanted.idle.map(Goal::AtMost),
        },
    ]
}

/// What a fleet took.
struct Taken {
    /// After each device was heard once, after a flood, and with the status page open besides.
    heard: Memory,
    flooded: Memory,
    shown: Memory,
    /// Seconds from the start to the first status, which follows the last SUBACK.
    start: f64,
    broker: OfBroker,
    /// Seconds of processor time a minute.
    idle: Option<f64>,
}

/// Resident megabytes.
struct Memory {
    all: f64,
    /// The part that is not mapped from files.
    own: f64,
}

impl Memory {
    /// Memory at rest: what a start or a flood needs for a moment is given back.
    fn at_rest(pid: u32, rest: Duration) -> Self {
        std::thread::sleep(rest);
        Self { all: process::resident(pid), own: process::resident_but_for_files(pid) }
    }
}

/// What the broker has taken by the time of the last subscription.
struct OfBroker {
    /// Megabytes.
    memory: f64,
    /// Seconds of processor time.
    cpu: f64,
}

impl OfBroker {
    fn now(broker: &Broker) -> Self {
        let pid = broker.pid();
        Self { memory: process::resident(pid), cpu: process::cpu(pid).as_secs_f64() }
    }
}

fn fleet(settings: &Settings, devices: usize, idle: bool) -> Taken {
    let broker = Broker::start(20);
    let page = free_port();
    let config = format!("{}\n[http]\nport = {page}\n", fleet::config(devices, broker.port));
    let (monitor, mut observer, start) = start(&broker, &config);
    let of_broker = OfBroker::now(&broker);
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    let topics: Vec<String> = (0..devices).map(fleet::watched_topic).collect();
    let mut flood = |messages| {
        publisher.flood(&topics, messages, false);
        publisher.publish(BARRIER_HELLO, b"", None);
        observer.until(BARRIER_COUNT);
    };
    let pid = monitor.child.id();
    flood(devices);
    let heard = Memory::at_rest(pid, REST);
    let idle = idle.then(|| idle_seconds(settings, pid));
    flood(FLOOD);
    let flooded = Memory::at_rest(pid, LONG_REST);
    let page = open_page(page);
    let shown = Memory::at_rest(pid, LONG_REST);
    drop(page);
    monitor.stop();
    Taken { heard, flooded, shown, start, broker: of_broker, idle }
}

/// Asks for what the status page asks for, and leaves its stream open.
fn open_page(port: u16) -> TcpStream {
    let paths = ["/", "/api/v1/status", "/api/v1/alerts", "/api/v1/devices", "/api/v1/events"];
    let ask = |path| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the page is served");
        let end = if path == "/api/v1/events" { "keep-alive" } else { "close" };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {end}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the page is served");
        stream
    };
    let [others @ .., events] = paths;
    for path in others {
        std::io::copy(&mut ask(path), &mut std::io::sink()).expect("the answer ends");
    }
    let mut stream = ask(events);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("the stream begins");
    assert_eq!(&answer, b"HTTP/1.1 200");
    stream
}

/// Starts a monitor, and gives the seconds until its first status, with the client that received it.
fn start(broker: &Broker, config: &str) -> (Monitor, Client, f64) {
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let began = Instant::now();
    let monitor = Monitor::start(broker.directory(), config, &[]);
    while !observer.next().topic.starts_with("home/monitoring/status/") {}
    (monitor, observer, began.elapsed().as_secs_f64())
}

/// Seconds of processor time a minute, from a third of one.
fn idle_seconds(settings: &Settings, pid: u32) -> f64 {
    let (part, parts) =
        if settings.quick { (Duration::from_secs(6), 10) } else { (REST * 5 / 2, 3) };
    let before = process::cpu(pid);
    std::thread::sleep(part);
    ((process::cpu(pid) - before) * parts).as_secs_f64()
}

/// What the state connection of so many devices subscribes to.
fn state_filters(devices: usize) -> Vec<String> {
    (0..devices).map(|device| format!("b/d{device}/actuators/#")).collect()
}

/// Seconds that the broker takes for subscriptions, from clients that have nothing else to do, one
/// for each list, at the same time.
fn subscribe_alone(lists: &[Vec<String>]) -> f64 {
    let broker = Broker::start(20);
    let mut clients: Vec<Client> = (0..lists.len())
        .map(|number| Client::connect_at(broker.port, &format!("alone{number}"), MQTT_5))
        .collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (client, filters) in clients.iter_mut().zip(lists) {
            scope.spawn(|| client.subscribe_all(filters, Some(MQTT_5)));
        }
    });
    began.elapsed().as_secs_f64()
}

/// No broker is needed for it.
fn example_ready() -> f64 {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let config = include_str!("../../config.toml");
    let (monitor, milliseconds) = start_until_ready(directory.path(), config);
    monitor.stop();
    milliseconds
}

/// Starts a monitor, and gives the milliseconds until it said READY=1.
pub fn start_until_ready(directory: &Path, config: &str) -> (Monitor, f64) {
    let path = directory.join("notify");
    // There is one where this is not the first start.
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(path).expect("a new name");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let began = Instant::now();
    let monitor = Monitor::start(directory, config, &[]);
    let mut word = [0; 4_096];
    loop {
        let count = socket.recv(&mut word).expect("the monitor gets ready");
        if word[..count].starts_with(b"READY=1") {
            return (monitor, began.elapsed().as_secs_f64() * 1e3);
        }
    }
}

/// The newest package that `make deb` has made; `None` where it has made none.
fn package() -> Option<f64> {
    let made = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/debian")).ok()?;
    let packages = made.flatten().map(|entry| entry.path());
    let packages = packages.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    packages.max_by_key(age).map(|path| megabytes(&path))
}

#[allow(clippy::cast_precision_loss, reason = "files are below 2^52 bytes")]
fn megabytes(file: &Path) -> f64 {
    let size = fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    size.len() as f64 / 1e6
}
