//! Removes what former identities left at the broker, one after the other and delaying nothing.

use super::broker::{Broker, TakedownEnd};
use super::{Finding, Order, RESTORE_PATIENCE, Takedown};
use crate::model::identity::{Former, Identity, IdentityRecord};
use crate::model::message::{Delivery, FormerPart, LossReason, Message};
use crate::model::state::{StateChange, StateRecord};
use crate::topic::TopicName;
use std::time::Duration;

impl Takedown {
    /// The watch connection is established, so the broker can be reached.
    pub fn watching(&mut self) -> Vec<Order> {
        self.watching = true;
        let mut orders = Vec::new();
        self.go_on(&mut orders);
        orders
    }

    /// This monitor's own session is subscribed, and has delivered the broker's backlog.
    pub fn session_stands(&mut self, now: Duration) -> Vec<Order> {
        self.session_stands = true;
        let mut orders = Vec::new();
        if self.holds_restores && self.restores_wait_until.is_none() {
            let until = now + RESTORE_PATIENCE;
            self.restores_wait_until = Some(until);
            orders.push(Order::WakeAt(until));
        }
        self.go_on(&mut orders);
        orders
    }

    /// This monitor's own session has delivered something; a `replay` may be older than the
    /// contents of a former session.
    pub fn state_arrived(&mut self, topic: &TopicName, replay: bool) {
        let is_awaited = self.record.as_ref().is_some_and(|record| !record.former.is_empty());
        if is_awaited && !replay && self.records {
            self.fresh.insert(topic.detached());
        }
    }

    /// Another monitor was heard below this one's own base topic.
    pub fn another_heard(&mut self) -> Vec<Order> {
        self.with_broker(|broker| broker.another_heard())
    }

    pub fn connected(
        &mut self,
        now: Duration,
        part: FormerPart,
        session_present: bool,
    ) -> Vec<Order> {
        self.with_broker(|broker| broker.connected(now, part, session_present))
    }

    pub fn disconnected(&mut self, part: FormerPart, reason: &LossReason) -> Vec<Order> {
        self.with_broker(|broker| broker.disconnected(part, reason))
    }

    pub fn subscribed(&mut self, part: FormerPart, refused: bool) -> Vec<Order> {
        self.with_broker(|broker| broker.subscribed(part, refused))
    }

    /// A message on the former identity's connection. `state` is the state to record, if it is one.
    pub fn message(
        &mut self,
        now: Duration,
        (part, delivery): (FormerPart, Delivery),
        message: &Message,
        state: Option<StateRecord>,
    ) -> Vec<Order> {
        match part {
            FormerPart::Look => {
                let mut orders = vec![Order::Acknowledge { through: delivery }];
                orders.extend(self.with_broker(|broker| broker.looked_at(message)));
                orders
            }
            FormerPart::Drain => {
                let is_own = self.owns(&message.topic) || self.fresh.contains(&message.topic);
                let change = match state.filter(|_| !is_own) {
                    // The protocol of that connection may not carry the mark.
                    Some(state) => StateChange::PutUnflagged(state),
                    None => StateChange::Nothing,
                };
                let mut orders = vec![Order::Record { delivery, change }];
                orders.extend(
                    self.with_broker(|broker| (broker.drained(now, delivery, message), None)),
                );
                orders
            }
            FormerPart::End => vec![Order::Acknowledge { through: delivery }],
        }
    }

    /// The former session's messages up to here are on disk.
    pub fn committed(&mut self, now: Duration, through: Delivery) -> Vec<Order> {
        self.with_broker(|broker| (broker.on_disk(now, through), None))
    }

    /// The awaited publication was acknowledged.
    pub fn cleared(&mut self) -> Vec<Order> {
        self.with_broker(Broker::cleared)
    }

    pub fn time_passed(&mut self, now: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.retry_units_at.is_some_and(|due| now >= due) {
            self.stop_next_units(&mut orders);
        }
        if self.restores_wait_until.is_some_and(|until| now >= until) {
            self.let_restore(&mut orders);
        }
        orders.extend(self.with_broker(|broker| broker.time_passed(now)));
        orders
    }

    /// The next former identity that left something at this broker.
    fn front<'r>(&self, record: &'r IdentityRecord) -> Option<&'r Former> {
        record.former.iter().find(|former| !former.broker_done)
    }

    fn with_broker(
        &mut self,
        step: impl FnOnce(&mut Broker) -> (Vec<Order>, Option<TakedownEnd>),
    ) -> Vec<Order> {
        let Some((identity, broker)) = &mut self.broker else { return Vec::new() };
        let (mut orders, end) = step(broker);
        if let Some(end) = end {
            let identity = identity.clone();
            self.broker = None;
            self.finish(&identity, end, &mut orders);
        }
        self.go_on(&mut orders);
        orders
    }

    /// Begins or continues the work that waits for nothing any more.
    pub(super) fn go_on(&mut self, orders: &mut Vec<Order>) {
        let mut begun = Vec::new();
        while self.watching && self.broker.is_none() {
            let Some(record) = &self.record else { break };
            // Whether a monitor on this machine uses the clientid is known once its units were
            // requested.
            let Some(former) = self.front(record).filter(|former| former.units_done) else { break };
            let identity = former.identity.clone();
            match Broker::begin(former, &self.own, self.records) {
                Some((broker, begin)) => {
                    if identity.base_topic != self.own.base_topic {
                        self.bases.insert(identity.base_topic.clone());
                    }
                    if identity.client_id != self.own.client_id {
                        self.client_ids.insert(identity.client_id.clone());
                    }
                    begun = begin;
                    self.broker = Some((identity, broker));
                }
                None => self.finish(&identity, TakedownEnd::Done, orders),
            }
        }
        orders.extend(begun);
        if let Some((_, broker)) = &mut self.broker
            && broker.awaits_own_session()
            && self.session_stands
        {
            orders.extend(broker.own_session_stands());
        }
        if self.holds_restores && !self.has_session_to_drain() {
            self.let_restore(orders);
        }
    }

    /// Whether a former session may hold states that are not recorded yet.
    pub(super) fn has_session_to_drain(&self) -> bool {
        let Some(record) = &self.record else { return false };
        record.former.iter().any(|former| {
            let at_work = self.broker.as_ref().filter(|(identity, _)| *identity == former.identity);
            !former.broker_done
                && former.identity.connection_id() != self.own.connection_id()
                && at_work.is_none_or(|(_, broker)| broker.may_bring_states())
        })
    }

    fn let_restore(&mut self, orders: &mut Vec<Order>) {
        self.holds_restores = false;
        self.restores_wait_until = None;
        orders.push(Order::LetRestore);
    }

    fn finish(&mut self, identity: &Identity, end: TakedownEnd, orders: &mut Vec<Order>) {
        orders.push(Order::Report(Finding::Ended { identity: identity.clone(), end }));
        self.change_formers(orders, |former| {
            former.broker_done |= former.identity.takes_over_from(identity);
        });
        if self.record.as_ref().is_none_or(|record| record.former.is_empty()) {
            self.fresh.clear();
        }
    }
}
