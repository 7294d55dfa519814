//! Tasmota: `FullTopic` is `%prefix%/%topic%/` or another order of the two, with levels beside
//! them; the prefixes are `cmnd` for orders, `stat` for answers and `tele` for telemetry. One level
//! follows: `STATE` and `SENSOR` each TelePeriod, `LWT`, and `INFO1` to `INFO3` after a start.
//! `tasmota/discovery/MAC/config` describes a device. (tasmota.github.io/docs/MQTT)

use super::{Claim, Ecosystem, Facts, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;

const PREFIXES: [&str; 3] = ["tele", "stat", "cmnd"];

/// Levels that only Tasmota uses below `tele`.
const SIGNS: [&str; 7] = ["LWT", "STATE", "SENSOR", "INFO1", "INFO2", "INFO3", "UPTIME"];

/// Orders that restore a value when they are repeated. All others ask for something, or have
/// something done.
const SETTINGS: [&str; 20] = [
    "power",
    "dimmer",
    "color",
    "color2",
    "hsbcolor",
    "ct",
    "white",
    "channel",
    "fanspeed",
    "scheme",
    "speed",
    "fade",
    "shutterposition",
    "teleperiod",
    "timezone",
    "tempres",
    "pulsetime",
    "ledpower",
    "wakeup",
    "tempoffset",
];

pub struct Tasmota;

impl Ecosystem for Tasmota {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let (device, prefix, what) = split(topic)?;
        (prefix == "tele" && SIGNS.contains(&what)).then_some(device)
    }

    fn find<'t>(&self, topic: &'t str, roots: &BTreeSet<String>) -> Option<(String, &'t str)> {
        let (device, _, _) = split(topic)?;
        roots.contains(&device).then_some((device, topic))
    }

    /// Claims a topic. A device whose levels were put in another order is the same device.
    fn claim(&self, root: &str, topic: &str, _facts: Facts<'_>) -> Option<Claim> {
        let (_, prefix, what) = split(topic)?;
        let role = match (prefix, what) {
            ("cmnd", _) if is_setting(what) => TopicRole::Order,
            ("cmnd", _) => TopicRole::Request,
            ("tele", "LWT") => TopicRole::Availability,
            ("tele", "INFO1") => TopicRole::Hello,
            (_, "LOGGING") => TopicRole::Log,
            ("tele", _) => TopicRole::Telemetry,
            (_, _) => TopicRole::State,
        };
        Some(Claim::new(root, last(root), role))
    }

    fn filters(&self, _device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let layouts = contacts.iter().filter_map(|topic| layout(topic.as_str()));
        let layouts: BTreeSet<String> = layouts.collect();
        layouts
            .iter()
            .flat_map(|layout| ["tele", "stat"].map(|prefix| layout.replace(PREFIX, prefix) + "/+"))
            .collect()
    }

    fn reports(&self, _device: &str) -> Option<&'static str> {
        Some("Tasmota reports every 300 s (TelePeriod)")
    }
}

/// The placeholder for the prefix in a layout.
const PREFIX: &str = "%prefix%";

fn is_setting(command: &str) -> bool {
    let name = command.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    SETTINGS.contains(&name.as_str())
}

/// Returns the levels before the last with the placeholder for the prefix.
fn layout(topic: &str) -> Option<String> {
    let (before, _) = topic.rsplit_once('/')?;
    let at = before.split('/').position(|level| PREFIXES.contains(&level))?;
    let mut levels: Vec<&str> = before.split('/').collect();
    levels[at] = PREFIX;
    Some(levels.join("/"))
}

/// Returns the levels before the last without the prefix, the prefix, and the last level.
fn split(topic: &str) -> Option<(String, &str, &str)> {
    let (before, what) = topic.rsplit_once('/')?;
    let prefix = before.split('/').find(|level| PREFIXES.contains(level))?;
    let mut levels: Vec<&str> = before.split('/').collect();
    let at = levels.iter().position(|level| *level == prefix)?;
    levels.remove(at);
    (!levels.is_empty()).then(|| (levels.join("/"), prefix, what))
}
