//! Tracks the unanswered packets of a session, and the ones it leaves out.

use super::MqttSession;
use crate::mqtt::suspects::{self, ItemVerdict, SuspectItem, Unanswered};
use iotmonitor_core::model::message::{FilterRefusal, Subscription};
use iotmonitor_core::topic::TopicName;

impl MqttSession<'_> {
    pub(super) fn is_unanswered(&self) -> bool {
        !self.requests.is_empty()
            || self.ledger.plain().next().is_some()
            || self.context.shared.lock().outbox.has_unacknowledged()
    }

    /// The packets that were unanswered when the connection ended.
    pub(super) fn unanswered(&self) -> Vec<Unanswered> {
        let topic = |topic: &TopicName| vec![SuspectItem::Topic(topic.clone())];
        let requests = self.requests.values().filter(|request| request.is_subscribe);
        let filters = requests.map(|request| {
            request.filters.iter().map(|filter| SuspectItem::Filter(filter.clone())).collect()
        });
        let mut unanswered: Vec<Unanswered> = self.ledger.plain().map(topic).collect();
        unanswered.extend(self.context.shared.lock().outbox.unacknowledged().map(topic));
        unanswered.extend(filters);
        // Two publications on one topic are one suspect.
        unanswered.sort();
        unanswered.dedup();
        unanswered
    }

    /// An answer with this packet identifier arrived.
    pub(super) fn answered(&mut self, pkid: u16) {
        let taken = self.ledger.answered(pkid);
        self.note_taken(taken);
    }

    pub(super) fn note_taken(&mut self, topics: Vec<TopicName>) {
        for topic in topics {
            self.context.suspects.answered(&SuspectItem::Topic(topic));
        }
    }

    /// Takes the filters to subscribe to, except for those set aside.
    pub(super) fn take_up(&mut self, subscriptions: Vec<Subscription>) {
        for subscription in subscriptions {
            let item = SuspectItem::Filter(subscription.filter.clone());
            self.aside.retain(|aside| aside.filter != subscription.filter);
            let has_wildcard = subscription.filter.as_str().contains(['+', '#']);
            if has_wildcard && !self.limits.wildcards {
                let (filter, reason) =
                    (subscription.filter, "the broker has no wildcards".to_owned());
                self.refused.push(FilterRefusal { filter, reason });
                continue;
            }
            match self.context.suspects.verdict(&item) {
                ItemVerdict::Free => self.subscribing.push_back(subscription),
                ItemVerdict::Aside | ItemVerdict::Retry => {
                    let (filter, reason) =
                        (subscription.filter.clone(), suspects::REASON.to_owned());
                    self.refused.push(FilterRefusal { filter, reason });
                    self.aside.push(subscription);
                }
            }
        }
    }

    /// Sends once more what the broker is now known to accept, and one publication that was set
    /// aside a while ago.
    pub(super) fn retry_publications(&mut self) {
        let topics: Vec<TopicName> =
            self.context.shared.lock().outbox.topics_aside().cloned().collect();
        let mut may_try = !topics.is_empty() && !self.is_unanswered();
        for topic in topics {
            let is_back = match self.context.suspects.verdict(&SuspectItem::Topic(topic.clone())) {
                ItemVerdict::Free => true,
                ItemVerdict::Retry => std::mem::take(&mut may_try),
                ItemVerdict::Aside => false,
            };
            if is_back {
                self.context.shared.lock().outbox.take_back(&topic);
            }
        }
    }

    /// Requests once more, and alone, a subscription that was set aside a while ago.
    pub(super) fn retry_aside(&mut self) {
        if self.aside.is_empty() || self.is_unanswered() || !self.subscribing.is_empty() {
            return;
        }
        let item = |subscription: &Subscription| SuspectItem::Filter(subscription.filter.clone());
        let is_due = |subscription: &Subscription| {
            self.context.suspects.verdict(&item(subscription)) == ItemVerdict::Retry
        };
        if let Some(at) = self.aside.iter().position(is_due) {
            let subscription = self.aside.swap_remove(at);
            self.context.suspects.suspect(item(&subscription));
            self.refused.clone_from(&self.told_refused);
            self.refused.retain(|refusal| refusal.filter != subscription.filter);
            self.reporting = true;
            self.subscribing.push_back(subscription);
        }
    }
}
