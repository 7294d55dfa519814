//! The messages to send, in order, and the publications that still lack their acknowledgement.
//!
//! Publications with QoS 1 stay here until PUBACK, across reconnections, unless they belong to their
//! connection; everything else is dropped with the connection that it was meant for.

use iotmonitor_core::model::message::{Lifetime, Publication, QoS, Subscription, Token};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Room for this many topics is kept when the queue has become empty.
const KEPT_ROOM: usize = 256;

/// The number of refused publications that are kept; beyond it, the oldest is dropped.
const MOST_ASIDE: usize = 256;

/// The queue keeps the order of the calls. Its memory is bounded by topics: a later publication
/// replaces an unsent one of the same topic and QoS, and takes its own, later place, so that the
/// last value stays last. A publication before a subscription or unsubscription is not replaced,
/// because the order around those carries meaning (markers); neither is a restored state, whose
/// echo the core waits for, because the core has only a few of them in flight.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: BTreeMap<u64, Queued>,
    /// The place of each topic's replaceable publication.
    newest: HashMap<(TopicName, QoS), u64>,
    next_place: u64,
    in_flight: BTreeMap<u16, (u64, Publication)>,
    last_pkid: u16,
    /// Tokens of publications that were replaced, to be reported as published.
    replaced: VecDeque<Token>,
    /// Publications on which the broker closes the connection, the last of each topic, the oldest
    /// first.
    aside: VecDeque<Publication>,
}

#[derive(Debug)]
enum Queued {
    /// The packet identifier of its first sending, when it has to be sent again in a session that
    /// continues.
    Publish(Publication, Option<u16>),
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<TopicFilter>),
}

/// The next packet to send.
#[derive(Debug)]
pub(super) enum NextPacket {
    /// `pkid` is 0 at QoS 0.
    Publish {
        publication: Publication,
        pkid: u16,
        dup: bool,
    },
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<TopicFilter>),
}

fn outlives_connection(publication: &Publication) -> bool {
    publication.qos == QoS::AtLeastOnce && publication.lifetime == Lifetime::UntilAnswered
}

impl Outbox {
    pub(super) fn publish(&mut self, publication: Publication) {
        let key = (publication.topic.clone(), publication.qos);
        let awaited = publication.restored;
        self.aside.retain(|older| older.topic != publication.topic);
        let place = self.push(Queued::Publish(publication, None));
        if awaited {
            return;
        }
        if let Some(older) = self.newest.insert(key, place) {
            self.drop_replaced(older);
        }
    }

    pub(super) fn subscribe(&mut self, subscriptions: Vec<Subscription>) {
        self.newest.clear();
        self.push(Queued::Subscribe(subscriptions));
    }

    pub(super) fn unsubscribe(&mut self, filters: Vec<TopicFilter>) {
        self.newest.clear();
        self.push(Queued::Unsubscribe(filters));
    }

    /// The topic of the next packet, if that is a publication.
    pub(super) fn next_topic(&self) -> Option<&TopicName> {
        match self.queue.first_key_value()?.1 {
            Queued::Publish(publication, _) => Some(&publication.topic),
            Queued::Subscribe(_) | Queued::Unsubscribe(_) => None,
        }
    }

    /// Keeps a publication that has been reported as refused, to be tried again later. One that
    /// belongs to its connection is dropped, and so is one with a successor on its topic.
    pub(super) fn put_aside(&mut self, publication: Publication) {
        let key = (publication.topic.clone(), publication.qos);
        if !outlives_connection(&publication) || self.newest.contains_key(&key) {
            return;
        }
        self.aside.retain(|older| older.topic != publication.topic);
        self.aside.push_back(Publication { token: None, ..publication });
        if self.aside.len() > MOST_ASIDE {
            self.aside.pop_front();
        }
    }

    pub(super) fn topics_aside(&self) -> impl Iterator<Item = &TopicName> {
        self.aside.iter().map(|publication| &publication.topic)
    }

    /// Puts a refused publication at the end of the queue.
    pub(super) fn take_back(&mut self, topic: &TopicName) {
        let place = self.aside.iter().position(|publication| publication.topic == *topic);
        if let Some(publication) = place.and_then(|place| self.aside.remove(place)) {
            self.publish(publication);
        }
    }

    /// The topics of the unacknowledged publications.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = &TopicName> {
        self.in_flight.values().map(|(_, publication)| &publication.topic)
    }

    pub(super) fn has_unacknowledged(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Takes the next packet, when fewer than `window` publications are unacknowledged; `is_used`
    /// reports the packet identifiers in use by others.
    pub(super) fn next(
        &mut self,
        window: usize,
        is_used: impl Fn(u16) -> bool,
    ) -> Option<NextPacket> {
        let entry = self.queue.first_entry()?;
        if let Queued::Publish(publication, _) = entry.get()
            && publication.qos == QoS::AtLeastOnce
            && self.in_flight.len() >= window
        {
            return None;
        }
        let (place, queued) = entry.remove_entry();
        Some(match queued {
            Queued::Subscribe(subscriptions) => NextPacket::Subscribe(subscriptions),
            Queued::Unsubscribe(filters) => NextPacket::Unsubscribe(filters),
            Queued::Publish(publication, first_pkid) => {
                let key = (publication.topic.clone(), publication.qos);
                if self.newest.get(&key) == Some(&place) {
                    self.newest.remove(&key);
                }
                if self.newest.is_empty() {
                    self.newest.shrink_to(KEPT_ROOM);
                }
                let pkid = match publication.qos {
                    QoS::AtMostOnce => 0,
                    QoS::AtLeastOnce => {
                        let pkid = first_pkid.unwrap_or_else(|| self.free_pkid(is_used));
                        self.in_flight.insert(pkid, (place, publication.clone()));
                        pkid
                    }
                };
                NextPacket::Publish { publication, pkid, dup: first_pkid.is_some() }
            }
        })
    }

    /// A packet identifier that neither a publication in flight nor `is_used` holds. One always
    /// exists, because both are limited to a few hundred.
    pub(super) fn free_pkid(&mut self, is_used: impl Fn(u16) -> bool) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.last_pkid) && !is_used(self.last_pkid) {
                return self.last_pkid;
            }
        }
    }

    /// Handles PUBACK, whatever its reason: sending again would be refused again. Returns the
    /// publication, if there was one.
    pub(super) fn acknowledged(&mut self, pkid: u16) -> Option<Publication> {
        self.in_flight.remove(&pkid).map(|(_, publication)| publication)
    }

    /// The connection is gone, and with it everything that was meant for it alone.
    pub(super) fn disconnected(&mut self) {
        self.in_flight.retain(|_, (_, publication)| outlives_connection(publication));
        let mut kept = HashMap::new();
        let mut older = Vec::new();
        self.queue.retain(|&place, queued| match queued {
            Queued::Publish(publication, _) if outlives_connection(publication) => {
                let key = (publication.topic.clone(), publication.qos);
                older.extend(kept.insert(key, place));
                true
            }
            Queued::Publish(..) | Queued::Subscribe(_) | Queued::Unsubscribe(_) => false,
        });
        self.newest = kept;
        for place in older {
            self.drop_replaced(place);
        }
    }

    /// A new connection is established: everything unacknowledged is sent again, before anything
    /// newer. A session that continues requires the identifiers of the first sending (MQTT 5, 4.4);
    /// in a new one they are ordinary publications, and those that have a successor on their topic
    /// need not be sent.
    pub(super) fn connected(&mut self, session_present: bool) {
        for (pkid, (place, publication)) in std::mem::take(&mut self.in_flight) {
            let key = (publication.topic.clone(), publication.qos);
            let token = publication.token;
            let has_successor = self.newest.get(&key).is_some_and(|&newest| newest > place);
            if has_successor && !session_present {
                self.replaced.extend(token);
                continue;
            }
            self.queue.insert(place, Queued::Publish(publication, session_present.then_some(pkid)));
            if !has_successor
                && let Some(older) = self.newest.insert(key, place)
                && !session_present
            {
                self.drop_replaced(older);
            }
        }
    }

    /// Drops what has not been sent on these topics, and does not send again what has been. The
    /// answers to the dropped ones are reported.
    pub(super) fn withdraw(&mut self, is_withdrawn: impl Fn(&TopicName) -> bool) {
        self.aside.retain(|publication| !is_withdrawn(&publication.topic));
        self.newest.retain(|(topic, _), _| !is_withdrawn(topic));
        let replaced = &mut self.replaced;
        self.queue.retain(|_, queued| match queued {
            Queued::Publish(publication, _) if is_withdrawn(&publication.topic) => {
                replaced.extend(publication.token);
                false
            }
            Queued::Publish(..) | Queued::Subscribe(_) | Queued::Unsubscribe(_) => true,
        });
        for (_, publication) in self.in_flight.values_mut() {
            if is_withdrawn(&publication.topic) {
                publication.lifetime = Lifetime::Connection;
            }
        }
    }

    /// A token whose publication was replaced before it was sent.
    pub(super) fn pop_replaced(&mut self) -> Option<Token> {
        self.replaced.pop_front()
    }

    /// Whether nothing waits to be sent or acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    fn push(&mut self, queued: Queued) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.queue.insert(place, queued);
        place
    }

    fn drop_replaced(&mut self, place: u64) {
        if let Some(Queued::Publish(publication, _)) = self.queue.remove(&place) {
            self.replaced.extend(publication.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::message::Connection;

    fn publication(topic: &str, payload: &'static str) -> Publication {
        Publication {
            connection: Connection::Watch,
            topic: TopicName::new(topic).unwrap(),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            restored: false,
            lifetime: Lifetime::UntilAnswered,
            token: Some(Token(1)),
        }
    }

    fn next(outbox: &mut Outbox) -> Option<(String, Option<Token>)> {
        match outbox.next(100, |_| false)? {
            NextPacket::Publish { publication, pkid, .. } => {
                outbox.acknowledged(pkid);
                let payload = String::from_utf8(publication.payload.to_vec()).unwrap();
                Some((payload, publication.token))
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn what_is_put_aside_waits_for_its_turn_and_answers_no_token_twice() {
        let mut outbox = Outbox::default();
        outbox.put_aside(publication("a", "1"));
        outbox.put_aside(publication("a", "2"));
        outbox.put_aside(publication("b", "3"));
        outbox.disconnected();
        outbox.connected(false);
        assert_eq!(outbox.topics_aside().count(), 2);
        assert!(outbox.is_settled() && next(&mut outbox).is_none());
        outbox.take_back(&TopicName::new("a").unwrap());
        assert_eq!(next(&mut outbox), Some(("2".to_owned(), None)));
        assert_eq!(outbox.topics_aside().count(), 1);
    }

    #[test]
    fn the_last_word_on_a_topic_stays_the_last() {
        let mut outbox = Outbox::default();
        outbox.put_aside(publication("a", "old"));
        outbox.publish(publication("a", "new"));
        assert_eq!(outbox.topics_aside().count(), 0);
        outbox.put_aside(publication("a", "old"));
        assert_eq!(outbox.topics_aside().count(), 0, "its successor is in the queue");
        assert_eq!(next(&mut outbox), Some(("new".to_owned(), Some(Token(1)))));
    }

    #[test]
    fn what_is_withdrawn_is_neither_sent_nor_sent_again() {
        let mut outbox = Outbox::default();
        outbox.publish(publication("a", "1"));
        let sent = outbox.next(100, |_| false);
        assert!(matches!(sent, Some(NextPacket::Publish { .. })));
        outbox.publish(publication("a", "2"));
        outbox.publish(publication("b", "3"));
        outbox.put_aside(publication("a/c", "4"));
        outbox.withdraw(|topic| topic.as_str().starts_with('a'));
        assert_eq!((outbox.pop_replaced(), outbox.topics_aside().count()), (Some(Token(1)), 0));
        outbox.disconnected();
        outbox.connected(true);
        assert_eq!(next(&mut outbox), Some(("3".to_owned(), Some(Token(1)))));
        assert_eq!(next(&mut outbox), None);
        outbox.publish(publication("a", "5"));
        assert_eq!(next(&mut outbox), Some(("5".to_owned(), Some(Token(1)))));
    }

    #[test]
    fn what_is_put_aside_is_bounded_and_what_belongs_to_a_connection_is_given_up() {
        let mut outbox = Outbox::default();
        outbox.put_aside(Publication { lifetime: Lifetime::Connection, ..publication("a", "1") });
        outbox.put_aside(Publication { qos: QoS::AtMostOnce, ..publication("a", "1") });
        assert_eq!(outbox.topics_aside().count(), 0);
        for number in 0..2 * MOST_ASIDE {
            outbox.put_aside(publication(&number.to_string(), "1"));
        }
        assert_eq!(outbox.topics_aside().count(), MOST_ASIDE);
        assert_eq!(outbox.topics_aside().next().unwrap().as_str(), MOST_ASIDE.to_string());
    }
}
