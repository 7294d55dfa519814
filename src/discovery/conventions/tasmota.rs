//! Tasmota: `FullTopic` is `%prefix%/%topic%/` or another order of the two, with levels beside them;
//! the prefixes are `cmnd` to the device, `stat` its answers, `tele` its telemetry. One level
//! follows: `STATE` and `SENSOR` each TelePeriod, `LWT`, and `INFO1` to `INFO3` after a start.
//! `tasmota/discovery/MAC/config` describes a device. (tasmota.github.io/docs/MQTT)

use super::{Claim, Convention, Role, description};
use std::collections::BTreeSet;
use std::time::Duration;

const PREFIXES: [&str; 3] = ["tele", "stat", "cmnd"];

/// Stands for the prefix in a device's root.
const PREFIX: &str = "%prefix%";

/// What only Tasmota sends below `tele`.
const SIGNS: [&str; 7] = ["LWT", "STATE", "SENSOR", "INFO1", "INFO2", "INFO3", "UPTIME"];

/// Three times the TelePeriod that it comes with.
pub const USUAL_SILENCE: (Duration, &str) =
    (Duration::from_secs(900), "Tasmota reports every 300 s (TelePeriod)");

pub fn root(topic: &str) -> Option<String> {
    let (root, prefix, what) = split(topic)?;
    (prefix == "tele" && SIGNS.contains(&what)).then_some(root)
}

pub fn claim(topic: &str, roots: &BTreeSet<String>) -> Option<Claim> {
    if topic.starts_with("tasmota/discovery/") {
        return Some(description(Convention::Tasmota));
    }
    let (device, prefix, what) = split(topic)?;
    if !roots.contains(&device) {
        return None;
    }
    let role = match (prefix, what) {
        ("cmnd", _) => Role::Order,
        ("tele", "LWT") => Role::Availability,
        ("tele", "INFO1") => Role::Hello,
        (_, _) => Role::Contact,
    };
    let mut levels = device.rsplit('/');
    let name = levels.find(|level| *level != PREFIX).unwrap_or_default().to_owned();
    Some(Claim { convention: Convention::Tasmota, device, name, role })
}

pub fn patterns(device: &str) -> Vec<String> {
    ["tele", "stat"].map(|prefix| format!("{}/+", device.replace(PREFIX, prefix))).to_vec()
}

/// Root, prefix, and last level.
fn split(topic: &str) -> Option<(String, &str, &str)> {
    let (before, what) = topic.rsplit_once('/')?;
    let prefix = before.split('/').find(|level| PREFIXES.contains(level))?;
    let mut levels: Vec<&str> = before.split('/').collect();
    let at = levels.iter().position(|level| *level == prefix)?;
    levels[at] = PREFIX;
    (levels.len() > 1).then(|| (levels.join("/"), prefix, what))
}
