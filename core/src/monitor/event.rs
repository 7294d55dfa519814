//! Facts that adapters report to the monitor, in the past tense.

use super::snapshot::Snapshot;
use super::spec::{DeviceName, MonitorSpec};
use super::states::StateOrder;
use crate::topic::{TopicFilter, TopicName};
use crate::unit_name::{UnitName, UnitTemplate};
use bytes::Bytes;
use std::time::Duration;

/// The time of one turn of the loop, read once by whoever drives the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary start; never steps. All deadlines are on it.
    pub mono: Duration,
    /// Since the Unix epoch; may step. Only shown, never compared.
    pub wall: Duration,
}

/// The two connections and their purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Connection {
    /// Clean session: contacts, hellos, alerts, `up` and the will.
    Watch,
    /// Persistent session: states in, restored states out.
    State,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
}

/// The protocol version that a connection has settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    V311,
    V5,
}

/// Number of a message on the state connection, in the order of receipt. Never used twice in a
/// process, also across reconnections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery(pub u64);

/// Names a publication whose acknowledgement the core wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one reading of recorded states. The core counts up from 1; who reads beside it counts
/// down from the largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// Names one change of recorded states that a person ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// One PUBLISH packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: TopicName,
    pub payload: Bytes,
    /// As delivered; 2 cannot occur, since nothing is subscribed above 1.
    pub qos: QoS,
    pub retain: bool,
    /// Carries the user property of a restored state (MQTT 5 only).
    pub restored: bool,
}

/// A recorded state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    pub topic: TopicName,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// Wall clock since the Unix epoch.
    pub time: Duration,
}

/// Why a connection was lost or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossReason {
    /// Another client took the clientid (MQTT 5 reason 0x8E, or the same pattern in 3.1.1).
    TakenOver,
    /// User name or password were refused.
    Refused(String),
    /// The broker stopped answering: since when is unknown, so nothing since its last packet, which
    /// came so long ago, counts as watched.
    Silent { sentence: String, quiet: Duration },
    /// Anything else, in words that name the thing and the way out.
    Other(String),
}

/// systemd's view of one of the agents' units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitReport {
    pub unit: UnitName,
    pub active: ActiveState,
    /// 0 when there is no main process.
    pub main_pid: u32,
    /// Hex, 32 digits, new for each start; empty when the unit never ran.
    pub invocation: String,
    /// systemd's own restarts of this unit.
    pub restarts: u32,
    /// `success`, `exit-code`, `signal`, `start-limit-hit`, … (systemd.service(5)).
    pub result: String,
    /// How the last main process ended, in words: `exited with 1`, `killed by SIGKILL`.
    pub last_exit: Option<String>,
    /// The definition hash in the unit's marker; `None` when the unit carries none.
    pub definition: Option<String>,
}

/// systemd's ActiveState (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    Active,
    Reloading,
    Inactive,
    Failed,
    Activating,
    Deactivating,
}

/// How a start or a stop of a unit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    Done,
    /// In words; an unknown user, a full job queue, a refused property.
    Failed(String),
}

/// Everything that can reach the monitor. Each is handled by [`super::Monitor::handle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed; a deadline may be due.
    TimePassed,

    /// CONNACK: the connection stands, nothing is subscribed yet by this process.
    Connected {
        connection: Connection,
        protocol: Protocol,
        session_present: bool,
    },
    /// The connection is gone, or a try failed. Comes once per change and not once per try.
    Disconnected {
        connection: Connection,
        reason: LossReason,
    },
    /// Every SUBSCRIBE of the last [`super::Action::Subscribe`] has its SUBACK.
    Subscribed {
        connection: Connection,
        refused: Vec<Refusal>,
    },
    /// The broker owed an answer on the watch connection and sent nothing for so long, and now
    /// sends again. Comes before what it sends.
    AnsweredLate {
        after: Duration,
    },
    /// A PUBLISH on the watch connection.
    WatchMessage(Message),
    /// A PUBLISH on the state connection. It stays unacknowledged until
    /// [`super::Action::Acknowledge`] names it or a later one.
    StateMessage {
        delivery: Delivery,
        message: Message,
    },
    /// The broker has acknowledged a QoS 1 publication that carried a token.
    Published {
        token: Token,
    },

    /// The store is open and this is what it held.
    StoreOpened(Snapshot),
    /// The store cannot be used at the moment, in words. Comes once per change.
    StoreFailed {
        error: String,
    },
    /// A damaged store was put aside at this path, and a new one was made.
    StorePutAside {
        path: String,
        error: String,
    },
    /// Commits work again.
    StoreRecovered,
    /// Records that failed their checksum were passed over and deleted; one of them as an example.
    StoreRecordsDamaged {
        count: u64,
        example: String,
    },
    /// All deliveries up to this one are on disk.
    StatesCommitted {
        through: Delivery,
    },
    /// The answer to [`super::Action::ReadStates`]; `next` continues it.
    StatesRead {
        read: ReadId,
        states: Vec<StateRecord>,
        next: Option<TopicName>,
    },
    /// What [`super::Action::WriteStates`] asked for is on disk.
    StatesWritten {
        write: WriteId,
        /// States that were put, or were there to be forgotten.
        changed: usize,
    },
    /// The last [`super::Action::SaveDevices`] is on disk.
    DevicesSaved,

    /// The service manager answers; these are all units that carry this instance's marker.
    ManagerConnected {
        units: Vec<UnitReport>,
    },
    /// The bus or the service manager is gone, in words. Comes once per change.
    ManagerLost {
        reason: String,
    },
    /// A property of a unit changed, or it appeared.
    UnitChanged(UnitReport),
    /// The unit is no longer loaded (not during a daemon-reload).
    UnitRemoved {
        unit: UnitName,
    },
    /// The answer to [`super::Action::StartUnit`].
    StartFinished {
        unit: UnitName,
        outcome: JobOutcome,
    },
    /// The answer to [`super::Action::StopUnit`].
    StopFinished {
        unit: UnitName,
        outcome: JobOutcome,
    },
    /// The instance of an `alertUnit` that [`super::Action::Raise`] asked for has ended.
    AlertUnitFinished {
        template: UnitTemplate,
        outcome: JobOutcome,
    },
    /// So many alerts in a row started no unit, since too many waited; now none waits any more.
    AlertsDropped {
        count: u64,
        template: UnitTemplate,
    },
    /// The status page cannot be offered, in words. Comes once per change.
    PageFailed {
        error: String,
    },
    /// It is offered again, at this address.
    PageBack {
        address: String,
    },
    /// Whether the system is going down, in which case nothing is started; with each connection
    /// and when it changes, for a shutdown can be called off.
    SystemState {
        stopping: bool,
    },

    /// A new configuration is in force.
    Reconfigured(MonitorSpec),
    /// A person took a device into the monitoring, or out of it. The name was looked up before.
    Enabled {
        device: DeviceName,
    },
    Disabled {
        device: DeviceName,
    },
    /// A person asked for a device's states, or for a restart of an agent.
    RestoreRequested {
        device: DeviceName,
    },
    RestartRequested {
        device: DeviceName,
    },
    /// A person gives states or takes them away.
    StatesOrdered {
        write: WriteId,
        order: StateOrder,
    },
    /// The process is to end: last words, no new work.
    Stopping,
}

/// A filter that the broker did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub filter: TopicFilter,
    /// The SUBACK's reason in words.
    pub reason: String,
}
