//! Two nodes of a cluster, each a core with its connections, on one broker. The cluster itself is the
//! test: it gives the parts of the watching to one node or the other.

use crate::common::broker::Broker;
use crate::common::client::{Client, PATIENCE, at_least_once, filter, settings, topic};
use iotmonitor::mqtt::settings::{MqttSettings, ProtocolChoice};
use iotmonitor::mqtt::{ConnectionOptions, MqttHandle, Pair, Will, spawn};
use iotmonitor::pulse::Pulse;
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::node_word::NodeWord;
use iotmonitor_core::model::cluster::sharing::{ClusterFact, ClusterSpec, StandbyMode};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::{Item, NodeName, SHARDS};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, QoS};
use iotmonitor_core::model::spec::{
    DEFAULT_MAX_SUBSCRIPTIONS, DeviceSpec, HomeAssistant, MonitorSpec, Origin,
};
use iotmonitor_core::model::state::{StateChange, StateRecord};
use iotmonitor_core::model::time::Now;
use iotmonitor_core::monitor::Monitor;
use iotmonitor_core::topic::TopicName;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

const BASE: &str = "home/monitoring";

fn lamp() -> DeviceSpec {
    DeviceSpec {
        name: DeviceName::new("lamp").unwrap(),
        area: None,
        watch_timeout: Some(Duration::from_secs(3_600)),
        auto_timeout: false,
        expire_repeat: None,
        watch: vec![filter("home/lamp/x")],
        hello: Some(filter("home/lamp/hello")),
        availability: Vec::new(),
        availability_words: None,
        depends_on: Vec::new(),
        alert_unit: None,
        state: vec![filter("home/lamp/set/#")],
        restore_on_start: true,
        enabled: true,
        agent: None,
    }
}

/// A node with its connections and a store in memory.
struct Node {
    monitor: Monitor,
    watch: MqttHandle,
    state: MqttHandle,
    events: mpsc::Receiver<Event>,
    queue: VecDeque<Event>,
    states: BTreeMap<TopicName, StateRecord>,
    began: Instant,
    alerts: Vec<AlertKind>,
}

impl Node {
    fn start(name: &str, port: u16) -> Self {
        let node = NodeName::new(name).unwrap();
        let spec = MonitorSpec {
            client_id: "house".to_owned(),
            base_topic: topic(BASE),
            devices: vec![lamp()],
            fleets: Vec::new(),
            max_subscriptions: DEFAULT_MAX_SUBSCRIPTIONS,
            home_assistant: HomeAssistant::default(),
            alert_unit: None,
            broker_grace: Duration::from_secs(60),
            origin: Origin::default(),
            command: "iotmonitor".to_owned(),
            cluster: Some(ClusterSpec {
                node: node.clone(),
                agents: BTreeMap::new(),
                standby: StandbyMode::Hot,
            }),
        };
        let mqtt = MqttSettings {
            client_id: spec.connection_id(),
            ..settings(port, ProtocolChoice::Auto)
        };
        let (sender, events) = mpsc::channel(1_024);
        let pair = Pair::default();
        let will = Will {
            topic: topic(&format!("{BASE}/nodes/{node}")),
            payload: NodeWord::Offline.to_json().into_bytes().into(),
            retain: true,
            qos: QoS::AtLeastOnce,
        };
        let options = |will| ConnectionOptions {
            will,
            pair: Some(pair.clone()),
            gives_up_after: Some(Duration::from_secs(2)),
            ..ConnectionOptions::default()
        };
        let connect = |connection, will| {
            spawn(connection, mqtt.clone(), options(will), sender.clone(), Pulse::new())
        };
        let (watch, state) =
            (connect(Connection::Watch, Some(will)), connect(Connection::State, None));
        let began = Instant::now();
        let monitor = Monitor::new(spec, now(began), 1);
        let (queue, states) = (VecDeque::new(), BTreeMap::new());
        let mut node =
            Self { monitor, watch, state, events, queue, states, began, alerts: Vec::new() };
        node.happen(Event::StoreOpened(Box::default()));
        node.happen(Event::Cluster(ClusterFact::Joined { runs: BTreeMap::new() }));
        node
    }

    fn own_all(&mut self, epoch: u64) {
        for item in (0..SHARDS).map(Item::Shard).chain([Item::House]) {
            let epoch = Revision(epoch);
            self.happen(Event::Cluster(ClusterFact::Owned { item, epoch }));
        }
    }

    fn happen(&mut self, event: Event) {
        self.queue.push_back(event);
        while let Some(event) = self.queue.pop_front() {
            if let Event::Connected { connection: Connection::State, .. } = &event {
                self.state.attend();
            }
            let mut out = Vec::new();
            self.monitor.handle(now(self.began), event, &mut out);
            for action in out {
                self.carry_out(action);
            }
        }
    }

    fn handle(&self, connection: Connection) -> &MqttHandle {
        if connection == Connection::State { &self.state } else { &self.watch }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Publish(publication) => {
                self.handle(publication.connection).publish(publication);
            }
            Action::Subscribe { connection, subscriptions } => {
                self.handle(connection).subscribe(subscriptions);
            }
            Action::Unsubscribe { connection, filters } => {
                self.handle(connection).unsubscribe(filters);
            }
            Action::Acknowledge { through } => self.state.acknowledge(through),
            Action::Record { delivery, change } => {
                if let StateChange::Put(state) | StateChange::Replay(state) = change {
                    self.states.insert(state.topic.clone(), state);
                }
                self.queue.push_back(Event::StatesCommitted { through: delivery });
            }
            Action::WriteStates { changes, .. } => {
                for change in changes {
                    if let Some(state) = change.state() {
                        self.states.entry(state.topic.clone()).or_insert_with(|| state.clone());
                    }
                }
            }
            Action::ReadStates { read, .. } => {
                let states = self.states.values().cloned().collect();
                self.queue.push_back(Event::StatesRead { read, states, next: None });
            }
            Action::SaveDevices { .. } => self.queue.push_back(Event::DevicesSaved),
            Action::Sever => self.state.sever(),
            Action::Raise(alert) => self.alerts.push(alert.kind),
            _ => {}
        }
    }

    /// Lives until the next event, or the next time at which something is due.
    async fn live(&mut self) {
        let due = self.monitor.next_deadline().unwrap_or(Duration::MAX);
        let due = tokio::time::Instant::from_std(self.began + due.min(Duration::from_secs(60)));
        let event = tokio::select! {
            event = self.events.recv() => event.unwrap(),
            () = tokio::time::sleep_until(due) => Event::TimePassed,
        };
        self.happen(event);
    }
}

fn now(began: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now { mono: began.elapsed(), wall, boot: began.elapsed() }
}

/// Lets the nodes live until an observer has seen what is looked for; returns everything up to then.
async fn until(
    nodes: &mut [&mut Node],
    observer: &mut Client,
    what: &str,
    fits: impl Fn(&Message) -> bool,
) -> Vec<Message> {
    let mut seen = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let lives: Vec<_> = nodes.iter_mut().map(|node| Box::pin(node.live())).collect();
        let lives = async {
            if lives.is_empty() {
                std::future::pending::<()>().await;
            } else {
                futures_util::future::select_all(lives).await;
            }
        };
        tokio::select! {
            event = observer.events.recv() => {
                if let Some(Event::WatchMessage(message)) = event {
                    seen.push(message);
                    if seen.last().is_some_and(&fits) {
                        return seen;
                    }
                }
            }
            () = lives => {}
            () = tokio::time::sleep_until(deadline) => panic!("waited in vain for {what}: {seen:#?}"),
        }
    }
}

fn is_on<'a>(at: &'a str, contains: &'a str) -> impl Fn(&Message) -> bool + 'a {
    move |message| {
        message.topic.as_str() == at && String::from_utf8_lossy(&message.payload).contains(contains)
    }
}

async fn observer(port: u16) -> Client {
    let mqtt =
        MqttSettings { client_id: "observer".to_owned(), ..settings(port, ProtocolChoice::V311) };
    let mut observer = Client::new(Connection::Watch, mqtt);
    observer.connected().await;
    observer.subscribe(vec![at_least_once("home/#")]).await;
    observer
}

fn count(seen: &[Message], at: &str) -> usize {
    seen.iter().filter(|message| message.topic.as_str() == at).count()
}

#[tokio::test]
async fn one_of_two_nodes_speaks_and_restores_and_the_other_goes_on_where_it_ends() {
    let broker = Broker::start();
    let mut observer = observer(broker.port()).await;
    let mut first = Node::start("pi1", broker.port());
    let mut second = Node::start("nas", broker.port());
    let both = &mut [&mut first, &mut second];
    let status = format!("{BASE}/status/lamp");
    let availability = format!("{BASE}/availability");
    for node in ["pi1", "nas"] {
        until(both, &mut observer, "node", is_on(&format!("{BASE}/nodes/{node}"), "online")).await;
    }
    both[0].own_all(5);
    until(both, &mut observer, "status", is_on(&status, r#""node":"pi1","epoch":5"#)).await;
    broker.publish_bytes("home/lamp/set/on", true, b"1");
    until(both, &mut observer, "state", is_on("home/lamp/set/on", "1")).await;
    while both.iter().any(|node| node.states.is_empty()) {
        let [first, second] = both;
        tokio::select! { () = first.live() => {}, () = second.live() => {} }
    }
    broker.publish_bytes("home/lamp/hello", false, b"hi");
    until(both, &mut observer, "restore", is_on("home/lamp/set/on", "1")).await;

    // The first one ends without a word.
    drop(first);
    let nodes = &mut [&mut second];
    let seen =
        until(nodes, &mut observer, "will", is_on(&format!("{BASE}/nodes/pi1"), "offline")).await;
    assert_eq!(count(&seen, "home/lamp/set/on"), 0, "{seen:#?}");
    broker.publish_bytes("home/lamp/hello", false, b"hi");
    broker.publish_bytes("home/lamp/x", false, b"hi");
    let seen = until(nodes, &mut observer, "contact", is_on("home/lamp/x", "")).await;
    assert_eq!(count(&seen, "home/lamp/set/on") + count(&seen, &availability), 0, "{seen:#?}");
    nodes[0].own_all(9);
    let mut seen =
        until(nodes, &mut observer, "status", is_on(&status, r#""node":"nas","epoch":9"#)).await;
    if count(&seen, "home/lamp/set/on") == 0 {
        let is_restored = is_on("home/lamp/set/on", "1");
        seen.extend(until(nodes, &mut observer, "restore", is_restored).await);
    }
    let below = format!("{BASE}/up");
    let up = is_on(&below, "2");
    seen.extend(until(nodes, &mut observer, "second of up", up).await);
    assert_eq!(count(&seen, "home/lamp/set/on"), 1, "{seen:#?}");
    assert!(seen.iter().any(is_on(&availability, "online")));
    assert!(!nodes[0].alerts.contains(&AlertKind::Expired));
    let log = std::fs::read_to_string(broker.log()).unwrap();
    for name in ["house@pi1", "house@pi1-states", "house@nas", "house@nas-states"] {
        assert!(log.contains(&format!(" as {name} (")), "{name} is missing in {log}");
    }
}
