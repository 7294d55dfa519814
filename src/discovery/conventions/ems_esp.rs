//! EMS-ESP: `heartbeat` every minute, `status` as birth message and will, and `THING_data` for each
//! thing on the bus. `thermostat`, `boiler`, `system` and other names of things are orders.
//! (emsesp.org/Commands)

use super::{Claim, Ecosystem, Facts, first, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

const THINGS: [&str; 4] = ["boiler_data", "thermostat_data", "mixer_data", "solar_data"];

pub struct EmsEsp;

impl Ecosystem for EmsEsp {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let (root, what) = topic.rsplit_once('/')?;
        let is_named = last(root).starts_with("ems-esp") && what == "status";
        let has_thing = || {
            THINGS.iter().any(|thing| {
                let topic = format!("{root}/{thing}");
                topics.contains(&topic) || topics.has_below(&topic)
            })
        };
        (is_named || (what == "heartbeat" && has_thing())).then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let (what, thing) =
            (first(rest), format!("{root}/{}", first(rest).trim_end_matches("_data")));
        Some(match rest {
            "status" => Claim::of(root, TopicRole::Availability),
            "heartbeat" => Claim::of(root, TopicRole::Telemetry),
            "info" | "response" | "restart" => Claim::of_no_device(),
            _ if what.ends_with("_data") => Claim::of(&thing, TopicRole::Telemetry).behind(root),
            _ if what == "system" || what == "command" => Claim::of(root, TopicRole::Request),
            _ => Claim::of(&thing, TopicRole::Request).behind(root),
        })
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let heartbeat = format!("{device}/heartbeat");
        let is_gateway = contacts.iter().any(|topic| topic.as_str() == heartbeat);
        if is_gateway { vec![heartbeat] } else { Vec::new() }
    }

    fn reports(&self, device: &str) -> Option<&'static str> {
        (last(device).starts_with("ems-esp")).then_some("EMS-ESP reports every 60 s")
    }
}
