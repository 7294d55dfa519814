//! What the store writes to a disk, as an SD card would feel it: a house of 50 devices, with the
//! store on an ext4 of its own. The statistics of the block device count every sector, those of the
//! file system's journal among them. This needs root, for a loop device.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet;
use crate::common::monitor::Monitor;
use crate::table::{Figure, Row};
use crate::{Settings, until_watching};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const DEVICES: usize = 50;

/// States that change in a minute, in the whole house.
const STATES: u32 = 20;

/// Each device is heard again after one to two minutes.
const HEARD_AFTER: std::ops::Range<f64> = 60.0..120.0;

/// Before the counting begins, every device was heard and the store has its first pages.
const WARM_UP: Duration = Duration::from_secs(120);

/// The house is the same each time.
const SEED: u64 = 20;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: f64 = 3600.0;

pub fn rows(settings: &Settings) -> Vec<Row> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("what is written to a disk is not measured: a loop device needs root");
        return Vec::new();
    }
    let counted = MINUTE * if settings.quick { 1 } else { 8 };
    let broker = Broker::start(20);
    let disk = Disk::mount(broker.directory());
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let monitor = Monitor::start(broker.directory(), &house(broker.port), &[]);
    until_watching(&mut observer, DEVICES);
    let mut publisher = Client::connect(broker.port, "house");
    let messages = schedule(WARM_UP + counted);
    let (before, after) =
        messages.split_at(messages.partition_point(|message| message.at < WARM_UP));
    let began = Instant::now();
    publish(&mut publisher, began, before);
    let first = disk.written();
    publish(&mut publisher, began, after);
    let bytes = disk.written() - first;
    monitor.stop();
    vec![Row {
        work: format!("written to the disk, {DEVICES} devices and {STATES} states a minute"),
        references: Vec::new(),
        monitor: Figure::new(vec![an_hour(bytes, counted)], "MB/h"),
        goal: None,
    }]
}

#[allow(clippy::cast_precision_loss, reason = "a disk is smaller than 2^52 bytes")]
fn an_hour(bytes: u64, counted: Duration) -> f64 {
    bytes as f64 / 1e6 * HOUR / counted.as_secs_f64()
}

/// The configuration, for a broker on this port. A device that misses some of its messages expires.
fn house(port: u16) -> String {
    let mut text = format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\n");
    for number in 0..DEVICES {
        text += &format!(
            "\n[device_d{number}]\nwatchTopics = \"b/d{number}/sensors/#\"\nwatchTimeOut = 600\n\
             helloTopic = \"b/d{number}/hello\"\nstateTopics = \"b/d{number}/actuators/#\"\n"
        );
    }
    text
}

/// A message of a device, `at` so long after the begin.
struct Message {
    at: Duration,
    topic: String,
    payload: String,
}

/// Everything that the house says until then, in order.
fn schedule(until: Duration) -> Vec<Message> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut messages = Vec::new();
    for device in 0..DEVICES {
        let mut at = random.f64() * HEARD_AFTER.end;
        while at < until.as_secs_f64() {
            messages.push(Message {
                at: Duration::from_secs_f64(at),
                topic: fleet::watched_topic(device),
                payload: format!("{:.1}", 20.0 + random.f64()),
            });
            at += HEARD_AFTER.start + random.f64() * (HEARD_AFTER.end - HEARD_AFTER.start);
        }
    }
    let changes = until.as_secs() * u64::from(STATES) / MINUTE.as_secs();
    messages.extend((0..changes).map(|change| Message {
        at: until.mul_f64(random.f64()),
        topic: fleet::state_topic(random.usize(..DEVICES)),
        payload: format!("change {change}"),
    }));
    messages.sort_by_key(|message| message.at);
    messages
}

fn publish(publisher: &mut Client, began: Instant, messages: &[Message]) {
    for message in messages {
        thread::sleep((began + message.at).saturating_duration_since(Instant::now()));
        publisher.publish(&message.topic, message.payload.as_bytes(), Some(1));
    }
}

/// A file with ext4 as a block device, mounted where the store will be; gone on drop.
struct Disk {
    place: PathBuf,
    device: String,
}

impl Disk {
    fn mount(directory: &Path) -> Self {
        let (image, place) = (directory.join("disk"), directory.join("store"));
        fs::create_dir(&place).expect("the directory can be written to");
        let (image, at) = (image.display().to_string(), place.display().to_string());
        run("truncate", &["--size=512M", &image]);
        // Otherwise Linux would write the tables of the file system meanwhile.
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image]);
        let device = run("losetup", &["--find", "--show", &image]);
        run("mount", &["-t", "ext4", &device, &at]);
        Self { place, device }
    }

    /// Bytes written since it is there, after what the system keeps back is written as well.
    fn written(&self) -> u64 {
        run("sync", &["--file-system", &self.place.display().to_string()]);
        let name = self.device.trim_start_matches("/dev/");
        let path = format!("/sys/block/{name}/stat");
        let text = fs::read_to_string(&path).expect("Linux has statistics of each block device");
        // The seventh is the number of sectors of 512 bytes (Documentation/block/stat.rst).
        let sectors = text.split_whitespace().nth(6).and_then(|number| number.parse::<u64>().ok());
        sectors.expect("it has at least eleven numbers") * 512
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Where these fail, there is nothing more to be done.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// Runs a command to its end, and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed: {words}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
