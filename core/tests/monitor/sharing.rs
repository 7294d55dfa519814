//! Agents that several nodes share: here only while the cluster gives them to this node, and never
//! reported as stopped before they are.

use super::agents::{UNIT, unit};
use super::expect::{agent, device_name, watched};
use super::timetable::{House, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::sharing::{
    ClusterFact, ClusterReply, ClusterSpec, Placement, StandbyMode, Tenure, WhenCut,
};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::{Allowed, EndReason, Item, NodeName, SHARDS};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::progress::{Goal, Progress};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome};
use iotmonitor_core::model::unit_name::UnitName;
use iotmonitor_core::model::view::Liveness;

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// An agent by its name, or a shard or the house by what it is called.
fn item(name: &str) -> Item {
    name.parse().unwrap()
}

pub fn shared() -> Placement {
    Placement { allowed: Allowed::Everywhere, when_cut: WhenCut::Stop }
}

fn kept() -> Placement {
    Placement { allowed: Allowed::Everywhere, when_cut: WhenCut::Keep }
}

pub fn pinned(to: &str) -> Placement {
    Placement { allowed: Allowed::On(vec![node(to)]), when_cut: WhenCut::Stop }
}

pub fn cluster(agents: &[(&str, Placement)]) -> ClusterSpec {
    let agents = agents.iter().map(|(name, placement)| (device_name(name), placement.clone()));
    ClusterSpec { node: node("pi1"), agents: agents.collect(), standby: StandbyMode::Hot }
}

/// The node `pi1`, on which everything stands, and which has joined with nothing.
pub fn house_of(devices: Vec<DeviceSpec>, agents: &[(&str, Placement)]) -> House {
    let mut house = dark_of(devices, agents);
    house.join(&[]);
    house.power_up();
    house.turn_the_page();
    house
}

pub fn dark_of(devices: Vec<DeviceSpec>, agents: &[(&str, Placement)]) -> House {
    let mut spec = House::dark(devices).spec;
    spec.cluster = Some(cluster(agents));
    House::of(spec)
}

/// One shared agent, which is elsewhere.
fn house() -> House {
    house_of(vec![agent("box", 30)], &[("box", shared())])
}

/// One shared agent, which is here.
fn owner() -> House {
    let mut house = house();
    house.own("box", 7);
    house.advance(secs(1));
    house.turn_the_page();
    house
}

impl House {
    pub fn cluster(&mut self, fact: ClusterFact) {
        self.happen(Event::Cluster(fact));
    }

    pub fn join(&mut self, runs: &[(&str, u64)]) {
        let runs = runs.iter().map(|(name, epoch)| (item(name), Revision(*epoch)));
        self.cluster(ClusterFact::Joined { runs: runs.collect() });
    }

    pub fn own(&mut self, agent: &str, epoch: u64) {
        self.cluster(ClusterFact::Owned { item: item(agent), epoch: Revision(epoch) });
    }

    pub fn release(&mut self, agent: &str) {
        self.cluster(ClusterFact::Released { item: item(agent) });
    }

    pub fn owners(&mut self, owners: &[(&str, &str)]) {
        let owners = owners.iter().map(|(name, owner)| (item(name), node(owner)));
        self.cluster(ClusterFact::Owners(owners.collect()));
    }

    pub fn replies(&self) -> Vec<ClusterReply> {
        let replies = self.log.iter().filter_map(|(_, action)| match action {
            Action::Reply(ClusterReply::Broker(_)) => None,
            Action::Reply(reply) => Some(reply.clone()),
            _ => None,
        });
        replies.collect()
    }

    /// The cluster gives all shards and the house to this node.
    pub fn own_all(&mut self, epoch: u64) {
        for item in parts() {
            self.own_part(item, epoch);
        }
    }

    pub fn own_part(&mut self, item: Item, epoch: u64) {
        self.cluster(ClusterFact::Owned { item, epoch: Revision(epoch) });
    }

    pub fn release_part(&mut self, item: Item) {
        self.cluster(ClusterFact::Released { item });
    }

    fn tenures(&self) -> Vec<Option<Tenure>> {
        let tenures = self.log.iter().filter_map(|(_, action)| match action {
            Action::StartUnit { tenure, .. } => Some(*tenure),
            _ => None,
        });
        tenures.collect()
    }

    pub fn liveness_of(&self, name: &str) -> (Liveness, Option<String>) {
        let view = self.monitor.view(&device_name(name)).unwrap();
        (view.state, view.node)
    }
}

pub fn parts() -> impl Iterator<Item = Item> {
    (0..SHARDS).map(Item::Shard).chain([Item::House])
}

fn stopped(name: &str) -> ClusterReply {
    ClusterReply::Stopped(item(name))
}

#[test]
fn a_shared_agent_is_started_when_the_cluster_gives_it_to_this_node() {
    let mut house = house();
    house.advance(secs(60));
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.liveness_of("box"), (Liveness::Elsewhere, None));
    house.own("box", 7);
    assert_eq!(house.starts(UNIT), [house.mono]);
    let tenure = Tenure { epoch: Revision(7), when_cut: WhenCut::Stop };
    assert_eq!(house.tenures(), [Some(tenure)]);
    assert_eq!(house.liveness_of("box"), (Liveness::Unknown, Some("pi1".to_owned())));
    assert_eq!(house.replies(), []);
    house.own("box", 7);
    assert_eq!(house.starts(UNIT).len(), 1, "the same again changes nothing");
}

#[test]
fn an_agent_that_is_elsewhere_is_neither_alarmed_nor_spoken_of() {
    let mut house = house_of(vec![agent("box", 30), watched("lamp", 30)], &[("box", shared())]);
    house.own_all(5);
    house.turn_the_page();
    house.hear("home/box/x");
    house.hear("home/lamp/x");
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::Expired), 1, "of the lamp alone");
    house.expect_silence_on("status/box");
    house.expect_silence_on("expire/box");
    house.lose_watch();
    house.connect_watch();
    house.expect_silence_on("status/box");
    assert_eq!(house.liveness_of("box").0, Liveness::Elsewhere);
    house.own("box", 7);
    assert_eq!(house.status("box")["state"], "alive");
    assert_eq!(house.status("box")["node"], "pi1");
    house.advance(secs(29));
    assert_eq!(house.count(AlertKind::Expired), 1, "its silence begins when it comes");
    house.advance(secs(2));
    assert_eq!(house.count(AlertKind::Expired), 2);
}

#[test]
fn a_released_agent_is_reported_when_its_unit_has_ended_and_not_before() {
    let mut house = owner();
    house.manager.answers = false;
    house.release("box");
    assert_eq!(house.stops(UNIT), [house.mono]);
    assert_eq!(house.count(AlertKind::AgentStopped), 1);
    assert_eq!(house.replies(), []);
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Deactivating;
        report.main_pid = 0;
    });
    house.advance(secs(5));
    assert_eq!(house.replies(), [], "others of its processes may live");
    house.manager.units.clear();
    house.happen(Event::UnitRemoved { unit: unit() });
    house.happen(Event::StopFinished { unit: unit(), outcome: JobOutcome::Done });
    assert_eq!(house.replies(), [stopped("box")]);
    house.manager.answers = true;
    house.owners(&[("box", "nas")]);
    assert_eq!(house.liveness_of("box"), (Liveness::Elsewhere, Some("nas".to_owned())));
    house.expect_silence_on("status/box");
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.replies().len(), 1);
}

#[test]
fn an_agent_whose_stop_fails_is_reported_when_it_ends() {
    let mut house = owner();
    house.manager.answers = false;
    house.release("box");
    let outcome = JobOutcome::Failed("timeout".to_owned());
    house.happen(Event::StopFinished { unit: unit(), outcome });
    house.advance(secs(60));
    assert_eq!(house.replies(), []);
    house.manager.units.clear();
    house.happen(Event::UnitRemoved { unit: unit() });
    assert_eq!(house.replies(), [stopped("box")]);
}

#[test]
fn the_end_of_the_session_stops_everything_shared_and_nothing_else() {
    let devices = vec![agent("box", 30), agent("rules", 30), agent("radio", 30)];
    let agents = [("box", shared()), ("rules", kept()), ("radio", pinned("pi1"))];
    let mut house = house_of(devices, &agents);
    house.own("box", 7);
    house.own("rules", 7);
    house.turn_the_page();
    house.manager.answers = false;
    house.cluster(ClusterFact::Fenced(EndReason::Evicted));
    let stops = house.log.iter().filter(|(_, action)| matches!(action, Action::StopUnit { .. }));
    assert_eq!(stops.count(), 2, "what is pinned needs no session");
    assert_eq!(house.replies(), []);
    for ended in [UNIT, "iotmonitor-agent-rules.service"] {
        assert_eq!(house.stops(ended), [house.mono]);
        assert_eq!(house.replies(), []);
        let unit = UnitName::from_systemd(ended);
        house.manager.units.remove(&unit);
        house.happen(Event::UnitRemoved { unit: unit.clone() });
        house.happen(Event::StopFinished { unit, outcome: JobOutcome::Done });
    }
    assert_eq!(house.replies(), [ClusterReply::Fenced], "once, and none of single agents");
}

#[test]
fn a_session_that_ends_with_nothing_here_is_answered_at_once() {
    let mut house = house();
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    assert_eq!(house.replies(), [ClusterReply::Fenced]);
}

#[test]
fn an_agent_that_may_run_twice_goes_on_until_another_node_has_it() {
    let mut house = house_of(vec![agent("box", 30)], &[("box", kept())]);
    house.own("box", 7);
    house.turn_the_page();
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    assert_eq!(house.replies(), [ClusterReply::Fenced], "what goes on is not waited for");
    assert!(house.stops(UNIT).is_empty());
    assert_eq!(house.liveness_of("box").1, Some("pi1".to_owned()));
    house.owners(&[]);
    assert!(house.stops(UNIT).is_empty());
    house.owners(&[("box", "nas")]);
    assert_eq!(house.stops(UNIT), [house.mono]);
    assert_eq!(house.liveness_of("box"), (Liveness::Elsewhere, Some("nas".to_owned())));
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn an_agent_that_went_on_and_comes_back_runs_by_its_new_epoch() {
    let mut house = house_of(vec![agent("box", 30)], &[("box", kept())]);
    house.own("box", 7);
    house.cluster(ClusterFact::Fenced(EndReason::Deadline));
    house.turn_the_page();
    house.own("box", 9);
    assert_eq!((house.stops(UNIT).len(), house.starts(UNIT).len()), (1, 1));
    let tenure = Tenure { epoch: Revision(9), when_cut: WhenCut::Keep };
    assert_eq!(house.tenures(), [Some(tenure)]);
}

#[test]
fn a_restarted_monitor_adopts_what_its_session_has_and_stops_the_rest() {
    let devices = vec![agent("box", 30), agent("rules", 30)];
    let mut house = house_of(devices, &[("box", shared()), ("rules", shared())]);
    house.own("box", 7);
    house.own("rules", 7);
    house.crash();
    house.turn_the_page();
    house.power_up();
    house.advance(secs(3));
    assert!(house.stops(UNIT).is_empty(), "nothing is done before it is known what goes on");
    house.join(&[("box", 7)]);
    assert!(house.starts(UNIT).is_empty() && house.stops(UNIT).is_empty());
    assert_eq!(house.count(AlertKind::AgentAdopted), 1);
    assert_eq!(house.stops("iotmonitor-agent-rules.service"), [house.mono]);
    house.own("box", 7);
    assert!(house.starts(UNIT).is_empty() && house.stops(UNIT).is_empty());
}

#[test]
fn a_restarted_monitor_replaces_what_runs_by_another_epoch() {
    let mut house = owner();
    house.crash();
    house.join(&[("box", 8)]);
    house.turn_the_page();
    house.power_up();
    assert_eq!((house.stops(UNIT).len(), house.starts(UNIT).len()), (1, 1));
    assert_eq!(house.tenures()[0].unwrap().epoch, Revision(8));
}

#[test]
fn a_disabled_agent_is_not_started_by_the_node_that_has_it() {
    let mut house = house();
    house.happen(Event::Disabled { device: device_name("box") });
    house.own("box", 7);
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.liveness_of("box").0, Liveness::Disabled);
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.happen(Event::Enabled { device: device_name("box") });
    assert_eq!(house.starts(UNIT).len(), 1);
    house.happen(Event::Disabled { device: device_name("box") });
    house.release("box");
    assert_eq!(house.replies(), [stopped("box")], "it has ended already");
}

#[test]
fn an_agent_moves_away_and_comes_back() {
    let mut house = owner();
    for epoch in [9, 11] {
        house.turn_the_page();
        house.release("box");
        assert_eq!(house.replies(), [stopped("box")]);
        house.owners(&[("box", "nas")]);
        house.advance(secs(40));
        assert_eq!(house.count(AlertKind::Expired), 0);
        house.own("box", epoch);
        assert_eq!(house.starts(UNIT), [house.mono]);
        let moved = house.alerts(AlertKind::Moved);
        assert_eq!(moved.len(), 1);
        assert_eq!(moved[0].1.message, "agent `box` has moved from node `nas` to `pi1`");
    }
}

#[test]
fn an_order_for_an_agent_that_is_elsewhere_is_refused_with_its_node() {
    let mut house = house();
    house.happen(Event::RestartRequested { device: device_name("box") });
    assert!(house.starts(UNIT).is_empty());
    let goal = Goal::Started { before: None };
    for (owners, told) in [(&[][..], "no other node is known"), (&[("box", "nas")], "node `nas`")] {
        house.owners(owners);
        let sentence = house.monitor.elsewhere(&device_name("box")).unwrap();
        assert!(sentence.contains(told), "{sentence}");
        let progress = house.monitor.progress(&device_name("box"), &goal);
        assert_eq!(progress, Progress::Failed(sentence));
    }
    house.own("box", 7);
    assert_eq!(house.monitor.elsewhere(&device_name("box")), None);
}

#[test]
fn what_is_pinned_runs_on_its_node_alone_and_without_a_lease() {
    let agents = [("box", pinned("pi1")), ("radio", pinned("nas"))];
    let mut house = dark_of(vec![agent("box", 30), agent("radio", 30)], &agents);
    house.join(&[]);
    house.power_up();
    assert_eq!(house.tenures(), [None]);
    assert_eq!(house.starts(UNIT).len(), 1);
    assert_eq!(house.liveness_of("radio"), (Liveness::Elsewhere, Some("nas".to_owned())));
    let alone = House::running(vec![agent("box", 30)]);
    let definition = |house: &House| house.manager.units[&unit()].definition.clone();
    assert_eq!(definition(&house), definition(&alone), "it is the unit of a single machine");
}

#[test]
fn a_reload_leaves_shared_agents_alone_and_reports_those_that_it_ends() {
    let mut house = owner();
    house.reload(vec![agent("box", 60), watched("lamp", 30)]);
    assert!(house.starts(UNIT).is_empty() && house.stops(UNIT).is_empty());
    assert_eq!(house.status("box")["node"], "pi1");
    house.turn_the_page();
    house.manager.answers = false;
    house.spec.cluster = Some(cluster(&[]));
    house.reload(vec![watched("lamp", 30)]);
    assert_eq!(house.stops(UNIT).len(), 1);
    house.release("box");
    assert_eq!(house.replies(), []);
    house.manager.units.clear();
    house.happen(Event::UnitRemoved { unit: unit() });
    assert_eq!(house.replies(), [stopped("box")]);
}

#[test]
fn a_unit_of_another_nodes_agent_that_is_started_by_hand_is_stopped() {
    let mut house = house();
    let report = house.manager.run(&unit(), "by hand");
    house.happen(Event::UnitChanged(Box::new(report)));
    assert_eq!(house.stops(UNIT), [house.mono]);
    assert_eq!(house.replies(), []);
}

#[test]
fn a_cut_is_reported_when_it_has_lasted_and_its_end_too() {
    let mut house = house();
    let cut = || ClusterFact::Cut { reason: "connection refused".to_owned() };
    house.cluster(cut());
    house.advance(secs(5));
    house.cluster(ClusterFact::Back);
    house.advance(secs(60));
    assert_eq!((house.count(AlertKind::ClusterCut), house.count(AlertKind::ClusterBack)), (0, 0));
    house.cluster(cut());
    house.advance(secs(3600));
    let told = house.alerts(AlertKind::ClusterCut);
    assert!(told.len() == 1 && told[0].1.message.contains("(connection refused)"), "{told:?}");
    house.cluster(ClusterFact::Back);
    assert_eq!(house.count(AlertKind::ClusterBack), 1);
}

#[test]
fn the_loss_of_a_node_and_its_return_are_reported_with_its_name() {
    let mut house = house();
    house.cluster(ClusterFact::NodeLost(node("nas")));
    house.advance(secs(5));
    house.cluster(ClusterFact::NodeBack(node("nas")));
    for kind in [AlertKind::NodeLost, AlertKind::NodeBack] {
        let told = house.alerts(kind);
        assert!(told.len() == 1 && told[0].1.message.contains("node `nas`"), "{told:?}");
    }
}

#[test]
fn nodes_that_are_lost_together_are_one_alert_with_all_names() {
    let mut house = house();
    house.cluster(ClusterFact::NodeLost(node("nas")));
    house.advance(secs(1));
    house.cluster(ClusterFact::NodeLost(node("pi2")));
    house.advance(secs(60));
    let told = house.alerts(AlertKind::NodeLost);
    assert!(told.len() == 1 && told[0].1.message.contains("nodes `nas`, `pi2`"), "{told:?}");
    house.cluster(ClusterFact::NodeLost(node("pi3")));
    house.cluster(ClusterFact::NodeBack(node("pi3")));
    house.advance(secs(60));
    assert_eq!((house.count(AlertKind::NodeLost), house.count(AlertKind::NodeBack)), (1, 0));
}

#[test]
fn an_agent_that_the_plan_gives_to_this_node_is_where_it_was_until_it_comes() {
    let mut house = house();
    house.owners(&[("box", "nas")]);
    house.owners(&[("box", "pi1")]);
    assert_eq!(house.liveness_of("box").1.as_deref(), Some("nas"));
    house.own("box", 7);
    let told = house.alerts(AlertKind::Moved);
    assert!(told.len() == 1 && told[0].1.message.contains("from node `nas`"), "{told:?}");
}

#[test]
fn without_a_cluster_nothing_of_it_happens() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.own("box", 7);
    house.cluster(ClusterFact::Fenced(EndReason::Evicted));
    assert!(house.log.is_empty(), "{:?}", house.log);
    house.join(&[]);
    assert!(house.log.is_empty());
    assert_eq!(house.liveness_of("box").1, None);
}

#[test]
fn a_part_of_the_watching_is_given_back_at_once() {
    let mut house = house();
    house.own("#4", 7);
    house.own("#house", 7);
    house.owners(&[("#4", "pi1"), ("box", "nas")]);
    assert_eq!(house.liveness_of("box").1.as_deref(), Some("nas"));
    house.release("#4");
    house.release("#house");
    assert_eq!(house.replies(), [stopped("#4"), stopped("#house")]);
}

#[test]
fn a_guard_that_ends_is_one_alert_and_its_agents_were_stopped_by_nobody() {
    let mut house = house_of(
        vec![agent("box", 30), agent("radio", 30)],
        &[("box", shared()), ("radio", pinned("pi1"))],
    );
    house.own("box", 7);
    house.turn_the_page();
    house.manager.answers = false;
    house.cluster(ClusterFact::GuardEnded { how: "signal".to_owned() });
    assert_eq!((house.stops(UNIT), house.replies()), (vec![house.mono], vec![]));
    let unit = UnitName::from_systemd(UNIT);
    house.manager.units.remove(&unit);
    house.happen(Event::UnitRemoved { unit: unit.clone() });
    house.happen(Event::StopFinished { unit, outcome: JobOutcome::Done });
    assert_eq!(house.replies(), [ClusterReply::Fenced]);
    house.cluster(ClusterFact::Fenced(EndReason::GuardEnded));
    assert_eq!(house.replies(), [ClusterReply::Fenced, ClusterReply::Fenced]);
    house.manager.answers = true;
    house.own("box", 9);
    assert_eq!(house.starts(UNIT), [house.mono]);
    let told = house.alerts(AlertKind::GuardLost);
    assert!(told.len() == 1 && told[0].1.message.contains("(signal)"), "{told:?}");
    for kind in [AlertKind::AgentRelaunched, AlertKind::AgentFailed] {
        assert_eq!(house.count(kind), 0, "{kind:?}");
    }
}

#[test]
fn a_name_that_another_machine_has_is_said_with_what_to_do() {
    let mut house = house();
    house.cluster(ClusterFact::NameTaken);
    let told = house.alerts(AlertKind::NodeNameTaken);
    assert!(told.len() == 1 && told[0].1.message.contains("as node `pi1`"), "{told:?}");
    house.cluster(ClusterFact::GuardFailed { reason: "no kernel".to_owned() });
    let told = house.alerts(AlertKind::GuardLost);
    assert!(told.len() == 1 && told[0].1.message.contains("(no kernel)"), "{told:?}");
}

#[test]
fn what_has_left_the_configuration_meanwhile_is_given_back_when_it_has_ended() {
    let devices = vec![agent("box", 30), agent("rules", 30)];
    let mut house = house_of(devices, &[("box", shared()), ("rules", shared())]);
    house.own("box", 7);
    house.own("rules", 7);
    house.spec.devices.retain(|device| device.name.as_str() == "box");
    house.spec.cluster.as_mut().unwrap().agents.remove(&device_name("rules"));
    house.crash();
    house.join(&[("box", 7), ("rules", 7)]);
    house.turn_the_page();
    house.manager.answers = false;
    house.power_up();
    assert!(house.starts(UNIT).is_empty() && house.stops(UNIT).is_empty());
    let gone = "iotmonitor-agent-rules.service";
    assert_eq!(house.stops(gone), [house.mono]);
    house.release("rules");
    assert_eq!(house.replies(), [], "it may still run");
    let unit = UnitName::from_systemd(gone);
    house.manager.units.remove(&unit);
    house.happen(Event::UnitRemoved { unit: unit.clone() });
    house.happen(Event::StopFinished { unit, outcome: JobOutcome::Done });
    assert_eq!(house.replies(), [stopped("rules")]);
}
