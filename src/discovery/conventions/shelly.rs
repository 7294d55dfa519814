//! Shelly. The first generation has `shellies/ID/…`: a component and its number, such as `relay/0`,
//! readings below it, `…/command` and `…/set` for orders, `online` as birth message and will, and
//! `announce` after a start. Later ones have a prefix, by default their id: `events/rpc`,
//! `status/COMPONENT:NUMBER`, `online`, and `rpc` and `command` for orders.
//! (shelly-api-docs.shelly.cloud)

use super::{Claim, Convention, Role, description, last};
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;

const FIRST_GENERATION: &str = "shellies/";

/// The prefix of a device of a later generation.
pub fn root(topic: &str) -> Option<String> {
    if let Some(prefix) = topic.strip_suffix("/events/rpc") {
        return Some(prefix.to_owned());
    }
    let prefix = topic.strip_suffix("/online")?;
    let is_own = last(prefix).starts_with("shelly") && !topic.starts_with(FIRST_GENERATION);
    is_own.then(|| prefix.to_owned())
}

pub fn claim(topic: &str, found: Option<(&str, &str)>) -> Option<Claim> {
    let convention = Convention::Shelly;
    if let Some((prefix, rest)) = found {
        let role = match rest.split('/').next().unwrap_or_default() {
            "online" => Role::Availability,
            "rpc" | "command" => Role::Order,
            _ => Role::Contact,
        };
        let name = last(prefix).to_owned();
        return Some(Claim { convention, device: prefix.to_owned(), name, role });
    }
    let below = topic.strip_prefix(FIRST_GENERATION)?;
    // All devices share `shellies/announce` and `shellies/command`.
    let Some((id, rest)) = below.split_once('/') else { return Some(description(convention)) };
    let role = match rest {
        "online" => Role::Availability,
        "announce" => Role::Hello,
        order if ["command", "set"].contains(&last(order)) => Role::Order,
        _ => Role::Contact,
    };
    let device = format!("{FIRST_GENERATION}{id}");
    Some(Claim { convention, device, name: id.to_owned(), role })
}

pub fn patterns(device: &str, contacts: &[&TopicName]) -> Vec<String> {
    if !device.starts_with(FIRST_GENERATION) {
        return vec![format!("{device}/events/rpc"), format!("{device}/status/+")];
    }
    // `relay/0/command` is an order, so that `#` would take too much.
    let numbered =
        |level: &str| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit());
    let generalised = contacts.iter().filter_map(|topic| {
        let rest = topic.as_str().strip_prefix(device)?;
        let levels = rest.split('/').map(|level| if numbered(level) { "+" } else { level });
        let levels: Vec<&str> = levels.collect();
        levels.contains(&"+").then(|| format!("{device}{}", levels.join("/")))
    });
    generalised.collect::<BTreeSet<_>>().into_iter().collect()
}
