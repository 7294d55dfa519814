//! From a schedule's devices to the monitor's configuration.

use super::model::Definition;
use super::world::BASE;
use iotmonitor::monitor::spec::{
    AgentSpec, DeviceName, DeviceSpec, Exec, HomeAssistant, MonitorSpec, Sandbox,
};
use iotmonitor::topic::{TopicFilter, TopicName};
use iotmonitor::unit_name::UnitName;
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
        home_assistant: HomeAssistant::default(),
        alert_unit: None,
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
        watch_timeout: (!timeout.is_zero()).then_some(timeout),
        auto_timeout: false,
        expire_repeat: definition.repeats.then_some(Duration::from_secs(7)),
        watch: definition.watched.then(|| filter("#")).into_iter().collect(),
        hello: (!definition.watched).then(|| filter("hello")),
        availability: None,
        depends_on: Vec::new(),
        alert_unit: None,
        state: Vec::new(),
        restore_on_start: true,
        enabled: true,
        agent: definition.is_agent.then(|| Box::new(agent_spec(&text))),
    }
}

fn agent_spec(text: &str) -> AgentSpec {
    AgentSpec {
        unit: UnitName::for_agent("iotmonitor", text).unwrap(),
        exec: Exec::Shell("run".into()),
        user: None,
        group: None,
        working_directory: None,
        environment: BTreeMap::new(),
        environment_file: None,
        restart_delay: Duration::from_secs(1),
        restart_max_delay: Duration::from_secs(60),
        stop_timeout: None,
        memory_max: None,
        cpu_quota_percent: None,
        tasks_max: None,
        sandbox: Sandbox::None,
        restart_on_expire: false,
        mqtt_server: "tcp://localhost:1883".into(),
        credentials: BTreeMap::new(),
    }
}

pub fn number_of(device: Option<&DeviceName>) -> Option<usize> {
    number_in(device?.as_str())
}

pub fn number_in(name: &str) -> Option<usize> {
    name.strip_prefix('d')?.parse().ok()
}
