//! Zigbee2MQTT: below a base topic, each device publishes JSON under its friendly name, which may
//! contain slashes, and `…/availability` where that is switched on; `…/set` and `…/get` are orders.
//! The bridge itself has `bridge/state`, `bridge/health`, `bridge/devices` and more. Groups have
//! names like devices. (zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages)

use super::{Claim, Ecosystem, Facts, UsualSilence, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::{Topics, Traffic};
use iotmonitor_core::topic::TopicName;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The topics by which a bridge is recognised.
const SIGNS: [&str; 3] = ["/bridge/state", "/bridge/info", "/bridge/devices"];

/// The time for which Zigbee2MQTT itself waits for a device on battery before it calls it offline.
const ON_BATTERY: UsualSilence = UsualSilence::Lasts(
    Duration::from_secs(25 * 3_600),
    "Zigbee2MQTT itself waits so long for a device on battery",
);

/// The maximum number of names that are remembered.
const MOST_NAMES: usize = 10_000;

/// The length in bytes above which a list of devices is not read.
const LONGEST_LIST: usize = 16 << 20;

/// The devices and groups of each bridge, by its base topic, as it lists them.
#[derive(Debug, Default)]
pub struct Roster {
    names: BTreeMap<String, BTreeMap<String, Listed>>,
    count: usize,
}

/// The entry of a name in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed {
    is_group: bool,
    is_on_battery: bool,
}

#[derive(Deserialize)]
struct Entry {
    friendly_name: String,
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    power_source: Value,
}

impl Roster {
    /// Reads a list, and returns the topics of the devices in it.
    pub fn read(&mut self, topic: &str, payload: &[u8]) -> Vec<String> {
        let devices = topic.strip_suffix("/bridge/devices");
        let Some(base) = devices.or_else(|| topic.strip_suffix("/bridge/groups")) else {
            return Vec::new();
        };
        if payload.len() > LONGEST_LIST {
            return Vec::new();
        }
        let entries: Vec<Entry> = serde_json::from_slice(payload).unwrap_or_default();
        let is_group = devices.is_none();
        let names = self.names.entry(base.to_owned()).or_default();
        let mut topics = Vec::new();
        for Entry { friendly_name, kind, power_source } in entries {
            if kind.as_str() == Some("Coordinator") || friendly_name.is_empty() {
                continue;
            }
            let topic = format!("{base}/{friendly_name}");
            let is_on_battery = power_source.as_str() == Some("Battery");
            if self.count < MOST_NAMES
                && names.insert(friendly_name, Listed { is_group, is_on_battery }).is_none()
            {
                self.count += 1;
                if !is_group {
                    topics.push(topic);
                }
            }
        }
        topics
    }

    /// Returns the longest name with which a topic below the base begins.
    fn name<'a>(&self, base: &str, rest: &'a str) -> Option<(&'a str, Listed)> {
        let names = self.names.get(base)?;
        let ends = rest.rmatch_indices('/').map(|(at, _)| at);
        std::iter::once(rest.len())
            .chain(ends)
            .map(|end| &rest[..end])
            .find_map(|name| Some((name, *names.get(name)?)))
    }

    fn lists_devices(&self, base: &str) -> bool {
        self.names.get(base).is_some_and(|names| names.values().any(|listed| !listed.is_group))
    }

    fn is_on_battery(&self, device: &str) -> bool {
        let mut ends = device.match_indices('/').map(|(at, _)| at);
        ends.any(|end| {
            let names = self.names.get(&device[..end]);
            names.and_then(|names| names.get(&device[end + 1..])).is_some_and(|it| it.is_on_battery)
        })
    }
}

pub struct Zigbee2Mqtt;

impl Ecosystem for Zigbee2Mqtt {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        SIGNS.iter().find_map(|sign| topic.strip_suffix(sign)).map(str::to_owned)
    }

    fn claim(&self, base: &str, rest: &str, facts: Facts<'_>) -> Option<Claim> {
        let bridge = format!("{base}/bridge");
        if rest == "bridge" || rest.starts_with("bridge/") {
            let role = match &rest["bridge".len()..] {
                "/state" => TopicRole::Availability,
                "/health" => TopicRole::Telemetry,
                "/logging" | "/log" => TopicRole::Log,
                order if order.starts_with("/request/") => TopicRole::Request,
                _ => TopicRole::Description,
            };
            return Some(Claim::new(bridge, last(base), role));
        }
        let listed = facts.roster.name(base, rest);
        // This is a group, or a name that a complete list has neither as a device nor as a group.
        if listed.map_or(facts.roster.lists_devices(base), |(_, listed)| listed.is_group) {
            return Some(Claim::of_no_device());
        }
        let name = listed.map_or_else(|| unlisted(rest), |(name, _)| name);
        let device = format!("{base}/{name}");
        let after = rest[name.len()..].trim_start_matches('/');
        let role = match after.split('/').next().unwrap_or_default() {
            "availability" => TopicRole::Availability,
            "set" => TopicRole::Order,
            "get" => TopicRole::Request,
            "" => said(facts.topics.get(&device)),
            what if crate::discovery::content::is_event(what) => TopicRole::Event,
            _ => TopicRole::State,
        };
        Some(Claim::new(device, name, role).behind(bridge))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        // A bridge from version 2.2 on reports its health at an interval; earlier ones only have a
        // will.
        if device.ends_with("/bridge") { Vec::new() } else { vec![device.to_owned()] }
    }

    fn silence(&self, device: &str, facts: Facts<'_>) -> Option<UsualSilence> {
        let measures = facts.topics.get(device).is_some_and(|traffic| traffic.content.measures);
        (measures && facts.roster.is_on_battery(device)).then_some(ON_BATTERY)
    }
}

/// Returns the role of a device's JSON.
fn said(traffic: Option<&Traffic>) -> TopicRole {
    let content = traffic.map(|traffic| traffic.content).unwrap_or_default();
    if content.measures {
        TopicRole::Telemetry
    } else if content.events {
        TopicRole::Event
    } else if content.states {
        TopicRole::State
    } else {
        TopicRole::Telemetry
    }
}

/// Returns the name of a device that no list contains: everything before a level that only follows
/// names.
fn unlisted(rest: &str) -> &str {
    let followers = ["/availability", "/set", "/get"];
    let ends = followers.iter().filter_map(|follower| {
        let (name, after) = rest.split_once(follower)?;
        (after.is_empty() || after.starts_with('/')).then_some(name.len())
    });
    &rest[..ends.min().filter(|end| *end > 0).unwrap_or(rest.len())]
}
