//! Recorded states: their contents, their changes, and the orders of people about them.

use super::message::QoS;
use crate::topic::TopicName;
use bytes::Bytes;
use std::time::Duration;

/// A recorded state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    pub topic: TopicName,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// Wall clock since the Unix epoch.
    pub time: Duration,
}

/// The meaning of a delivery for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Not a state: a marker, an echo, an own message.
    Nothing,
    /// A new value. Its flag states whether the broker retains it.
    Put(StateRecord),
    /// A new value of which it is unknown whether the broker retains it, such as one received live
    /// in MQTT 3.1.1.
    PutUnflagged(StateRecord),
    /// The broker's retained message, sent because of a subscription. It is put where it is news
    /// (see [`crate::machines::retained`]).
    Replay(StateRecord),
    /// A retained empty message in MQTT 5.
    Forget(TopicName),
}

/// A change of recorded states. Its topics have been checked before: see
/// [`crate::monitor::Monitor::is_own_topic`] and [`crate::monitor::Monitor::records_topic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateOrder {
    /// Record it, and publish it while the broker is there.
    Set(StateRecord),
    /// Record those that are not older than the recorded ones.
    Import(Vec<StateRecord>),
    /// Delete it; `clear` also removes the broker's retained message, while the broker is there.
    Forget { topic: TopicName, clear: bool },
}

impl StateChange {
    /// The value that may be recorded.
    #[must_use]
    pub fn state(&self) -> Option<&StateRecord> {
        match self {
            Self::Put(state) | Self::PutUnflagged(state) | Self::Replay(state) => Some(state),
            Self::Nothing | Self::Forget(_) => None,
        }
    }
}

/// Identifies one read of recorded states, by its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadId {
    /// The core reads a chunk of a restore.
    Restore(u64),
    /// The daemon answers a request.
    Question(u64),
    /// The core deletes the states of a forgotten device.
    Forget(u64),
    /// The core sends them to a node that has missed some.
    CatchUp(u64),
}

/// Identifies one change of recorded states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteId {
    /// A person ordered it.
    Order(u64),
    /// The states of a forgotten device are deleted, and no answer is expected.
    Forget,
    /// Another node has sent what this one has missed. No answer is expected.
    CatchUp,
}
