//! MQTT messages, and the connections that carry them.

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
    /// For the objects that a former identity left behind.
    Former(FormerPart),
}

/// The purpose of the connection for a former identity; there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormerPart {
    /// Clean session under a clientid of this monitor: finds out whether another monitor is there,
    /// and removes retained messages.
    Look,
    /// The persistent session of the former clientid: receives its contents.
    Drain,
    /// A clean session that replaces it, which ends it.
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

/// The number of a message on the state connection, in the order of receipt. It is never reused in
/// a process, also across reconnections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery(pub u64);

/// Identifies a publication whose acknowledgement the core expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Whether the broker has sent a delivery before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redelivery {
    /// This is the first time.
    No,
    /// The broker has, and this process did not receive it then.
    Unknown,
    /// The broker has, and it was reported then, as this delivery.
    Reported(Delivery),
}

/// One PUBLISH packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: TopicName,
    pub payload: Bytes,
    /// As delivered; 2 cannot occur, because nothing is subscribed above 1.
    pub qos: QoS,
    pub retain: bool,
    /// Carries the user property of a restored state (MQTT 5 only).
    pub restored: bool,
    /// How long it had waited when it was read, in microseconds, which fit beside the flags.
    pub waited_micros: u32,
}

impl Message {
    /// How long it had waited when it was read.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_micros.into())
    }
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
    /// Requests [`super::event::Event::Published`]; QoS 1 only. One that is replaced by a later
    /// publication is reported as published too.
    pub token: Option<Token>,
}

/// How long an unacknowledged QoS 1 publication is kept. At QoS 0 it ends with the connection
/// anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Across connections, until the broker has answered.
    UntilAnswered,
    /// As long as the connection on which the core requested it; after that it may have been
    /// overtaken.
    Connection,
}

/// Name of the user property of a restored state; its value is the clientid.
pub const RESTORED_PROPERTY: &str = "iotmonitor-restored";

/// One entry of a SUBSCRIBE packet. The options that depend on the connection (retain handling,
/// retain-as-published) are set by the MQTT adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub filter: TopicFilter,
    pub qos: QoS,
    /// Whether the retained message is needed on the watch connection too, which in MQTT 5 receives
    /// none by default; the state connection receives them all.
    pub replay: bool,
}

/// A filter that the broker refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRefusal {
    pub filter: TopicFilter,
    /// The SUBACK's reason in words.
    pub reason: String,
}

/// The reason why a connection was lost or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossReason {
    /// Another client took the clientid (MQTT 5 reason 0x8E, or the same pattern in 3.1.1).
    TakenOver,
    /// User name or password was refused.
    Refused(String),
    /// The broker stopped answering. The time at which it stopped is unknown, so nothing since its
    /// last packet, which arrived this long ago, counts as watched.
    Silent { sentence: String, quiet: Duration },
    /// Any other reason, in words that name the object and the remedy.
    Other(String),
}
