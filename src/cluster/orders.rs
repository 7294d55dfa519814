//! People's orders to the cluster, which any of its nodes takes. They are keys in the store: each node
//! reads them with everything else, and does its part.

use super::{ClusterCommand, ClusterHandle};
use crate::etcd::Applied;
use iotmonitor_core::model::cluster::orders::SharedOrder;
use iotmonitor_core::model::cluster::view::{ClusterView, NodeState, NodeView};
use iotmonitor_core::model::cluster::{Item, NodeName};
use iotmonitor_core::model::device_name::DeviceName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// What is moved has ended on one node and has its next owner within this time, unless a node has
/// failed or has no broker.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at how far an order has got.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Explains why an order to the cluster was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("this node takes no part in its cluster at present: see `journalctl -u iotmonitor`")]
    NoPart,
    #[error("nothing has been changed for certain, since etcd does not answer: {0}")]
    NoStore(String),
    #[error("nothing has been applied for certain: {0}")]
    NotApplied(String),
    #[error("there is no node `{node}` in the cluster; its nodes are {}", list(.nodes))]
    UnknownNode { node: NodeName, nodes: Vec<NodeName> },
    #[error("node `{0}` does not take part at present: see that iotmonitor runs there")]
    Away(NodeName),
    #[error(
        "node `{0}` is drained and takes nothing: `iotmonitor cluster drain {0} --end` ends that"
    )]
    Drained(NodeName),
    #[error(
        "`{0}` is no agent that nodes share: the configuration has no section [agent_{0}], or its \
        `nodes` names one node alone"
    )]
    NotShared(DeviceName),
    #[error(
        "agent `{agent}` may not run on node `{node}`: its section allows {}",
        list(.nodes)
    )]
    NotAllowed { agent: DeviceName, node: NodeName, nodes: Vec<NodeName> },
    #[error(
        "agent `{agent}` moves only between nodes that use the same version of the shared sections: \
        node `{from}` uses {}, and node `{to}` uses {}; see why in the alert `shared-refused` of the \
        one that does not use the latest version, and reload iotmonitor there",
        version(uses[0]), version(uses[1])
    )]
    OtherSections { agent: DeviceName, from: NodeName, to: NodeName, uses: [Option<u64>; 2] },
    #[error(
        "no node has agent `{0}` at present, so that none can give it away: `iotmonitor cluster` \
        shows the nodes"
    )]
    Nowhere(DeviceName),
    #[error(
        "agent `{agent}` is still on node `{from}` after {PATIENCE:?}: see whether it can be stopped \
        there"
    )]
    NotMoved { agent: DeviceName, from: NodeName },
    #[error(
        "node `{node}` still has {left} after {PATIENCE:?}, and gives it away as soon as it can: see \
        whether iotmonitor runs there"
    )]
    NotDrained { node: NodeName, left: String },
}

fn list(nodes: &[NodeName]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("`{node}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "none".to_owned(),
    }
}

fn version(number: Option<u64>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| format!("version {number}"))
}

impl ClusterHandle {
    /// What this node knows of the cluster.
    ///
    /// # Errors
    /// Returns an error if the thread has ended.
    pub async fn view(&self) -> Result<ClusterView, OrderError> {
        let (reply, view) = oneshot::channel();
        if !self.send(ClusterCommand::View(reply)) {
            return Err(OrderError::NoPart);
        }
        view.await.map_err(|_| OrderError::NoPart)
    }

    /// Puts an order into the store, from which all nodes read it within a second or two.
    ///
    /// # Errors
    /// Returns an error if the store does not answer. The order may have been committed then.
    pub async fn order(&self, order: SharedOrder) -> Result<(), OrderError> {
        let (reply, outcome) = oneshot::channel();
        if !self.send(ClusterCommand::Order { order, reply }) {
            return Err(OrderError::NoPart);
        }
        outcome.await.map_err(|_| OrderError::NoPart)?.map_err(OrderError::NoStore)
    }

    /// Puts sections into the store, from which all nodes read them within a second or two.
    ///
    /// # Errors
    /// Returns an error if the store does not answer, or has got others meanwhile.
    pub async fn apply(&self, text: Arc<str>) -> Result<Applied, OrderError> {
        let (reply, outcome) = oneshot::channel();
        if !self.send(ClusterCommand::Apply { text, reply }) {
            return Err(OrderError::NoPart);
        }
        outcome.await.map_err(|_| OrderError::NoPart)?.map_err(OrderError::NotApplied)
    }

    /// Moves an agent to a node, and returns when the node has it.
    ///
    /// # Errors
    /// Returns an error if that cannot be, or takes too long.
    pub async fn move_agent(&self, agent: DeviceName, to: NodeName) -> Result<(), OrderError> {
        let item = Item::Agent(agent.clone());
        let view = self.view().await?;
        let from = movable(&view, &agent, &to)?;
        if from == to {
            return Ok(());
        }
        self.order(SharedOrder::Move { agent: agent.clone(), to: to.clone() }).await?;
        let has_moved = |view: &ClusterView| {
            view.items.get(&item).is_some_and(|i| i.node.as_ref() == Some(&to))
        };
        if self.becomes(has_moved).await? {
            return Ok(());
        }
        Err(OrderError::NotMoved { agent, from })
    }

    /// Lets a node give away everything, and returns when it has nothing; or lets it take part again.
    /// Without a node this one is meant.
    ///
    /// # Errors
    /// Returns an error if there is no such node, or something stays there.
    pub async fn drain(&self, node: Option<NodeName>, drains: bool) -> Result<(), OrderError> {
        let view = self.view().await?;
        let node = node.unwrap_or_else(|| view.node.clone());
        let lives = match view.nodes.get(&node) {
            Some(NodeView { state, .. }) => *state != NodeState::Lost,
            None => {
                let nodes = view.nodes.into_keys().collect();
                return Err(OrderError::UnknownNode { node, nodes });
            }
        };
        self.order(SharedOrder::Drain { node: node.clone(), drains }).await?;
        let is_done = |view: &ClusterView| {
            let is_told = view.nodes.get(&node).is_none_or(|seen| seen.drains == drains);
            is_told && (!drains || view.items_of(&node).next().is_none())
        };
        // What is lost reads the order when it returns.
        if !lives || self.becomes(is_done).await? {
            return Ok(());
        }
        let view = self.view().await?;
        let left: Vec<String> = view.items_of(&node).map(ToString::to_string).collect();
        let left = if left.is_empty() { "not read the order".to_owned() } else { left.join(", ") };
        Err(OrderError::NotDrained { node, left })
    }

    /// Waits until something holds. Returns whether it did in time.
    async fn becomes(&self, holds: impl Fn(&ClusterView) -> bool) -> Result<bool, OrderError> {
        let until = Instant::now() + PATIENCE;
        while !holds(&self.view().await?) {
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }
}

/// The node that has an agent which can move to another one.
fn movable(view: &ClusterView, agent: &DeviceName, to: &NodeName) -> Result<NodeName, OrderError> {
    let (agent, to) = (agent.clone(), to.clone());
    let Some(target) = view.nodes.get(&to) else {
        let nodes = view.nodes.keys().cloned().collect();
        return Err(OrderError::UnknownNode { node: to, nodes });
    };
    let Some(item) = view.items.get(&Item::Agent(agent.clone())) else {
        return Err(OrderError::NotShared(agent));
    };
    if !item.nodes.is_empty() && !item.nodes.contains(&to) {
        return Err(OrderError::NotAllowed { agent, node: to, nodes: item.nodes.clone() });
    }
    match target {
        NodeView { state: NodeState::Lost | NodeState::Late, .. } => Err(OrderError::Away(to)),
        NodeView { drains: true, .. } => Err(OrderError::Drained(to)),
        NodeView { config, .. } => {
            let Some(from) = item.node.clone() else { return Err(OrderError::Nowhere(agent)) };
            let uses = [view.nodes.get(&from).and_then(|node| node.config), *config];
            if uses[0] == uses[1] {
                Ok(from)
            } else {
                // The owner gives it to no node that may not know it.
                Err(OrderError::OtherSections { agent, from, to, uses })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::SessionId;
    use iotmonitor_core::model::cluster::view::{ItemView, StoreView};

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn agent(name: &str) -> DeviceName {
        DeviceName::new(name).unwrap()
    }

    fn view() -> ClusterView {
        let seen = |state, drains| NodeView {
            session: SessionId { boot: 1, number: 1 },
            state,
            renewed: Duration::ZERO,
            failover_after: Duration::from_secs(8),
            broker: true,
            drains,
            config: None,
        };
        let item = |name: &str, node: Option<NodeName>, nodes| {
            (Item::Agent(agent(name)), ItemView { node, nodes, epoch: None })
        };
        ClusterView {
            node: node("pi1"),
            epoch: None,
            etcd: StoreView {
                answers: Some(true),
                lasts: Duration::ZERO,
                reason: None,
                config: None,
            },
            nodes: [
                (node("nas"), seen(NodeState::Lost, false)),
                (node("pi1"), seen(NodeState::Alive, false)),
                (node("pi2"), seen(NodeState::Alive, false)),
                (node("pi3"), seen(NodeState::Alive, true)),
                (node("pi4"), NodeView { config: Some(3), ..seen(NodeState::Alive, false) }),
            ]
            .into(),
            items: [
                item("rules", Some(node("pi1")), Vec::new()),
                item("zigbee", Some(node("pi1")), vec![node("pi1"), node("nas")]),
                item("pump", None, Vec::new()),
            ]
            .into(),
        }
    }

    #[test]
    fn what_cannot_move_is_refused_with_the_reason() {
        let view = view();
        let asked = |name: &str, to: &str| movable(&view, &agent(name), &node(to));
        assert_eq!(asked("rules", "pi2"), Ok(node("pi1")));
        let said = |name, to| asked(name, to).unwrap_err().to_string();
        assert_eq!(
            said("rules", "pi9"),
            "there is no node `pi9` in the cluster; its nodes are `nas`, `pi1`, `pi2`, `pi3` and `pi4`"
        );
        assert_eq!(
            said("zigbee", "pi2"),
            "agent `zigbee` may not run on node `pi2`: its section allows `pi1` and `nas`"
        );
        assert!(said("lamp", "pi2").starts_with("`lamp` is no agent that nodes share"));
        assert!(said("rules", "nas").starts_with("node `nas` does not take part at present"));
        assert!(said("rules", "pi3").ends_with("`iotmonitor cluster drain pi3 --end` ends that"));
        assert_eq!(
            said("rules", "pi4"),
            "agent `rules` moves only between nodes that use the same version of the shared \
             sections: node `pi1` uses none, and node `pi4` uses version 3; see why in the alert \
             `shared-refused` of the one that does not use the latest version, and reload \
             iotmonitor there"
        );
        assert!(said("pump", "pi2").starts_with("no node has agent `pump`"));
    }
}
