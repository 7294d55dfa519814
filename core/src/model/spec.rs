//! The validated form of a configuration file.
//!
//! Invalid configurations cannot be represented here, so nothing below checks again. The broker's
//! address and secrets, which only the MQTT adapter needs, are not part of it.

use super::cluster::connection_id;
use super::cluster::sharing::ClusterSpec;
use super::device_name::DeviceName;
use super::name_pattern::NamePattern;
use crate::model::availability_words::OwnWords;
use crate::model::unit_name::{UnitName, UnitTemplate};
use crate::topic::{TopicFilter, TopicName};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The part of a configuration that the core needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorSpec {
    /// Names the instance in units, and identifies its connections (see [`Self::connection_id`]).
    pub client_id: String,
    /// All own topics lie below it.
    pub base_topic: TopicName,
    /// In the order of the file; names are unique.
    pub devices: Vec<DeviceSpec>,
    /// Those whose members are learned; the members of others are among the devices.
    pub fleets: Vec<FleetSpec>,
    /// Where the watch connection needs more subscriptions than this, wildcards replace many.
    pub max_subscriptions: usize,
    pub home_assistant: HomeAssistant,
    /// An instance is started for each alert that needs a person and concerns no device.
    pub alert_unit: Option<UnitTemplate>,
    /// The time for which the broker may be lost before people are notified.
    pub broker_grace: Duration,
    pub origin: Origin,
    /// The command line that reaches this monitor and no other, as alerts show it: `iotmonitor`
    /// with the options that it takes.
    pub command: String,
    /// What is shared with other nodes; `None` where this machine is by itself.
    pub cluster: Option<ClusterSpec>,
}

/// Up to so many subscriptions cost mosquitto 2.0 about 3 µs each. Each further one costs more, since
/// it looks through all that the client has: 18 µs with 100,000 of them, 34 µs with 200,000.
pub const DEFAULT_MAX_SUBSCRIPTIONS: usize = 10_000;

/// What of its surroundings belongs to a monitor's identity. Everything here is known when the
/// configuration is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The machine, by a number of its own; `None` where it has none that lasts.
    pub machine: Option<String>,
    /// The broker's address without secrets.
    pub server: String,
    /// Whether an instance uses the main monitor's names by default.
    pub main_defaults: bool,
}

/// The integration with Home Assistant. It is off unless the file enables it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Descriptions of the devices are published below this topic.
    pub discovery: Option<TopicName>,
    /// Whether commands are accepted over MQTT.
    pub commands: bool,
}

impl MonitorSpec {
    /// The clientid of the watch connection, to which the others append something. Each node of a
    /// cluster has one of its own.
    #[must_use]
    pub fn connection_id(&self) -> String {
        connection_id(&self.client_id, self.cluster.as_ref().map(|cluster| &cluster.node))
    }

    /// Whether anything is recorded, so that the state connection is needed.
    #[must_use]
    pub fn records_states(&self) -> bool {
        self.devices.iter().any(|device| !device.state.is_empty())
            || self.fleets.iter().any(FleetSpec::records_states)
    }
}

/// A device, or an agent, which is a device with a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    pub name: DeviceName,
    /// The area of the house in which it is, for people.
    pub area: Option<Arc<str>>,
    /// The longest silence before the device counts as expired; `None` never expires.
    pub watch_timeout: Option<Duration>,
    /// The timeout is derived from the learned silences, and the one above is the first.
    pub auto_timeout: bool,
    /// How often `expire/NAME` is repeated while the silence lasts; `None` sends it once.
    pub expire_repeat: Option<Duration>,
    /// Messages on these are contacts. Empty: no deadline.
    pub watch: Vec<TopicFilter>,
    /// A message on it is a contact, and requests a restore of the recorded states.
    pub hello: Option<TopicFilter>,
    /// Topics on which the device reports whether it is present, mostly its birth message and its
    /// will. In Sparkplug the topic of one certificate represents all those about the same object.
    pub availability: Vec<TopicName>,
    /// Words there that no convention defines. Boxed, because only a few devices need any.
    pub availability_words: Option<Box<OwnWords>>,
    /// Devices through which it is heard: its silence while one of them is down is attributed to
    /// that one. The names are those of others in the same configuration, and there is no cycle.
    pub depends_on: Vec<DeviceName>,
    /// An instance is started for each alert of this device that needs a person.
    pub alert_unit: Option<UnitTemplate>,
    /// Messages on these are recorded.
    pub state: Vec<TopicFilter>,
    pub restore_on_start: bool,
    /// The value in the file; a choice made at run time takes precedence.
    pub enabled: bool,
    /// Boxed, because most devices have none and it is large.
    pub agent: Option<Box<AgentSpec>>,
}

/// A fleet whose members are learned from the messages on its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSpec {
    /// The part of the section's name after `fleet_`. No other fleet has it.
    pub name: DeviceName,
    /// The device that is called [`PLACEHOLDER`](super::fleet::PLACEHOLDER). Each of its topics contains this as a whole level
    /// at least once, and it is no agent.
    pub template: DeviceSpec,
    /// The specifications of members that have a section of their own, whose keys take precedence.
    pub exceptions: BTreeMap<DeviceName, DeviceSpec>,
    /// The number of members that are learned. Devices of the configuration do not count.
    pub max_devices: usize,
    /// The names that never become members.
    pub ignore: Vec<NamePattern>,
}

/// The name for a user that the service manager allocates for the time that the agent runs.
pub const DYNAMIC_USER: &str = "dynamic";

impl AgentSpec {
    /// Whether the service manager allocates a user for it.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.user.as_deref() == Some(DYNAMIC_USER)
    }
}

/// The process of an agent, as a systemd unit runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpec {
    pub unit: UnitName,
    pub exec: Exec,
    /// `None`: the unprivileged default user in the system manager, the owner in a user manager.
    /// [`DYNAMIC_USER`] means a user of the agent's own.
    pub user: Option<String>,
    pub group: Option<String>,
    pub working_directory: Option<PathBuf>,
    pub environment: BTreeMap<String, String>,
    pub environment_file: Option<PathBuf>,
    /// The first delay of the monitor's own relaunches.
    pub restart_delay: Duration,
    /// The delay doubles up to this.
    pub restart_max_delay: Duration,
    /// systemd's TimeoutStopUSec; `None` takes the manager's default.
    pub stop_timeout: Option<Duration>,
    /// systemd's MemoryMax in bytes.
    pub memory_max: Option<u64>,
    /// systemd's CPUQuota in percent of one processor; 250 is two and a half.
    pub cpu_quota_percent: Option<u32>,
    /// systemd's TasksMax.
    pub tasks_max: Option<u64>,
    pub sandbox: Sandbox,
    /// Whether an agent that is silent past its timeout is restarted.
    pub restart_on_expire: bool,
    /// Value of `MQTT_SERVER` in the agent's environment: the broker's address without secrets.
    pub mqtt_server: String,
    /// systemd credentials by their names, and the files that contain them (systemd.exec(5),
    /// LoadCredential=): the broker's credentials that the agent receives.
    pub credentials: BTreeMap<&'static str, PathBuf>,
}

/// The command of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exec {
    /// Given to `/bin/bash -c` byte for byte.
    Shell(String),
    /// Run without a shell; the first is the program. Never empty.
    Argv(Vec<String>),
}

/// The sandbox of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    None,
    Strict,
}
