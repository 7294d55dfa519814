//! The states that a node has missed, because the broker no longer keeps its session: another node
//! has them, and sends what it has recorded.
//!
//! A node that has missed something says so on `nodes/NODE`. Of those that have not, the first by its
//! name sends all of its states in chunks, each after the broker has taken the one before.

use crate::model::cluster::NodeName;
use crate::model::message::Token;
use crate::model::state::ReadId;
use crate::topic::TopicName;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// A node that has not got everything by then goes on with what it has.
const PATIENCE: Duration = Duration::from_secs(30);

/// What this node has missed, and which others it helps.
#[derive(Debug, Default)]
pub struct CatchUp {
    /// What other nodes have is waited for until this time.
    missing_until: Option<Duration>,
    waiting: VecDeque<NodeName>,
    /// Those that have got everything, and have not said so yet.
    served: BTreeSet<NodeName>,
    serving: Option<Serving>,
}

#[derive(Debug)]
struct Serving {
    node: NodeName,
    read: Option<ReadId>,
    after: Option<TopicName>,
    next: Option<TopicName>,
    token: Option<Token>,
    /// The number of messages up to now.
    sent: u64,
}

/// What follows from an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
pub enum CatchUpStep {
    /// It answers something else.
    NotOurs,
    /// Call [`CatchUp::next_read`].
    Read,
}

impl CatchUp {
    /// The broker had no session for this node. Returns when to look at it again.
    pub fn lost_session(&mut self, now: Duration) -> Duration {
        *self.missing_until.insert(now + PATIENCE)
    }

    /// Whether states may be recorded elsewhere that are newer than those here.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing_until.is_some()
    }

    /// Nothing more is to come; returns whether something was expected.
    pub fn complete(&mut self) -> bool {
        self.missing_until.take().is_some()
    }

    /// Returns whether it has become too late to wait.
    pub fn is_overdue(&self, now: Duration) -> bool {
        self.missing_until.is_some_and(|until| until <= now)
    }

    /// The nodes that this one has to help now.
    pub fn asked(&mut self, nodes: BTreeSet<NodeName>) {
        self.served.retain(|node| nodes.contains(node));
        self.waiting.retain(|node| nodes.contains(node));
        if self.serving.as_ref().is_some_and(|serving| !nodes.contains(&serving.node)) {
            self.serving = None;
        }
        for node in nodes {
            let is_served = self.serving.as_ref().is_some_and(|serving| serving.node == node);
            if !is_served && !self.served.contains(&node) && !self.waiting.contains(&node) {
                self.waiting.push_back(node);
            }
        }
    }

    /// The connection is lost, and with it what was on its way.
    pub fn disconnected(&mut self) {
        self.waiting.clear();
        self.served.clear();
        self.serving = None;
    }

    /// Whether something is to be read.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        match &self.serving {
            None => !self.waiting.is_empty(),
            Some(serving) => serving.read.is_none() && serving.token.is_none(),
        }
    }

    /// The next chunk is read, after this topic.
    pub fn next_read(&mut self, read: ReadId) -> Option<TopicName> {
        if self.serving.is_none()
            && let Some(node) = self.waiting.pop_front()
        {
            let (after, next, token) = (None, None, None);
            self.serving = Some(Serving { node, read: None, after, next, token, sent: 0 });
        }
        let serving = self.serving.as_mut()?;
        serving.read = Some(read);
        serving.after.clone()
    }

    /// A chunk was read, after which the next one begins. Returns the node that it is for.
    pub fn chunk_read(&mut self, read: ReadId, next: Option<TopicName>) -> Option<NodeName> {
        let serving = self.serving.as_mut().filter(|serving| serving.read == Some(read))?;
        serving.read = None;
        serving.next = next;
        Some(serving.node.clone())
    }

    /// The number of the next message.
    pub fn number(&mut self) -> u64 {
        let Some(serving) = &mut self.serving else { return 0 };
        serving.sent += 1;
        serving.sent
    }

    /// Whether the present chunk is the last one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.serving.as_ref().is_none_or(|serving| serving.next.is_none())
    }

    /// The present chunk is on its way, up to this publication.
    pub fn awaits(&mut self, token: Token) {
        if let Some(serving) = &mut self.serving {
            serving.token = Some(token);
        }
    }

    /// The broker has acknowledged a publication.
    pub fn acknowledged(&mut self, token: Token) -> CatchUpStep {
        let Some(serving) = self.serving.take_if(|serving| serving.token == Some(token)) else {
            return CatchUpStep::NotOurs;
        };
        if serving.next.is_none() {
            self.served.insert(serving.node);
        } else {
            self.serving =
                Some(Serving { after: serving.next, next: None, token: None, ..serving });
        }
        CatchUpStep::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;
    const READ: fn(u64) -> ReadId = ReadId::CatchUp;

    fn nodes(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| NodeName::new(name).unwrap()).collect()
    }

    #[test]
    fn a_node_is_served_chunk_by_chunk_and_once() {
        let mut catch_up = CatchUp::default();
        catch_up.asked(nodes(&["pi1", "pi2"]));
        assert!(catch_up.wants_read());
        assert_eq!(catch_up.next_read(READ(1)), None);
        assert!(!catch_up.wants_read());
        let next = TopicName::new("b").ok();
        assert_eq!(catch_up.chunk_read(READ(9), None), None, "this is another one's");
        assert_eq!(catch_up.chunk_read(READ(1), next.clone()), NodeName::new("pi1").ok());
        assert_eq!((catch_up.number(), catch_up.number()), (1, 2));
        catch_up.awaits(Token(5));
        assert_eq!(catch_up.acknowledged(Token(4)), CatchUpStep::NotOurs);
        assert_eq!(catch_up.acknowledged(Token(5)), CatchUpStep::Read);
        assert_eq!(catch_up.next_read(READ(2)), next);
        catch_up.chunk_read(READ(2), None);
        assert!(catch_up.is_last());
        catch_up.awaits(Token(6));
        catch_up.acknowledged(Token(6));
        catch_up.asked(nodes(&["pi1", "pi2"]));
        catch_up.next_read(READ(3));
        assert_eq!(catch_up.chunk_read(READ(3), None), NodeName::new("pi2").ok());
    }

    #[test]
    fn one_that_no_longer_asks_gets_nothing_more_and_may_ask_again() {
        let mut catch_up = CatchUp::default();
        catch_up.asked(nodes(&["pi1"]));
        catch_up.next_read(READ(1));
        catch_up.asked(nodes(&[]));
        assert_eq!(catch_up.chunk_read(READ(1), None), None);
        assert!(!catch_up.wants_read());
        catch_up.asked(nodes(&["pi1"]));
        assert!(catch_up.wants_read());
        catch_up.disconnected();
        assert!(!catch_up.wants_read());
    }

    #[test]
    fn what_was_missed_is_waited_for_no_longer_than_half_a_minute() {
        let mut catch_up = CatchUp::default();
        assert!(!catch_up.complete());
        assert_eq!(catch_up.lost_session(T(1)), T(31));
        assert!(catch_up.is_missing() && !catch_up.is_overdue(T(30)) && catch_up.is_overdue(T(31)));
        assert!(catch_up.complete() && !catch_up.is_missing());
    }
}
