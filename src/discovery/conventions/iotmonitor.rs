//! Another iotmonitor, or this one as a bridge shows it: `up` every second, `availability`,
//! `status/NAME`, `expire/NAME` and `recover/NAME` below a base topic. All of these are about
//! devices, and none of them is itself a device's. (the book of iotmonitor, "Topics")

use super::{Claim, Ecosystem, Facts};
use crate::discovery::traffic::Topics;

pub struct Iotmonitor;

impl Ecosystem for Iotmonitor {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic.strip_suffix("/availability").or_else(|| topic.strip_suffix("/up"))?;
        let has_below = |what: &str| topics.has_below(&format!("{root}/{what}"));
        let is_monitor = topics.contains(&format!("{root}/availability"))
            && (topics.contains(&format!("{root}/up"))
                && (has_below("status") || has_below("expire") || has_below("recover"))
                || has_below("helloTopicCount")
                || has_below("startedprocess")
                || has_below("status") && has_below("expire")
                || topics
                    .get(&format!("{root}/up"))
                    .is_some_and(|up| up.content.number && up.live > 1));
        is_monitor.then(|| root.to_owned())
    }

    fn claim(&self, _root: &str, _rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        Some(Claim::of_no_device())
    }
}
