//! The names under which a monitor acts, and the place where it does. They determine what it leaves
//! behind when they change.
//!
//! The store keeps the identity under which it was last used, and each former one until everything
//! that it left behind has been removed by [`crate::machines::takedown`].

use super::cluster::{NodeName, connection_id};
use super::device_name::DeviceName;
use super::spec::MonitorSpec;
use crate::topic::TopicName;
use serde::{Deserialize, Serialize};

/// The names and the place of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    pub client_id: String,
    /// The node of a cluster, which has a session of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    pub base_topic: String,
    /// The prefix below which the devices were described for Home Assistant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery_prefix: Option<String>,
    pub server: String,
}

impl Identity {
    /// Returns the identity of a monitor with this configuration.
    #[must_use]
    pub fn of(spec: &MonitorSpec) -> Self {
        Self {
            machine: spec.origin.machine.clone(),
            client_id: spec.client_id.clone(),
            node: spec.cluster.as_ref().map(|cluster| cluster.node.clone()),
            base_topic: spec.base_topic.to_string(),
            discovery_prefix: spec.home_assistant.discovery.as_ref().map(TopicName::to_string),
            server: spec.origin.server.clone(),
        }
    }

    /// Returns the clientid of the connections, to which `-states` is appended for the session.
    #[must_use]
    pub fn connection_id(&self) -> String {
        connection_id(&self.client_id, self.node.as_ref())
    }

    /// Returns whether both are known to be of different machines.
    #[must_use]
    pub fn is_of_another_machine(&self, other: &Self) -> bool {
        self.machine.is_some() && other.machine.is_some() && self.machine != other.machine
    }

    /// Returns whether a monitor with this identity takes care of everything that one with the
    /// former identity has left behind. Home Assistant's prefix is taken care of wherever the
    /// clientid is the same.
    #[must_use]
    pub fn takes_over_from(&self, former: &Self) -> bool {
        (&self.client_id, &self.node, &self.base_topic, &self.server)
            == (&former.client_id, &former.node, &former.base_topic, &former.server)
    }
}

/// An identity that is no longer in use, with the objects that it left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub identity: Identity,
    /// The devices and agents that were known under it.
    pub devices: Vec<DeviceName>,
    /// The prefixes below which it may have described them for Home Assistant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Its agents' units have been stopped, or were left to another monitor.
    #[serde(default)]
    pub units_done: bool,
    /// The objects that it left at the broker have been removed, or were left to another monitor.
    #[serde(default)]
    pub broker_done: bool,
}

impl Former {
    /// Returns whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.units_done && self.broker_done
    }
}

/// The identities that the store keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The identity in use, or `None` in a store that was never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Identity>,
    /// The former identities, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
    /// Whether an instance uses the main monitor's names by default.
    #[serde(default)]
    pub main_defaults: bool,
}
