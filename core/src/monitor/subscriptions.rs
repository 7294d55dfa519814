//! Determines which filters are requested from the broker.
//!
//! A plan follows from the configuration alone, so it is computed when needed rather than kept: for
//! a fleet it is large.

use crate::machines::covering::cover;
use crate::model::device_id::DeviceId;
use crate::model::fleet::PLACEHOLDER;
use crate::model::message::{QoS, Subscription};
use crate::model::plan::{Plan, plan, wanted};
use crate::model::sparkplug::topics_beside;
use crate::model::spec::{DeviceSpec, FleetSpec};
use crate::monitor::{Monitor, Target};
use crate::topic::{TopicFilter, TopicName};
use std::ops::Range;

/// The plans of both connections.
pub struct Plans {
    pub watch: Plan,
    pub state: Plan,
}

impl Monitor {
    /// The request of a configuration that is about to be replaced.
    pub(super) fn plans(&self) -> Plans {
        Plans { watch: self.watch_plan().0, state: self.state_plan() }
    }

    /// The filters of watchTopics at QoS 0, hello and availability topics at QoS 1. A hello topic
    /// that another filter covers raises that one to QoS 1, because two overlapping subscriptions
    /// would bring each hello twice. An availability topic is subscribed separately, because its
    /// retained message is needed too; a duplicate is harmless.
    pub(super) fn single_watch_plan(&self) -> Plan {
        let command = self.command_filter().map(|filter| wanted(filter, QoS::AtLeastOnce));
        let devices = self.filters(|filter, target| match target {
            Target::Contact(id) | Target::Availability(id, _) if self.is_unheard(id) => None,
            Target::Contact(_) => Some(wanted(filter, QoS::AtMostOnce)),
            Target::Hello(_) => Some(wanted(filter, QoS::AtLeastOnce)),
            Target::Availability(..) => {
                Some(Subscription { replay: true, ..wanted(filter, QoS::AtLeastOnce) })
            }
            Target::State(_) | Target::Nobody => None,
        });
        let fleets = self.fleets.specs().flat_map(watch_subscriptions);
        let own = self.own_word_filters().into_iter().map(|filter| match self.nodes {
            None => wanted(filter, QoS::AtMostOnce),
            Some(_) => Subscription { replay: true, ..wanted(filter, QoS::AtLeastOnce) },
        });
        plan(devices.chain(fleets).chain(command).chain(own))
    }

    /// The filters of stateTopics, and that of the markers.
    pub(super) fn state_plan(&self) -> Plan {
        let markers = format!("{}/marker/{}/+", self.base_topic, self.connection_id);
        let markers = TopicFilter::new(markers).ok().map(|filter| wanted(filter, QoS::AtLeastOnce));
        let devices = self.filters(|filter, target| match target {
            Target::State(_) => Some(wanted(filter, QoS::AtLeastOnce)),
            Target::Contact(_) | Target::Hello(_) | Target::Availability(..) | Target::Nobody => {
                None
            }
        });
        let fleets = self.fleets.specs().flat_map(|spec| spec.template.state.iter().map(of_any));
        let fleets = fleets.map(|filter| wanted(filter, QoS::AtLeastOnce));
        plan(devices.chain(fleets).chain(markers))
    }

    /// The filters of the configuration's devices; those of learned ones are subscribed to with their
    /// fleet, unless a section of their own may contain others.
    fn filters(
        &self,
        subscription: impl Fn(TopicFilter, Target) -> Option<Subscription>,
    ) -> impl Iterator<Item = Subscription> {
        let all = self.index.values(0..self.index.len());
        all.filter(|(_, target)| !self.is_of_learned(*target))
            .filter_map(move |(number, target)| subscription(self.index.filter(number)?, target))
    }

    /// Whether the target is a learned device all of whose filters contain its name: one without a
    /// section of its own.
    pub(super) fn is_of_learned(&self, target: Target) -> bool {
        target.device().is_some_and(|id| {
            let spec = &self.devices[id].spec;
            spec.fleet.is_some() && !self.fleets.has_section(&spec.name)
        })
    }

    /// Files the filters of a device in the index; returns their numbers.
    pub(super) fn file_filters(&mut self, id: DeviceId, spec: &DeviceSpec) -> Range<u32> {
        let first = self.index.len();
        for filter in &spec.watch {
            self.index.insert(filter, Target::Contact(id));
        }
        if let Some(filter) = &spec.hello {
            self.index.insert(filter, Target::Hello(id));
        }
        for filter in &spec.state {
            self.index.insert(filter, Target::State(id));
        }
        // A configuration with more topics than there are numbers has been refused.
        for (source, topic) in (0..u8::MAX).zip(&spec.availability) {
            for filter in availability_filters(topic) {
                self.index.insert(&filter, Target::Availability(id, source));
            }
        }
        first..self.index.len()
    }

    /// All filters of a device, each once.
    pub(super) fn topic_filters(&self, id: DeviceId) -> Vec<TopicFilter> {
        let mut filters = self.filters_of(id, |_| true);
        filters.sort_unstable();
        filters.dedup();
        filters
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
        self.index.for_each_match(topic, |target| {
            heard |= !matches!(target, Target::State(_) | Target::Nobody);
        });
        heard
    }

    /// Whether messages on this topic are recorded.
    pub(super) fn is_recorded(&self, topic: &TopicName) -> bool {
        let mut recorded = false;
        self.index.for_each_match(topic, |target| recorded |= matches!(target, Target::State(_)));
        recorded
    }

    /// The filter of the commands, when they are allowed.
    pub(super) fn command_filter(&self) -> Option<TopicFilter> {
        if !self.home_assistant.commands {
            return None;
        }
        TopicFilter::new(format!("{}/command/+", self.base_topic)).ok()
    }

    /// A monitor's own publications, by which another one below the same base topic is detected, or
    /// those by which the nodes of a cluster know of each other.
    pub(super) fn own_word_filters(&self) -> Vec<TopicFilter> {
        let topics = match &self.sharing {
            None => ["up", "availability"].map(str::to_owned).to_vec(),
            Some(sharing) => {
                let states = format!("nodes/{}/sync/+", sharing.node());
                vec!["status/+".to_owned(), "nodes/+".to_owned(), states]
            }
        };
        let filters = topics.into_iter().map(|below| format!("{}/{below}", self.base_topic));
        filters.flat_map(TopicFilter::new).collect()
    }

    pub(super) fn records_states(&self, id: DeviceId) -> bool {
        self.devices[id].spec.records_states
    }

    /// The filters to request on the watch connection, and whether there are wildcards among them.
    pub(super) fn watch_plan(&self) -> (Plan, bool) {
        if self.covering.is_wanted() {
            self.covered_watch_plan()
        } else {
            (self.single_watch_plan(), false)
        }
    }

    /// The filters that bring the messages of the watch connection as long as nothing was refused.
    pub(super) fn watch_plan_in_force(&self) -> Plan {
        if self.covering.is_in_force() {
            self.covered_watch_plan().0
        } else {
            self.single_watch_plan()
        }
    }

    pub(super) fn covered_watch_plan(&self) -> (Plan, bool) {
        let single = self.single_watch_plan();
        let count = single.len();
        let covered = cover(single, self.max_subscriptions, &self.own_filters());
        let has_wildcards = covered.len() < count;
        (covered, has_wildcards)
    }
}

/// The filters for one availability topic. A topic name without wildcards is a filter that matches
/// itself.
fn availability_filters(topic: &TopicName) -> impl Iterator<Item = TopicFilter> {
    topics_beside(topic).into_iter().filter_map(|topic| topic.as_filter())
}

/// The subscriptions that bring the messages of all members, present and future.
fn watch_subscriptions(fleet: &FleetSpec) -> Vec<Subscription> {
    let template = &fleet.template;
    let watch = template.watch.iter().map(|filter| wanted(of_any(filter), QoS::AtMostOnce));
    let hello = template.hello.iter().map(|filter| wanted(of_any(filter), QoS::AtLeastOnce));
    watch.chain(hello).chain(availability_subscriptions(template)).collect()
}

/// Those that bring their reports about themselves, together with what the broker retains of them.
pub(super) fn availability_subscriptions(
    member: &DeviceSpec,
) -> impl Iterator<Item = Subscription> {
    let filters = member.availability.iter().flat_map(availability_filters);
    filters.map(|filter| Subscription { replay: true, ..wanted(of_any(&filter), QoS::AtLeastOnce) })
}

/// A filter of a template, with `+` in place of the name.
fn of_any(filter: &TopicFilter) -> TopicFilter {
    let levels = filter.as_str().split('/');
    let levels: Vec<_> =
        levels.map(|level| if level == PLACEHOLDER { "+" } else { level }).collect();
    // A level more or less does not change whether it is a filter, and a shorter one cannot fail.
    TopicFilter::new(levels.join("/")).unwrap_or_else(|_| filter.clone())
}
