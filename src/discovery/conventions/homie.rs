//! Homie: `homie/DEVICE/NODE/PROPERTY`, `…/set` for orders, and attributes whose level begins with
//! `$`, among them `$state` as birth message and will, and `$stats/…` (up to version 3) in an
//! interval. Version 5 has `homie/5/DEVICE/…` and all attributes in `$description`. The first level
//! may be another. (homieiot.github.io/specification)

use super::super::traffic::Topics;
use super::{Claim, Convention, Role, last};

pub fn root(topic: &str, topics: &Topics) -> Option<String> {
    let (device, attribute) = topic.rsplit_once('/')?;
    let has = |attribute: &str| topics.contains(&format!("{device}/{attribute}"));
    let is_device = match attribute {
        "$homie" => true,
        "$state" => ["$nodes", "$description"].into_iter().any(has),
        _ => false,
    };
    is_device.then(|| device.to_owned())
}

pub fn claim(device: &str, rest: &str) -> Claim {
    let mut levels = rest.split('/');
    let first = levels.next().unwrap_or_default();
    let role = match first {
        "$state" => Role::Availability,
        "$stats" => Role::Contact,
        attribute if attribute.starts_with('$') => Role::Description,
        _ if last(rest) == "set" => Role::Order,
        _ if levels.any(|level| level.starts_with('$')) => Role::Description,
        _ => Role::Contact,
    };
    let (device, name) = (device.to_owned(), last(device).to_owned());
    Claim { convention: Convention::Homie, device, name, role }
}

pub fn patterns(device: &str) -> Vec<String> {
    vec![format!("{device}/+/+")]
}
