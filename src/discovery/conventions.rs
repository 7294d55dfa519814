//! Whose a topic is, by the conventions of firmwares and bridges.
//!
//! Each convention has a sign by which it is recognised among all topics, its devices' roots; a
//! topic below a root is that device's, in a role. Deliberately absent: what becomes of it.

mod esphome;
pub mod home_assistant;
mod homie;
mod shelly;
mod tasmota;
pub mod zigbee2mqtt;

use super::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How a device was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Convention {
    EspHome,
    Homie,
    Shelly,
    Tasmota,
    Zigbee2Mqtt,
    HomeAssistant,
    /// None of them: by what its topics have in common.
    Shape,
}

/// What a message on a topic means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The device shows that it is alive.
    Contact,
    /// Its birth message and its will.
    Availability,
    /// What it says after its start.
    Hello,
    /// Others tell it what to do.
    Order,
    /// What it is, published once.
    Description,
}

/// A topic and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub convention: Convention,
    /// Names the device within the convention.
    pub device: String,
    /// What a person would call it.
    pub name: String,
    pub role: Role,
}

/// The signs of each convention among the topics.
#[derive(Debug, Default)]
pub struct Roots {
    tasmota: BTreeSet<String>,
    zigbee: BTreeSet<String>,
    homie: BTreeSet<String>,
    esphome: BTreeSet<String>,
    shelly: BTreeSet<String>,
}

impl Roots {
    pub fn find(topics: &Topics) -> Self {
        let mut roots = Self::default();
        for (topic, _) in topics.iter() {
            let topic = topic.as_str();
            roots.tasmota.extend(tasmota::root(topic));
            roots.zigbee.extend(zigbee2mqtt::root(topic));
            roots.homie.extend(homie::root(topic, topics));
            roots.esphome.extend(esphome::root(topic, topics));
            roots.shelly.extend(shelly::root(topic));
        }
        roots
    }

    /// The device by whose way another one of its convention is heard: the bridge of a base topic.
    pub fn bridge(&self, claim: &Claim, topic: &str) -> Option<String> {
        let is_bridged = claim.convention == Convention::Zigbee2Mqtt;
        let (base, _) = below(topic, &self.zigbee).filter(|_| is_bridged)?;
        Some(zigbee2mqtt::bridge(base)).filter(|bridge| *bridge != claim.device)
    }

    /// Whose a topic is; `None` when no convention says so.
    pub fn claim(
        &self,
        topic: &str,
        described: &home_assistant::Described,
        roster: &zigbee2mqtt::Roster,
    ) -> Option<Claim> {
        if home_assistant::is_description(topic) {
            return Some(description(Convention::HomeAssistant));
        }
        if let Some((base, rest)) = below(topic, &self.zigbee) {
            return Some(zigbee2mqtt::claim(base, rest, roster));
        }
        if let Some(claim) = tasmota::claim(topic, &self.tasmota) {
            return Some(claim);
        }
        if let Some((root, rest)) = below(topic, &self.homie) {
            return Some(homie::claim(root, rest));
        }
        if let Some(claim) = shelly::claim(topic, below(topic, &self.shelly)) {
            return Some(claim);
        }
        if let Some(claim) = esphome::claim(topic, below(topic, &self.esphome)) {
            return Some(claim);
        }
        described.claim(topic)
    }
}

impl Convention {
    /// Filters that take all a device of this convention says, and nothing that is said to it.
    /// `contacts` are the topics on which it was heard.
    pub fn patterns(self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        match self {
            Self::EspHome => esphome::patterns(device),
            Self::Homie => homie::patterns(device),
            Self::Shelly => shelly::patterns(device, contacts),
            Self::Tasmota => tasmota::patterns(device),
            Self::Zigbee2Mqtt => zigbee2mqtt::patterns(device),
            Self::HomeAssistant | Self::Shape => Vec::new(),
        }
    }

    /// How long such a device may well be silent, and why, where nobody changed its settings.
    pub fn usual_silence(self) -> Option<(Duration, &'static str)> {
        match self {
            Self::Tasmota => Some(tasmota::USUAL_SILENCE),
            Self::Zigbee2Mqtt => Some(zigbee2mqtt::USUAL_SILENCE),
            Self::EspHome | Self::Homie | Self::Shelly | Self::HomeAssistant | Self::Shape => None,
        }
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EspHome => "ESPHome",
            Self::Homie => "Homie",
            Self::Shelly => "Shelly",
            Self::Tasmota => "Tasmota",
            Self::Zigbee2Mqtt => "Zigbee2MQTT",
            Self::HomeAssistant => "Home Assistant discovery",
            Self::Shape => "by the shape of its topics",
        })
    }
}

/// What only describes, and is no device's sign of life.
fn description(convention: Convention) -> Claim {
    Claim { convention, device: String::new(), name: String::new(), role: Role::Description }
}

/// The longest of the roots that a topic lies below, and the rest of the topic.
fn below<'a>(topic: &'a str, roots: &BTreeSet<String>) -> Option<(&'a str, &'a str)> {
    let mut ends = topic.rmatch_indices('/').map(|(at, _)| at);
    let end = ends.find(|&end| roots.contains(&topic[..end]))?;
    Some((&topic[..end], &topic[end + 1..]))
}

/// The last level.
fn last(topic: &str) -> &str {
    topic.rsplit('/').next().unwrap_or(topic)
}
