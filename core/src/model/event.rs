//! Facts that adapters report to the monitor, in the past tense.

use super::cluster::sharing::ClusterFact;
use super::device_name::DeviceName;
use super::history::HistorySnapshot;
use super::history::figures::PastFigures;
use super::message::{
    Connection, Delivery, FilterRefusal, FormerPart, LossReason, Message, Protocol, Redelivery,
    Token,
};
use super::snapshot::Snapshot;
use super::spec::MonitorSpec;
use super::state::{ReadId, StateOrder, StateRecord, WriteId};
use super::unit::{JobOutcome, UnitReport, UnitUsage, UnitsOutcome};
use crate::model::unit_name::UnitName;
use crate::topic::TopicName;
use std::time::Duration;

/// Everything that can reach the monitor. Each is handled by [`crate::monitor::Monitor::handle`].
///
/// Messages are the bulk of them and are moved through a queue, so what is larger than a message is
/// boxed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed; a deadline may be due.
    TimePassed,

    /// CONNACK: the connection is established, and this process has not subscribed to anything yet.
    Connected {
        connection: Connection,
        protocol: Protocol,
        session_present: bool,
    },
    /// The features that the broker of the watch connection lacks, in words, empty where none is
    /// missing. Reported when it changes.
    BrokerLacks {
        what: String,
    },
    /// The connection is gone, or a try failed. Reported once per change rather than once per try.
    Disconnected {
        connection: Connection,
        reason: LossReason,
    },
    /// Every SUBSCRIBE of the last [`super::action::Action::Subscribe`] has its SUBACK.
    Subscribed {
        connection: Connection,
        refused: Vec<FilterRefusal>,
    },
    /// The broker owed an answer on the watch connection and sent nothing for this long, and now
    /// sends again. Reported before the messages that it sends.
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
    /// A state that another monitor, with this clientid, has restored. It is no state message.
    RestoredByAnother {
        by: String,
        topic: TopicName,
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
    /// sent because the broker would not accept it. This answers the token.
    PublishRefused {
        topic: TopicName,
        reason: String,
        token: Option<Token>,
    },
    /// The broker accepted a QoS 1 publication; reported only once one was refused.
    PublishAccepted {
        topic: TopicName,
    },

    /// The store is open, with these contents.
    StoreOpened(Box<Snapshot>),
    /// The store cannot be used at present, with the reason. Reported once per change.
    StoreFailed {
        error: String,
    },
    /// A damaged store was set aside at this path, and a new one was created.
    StorePutAside {
        path: String,
        error: String,
    },
    /// The store at this path was removed, replaced or covered by a mount while in use, and the one
    /// that is found there was opened, or a new one created.
    StoreReplaced {
        path: String,
    },
    /// It was removed, and this process cannot create another one, with the reason. Reported
    /// instead of [`Event::StoreFailed`].
    StoreLost {
        error: String,
    },
    /// Commits work again.
    StoreRecovered,
    /// Records that failed their checksum were skipped and deleted; with one of them as an example.
    StoreRecordsDamaged {
        count: u64,
        example: String,
    },
    /// All deliveries up to this one are on disk.
    StatesCommitted {
        through: Delivery,
    },
    /// All deliveries of a former session up to this one are on disk.
    FormerStatesCommitted {
        through: Delivery,
    },
    /// The answer to [`super::action::Action::ReadStates`]; `next` continues it.
    StatesRead {
        read: ReadId,
        states: Vec<StateRecord>,
        next: Option<TopicName>,
    },
    /// The changes of [`super::action::Action::WriteStates`] are on disk.
    StatesWritten {
        write: WriteId,
        /// The number of states that were put, or existed and were deleted.
        changed: usize,
    },
    /// The last [`super::action::Action::SaveDevices`] is on disk.
    DevicesSaved,

    /// The records of the past can be read and written. It is reported again when they begin anew.
    HistoryOpened(Box<HistorySnapshot>),
    /// The last [`super::action::Action::SaveHistory`] is on disk.
    HistorySaved,
    /// The answer to [`super::action::Action::ReadFigures`].
    FiguresRead(Vec<PastFigures>),
    /// They cannot be written for now. What waits is kept and tried again.
    HistoryFailed {
        error: String,
    },
    HistoryBack,
    /// They were damaged and are in another file now; new ones begin.
    HistoryPutAside {
        path: String,
        error: String,
    },
    /// The directory at this path was removed, replaced or covered by a mount while in use: what is
    /// found there is used, or new ones begin.
    HistoryReplaced {
        path: String,
    },

    /// The service manager answers; these are all units that carry this instance's marker.
    ManagerConnected {
        units: Vec<UnitReport>,
    },
    /// The bus or the service manager is gone, with the reason. Reported once per change.
    ManagerLost {
        reason: String,
    },
    /// A property of a unit changed, or it appeared.
    UnitChanged(Box<UnitReport>),
    /// What units use, reported each minute of those that run, and once of one that has ended.
    UnitsMeasured(Vec<UnitUsage>),
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
    /// The status page is not available, with the reason. Reported once per change.
    PageFailed {
        error: String,
    },
    /// It is available again, at this address.
    PageBack {
        address: String,
    },
    /// Commands do not reach the monitor for this reason. Reported once per change.
    BusNameRefused {
        reason: String,
    },
    /// Commands reach the monitor again.
    BusNameBack,
    /// Whether the system is going down, in which case nothing is started; reported with each
    /// connection and when it changes, because a shutdown can be cancelled.
    SystemState {
        stopping: bool,
    },

    /// What the nodes of a cluster share has changed.
    Cluster(ClusterFact),

    /// A new configuration is in force.
    Reconfigured(Box<MonitorSpec>),
    /// A person enabled or disabled a device. The name was looked up before.
    Enabled {
        device: DeviceName,
    },
    Disabled {
        device: DeviceName,
    },
    /// A person disabled a device for this long, on the boot clock.
    Paused {
        device: DeviceName,
        span: Duration,
    },
    /// A person suppressed notifications for this long: about a device, or about everything.
    Silenced {
        device: Option<DeviceName>,
        span: Duration,
    },
    /// A person resumed notifications.
    Unsilenced {
        device: Option<DeviceName>,
    },
    /// A person tests the way of alerts about a device, or of those that concern none.
    NotificationTested {
        device: Option<DeviceName>,
    },
    /// A person requested a restore of a device's states, or a restart of an agent.
    RestoreRequested {
        device: DeviceName,
    },
    RestartRequested {
        device: DeviceName,
    },
    /// A person took a learned device out of its fleet.
    Forgotten {
        device: DeviceName,
    },
    /// A person sets or deletes states.
    StatesOrdered {
        write: WriteId,
        order: StateOrder,
    },
    /// The process is about to end: last messages, no new work.
    Stopping,
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::size_of;

    /// Every message is moved into the queue and out of it again.
    #[test]
    fn no_event_is_much_larger_than_a_message() {
        assert_eq!(size_of::<Event>(), 104);
    }
}
