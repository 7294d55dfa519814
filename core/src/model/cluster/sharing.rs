//! What this node shares with others, as its configuration says.

use super::orders::SharedOrders;
use super::store::Revision;
use super::{Allowed, EndReason, Item, Items, NodeName, SHARDS};
use crate::model::device_name::DeviceName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node of a cluster and its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// This node.
    pub node: NodeName,
    /// All agents of the configuration, also those that run on one node alone.
    pub agents: BTreeMap<DeviceName, Placement>,
    pub standby: StandbyMode,
}

/// What a node hears of the devices of which other nodes speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StandbyMode {
    /// All of it, so that it goes on at once where another node ends.
    #[default]
    Hot,
    /// Their states and hellos alone. Their silence begins anew when they come to this node.
    Cold,
}

/// Where an agent may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub allowed: Allowed,
    pub when_cut: WhenCut,
}

/// What happens to an agent while the shared store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenCut {
    /// It stops before another node may start it.
    Stop,
    /// It goes on, and another node may start it too.
    Keep,
}

/// The right of this node to run a shared agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// The revision of the plan that gave it the agent, larger than that of any earlier owner. The
    /// agent gets it as `IOTMONITOR_EPOCH`.
    pub epoch: Revision,
    pub when_cut: WhenCut,
}

/// What the cluster reports to the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterFact {
    /// This node takes part. These items go on from an earlier process, since the session does;
    /// nothing else that is shared may run here.
    Joined { runs: BTreeMap<Item, Revision> },
    /// The item is this node's, and its earlier owners have all ended.
    Owned { item: Item, epoch: Revision },
    /// The item must stop, so that another node can have it.
    Released { item: Item },
    /// The session of this node has ended. Everything that is shared must stop.
    Fenced(EndReason),
    /// The nodes that have items, as the plan says now.
    Owners(BTreeMap<Item, NodeName>),
    /// What people have ordered for all nodes is this.
    Orders(Arc<SharedOrders>),
    /// The shared store has ceased to answer, with the reason. Reported once.
    Cut { reason: String },
    /// It answers again.
    Back,
    /// The guard of this node has ended in this way, and with it everything that is bound to it.
    GuardEnded { how: String },
    /// The guard of this node cannot be started, for this reason. Reported once.
    GuardFailed { reason: String },
    /// Another machine uses the name of this node. Reported once.
    NameTaken,
    /// This node cannot use a version of the shared sections, as the sentence says. Reported once.
    ConfigRefused { message: String },
    /// The session of another node has ended by a time-out.
    NodeLost(NodeName),
    /// That node takes part again.
    NodeBack(NodeName),
}

/// What the monitor answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterReply {
    /// The item has ended after [`ClusterFact::Released`].
    Stopped(Item),
    /// Everything that is shared has ended after [`ClusterFact::Fenced`], but for what may run twice.
    Fenced,
    /// Whether the broker can be reached. Without it for a while, what needs it goes elsewhere.
    Broker(bool),
}

impl ClusterSpec {
    /// Everything that exactly one node has at a time.
    #[must_use]
    pub fn items(&self) -> Items {
        let shards = (0..SHARDS).map(Item::Shard).chain([Item::House]);
        let agents = self
            .agents
            .iter()
            .map(|(name, placement)| (Item::Agent(name.clone()), placement.allowed.clone()));
        Items::new(shards.map(|shard| (shard, Allowed::Everywhere)).chain(agents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_its_shards_and_its_agents_are_shared_but_for_pinned_ones() {
        let node = NodeName::new("pi1").unwrap();
        let name = |name| DeviceName::new(name).unwrap();
        let placed = |allowed| Placement { allowed, when_cut: WhenCut::Stop };
        let spec = ClusterSpec {
            standby: StandbyMode::Hot,
            node: node.clone(),
            agents: BTreeMap::from([
                (name("rules"), placed(Allowed::Everywhere)),
                (name("zigbee"), placed(Allowed::On(vec![node]))),
            ]),
        };
        let items = spec.items();
        assert_eq!(items.iter().count(), usize::from(SHARDS) + 2);
        assert_eq!(items.allowed(&Item::Agent(name("rules"))), Some(&Allowed::Everywhere));
        assert_eq!(items.allowed(&Item::Agent(name("zigbee"))), None);
    }
}
