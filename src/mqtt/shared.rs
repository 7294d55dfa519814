//! What a handle and its task share: the commands that wait.

use super::outbox::Outbox;
use super::settings::MqttSettings;
use iotmonitor_core::model::message::{Delivery, Token};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

pub(super) struct State {
    pub outbox: Outbox,
    /// Whether commands for the present connection have one to go to.
    pub connected: bool,
    /// The newest acknowledgement that was not carried out yet; each covers all before it.
    pub acknowledged: Option<Delivery>,
    pub settings: MqttSettings,
    pub settings_changed: bool,
    /// The deadline of the closing, once it is asked for.
    pub closing: Option<Instant>,
    pub discarded: u64,
}

impl Shared {
    pub(super) fn new(settings: MqttSettings) -> Self {
        let state = State {
            outbox: Outbox::default(),
            connected: false,
            acknowledged: None,
            settings,
            settings_changed: false,
            closing: None,
            discarded: 0,
        };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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
