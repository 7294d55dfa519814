//! Agents that several nodes share: what the cluster reports becomes starts and stops.

use crate::machines::sharing::parts::PartOutcome;
use crate::machines::sharing::{Place, Sharing, SharingOutcome};
use crate::model::alert::AlertKind;
use crate::model::cluster::sharing::ClusterFact;
use crate::model::cluster::{EndReason, Item};
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::unit_name::UnitName;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::collections::BTreeMap;

impl Monitor {
    pub(super) fn cluster_reported(&mut self, turn: &mut Turn<'_>, fact: ClusterFact) {
        let Some(sharing) = &mut self.sharing else { return };
        let (mut changes, mut is_over) = (Vec::new(), false);
        let outcomes = match fact {
            ClusterFact::Joined { runs } => {
                let (agents, parts) = agents_of(runs);
                let outcomes = sharing.joined(agents);
                changes = sharing.parts_mut().joined(parts);
                let nodes = self.nodes.as_mut().filter(|_| !changes.is_empty());
                if let Some(due) = nodes.and_then(|nodes| nodes.goes_on(turn.now.mono)) {
                    self.timers.push(due, Timer::Nodes);
                }
                let client_id = &self.client_id;
                let parting: Vec<DeviceName> = sharing.parting().cloned().collect();
                for name in parting {
                    if let Ok(unit) = UnitName::for_agent(client_id, name.as_str()) {
                        sharing.departs(&name, &unit);
                    }
                }
                outcomes
            }
            ClusterFact::Owned { item: Item::Agent(agent), epoch } => sharing.owned(agent, epoch),
            ClusterFact::Released { item: Item::Agent(agent) } => sharing.released(agent),
            ClusterFact::Owned { item: item @ (Item::House | Item::Shard(_)), epoch } => {
                changes = sharing.parts_mut().owned(&item, epoch);
                Vec::new()
            }
            ClusterFact::Released { item: item @ (Item::House | Item::Shard(_)) } => {
                changes = sharing.parts_mut().released(&item);
                Vec::new()
            }
            ClusterFact::Fenced(reason) => {
                changes = sharing.parts_mut().ended(reason);
                is_over = true;
                sharing.ended(reason)
            }
            ClusterFact::Owners(owners) => {
                let (agents, parts) = agents_of(owners);
                changes = sharing.parts_mut().owners(&parts);
                is_over = !changes.is_empty();
                sharing.owners(agents)
            }
            ClusterFact::Cut { reason } => {
                self.standby.cut(turn.now.mono);
                let due = sharing.cut(turn.now.mono, reason);
                self.timers.push(due, Timer::Cut);
                return;
            }
            ClusterFact::Back => return self.cluster_back(turn),
            ClusterFact::Orders(orders) => return self.orders_read(turn, &orders),
            ClusterFact::GuardEnded { how } => {
                let message = format!(
                    "the guard of this node has ended ({how}), and the agents that it guards were \
                     stopped: both are started again; `journalctl -u iotmonitor-guard` shows more"
                );
                turn.raise(AlertKind::GuardLost, message);
                changes = sharing.parts_mut().ended(EndReason::GuardEnded);
                is_over = true;
                sharing.ended(EndReason::GuardEnded)
            }
            ClusterFact::GuardFailed { reason } => {
                let message = format!(
                    "the guard of this node cannot be started ({reason}): agents that several \
                     nodes share run elsewhere until it can; `journalctl -u iotmonitor-guard` \
                     shows more"
                );
                return turn.raise(AlertKind::GuardLost, message);
            }
            ClusterFact::NameTaken => {
                let message = format!(
                    "another machine takes part in the cluster as node `{}`: this one does not \
                     until the other has left; set `node` in [cluster] to another name on one of \
                     the two",
                    sharing.node()
                );
                return turn.raise(AlertKind::NodeNameTaken, message);
            }
            ClusterFact::ConfigRefused { message } => {
                return turn.raise(AlertKind::SharedRefused, message);
            }
            ClusterFact::NodeLost(node) => {
                if let Some(due) = self.absences.lost(turn.now.mono, node) {
                    self.timers.push(due, Timer::Absences);
                }
                return;
            }
            ClusterFact::NodeBack(node) => {
                if self.absences.back(&node) {
                    let message = format!("node `{node}` takes part in the cluster again");
                    turn.raise(AlertKind::NodeBack, message);
                }
                return;
            }
        };
        if is_over {
            self.end_restores(turn);
        }
        for change in changes {
            // Nobody waits until the broker has what was said of it.
            let withdrawn =
                if let PartOutcome::Goes(part) = &change { Some(part.clone()) } else { None };
            self.part_changes(turn, change);
            if let Some(part) = withdrawn.filter(|_| is_over) {
                self.withdraw(turn, &part);
            }
        }
        for outcome in outcomes {
            self.share(turn, outcome);
        }
        self.take_in_units(turn);
        self.stand_in(turn);
    }

    /// Speaks for nodes that the broker does not show, while nothing is known of the plan.
    pub(super) fn stand_in(&mut self, turn: &mut Turn<'_>) {
        let (Some(sharing), Some(nodes)) = (&mut self.sharing, &mut self.nodes) else { return };
        let returned = nodes.take_returned();
        if !sharing.is_cut_off() {
            return;
        }
        let parts = sharing.parts_mut();
        let mut changes = returned.map_or(Vec::new(), |node| parts.returned(Some(&node)));
        if nodes.stands_in() {
            changes.extend(parts.stand_in(|owner| nodes.speaks(owner)));
        }
        for change in changes {
            self.part_changes(turn, change);
        }
    }

    /// Reports the nodes that were lost together.
    pub(super) fn absences_due(&mut self, turn: &mut Turn<'_>) {
        let lost = self.absences.take_due(turn.now.mono);
        let names: Vec<String> = lost.iter().map(|node| format!("`{node}`")).collect();
        let message = match names.as_slice() {
            [] => return,
            [name] => format!(
                "node {name} has not been heard of in time: other nodes take over what it had; see \
                 whether it runs and is connected"
            ),
            names => format!(
                "the nodes {} have not been heard of in time: other nodes take over what they had; \
                 see whether they run, and what connects them",
                names.join(", ")
            ),
        };
        turn.raise(AlertKind::NodeLost, message);
    }

    /// Reports that the store has not answered for a while.
    pub(super) fn cut_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let reason = self.sharing.as_mut().and_then(|sharing| sharing.cut_lasts(now));
        let Some(reason) = reason else { return };
        let message = format!(
            "etcd does not answer ({reason}): what this node shares with others stops, but for \
             agents with `whenCut = \"keep\"`; everything else goes on"
        );
        turn.raise(AlertKind::ClusterCut, message);
        self.stand_in(turn);
    }

    fn cluster_back(&mut self, turn: &mut Turn<'_>) {
        self.standby.back(turn.now.mono);
        let parts = self.sharing.as_mut().map(Sharing::parts_mut);
        for change in parts.map_or(Vec::new(), |parts| parts.returned(None)) {
            self.part_changes(turn, change);
        }
        if self.sharing.as_mut().is_some_and(Sharing::back) {
            turn.raise(AlertKind::ClusterBack, "etcd answers again".to_owned());
        }
    }

    fn share(&mut self, turn: &mut Turn<'_>, outcome: SharingOutcome) {
        match outcome {
            SharingOutcome::Placed(name) => {
                if let Some(id) = self.id_named(&name) {
                    self.settle_place(turn, id);
                }
            }
            SharingOutcome::Moved { agent, from } => {
                let (Some(id), Some(sharing)) = (self.id_named(&agent), &self.sharing) else {
                    return;
                };
                let node = sharing.node();
                let message = format!("agent `{agent}` has moved from node `{from}` to `{node}`");
                turn.out.push(self.device_alert(id, AlertKind::Moved, message));
            }
            SharingOutcome::Reply(reply) => self.reply_to_cluster(turn, reply),
        }
    }

    /// Starts or stops an agent after the cluster has given it to this node or taken it away.
    fn settle_place(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(sharing) = &self.sharing else { return };
        let device = &self.devices[id];
        let name = device.spec.name.clone();
        let (was_elsewhere, place) = (device.monitoring.is_elsewhere(), sharing.place(&name));
        let (was_enabled, is_fencing) = (device.is_enabled(), sharing.is_fencing());
        if let Place::Here(tenure) = place {
            self.drive(turn, id, |agent, context| agent.entrust(&name, tenure, context));
        }
        let is_elsewhere = place == Place::Elsewhere;
        if was_elsewhere == is_elsewhere {
            return self.report_unit(turn, id);
        }
        let stops = is_elsewhere && was_enabled;
        let why = if is_fencing {
            "the session of this node in the cluster has ended"
        } else {
            "another node is to have it"
        };
        let message = format!("agent `{name}` is stopped on this node: {why}");
        self.devices[id].monitoring.set_elsewhere(is_elsewhere);
        self.monitoring_changed(turn, id, stops.then_some((AlertKind::AgentStopped, message)));
    }

    /// Says where a person finds an agent or a device that this node does not have.
    #[must_use]
    pub fn elsewhere(&self, name: &DeviceName) -> Option<String> {
        let id = self.id_named(name)?;
        self.devices[id].monitoring.is_elsewhere().then(|| self.elsewhere_sentence(id))
    }
}

/// The agents among the items, and the parts of the watching.
fn agents_of<T>(items: BTreeMap<Item, T>) -> (BTreeMap<DeviceName, T>, BTreeMap<Item, T>) {
    let (mut agents, mut parts) = (BTreeMap::new(), BTreeMap::new());
    for (item, of) in items {
        match item {
            Item::Agent(name) => _ = agents.insert(name, of),
            Item::House | Item::Shard(_) => _ = parts.insert(item, of),
        }
    }
    (agents, parts)
}
