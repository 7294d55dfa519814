//! Z-Wave JS UI: below a prefix, `_CLIENTS/ZWAVE_GATEWAY-NAME/…` for the gateway, and
//! `[LOCATION/]NODE/CLASS/ENDPOINT/PROPERTY` for values, `…/set` for orders, `NODE/status` and
//! `NODE/lastActive`. (zwave-js.github.io/zwave-js-ui/#/guide/mqtt)

use super::{Claim, Ecosystem, Facts, is_number, last};
use crate::discovery::content;
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

const CLIENTS: &str = "/_CLIENTS/";

/// Levels that follow a node's name, apart from numbers of command classes.
const FOLLOWERS: [&str; 4] = ["status", "lastActive", "nodeinfo", "statistics"];

/// Beginnings of the names of command classes.
const CLASSES: [&str; 22] = [
    "sensor_",
    "switch_",
    "meter",
    "configuration",
    "battery",
    "notification",
    "thermostat_",
    "door_lock",
    "central_scene",
    "scene_",
    "basic",
    "binary_",
    "multilevel_",
    "barrier_",
    "color_switch",
    "sound_switch",
    "indicator",
    "wake_up",
    "version",
    "manufacturer_",
    "protection",
    "alarm",
];

pub struct ZwaveJsUi;

impl Ecosystem for ZwaveJsUi {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let (root, client) = topic.split_once(CLIENTS)?;
        client.starts_with("ZWAVE_GATEWAY-").then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let gateway = format!("{root}/_CLIENTS");
        if let Some(below) = rest.strip_prefix("_CLIENTS/") {
            let role = match last(below) {
                "status" => TopicRole::Availability,
                "set" => TopicRole::Request,
                _ => TopicRole::Description,
            };
            return Some(Claim::new(gateway, last(root), role));
        }
        if rest.starts_with('_') {
            return Some(Claim::of_no_device());
        }
        let levels: Vec<&str> = rest.split('/').collect();
        let end = (1..levels.len()).find(|&at| {
            let (level, is_last) = (levels[at], at + 1 == levels.len());
            if is_last {
                FOLLOWERS.contains(&level)
            } else {
                is_number(level) || CLASSES.iter().any(|class| level.starts_with(class))
            }
        })?;
        let (node, value) = levels.split_at(end);
        let role = match value {
            ["status"] => TopicRole::Availability,
            ["lastActive" | "statistics"] => TopicRole::Telemetry,
            ["nodeinfo"] => TopicRole::Description,
            [.., "set"] => TopicRole::Order,
            [
                "43" | "91" | "113" | "48" | "central_scene" | "notification" | "scene_activation"
                | "sensor_binary",
                ..,
            ] => TopicRole::Event,
            [
                "37" | "38" | "98" | "112" | "switch_binary" | "switch_multilevel"
                | "configuration" | "door_lock",
                ..,
            ] => TopicRole::State,
            [.., what] if content::is_event(what) => TopicRole::Event,
            _ => TopicRole::Telemetry,
        };
        let device = format!("{root}/{}", node.join("/"));
        Some(Claim::of(&device, role).behind(gateway))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        if device.ends_with("/_CLIENTS") {
            return Vec::new();
        }
        vec![format!("{device}/lastActive")]
    }
}
