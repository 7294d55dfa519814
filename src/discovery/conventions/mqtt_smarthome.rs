//! mqtt-smarthome: `NAME/status/ITEM…` with what an interface reports, `NAME/set/ITEM…` and
//! `NAME/get/ITEM…` for orders, and `NAME/connected` with `0` as will, `1` without its hardware and
//! `2` with it. (github.com/mqtt-smarthome/mqtt-smarthome/blob/master/Architecture.md)

use super::{Claim, Ecosystem, Facts};
use crate::discovery::content;
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct MqttSmarthome;

impl Ecosystem for MqttSmarthome {
    fn root(&self, topic: &str, topics: &Topics) -> Option<String> {
        let root = topic.strip_suffix("/connected")?;
        let said = topics.get(topic).map_or("", |traffic| traffic.word());
        let is_interface =
            ["0", "1", "2"].contains(&said) && topics.has_below(&format!("{root}/status"));
        is_interface.then(|| root.to_owned())
    }

    fn claim(&self, root: &str, rest: &str, facts: Facts<'_>) -> Option<Claim> {
        if rest == "connected" {
            return Some(Claim::of(root, TopicRole::Availability));
        }
        let (function, below) = rest.split_once('/')?;
        let item = below.split('/').next().unwrap_or(below);
        let role = match function {
            "set" => TopicRole::Order,
            "get" | "command" => TopicRole::Request,
            "status" => {
                let is_event = below.split('/').any(content::is_event);
                let word =
                    facts.topics.get(&format!("{root}/{rest}")).is_some_and(|t| t.content.word);
                if is_event {
                    TopicRole::Event
                } else if word {
                    TopicRole::State
                } else {
                    TopicRole::Telemetry
                }
            }
            _ => return Some(Claim::of_no_device()),
        };
        Some(Claim::new(format!("{root}/status/{item}"), item, role).behind(root))
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let below = format!("{device}/");
        if contacts.iter().any(|topic| topic.as_str().starts_with(&below)) {
            vec![format!("{device}/#")]
        } else {
            Vec::new()
        }
    }
}
