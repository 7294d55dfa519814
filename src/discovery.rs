//! From the messages that pass on a broker to a configuration that watches their senders.
//!
//! [`Discovery`] is fed with [`Observation`]s and is a function of them alone; [`configuration`]
//! writes what it found as a file that [`crate::config`] reads without a finding.
//!
//! | module | duty |
//! |---|---|
//! | [`traffic`], [`content`] | what is remembered of each topic, within bounds |
//! | [`role`] | what a message on a topic means |
//! | [`conventions`] | whose a topic is and its role, where a description or a convention tells |
//! | [`ownership`], [`shape`] | … and where none does |
//! | [`grouping`] | topics become devices |
//! | [`filters`], [`timeout`], [`naming`] | a device's `watchTopics`, its `watchTimeOut`, its name |
//! | [`configuration`] | the file |
//!
//! Memory is bounded whatever a broker carries: topics by their number and their bytes, payloads by
//! being read at once. The connection, time and the terminal are the caller's.

pub mod configuration;
mod content;
mod conventions;
mod filters;
mod grouping;
mod naming;
mod ownership;
mod role;
mod selection;
mod shape;
mod timeout;
mod traffic;

pub use conventions::Convention;
pub use grouping::{DeviceStanding, Discovered, FoundDevice, Seen, UnusedAvailability};
pub use selection::DevicePattern;
pub use timeout::{HeardRhythm, Timeout};

use conventions::{Facts, home_assistant, zigbee2mqtt};
use iotmonitor_core::machines::availability::sparkplug;
use iotmonitor_core::model::spec::MonitorSpec;
use iotmonitor_core::topic::index::TopicIndex;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::BTreeSet;
use std::time::Duration;
use traffic::Topics;

/// A message as it passed.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    pub topic: &'a TopicName,
    pub payload: &'a [u8],
    /// Whether the broker replayed it: it may be from last year.
    pub retained: bool,
    /// Since the listening began.
    pub at: Duration,
}

/// What was learned so far.
#[derive(Debug)]
pub struct Discovery {
    /// Filters of devices that are watched already, each with its device's place in `names`.
    watched: TopicIndex<u32>,
    names: Vec<String>,
    /// Below it the monitor publishes.
    own: TopicName,
    topics: Topics,
    described: home_assistant::Described,
    zigbee: zigbee2mqtt::Roster,
    messages: u64,
    heard_again: BTreeSet<u32>,
}

impl Discovery {
    /// One that leaves out what is watched already and what the monitor publishes itself.
    #[must_use]
    pub fn new(existing: &MonitorSpec) -> Self {
        let mut watched = TopicIndex::new();
        let mut names = Vec::new();
        for device in &existing.devices {
            let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
            names.push(device.name.as_str().to_owned());
            let availability = device.availability.iter().flat_map(sparkplug::topics_beside);
            let availability: Vec<TopicFilter> =
                availability.filter_map(|topic| topic.as_filter()).collect();
            let filters = device.watch.iter().chain(&device.state).chain(&device.hello);
            for filter in filters.chain(&availability) {
                watched.insert(filter, number);
            }
        }
        Self {
            watched,
            names,
            own: existing.base_topic.clone(),
            topics: Topics::default(),
            described: home_assistant::Described::default(),
            zigbee: zigbee2mqtt::Roster::default(),
            messages: 0,
            heard_again: BTreeSet::new(),
        }
    }

    /// Takes one message in.
    pub fn observe(&mut self, observation: &Observation<'_>) {
        self.messages += 1;
        let topic = observation.topic;
        if topic.is_below(&self.own) {
            return;
        }
        if self.topics.note(observation) {
            self.read_payload(observation);
            return;
        }
        let mut owner = None;
        self.watched.for_each_match(topic, |number| owner = owner.or(Some(number)));
        if let Some(number) = owner {
            self.heard_again.insert(number);
        } else if self.topics.enter(observation) {
            self.read_payload(observation);
        }
    }

    /// Announcements name topics on which nothing may pass for hours.
    fn read_payload(&mut self, observation: &Observation<'_>) {
        let (topic, payload) = (observation.topic.as_str(), observation.payload);
        let mut announced = self.described.read(topic, payload);
        announced.extend(self.zigbee.read(topic, payload));
        for topic in announced {
            let Ok(topic) = TopicName::new(topic) else { continue };
            let mut is_watched = false;
            self.watched.for_each_match(&topic, |_| is_watched = true);
            if !is_watched && !topic.is_below(&self.own) {
                self.topics.announce(&topic);
            }
        }
    }

    /// What was found in `listened`, the devices in the order of their topics.
    #[must_use]
    pub fn found(&self, listened: Duration) -> Discovered {
        let taken = self.names.iter().cloned().collect();
        let facts = Facts { topics: &self.topics, roster: &self.zigbee };
        grouping::found(facts, &self.described, listened, taken)
    }

    /// Messages so far, also those that were left out.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Topics that are remembered.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Messages on topics for which there was no room.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.topics.passed_over()
    }

    /// Devices that are watched already, and were heard.
    #[must_use]
    pub fn heard_again(&self) -> Vec<&str> {
        self.heard_again
            .iter()
            .filter_map(|&number| self.names.get(number as usize))
            .map(String::as_str)
            .collect()
    }
}
