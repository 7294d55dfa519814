//! Which filters are asked of the broker: what the devices need and nothing twice.
//!
//! A filter that another one covers is left out, since a broker may send a message once for each
//! subscription that matches; the covering one gets the higher QoS of the two.

use super::action::Subscription;
use super::event::QoS;
use crate::topic::TopicFilter;
use crate::topic::index::TopicIndex;
use std::collections::BTreeMap;

/// The subscriptions that bring everything the wanted filters match, once.
pub fn plan<'a>(
    wanted: impl IntoIterator<Item = (&'a TopicFilter, QoS)>,
) -> BTreeMap<TopicFilter, QoS> {
    let mut highest: BTreeMap<&TopicFilter, QoS> = BTreeMap::new();
    for (filter, qos) in wanted {
        let entry = highest.entry(filter).or_insert(qos);
        *entry = qos.max(*entry);
    }
    let filters: Vec<(&TopicFilter, QoS)> = highest.into_iter().collect();
    let mut index = TopicIndex::new();
    for (number, (filter, _)) in (0_u32..).zip(&filters) {
        index.insert(filter, number);
    }
    let mut planned = BTreeMap::new();
    for &(filter, qos) in &filters {
        let widest = widest_covering(&index, &filters, filter);
        let entry = planned.entry(widest.clone()).or_insert(qos);
        *entry = qos.max(*entry);
    }
    planned
}

/// The filter that covers this one and is covered by no other; itself when it stands alone.
fn widest_covering<'a>(
    index: &TopicIndex<u32>,
    filters: &[(&'a TopicFilter, QoS)],
    filter: &'a TopicFilter,
) -> &'a TopicFilter {
    let mut widest = filter;
    index.for_each_covering(filter, |number| {
        let candidate = filters[number as usize].0;
        if candidate.covers(widest) {
            widest = candidate;
        }
    });
    // Covering filters of one filter need not cover each other (`a/+` and `+/b` over `a/b`): climb
    // until nothing wider is left, so that every covered filter meets a planned one.
    if widest == filter { filter } else { widest_covering(index, filters, widest) }
}

/// As a SUBSCRIBE packet wants them.
pub fn to_subscriptions(planned: &BTreeMap<TopicFilter, QoS>) -> Vec<Subscription> {
    planned.iter().map(|(filter, &qos)| Subscription { filter: filter.clone(), qos }).collect()
}
