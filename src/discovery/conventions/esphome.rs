//! ESPHome: below a prefix, by default the node's name, `COMPONENT/ID/state` and `…/command`,
//! `status` as birth message and will, and `debug` for the log. `esphome/discover/NAME` describes a
//! node. (esphome.io/components/mqtt)

use super::{Claim, Ecosystem, Facts, first, last};
use crate::discovery::content;
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

const COMPONENTS: [&str; 22] = [
    "alarm_control_panel",
    "binary_sensor",
    "button",
    "climate",
    "cover",
    "date",
    "datetime",
    "event",
    "fan",
    "light",
    "lock",
    "media_player",
    "number",
    "select",
    "sensor",
    "switch",
    "text",
    "text_sensor",
    "time",
    "update",
    "valve",
    "water_heater",
];

pub struct EspHome;

impl Ecosystem for EspHome {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let before = topic.strip_suffix("/state").or_else(|| topic.strip_suffix("/command"))?;
        let (before, _id) = before.rsplit_once('/')?;
        let (prefix, component) = before.rsplit_once('/')?;
        let is_confirmed = || {
            let beside = ["status", "debug"].map(|what| format!("{prefix}/{what}"));
            let described = format!("esphome/discover/{}", last(prefix));
            beside.iter().chain([&described]).any(|topic| topics.contains(topic))
        };
        (COMPONENTS.contains(&component) && is_confirmed()).then(|| prefix.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let id = rest.split('/').nth(1).unwrap_or_default();
        let role = match (first(rest), last(rest)) {
            ("status", _) if rest == "status" => TopicRole::Availability,
            ("debug" | "log" | "logger", _) => TopicRole::Log,
            ("button" | "cover" | "valve" | "lock" | "media_player" | "update", "command") => {
                TopicRole::Request
            }
            (_, "command") => TopicRole::Order,
            ("sensor", _) => TopicRole::Telemetry,
            ("binary_sensor", _) if content::is_event(id) => TopicRole::Event,
            ("event" | "button", _) => TopicRole::Event,
            ("binary_sensor" | "text_sensor", _) | (_, "state") => TopicRole::State,
            (_, _) => TopicRole::Telemetry,
        };
        Some(Claim::of(root, role))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        vec![format!("{device}/+/+/state")]
    }
}
