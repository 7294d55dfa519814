//! Simulated devices at the broker, of which each node has some.
//!
//! | Kind | Number | What they do | What is to come of it |
//! |---|---|---|---|
//! | steady | one in each second shard | beat all the time | no alarm |
//! | fickle | one in each of the others | fall silent when something breaks | an alarm |
//! | asking | one in each shard | change their states and say hello while something is broken | each gets its states back, from one node |

use super::harness::{Publisher, Subscriber, enter_network};
use super::network::{BROKER, Network};
use super::ticks::boot_clock;
use iotmonitor_core::model::cluster::shard::shard_of;
use iotmonitor_core::model::cluster::{Item, SHARDS};
use iotmonitor_core::model::device_name::DeviceName;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// The clientid of all of them.
pub const CLIENT: &str = "devices";

/// The timeout of those that beat, in seconds.
const TIMEOUT: u64 = 5;
const BEAT_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The states of those that ask, below `home/NAME/set`, and whether they are retained. The last one
/// changes while something is broken.
const STATES: [(&str, bool); 3] = [("a", false), ("b", true), ("c", false)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Steady,
    Fickle,
    Asking,
}

/// One device.
#[derive(Debug, Clone)]
pub struct Device {
    pub kind: Kind,
    pub name: String,
    pub shard: Item,
}

impl Device {
    fn new(kind: Kind, shard: Item) -> Self {
        let word = match kind {
            Kind::Steady => "steady",
            Kind::Fickle => "fickle",
            Kind::Asking => "asking",
        };
        let is_there = |name: &String| {
            shard_of(&DeviceName::new(name.as_str()).expect("it may be called so")) == shard
        };
        let name = (0..).map(|number| format!("{word}-{number}")).find(is_there);
        Self { kind, name: name.expect("there is one for each shard"), shard }
    }

    /// All of them.
    pub fn all() -> Vec<Self> {
        let of_shard = |number: u8| {
            let beating = if number.is_multiple_of(2) { Kind::Steady } else { Kind::Fickle };
            [beating, Kind::Asking].map(|kind| Self::new(kind, Item::Shard(number)))
        };
        (0..SHARDS).flat_map(of_shard).collect()
    }

    fn beat(&self) -> String {
        format!("home/{}/beat", self.name)
    }

    pub fn hello(&self) -> String {
        format!("home/{}/hello", self.name)
    }

    pub fn states(&self) -> [String; 3] {
        STATES.map(|(state, _)| format!("home/{}/set/{state}", self.name))
    }

    /// The state that changes while something is broken.
    pub fn changing_state(&self) -> String {
        let [.., state] = self.states();
        state
    }
}

/// Their sections.
pub fn sections() -> String {
    let mut text = String::new();
    for device in Device::all() {
        let Device { kind, name, .. } = &device;
        let _ = match kind {
            Kind::Steady | Kind::Fickle => {
                let beat = device.beat();
                write!(
                    text,
                    "\n[device_{name}]\nwatchTopics = \"{beat}\"\nwatchTimeOut = {TIMEOUT}\n"
                )
            }
            Kind::Asking => {
                let hello = device.hello();
                write!(
                    text,
                    "\n[device_{name}]\nhelloTopic = \"{hello}\"\nstateTopics = \"home/{name}/set/#\"\n"
                )
            }
        };
    }
    text
}

/// A publication at QoS 1.
#[derive(Clone)]
struct Deed {
    at: Duration,
    topic: String,
    payload: String,
    retain: bool,
}

#[derive(Default)]
struct Life {
    /// The fickle ones are silent.
    is_silent: bool,
    is_over: bool,
    deeds: VecDeque<Deed>,
    /// The last state on each topic that the broker has taken.
    states: BTreeMap<String, String>,
}

/// What is said of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub state: String,
    pub node: String,
}

/// All of them, and what the broker passes on.
pub struct Devices {
    all: Vec<Device>,
    life: Arc<Mutex<Life>>,
    thread: Option<JoinHandle<()>>,
    subscriber: Subscriber,
    read: usize,
    words: BTreeMap<String, Word>,
    /// The last message on each topic of a state.
    last: BTreeMap<String, String>,
    count: u64,
}

impl Devices {
    /// Begins to beat.
    pub fn start(network: &Network) -> Self {
        let all = Device::all();
        let filters = ["home/monitoring/status/+", "home/+/set/+"];
        let subscriber = Subscriber::start(|argv| network.command(argv), &["-h", BROKER], &filters);
        let life = Arc::new(Mutex::new(Life::default()));
        let (pid, shared, devices) = (network.pid(), Arc::clone(&life), all.clone());
        let thread = std::thread::spawn(move || {
            enter_network(pid).expect("root may go there");
            let stream = TcpStream::connect((BROKER, 1883)).expect("the broker listens");
            let publisher = Publisher::over(stream, CLIENT).expect("the broker answers");
            live(publisher, &shared, &devices);
        });
        let (words, last) = (BTreeMap::new(), BTreeMap::new());
        Self { all, life, thread: Some(thread), subscriber, read: 0, words, last, count: 0 }
    }

    pub fn all(&self) -> &[Device] {
        &self.all
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Device> {
        self.all.iter().filter(move |device| device.kind == kind)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().expect("the broker does not fail")
    }

    /// Changes all states.
    pub fn change_states(&mut self) {
        let deeds: Vec<Deed> = self
            .of(Kind::Asking)
            .flat_map(|device| {
                device.states().into_iter().zip(STATES).map(|(topic, (_, retain))| {
                    let payload = self.count.to_string();
                    Deed { at: Duration::ZERO, topic, payload, retain }
                })
            })
            .collect();
        self.count += 1;
        self.life().deeds.extend(deeds);
    }

    /// The fickle ones fall silent, and those that ask say hello one after the other within this
    /// time. Those of the shards that are hit do so at even distances, and the others too. Each
    /// changes a state at another time.
    pub fn act(&mut self, within: Duration, is_hit: impl Fn(&Item) -> bool) {
        let now = boot_clock();
        let (hit, others): (Vec<_>, Vec<_>) =
            self.of(Kind::Asking).partition(|device| is_hit(&device.shard));
        let mut deeds = Vec::new();
        for group in [hit, others] {
            let count = u32::try_from(group.len()).expect("there are few");
            for (place, device) in (0..).zip(group) {
                let at = |place: u32| now + within * (place % count) / count;
                let hello = (device.hello(), "hello".to_owned(), at(place));
                let state =
                    (device.changing_state(), self.count.to_string(), at(place + count / 2));
                deeds.extend([hello, state].map(|(topic, payload, at)| Deed {
                    at,
                    topic,
                    payload,
                    retain: false,
                }));
            }
        }
        self.count += 1;
        deeds.sort_by_key(|deed| deed.at);
        let mut life = self.life();
        life.is_silent = true;
        life.deeds.extend(deeds);
    }

    /// All beat again.
    pub fn speak(&mut self) {
        self.life().is_silent = false;
    }

    /// Whether everything has been done that was to be done.
    pub fn have_acted(&self) -> bool {
        self.life().deeds.is_empty()
    }

    /// The last state on each topic that the broker has taken.
    pub fn states(&self) -> BTreeMap<String, String> {
        self.life().states.clone()
    }

    fn read(&mut self) {
        for message in self.subscriber.since(self.read) {
            self.read += 1;
            match message.topic.strip_prefix("home/monitoring/status/") {
                Some(name) => {
                    let json: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
                    let word = Word { state: text("state"), node: text("node") };
                    self.words.insert(name.to_owned(), word);
                }
                None => _ = self.last.insert(message.topic.clone(), message.text()),
            }
        }
    }

    /// The last message on each topic of a state, whoever has published it.
    pub fn last_messages(&mut self) -> &BTreeMap<String, String> {
        self.read();
        &self.last
    }

    /// A device that is not spoken of by the node that should, or is not heard although it beats.
    pub fn missing(&mut self, node_of: impl Fn(&Item) -> String) -> Option<String> {
        self.read();
        let is_silent = self.life().is_silent;
        self.all.iter().find_map(|device| {
            let Device { kind, name, shard } = device;
            let Some(word) = self.words.get(name) else {
                return Some(format!("nothing is said of {name}"));
            };
            if word.node != node_of(shard) {
                return Some(format!("it is {} that speaks of {name}", word.node));
            }
            let beats = *kind == Kind::Steady || (*kind == Kind::Fickle && !is_silent);
            (beats && word.state != "alive").then(|| format!("{name} is {}", word.state))
        })
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        if let Ok(mut life) = self.life.lock() {
            life.is_over = true;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What all devices do, over one connection.
fn live(mut publisher: Publisher, life: &Mutex<Life>, devices: &[Device]) {
    let mut next_beat = boot_clock();
    loop {
        let (is_silent, due) = {
            let life = life.lock().expect("nobody panics meanwhile");
            if life.is_over {
                return;
            }
            let now = boot_clock();
            (life.is_silent, life.deeds.front().filter(|deed| deed.at <= now).cloned())
        };
        if let Some(Deed { topic, payload, retain, .. }) = due {
            publisher.publish(&topic, &payload, retain, 0).expect("the broker answers");
            let mut life = life.lock().expect("nobody panics meanwhile");
            life.deeds.pop_front();
            if topic.contains("/set/") {
                life.states.insert(topic, payload);
            }
            continue;
        }
        if boot_clock() >= next_beat {
            next_beat = boot_clock() + BEAT_EVERY;
            let speaks = |kind: Kind| kind == Kind::Steady || kind == Kind::Fickle && !is_silent;
            for device in devices.iter().filter(|device| speaks(device.kind)) {
                publisher.say(&device.beat(), "1").expect("the broker is there");
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
