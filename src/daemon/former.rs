//! The connection for a former identity, beside the two permanent ones. There is one at a time, and
//! only for as long as there is something to do.
//!
//! The watchdog does not cover it, because its work can wait for the next start.

use super::unrecorded::Unrecorded;
use crate::mqtt::settings::MqttSettings;
use crate::mqtt::{self, ConnectionOptions, MqttHandle};
use crate::pulse::Pulse;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Delivery, FormerPart};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The time limit of the disconnection.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct FormerLink {
    open: Option<Open>,
}

struct Open {
    handle: MqttHandle,
    settings: MqttSettings,
    /// Deliveries for which the store had no room.
    unrecorded: Unrecorded,
}

impl FormerLink {
    /// Connects, in place of an earlier connection.
    pub fn connect(
        &mut self,
        part: FormerPart,
        settings: MqttSettings,
        events: mpsc::Sender<Event>,
    ) {
        self.disconnect();
        let handle = mqtt::spawn(
            Connection::Former(part),
            settings.clone(),
            ConnectionOptions::default(),
            events,
            Pulse::new(),
        );
        self.open = Some(Open { handle, settings, unrecorded: Unrecorded::default() });
    }

    /// Disconnects from the broker without waiting.
    pub fn disconnect(&mut self) {
        if let Some(Open { handle, .. }) = self.open.take() {
            tokio::spawn(async move { handle.close(Instant::now() + FAREWELL).await });
        }
    }

    /// Returns the connection for publications and subscriptions.
    pub fn handle(&self) -> Option<&MqttHandle> {
        self.open.as_ref().map(|open| &open.handle)
    }

    /// The connection is established again: the broker repeats everything that was not
    /// acknowledged.
    pub fn connected(&mut self) {
        if let Some(open) = &mut self.open {
            open.unrecorded.connected();
        }
    }

    /// Whether a delivery may be recorded, as opposed to one that follows a delivery that could not
    /// be.
    pub fn may_record(&mut self, delivery: Delivery) -> bool {
        self.open.as_mut().is_some_and(|open| !open.unrecorded.passes_over(delivery))
    }

    /// The store had no room for this delivery.
    pub fn not_recorded(&mut self, delivery: Delivery) {
        if let Some(open) = &mut self.open {
            open.unrecorded.begin(delivery);
        }
    }

    /// The store has room again.
    pub fn store_progressed(&mut self) {
        if let Some(open) = &mut self.open
            && open.unrecorded.has_room()
        {
            open.handle.reconnect(open.settings.clone());
        }
    }

    pub fn acknowledge(&self, through: Delivery) {
        let Some(open) = &self.open else { return };
        if open.unrecorded.may_acknowledge(through) {
            open.handle.acknowledge(through);
        }
    }
}
