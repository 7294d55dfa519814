//! Sparkplug B: `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`. An edge node publishes `NBIRTH`, `NDATA` and,
//! as will, `NDEATH`, and for its devices `DBIRTH`, `DDATA` and `DDEATH`. `NCMD` and `DCMD` are
//! orders, and `STATE` is that of a host application. (sparkplug.eclipse.org/specification, 4)

use super::{Claim, Ecosystem, Facts};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

const NAMESPACE: &str = "spBv1.0";

pub struct SparkplugB;

impl Ecosystem for SparkplugB {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let start = topic.find(NAMESPACE)?;
        let is_level = (start == 0 || topic[..start].ends_with('/'))
            && topic[start + NAMESPACE.len()..].starts_with('/');
        is_level.then(|| topic[..start + NAMESPACE.len()].to_owned())
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let levels: Vec<&str> = rest.split('/').collect();
        let [group, kind, node, device @ ..] = levels.as_slice() else {
            return Some(Claim::of_no_device());
        };
        let role = match *kind {
            "NBIRTH" | "DBIRTH" | "NDATA" | "DDATA" => TopicRole::Telemetry,
            "NCMD" | "DCMD" => TopicRole::Request,
            // A will is published by the broker, and the death of a device by its node.
            _ => TopicRole::Description,
        };
        let edge = format!("{root}/{group}/{node}");
        Some(match device {
            [] => Claim::of(&edge, role),
            [device, ..] => {
                let key = format!("{edge}/{device}");
                Claim::new(key, *device, role).behind(edge)
            }
        })
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        let Some((root, rest)) = device.split_once(&format!("{NAMESPACE}/")) else {
            return Vec::new();
        };
        let levels: Vec<&str> = rest.split('/').collect();
        match levels.as_slice() {
            // The messages that a node publishes for its devices show that it is there.
            [group, node] => ["NBIRTH", "NDATA", "DBIRTH", "DDATA"]
                .map(|kind| {
                    let devices = if kind.starts_with('D') { "/+" } else { "" };
                    format!("{root}{NAMESPACE}/{group}/{kind}/{node}{devices}")
                })
                .to_vec(),
            [group, node, device] => ["DBIRTH", "DDATA"]
                .map(|kind| format!("{root}{NAMESPACE}/{group}/{kind}/{node}/{device}"))
                .to_vec(),
            _ => Vec::new(),
        }
    }

    fn will(&self, device: &str) -> Option<String> {
        let (root, rest) = device.split_once(&format!("{NAMESPACE}/"))?;
        let levels: Vec<&str> = rest.split('/').collect();
        match levels.as_slice() {
            [group, node] => Some(format!("{root}{NAMESPACE}/{group}/NDEATH/{node}")),
            [group, node, device] => {
                Some(format!("{root}{NAMESPACE}/{group}/DDEATH/{node}/{device}"))
            }
            _ => None,
        }
    }
}
