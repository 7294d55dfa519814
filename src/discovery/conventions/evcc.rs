//! evcc: `status` as birth message and will, `updated` with each round of its control loop,
//! `site/…`, `loadpoints/N/…`, `vehicles/…`, and `…/set` for orders.
//! (docs.evcc.io/docs/integrations/mqtt-api)

use super::{Claim, Ecosystem, Facts, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct Evcc;

impl Ecosystem for Evcc {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let (root, _) = topic.split_once("/loadpoints/")?;
        let has_site = || topics.has_below(&format!("{root}/site"));
        (last(root) == "evcc" || has_site()).then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let role = match (rest, last(rest)) {
            ("status", _) => TopicRole::Availability,
            (_, "set") => TopicRole::Order,
            (_, _) => TopicRole::Telemetry,
        };
        Some(Claim::of(root, role))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        // Topics such as `site/bufferSoc/set` have one more level.
        vec![
            format!("{device}/updated"),
            format!("{device}/site/+"),
            format!("{device}/loadpoints/+/+"),
        ]
    }

    fn reports(&self, _device: &str) -> Option<&'static str> {
        Some("evcc reports with each round of its control loop")
    }
}
