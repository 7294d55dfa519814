//! Which filters are asked of the broker: what the devices need and nothing twice.
//!
//! A filter that another one covers is left out, since a broker may send a message once for each
//! subscription that matches; the covering one gets the higher QoS of the two. A plan follows from
//! the configuration alone, so it is made when it is needed and not kept: for a fleet it is large.

use super::{Monitor, Target};
use crate::model::device_id::DeviceId;
use crate::model::message::{QoS, Subscription};
use crate::topic::index::TopicIndex;
use crate::topic::{TopicFilter, TopicName};

/// Subscriptions in the order of their filters, no filter twice.
pub type Plan = Vec<Subscription>;

/// The plans of both connections.
pub struct Plans {
    pub watch: Plan,
    pub state: Plan,
}

impl Monitor {
    /// What a configuration asks for that is about to be replaced.
    pub(super) fn plans(&self) -> Plans {
        Plans { watch: self.watch_plan(), state: self.state_plan() }
    }

    /// The filters of watchTopics at QoS 0, hello and availability topics at QoS 1. A hello topic
    /// that another filter covers lifts that one to QoS 1, since two overlapping subscriptions would
    /// bring each hello twice. An availability topic stands alone, for what the broker retains on it
    /// is wanted too; that one comes twice does no harm.
    pub(super) fn watch_plan(&self) -> Plan {
        let command = self.command_filter().map(|filter| wanted(filter, QoS::AtLeastOnce));
        let devices = self.filters(|filter, target| match target {
            Target::Contact(_) => Some(wanted(filter, QoS::AtMostOnce)),
            Target::Hello(_) => Some(wanted(filter, QoS::AtLeastOnce)),
            Target::Availability(_) => {
                Some(Subscription { replay: true, ..wanted(filter, QoS::AtLeastOnce) })
            }
            Target::State(_) => None,
        });
        let own = self.own_word_filters().into_iter();
        let own = own.map(|filter| wanted(filter, QoS::AtMostOnce));
        plan(devices.chain(command).chain(own))
    }

    /// The filters of stateTopics, and that of the markers.
    pub(super) fn state_plan(&self) -> Plan {
        let markers = format!("{}/marker/{}/+", self.base_topic, self.client_id);
        let markers = TopicFilter::new(markers).ok().map(|filter| wanted(filter, QoS::AtLeastOnce));
        let devices = self.filters(|filter, target| match target {
            Target::State(_) => Some(wanted(filter, QoS::AtLeastOnce)),
            Target::Contact(_) | Target::Hello(_) | Target::Availability(_) => None,
        });
        plan(devices.chain(markers))
    }

    fn filters(
        &self,
        subscription: impl Fn(TopicFilter, Target) -> Option<Subscription>,
    ) -> impl Iterator<Item = Subscription> {
        let all = self.index.values(0..self.index.len());
        all.filter_map(move |(number, target)| subscription(self.index.filter(number)?, target))
    }

    /// A device's stateTopics.
    pub(super) fn state_filters(&self, id: DeviceId) -> Vec<TopicFilter> {
        self.filters_of(id, |target| matches!(target, Target::State(_)))
    }

    /// A device's watchTopics.
    pub(super) fn watch_filters(&self, id: DeviceId) -> Vec<TopicFilter> {
        self.filters_of(id, |target| matches!(target, Target::Contact(_)))
    }

    fn filters_of(&self, id: DeviceId, fits: impl Fn(Target) -> bool) -> Vec<TopicFilter> {
        let own = self.index.values(self.devices[id].filters.clone());
        own.filter(|(_, target)| fits(*target))
            .filter_map(|(number, _)| self.index.filter(number))
            .collect()
    }

    /// Whether the watch connection brings messages on this topic.
    pub(super) fn is_heard(&self, topic: &TopicName) -> bool {
        let mut heard = false;
        self.index.for_each_match(topic, |target| heard |= !matches!(target, Target::State(_)));
        heard
    }

    /// Whether messages on this topic are recorded.
    pub(super) fn is_recorded(&self, topic: &TopicName) -> bool {
        let mut recorded = false;
        self.index.for_each_match(topic, |target| recorded |= matches!(target, Target::State(_)));
        recorded
    }
}

fn wanted(filter: TopicFilter, qos: QoS) -> Subscription {
    Subscription { filter, qos, replay: false }
}

/// The subscriptions that bring everything the wanted filters match, once.
fn plan(wanted: impl Iterator<Item = Subscription>) -> Plan {
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

/// The filters of one plan that another has not.
pub fn filters_beyond<'p>(
    plan: &'p [Subscription],
    other: &'p [Subscription],
) -> impl Iterator<Item = &'p TopicFilter> {
    plan.iter().map(|subscription| &subscription.filter).filter(|f| find(other, f).is_none())
}
