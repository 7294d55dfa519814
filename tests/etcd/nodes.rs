//! Three nodes that share agents over three members of etcd, on real clocks.

use crate::members::Members;
use iotmonitor::cluster::kept::KeptParts;
use iotmonitor::cluster::{
    ClusterCommand, ClusterEvent, ClusterHandle, Membership, OrderError, spawn,
};
use iotmonitor::etcd::settings::EtcdSettings;
use iotmonitor::guard::{GuardClient, last_renewal};
use iotmonitor::pulse::Pulse;
use iotmonitor_core::machines::cluster::{Guarded, MemberSettings};
use iotmonitor_core::model::cluster::EndReason;
use iotmonitor_core::model::cluster::orders::{Choice, SharedOrder, SharedOrders};
use iotmonitor_core::model::cluster::sections::SharedSections;
use iotmonitor_core::model::cluster::timing::{LEASE, STOP_BUDGET, Timing};
use iotmonitor_core::model::cluster::view::{ClusterView, NodeState};
use iotmonitor_core::model::cluster::{Allowed, Item, Items, NodeName};
use iotmonitor_core::model::device_name::DeviceName;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub const SECOND: Duration = Duration::from_secs(1);

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The boot clock, by which the nodes decide. They share it here.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// An item on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    pub node: &'static str,
    pub begin: Duration,
    pub end: Option<Duration>,
}

/// What happened on all nodes.
#[derive(Debug, Default)]
pub struct Record {
    pub intervals: BTreeMap<Item, Vec<Interval>>,
    pub deadlines: BTreeMap<&'static str, Guarded>,
    pub fences: Vec<String>,
    /// Who has said that which node is lost.
    lost: Vec<(&'static str, String)>,
    orders: BTreeMap<&'static str, Arc<SharedOrders>>,
    sections: Vec<Arc<SharedSections>>,
}

impl Record {
    pub fn runs(&self) -> BTreeMap<Item, &'static str> {
        let running = self.intervals.iter().filter_map(|(item, intervals)| {
            let last = intervals.last().filter(|last| last.end.is_none())?;
            Some((item.clone(), last.node))
        });
        running.collect()
    }

    pub fn begin(&mut self, node: &'static str, item: Item) {
        let interval = Interval { node, begin: now(), end: None };
        self.intervals.entry(item).or_default().push(interval);
    }

    pub fn end(&mut self, node: &str, item: Option<&Item>, at: Duration) {
        let of_item =
            self.intervals.iter_mut().filter(|(other, _)| item.is_none_or(|i| i == *other));
        for interval in of_item.flat_map(|(_, intervals)| intervals) {
            if interval.node == node && interval.end.is_none() {
                interval.end = Some(at);
            }
        }
    }

    /// The smallest time between two owners of one item.
    pub fn distance(&self) -> Option<Duration> {
        let pairs = self.intervals.values().flat_map(|intervals| intervals.windows(2));
        let distances = pairs.map(|pair| {
            let end = pair[0].end.unwrap_or_else(|| panic!("two owners: {pair:?}"));
            assert!(pair[1].begin > end, "two owners: {pair:?}");
            pair[1].begin - end
        });
        distances.min()
    }
}

pub type Shared = Arc<Mutex<Record>>;

pub struct Node {
    pub name: &'static str,
    handle: Arc<Mutex<Option<ClusterHandle>>>,
    record: Shared,
    obeys: Option<JoinHandle<()>>,
}

/// What a node says of itself. All share six agents.
pub fn membership(name: &str, etcd: EtcdSettings) -> Membership {
    let agents = ["a", "b", "c", "d", "e", "f"].map(|agent| agent.parse::<Item>().unwrap());
    Membership {
        settings: MemberSettings {
            name: NodeName::new(name).unwrap(),
            machine: name.to_owned(),
            timing: Timing::new(8 * SECOND, SECOND).unwrap(),
            broker: true,
            drains: false,
            config: None,
        },
        items: Items::new(agents.map(|agent| (agent, Allowed::Everywhere))),
        etcd,
        resumes: None,
        kept: KeptParts::read(Path::new("/nowhere"), None),
        sections: None,
    }
}

impl Node {
    /// Starts a node, with a guard that listens in this directory if there is one.
    fn start(
        name: &'static str,
        etcd: EtcdSettings,
        record: &Shared,
        guard: Option<&Path>,
    ) -> Self {
        let client = guard.map(|directory| GuardClient::connect(directory).unwrap());
        Self::spawn(name, membership(name, etcd), record, client)
    }

    /// Starts a node with this part.
    pub fn spawn(
        name: &'static str,
        membership: Membership,
        record: &Shared,
        client: Option<GuardClient>,
    ) -> Self {
        let deadlines = Arc::clone(record);
        let renew = move |guarded| {
            deadlines.lock().unwrap().deadlines.insert(name, guarded);
            client.as_ref().map_or(Ok(()), |client| client.renew(guarded))
        };
        let (sender, events) = mpsc::channel(2);
        let handle = spawn(membership, renew, sender, Pulse::new()).unwrap();
        let handle = Arc::new(Mutex::new(Some(handle)));
        let mut node = Self { name, handle, record: Arc::clone(record), obeys: None };
        node.obeys = Some(node.obey(events));
        node
    }

    /// Does what the events say, in a task.
    fn obey(&self, mut events: mpsc::Receiver<ClusterEvent>) -> JoinHandle<()> {
        let (name, record, handle) =
            (self.name, Arc::clone(&self.record), Arc::clone(&self.handle));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let mut record = record.lock().unwrap();
                match event {
                    ClusterEvent::Start { item, .. } => {
                        record.begin(name, item);
                    }
                    ClusterEvent::Stop(item) => {
                        record.end(name, Some(&item), now());
                        if let Some(handle) = &*handle.lock().unwrap() {
                            assert!(handle.send(ClusterCommand::Stopped(item)));
                        }
                    }
                    ClusterEvent::Fence { number, reason } => {
                        record.end(name, None, now());
                        record.fences.push(format!("{name}: {reason:?}"));
                        if let Some(handle) = &*handle.lock().unwrap() {
                            assert!(handle.send(ClusterCommand::Fenced(number)));
                        }
                    }
                    ClusterEvent::Orders(orders) => drop(record.orders.insert(name, orders)),
                    ClusterEvent::Sections(sections) => record.sections.push(sections),
                    ClusterEvent::NodeLost(lost) => record.lost.push((name, lost.to_string())),
                    ClusterEvent::StoreAnswers
                    | ClusterEvent::StoreSilent(_)
                    | ClusterEvent::Owners(_)
                    | ClusterEvent::NodeBack(_) => {}
                    other => record.fences.push(format!("{name}: {other:?}")),
                }
            }
        })
    }

    pub fn handle(&self) -> ClusterHandle {
        self.handle.lock().unwrap().clone().unwrap()
    }

    /// Ends the thread as a kill of the monitor does. The guard of a real node kills what is left
    /// at the deadline at the latest.
    fn kill(&mut self) -> Duration {
        drop(self.handle.lock().unwrap().take());
        let mut record = self.record.lock().unwrap();
        let ends = record.deadlines[self.name].deadline + STOP_BUDGET;
        record.end(self.name, None, ends);
        ends
    }
}

impl Node {
    /// Ends the thread in the middle of whatever it does. What it says of its parts ends by that.
    pub async fn crash(mut self) {
        drop(self.handle.lock().unwrap().take());
        self.obeys.take().unwrap().await.unwrap();
        self.record.lock().unwrap().end(self.name, None, now());
    }
}

pub async fn until(record: &Shared, what: &str, holds: impl Fn(&Record) -> bool) {
    let began = Instant::now();
    while !holds(&record.lock().unwrap()) {
        assert!(began.elapsed() < LIMIT, "not {what}: {:?}", record.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_agents_of_a_node_that_dies_are_taken_over_and_a_dead_leader_moves_none() {
    let members = Members::start(3).await;
    let directory = tempfile::tempdir().unwrap();
    let guard = UnixDatagram::bind(directory.path().join("socket")).unwrap();
    let record = Shared::default();
    let mut nodes = ["pi1", "pi2", "nas"].map(|name| {
        let guard = (name == "pi1").then_some(directory.path());
        Node::start(name, members.settings(), &record, guard)
    });
    until(&record, "everything runs", |record| record.runs().len() == 6).await;
    let owners: BTreeSet<_> = record.lock().unwrap().runs().into_values().collect();
    assert!(owners.len() > 1, "one node has everything: {record:?}");

    // The guard gets each deadline.
    let mut datagram = [0; 256];
    guard.set_nonblocking(true).unwrap();
    let mut length = 0;
    while let Ok(received) = guard.recv(&mut datagram) {
        length = received;
    }
    std::fs::write(directory.path().join("lease"), &datagram[..length]).unwrap();
    let renewal = last_renewal(directory.path()).unwrap();
    assert_eq!(renewal.session, record.lock().unwrap().deadlines["pi1"].session);
    assert!(renewal.deadline > now());

    let dies = nodes.iter_mut().find(|node| node.name == *owners.first().unwrap()).unwrap();
    let (dead, killed_at) = (dies.name, now());
    dies.kill();
    until(&record, "all runs elsewhere", |record| {
        let runs = record.runs();
        runs.len() == 6 && runs.values().all(|node| *node != dead)
    })
    .await;
    println!("taken over {:?} after the death", now() - killed_at);
    until(&record, "the others say so", |record| record.lost.len() >= 2).await;
    println!("smallest distance {:?}", record.lock().unwrap().distance().unwrap());

    let before = record.lock().unwrap().deadlines.clone();
    members.signal(members.leader(), Signal::SIGKILL);
    until(&record, "renewed beyond the lease of that time", |record| {
        let mut living = before.iter().filter(|(name, _)| **name != dead);
        living.all(|(name, then)| record.deadlines[name].deadline > then.deadline + 2 * SECOND)
    })
    .await;
    let record = record.lock().unwrap();
    assert_eq!((record.runs().len(), record.fences.as_slice()), (6, &[][..]));
    let mut lost = record.lost.clone();
    lost.sort_unstable();
    let others = ["nas", "pi1", "pi2"].into_iter().filter(|name| *name != dead);
    assert_eq!(lost, others.map(|name| (name, dead.to_owned())).collect::<Vec<_>>(), "once each");
    assert!(
        before
            .iter()
            .filter(|(name, _)| **name != dead)
            .all(|(name, then)| { record.deadlines[name].session == then.session })
    );
}

/// What a node says of the cluster.
pub async fn seen(handle: &ClusterHandle) -> ClusterView {
    let (reply, view) = oneshot::channel();
    assert!(handle.send(ClusterCommand::View(reply)));
    view.await.unwrap()
}

#[tokio::test]
async fn a_new_version_of_the_shared_sections_reaches_each_node_once() {
    let members = Members::start(1).await;
    let record = Shared::default();
    let node = Node::start("pi1", members.settings(), &record, None);
    let handle = node.handle();
    until(&record, "everything runs", |record| record.runs().len() == 6).await;
    let told = |number: usize| move |record: &Record| record.sections.len() >= number;
    let first = handle.apply("[device_a]\n".into()).await.unwrap().version;
    until(&record, "told of the first version", told(1)).await;
    assert!(handle.send(ClusterCommand::Uses(Some(first.clone()))));
    let pi1 = NodeName::new("pi1").unwrap();
    let began = Instant::now();
    while seen(&handle).await.nodes[&pi1].config != Some(1) {
        assert!(began.elapsed() < LIMIT, "the others do not learn of it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen(&handle).await.etcd.config.as_ref(), Some(&first));

    // A node that has this version is told of the next one alone.
    let knows = Membership { sections: Some(first), ..membership("pi2", members.settings()) };
    let (sender, mut events) = mpsc::channel(64);
    let other = spawn(knows, |_| Ok(()), sender, Pulse::new()).unwrap();
    while seen(&other).await.etcd.config.is_none() {
        assert!(began.elapsed() < LIMIT, "the store is not read");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = other.apply("[device_b]\n".into()).await.unwrap().version;
    let heard = loop {
        if let ClusterEvent::Sections(sections) = events.recv().await.unwrap() {
            break sections;
        }
    };
    assert_eq!((&heard.version, &*heard.text), (&second, "[device_b]\n"));
    until(&record, "told of the second version", told(2)).await;
    let texts: Vec<_> =
        record.lock().unwrap().sections.iter().map(|it| it.text.to_string()).collect();
    assert_eq!(texts, ["[device_a]\n", "[device_b]\n"]);
    // One that has lost its copy gets it again.
    assert!(other.send(ClusterCommand::Uses(None)));
    loop {
        if let ClusterEvent::Sections(sections) = events.recv().await.unwrap() {
            break assert_eq!(sections.version, second);
        }
    }
}

#[tokio::test]
async fn an_agent_moves_and_a_node_is_drained_by_an_order_to_any_node() {
    let members = Members::start(1).await;
    let record = Shared::default();
    let nodes =
        ["pi1", "pi2", "nas"].map(|name| Node::start(name, members.settings(), &record, None));
    until(&record, "everything runs", |record| record.runs().len() == 6).await;
    let name = |name| NodeName::new(name).unwrap();
    let agent = DeviceName::new("a").unwrap();
    let item = Item::Agent(agent.clone());
    for to in ["pi1", "pi2", "pi1"] {
        // A node that neither has it nor gets it.
        nodes[2].handle().move_agent(agent.clone(), name(to)).await.unwrap();
        until(&record, "it runs there", |record| record.runs().get(&item) == Some(&to)).await;
    }
    // Nothing moves it on: the order is over.
    let (handle, session) =
        (nodes[2].handle(), seen(&nodes[2].handle()).await.nodes[&name("pi1")].session);
    handle.drain(Some(name("pi1")), true).await.unwrap();
    assert!(!record.lock().unwrap().runs().values().any(|node| *node == "pi1"));
    until(&record, "the others have all", |record| record.runs().len() == 6).await;
    let view = seen(&handle).await;
    assert!(view.nodes[&name("pi1")].drains, "{view:?}");
    assert_eq!(view.nodes[&name("pi1")].session, session, "a drained node goes on taking part");
    let refused = handle.move_agent(agent.clone(), name("pi1")).await.unwrap_err();
    assert_eq!(refused, OrderError::Drained(name("pi1")));

    // Whoever is drained stays so over a restart of the program.
    let mut nodes = nodes;
    nodes[0].kill();
    nodes[0] = Node::start("pi1", members.settings(), &record, None);
    let anew = |view: &ClusterView| view.nodes[&name("pi1")].session != session;
    let began = Instant::now();
    loop {
        let view = seen(&handle).await;
        if anew(&view) {
            assert!(view.nodes[&name("pi1")].drains, "{view:?}");
            assert_eq!(view.items_of(&name("pi1")).next(), None);
            break;
        }
        assert!(began.elapsed() < LIMIT, "{view:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes[1].handle().drain(Some(name("pi1")), false).await.unwrap();
    let moved = async {
        // It takes part in earnest some seconds after its start.
        while let Err(error) = handle.move_agent(agent.clone(), name("pi1")).await {
            assert!(matches!(error, OrderError::Drained(_)), "{error}");
            assert!(began.elapsed() < LIMIT);
        }
    };
    moved.await;
    until(&record, "it runs there", |record| record.runs().get(&item) == Some(&"pi1")).await;
    let record = record.lock().unwrap();
    assert!(record.fences.is_empty(), "{:?}", record.fences);
    println!("smallest distance {:?}", record.distance());
}

#[tokio::test]
async fn what_is_disabled_and_silenced_on_one_node_is_so_on_all() {
    let members = Members::start(1).await;
    let record = Shared::default();
    let nodes = ["pi1", "pi2"].map(|name| Node::start(name, members.settings(), &record, None));
    let lamp = DeviceName::new("lamp").unwrap();
    until(&record, "nothing is ordered", |record| {
        record.orders.len() == 2 && record.orders.values().all(|o| **o == SharedOrders::default())
    })
    .await;
    let order = |order| {
        let handle = nodes[0].handle();
        async move { handle.order(order).await.unwrap() }
    };
    let span = Some(2 * 3_600 * SECOND);
    let paused = Choice::Paused { span: 2 * 3_600 * SECOND, enabled_before: false };
    let choose = |choice| SharedOrder::Choose { device: lamp.clone(), choice };
    order(choose(Some(paused))).await;
    order(SharedOrder::Silence { of: Some(lamp.clone()), span }).await;
    order(SharedOrder::Silence { of: None, span }).await;
    until(&record, "all know it", |record| {
        record.orders.values().all(|orders| {
            let choice = orders.choices.get(&lamp);
            choice.is_some_and(|choice| !choice.enabled && choice.time.lasts == Some(7_200))
                && orders.silences.keys().eq([&None, &Some(lamp.clone())])
        })
    })
    .await;
    order(choose(None)).await;
    order(SharedOrder::Silence { of: None, span: None }).await;
    until(&record, "all know it", |record| {
        record.orders.values().all(|orders| {
            orders.choices.is_empty() && orders.silences.keys().eq([&Some(lamp.clone())])
        })
    })
    .await;
    // A node that has just come knows it, and it can be given again.
    let late = Node::start("nas", members.settings(), &record, None);
    late.handle().view().await.unwrap();
    until(&record, "it knows it", |record| {
        record.orders.get("nas").is_some_and(|orders| orders.silences.len() == 1)
    })
    .await;
    order(choose(Some(Choice::Disabled))).await;
    until(&record, "all know it", |record| {
        record.orders.values().filter(|orders| orders.choices.contains_key(&lamp)).count() == 3
    })
    .await;
    members.signal(0, Signal::SIGSTOP);
    let refused = nodes[1].handle().order(choose(None)).await.unwrap_err();
    let OrderError::NoStore(reason) = refused else { panic!("{refused}") };
    assert!(reason.contains("has not answered within"), "{reason}");
}

#[tokio::test]
async fn each_node_shows_all_nodes_and_who_has_what() {
    let members = Members::start(1).await;
    let record = Shared::default();
    let mut nodes = ["pi1", "pi2"].map(|name| Node::start(name, members.settings(), &record, None));
    until(&record, "everything runs", |record| record.runs().len() == 6).await;
    let runs = record.lock().unwrap().runs();
    for node in &nodes {
        let view = seen(&node.handle()).await;
        assert_eq!(view.node.as_str(), node.name);
        assert!(view.epoch.is_some() && view.etcd.answers == Some(true), "{view:?}");
        assert!(view.nodes.keys().map(NodeName::as_str).eq(["pi1", "pi2"]), "{view:?}");
        for seen in view.nodes.values() {
            assert_eq!(seen.state, NodeState::Alive);
            assert!(seen.renewed < 8 * SECOND && seen.broker && !seen.drains, "{view:?}");
        }
        for (item, owner) in &runs {
            assert_eq!(view.items[item].node.as_ref().map(NodeName::as_str), Some(*owner));
            assert_eq!(view.items[item].epoch.is_some(), *owner == node.name, "{view:?}");
        }
    }
    nodes[1].kill();
    members.signal(0, Signal::SIGSTOP);
    let began = Instant::now();
    let handle = nodes[0].handle();
    let view = loop {
        let view = seen(&handle).await;
        if view.etcd.answers == Some(false)
            && view.nodes.values().all(|n| n.state == NodeState::Late)
        {
            break view;
        }
        assert!(began.elapsed() < LIMIT, "{view:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(view.etcd.reason.unwrap().contains("has not answered"));
    assert!(view.etcd.lasts < began.elapsed() + SECOND);
}

/// What was heard of a store that does not answer.
#[derive(Default)]
struct Silences {
    count: usize,
    lasts: bool,
}

/// The next event that is not about the store.
async fn next(events: &mut mpsc::Receiver<ClusterEvent>, silences: &mut Silences) -> ClusterEvent {
    loop {
        match tokio::time::timeout(LIMIT, events.recv()).await.unwrap().unwrap() {
            ClusterEvent::StoreSilent(reason) => {
                assert!(reason.contains("has not answered"), "{reason}");
                assert!(!silences.lasts, "a silence is reported once");
                *silences = Silences { count: silences.count + 1, lasts: true };
            }
            ClusterEvent::StoreAnswers => silences.lasts = false,
            ClusterEvent::Orders(_) | ClusterEvent::Owners(_) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn a_node_whose_store_hangs_is_fenced_at_its_deadline_and_begins_anew() {
    let members = Members::start(1).await;
    let last = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&last);
    let renew = move |guarded: Guarded| {
        *kept.lock().unwrap() = Some(guarded);
        Ok(())
    };
    let (sender, mut events) = mpsc::channel(1);
    let handle = spawn(membership("pi1", members.settings()), renew, sender, Pulse::new()).unwrap();
    let mut silences = Silences::default();
    let mut before = BTreeMap::new();
    while before.len() < 6 {
        let event = next(&mut events, &mut silences).await;
        let ClusterEvent::Start { item, epoch } = event else { panic!("{event:?}") };
        assert!(before.insert(item, epoch).is_none());
    }
    members.signal(0, Signal::SIGSTOP);
    let fence = next(&mut events, &mut silences).await;
    let ended = last.lock().unwrap().unwrap();
    assert_eq!(fence, ClusterEvent::Fence { number: 1, reason: EndReason::Deadline });
    assert!(now() >= ended.deadline, "{:?} before {ended:?}", now());
    assert!(handle.send(ClusterCommand::Fenced(1)));
    // No renewal can have been confirmed meanwhile.
    assert_eq!(*last.lock().unwrap(), Some(ended));
    members.signal(0, Signal::SIGCONT);
    let mut after = BTreeMap::new();
    while after.len() < 6 {
        let event = next(&mut events, &mut silences).await;
        let ClusterEvent::Start { item, epoch } = event else { panic!("{event:?}") };
        after.insert(item, epoch);
    }
    let anew = last.lock().unwrap().unwrap();
    assert!(anew.session != ended.session && anew.deadline <= now() + LEASE);
    assert!(after.iter().all(|(item, epoch)| *epoch > before[item]), "{before:?} {after:?}");
    // A busy etcd may be silent for a moment besides.
    assert!(silences.count >= 1);
    // An agent that has ended by itself is started again by a later renewal.
    let (item, epoch) = after.pop_first().unwrap();
    assert!(handle.send(ClusterCommand::Stopped(item.clone())));
    let again = next(&mut events, &mut silences).await;
    assert!(
        matches!(&again, ClusterEvent::Start { item: i, epoch: e } if *i == item && *e >= epoch)
    );
    assert!(handle.send(ClusterCommand::Drain(true)));
    let mut stopped = BTreeSet::new();
    while stopped.len() < 6 {
        let event = next(&mut events, &mut silences).await;
        let ClusterEvent::Stop(item) = event else { panic!("{event:?}") };
        assert!(handle.send(ClusterCommand::Stopped(item.clone())));
        stopped.insert(item);
    }
    assert_eq!(next(&mut events, &mut silences).await, ClusterEvent::Drained);
}

#[tokio::test]
async fn a_thread_that_hangs_shows_it_to_the_watchdog() {
    let members = Members::start(1).await;
    let (hang, hangs) = std::sync::mpsc::channel();
    let (goes_on, wait) = std::sync::mpsc::channel();
    let mut renewals = 0;
    let renew = move |_| {
        renewals += 1;
        if renewals == 2 {
            hang.send(()).unwrap();
            wait.recv().unwrap();
        }
        Ok(())
    };
    let (sender, _events) = mpsc::channel(1);
    let pulse = Pulse::new();
    let membership = membership("pi1", members.settings());
    let handle = spawn(membership, renew, sender, pulse.clone()).unwrap();
    tokio::task::spawn_blocking(move || hangs.recv_timeout(LIMIT).unwrap()).await.unwrap();
    let began = Instant::now();
    while pulse.age() < 3 * SECOND {
        assert!(began.elapsed() < LIMIT, "it beats although it hangs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    goes_on.send(()).unwrap();
    let began = Instant::now();
    while pulse.age() > SECOND {
        assert!(began.elapsed() < LIMIT, "it has ceased to beat");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(handle);
}

/// How long a restore takes at least, on three machines by hand. It is less than a lease, so that sessions
/// are alive after it.
const RESTORE: Duration = Duration::from_secs(5);

/// The snapshot is older than the last plan and than the last renewal of each node.
#[tokio::test]
async fn a_restored_snapshot_is_an_outage_and_no_agent_runs_twice() {
    let mut members = Members::start(3).await;
    let record = Shared::default();
    let nodes =
        ["pi1", "pi2", "nas"].map(|name| Node::start(name, members.settings(), &record, None));
    until(&record, "everything runs", |record| record.runs().len() == 6).await;
    let snapshot = members.snapshot();
    let before = record.lock().unwrap().runs();
    let (item, owner) = before.first_key_value().unwrap();
    let mover = nodes.iter().find(|node| node.name == *owner).unwrap();
    let other = nodes.iter().find(|node| node.name != *owner).unwrap().name;
    let to = NodeName::new(other).unwrap();
    assert!(mover.handle().send(ClusterCommand::Move { item: item.clone(), to }));
    until(&record, "moved", |record| record.runs().get(item) == Some(&other)).await;
    let sessions = record.lock().unwrap().deadlines.clone();
    until(&record, "renewed by each node", |record| {
        sessions.iter().all(|(name, was)| record.deadlines[name].n > was.n)
    })
    .await;
    let began = Instant::now();
    members.stop();
    tokio::time::sleep(RESTORE).await;
    members.restore(&snapshot);
    members.answer(&members.settings()).await;
    println!("etcd was away for {:?}", began.elapsed());
    until(&record, "each node has noticed", |record| {
        nodes.iter().all(|node| record.fences.iter().any(|fence| fence.starts_with(node.name)))
    })
    .await;
    until(&record, "everything runs again", |record| record.runs().len() == 6).await;
    let record = record.lock().unwrap();
    println!("{:?}, {:?} after the restore began", record.fences, began.elapsed());
    println!("smallest distance {:?}", record.distance().unwrap());
    assert!(sessions.iter().all(|(name, was)| record.deadlines[name].session != was.session));
}
