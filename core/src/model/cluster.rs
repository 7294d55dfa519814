//! Several machines that share agents and devices: the names of things, and what the shared store
//! holds about them.

pub mod node_word;
pub mod orders;
pub mod sections;
pub mod shard;
pub mod sharing;
pub mod store;
pub mod timing;
pub mod view;

use crate::model::device_name::{DeviceName, DeviceNameError};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The number of groups into which watched devices are divided.
pub const SHARDS: u8 = 32;

/// The name of a machine in the cluster, by default its host name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// Explains why a string is not the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    #[error("the name of a node is empty: set `node` in `[cluster]`")]
    Empty,
    #[error(
        "the node name {name:?} may not contain {character:?}: it has the form of a host name, of \
        letters, digits, `-`, `_` and `.`"
    )]
    Character { name: String, character: char },
    #[error("the node name {name:?} has {} bytes, and a host name has {LONGEST_NODE_NAME} at most", name.len())]
    TooLong { name: String },
}

/// The longest host name in bytes (gethostname(2)).
const LONGEST_NODE_NAME: usize = 64;

impl NodeName {
    /// # Errors
    /// Returns an error when the name has not the form of a host name. What has it is also one level
    /// of a topic and of a key.
    pub fn new(name: &str) -> Result<Self, NodeNameError> {
        if name.is_empty() {
            return Err(NodeNameError::Empty);
        }
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match name.chars().find(|c| !is_plain(c)) {
            Some(character) => Err(NodeNameError::Character { name: name.to_owned(), character }),
            None if name.len() > LONGEST_NODE_NAME => {
                Err(NodeNameError::TooLong { name: name.to_owned() })
            }
            None => Ok(Self(name.into())),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;
    fn try_from(name: String) -> Result<Self, NodeNameError> {
        Self::new(&name)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The clientid of the watch connection. Each node of a cluster has one of its own.
#[must_use]
pub fn connection_id(client_id: &str, node: Option<&NodeName>) -> String {
    node.map_or_else(|| client_id.to_owned(), |node| format!("{client_id}@{node}"))
}

/// One membership of a node. A session that has ended never returns: the node begins another one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct SessionId {
    /// The boot of the machine (`/proc/sys/kernel/random/boot_id`), or a random number of the process
    /// where that may not be read.
    pub boot: u128,
    /// A random number.
    pub number: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:016x}", self.boot, self.number)
    }
}

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// No renewal was confirmed in time.
    Deadline,
    /// Another node has ended it, or has taken over the name.
    Evicted,
    /// The store does not contain a renewal that it had confirmed.
    StoreLostWrites,
    /// The guard of this node has ended, and with it everything that was bound to it.
    GuardEnded,
}

/// What exactly one node has at a time.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum Item {
    /// Speaks of the whole installation: its availability.
    House,
    /// Watches and restores a part of the devices.
    Shard(u8),
    /// Runs this agent.
    Agent(DeviceName),
}

/// Explains why a string is not an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error(transparent)]
    Agent(#[from] DeviceNameError),
    #[error("{0:?} is neither `#house` nor a shard from `#0` to `#31`")]
    Shard(String),
}

impl Item {
    /// Whether the item acts on devices, which needs a connection to the broker.
    #[must_use]
    pub fn needs_broker(&self) -> bool {
        !matches!(self, Self::Agent(_))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::House => f.write_str("#house"),
            Self::Shard(number) => write!(f, "#{number}"),
            Self::Agent(name) => fmt::Display::fmt(name, f),
        }
    }
}

impl FromStr for Item {
    type Err = ItemError;
    /// Takes apart what [`fmt::Display`] writes. No agent's name contains `#`.
    fn from_str(name: &str) -> Result<Self, ItemError> {
        match name.strip_prefix('#') {
            None => Ok(Self::Agent(DeviceName::new(name)?)),
            Some("house") => Ok(Self::House),
            Some(number) => match number.parse() {
                Ok(shard) if shard < SHARDS => Ok(Self::Shard(shard)),
                _ => Err(ItemError::Shard(name.to_owned())),
            },
        }
    }
}

impl TryFrom<String> for Item {
    type Error = ItemError;
    fn try_from(name: String) -> Result<Self, ItemError> {
        name.parse()
    }
}

impl From<Item> for String {
    fn from(item: Item) -> Self {
        item.to_string()
    }
}

/// The nodes on which an item may be, as its section says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allowed {
    Everywhere,
    /// `nodes = ["pi1", "pi2"]`
    On(Vec<NodeName>),
}

impl Allowed {
    #[must_use]
    pub fn includes(&self, node: &NodeName) -> bool {
        match self {
            Self::Everywhere => true,
            Self::On(nodes) => nodes.contains(node),
        }
    }

    /// The only node that is allowed. What is pinned to it needs no lease and no guard, and is not
    /// among the shared [`Items`].
    #[must_use]
    pub fn pinned_to(&self) -> Option<&NodeName> {
        match self {
            Self::On(nodes) if nodes.len() == 1 => nodes.first(),
            Self::On(_) | Self::Everywhere => None,
        }
    }
}

/// Everything that the nodes share, with the nodes on which each may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Items(BTreeMap<Item, Allowed>);

impl Items {
    /// Leaves out what is pinned to one node.
    #[must_use]
    pub fn new(sections: impl IntoIterator<Item = (Item, Allowed)>) -> Self {
        let shared = sections.into_iter().filter(|(_, allowed)| allowed.pinned_to().is_none());
        Self(shared.collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Item, &Allowed)> {
        self.0.iter()
    }

    #[must_use]
    pub fn allowed(&self, item: &Item) -> Option<&Allowed> {
        self.0.get(item)
    }
}

/// The session of the node that has an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    pub node: NodeName,
    pub session: SessionId,
}

/// Who has what. A plan that replaces another differs from it in `by`, so that no two plans are
/// equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct OwnerPlan {
    pub by: Stamp,
    pub owners: BTreeMap<Item, Owner>,
}

/// Distinguishes each plan from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    pub session: SessionId,
    /// When the plan was sent, in nanoseconds of the boot clock of the node. A process that continues
    /// the session uses no number again.
    pub number: u64,
}

/// What a node writes about itself with each renewal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    pub session: SessionId,
    /// Grows with each renewal that is sent, so that no two records are equal.
    pub n: u64,
    /// After this time without a renewal, other nodes end the session. The node itself decides it,
    /// since its own guard has to be faster.
    #[serde(with = "millis")]
    pub evict_after: Duration,
    /// Identifies the machine, to notice two with one name.
    pub machine: String,
    /// Another node has ended the session.
    pub evicted: bool,
    /// The node is connected to the broker.
    pub broker: bool,
    /// The node gives away what it has and takes nothing.
    pub drains: bool,
    /// The number of the version of the shared sections that the node uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<u64>,
}

mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn agent(name: &str) -> Item {
        Item::Agent(DeviceName::new(name).unwrap())
    }

    #[test]
    fn an_item_is_written_as_it_is_read() {
        for item in [Item::House, Item::Shard(0), Item::Shard(31), agent("zigbee"), agent("31")] {
            assert_eq!(item.to_string().parse(), Ok(item));
        }
    }

    #[test]
    fn a_shard_that_does_not_exist_is_refused_with_its_name() {
        for name in ["#32", "#", "#-1", "#300", "#yard"] {
            let error = name.parse::<Item>().unwrap_err();
            assert_eq!(error, ItemError::Shard(name.to_owned()));
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_name_of_a_node_has_the_form_of_a_host_name() {
        assert_eq!(NodeName::new(""), Err(NodeNameError::Empty));
        let name = "a".repeat(65);
        assert!(NodeName::new(&name[1..]).is_ok());
        assert_eq!(NodeName::new(&name), Err(NodeNameError::TooLong { name }));
        let wrong =
            [("a/b", '/'), ("a+", '+'), ("#", '#'), ("a\n", '\n'), ("a b", ' '), ("ä", 'ä')];
        for (name, character) in wrong {
            let error = NodeNameError::Character { name: name.to_owned(), character };
            assert_eq!(NodeName::new(name), Err(error));
        }
        assert_eq!(node("pi1.lan").as_str(), "pi1.lan");
    }

    #[test]
    fn what_is_pinned_to_one_node_is_not_shared() {
        let two = Allowed::On(vec![node("pi1"), node("pi2")]);
        let items = Items::new([
            (agent("zigbee"), Allowed::On(vec![node("pi1")])),
            (agent("rules"), two.clone()),
            (Item::House, Allowed::Everywhere),
        ]);
        let shared: Vec<&Item> = items.iter().map(|(item, _)| item).collect();
        assert_eq!(shared, [&Item::House, &agent("rules")]);
        assert!(two.includes(&node("pi2")) && !two.includes(&node("nas")));
    }

    #[test]
    fn a_record_and_a_plan_come_back_from_json_as_they_were() {
        let session = SessionId { boot: 7, number: u64::MAX };
        let record = NodeRecord {
            session,
            n: 3,
            evict_after: Duration::from_millis(8_500),
            machine: "m".to_owned(),
            evicted: false,
            broker: true,
            drains: false,
            config: Some(4),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains(r#""evictAfter":8500"#), "{json}");
        assert_eq!(serde_json::from_str::<NodeRecord>(&json).unwrap(), record);
        let owner = Owner { node: node("pi1"), session };
        let owners = BTreeMap::from([(Item::Shard(4), owner.clone()), (agent("zigbee"), owner)]);
        let plan = OwnerPlan { by: Stamp { session, number: 1 }, owners };
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<OwnerPlan>(&json).unwrap(), plan);
    }
}
