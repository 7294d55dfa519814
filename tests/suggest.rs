//! `iotmonitor suggest`: a monitor that has watched for weeks, on a broker, a bus and a store of its
//! own.

#[path = "common/broker.rs"]
#[expect(dead_code, reason = "other tests stop and restart their brokers")]
mod broker;

use broker::Broker;
use iotmonitor::pulse::Pulse;
use iotmonitor::store::{self, StoreCommand, StoreSettings};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::snapshot::{DeviceRecord, Heartbeat};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc::channel;

const PATIENCE: Duration = Duration::from_secs(60);

/// Three weeks of watched time, in seconds.
const WATCHED: u64 = 21 * 86_400;

/// Each device with what was learned of it: the longest silence in milliseconds, the one before,
/// when that began, the number of silences, and how many lasted 1 to 2 s, 2 to 4 s, ….
const LEARNED: [(&str, &str); 4] = [
    ("boiler", "[62000,0,1,30240,[0,0,0,0,1,250,0,0,0,0,0,0,0,0,0,0]]"),
    ("door", "[41400000,0,1,412,[0,0,0,0,0,0,0,5,9,30,50,60,40,12,9,3]]"),
    ("esp04", "[14200,0,1,181440,[0,0,2,253,0,0,0,0,0,0,0,0,0,0,0,0]]"),
    ("meter", "[305000,0,1,6048,[0,0,0,0,0,0,0,3,240,0,0,0,0,0,0,0]]"),
];

const SECTIONS: &str = "[device_esp04]\nwatchTopics = \"home/esp04/#\"\nwatchTimeOut = 60\n\
    [device_boiler]\nwatchTopics = \"home/boiler/#\"\nwatchTimeOut = 60\n\
    [device_meter]\nwatchTopics = \"home/meter/#\"\nwatchTimeOut = \"auto\"\n\
    [device_door]\nwatchTopics = \"home/door/#\"\nwatchTimeOut = \"7d\"\n\
    [device_new]\nwatchTopics = \"home/new/#\"\nwatchTimeOut = \"auto\"\n";

/// What is printed then.
const TABLE: &str = r#"NAME    TIMEOUT        USUAL      RARE         LONGEST      INTERVALS  PROPOSED
boiler  1 min          1 min 2 s  1 min 2 s    1 min 2 s    30240      "5min"    too short: it was silent for 1 min 2 s
door    7 d            1 h 8 min  11 h 30 min  11 h 30 min  412        "2d"      fits
esp04   1 min          14 s       14 s         14 s         181440     "1min"    fits
meter   auto, 20 min   5 min 5 s  5 min 5 s    5 min 5 s    6048       "20min"   follows by itself
new     auto, 1 d 1 h  -          -            -            0          -         too little is known: that takes a day, and 20 intervals
"#;

struct House {
    directory: TempDir,
    bus: Child,
    address: String,
    monitor: Child,
    broker: Broker,
}

impl House {
    fn running() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::start();
        seed(&directory.path().join("states"));
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .arg("--address=unix:tmpdir=/tmp")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let config = directory.path().join("config.toml");
        let server = format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{}\"\n", broker.port());
        fs::write(&config, server + SECTIONS).unwrap();
        let monitor = command(&directory, &address)
            .args(["run", "--config", config.to_str().unwrap()])
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { directory, bus, address, monitor, broker }
    }

    fn suggest(&self, arguments: &[&str]) -> Output {
        command(&self.directory, &self.address).arg("suggest").args(arguments).output().unwrap()
    }

    /// Waits for an answer that the condition likes.
    fn await_suggestions(&self, condition: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let output = self.suggest(&[]);
            let text = String::from_utf8(output.stdout).unwrap();
            if condition(&text) {
                return text;
            }
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(began.elapsed() < PATIENCE, "{text}{errors}{}", log());
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for process in [&mut self.monitor, &mut self.bus] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn command(directory: &TempDir, address: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_iotmonitor"));
    command
        .arg("--user")
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .env("STATE_DIRECTORY", directory.path().join("states"))
        .env("RUNTIME_DIRECTORY", directory.path().join("runtime"));
    command
}

/// Has the store keep what a monitor has learned in weeks.
fn seed(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let (sender, mut events) = channel(100);
    let store = store::spawn(StoreSettings::new(directory), sender, Pulse::new()).unwrap();
    let record = |(name, rhythm): (&str, &str)| {
        let record = format!(
            r#"{{"name":"{name}","last_contact":{{"secs":1700000000,"nanos":0}},
            "silent_since":{{"secs":{WATCHED},"nanos":0}},"graces":0,"rhythm":{rhythm}}}"#
        );
        serde_json::from_str::<DeviceRecord>(&record).unwrap()
    };
    let changed = LEARNED.map(record).to_vec();
    let heartbeat = Heartbeat { watched: Duration::from_secs(WATCHED), ..Heartbeat::default() };
    store
        .send(StoreCommand::SaveDevices {
            heartbeat: Box::new(heartbeat),
            changed,
            gone: Vec::new(),
        })
        .unwrap();
    while events.blocking_recv().unwrap() != Event::DevicesSaved {}
    assert!(store.close(PATIENCE));
}

#[test]
fn timeouts_are_judged_by_what_was_learned_and_automatic_ones_follow_it() {
    let house = House::running();
    let text = house.await_suggestions(|text| text.contains("auto, 20 min"));
    println!("{text}");
    assert_eq!(text, TABLE);
    let json: serde_json::Value =
        serde_json::from_slice(&house.suggest(&["meter", "--json"]).stdout).unwrap();
    assert_eq!((&json[0]["auto"], &json[0]["proposed"]), (&true.into(), &1200.0.into()));
    let unknown = house.suggest(&["metre"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean `meter`?"));
    // What comes from now on is learned too: a contact ends the silence since the start.
    let ups = ["-t", "home/monitoring/up", "-C", "3", "-p", &house.broker.port().to_string()];
    let passed = Command::new("mosquitto_sub").args(ups).stdout(Stdio::null()).status().unwrap();
    assert!(passed.success());
    house.broker.publish_bytes("home/esp04/x", false, b"1");
    house.await_suggestions(|text| text.contains(" 181441 "));
}
