//! What the monitor wants done, as imperatives. Adapters carry them out in order.

use super::alert::Alert;
use super::event::{Connection, Delivery, QoS, ReadId, StateRecord, Token, WriteId};
use super::identity::IdentityRecord;
use super::notice::Notice;
use super::snapshot::{DeviceRecord, Heartbeat};
use super::spec::{AgentSpec, DeviceName};
use crate::topic::{TopicFilter, TopicName};
use crate::unit_name::UnitName;
use bytes::Bytes;

/// Everything the monitor can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Publish. At QoS 1 it is kept until acknowledged, across reconnections, and replaced by a
    /// later publication on the same topic; at QoS 0 it is dropped when there is no connection.
    Publish(Publication),
    /// Subscribe to all of these in as few packets as the broker takes, in this order relative to
    /// publications on the same connection; then report [`super::Event::Subscribed`].
    Subscribe {
        connection: Connection,
        subscriptions: Vec<Subscription>,
    },
    Unsubscribe {
        connection: Connection,
        filters: Vec<TopicFilter>,
    },
    /// Acknowledge everything on the state connection up to this delivery, in order of receipt
    /// (MQTT-4.6.0-2). Deliveries of an earlier connection are passed over.
    Acknowledge {
        through: Delivery,
    },

    /// Record what a delivery brought, then report [`super::Event::StatesCommitted`]. Every
    /// delivery gets one, in order, so that acknowledgements keep the order of receipt.
    Record {
        delivery: Delivery,
        change: StateChange,
    },
    /// Make these changes of recorded states, of which no delivery waits to be acknowledged, then
    /// report [`super::Event::StatesWritten`]. With `keep_newer` a state is put only where none of
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
    /// Keep what is known of these devices, drop what is known of those that left; then report
    /// [`super::Event::DevicesSaved`]. At most one is outstanding.
    SaveDevices {
        heartbeat: Heartbeat,
        changed: Vec<DeviceRecord>,
        gone: Vec<DeviceName>,
    },
    /// Keep the set of filters that the persistent session is subscribed to.
    SaveSessionFilters(Vec<TopicFilter>),
    /// Keep under which identity the store is used, and which former ones are to be taken down.
    SaveIdentity(IdentityRecord),

    /// Create and start the agent's transient unit; an existing one that has ended is cleared away
    /// first, a living one is left as it is. Report [`super::Event::StartFinished`].
    StartUnit {
        device: DeviceName,
        agent: Box<AgentSpec>,
        definition: String,
    },
    /// Stop the unit and clear it away, then report [`super::Event::StopFinished`].
    StopUnit {
        unit: UnitName,
    },

    /// Tell a person: one journal entry.
    Raise(Alert),
    /// Tell the programs that look on. Who does not listen misses it.
    Notify(Box<Notice>),
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub connection: Connection,
    pub topic: TopicName,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// Marks a restored state with the user property of [`RESTORED_PROPERTY`] (MQTT 5 only).
    pub restored: bool,
    /// Asks for [`super::Event::Published`]; QoS 1 only. One that is replaced by a later
    /// publication is reported as published too.
    pub token: Option<Token>,
}

/// Name of the user property of a restored state; its value is the clientid.
pub const RESTORED_PROPERTY: &str = "iotmonitor-restored";

/// One entry of a SUBSCRIBE packet. The options that depend on the connection (retain handling,
/// retain-as-published) are the MQTT adapter's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub filter: TopicFilter,
    pub qos: QoS,
    /// Whether the retained message is wanted on the watch connection too, which in MQTT 5 gets none
    /// unasked; the state connection gets them all.
    pub replay: bool,
}

/// What a delivery means for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Not a state: a marker, an echo, an own message.
    Nothing,
    Put(StateRecord),
    /// A retained empty message in MQTT 5.
    Forget(TopicName),
}
