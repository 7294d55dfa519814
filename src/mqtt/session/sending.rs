//! Writes the waiting messages in order, as far as the windows and the broker's limits allow.

use super::{
    FilterRequest, MAX_OUTPUT, MqttSession, PUBLISH_WINDOW, SUBSCRIBE_BYTES, SUBSCRIBE_OVERHEAD,
    SUBSCRIBE_WINDOW,
};
use crate::mqtt::filters::chunk;
use crate::mqtt::outbox::NextPacket;
use crate::mqtt::suspects::{self, ItemVerdict, SuspectItem};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{FilterRefusal, Publication, QoS};
use tokio::time::Instant;

impl MqttSession<'_> {
    pub(super) fn send_commands(&mut self) {
        let window = PUBLISH_WINDOW.min(self.limits.receive_maximum.into());
        while self.link.output.len() <= MAX_OUTPUT {
            if self.context.suspects.is_careful() && self.is_unanswered() {
                self.held_since.get_or_insert_with(Instant::now);
                return;
            }
            self.held_since = None;
            if !self.subscribing.is_empty() || !self.unsubscribing.is_empty() {
                if self.requests.len() >= SUBSCRIBE_WINDOW {
                    return;
                }
                self.send_request();
                continue;
            }
            let mut state = self.context.shared.lock();
            while let Some(token) = state.outbox.pop_replaced() {
                self.owed.push_back(Event::Published { token });
            }
            let item = state.outbox.next_topic().map(|topic| SuspectItem::Topic(topic.clone()));
            drop(state);
            let verdict = item.map_or(ItemVerdict::Free, |item| self.verdict_now(item));
            let requests = &self.requests;
            let is_used = |pkid| requests.contains_key(&pkid);
            let next = self.context.shared.lock().outbox.next(window, is_used);
            match next {
                None => return,
                Some(NextPacket::Publish { publication, pkid, .. })
                    if verdict == ItemVerdict::Aside =>
                {
                    let mut state = self.context.shared.lock();
                    let _is_done = state.outbox.acknowledged(pkid);
                    state.outbox.put_aside(publication.clone());
                    drop(state);
                    let event = self.refused(publication, suspects::REASON.to_owned());
                    self.owed.push_back(event);
                }
                Some(NextPacket::Publish { publication, pkid, dup }) => {
                    self.send_publication(publication, pkid, dup);
                }
                Some(NextPacket::Subscribe(subscriptions)) => {
                    self.reporting = true;
                    self.take_up(subscriptions);
                    if self.subscribing.is_empty() {
                        let event = self.subscribed();
                        self.owed.extend(event);
                    }
                }
                Some(NextPacket::Unsubscribe(filters)) => {
                    self.aside.retain(|aside| !filters.contains(&aside.filter));
                    self.unsubscribing.extend(filters);
                }
            }
        }
    }

    /// Decides about the next publication. One that may be tried again is sent alone; where
    /// something else is unanswered, it is set aside for longer, so that it delays nothing.
    fn verdict_now(&mut self, item: SuspectItem) -> ItemVerdict {
        match self.context.suspects.verdict(&item) {
            ItemVerdict::Retry if self.is_unanswered() => ItemVerdict::Aside,
            ItemVerdict::Retry => {
                self.context.suspects.suspect(item);
                ItemVerdict::Retry
            }
            verdict => verdict,
        }
    }

    /// Adapts a publication to what the broker accepts; one that it cannot accept at all is
    /// completed as refused.
    fn send_publication(&mut self, mut publication: Publication, pkid: u16, dup: bool) {
        let lowered = publication.qos > self.limits.max_qos;
        publication.qos = publication.qos.min(self.limits.max_qos);
        publication.retain &= self.limits.retain_available;
        let (wire_pkid, dup) = if lowered { (0, false) } else { (pkid, dup) };
        let before = self.link.output.len();
        let written = self.wire.publish(
            &publication,
            wire_pkid,
            dup,
            &self.context.owner,
            &mut self.link.output,
        );
        let bytes = self.link.output.len() - before;
        let reason = match written {
            Err(error) => Some(error.to_string()),
            Ok(()) if bytes > self.limits.max_packet => Some(format!(
                "it is larger than the {} bytes that the broker takes; raise that limit",
                self.limits.max_packet
            )),
            Ok(()) => None,
        };
        if let Some(reason) = reason {
            self.link.output.truncate(before);
            let mut state = self.context.shared.lock();
            state.discarded += 1;
            let _is_done = state.outbox.acknowledged(pkid);
            drop(state);
            let event = self.refused(publication, reason);
            self.owed.push_back(event);
            return;
        }
        if publication.qos == QoS::AtMostOnce {
            self.ledger.plain_sent(publication.topic.clone());
            self.check();
        } else {
            self.ledger.sent(pkid);
        }
        if lowered && pkid != 0 {
            let _is_done = self.context.shared.lock().outbox.acknowledged(pkid);
            let event = self.accepted(publication);
            self.owed.extend(event);
        }
    }

    /// Sends a ping behind publications that have no answer, such as the `up` of each second: the
    /// answer shows that the broker has received them, and reveals a stalled broker even when no
    /// other packet awaits an answer.
    pub(super) fn check(&mut self) {
        if self.stall.begin_check() {
            self.ledger.ping_sent();
            self.wire.pingreq(&mut self.link.output);
        }
    }

    /// Sends the next packet of filters.
    fn send_request(&mut self) {
        let requests = &self.requests;
        let is_used = |pkid| requests.contains_key(&pkid);
        let pkid = self.context.shared.lock().outbox.free_pkid(is_used);
        let most = SUBSCRIBE_BYTES.min(self.limits.max_packet).saturating_sub(SUBSCRIBE_OVERHEAD);
        let count = self.context.suspects.filters_per_packet();
        let is_subscribe = !self.subscribing.is_empty();
        let (filters, written) = if is_subscribe {
            let chunk =
                chunk(&mut self.subscribing, count, most, |subscription| &subscription.filter);
            let purpose = (self.context.connection, self.context.client);
            let written = self.wire.subscribe(pkid, &chunk, purpose, &mut self.link.output);
            (chunk.into_iter().map(|subscription| subscription.filter).collect(), written)
        } else {
            let chunk = chunk(&mut self.unsubscribing, count, most, |filter| filter);
            let written = self.wire.unsubscribe(pkid, &chunk, &mut self.link.output);
            (chunk, written)
        };
        match written {
            Ok(()) => {
                self.ledger.sent(pkid);
                let request = FilterRequest { filters, is_subscribe, sent: Instant::now() };
                self.requests.insert(pkid, request);
            }
            Err(error) => {
                if is_subscribe {
                    let reason = error.to_string();
                    self.refused.extend(
                        filters
                            .into_iter()
                            .map(|filter| FilterRefusal { filter, reason: reason.clone() }),
                    );
                    let event = self.subscribed();
                    self.owed.extend(event);
                }
            }
        }
    }
}
