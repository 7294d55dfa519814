//! The nodes and who has what, as far as it changes what people are told: each change once.
//!
//! It is kept beside the [`Member`], whose decisions do not depend on it.

use super::Member;
use crate::model::cluster::{Item, NodeName};
use std::collections::BTreeMap;

/// What this node has reported of the others.
#[derive(Debug, Default)]
pub struct NodeRoster {
    owners: Option<BTreeMap<Item, NodeName>>,
    nodes: BTreeMap<NodeName, Presence>,
    has_looked: bool,
}

/// Whether a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    There,
    /// It gives away what it has. Its end is no loss.
    Leaves,
    /// Another node has ended its session.
    Lost,
}

/// A change since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterChange {
    /// The nodes that have items now, with living sessions.
    Owners(BTreeMap<Item, NodeName>),
    /// The session of the node has ended by a time-out.
    NodeLost(NodeName),
    /// A node that was lost takes part again.
    NodeBack(NodeName),
}

impl NodeRoster {
    /// Looks at what the member has read. A node that was lost before the first look is not reported
    /// as lost.
    pub fn look(&mut self, member: &Member) -> Vec<RosterChange> {
        let mut changes = Vec::new();
        for (name, presence) in member.others() {
            let before = self.nodes.get(name).copied();
            if before == Some(presence) {
                continue;
            }
            match (before, presence) {
                (Some(_), Presence::Lost) => changes.push(RosterChange::NodeLost(name.clone())),
                (None, Presence::Lost) if self.has_looked => {
                    changes.push(RosterChange::NodeLost(name.clone()));
                }
                (Some(Presence::Lost), _) => changes.push(RosterChange::NodeBack(name.clone())),
                _ => {}
            }
            self.nodes.insert(name.clone(), presence);
        }
        self.has_looked = true;
        let is_same = self.owners.as_ref().is_some_and(|owners| owners.iter().eq(member.owners()));
        if !is_same {
            let owners = member.owners().map(|(item, node)| (item.clone(), node.clone()));
            let owners: BTreeMap<Item, NodeName> = owners.collect();
            self.owners = Some(owners.clone());
            changes.push(RosterChange::Owners(owners));
        }
        changes
    }
}
