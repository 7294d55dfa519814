//! What travels by MQTT, and on which connection.

use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;
use std::time::Duration;

/// The two connections and their purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Connection {
    /// Clean session: contacts, hellos, alerts, `up` and the will.
    Watch,
    /// Persistent session: states in, restored states out.
    State,
    /// For what a former identity left.
    Former(FormerPart),
}

/// What the connection for a former identity is there for; one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormerPart {
    /// Clean session under a clientid of this monitor: finds out whether another monitor is
    /// there, and removes what is retained.
    Look,
    /// The persistent session of the former clientid: takes in what it holds.
    Drain,
    /// A clean session in its place, with which it ends.
    End,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
}

/// The protocol version that a connection has settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    V311,
    V5,
}

/// Number of a message on the state connection, in the order of receipt. Never used twice in a
/// process, also across reconnections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery(pub u64);

/// Names a publication whose acknowledgement the core wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Whether the broker has sent a delivery before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivery {
    /// This is the first time.
    No,
    /// It has, and this process did not receive it then.
    Unknown,
    /// It has, and it was reported then.
    Reported,
}

/// One PUBLISH packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: TopicName,
    pub payload: Bytes,
    /// As delivered; 2 cannot occur, since nothing is subscribed above 1.
    pub qos: QoS,
    pub retain: bool,
    /// Carries the user property of a restored state (MQTT 5 only).
    pub restored: bool,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub connection: Connection,
    pub topic: TopicName,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// Marks a restored state with the user property of [`RESTORED_PROPERTY`] (MQTT 5 only).
    pub restored: bool,
    pub lifetime: Lifetime,
    /// Asks for [`super::event::Event::Published`]; QoS 1 only. One that is replaced by a later
    /// publication is reported as published too.
    pub token: Option<Token>,
}

/// How long a publication at QoS 1 that lacks its acknowledgement is kept. At QoS 0 it ends with
/// the connection anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Across connections, until the broker has answered.
    UntilAnswered,
    /// As long as the connection on which the core asked for it; then it may have been overtaken.
    Connection,
}

/// Name of the user property of a restored state; its value is the clientid.
pub const RESTORED_PROPERTY: &str = "iotmonitor-restored";

/// One entry of a SUBSCRIBE packet. The options that depend on the connection (retain handling,
/// retain-as-published) are the MQTT adapter's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub filter: TopicFilter,
    pub qos: QoS,
    /// Whether the retained message is wanted on the watch connection too, which in MQTT 5 gets none
    /// unasked; the state connection gets them all.
    pub replay: bool,
}

/// A filter that the broker did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRefusal {
    pub filter: TopicFilter,
    /// The SUBACK's reason in words.
    pub reason: String,
}

/// Why a connection was lost or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossReason {
    /// Another client took the clientid (MQTT 5 reason 0x8E, or the same pattern in 3.1.1).
    TakenOver,
    /// User name or password were refused.
    Refused(String),
    /// The broker stopped answering: since when is unknown, so nothing since its last packet, which
    /// came so long ago, counts as watched.
    Silent { sentence: String, quiet: Duration },
    /// Anything else, in words that name the thing and the way out.
    Other(String),
}
