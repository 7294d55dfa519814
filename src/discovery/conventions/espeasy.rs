//! ESPEasy: below the unit's name, `TASK/VALUE`; `LWT` or `status/LWT` says `Connected` and, as
//! will, `Connection Lost`; `cmd` and `…/set` are orders. (espeasy.readthedocs.io, Controller:
//! OpenHAB MQTT)

use super::{Claim, Ecosystem, Facts, first, last};
use crate::discovery::content;
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;

const WORDS: [&str; 2] = ["Connected", "Connection Lost"];

pub struct EspEasy;

impl Ecosystem for EspEasy {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic.strip_suffix("/LWT")?;
        let root = root.strip_suffix("/status").unwrap_or(root);
        let said = topics.get(topic).map_or("", |traffic| traffic.word());
        (WORDS.contains(&said) && !root.is_empty()).then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let role = match (first(rest), last(rest)) {
            (_, "LWT") => TopicRole::Availability,
            ("cmd", _) => TopicRole::Request,
            (_, "set") => TopicRole::Order,
            ("status", _) => TopicRole::State,
            (task, _) if content::is_event(task) => TopicRole::Event,
            (_, _) => TopicRole::Telemetry,
        };
        Some(Claim::of(root, role))
    }

    fn filters(
        &self,
        device: &str,
        _contacts: &[&iotmonitor_core::topic::TopicName],
    ) -> Vec<String> {
        vec![format!("{device}/+/+")]
    }
}
