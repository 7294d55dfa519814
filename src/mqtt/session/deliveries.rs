//! Takes in messages, numbers those of persistent sessions, and acknowledges them in their order.

use super::{MqttSession, Unacknowledged};
use crate::mqtt::wire::Incomer;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Delivery, Message, QoS};
use iotmonitor_core::topic::TopicName;

impl MqttSession<'_> {
    pub(super) fn on_publish(&mut self, incomer: Incomer) -> Option<Event> {
        // What another monitor gives back is no echo, nothing new and no sign of life.
        if incomer.restored_by.as_ref().is_some_and(|owner| *owner != self.context.owner) {
            self.pass_over(incomer.pkid);
            return None;
        }
        let Ok(topic) = TopicName::from_bytes(incomer.topic) else {
            self.discard(incomer.pkid);
            return None;
        };
        let message = Message {
            topic,
            payload: incomer.payload,
            qos: if incomer.pkid.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            retain: incomer.retain,
            restored: incomer.restored_by.is_some(),
        };
        match self.context.connection {
            Connection::Watch => {
                if let Some(pkid) = incomer.pkid {
                    self.wire.puback(pkid, &mut self.link.output);
                }
                Some(Event::WatchMessage(message))
            }
            Connection::State => {
                let delivery = self.number(incomer.pkid, message.payload.len(), false);
                Some(Event::StateMessage { delivery, message })
            }
            Connection::Former(part) => {
                let delivery = self.number(incomer.pkid, message.payload.len(), false);
                Some(Event::FormerMessage { part, delivery, message })
            }
        }
    }

    /// Drops a message that breaks the rules.
    pub(super) fn discard(&mut self, pkid: Option<u16>) {
        self.context.shared.lock().discarded += 1;
        self.pass_over(pkid);
    }

    /// Tells nobody of a message. The broker gets its acknowledgement in its turn nevertheless, or
    /// it would send the message for ever.
    fn pass_over(&mut self, pkid: Option<u16>) {
        match (self.context.connection, pkid) {
            (Connection::Watch, Some(pkid)) => self.wire.puback(pkid, &mut self.link.output),
            (Connection::Watch, None) => {}
            (Connection::State | Connection::Former(_), pkid) => {
                self.number(pkid, 0, true);
                self.acknowledge_unreported();
            }
        }
    }

    fn number(&mut self, pkid: Option<u16>, bytes: usize, unreported: bool) -> Delivery {
        *self.context.next_delivery += 1;
        let delivery = Delivery(*self.context.next_delivery);
        self.unacknowledged_bytes += bytes;
        self.unacknowledged.push_back(Unacknowledged { delivery, pkid, bytes, unreported });
        delivery
    }

    pub(super) fn acknowledge(&mut self, through: Delivery) {
        while self.unacknowledged.front().is_some_and(|front| front.delivery <= through) {
            self.acknowledge_front();
        }
        self.acknowledge_unreported();
    }

    fn acknowledge_unreported(&mut self) {
        while self.unacknowledged.front().is_some_and(|front| front.unreported) {
            self.acknowledge_front();
        }
    }

    fn acknowledge_front(&mut self) {
        let Some(front) = self.unacknowledged.pop_front() else { return };
        self.unacknowledged_bytes -= front.bytes;
        if let Some(pkid) = front.pkid {
            self.wire.puback(pkid, &mut self.link.output);
        }
    }
}
