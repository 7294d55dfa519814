//! Finds filters that match everything that a device publishes, and nothing that others publish.

use super::traffic::Topics;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::BTreeSet;

/// The maximum number of filters in a section. A longer section would not be read.
const MOST_FILTERS: usize = 64;

/// Returns the filters for a device: those of its convention, whether or not it was heard there,
/// and the names of the topics that these do not match, those with the most messages first. A
/// filter that matches a topic without signs of life is replaced by the convention's narrow
/// filters.
pub fn by_convention(
    patterns: Vec<String>,
    narrow: Vec<String>,
    contacts: &[&TopicName],
    others: &[&TopicName],
) -> Vec<TopicFilter> {
    let mut filters = Vec::new();
    let parsed = |patterns: Vec<String>| {
        let patterns = patterns.into_iter().take(MOST_FILTERS);
        patterns.filter_map(|pattern| TopicFilter::new(pattern).ok())
    };
    let mut is_wide = false;
    for pattern in parsed(patterns) {
        let takes_others = others.iter().any(|topic| pattern.matches(topic));
        is_wide |= takes_others;
        push(&mut filters, (!takes_others).then_some(pattern));
    }
    for pattern in parsed(narrow).filter(|_| is_wide) {
        push(&mut filters, Some(pattern));
    }
    for topic in contacts {
        if !filters.iter().any(|filter| filter.matches(topic)) {
            push(&mut filters, topic.as_filter());
        }
    }
    filters
}

/// Returns the filters for a device that no convention knows: everything below the levels that its
/// topics have in common, unless others publish there too or send it orders there. `own` are all
/// topics on which the device itself publishes.
pub fn by_shape(
    contacts: &[&TopicName],
    own: &BTreeSet<&TopicName>,
    topics: &Topics,
) -> Vec<TopicFilter> {
    if contacts.len() > 1
        && let Some(common) = common_levels(contacts)
        && let Ok(filter) = TopicFilter::new(format!("{common}/#"))
        && topics.below(common).all(|topic| own.contains(topic) || !filter.matches(topic))
    {
        return vec![filter];
    }
    by_convention(Vec::new(), Vec::new(), contacts, &[])
}

fn push(filters: &mut Vec<TopicFilter>, filter: Option<TopicFilter>) {
    let new = filter.filter(|filter| filters.len() < MOST_FILTERS && !filters.contains(filter));
    filters.extend(new);
}

/// Returns the levels that all topics have in common, or `None` where there are none.
fn common_levels<'a>(contacts: &[&'a TopicName]) -> Option<&'a str> {
    let (first, rest) = contacts.split_first()?;
    let (mut common, _) = first.as_str().rsplit_once('/')?;
    while !rest.iter().all(|topic| is_below(topic.as_str(), common)) {
        common = common.rsplit_once('/')?.0;
    }
    (!common.is_empty()).then_some(common)
}

fn is_below(topic: &str, level: &str) -> bool {
    topic.strip_prefix(level).is_some_and(|rest| rest.starts_with('/'))
}
