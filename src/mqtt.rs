//! The MQTT adapter: packets become events, actions become packets.
//!
//! Each connection is one task ([`spawn`]) and a handle. The handle's methods never wait: commands
//! lie in an outbox behind a mutex that is held for moments only. The task goes round attempts
//! (`task`), sessions (`session`) and waits (`backoff`); a `link` is a stream with two buffers,
//! `dial` and `transport` open it, and `wire` translates packets of MQTT 5 and 3.1.1 into common ones.
//!
//! The packets are those of rumqttc-next, the continuation of rumqttc, in its two crates for the
//! two versions; its event loop is not used. It has its own mind in the very things that matter
//! here: it sends subscriptions and publications from two queues, so their order is not that of
//! the calls; it has no way to stop reading and go on writing; after a restart of the process it
//! rejects what is published and subscribed in a session that only the broker remembers; it keeps
//! and resends publications beside the outbox, and drops them when the session is gone; a peer
//! that says nothing holds up its `poll`. With packets alone, all of that is decided here.
//! rumqttc 0.25, its forerunner, uses twice the processor time for a message and moves slowly.
//!
//! The core determines the subscriptions after each `Connected`. QoS 2 is not supported, because no
//! subscription requests it.

mod backoff;
pub mod certificates;
mod dial;
mod filters;
mod ledger;
mod link;
mod outbox;
mod pair;
mod session;
pub mod settings;
mod shared;
mod stall;
mod stream;
mod suspects;
mod task;
mod tls;
mod transport;
mod trouble;
mod websocket;
mod wire;

#[cfg(any(test, fuzzing))]
pub use wire::fuzz as fuzz_packets;

use crate::pulse::Pulse;
use bytes::Bytes;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, Delivery, Lifetime, Publication, QoS, Subscription,
};
use iotmonitor_core::topic::{TopicFilter, TopicName};
pub use pair::Pair;
use settings::MqttSettings;
use shared::ConnectionShared;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use task::{ConnectionTask, History};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// What one connection has that the other has not.
#[derive(Debug, Clone, Default)]
pub struct ConnectionOptions {
    /// What the broker publishes when the connection ends without a farewell.
    pub will: Option<Will>,
    /// What tells it of the monitor's other connection, where there is one.
    pub pair: Option<Pair>,
}

/// A will (MQTT 5, 3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: TopicName,
    pub payload: Bytes,
    pub retain: bool,
    pub qos: QoS,
}

/// Commands one connection; clones command the same one. No method waits but [`Self::close`].
#[derive(Clone)]
pub struct MqttHandle {
    shared: Arc<ConnectionShared>,
    done: watch::Receiver<bool>,
}

/// Starts a connection's task on the present runtime. It connects, and connects again whenever it
/// has to, until it is closed or nobody receives its events.
///
/// `events` is bounded: when it is full, the task stops reading from the broker until there is
/// room, and goes on with commands, pings and `pulse`.
pub fn spawn(
    connection: Connection,
    settings: MqttSettings,
    options: ConnectionOptions,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) -> MqttHandle {
    let shared = Arc::new(ConnectionShared::new(settings));
    let (done_sender, done) = watch::channel(false);
    let task = ConnectionTask {
        connection,
        options,
        shared: Arc::clone(&shared),
        events,
        pulse,
        done: done_sender,
        history: History::new(),
    };
    tokio::spawn(task.run());
    MqttHandle { shared, done }
}

impl MqttHandle {
    /// Sends a message, in the order of the calls on this connection. At QoS 1 it is kept until
    /// acknowledged, across reconnections where its lifetime is not that of its connection, and gives way to a later one on the same topic as long
    /// as it was not sent; at QoS 0 it is dropped when there is no connection.
    pub fn publish(&self, publication: Publication) {
        let mut state = self.shared.lock();
        let is_dropped = match publication.lifetime {
            Lifetime::Connection => !state.is_attended(),
            Lifetime::UntilAnswered => publication.qos == QoS::AtMostOnce && !state.connected,
        };
        if is_dropped {
            return;
        }
        state.outbox.publish(publication);
        drop(state);
        self.shared.wake();
    }

    /// Notes that what is commanded from now on answers to the next [`Event::Connected`]: called
    /// once for each, by whoever publishes what belongs to its connection.
    pub fn attend(&self) {
        self.shared.lock().heard += 1;
    }

    /// Subscribes, after what was published before and before what is published later; then comes
    /// [`Event::Subscribed`], once for all calls that were not answered yet. Without a connection
    /// nothing happens, since the next [`Event::Connected`] asks for it anyway.
    pub fn subscribe(&self, subscriptions: Vec<Subscription>) {
        let mut state = self.shared.lock();
        if state.connected {
            state.outbox.subscribe(subscriptions);
            drop(state);
            self.shared.wake();
        }
    }

    /// Ends subscriptions, in the same order as [`Self::subscribe`]; nothing is reported.
    pub fn unsubscribe(&self, filters: Vec<TopicFilter>) {
        let mut state = self.shared.lock();
        if state.connected && !filters.is_empty() {
            state.outbox.unsubscribe(filters);
            drop(state);
            self.shared.wake();
        }
    }

    /// Acknowledges everything up to this delivery, in the order of receipt (MQTT-4.6.0-2). One
    /// of an earlier connection changes nothing: the broker sends that message again.
    pub fn acknowledge(&self, through: Delivery) {
        let mut state = self.shared.lock();
        state.acknowledged = state.acknowledged.max(Some(through));
        drop(state);
        self.shared.wake();
    }

    /// Takes leave of the broker and connects with other settings. What is unacknowledged stays.
    pub fn reconnect(&self, settings: MqttSettings) {
        let mut state = self.shared.lock();
        state.settings = settings;
        state.settings_changed = true;
        drop(state);
        self.shared.wake();
    }

    /// Waits until everything published is acknowledged, at most until the deadline, and takes
    /// leave cleanly, so that the will is not published. Without a connection it ends at once.
    pub async fn close(&self, deadline: Instant) {
        self.shared.lock().closing = Some(deadline);
        self.shared.wake();
        let mut done = self.done.clone();
        // Past the deadline comes only the farewell, which has its own limit; should the task be
        // gone, there is nothing to wait for either.
        let _ended =
            timeout_at(deadline + Duration::from_secs(1), done.wait_for(|done| *done)).await;
    }

    /// How many messages were dropped since the start because they broke MQTT's rules for topics,
    /// or were larger than the broker takes.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.shared.lock().discarded
    }
}

impl fmt::Debug for MqttHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttHandle").finish_non_exhaustive()
    }
}
