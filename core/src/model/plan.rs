//! The subscriptions that bring everything that matches the wanted filters, and nothing twice.
//!
//! A filter that another one covers is left out, because a broker may send a message once for each
//! matching subscription; the covering one gets the higher QoS of the two.

use crate::model::message::{QoS, Subscription};
use crate::topic::TopicFilter;
use crate::topic::index::TopicIndex;

/// Subscriptions in the order of their filters, no filter twice.
pub type Plan = Vec<Subscription>;

/// A subscription to a filter, without retained messages.
#[must_use]
pub fn wanted(filter: TopicFilter, qos: QoS) -> Subscription {
    Subscription { filter, qos, replay: false }
}

/// The subscriptions that bring everything the wanted filters match, once.
#[must_use]
pub fn plan(wanted: impl Iterator<Item = Subscription>) -> Plan {
    let mut all: Plan = wanted.collect();
    // Of equal filters the highest QoS comes first, and stays.
    all.sort_unstable_by(|a, b| a.filter.cmp(&b.filter).then(b.qos.cmp(&a.qos)));
    all.dedup_by(|later, first| {
        let same = later.filter == first.filter;
        first.replay |= same && later.replay;
        same
    });
    let mut index = TopicIndex::new();
    for (number, subscription) in all.iter().enumerate() {
        index.insert(&subscription.filter, number);
    }
    let mut is_covered = vec![false; all.len()];
    for number in 0..all.len() {
        let widest = widest_covering(&index, &all, number);
        if widest != number && !all[number].replay {
            is_covered[number] = true;
            all[widest].qos = all[widest].qos.max(all[number].qos);
        }
    }
    let mut covered = is_covered.into_iter();
    all.retain(|_| !covered.next().unwrap_or(false));
    all
}

/// The filter that covers this one and is covered by no other; itself when it stands alone.
fn widest_covering(index: &TopicIndex<usize>, all: &[Subscription], number: usize) -> usize {
    let mut widest = number;
    index.for_each_covering(&all[number].filter, |candidate| {
        if candidate != widest && all[candidate].filter.covers(&all[widest].filter) {
            widest = candidate;
        }
    });
    // Covering filters of one filter need not cover each other (`a/+` and `+/b` over `a/b`): climb
    // until nothing wider is left, so that every covered filter meets a planned one.
    if widest == number { number } else { widest_covering(index, all, widest) }
}

/// The plan's subscription to this filter.
pub fn find<'p>(plan: &'p [Subscription], filter: &TopicFilter) -> Option<&'p Subscription> {
    let place = plan.binary_search_by(|subscription| subscription.filter.cmp(filter));
    place.ok().map(|place| &plan[place])
}

/// The filters of one plan that another does not have.
pub fn filters_beyond<'p>(
    plan: &'p [Subscription],
    other: &'p [Subscription],
) -> impl Iterator<Item = &'p TopicFilter> {
    plan.iter().map(|subscription| &subscription.filter).filter(|f| find(other, f).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filter: &str, qos: QoS) -> Subscription {
        wanted(TopicFilter::new(filter).unwrap(), qos)
    }

    #[test]
    fn a_covered_filter_is_left_out_and_lifts_the_one_that_covers_it() {
        let all =
            [of("a/b", QoS::AtLeastOnce), of("a/#", QoS::AtMostOnce), of("c", QoS::AtMostOnce)];
        let expected = [of("a/#", QoS::AtLeastOnce), of("c", QoS::AtMostOnce)];
        assert_eq!(plan(all.into_iter()), expected);
    }

    #[test]
    fn one_that_wants_what_is_retained_stands_beside_what_covers_it() {
        let replayed = Subscription { replay: true, ..of("a/b", QoS::AtLeastOnce) };
        let all = [of("a/#", QoS::AtMostOnce), replayed.clone(), of("a/b", QoS::AtMostOnce)];
        assert_eq!(plan(all.into_iter()), [of("a/#", QoS::AtMostOnce), replayed]);
    }

    #[test]
    fn plans_are_compared_by_their_filters() {
        let plan = [of("a", QoS::AtMostOnce), of("b", QoS::AtMostOnce)];
        assert_eq!(find(&plan, &plan[1].filter), Some(&plan[1]));
        let beyond: Vec<_> = filters_beyond(&plan, &plan[..1]).collect();
        assert_eq!(beyond, [&plan[1].filter]);
    }
}
