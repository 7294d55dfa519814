//! Which filters take all that a device says, and nothing of others.

use super::traffic::Topics;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::BTreeSet;

/// A section with more filters would be none that a person reads.
const MOST_FILTERS: usize = 64;

/// Filters for a device: those of its convention, heard or not, and what these leave out by name, the
/// liveliest first. A filter that takes what is no sign of life gives way to the convention's narrow
/// ones.
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

/// Filters for a device that no convention knows: all below what its topics have in common, unless
/// others speak there too, or it is told there what to do.
/// `own` are all topics on which it speaks itself.
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

/// The levels above all topics that they have in common; `None` where there are none.
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
