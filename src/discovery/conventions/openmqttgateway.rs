//! OpenMQTTGateway and Theengs gateway: below a gateway's topic, `LWT`, `SYStoMQTT` every two
//! minutes, `KINDtoMQTT` with what was received, and `BTtoMQTT/ADDRESS` for each Bluetooth device
//! that the gateway hears. `commands/MQTTtoKIND/…` are orders. (docs.openmqttgateway.com)

use super::{Claim, Ecosystem, Facts, first, is_made_up_address};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;

pub struct OpenMqttGateway;

impl Ecosystem for OpenMqttGateway {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let mut start = 0;
        for level in topic.split('/') {
            if level.ends_with("toMQTT") && level.len() > "toMQTT".len() && start > 1 {
                return topic.get(..start - 1).map(str::to_owned);
            }
            start += level.len() + 1;
        }
        None
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let (kind, id) = rest.split_once('/').unwrap_or((rest, ""));
        if rest == "LWT" || rest == "status" {
            return Some(Claim::of(root, TopicRole::Availability));
        }
        if kind == "commands" || kind.starts_with("MQTTto") || kind == "config" {
            return Some(Claim::of(root, TopicRole::Request));
        }
        if !kind.ends_with("toMQTT") {
            return None;
        }
        let id = first(id);
        // These are presence and the gateway's reports about itself.
        if id.is_empty() || kind == "SYStoMQTT" || kind == "LOGtoMQTT" {
            let role = if kind == "LOGtoMQTT" { TopicRole::Log } else { TopicRole::Telemetry };
            return Some(Claim::of(root, role));
        }
        let claim = Claim::new(format!("{kind}/{id}"), id, TopicRole::Telemetry).behind(root);
        Some(Claim { is_passing: is_made_up_address(id), ..claim })
    }

    fn filters(&self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        let Some((kind, _)) = device.split_once("toMQTT/").filter(|(kind, _)| !kind.contains('/'))
        else {
            // The messages that the gateway passes on are signs of its life, too.
            return vec![format!("{device}/SYStoMQTT"), format!("{device}/BTtoMQTT/+")];
        };
        let middle = format!("/{kind}toMQTT/");
        let heard_by = contacts.iter().filter_map(|topic| {
            let (gateway, _) = topic.as_str().split_once(&middle)?;
            let above = gateway.rsplit_once('/').map(|(above, _)| format!("{above}/"));
            Some(format!("{}+/{device}", above.unwrap_or_default()))
        });
        heard_by.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn reports(&self, device: &str) -> Option<&'static str> {
        (!device.contains("toMQTT/")).then_some("the gateway reports every 120 s")
    }
}
