//! What a handle and its task share: the commands that wait.

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
    /// Whether commands for the present connection have one to go to.
    pub connected: bool,
    /// Connections that were reported, and reports that the core is about to hear of. Between the
    /// two it still speaks of an earlier connection.
    pub reported: u64,
    pub heard: u64,
    /// The newest acknowledgement that was not carried out yet; each covers all before it.
    pub acknowledged: Option<Delivery>,
    pub settings: MqttSettings,
    pub settings_changed: bool,
    /// The deadline of the closing, once it is asked for.
    pub closing: Option<Instant>,
    pub discarded: u64,
}

impl ConnectionState {
    /// Whether what the core asks for now, and for the present connection alone, is meant for it.
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
            closing: None,
            discarded: 0,
        };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, ConnectionState> {
        // A panic elsewhere leaves no half-done change worth stopping for.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a command that came since the last look.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// A token of a publication that was replaced before it was sent.
    pub(super) fn pop_replaced(&self) -> Option<Token> {
        self.lock().outbox.pop_replaced()
    }
}
