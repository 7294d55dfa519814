//! WLED: below a device's topic, `g`, `c` and `v` with the brightness, the colour and the whole
//! state whenever it changes, and `status` as birth message and will. The device's topic itself,
//! `col` and `api` are orders, as are those of the group, by default `wled/all`.
//! (kno.wled.ge/interfaces/mqtt)

use super::{Claim, Ecosystem, Facts, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;

const GROUP: &str = "all";

pub struct Wled;

impl Ecosystem for Wled {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let (root, what) = topic.rsplit_once('/')?;
        let has = |what: &str| topics.contains(&format!("{root}/{what}"));
        let is_named = || root.split('/').any(|level| level == "wled");
        let is_device = match what {
            "g" => has("c") || has("v"),
            "v" => has("g") || has("status") && is_named(),
            "status" => is_named() || has("g") && has("c"),
            _ => false,
        };
        (is_device && last(root) != GROUP).then(|| root.to_owned())
    }

    fn find<'t>(&self, topic: &'t str, roots: &BTreeSet<String>) -> Option<(String, &'t str)> {
        if let Some((root, rest)) = super::below(topic, roots) {
            return Some((root.to_owned(), rest));
        }
        // The group's topic is not below that of any device.
        let (before, rest) = topic
            .split_once("/all")
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with('/'))?;
        let beside = format!("{before}/");
        let next = roots.range(beside.clone()..).next()?;
        next.starts_with(&beside).then(|| (format!("{before}/{GROUP}"), rest))
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        if last(root) == GROUP {
            return Some(Claim::of_no_device());
        }
        let role = match rest {
            "status" => TopicRole::Availability,
            "g" | "c" | "v" => TopicRole::State,
            "col" => TopicRole::Order,
            "" | "api" => TopicRole::Request,
            _ => return None,
        };
        Some(Claim::of(root, role))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        ["g", "c", "v"].map(|what| format!("{device}/{what}")).to_vec()
    }
}
