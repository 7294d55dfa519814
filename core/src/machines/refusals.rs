//! Publications that the broker refuses: reported once for each topic root and reason, until one is
//! accepted again.
//!
//! A broker rarely refuses one topic alone: an access control list leaves out a branch. So a root
//! is an own topic's kind (`BASE/expire`), or the first level of any other.

use crate::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet};

/// The number of topics kept of one root and reason. Beyond it, any accepted topic ends the
/// refusal.
const MOST_TOPICS: usize = 256;

/// Refusals that have not ended.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By root and reason.
    open: BTreeMap<(String, String), Refused>,
    /// The features that the broker lacks, as last reported.
    lacks: String,
}

#[derive(Debug, Default)]
struct Refused {
    topics: BTreeSet<TopicName>,
    /// Whether any topic of the root ends the refusal.
    by_any: bool,
}

impl Refusals {
    /// Notes a refused publication. Returns the root of its topic where that is news.
    pub fn refused(
        &mut self,
        base: &TopicName,
        topic: &TopicName,
        reason: String,
    ) -> Option<String> {
        let root = root_of(base, topic);
        let key = (root.to_owned(), reason);
        let is_news = !self.open.contains_key(&key);
        let refused = self.open.entry(key).or_default();
        refused.by_any |= topic.is_below(base) || refused.topics.len() >= MOST_TOPICS;
        if !refused.by_any {
            refused.topics.insert(topic.detached());
        }
        is_news.then(|| root.to_owned())
    }

    /// Notes a publication that the broker has accepted. Returns the root of its topic where that
    /// ends a refusal.
    pub fn accepted(&mut self, base: &TopicName, topic: &TopicName) -> Option<String> {
        if self.open.is_empty() {
            return None;
        }
        let root = root_of(base, topic);
        let before = self.open.len();
        self.open.retain(|(refused_root, _), refused| {
            refused_root != root || !(refused.by_any || refused.topics.contains(topic))
        });
        (self.open.len() < before).then(|| root.to_owned())
    }

    /// Notes the features that the broker lacks, which is empty where it supports everything.
    /// Returns whether any of them is news.
    pub fn lacks(&mut self, what: &str) -> bool {
        let is_news = self.lacks != what && !what.is_empty();
        what.clone_into(&mut self.lacks);
        is_news
    }
}

fn root_of<'a>(base: &TopicName, topic: &'a TopicName) -> &'a str {
    let topic_levels = topic.as_str();
    let start =
        if topic.is_below(base) { (base.as_str().len() + 1).min(topic_levels.len()) } else { 0 };
    let end = topic_levels[start..].find('/').map_or(topic_levels.len(), |at| start + at);
    &topic_levels[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn refused(refusals: &mut Refusals, name: &str) -> Option<String> {
        refusals.refused(&topic("base"), &topic(name), "not authorized".to_owned())
    }

    #[test]
    fn a_refusal_is_news_once_for_each_root_and_reason() {
        let mut refusals = Refusals::default();
        assert_eq!(refused(&mut refusals, "base/expire/lamp").as_deref(), Some("base/expire"));
        assert_eq!(refused(&mut refusals, "base/expire/bell"), None);
        assert_eq!(refused(&mut refusals, "base/status/lamp").as_deref(), Some("base/status"));
        assert_eq!(refused(&mut refusals, "house/lamp/set").as_deref(), Some("house"));
        let large = "too large".to_owned();
        assert!(refusals.refused(&topic("base"), &topic("house/lamp/set"), large).is_some());
    }

    #[test]
    fn any_topic_of_an_own_root_ends_its_refusal_and_only_a_refused_one_that_of_another() {
        let mut refusals = Refusals::default();
        let accepted =
            |refusals: &mut Refusals, name| refusals.accepted(&topic("base"), &topic(name));
        refused(&mut refusals, "base/expire/lamp");
        refused(&mut refusals, "house/lamp/set");
        assert_eq!(accepted(&mut refusals, "house/bell/set"), None);
        assert_eq!(accepted(&mut refusals, "base/expire/bell").as_deref(), Some("base/expire"));
        assert_eq!(accepted(&mut refusals, "house/lamp/set").as_deref(), Some("house"));
        assert_eq!(accepted(&mut refusals, "house/lamp/set"), None);
    }

    #[test]
    fn of_very_many_refused_topics_any_ends_the_refusal() {
        let mut refusals = Refusals::default();
        for number in 0..=MOST_TOPICS {
            refused(&mut refusals, &format!("house/{number}/set"));
        }
        let root = refusals.accepted(&topic("base"), &topic("house/another"));
        assert_eq!(root.as_deref(), Some("house"));
    }

    #[test]
    fn what_a_broker_lacks_is_news_when_it_changes() {
        let mut refusals = Refusals::default();
        assert!(!refusals.lacks("") && refusals.lacks("retain") && !refusals.lacks("retain"));
        assert!(refusals.lacks("QoS 1") && !refusals.lacks("") && refusals.lacks("QoS 1"));
    }
}
