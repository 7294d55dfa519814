//! Zigbee2MQTT: below a base topic each device has its friendly name, which may hold slashes, and
//! there its JSON; `…/availability` where that is switched on; `…/set` and `…/get` are orders. The
//! bridge itself is `bridge/state`, `bridge/devices` and more.
//! (zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages)

use super::{Claim, Convention, Role, last};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// By these the bridge is known.
const SIGNS: [&str; 3] = ["/bridge/state", "/bridge/info", "/bridge/devices"];

/// How long Zigbee2MQTT itself waits for a device on battery before it calls it offline.
pub const USUAL_SILENCE: (Duration, &str) =
    (Duration::from_secs(25 * 3_600), "Zigbee2MQTT itself waits so long for a device on battery");

/// Names are remembered up to this number.
const MOST_NAMES: usize = 10_000;

/// A longer list of devices is not read, in bytes.
const LONGEST_LIST: usize = 16 << 20;

/// The devices of each bridge, by its base topic, as `bridge/devices` lists them.
#[derive(Debug, Default)]
pub struct Roster {
    names: BTreeMap<String, BTreeSet<String>>,
    count: usize,
}

#[derive(Deserialize)]
struct Listed {
    friendly_name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Roster {
    /// Reads a list; returns the topics of the devices in it.
    pub fn read(&mut self, topic: &str, payload: &[u8]) -> Vec<String> {
        let Some(base) = topic.strip_suffix("/bridge/devices") else { return Vec::new() };
        if payload.len() > LONGEST_LIST {
            return Vec::new();
        }
        let listed: Vec<Listed> = serde_json::from_slice(payload).unwrap_or_default();
        let names = self.names.entry(base.to_owned()).or_default();
        let mut topics = Vec::new();
        for Listed { friendly_name, kind } in listed {
            if kind.as_deref() == Some("Coordinator") || friendly_name.is_empty() {
                continue;
            }
            let topic = format!("{base}/{friendly_name}");
            if self.count < MOST_NAMES && names.insert(friendly_name) {
                self.count += 1;
                topics.push(topic);
            }
        }
        topics
    }

    /// The longest name that a topic below the base begins with.
    fn name<'a>(&self, base: &str, rest: &'a str) -> Option<&'a str> {
        let names = self.names.get(base)?;
        let ends = rest.rmatch_indices('/').map(|(at, _)| at);
        std::iter::once(rest.len())
            .chain(ends)
            .map(|end| &rest[..end])
            .find(|name| names.contains(*name))
    }
}

pub fn root(topic: &str) -> Option<String> {
    SIGNS.iter().find_map(|sign| topic.strip_suffix(sign)).map(str::to_owned)
}

pub fn claim(base: &str, rest: &str, roster: &Roster) -> Claim {
    let convention = Convention::Zigbee2Mqtt;
    if rest == "bridge" || rest.starts_with("bridge/") {
        let role = match &rest["bridge".len()..] {
            "/state" => Role::Availability,
            order if order.starts_with("/request/") => Role::Order,
            _ => Role::Contact,
        };
        let name = last(base).to_owned();
        return Claim { convention, device: bridge(base), name, role };
    }
    let name = roster.name(base, rest).unwrap_or_else(|| unlisted(rest));
    let role = match rest[name.len()..].trim_start_matches('/') {
        "availability" => Role::Availability,
        order if ["set", "get"].contains(&order.split('/').next().unwrap_or_default()) => {
            Role::Order
        }
        _ => Role::Contact,
    };
    Claim { convention, device: format!("{base}/{name}"), name: name.to_owned(), role }
}

/// The device that the bridge is.
pub fn bridge(base: &str) -> String {
    format!("{base}/bridge")
}

pub fn patterns(device: &str) -> Vec<String> {
    // Orders to the bridge have one level more.
    let is_bridge = device.ends_with("/bridge");
    vec![if is_bridge { format!("{device}/+") } else { device.to_owned() }]
}

/// The name of a device that no list names: all before a level that only follows names.
fn unlisted(rest: &str) -> &str {
    let followers = ["/availability", "/set", "/get"];
    let ends = followers.iter().filter_map(|follower| {
        let (name, after) = rest.split_once(follower)?;
        (after.is_empty() || after.starts_with('/')).then_some(name.len())
    });
    &rest[..ends.min().filter(|end| *end > 0).unwrap_or(rest.len())]
}
