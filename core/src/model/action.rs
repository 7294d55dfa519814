//! The actions that the monitor requests, as imperatives. Adapters carry them out in order.

use super::alert::Alert;
use super::cluster::sharing::{ClusterReply, Tenure};
use super::device_name::DeviceName;
use super::history::HistoryBatch;
use super::identity::IdentityRecord;
use super::message::{Connection, Delivery, FormerPart, Publication, Subscription};
use super::notice::Notice;
use super::notification::Notification;
use super::snapshot::{DeviceRecord, Heartbeat};
use super::spec::AgentSpec;
use super::state::{ReadId, StateChange, WriteId};
use crate::model::unit_name::UnitName;
use crate::topic::{TopicFilter, TopicName};
use std::collections::BTreeSet;

/// Everything the monitor can request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Publish. At QoS 1 it is kept until acknowledged, across reconnections, and replaced by a
    /// later publication on the same topic; at QoS 0 it is dropped when there is no connection.
    Publish(Publication),
    /// Subscribe to all of these in as few packets as the broker accepts, in this order relative to
    /// publications on the same connection; then report [`super::event::Event::Subscribed`].
    Subscribe {
        connection: Connection,
        subscriptions: Vec<Subscription>,
    },
    Unsubscribe {
        connection: Connection,
        filters: Vec<TopicFilter>,
    },
    /// Acknowledge everything on the state connection up to this delivery, in order of receipt
    /// (MQTT-4.6.0-2). Deliveries of an earlier connection are ignored.
    Acknowledge {
        through: Delivery,
    },

    /// Connect for a former identity with this clientid, to which `-states` is appended where it is
    /// for its session, in place of an earlier connection for one.
    ConnectFormer {
        part: FormerPart,
        client_id: String,
    },
    /// Disconnect from the broker on that connection.
    DisconnectFormer,
    /// As [`Action::Acknowledge`], on that connection.
    AcknowledgeFormer {
        through: Delivery,
    },
    /// As [`Action::Record`], of that connection; reports [`super::event::Event::FormerStatesCommitted`].
    RecordFormer {
        delivery: Delivery,
        change: StateChange,
    },

    /// Record the result of a delivery, then report [`super::event::Event::StatesCommitted`]. Every
    /// delivery gets one, in order, so that acknowledgements keep the order of receipt.
    Record {
        delivery: Delivery,
        change: StateChange,
    },
    /// Make these changes of recorded states, of which no delivery waits to be acknowledged, then
    /// report [`super::event::Event::StatesWritten`]. With `keep_newer` a state is put only where none of
    /// a later microsecond is recorded.
    WriteStates {
        write: WriteId,
        changes: Vec<StateChange>,
        keep_newer: bool,
    },
    /// Read recorded states that match any of the filters, or all where there is no filter, in
    /// topic order, from `after` (exclusive) on, about 100 states or 1 MiB at a time.
    ReadStates {
        read: ReadId,
        filters: Vec<TopicFilter>,
        after: Option<TopicName>,
    },
    /// Save the records of these devices, and delete those of removed ones; then report
    /// [`super::event::Event::DevicesSaved`]. At most one is outstanding.
    SaveDevices {
        heartbeat: Box<Heartbeat>,
        changed: Vec<DeviceRecord>,
        gone: Vec<DeviceName>,
    },
    /// Record these parts of the past, then report [`super::event::Event::HistorySaved`]. At most one
    /// is outstanding, but for the last one of a run.
    SaveHistory(Box<HistoryBatch>),
    /// Read the figures of the past of all devices, then report
    /// [`super::event::Event::FiguresRead`], unless they cannot be read.
    ReadFigures,
    /// Save the set of filters that the persistent session is subscribed to.
    SaveSessionFilters(Vec<TopicFilter>),
    /// Save the identity under which the store is used, and the former ones that must be removed.
    SaveIdentity(Box<IdentityRecord>),

    /// Create and start the agent's transient unit; an existing one that has ended is removed
    /// first, a living one is left unchanged. Report [`super::event::Event::StartFinished`].
    StartUnit {
        device: DeviceName,
        agent: Box<AgentSpec>,
        definition: String,
        /// The right to run an agent that several nodes share.
        tenure: Option<Tenure>,
    },
    /// Stop the unit and remove it, then report [`super::event::Event::StopFinished`].
    StopUnit {
        unit: UnitName,
    },

    /// Answer the cluster.
    Reply(ClusterReply),
    /// Drop what the broker has not acknowledged of the publications about these devices below the
    /// base topic: another node speaks of them.
    Withdraw {
        devices: BTreeSet<DeviceName>,
    },
    /// End the state connection so that nothing that is on its way, in either direction, arrives later,
    /// and connect again.
    Sever,

    /// Stop and remove those of these units that carry the marker of the clientid, unless a monitor
    /// of this machine uses it; then report [`super::event::Event::FormerUnitsStopped`].
    StopFormerUnits {
        client_id: String,
        units: Vec<UnitName>,
    },

    /// Report to people: one journal entry.
    Raise(Alert),
    /// Notify people elsewhere: start the unit with its file, and report
    /// [`super::event::Event::NotificationEnded`]. The file is kept where that fails.
    SendNotification(Box<Notification>),
    /// The file of an instance that has failed is no longer needed.
    DropNotification {
        instance: String,
    },
    /// Notify connected clients. A client that does not listen misses it.
    Notify(Notice),
}
