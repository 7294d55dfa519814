//! Receives messages, numbers those of persistent sessions, and acknowledges them in order.

use super::{MqttSession, Unacknowledged};
use crate::mqtt::Client;
use crate::mqtt::settings::BrokerAddress;
use crate::mqtt::wire::Incomer;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Delivery, Message, QoS, Redelivery};
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeMap;

/// Packet identifiers of deliveries that were reported on earlier connections of a session and have
/// not been acknowledged. The broker sends them again with the same identifiers (MQTT-4.4.0-1),
/// ahead of everything else (MQTT-4.6.0-1).
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Reported {
    /// The broker that holds the session.
    server: Option<BrokerAddress>,
    pkids: BTreeMap<u16, Delivery>,
}

impl Reported {
    /// A connection begins. Without the session that the broker kept, nothing is repeated.
    pub fn connected(&mut self, server: &BrokerAddress, session_present: bool) {
        if !session_present || self.server.as_ref() != Some(server) {
            self.pkids.clear();
            self.server = Some(server.clone());
        }
    }

    fn redelivery(&mut self, pkid: Option<u16>, dup: bool) -> Redelivery {
        match pkid {
            Some(pkid) if dup => {
                self.pkids.remove(&pkid).map_or(Redelivery::Unknown, Redelivery::Reported)
            }
            Some(_) if !self.pkids.is_empty() => {
                // Deliveries that have not been repeated by now were acknowledged, and their
                // identifiers are free.
                self.pkids.clear();
                Redelivery::No
            }
            Some(_) | None => Redelivery::No,
        }
    }
}

impl MqttSession<'_> {
    /// The connection has ended.
    pub(super) fn remember_reported(&mut self) {
        let reported = self.unacknowledged.iter().filter(|delivery| !delivery.unreported);
        let numbered = reported.filter_map(|reported| Some((reported.pkid?, reported.delivery)));
        self.context.reported.pkids.extend(numbered);
    }

    pub(super) fn on_publish(&mut self, mut incomer: Incomer) -> Option<Event> {
        self.density.note(incomer.pkid.is_some());
        // A state that another monitor restores is neither an echo nor news, and never counts as
        // contact.
        if self.context.client == Client::Monitor
            && let Some(by) = incomer.restored_by.take_if(|owner| *owner != self.context.owner)
        {
            self.pass_over(incomer.pkid);
            let is_told = self.context.connection == Connection::State;
            let topic = TopicName::from_bytes(incomer.topic).ok().filter(|_| is_told);
            return topic.map(|topic| Event::RestoredByAnother { by, topic });
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
            waited_micros: self.link.waited_micros(),
        };
        match self.context.connection {
            Connection::Watch => {
                if let Some(pkid) = incomer.pkid {
                    self.wire.puback(pkid, &mut self.link.output);
                }
                Some(Event::WatchMessage(message))
            }
            Connection::State => {
                let redelivery = self.context.reported.redelivery(incomer.pkid, incomer.dup);
                let delivery = self.number(incomer.pkid, message.payload.len(), false);
                Some(Event::StateMessage { delivery, message, redelivery })
            }
            Connection::Former(part) => {
                let delivery = self.number(incomer.pkid, message.payload.len(), false);
                Some(Event::FormerMessage { part, delivery, message })
            }
        }
    }

    /// Drops a message that violates the rules.
    pub(super) fn discard(&mut self, pkid: Option<u16>) {
        self.context.shared.lock().discarded += 1;
        self.pass_over(pkid);
    }

    /// Drops a message silently. The broker still gets its acknowledgement in turn, or it would
    /// repeat the message forever.
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
