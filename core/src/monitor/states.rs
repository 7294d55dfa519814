//! Changes of recorded states on a person's order: to set one, to delete one, to import many.
//!
//! A state that is set is recorded and published to its device at once, as in a restore: it does
//! not count as a contact, and if something newer arrives from the broker before its echo, the
//! newer message is published once more. Imported states are only recorded, and never over newer
//! ones; restores bring them to the devices. Reads go to the store and change nothing.

use crate::machines::orders::is_no_state;
use crate::model::action::Action;
use crate::model::device_name::DeviceName;
use crate::model::message::QoS;
use crate::model::state::{StateChange, StateOrder, StateRecord, WriteId};
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;

impl Monitor {
    /// The stateTopics of the device or agent of this name.
    #[must_use]
    pub fn state_filters_of(&self, name: &DeviceName) -> Option<Vec<TopicFilter>> {
        self.id_named(name).map(|id| self.state_filters(id))
    }

    /// Every topic filter of the device or agent of this name, each once.
    #[must_use]
    pub fn topic_filters_of(&self, name: &DeviceName) -> Option<Vec<TopicFilter>> {
        self.id_named(name).map(|id| self.topic_filters(id))
    }

    /// Whether the topic matches a device's stateTopics.
    #[must_use]
    pub fn records_topic(&self, topic: &TopicName) -> bool {
        self.is_recorded(topic)
    }

    /// Whether a convention defines the state as a query or a toggle, which is not recorded.
    #[must_use]
    pub fn is_no_state(&self, state: &StateRecord) -> bool {
        is_no_state(&state.topic, &state.payload)
    }

    /// Whether the topic is below `baseTopic`, where no message is a state.
    #[must_use]
    pub fn is_own_topic(&self, topic: &TopicName) -> bool {
        topic.is_below(&self.base_topic)
    }

    /// Whether a state that is set now is published: the state connection is established, and its
    /// backlog has been received.
    #[must_use]
    pub fn publishes_states(&self) -> bool {
        self.session.is_taken_in()
    }

    pub(super) fn states_ordered(
        &mut self,
        turn: &mut Turn<'_>,
        write: WriteId,
        order: StateOrder,
    ) {
        let keep_newer = matches!(order, StateOrder::Import(_));
        let (changes, published) = match order {
            StateOrder::Set(state) => {
                self.newer_arrived(&state);
                (vec![given(state.clone())], Some(state))
            }
            StateOrder::Import(states) => {
                let is_state = |state: &StateRecord| !is_no_state(&state.topic, &state.payload);
                (states.into_iter().filter(is_state).map(given).collect(), None)
            }
            StateOrder::Forget { topic, clear } => {
                self.restores.pass_over(&topic);
                let empty = StateRecord {
                    topic: topic.clone(),
                    payload: Bytes::new(),
                    qos: QoS::AtLeastOnce,
                    retain: true,
                    time: turn.now.wall,
                };
                (vec![StateChange::Forget(topic)], clear.then_some(empty))
            }
        };
        turn.out.push(Action::WriteStates { write, changes, keep_newer });
        if let Some(state) = published.filter(|_| self.publishes_states()) {
            self.publish_alone(turn, state);
        }
    }
}

/// A state that a person sets. A state to be retained is retained by the broker only once it has
/// been published, so until then the earlier retained message is not news.
pub(super) fn given(state: StateRecord) -> StateChange {
    if state.retain { StateChange::PutUnflagged(state) } else { StateChange::Put(state) }
}
