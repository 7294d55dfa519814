//! Valetudo: Homie's attributes below `valetudo/ROBOT`, `$state` among them, capabilities and
//! attributes with `…/set` for orders, and `hass/…` for Home Assistant, where `command`,
//! `set_fan_speed` and the like are orders. (valetudo.cloud/pages/integrations/mqtt.html)

use super::{Claim, Ecosystem, Facts, homie, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct Valetudo;

impl Ecosystem for Valetudo {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let device = topic.strip_suffix("/$state").or_else(|| topic.strip_suffix("/$homie"))?;
        let is_named = device.split('/').rev().nth(1) == Some("valetudo");
        let has = |level: &str| topics.has_below(&format!("{device}/{level}"));
        (is_named || has("BatteryStateAttribute") || has("MapData")).then(|| device.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let what = last(rest);
        let role = match homie::role(rest) {
            _ if what == "command" || what == "go" || what == "start" => TopicRole::Request,
            TopicRole::Telemetry if what.starts_with("set") => TopicRole::Request,
            // Setting a robot's operation sends it off.
            TopicRole::Order => TopicRole::Request,
            _ if rest.starts_with("MapData/") => TopicRole::State,
            role => role,
        };
        Some(Claim::of(root, role))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        vec![format!("{device}/+/+")]
    }
}
