//! ESPurna: below a root, `app`, `version` and `board` say what it is, with `uptime`, `rssi` and
//! others every five minutes; `status` is `1`, and `0` as will; `relay/0` is answered, and `…/set`
//! is an order. (github.com/xoseperez/espurna/wiki/MQTT)

use super::{Claim, Ecosystem, Facts, first, last};
use crate::discovery::content;
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct EspUrna;

impl Ecosystem for EspUrna {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic.strip_suffix("/app").or_else(|| topic.strip_suffix("/board"))?;
        let has = |what: &str| topics.contains(&format!("{root}/{what}"));
        let is_named = topics.get(topic).is_some_and(|traffic| traffic.word() == "ESPURNA");
        (is_named || (has("version") && has("status"))).then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let role = match (first(rest), last(rest)) {
            ("status", _) => TopicRole::Availability,
            ("action", _) => TopicRole::Request,
            (_, "set") => TopicRole::Order,
            ("app" | "version" | "board" | "host" | "ip" | "mac" | "desc" | "ssid", _) => {
                TopicRole::State
            }
            ("relay" | "led" | "rgb", _) => TopicRole::State,
            (what, _) if content::is_event(what) => TopicRole::Event,
            (_, _) => TopicRole::Telemetry,
        };
        Some(Claim::of(root, role))
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let mut filters = vec![format!("{device}/+")];
        filters.extend(super::generalised(device, contacts));
        filters
    }

    fn narrow(&self, device: &str) -> Vec<String> {
        vec![format!("{device}/uptime")]
    }

    fn reports(&self, _device: &str) -> Option<&'static str> {
        Some("ESPurna reports every 300 s")
    }
}
