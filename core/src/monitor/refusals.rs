//! Publications that the broker does not take: told once for each topic root and reason, until one
//! is taken again.
//!
//! A broker rarely refuses one topic alone: what its access control list leaves out is a branch. So
//! a root is an own topic's kind (`BASE/expire`), or the first level of any other.

use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::message::Token;
use crate::model::time::Now;
use crate::monitor::{Monitor, raise};
use crate::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet};

/// Topics kept of one root and reason. Of more, any that is taken ends the alert.
const MOST_TOPICS: usize = 256;

/// Alerts that have not ended.
#[derive(Debug, Default)]
pub struct Refusals {
    told: BTreeMap<(String, String), Refused>,
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
        now: Now,
        topic: &TopicName,
        reason: String,
        token: Option<Token>,
        out: &mut Vec<Action>,
    ) {
        self.tell_refusal(topic, reason, out);
        if token.is_some_and(|token| self.watch.probes.is_answered_by(token)) {
            self.probe_succeeded(now, out);
        } else {
            self.restored_refused(token, topic, out);
        }
        self.forget_echoes_of(topic);
    }

    fn tell_refusal(&mut self, topic: &TopicName, reason: String, out: &mut Vec<Action>) {
        let root = self.root_of(topic);
        let is_own = topic.is_below(&self.base_topic);
        let message = format!(
            "the broker does not take what is published below `{root}`, such as `{topic}`: {reason}"
        );
        let refused = self.refusals.told.entry((root, reason)).or_insert_with(|| {
            out.push(raise(AlertKind::PublishRefused, message));
            Refused::default()
        });
        refused.by_any |= is_own || refused.topics.len() >= MOST_TOPICS;
        if !refused.by_any {
            refused.topics.insert(topic.detached());
        }
    }

    pub(super) fn publication_accepted(&mut self, topic: &TopicName, out: &mut Vec<Action>) {
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
            out.push(raise(AlertKind::PublishAccepted, message));
        }
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
