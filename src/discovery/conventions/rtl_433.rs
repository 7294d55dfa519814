//! rtl_433: `rtl_433/HOST/events` with each telegram as JSON,
//! `rtl_433/HOST/devices/MODEL/…/ID/VALUE` for each value of a telegram, `states`, and
//! `availability` as birth message and will. Tyres of passing cars are received as well.
//! (triq.org/rtl_433/INTEGRATION)

use super::{Claim, Ecosystem, Facts, is_number};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

/// Values that only the pressure of a tyre has.
const TYRES: [&str; 4] = ["pressure_kPa", "pressure_PSI", "pressure_bar", "tpms"];

/// Levels after a model that belong to the device's identity.
const IDENTITY: [&str; 3] = ["protocol", "channel", "subtype"];

pub struct Rtl433;

impl Ecosystem for Rtl433 {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic
            .split_once("/devices/")
            .map(|(root, _)| root)
            .or_else(|| ["/events", "/states"].iter().find_map(|sign| topic.strip_suffix(sign)))?;
        let is_named = root.split('/').any(|level| level == "rtl_433");
        let has = |what: &str| topics.contains(&format!("{root}/{what}"));
        (is_named || (topic.contains("/devices/") && has("events") && has("states")))
            .then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, facts: Facts<'_>) -> Option<Claim> {
        let receiver = root.replace('/', "-");
        let Some(below) = rest.strip_prefix("devices/") else {
            return Some(match rest {
                "availability" => Claim::new(root, receiver, TopicRole::Availability),
                "events" | "states" => Claim::new(root, receiver, TopicRole::Telemetry),
                _ => Claim::of_no_device(),
            });
        };
        let levels: Vec<&str> = below.split('/').collect();
        // A key is the model with the numbers and short words before the value's name.
        let mut end = 1;
        while levels.len() > end + 1 && is_identity(levels[end]) {
            end += 1;
        }
        let identity = levels.get(..end)?.join("/");
        let device = format!("{root}/devices/{identity}");
        let is_tyre = TYRES.iter().any(|value| facts.topics.contains(&format!("{device}/{value}")))
            || facts
                .topics
                .get(&format!("{device}/type"))
                .is_some_and(|kind| kind.word() == "TPMS");
        let claim =
            Claim::new(device, identity.replace('/', "-"), TopicRole::Telemetry).behind(root);
        Some(Claim { is_passing: is_tyre, ..claim })
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let is_device =
            contacts.iter().any(|topic| topic.as_str().starts_with(&format!("{device}/")))
                && device.contains("/devices/");
        vec![if is_device { format!("{device}/+") } else { format!("{device}/events") }]
    }
}

fn is_identity(level: &str) -> bool {
    is_number(level)
        || IDENTITY.contains(&level)
        || level.len() <= 2
        || level.len() >= 4 && level.bytes().all(|byte| byte.is_ascii_hexdigit())
}
