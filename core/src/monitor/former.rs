//! Former identities: their events go to [`Takedown`](crate::machines::takedown::Takedown), and its
//! orders become actions.

mod findings;

use super::turn::Turn;
use crate::machines::orders;
use crate::machines::takedown::{Known, Order};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::description::is_description;
use crate::model::identity::{Identity, IdentityRecord};
use crate::model::message::{
    Connection, Delivery, FormerPart, Lifetime, Message, Publication, QoS,
};
use crate::model::snapshot::DeviceRecord;
use crate::model::spec::MonitorSpec;
use crate::model::state::StateRecord;
use crate::monitor::{Monitor, Timer};
use crate::topic::TopicName;
use findings::alert_of;

impl Monitor {
    /// The store has reported under which identity it was used.
    pub(super) fn meet_identity(
        &mut self,
        turn: &mut Turn<'_>,
        record: Option<IdentityRecord>,
        devices: &[DeviceRecord],
    ) {
        let known = Known {
            devices: devices.iter().map(|device| device.name.clone()).collect(),
            prefixes: devices.iter().filter_map(|device| device.announced.clone()).collect(),
        };
        let orders = self.takedown.store_opened(record, known);
        self.take_down(turn, orders);
    }

    /// A reload may have changed the broker. Called before the devices are those of the reload.
    pub(super) fn identity_reconfigured(&mut self, turn: &mut Turn<'_>, spec: &MonitorSpec) {
        let known = Known {
            devices: self.devices.iter().map(|device| device.spec.name.clone()).collect(),
            prefixes: self.discovery_prefix().map(str::to_owned).into_iter().collect(),
        };
        let orders = self.takedown.reconfigured(Identity::of(spec), spec, known);
        self.take_down(turn, orders);
    }

    pub(super) fn former_message(
        &mut self,
        turn: &mut Turn<'_>,
        (part, delivery): (FormerPart, Delivery),
        message: &Message,
    ) {
        let is_state = part == FormerPart::Drain
            && !message.restored
            && !self.is_own(&message.topic)
            && self.is_recorded(&message.topic)
            && !orders::is_no_state(&message.topic, &message.payload);
        let state = is_state.then(|| StateRecord {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos: message.qos,
            retain: message.retain,
            time: turn.now.wall,
        });
        let orders = self.takedown.message(turn.now.mono, (part, delivery), message, state);
        self.take_down(turn, orders);
    }

    /// A live message below the own base topic.
    pub(super) fn own_word(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let Some(below) = message.topic.below(&self.base_topic) else { return };
        let (now, payload) = (turn.now.mono, &message.payload);
        if self.stopping || !self.shared_base.is_foreign(now, below, payload, self.up_count) {
            return;
        }
        if self.shared_base.report() {
            let message = format!(
                "another monitor publishes below `{}`, as its `{below}` shows: each takes the other's messages for its own; give one of the two another `baseTopic`",
                self.base_topic
            );
            turn.raise(AlertKind::BaseTopicShared, message);
        }
        let orders = self.takedown.another_heard();
        self.take_down(turn, orders);
    }

    /// Whether the messages on a topic come from this monitor, under its present name or a former
    /// one.
    pub(super) fn is_own(&self, topic: &TopicName) -> bool {
        topic.is_below(&self.base_topic)
            || self.takedown.owns(topic)
            || is_description(topic, &self.client_id)
    }

    pub(super) fn take_down(&mut self, turn: &mut Turn<'_>, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Save(record) => turn.out.push(Action::SaveIdentity(Box::new(record))),
                Order::Report(finding) => {
                    let (kind, message) = alert_of(&finding);
                    turn.raise(kind, message);
                }
                Order::StopUnits { client_id, units } => {
                    turn.out.push(Action::StopFormerUnits { client_id, units });
                }
                Order::Connect { part, client_id } => {
                    turn.out.push(Action::ConnectFormer { part, client_id });
                }
                Order::Disconnect => turn.out.push(Action::DisconnectFormer),
                Order::Subscribe { part, subscriptions } => {
                    let connection = Connection::Former(part);
                    turn.out.push(Action::Subscribe { connection, subscriptions });
                }
                Order::Publish { part, topic, payload, retain, awaited } => {
                    let token = awaited.then(|| self.new_token());
                    self.cleared_by = token.or(self.cleared_by);
                    turn.out.push(Action::Publish(Publication {
                        connection: Connection::Former(part),
                        topic,
                        payload,
                        qos: QoS::AtLeastOnce,
                        retain,
                        restored: false,
                        lifetime: Lifetime::UntilAnswered,
                        token,
                    }));
                }
                Order::Record { delivery, change } => {
                    if let Some(state) = change.state() {
                        self.newer_arrived(state);
                    }
                    turn.out.push(Action::RecordFormer { delivery, change });
                }
                Order::Acknowledge { through } => {
                    turn.out.push(Action::AcknowledgeFormer { through });
                }
                Order::WakeAt(due) => self.timers.push(due, Timer::Takedown),
                Order::LetRestore if self.session.is_taken_in() => self.backlog_taken_in(turn),
                Order::LetRestore => {}
            }
        }
    }
}
