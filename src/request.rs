//! Requests from people and programs to the running daemon, whichever adapter receives them.
//!
//! Each request carries the channel for its answer. The adapter that receives a request has already
//! authorized it.

use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::view::ClusterView;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::alert_record::AlertQuery;
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::state::StateRecord;
use iotmonitor_core::model::view::{DeviceView, Summary};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a person asks the daemon for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration again.
    Reload,
    /// Take a device into the monitoring; an agent is started.
    Enable(DeviceName),
    /// Take a device out of the monitoring; an agent is stopped.
    Disable(DeviceName),
    /// The same for so long.
    Pause(DeviceName, Duration),
    /// Publish a device's recorded states now.
    Restore(DeviceName),
    /// Stop an agent and start it again.
    RestartAgent(DeviceName),
    /// Take a learned device out of its fleet for good.
    Forget(DeviceName),
    /// Suppress notifications about a device, or about everything, for this long.
    Silence(Option<DeviceName>, Duration),
    /// Send notifications about it again.
    Unsilence(Option<DeviceName>),
    /// Send a test alert by the way of a device, or of what concerns none.
    TestAlert(Option<DeviceName>),
}

impl Command {
    /// Whom it concerns.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceName> {
        match self {
            Self::Reload => None,
            Self::Enable(device)
            | Self::Disable(device)
            | Self::Pause(device, _)
            | Self::Restore(device)
            | Self::RestartAgent(device)
            | Self::Forget(device) => Some(device),
            Self::Silence(device, _) | Self::Unsilence(device) | Self::TestAlert(device) => {
                device.as_ref()
            }
        }
    }
}

/// A call on its way to the daemon. Dropping it unanswered shows the caller that the daemon is
/// ending.
#[derive(Debug)]
pub enum Request {
    Command {
        command: Command,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// The same, answered when what was ordered of an agent's process has happened.
    Order {
        command: Command,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// What is known of one device.
    View {
        device: DeviceName,
        reply: oneshot::Sender<Result<DeviceView, Rejection>>,
    },
    /// What is known of so many devices at most, by name, after the one given.
    Views {
        after: Option<DeviceName>,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<DeviceView>, Rejection>>,
    },
    /// The figures of the whole monitoring.
    Summary {
        reply: oneshot::Sender<Result<Summary, Rejection>>,
    },
    /// What is known of the cluster.
    Cluster {
        reply: oneshot::Sender<Result<Box<ClusterView>, Rejection>>,
    },
    /// Move an agent to another node of the cluster. Answered when the node has it.
    MoveAgent {
        agent: DeviceName,
        to: NodeName,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// Let a node, or this one, give away everything, or take part again. Answered when that is done.
    DrainNode {
        node: Option<NodeName>,
        drains: bool,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// Replace the sections that all nodes of the cluster share by this text, which findings call by the
    /// path. Answered with what has changed, for people.
    ApplySections {
        path: PathBuf,
        text: Arc<str>,
        reply: oneshot::Sender<Result<String, Rejection>>,
    },
    /// The past of one device, of which incidents, restarts and days of the last stretch of this
    /// length, in JSON.
    History {
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    },
    /// The same of several devices, from the first one on as many as make up a long answer. Those that
    /// there are not are left out. Days begin at the boundaries, and are those of UTC if there are
    /// none.
    Histories {
        devices: Vec<DeviceName>,
        length: Duration,
        boundaries: Vec<Duration>,
        reply: oneshot::Sender<Result<Vec<String>, Rejection>>,
    },
    /// The contacts in the hours of the last stretch of this length, and what an agent has used in
    /// them, in the JSON of a [`iotmonitor_core::model::history::hours::HoursReport`].
    Hours {
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    },
    /// Alerts, the newest first, as an array of JSON with one on each line.
    Alerts {
        query: AlertQuery,
        reply: oneshot::Sender<Result<String, Rejection>>,
    },
    /// The incidents of a device, or of all, in the last stretch of this length, the newest first and at
    /// most 1,000, as an array of JSON with one on each line.
    Incidents {
        device: Option<DeviceName>,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    },
    /// The figures of the past of all devices, by name.
    Figures {
        reply: oneshot::Sender<Result<Vec<PastFigures>, Rejection>>,
    },
    /// Note that a person has acknowledged an alert.
    Acknowledge {
        id: u64,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// How devices spent the intervals between these times, in JSON: a key for each device that there
    /// is, with its bars (see [`iotmonitor_core::model::history::bars`]).
    Bars {
        devices: Vec<DeviceName>,
        boundaries: Vec<Duration>,
        reply: oneshot::Sender<Result<String, Rejection>>,
    },
    /// The topic filters of one device.
    Topics {
        device: DeviceName,
        reply: oneshot::Sender<Result<Vec<TopicFilter>, Rejection>>,
    },
    /// Recorded states in topic order, a page of them, after the topic given.
    States {
        of: Selection,
        after: Option<TopicName>,
        reply: oneshot::Sender<Result<StatePage, Rejection>>,
    },
    /// The last entries of the journal about a device, oldest first.
    Journal {
        device: DeviceName,
        lines: u16,
        reply: oneshot::Sender<Result<Vec<JournalEntry>, Rejection>>,
    },
    /// Set a state; the daemon adds the time. The answer states whether it was published, too.
    SetState {
        state: StateRecord,
        reply: oneshot::Sender<Result<bool, Rejection>>,
    },
    /// Forget a state, and with `clear` take it from the broker too.
    ForgetState {
        topic: TopicName,
        clear: bool,
        reply: oneshot::Sender<Result<Forgotten, Rejection>>,
    },
    /// Record states that are not older than what is recorded.
    ImportStates {
        states: Vec<StateRecord>,
        reply: oneshot::Sender<Result<Imported, Rejection>>,
    },
}

/// Which recorded states are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    All,
    /// Those that match its stateTopics.
    Device(DeviceName),
    Filter(TopicFilter),
}

/// A page of recorded states; `next`, where there is more, is what the next page comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePage {
    pub states: Vec<StateRecord>,
    pub next: Option<TopicName>,
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Since the Unix epoch.
    pub time: Duration,
    /// That of syslog(3), from 0 to 7.
    pub priority: u8,
    /// What others wrote, safe to be shown.
    pub message: String,
}

/// What became of a state that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// There was one.
    pub recorded: bool,
    /// The broker was asked to drop its retained message.
    pub cleared: bool,
}

/// What became of states that were imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// The others were older than what is recorded.
    pub recorded: usize,
    /// They match no stateTopics of any device at the moment.
    pub unclaimed: usize,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "there is no device or agent `{0}`; its name is what follows `device_` or `agent_` in the configuration"
    )]
    UnknownDevice(DeviceName),
    #[error("there is no alert {0}: it is not kept any more, or never was")]
    UnknownAlert(u64),
    /// In words, for the person who asked.
    #[error("{0}")]
    Failed(String),
}
