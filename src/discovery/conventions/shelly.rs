//! Shelly. The first generation has `shellies/ID/…`: a component and its number, such as `relay/0`,
//! readings below it, `…/command` and `…/set` for orders, `online` as birth message and will, and
//! `announce` after a start. Later ones have a prefix, by default their id: `events/rpc`,
//! `status/COMPONENT:NUMBER`, `online`, and `rpc` and `command` for orders. Sensors on battery
//! sleep and report themselves as gone each time. (shelly-api-docs.shelly.cloud)

use super::{Claim, Ecosystem, Facts, first, generalised, last};
use crate::discovery::content;
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;

const FIRST_GENERATION: &str = "shellies/";

/// Sensors on battery, by the beginning of their ids.
const SLEEPERS: [&str; 14] = [
    "shellyht",
    "shellydw",
    "shellyflood",
    "shellysmoke",
    "shellysense",
    "shellymotion",
    "shellybutton",
    "shellyplusht",
    "shellyplussmoke",
    "shellyhtg3",
    "shellyfloodg",
    "shellytrv",
    "shellygas_battery",
    "shellydwg",
];

pub struct Shelly;

impl Ecosystem for Shelly {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        if let Some(below) = topic.strip_prefix(FIRST_GENERATION) {
            let (id, _) = below.split_once('/')?;
            return Some(format!("{FIRST_GENERATION}{id}"));
        }
        if let Some(prefix) = topic.strip_suffix("/events/rpc") {
            return Some(prefix.to_owned());
        }
        let prefix = topic.strip_suffix("/online")?;
        last(prefix).starts_with("shelly").then(|| prefix.to_owned())
    }

    fn find<'t>(&self, topic: &'t str, roots: &BTreeSet<String>) -> Option<(String, &'t str)> {
        let (root, rest) = super::below(topic, roots)?;
        // An empty rest is an answer to a request.
        let (root, rest) = (root.to_owned(), rest);
        (!rest.is_empty()).then_some((root, rest))
    }

    fn claim(&self, root: &str, rest: &str, facts: Facts<'_>) -> Option<Claim> {
        let role =
            if root.starts_with(FIRST_GENERATION) { first_generation(rest) } else { later(rest) };
        let role = if role == TopicRole::Telemetry && !root.starts_with(FIRST_GENERATION) {
            later_content(root, rest, facts)
        } else {
            role
        };
        Some(Claim::of(root, role))
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        if device.starts_with(FIRST_GENERATION) {
            // `relay/0/command` is an order, which `#` would match as well.
            return generalised(device, contacts);
        }
        vec![format!("{device}/events/rpc"), format!("{device}/status/+")]
    }

    fn sleeps(&self, device: &str) -> bool {
        let id = last(device);
        SLEEPERS.iter().any(|sleeper| id.starts_with(sleeper))
    }
}

fn first_generation(rest: &str) -> TopicRole {
    match (rest, last(rest)) {
        ("online", _) => TopicRole::Availability,
        ("announce", _) => TopicRole::Hello,
        ("rpc", _) => TopicRole::Request,
        ("command", _) => TopicRole::Request,
        (_, "command" | "set") => TopicRole::Order,
        ("info" | "settings", _) => TopicRole::State,
        ("log", _) => TopicRole::Log,
        (_, what) if content::is_event(what) || content::is_event(first(rest)) => TopicRole::Event,
        (_, _) => TopicRole::Telemetry,
    }
}

fn later(rest: &str) -> TopicRole {
    match first(rest) {
        "online" => TopicRole::Availability,
        "rpc" => TopicRole::Request,
        "command" => TopicRole::Order,
        "debug" => TopicRole::Log,
        "announce" => TopicRole::Hello,
        _ => TopicRole::Telemetry,
    }
}

/// Later generations report switches when they change, and readings by themselves.
fn later_content(root: &str, rest: &str, facts: Facts<'_>) -> TopicRole {
    let content = facts.topics.get(&format!("{root}/{rest}")).map(|traffic| traffic.content);
    match content {
        Some(content) if content.measures => TopicRole::Telemetry,
        Some(content) if content.events => TopicRole::Event,
        Some(content) if content.states => TopicRole::State,
        _ => TopicRole::Telemetry,
    }
}
