//! AWTRIX 3: below a prefix, `stats` with a JSON object every ten seconds and `stats/…`, among them
//! `stats/device` as birth message and will. All other topics, such as `notify`, `custom/APP` and
//! `switch`, are orders. (blueforcer.github.io/awtrix3/#/api)

use super::{Claim, Ecosystem, Facts, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;

pub struct Awtrix;

impl Ecosystem for Awtrix {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic.strip_suffix("/stats")?;
        let has = |level: &str| {
            let topic = format!("{root}/{level}");
            topics.contains(&topic) || topics.has_below(&topic)
        };
        let is_awtrix = last(root).starts_with("awtrix")
            || has("stats/device")
            || has("stats/currentApp")
            || has("notify")
            || has("custom");
        is_awtrix.then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let role = match rest {
            "stats/device" => TopicRole::Availability,
            "stats" => TopicRole::Telemetry,
            "stats/effects" | "stats/transitions" | "stats/loop" => TopicRole::Description,
            _ if rest.starts_with("stats/button") => TopicRole::Event,
            _ if rest.starts_with("stats/") => TopicRole::State,
            // An app or a notification is shown once.
            _ => TopicRole::Request,
        };
        Some(Claim::of(root, role))
    }

    fn filters(
        &self,
        device: &str,
        _contacts: &[&iotmonitor_core::topic::TopicName],
    ) -> Vec<String> {
        vec![format!("{device}/stats")]
    }

    fn reports(&self, _device: &str) -> Option<&'static str> {
        Some("AWTRIX reports every 10 s")
    }
}
