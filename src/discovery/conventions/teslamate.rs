//! TeslaMate: `teslamate[/NAMESPACE]/cars/ID/…`, each published when it changes. `state` is the
//! state of the car, such as `online`, `asleep` or `offline`, and `healthy` is about the logger's
//! view of it. A sleeping car is silent for days. (docs.teslamate.org/docs/integrations/mqtt)

use super::{Claim, Ecosystem, Facts, UsualSilence};
use crate::discovery::role::TopicRole;
use crate::discovery::traffic::Topics;
use iotmonitor_core::topic::TopicName;

pub struct TeslaMate;

impl Ecosystem for TeslaMate {
    fn root(&self, topic: &str, _topics: &Topics) -> Option<String> {
        let (before, _) = topic.split_once("/cars/")?;
        before.split('/').any(|level| level == "teslamate").then(|| format!("{before}/cars"))
    }

    fn claim(&self, root: &str, rest: &str, _facts: Facts<'_>) -> Option<Claim> {
        let (car, _) = rest.split_once('/')?;
        Some(Claim::new(format!("{root}/{car}"), format!("car-{car}"), TopicRole::State))
    }

    fn filters(&self, device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        vec![format!("{device}/+")]
    }

    fn silence(&self, _device: &str, _facts: Facts<'_>) -> Option<UsualSilence> {
        Some(UsualSilence::MeansNothing("a car that sleeps is silent for days"))
    }
}
