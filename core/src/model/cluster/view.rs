//! The cluster as one of its nodes sees it, for people and programs.

use super::sections::SectionsVersion;
use super::store::Revision;
use super::{Item, NodeName, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one node knows of the cluster at a time. Ages are of its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// The node that has been asked.
    pub node: NodeName,
    /// The revision of the plan that says who has what. Each later plan has a larger one.
    pub epoch: Option<Revision>,
    pub etcd: StoreView,
    pub nodes: BTreeMap<NodeName, NodeView>,
    /// Everything that is shared, as the plan says.
    pub items: BTreeMap<Item, ItemView>,
}

/// Whether the shared store answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    /// `None` before the first answer or failure.
    pub answers: Option<bool>,
    /// For how long that has been so.
    #[serde(with = "seconds")]
    pub lasts: Duration,
    /// Why it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version of the shared sections that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<SectionsVersion>,
}

/// A node, as its record in the store says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    #[serde(with = "session")]
    pub session: SessionId,
    pub state: NodeState,
    /// The age of its last renewal, as far as this node has seen it.
    #[serde(with = "seconds")]
    pub renewed: Duration,
    /// After this time without a renewal, another node ends the session.
    #[serde(with = "seconds")]
    pub failover_after: Duration,
    /// It is connected to the broker.
    pub broker: bool,
    /// It gives away what it has, and takes nothing.
    pub drains: bool,
    /// The number of the version of the shared sections that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<u64>,
}

/// Whether a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    /// Its session lives.
    Alive,
    /// Its renewal is overdue, and another node is to end the session.
    Late,
    /// Its session has ended.
    Lost,
}

/// Who has something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemView {
    /// `None` while no node can have it.
    pub node: Option<NodeName>,
    /// The nodes on which it may be; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeName>,
    /// The epoch by which it runs on the node that has been asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Revision>,
}

impl NodeState {
    /// The state in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Late => "late",
            Self::Lost => "lost",
        }
    }
}

impl ClusterView {
    /// Returns the view as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Takes apart what [`to_json`](Self::to_json) writes.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// What a node has.
    pub fn items_of(&self, node: &NodeName) -> impl Iterator<Item = &Item> {
        let has = move |view: &ItemView| view.node.as_ref() == Some(node);
        self.items.iter().filter(move |(_, view)| has(view)).map(|(item, _)| item)
    }

    /// What no node has.
    pub fn orphans(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|(_, view)| view.node.is_none()).map(|(item, _)| item)
    }
}

/// Seconds with a fraction.
mod seconds {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A string, since programs read no integers of 128 bits.
mod session {
    use crate::model::cluster::SessionId;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(session: &SessionId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(session)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SessionId, D::Error> {
        let written = String::deserialize(from)?;
        let parts = written.split_once('-');
        let parsed = parts.and_then(|(boot, number)| {
            let boot = u128::from_str_radix(boot, 16).ok()?;
            Some(SessionId { boot, number: u64::from_str_radix(number, 16).ok()? })
        });
        parsed.ok_or_else(|| D::Error::custom(format!("{written:?} is not a session")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::orders::OrderStamp;

    #[test]
    fn a_view_comes_back_from_json_as_it_was() {
        let name = |name| NodeName::new(name).unwrap();
        let node = NodeView {
            session: SessionId { boot: u128::MAX - 1, number: 7 },
            state: NodeState::Late,
            renewed: Duration::from_millis(8_250),
            failover_after: Duration::from_secs(8),
            broker: true,
            drains: false,
            config: Some(7),
        };
        let rules = "rules".parse::<Item>().unwrap();
        let view = ClusterView {
            node: name("pi1"),
            epoch: Some(Revision(41)),
            etcd: StoreView {
                answers: Some(true),
                lasts: Duration::from_secs(60),
                reason: None,
                config: Some(SectionsVersion {
                    number: 7,
                    stamp: OrderStamp { stamp: u64::MAX },
                    given: 5,
                    by: name("pi2"),
                    bytes: 3,
                    chunks: 1,
                }),
            },
            nodes: [(name("pi2"), node)].into(),
            items: [
                (Item::House, ItemView { node: Some(name("pi2")), nodes: Vec::new(), epoch: None }),
                (rules, ItemView { node: None, nodes: vec![name("pi1")], epoch: None }),
            ]
            .into(),
        };
        let json = view.to_json();
        assert!(json.contains(r#""renewed":8.25,"failoverAfter":8.0"#), "{json}");
        assert!(json.contains(r#""session":"fffffffffffffffffffffffffffffffe-"#), "{json}");
        assert_eq!(ClusterView::from_json(&json).as_ref(), Some(&view));
        assert_eq!(view.items_of(&name("pi2")).collect::<Vec<_>>(), [&Item::House]);
        assert_eq!(view.orphans().count(), 1);
    }
}
