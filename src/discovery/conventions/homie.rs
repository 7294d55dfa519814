//! Homie: `homie/DEVICE/NODE/PROPERTY`, `…/set` for orders, and attributes whose level begins with
//! `$`, among them `$state` as birth message and will, and `$stats/…` (up to version 3) in the
//! interval that `$stats/interval` names in seconds. Version 5 has `homie/5/DEVICE/…` and all
//! attributes in `$description`. The first level may be another. (homieiot.github.io/specification)

use super::{Claim, Ecosystem, Facts, UsualSilence, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::machines::silence::rhythm;
use iotmonitor_core::topic::TopicName;
use std::time::Duration;

/// The number of intervals of `$stats` that are waited for. With three, two lost messages in a row
/// would raise an alarm, which happens in a house once in a month or two.
const INTERVALS: u32 = 5;

/// The interval in seconds above which the value is taken for a mistake.
const LONGEST_INTERVAL: u64 = 7 * 86_400;

pub struct Homie;

impl Ecosystem for Homie {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let (device, attribute) = topic.rsplit_once('/')?;
        let has = |attribute: &str| topics.contains(&format!("{device}/{attribute}"));
        let is_device = match attribute {
            "$homie" => true,
            "$state" => ["$nodes", "$description"].into_iter().any(has),
            _ => false,
        };
        is_device.then(|| device.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        Some(Claim::of(root, role(rest)))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        vec![format!("{device}/+/+")]
    }

    fn silence(&self, device: &str, facts: Facts<'_>) -> Option<UsualSilence> {
        let interval = facts.topics.get(&format!("{device}/$stats/interval"))?.word();
        let seconds: u64 = interval.trim().parse().ok()?;
        (1..=LONGEST_INTERVAL).contains(&seconds).then(|| {
            let span = rhythm::round(Duration::from_secs(seconds) * INTERVALS);
            UsualSilence::Lasts(span, "5 times its $stats/interval")
        })
    }
}

/// Returns the role of a topic below a device.
pub fn role(rest: &str) -> TopicRole {
    let mut levels = rest.split('/');
    match levels.next().unwrap_or_default() {
        "$state" => TopicRole::Availability,
        "$stats" if rest != "$stats/interval" && rest != "$stats" => TopicRole::Telemetry,
        attribute if attribute.starts_with('$') => TopicRole::Description,
        _ if last(rest) == "set" => TopicRole::Order,
        _ if levels.any(|level| level.starts_with('$')) => TopicRole::Description,
        _ => TopicRole::Telemetry,
    }
}
