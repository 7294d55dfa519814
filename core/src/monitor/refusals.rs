//! Publications that the broker does not take: told once for each topic root and reason, until one
//! is taken again.
//!
//! A broker rarely refuses one topic alone: what its access control list leaves out is a branch. So
//! a root is an own topic's kind (`BASE/expire`), or the first level of any other.

use super::turn::Turn;
use crate::model::alert::AlertKind;
use crate::model::message::Token;
use crate::monitor::Monitor;
use crate::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet};

/// Topics kept of one root and reason. Of more, any that is taken ends the alert.
const MOST_TOPICS: usize = 256;

/// Alerts that have not ended.
#[derive(Debug, Default)]
pub struct Refusals {
    told: BTreeMap<(String, String), Refused>,
    /// What the broker cannot do, as it was told last.
    lacks: String,
}

#[derive(Debug, Default)]
struct Refused {
    topics: BTreeSet<TopicName>,
    /// Whether any topic of the root ends the alert.
    by_any: bool,
}

impl Monitor {
    pub(super) fn publication_refused(
        &mut self,
        turn: &mut Turn<'_>,
        topic: &TopicName,
        reason: String,
        token: Option<Token>,
    ) {
        self.tell_refusal(turn, topic, reason);
        if token.is_some_and(|token| self.probes.is_answered_by(token)) {
            self.probe_succeeded(turn);
        } else {
            self.restored_refused(turn, token, topic);
        }
        self.forget_echoes_of(topic);
    }

    fn tell_refusal(&mut self, turn: &mut Turn<'_>, topic: &TopicName, reason: String) {
        let root = self.root_of(topic);
        let is_own = topic.is_below(&self.base_topic);
        let message = format!(
            "the broker does not take what is published below `{root}`, such as `{topic}`: {reason}"
        );
        let refused = self.refusals.told.entry((root, reason)).or_insert_with(|| {
            turn.raise(AlertKind::PublishRefused, message);
            Refused::default()
        });
        refused.by_any |= is_own || refused.topics.len() >= MOST_TOPICS;
        if !refused.by_any {
            refused.topics.insert(topic.detached());
        }
    }

    pub(super) fn publication_accepted(&mut self, turn: &mut Turn<'_>, topic: &TopicName) {
        if self.refusals.told.is_empty() {
            return;
        }
        let root = self.root_of(topic);
        let before = self.refusals.told.len();
        self.refusals.told.retain(|(refused_root, _), refused| {
            *refused_root != root || !(refused.by_any || refused.topics.contains(topic))
        });
        if self.refusals.told.len() < before {
            let message = format!("the broker takes what is published below `{root}` again");
            turn.raise(AlertKind::PublishAccepted, message);
        }
    }

    /// Tells once what the broker cannot do; the rest goes on without it.
    pub(super) fn broker_lacks(&mut self, turn: &mut Turn<'_>, what: String) {
        if self.refusals.lacks != what && !what.is_empty() {
            let message = format!("the broker is used without what it does not offer: {what}");
            turn.raise(AlertKind::BrokerLimited, message);
        }
        self.refusals.lacks = what;
    }

    fn root_of(&self, topic: &TopicName) -> String {
        let text = topic.as_str();
        let start = if topic.is_below(&self.base_topic) {
            (self.base_topic.as_str().len() + 1).min(text.len())
        } else {
            0
        };
        let end = text[start..].find('/').map_or(text.len(), |at| start + at);
        text[..end].to_owned()
    }
}
