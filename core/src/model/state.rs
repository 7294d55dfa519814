//! Recorded states: what one is, how it changes, and what a person orders for it.

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

/// What a delivery means for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Not a state: a marker, an echo, an own message.
    Nothing,
    /// A new value. Its flag tells whether the broker retains it.
    Put(StateRecord),
    /// A new value of which nothing tells whether the broker retains it, such as one that was heard
    /// live in MQTT 3.1.1.
    PutUntold(StateRecord),
    /// What the broker retains, sent because of a subscription. It is put where it is news (see
    /// [`crate::machines::retained`]).
    Replay(StateRecord),
    /// A retained empty message in MQTT 5.
    Forget(TopicName),
}

/// What is to be done to recorded states. Topics have been looked at before: see
/// [`crate::monitor::Monitor::is_own_topic`] and [`crate::monitor::Monitor::records_topic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateOrder {
    /// Record it, and publish it while the broker is there.
    Set(StateRecord),
    /// Record those that are not older than what is recorded.
    Import(Vec<StateRecord>),
    /// Forget it; `clear` takes the broker's retained message away too, while the broker is there.
    Forget { topic: TopicName, clear: bool },
}

impl StateChange {
    /// The value that may be recorded.
    #[must_use]
    pub fn state(&self) -> Option<&StateRecord> {
        match self {
            Self::Put(state) | Self::PutUntold(state) | Self::Replay(state) => Some(state),
            Self::Nothing | Self::Forget(_) => None,
        }
    }
}

/// Names one reading of recorded states, by who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadId {
    /// The core reads a chunk of a restore.
    Restore(u64),
    /// The daemon answers a question.
    Question(u64),
}

/// Names one change of recorded states that a person ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);
