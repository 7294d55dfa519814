//! What each does when a device, the broker or itself fails, as seen from outside.

use super::scene::{Scene, Speaking};
use super::subjects::{Device, Subject};
use crate::client::Client;
use crate::table::Figure;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const DEVICES: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an expiry is waited for after its deadline: the checks of some are seconds apart, and the
/// start of some takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long devices speak before and after something happens.
const WHILE: Duration = Duration::from_secs(2);
/// Longer than any time-out, so that a subject that only compares times finds all devices silent.
const HELD: Duration = Duration::from_secs(6);
/// A state of the first device that the broker does not keep, and one that it does.
const STATE: &str = "b/d1/actuators/lamp";
const RETAINED: &str = "b/d1/actuators/mode";
const HELLO: &str = "b/d1/hello";
/// Hellos until a state counts as not restored, the time for each, and how many are timed.
const TRIES: usize = 6;
const TRY: Duration = Duration::from_millis(500);
const TIMED: usize = 20;

/// The rows of the table, without the subjects' names.
pub const ROWS: [&str; 10] = [
    "devices found that fell silent",
    "a device that was never heard",
    "false alarms, held up for 6 s while the devices spoke",
    "false alarms, the broker away for 6 s",
    "its end by `kill -9` is published",
    "devices found that fell silent while it was away",
    "an alarm from before the kill",
    "a state restored after a hello, which takes",
    "a state restored after `kill -9` and a start",
    "a state restored then that the broker retains",
];

/// What was seen of a subject, in the order of [`ROWS`].
pub fn observe(subject: &Subject) -> [String; ROWS.len()] {
    let mut named: Vec<Device> =
        (0..DEVICES).map(|device| (format!("d{device}"), TIMEOUT.as_secs())).collect();
    named.push(("never".to_owned(), TIMEOUT.as_secs()));
    let broker = crate::broker::Broker::start(20);
    let mut never = Client::connect(broker.port, "never");
    never.subscribe("home/monitoring/expire/never", None);
    let speaking = Speaking::begin(broker.port, 0..DEVICES);
    let mut scene = Scene::begin_at(broker, subject, &named, &[]);
    let deadline = Instant::now() + TIMEOUT + PATIENCE;
    let never = never.until_deadline("home/monitoring/expire/never", deadline).is_some();
    drop(speaking);
    let held = held_up(&scene);
    let outage = broker_away(&mut scene);
    scene.until_watching();
    let restored = restored_before(&mut scene);
    let silent = fall_silent(&scene);
    let Killed { announced, found, again, lamp, mode } = killed(&mut scene);
    let of_all = |count: usize| format!("{count} of {DEVICES}");
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    [
        of_all(silent),
        if never { "found" } else { "not found" }.to_owned(),
        of_all(held),
        of_all(outage),
        yes(announced),
        format!("{found} of {}", DEVICES - 1),
        if again { "is raised again" } else { "is not raised again" }.to_owned(),
        restored.map_or("none".to_owned(), |figure| figure.to_string()),
        yes(lamp),
        yes(mode),
    ]
}

/// Devices spoken of although they were heard as soon as they could be.
fn held_up(scene: &Scene) -> usize {
    let speaking = Speaking::begin(scene.broker.port, 0..DEVICES);
    thread::sleep(WHILE);
    let mut observer = observer(scene);
    scene.running.hold();
    thread::sleep(HELD);
    scene.running.release();
    thread::sleep(WHILE);
    drop(speaking);
    named_until_now(&mut observer).len()
}

fn broker_away(scene: &mut Scene) -> usize {
    let speaking = Speaking::begin(scene.broker.port, 0..DEVICES);
    thread::sleep(WHILE);
    drop(speaking);
    scene.outage(HELD);
    let mut observer = observer(scene);
    let speaking = Speaking::begin(scene.broker.port, 0..DEVICES);
    thread::sleep(TIMEOUT + PATIENCE);
    drop(speaking);
    named_until_now(&mut observer).len()
}

/// Milliseconds from a hello to the state, if it comes.
fn restored_before(scene: &mut Scene) -> Option<Figure> {
    let mut device = Client::connect(scene.broker.port, "d1");
    device.subscribe(STATE, None);
    scene.publisher.publish_retained(RETAINED, b"auto");
    scene.publisher.publish(STATE, b"on", Some(1));
    device.until(STATE);
    // The first hello may overtake the state.
    if !is_restored(scene, &mut device, STATE) {
        return None;
    }
    let mut timed = || {
        let said = Instant::now();
        scene.publisher.publish(HELLO, b"1", None);
        let message = device.until_deadline(STATE, said + PATIENCE);
        message.map(|_| said.elapsed().as_secs_f64() * 1e3)
    };
    let took: Option<Vec<f64>> = (0..TIMED).map(|_| timed()).collect();
    Some(Figure::new(took.expect("what was restored once is restored again"), "ms"))
}

fn is_restored(scene: &mut Scene, device: &mut Client, topic: &str) -> bool {
    (0..TRIES).any(|_| {
        scene.publisher.publish(HELLO, b"1", None);
        device.until_deadline(topic, Instant::now() + TRY).is_some()
    })
}

/// How many devices are found that fall silent.
fn fall_silent(scene: &Scene) -> usize {
    let speaking = Speaking::begin(scene.broker.port, 0..DEVICES);
    thread::sleep(WHILE);
    let mut observer = observer(scene);
    drop(speaking);
    expired_within(&mut observer, TIMEOUT + PATIENCE, DEVICES).len()
}

/// After `kill -9` and a start.
struct Killed {
    announced: bool,
    found: usize,
    again: bool,
    lamp: bool,
    mode: bool,
}

fn killed(scene: &mut Scene) -> Killed {
    // The first device stays silent: its alarm is from before.
    let speaking = Speaking::begin(scene.broker.port, 1..DEVICES);
    thread::sleep(WHILE);
    let mut observer = observer(scene);
    drop(speaking);
    scene.running.kill_first();
    let until = Instant::now() + WHILE;
    let announced = std::iter::from_fn(|| observer.next_until(until))
        .any(|message| message.payload == "offline");
    scene.start_again();
    let expired = expired_within(&mut observer, TIMEOUT + 2 * PATIENCE, DEVICES);
    let found = expired.iter().filter(|device| **device != "d0").count();
    scene.until_watching();
    let mut device = Client::connect(scene.broker.port, "d1");
    device.subscribe("b/d1/actuators/+", None);
    device.until(RETAINED);
    let lamp = is_restored(scene, &mut device, STATE);
    let mode = is_restored(scene, &mut device, RETAINED);
    Killed { announced, found, again: expired.contains("d0"), lamp, mode }
}

fn observer(scene: &Scene) -> Client {
    let mut observer = Client::connect(scene.broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    // What the broker retains is no news.
    observer.ping();
    observer
}

/// Devices whose silence or return was published.
fn named_until_now(observer: &mut Client) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let until = Instant::now() + Duration::from_secs(1);
    while let Some(message) = observer.next_until(until) {
        let topic = message.topic.strip_prefix("home/monitoring/").unwrap_or_default();
        if let Some(("expire" | "recover", name)) = topic.split_once('/')
            && name.starts_with('d')
        {
            named.insert(name.to_owned());
        }
    }
    named
}

/// Devices whose silence is published, until it is so of so many.
fn expired_within(observer: &mut Client, within: Duration, most: usize) -> BTreeSet<String> {
    let until = Instant::now() + within;
    let mut expired = BTreeSet::new();
    while expired.len() < most
        && let Some(message) = observer.next_until(until)
    {
        if let Some(name) = message.topic.strip_prefix("home/monitoring/expire/d") {
            expired.insert(format!("d{name}"));
        }
    }
    expired
}
