//! The MQTT adapter: packets become events, actions become packets.
//!
//! Each connection is one task ([`spawn`]) and a handle. The handle's methods never wait: commands
//! lie in an outbox behind a mutex that is held only briefly. The task alternates between attempts
//! (`task`), sessions (`session`) and delays (`backoff`); a `link` is a stream with two buffers,
//! `dial` and `transport` open it, and `wire` translates packets of MQTT 5 and 3.1.1 into common
//! ones.
//!
//! The packets are those of rumqttc-next, the continuation of rumqttc, in its two crates for the
//! two versions; its event loop is not used. The event loop lacks what is needed here: it sends
//! subscriptions and publications from two queues, so their order is not that of the calls; it
//! cannot stop reading and continue writing; after a restart of the process it rejects publications
//! and subscriptions of a session that only the broker remembers; it keeps and resends publications
//! beside the outbox, and drops them when the session is gone; a silent peer blocks its `poll`.
//! With packets alone, all of that is decided here. rumqttc 0.25, its predecessor, uses twice the
//! processor time for a message and is rarely updated.
//!
//! The core determines the subscriptions after each `Connected`. QoS 2 is not supported, because no
//! subscription requests it.

mod backoff;
mod density;
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
mod tcp;
mod ticker;
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

/// The differences between the two connections.
#[derive(Debug, Clone, Default)]
pub struct ConnectionOptions {
    /// The message that the broker publishes when the connection ends without a DISCONNECT.
    pub will: Option<Will>,
    /// The link to the monitor's other connection, where there is one.
    pub pair: Option<Pair>,
    pub client: Client,
    /// After this long without an acknowledgement of TCP the kernel gives the connection up, and
    /// with it what it has not sent, also after the process has ended (`TCP_USER_TIMEOUT` in tcp(7)).
    /// Otherwise it would send that when the network is whole again.
    pub gives_up_after: Option<Duration>,
}

/// The program that a connection is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Client {
    #[default]
    Monitor,
    /// Its state connection is the persistent session `CLIENTID-recorder`. Every message is
    /// reported, those of restored states too, and the retain flag marks the messages that the
    /// broker had kept before the subscription; in MQTT 5 these come with new subscriptions alone.
    Recorder,
}

/// A will (MQTT 5, 3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: TopicName,
    pub payload: Bytes,
    pub retain: bool,
    pub qos: QoS,
}

/// A handle to one connection; clones refer to the same one. No method waits but [`Self::close`].
#[derive(Clone)]
pub struct MqttHandle {
    shared: Arc<ConnectionShared>,
    done: watch::Receiver<bool>,
}

/// Starts a connection's task on the present runtime. It connects, and reconnects whenever
/// necessary, until it is closed or the receiver of its events is gone.
///
/// `events` is bounded: when it is full, the task stops reading from the broker until there is
/// room, and continues with commands, pings and `pulse`.
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
    /// acknowledged, across reconnections unless its lifetime is that of its connection, and is
    /// replaced by a later one on the same topic as long as it has not been sent; at QoS 0 it is
    /// dropped when there is no connection.
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

    /// Notes that the following commands answer the next [`Event::Connected`]. It is called once
    /// for each, by the caller that publishes messages belonging to the connection.
    pub fn attend(&self) {
        self.shared.lock().heard += 1;
    }

    /// Subscribes, after earlier publications and before later ones; then [`Event::Subscribed`]
    /// follows, once for all calls that were not answered yet. Without a connection nothing
    /// happens, because the next [`Event::Connected`] leads to the same request.
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

    /// Acknowledges everything up to this delivery, in the order of receipt (MQTT-4.6.0-2). A
    /// delivery of an earlier connection is ignored: the broker sends that message again.
    pub fn acknowledge(&self, through: Delivery) {
        let mut state = self.shared.lock();
        state.acknowledged = state.acknowledged.max(Some(through));
        drop(state);
        self.shared.wake();
    }

    /// Disconnects from the broker and connects with other settings. Unacknowledged publications
    /// stay.
    pub fn reconnect(&self, settings: MqttSettings) {
        let mut state = self.shared.lock();
        state.settings = settings;
        state.settings_changed = true;
        drop(state);
        self.shared.wake();
    }

    /// Drops the publications on these topics that have not been sent. Those that were sent are not
    /// sent again.
    pub fn withdraw(&self, is_withdrawn: impl Fn(&TopicName) -> bool) {
        self.shared.lock().outbox.withdraw(is_withdrawn);
        self.shared.wake();
    }

    /// Ends the connection so that nothing arrives any more of what the kernel has not sent, drops
    /// what belongs to the connection, and connects again.
    pub fn sever(&self) {
        let mut state = self.shared.lock();
        state.severing = state.connected;
        drop(state);
        self.shared.wake();
    }

    /// Waits until everything published is acknowledged, at most until the deadline, and
    /// disconnects cleanly, so that the will is not published. Without a connection it returns at
    /// once.
    pub async fn close(&self, deadline: Instant) {
        self.shared.lock().closing = Some(deadline);
        self.shared.wake();
        let mut done = self.done.clone();
        // After the deadline only the DISCONNECT remains, which has its own limit; if the task is
        // gone, there is nothing to wait for either.
        let _ended =
            timeout_at(deadline + Duration::from_secs(1), done.wait_for(|done| *done)).await;
    }

    /// The number of messages dropped since the start because they violated MQTT's rules for
    /// topics, or were larger than the broker accepts.
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
