//! Derives a configuration that watches devices from the messages that they publish on a broker.
//!
//! [`Discovery`] is fed with [`Observation`]s and depends on nothing else. [`configuration`] writes
//! the result as a file that [`crate::config`] reads without a finding.
//!
//! | module | duty |
//! |---|---|
//! | [`traffic`], [`content`] | remember each topic's messages, within bounds |
//! | [`role`] | says what a message on a topic means |
//! | [`conventions`] | find a topic's device and role by a description or a convention |
//! | [`ownership`], [`shape`] | find them where there is neither |
//! | [`grouping`] | groups the topics into devices |
//! | [`filters`], [`timeout`], [`naming`] | propose `watchTopics`, `watchTimeOut` and the name |
//! | [`fleets`] | finds devices of one shape |
//! | [`configuration`] | writes the file |
//!
//! Memory is bounded whatever a broker carries: topics are limited in number and in bytes, and
//! payloads are read at once and not kept. The caller is responsible for the connection, the time
//! and the terminal.

pub mod configuration;
mod content;
mod conventions;
mod filters;
mod fleets;
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
use iotmonitor_core::model::sparkplug;
use iotmonitor_core::model::spec::MonitorSpec;
use iotmonitor_core::topic::index::TopicIndex;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::BTreeSet;
use std::time::Duration;
use traffic::Topics;

/// A message that the broker delivered.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    pub topic: &'a TopicName,
    pub payload: &'a [u8],
    /// Whether the broker replayed a retained message, which may be from last year.
    pub retained: bool,
    /// The time since the listening began.
    pub at: Duration,
}

/// Everything that was learned so far.
#[derive(Debug)]
pub struct Discovery {
    /// The filters of devices that are watched already, each with its device's index in `names`.
    watched: TopicIndex<u32>,
    names: Vec<String>,
    /// The topic below which the monitor itself publishes.
    own: TopicName,
    topics: Topics,
    described: home_assistant::Described,
    zigbee: zigbee2mqtt::Roster,
    messages: u64,
    heard_again: BTreeSet<u32>,
}

impl Discovery {
    /// Creates a discovery that leaves out devices that are watched already, and the monitor's own
    /// topics.
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
        for fleet in &existing.fleets {
            let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
            names.push(format!("[fleet_{}]", fleet.name));
            for filter in fleet.all_filters() {
                watched.insert(&filter, number);
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

    /// Reads a payload that may announce topics. Nothing may be published on these for hours.
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

    /// Returns what was found in `listened`, with the devices in the order of their topics.
    #[must_use]
    pub fn found(&self, listened: Duration) -> Discovered {
        let taken = self.names.iter().cloned().collect();
        let facts = Facts { topics: &self.topics, roster: &self.zigbee };
        grouping::found(facts, &self.described, listened, taken)
    }

    /// Returns the number of messages so far, including those that were left out.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns the number of topics that are remembered.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Returns the number of messages on topics for which there was no room.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.topics.passed_over()
    }

    /// Returns the names of devices that are watched already and were heard.
    #[must_use]
    pub fn heard_again(&self) -> Vec<&str> {
        self.heard_again
            .iter()
            .filter_map(|&number| self.names.get(number as usize))
            .map(String::as_str)
            .collect()
    }
}
