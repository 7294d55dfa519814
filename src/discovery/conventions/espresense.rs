//! ESPresense: `espresense/rooms/ROOM/telemetry` every fifteen seconds, `…/status` as birth message
//! and will, and settings beside them with `…/set`. `espresense/devices/ID/ROOM` says where a phone
//! or a tag is, which comes and goes. (espresense.com/configuration/mqtt)

use super::{Claim, Ecosystem, Facts, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct EspResense;

impl Ecosystem for EspResense {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let (root, _) = topic.split_once("/rooms/")?;
        let (devices, _) = topic.rsplit_once('/')?;
        let is_sign = root == "espresense" || root.ends_with("/espresense");
        (is_sign && !devices.is_empty()).then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let Some(below) = rest.strip_prefix("rooms/") else { return Some(Claim::of_no_device()) };
        let (room, what) = below.split_once('/').unwrap_or((below, ""));
        let role = match (what, last(what)) {
            ("status", _) => TopicRole::Availability,
            ("telemetry", _) => TopicRole::Telemetry,
            ("motion", _) => TopicRole::Event,
            ("restart", _) => TopicRole::Request,
            (_, "set") => TopicRole::Order,
            // These are its settings, which it repeats when others change them.
            (_, _) => TopicRole::Description,
        };
        Some(Claim::of(&format!("{root}/rooms/{room}"), role))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        vec![format!("{device}/telemetry")]
    }

    fn reports(&self, _device: &str) -> Option<&'static str> {
        Some("ESPresense reports every 15 s")
    }
}
