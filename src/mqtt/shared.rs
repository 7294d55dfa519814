//! The state that a handle and its task share: the waiting commands.

use super::outbox::Outbox;
use super::settings::MqttSettings;
use iotmonitor_core::model::message::{Delivery, Token};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) struct ConnectionShared {
    state: Mutex<ConnectionState>,
    wake: Notify,
}

pub(super) struct ConnectionState {
    pub outbox: Outbox,
    /// Whether there is a connection for commands that belong to the present one.
    pub connected: bool,
    /// The number of connections that were reported, and the number of reports that the core is
    /// about to process. Between the two, the core's commands still concern an earlier connection.
    pub reported: u64,
    pub heard: u64,
    /// The newest acknowledgement that has not been carried out yet; each covers all before it.
    pub acknowledged: Option<Delivery>,
    pub settings: MqttSettings,
    pub settings_changed: bool,
    /// Nothing of the present connection may arrive any more.
    pub severing: bool,
    /// The deadline of the closing, once it has been requested.
    pub closing: Option<Instant>,
    pub discarded: u64,
}

impl ConnectionState {
    /// Whether a command of the core that belongs to the present connection alone is meant for it.
    pub(super) fn is_attended(&self) -> bool {
        self.connected && self.reported == self.heard
    }
}

impl ConnectionShared {
    pub(super) fn new(settings: MqttSettings) -> Self {
        let state = ConnectionState {
            outbox: Outbox::default(),
            connected: false,
            reported: 0,
            heard: 0,
            acknowledged: None,
            settings,
            settings_changed: false,
            severing: false,
            closing: None,
            discarded: 0,
        };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, ConnectionState> {
        // A panic elsewhere leaves no partial change that would matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a command that arrived since the last check.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes a token of a publication that was replaced before it was sent.
    pub(super) fn pop_replaced(&self) -> Option<Token> {
        self.lock().outbox.pop_replaced()
    }
}
