//! From a schedule's devices to the monitor's configuration.

use super::model::Definition;
use super::world::BASE;
use crate::plain_agent::plain_agent;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::Origin;
use iotmonitor_core::model::spec::{
    DEFAULT_MAX_SUBSCRIPTIONS, DeviceSpec, HomeAssistant, MonitorSpec,
};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::BTreeMap;
use std::time::Duration;

pub fn spec(definitions: &BTreeMap<usize, Definition>) -> MonitorSpec {
    MonitorSpec {
        client_id: "iotmonitor".into(),
        base_topic: TopicName::new(BASE).unwrap(),
        devices: definitions
            .iter()
            .map(|(name, of)| DeviceSpec {
                depends_on: parents(definitions, of),
                ..device_spec(*name, of)
            })
            .collect(),
        fleets: Vec::new(),
        max_subscriptions: DEFAULT_MAX_SUBSCRIPTIONS,
        home_assistant: HomeAssistant::default(),
        origin: Origin::default(),
        command: "iotmonitor".into(),
        cluster: None,
        alert_unit: None,
        broker_grace: Duration::from_secs(60),
    }
}

/// What is configured of what it depends on.
fn parents(definitions: &BTreeMap<usize, Definition>, of: &Definition) -> Vec<DeviceName> {
    let parent = of.behind.filter(|parent| definitions.contains_key(parent));
    parent.map(|parent| DeviceName::new(format!("d{parent}")).unwrap()).into_iter().collect()
}

fn device_spec(number: usize, definition: &Definition) -> DeviceSpec {
    let text = format!("d{number}");
    let filter = |last| TopicFilter::new(format!("home/{text}/{last}")).unwrap();
    let timeout = Duration::from_millis(definition.timeout);
    DeviceSpec {
        name: DeviceName::new(text.clone()).unwrap(),
        area: None,
        watch_timeout: (!timeout.is_zero()).then_some(timeout),
        auto_timeout: false,
        expire_repeat: definition.repeats.then_some(Duration::from_secs(7)),
        watch: definition.watched.then(|| filter("#")).into_iter().collect(),
        hello: (!definition.watched).then(|| filter("hello")),
        availability: Vec::new(),
        availability_words: None,
        depends_on: Vec::new(),
        alert_unit: None,
        state: Vec::new(),
        restore_on_start: true,
        enabled: true,
        agent: definition.is_agent.then(|| Box::new(plain_agent(&text, "run"))),
    }
}

pub fn number_of(device: Option<&DeviceName>) -> Option<usize> {
    number_in(device?.as_str())
}

pub fn number_in(name: &str) -> Option<usize> {
    name.strip_prefix('d')?.parse().ok()
}
