//! What the store makes of requests, and what its answers do.

use super::{Event, Mistake, World};
use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::store::{
    Compare, Put, RequestNumber, StoreAnswer, StoreRequest, Transaction,
};
use std::time::Duration;

impl World {
    pub(super) fn arrived(
        &mut self,
        node: usize,
        process: u64,
        number: RequestNumber,
        request: StoreRequest,
        answer: Option<Duration>,
    ) {
        if self.now < self.store_away {
            let event = Event::Arrived { node, process, number, request, answer };
            self.at(self.store_away, event);
            return;
        }
        let name = &self.nodes[node].name;
        let ends_another = |transaction: &Transaction| {
            transaction.puts.iter().any(|put| matches!(put, Put::Node(other, _) if other != name))
        };
        let result = match &request {
            StoreRequest::Commit(transaction) if ends_another(transaction) => {
                self.tally.evictions += 1;
                self.evictor = Some(node);
                if self.mistake == Some(Mistake::SecondTransaction) {
                    let both = transaction.clone();
                    self.in_two(node, process, number, both, answer);
                    return;
                }
                self.store.answer(&request)
            }
            _ => self.store.answer(&request),
        };
        if let Some(delay) = answer {
            self.after(delay, Event::Answered { node, process, number, answer: result });
        }
    }

    /// Ends the sessions now. The new owners come in a request of their own.
    fn in_two(
        &mut self,
        node: usize,
        process: u64,
        number: RequestNumber,
        both: Transaction,
        answer: Option<Duration>,
    ) {
        let mut first = both.clone();
        first.compares.retain(|compare| matches!(compare, Compare::Node(..)));
        first.puts.retain(|put| matches!(put, Put::Node(..)));
        let mut second = both;
        second.compares.clear();
        second.puts.retain(|put| matches!(put, Put::Plan(_)));
        if self.store.answer(&StoreRequest::Commit(first)) != StoreAnswer::Refused
            && let Some(delay) = answer
        {
            let request = StoreRequest::Commit(second);
            self.after(delay, Event::Sent { node, process, number, request });
        }
    }

    pub(super) fn answered(&mut self, node: usize, number: RequestNumber, answer: StoreAnswer) {
        if self.mistake == Some(Mistake::StartUnconfirmed)
            && let StoreAnswer::Read(contents) = &answer
            && let Some(Guarded { session, deadline, .. }) = self.nodes[node].guard
            && self.local(node) < deadline
            && let Some(plan) = &contents.plan
        {
            for (item, owner) in &plan.value.owners {
                if owner.session == session && !self.nodes[node].runs.contains_key(item) {
                    self.start(node, item.clone(), plan.revision);
                }
            }
        }
        self.call(node, |member, now| member.answered(now, number, answer));
    }
}
