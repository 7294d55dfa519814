//! ESPHome: below a prefix, by default the node's name, `COMPONENT/ID/state` and `…/command`,
//! `status` as birth message and will, `debug` for the log. `esphome/discover/NAME` describes a
//! node. (esphome.io/components/mqtt)

use super::super::traffic::Topics;
use super::{Claim, Convention, Role, description, last};

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

pub fn root(topic: &str, topics: &Topics) -> Option<String> {
    let before = topic.strip_suffix("/state")?;
    let (before, _id) = before.rsplit_once('/')?;
    let (prefix, component) = before.rsplit_once('/')?;
    let is_confirmed = || {
        let beside = ["status", "debug"].map(|what| format!("{prefix}/{what}"));
        let described = format!("esphome/discover/{}", last(prefix));
        beside.iter().chain([&described]).any(|topic| topics.contains(topic))
    };
    (COMPONENTS.contains(&component) && is_confirmed()).then(|| prefix.to_owned())
}

pub fn claim(topic: &str, found: Option<(&str, &str)>) -> Option<Claim> {
    if topic.starts_with("esphome/discover/") {
        return Some(description(Convention::EspHome));
    }
    let (prefix, rest) = found?;
    let role = match rest {
        "status" => Role::Availability,
        order if last(order) == "command" => Role::Order,
        _ => Role::Contact,
    };
    let name = last(prefix).to_owned();
    Some(Claim { convention: Convention::EspHome, device: prefix.to_owned(), name, role })
}

pub fn patterns(device: &str) -> Vec<String> {
    vec![format!("{device}/+/+/state")]
}
