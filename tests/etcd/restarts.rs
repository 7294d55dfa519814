//! Three nodes that share the watching, of which one is restarted in the middle of its session.

use crate::members::Members;
use crate::nodes::{Node, Record, SECOND, Shared, membership, now, seen, until};
use iotmonitor::cluster::kept::KeptParts;
use iotmonitor::cluster::{ClusterCommand, Membership};
use iotmonitor::etcd::settings::EtcdSettings;
use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::{Allowed, Item, Items, SHARDS};
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["pi1", "pi2", "nas"];

/// Another node would have taken a part over by then, and one that has to settle would have it again.
const LONG: Duration = Duration::from_secs(12);

type Parts = BTreeMap<Item, Revision>;

struct Bench {
    members: Members,
    record: Shared,
    /// Below /run, one for each node.
    directories: BTreeMap<&'static str, TempDir>,
    nodes: BTreeMap<&'static str, Node>,
}

impl Bench {
    /// All parts are where they stay.
    async fn settled() -> Self {
        let members = Members::start(1).await;
        let directories = NAMES.map(|name| (name, tempfile::tempdir().unwrap()));
        let mut bench = Self {
            members,
            record: Shared::default(),
            directories: directories.into(),
            nodes: BTreeMap::new(),
        };
        NAMES.into_iter().for_each(|name| bench.start(name, None));
        let count = usize::from(SHARDS) + 1;
        until(&bench.record, "all is owned", |record| record.runs().len() == count).await;
        bench.renewed_for(LONG).await;
        bench
    }

    /// Starts a node. One that goes on with a session speaks of its parts from now on, as the monitor
    /// does.
    fn start(&mut self, name: &'static str, resumes: Option<(Guarded, Parts)>) {
        for item in resumes.iter().flat_map(|(_, parts)| parts.keys()) {
            self.record.lock().unwrap().begin(name, item.clone());
        }
        let resumes = resumes.map(|(guarded, parts)| (guarded, parts.into_iter().collect()));
        let kept = self.kept(name, resumes.as_ref().map(|(lease, _)| *lease));
        let part = Membership { resumes, kept, ..part(name, self.members.settings()) };
        self.nodes.insert(name, Node::spawn(name, part, &self.record, None));
    }

    /// The file of a node, for a process that goes on with this lease.
    fn kept(&self, name: &str, lease: Option<Guarded>) -> KeptParts {
        KeptParts::read(self.directories[name].path(), lease)
    }

    /// What it holds.
    fn parts(&self, name: &str, lease: Guarded) -> Parts {
        self.kept(name, Some(lease)).parts().clone()
    }

    fn lease(&self, name: &str) -> Guarded {
        self.record.lock().unwrap().deadlines[name]
    }

    async fn crash(&mut self, name: &str) {
        self.nodes.remove(name).unwrap().crash().await;
    }

    /// Every node renews its lease beyond what would hold after this time without a fault.
    async fn renewed_for(&self, time: Duration) {
        let end = now() + time;
        until(&self.record, "all have renewed", |record| {
            record.deadlines.len() == NAMES.len()
                && record.deadlines.values().all(|lease| lease.deadline > end)
        })
        .await;
    }
}

/// A node that shares the parts alone.
fn part(name: &str, etcd: EtcdSettings) -> Membership {
    let parts = (0..SHARDS).map(Item::Shard).chain([Item::House]);
    let items = Items::new(parts.map(|part| (part, Allowed::Everywhere)));
    Membership { items, ..membership(name, etcd) }
}

fn parts_of(record: &Record, name: &str) -> Vec<Item> {
    let runs = record.runs().into_iter();
    runs.filter(|(_, node)| *node == name).map(|(item, _)| item).collect()
}

#[tokio::test]
async fn a_node_that_is_restarted_has_its_parts_again_at_once_and_no_other_node_gets_them() {
    let mut bench = Bench::settled().await;
    let name = bench.record.lock().unwrap().runs()[&Item::House];
    let before = bench.record.lock().unwrap().runs();
    let own = parts_of(&bench.record.lock().unwrap(), name);
    assert!(own.len() > 1 && before.values().any(|node| *node != name), "{before:?}");

    let lease = bench.lease(name);
    bench.crash(name).await;
    let began = now();
    let parts = bench.parts(name, lease);
    assert!(parts.keys().eq(&own), "{parts:?} of {own:?}");
    bench.start(name, Some((lease, parts.clone())));
    until(&bench.record, "it renews", |record| record.deadlines[name].n > lease.n).await;
    println!("renewed {:?} after its start, and it spoke from then on", now() - began);
    bench.renewed_for(LONG).await;

    let view = seen(&bench.nodes[name].handle()).await;
    for (item, epoch) in &parts {
        assert_eq!(view.items[item].epoch, Some(*epoch), "{item}");
    }
    {
        let record = bench.record.lock().unwrap();
        assert_eq!((record.runs(), record.fences.as_slice()), (before, &[][..]));
        assert_eq!(record.deadlines[name].session, lease.session);
        for item in &own {
            let [.., was, is] = &record.intervals[item][..] else { panic!("{item}") };
            assert_eq!((was.node, is.node, is.end), (name, name, None));
            assert!(was.end.is_some_and(|end| is.begin - end < SECOND), "{was:?} {is:?}");
        }
    }
    what_was_given_up_stays_so(&mut bench, name).await;
}

/// The node gives everything away, and its next process goes on with the session and with nothing else.
async fn what_was_given_up_stays_so(bench: &mut Bench, name: &'static str) {
    assert!(bench.nodes[name].handle().send(ClusterCommand::Drain(true)));
    let count = usize::from(SHARDS) + 1;
    until(&bench.record, "the others have all", |record| {
        let runs = record.runs();
        runs.len() == count && runs.values().all(|node| *node != name)
    })
    .await;
    let lease = bench.lease(name);
    bench.crash(name).await;
    assert_eq!(bench.parts(name, lease), Parts::new());
    bench.start(name, Some((lease, Parts::new())));
    until(&bench.record, "it renews", |record| record.deadlines[name].n > lease.n).await;
    let record = bench.record.lock().unwrap();
    assert_eq!(record.fences, [format!("{name}: Drained")]);
    assert!(record.distance().is_some(), "there were no two owners at once");
}

/// The process was away beyond its lease, and is the last one to learn of that.
#[tokio::test]
async fn a_node_that_is_back_too_late_goes_on_with_nothing() {
    let mut bench = Bench::settled().await;
    let name = bench.record.lock().unwrap().runs()[&Item::House];
    let lease = bench.lease(name);
    bench.crash(name).await;
    let count = usize::from(SHARDS) + 1;
    until(&bench.record, "the others have all", |record| record.runs().len() == count).await;
    assert!(now() > lease.deadline && !bench.parts(name, lease).is_empty());
    // Without a lease in force the next process begins a session of its own.
    bench.start(name, None);
    until(&bench.record, "it has another session", |record| {
        record.deadlines[name].session != lease.session
    })
    .await;
    assert_eq!(bench.parts(name, bench.lease(name)), Parts::new());
    until(&bench.record, "it has parts again", |record| !parts_of(record, name).is_empty()).await;
    let kept = bench.parts(name, bench.lease(name));
    let record = bench.record.lock().unwrap();
    assert!(parts_of(&record, name).iter().all(|part| kept.contains_key(part)));
    println!("smallest distance {:?}", record.distance());
}
