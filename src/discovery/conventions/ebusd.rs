//! ebusd: `ebusd/CIRCUIT/MESSAGE` with readings, `…/get` and `…/set` for orders, `global/running`
//! as birth message and will, `global/uptime` and `global/signal`.
//! (github.com/john30/ebusd/wiki/3.3.-MQTT-client)

use super::{Claim, Ecosystem, Facts, first, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct Ebusd;

impl Ecosystem for Ebusd {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        ["/global/running", "/global/signal"]
            .iter()
            .find_map(|sign| topic.strip_suffix(sign))
            .map(str::to_owned)
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let circuit = first(rest);
        let role = match last(rest) {
            "get" | "list" => TopicRole::Request,
            "set" => TopicRole::Order,
            _ if circuit.starts_with("scan") || rest == circuit => TopicRole::Description,
            _ => TopicRole::Telemetry,
        };
        Some(match rest {
            "global/running" => Claim::of(root, TopicRole::Availability),
            "global/uptime" | "global/signal" => Claim::of(root, TopicRole::Telemetry),
            _ if circuit == "global" => Claim::of(root, TopicRole::Description),
            _ => Claim::of(&format!("{root}/{circuit}"), role).behind(root),
        })
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let is_bus =
            contacts.iter().any(|topic| topic.as_str().starts_with(&format!("{device}/global/")));
        vec![if is_bus { format!("{device}/global/uptime") } else { format!("{device}/+") }]
    }
}
