//! ring-mqtt: `ring/LOCATION/KIND/DEVICE/ENTITY/state`, `…/command` for orders, `…/status` as the
//! availability of each device, and `…/info/state` with its battery and radio.
//! (github.com/tsightler/ring-mqtt/wiki)

use super::{Claim, Ecosystem, Facts, last};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;

const KINDS: [&str; 6] = ["alarm", "camera", "chime", "lighting", "intercom", "smart_lighting"];

pub struct RingMqtt;

impl Ecosystem for RingMqtt {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let levels: Vec<&str> = topic.split('/').collect();
        let at = levels.iter().position(|level| *level == "ring")?;
        let kind = levels.get(at + 2)?;
        let is_state = ["state", "status"].contains(levels.last()?);
        (KINDS.contains(kind) && is_state && levels.len() > at + 4).then(|| levels[..=at].join("/"))
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let levels: Vec<&str> = rest.split('/').collect();
        let [location, kind, device, what @ ..] = levels.as_slice() else {
            return Some(Claim::of_no_device());
        };
        let role = match (what, last(rest)) {
            (["status"], _) => TopicRole::Availability,
            (_, "command") => TopicRole::Request,
            (["info" | "battery" | "wireless", ..], _) => TopicRole::State,
            (["snapshot" | "stream" | "event_stream", ..], _) => TopicRole::Description,
            (_, _) => TopicRole::Event,
        };
        let key = format!("{root}/{location}/{kind}/{device}");
        Some(Claim::new(key, format!("ring-{kind}-{device}"), role))
    }
}
