//! An agent of whose section only the command is said.

use iotmonitor_core::model::spec::{AgentSpec, Exec, Sandbox};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::time::Duration;

pub fn plain_agent(name: &str, exec: &str) -> AgentSpec {
    AgentSpec {
        unit: UnitName::for_agent("iotmonitor", name).unwrap(),
        exec: Exec::Shell(exec.into()),
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
