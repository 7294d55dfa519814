//! Frigate: `available` as birth message and will, `stats` every minute, `events`, `reviews`, and
//! `CAMERA/…` with what was seen there; `…/set` is an order. Later versions report for each camera
//! whether its stream is `online`. (docs.frigate.video/integrations/mqtt)

use super::{Claim, Ecosystem, Facts, first, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct Frigate;

impl Ecosystem for Frigate {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic.strip_suffix("/available")?;
        let has = |what: &str| topics.contains(&format!("{root}/{what}"));
        (last(root).starts_with("frigate") || (has("stats") && (has("events") || has("reviews"))))
            .then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let camera = format!("{root}/{}", first(rest));
        Some(match (rest, last(rest)) {
            ("available", _) => Claim::of(root, TopicRole::Availability),
            ("stats", _) => Claim::of(root, TopicRole::Telemetry),
            ("restart", _) => Claim::of(root, TopicRole::Request),
            (_, "set") => Claim::of(root, TopicRole::Order),
            (_, "suspend") => Claim::of(root, TopicRole::Request),
            _ if rest.ends_with("/status/detect") => {
                Claim::of(&camera, TopicRole::Availability).behind(root)
            }
            // Frigate publishes for its cameras, even for one that is gone.
            _ => Claim::of_no_device(),
        })
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let stats = format!("{device}/stats");
        if contacts.iter().any(|topic| topic.as_str() == stats) { vec![stats] } else { Vec::new() }
    }

    fn reports(&self, device: &str) -> Option<&'static str> {
        (!device.contains('/')).then_some("Frigate reports every 60 s")
    }
}
