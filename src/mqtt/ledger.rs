//! Tracks which of the packets sent have been answered.
//!
//! A publication at QoS 0 has no answer of its own, but a broker handles the packets of a client in
//! order: the answer to a later packet shows that it has received the publication.

use iotmonitor_core::topic::TopicName;
use std::collections::{BTreeMap, VecDeque};

/// The number of publications at QoS 0 that are remembered; in a flood only the last ones are.
const MOST_PLAIN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: u64,
    plain: VecDeque<(u64, TopicName)>,
    by_pkid: BTreeMap<u16, u64>,
    /// Unanswered pings; answers come in the order of the pings.
    pings: VecDeque<u64>,
}

impl Ledger {
    pub(super) fn plain_sent(&mut self, topic: TopicName) {
        self.sent += 1;
        if self.plain.len() >= MOST_PLAIN {
            self.plain.pop_front();
        }
        self.plain.push_back((self.sent, topic));
    }

    pub(super) fn sent(&mut self, pkid: u16) {
        self.sent += 1;
        self.by_pkid.insert(pkid, self.sent);
    }

    pub(super) fn ping_sent(&mut self) {
        self.sent += 1;
        self.pings.push_back(self.sent);
    }

    /// An answer with this packet identifier arrived. Returns the publications at QoS 0 that it
    /// confirms.
    pub(super) fn answered(&mut self, pkid: u16) -> Vec<TopicName> {
        self.by_pkid.remove(&pkid).map(|at| self.taken_before(at)).unwrap_or_default()
    }

    pub(super) fn ping_answered(&mut self) -> Vec<TopicName> {
        self.pings.pop_front().map(|at| self.taken_before(at)).unwrap_or_default()
    }

    /// Publications at QoS 0 that are not confirmed.
    pub(super) fn plain(&self) -> impl Iterator<Item = &TopicName> {
        self.plain.iter().map(|(_, topic)| topic)
    }

    fn taken_before(&mut self, answered: u64) -> Vec<TopicName> {
        let count = self.plain.iter().take_while(|(at, _)| *at < answered).count();
        self.plain.drain(..count).map(|(_, topic)| topic).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_proves_what_went_out_before_its_packet() {
        let topic = |text: &str| TopicName::new(text).unwrap();
        let mut ledger = Ledger::default();
        ledger.plain_sent(topic("1"));
        ledger.sent(7);
        ledger.plain_sent(topic("2"));
        ledger.ping_sent();
        ledger.plain_sent(topic("3"));
        assert_eq!(ledger.answered(7), [topic("1")]);
        assert_eq!(ledger.answered(7), []);
        assert_eq!(ledger.ping_answered(), [topic("2")]);
        assert_eq!(ledger.plain().collect::<Vec<_>>(), [&topic("3")]);
    }

    #[test]
    fn each_ping_has_an_answer_of_its_own() {
        let topic = |text: &str| TopicName::new(text).unwrap();
        let mut ledger = Ledger::default();
        ledger.ping_sent();
        ledger.plain_sent(topic("1"));
        ledger.ping_sent();
        assert_eq!(ledger.ping_answered(), []);
        assert_eq!(ledger.ping_answered(), [topic("1")]);
        assert_eq!(ledger.ping_answered(), []);
    }
}
