//! Facts that adapters report to the monitor, in the past tense.

use super::device_name::DeviceName;
use super::message::{
    Connection, Delivery, FilterRefusal, FormerPart, LossReason, Message, Protocol, Redelivery,
    Token,
};
use super::snapshot::Snapshot;
use super::spec::MonitorSpec;
use super::state::{ReadId, StateOrder, StateRecord, WriteId};
use super::unit::{JobOutcome, UnitReport, UnitsOutcome};
use crate::model::unit_name::UnitName;
use crate::topic::TopicName;
use std::time::Duration;

/// Everything that can reach the monitor. Each is handled by [`crate::monitor::Monitor::handle`].
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
    /// What the broker of the watch connection cannot do, in words, empty where nothing is missing.
    /// Comes when it changes.
    BrokerLacks {
        what: String,
    },
    /// The connection is gone, or a try failed. Comes once per change and not once per try.
    Disconnected {
        connection: Connection,
        reason: LossReason,
    },
    /// Every SUBSCRIBE of the last [`super::action::Action::Subscribe`] has its SUBACK.
    Subscribed {
        connection: Connection,
        refused: Vec<FilterRefusal>,
    },
    /// The broker owed an answer on the watch connection and sent nothing for so long, and now
    /// sends again. Comes before what it sends.
    AnsweredLate {
        after: Duration,
    },
    /// A PUBLISH on the watch connection.
    WatchMessage(Message),
    /// A PUBLISH on the state connection. It stays unacknowledged until
    /// [`super::action::Action::Acknowledge`] names it or a later one.
    StateMessage {
        delivery: Delivery,
        message: Message,
        redelivery: Redelivery,
    },
    /// A PUBLISH on the connection for a former identity. It stays unacknowledged until
    /// [`super::action::Action::AcknowledgeFormer`] names it or a later one.
    FormerMessage {
        part: FormerPart,
        delivery: Delivery,
        message: Message,
    },
    /// The broker has acknowledged a QoS 1 publication that carried a token.
    Published {
        token: Token,
    },

    /// The broker refused a QoS 1 publication for the reason in words, or the publication was not
    /// even sent because the broker would not take it. This answers the token.
    PublishRefused {
        topic: TopicName,
        reason: String,
        token: Option<Token>,
    },
    /// The broker took a QoS 1 publication; reported only once one was refused.
    PublishAccepted {
        topic: TopicName,
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
    /// The store at this path was removed, replaced or covered by a mount while it was in use, and
    /// the one that is found there was opened, or a new one made.
    StoreReplaced {
        path: String,
    },
    /// It was removed, and this process cannot make another one, in words. Comes instead of
    /// [`Event::StoreFailed`].
    StoreLost {
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
    /// All that a former session has delivered up to this is on disk.
    FormerStatesCommitted {
        through: Delivery,
    },
    /// The answer to [`super::action::Action::ReadStates`]; `next` continues it.
    StatesRead {
        read: ReadId,
        states: Vec<StateRecord>,
        next: Option<TopicName>,
    },
    /// What [`super::action::Action::WriteStates`] asked for is on disk.
    StatesWritten {
        write: WriteId,
        /// States that were put, or were there to be forgotten.
        changed: usize,
    },
    /// The last [`super::action::Action::SaveDevices`] is on disk.
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
    /// The answer to [`super::action::Action::StartUnit`].
    StartFinished {
        unit: UnitName,
        outcome: JobOutcome,
    },
    /// The answer to [`super::action::Action::StopUnit`].
    StopFinished {
        unit: UnitName,
        outcome: JobOutcome,
    },
    /// The answer to [`super::action::Action::StopFormerUnits`].
    FormerUnitsStopped {
        client_id: String,
        outcome: UnitsOutcome,
    },
    /// The answer to [`super::action::Action::SendNotification`].
    NotificationEnded {
        instance: String,
        outcome: JobOutcome,
    },
    /// The status page cannot be offered, in words. Comes once per change.
    PageFailed {
        error: String,
    },
    /// It is offered again, at this address.
    PageBack {
        address: String,
    },
    /// Commands do not reach the monitor for this reason. Comes once per change.
    BusNameRefused {
        reason: String,
    },
    /// They do again.
    BusNameBack,
    /// Whether the system is going down, in which case nothing is started; with each connection
    /// and when it changes, since a shutdown can be called off.
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
    /// The same for so long, on the boot clock.
    Paused {
        device: DeviceName,
        span: Duration,
    },
    /// A person wants to hear nothing for so long: of a device, or of anything.
    Silenced {
        device: Option<DeviceName>,
        span: Duration,
    },
    /// A person wants to hear of it again.
    Unsilenced {
        device: Option<DeviceName>,
    },
    /// A person tries the way by which alerts of a device, or of what concerns none, are told.
    NotificationTested {
        device: Option<DeviceName>,
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
