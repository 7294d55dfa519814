//! The parts of the monitor's knowledge that outlive the process, and when they are passed to the
//! store.
//!
//! Contacts are saved in rounds, once a minute; an expiry, a recovery and a person's choice start a
//! round at once, as does a contact after more than a minute and more than half of the device's timeout.
//! A round goes out in batches, one at a time, and later changes wait for the next round.

use crate::machines::save_queue::{Batch, LARGEST_BATCH};
use crate::model::action::Action;
use crate::model::device_id::DeviceId;
use crate::model::snapshot::{DeviceRecord, Heartbeat};
use crate::monitor::Monitor;
use crate::monitor::devices::Devices;
use crate::monitor::turn::Turn;
use std::time::Duration;

/// The interval at which contacts and the watched time are saved.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(60);

impl Monitor {
    pub(super) fn devices_saved(&mut self, turn: &mut Turn<'_>) {
        self.saving.saved();
        self.flush_saves(turn);
    }

    /// A loss has shown that less time was watched than assumed.
    pub(super) fn save_less_watched(&mut self, turn: &mut Turn<'_>) {
        if self.saving.watched_less(turn.watched) {
            self.flush_saves(turn);
        }
    }

    pub(super) fn flush_saves(&mut self, turn: &mut Turn<'_>) {
        // An undelivered alert is saved with its subject.
        self.note_alerts(turn);
        let devices = &mut self.devices;
        let begin = |changed| begin_round(devices, changed);
        if let Some(batch) = self.saving.next_batch(turn.watched, begin) {
            self.save(turn, batch);
        }
    }

    /// Saves everything at the end, when no further batch can follow.
    pub(super) fn save_everything(&mut self, turn: &mut Turn<'_>) {
        self.note_alerts(turn);
        let devices = &mut self.devices;
        let begin = |changed| begin_round(devices, changed);
        if let Some(batch) = self.saving.last_batch(turn.watched, begin) {
            self.save(turn, batch);
        }
    }

    fn save(&self, turn: &mut Turn<'_>, batch: Batch) {
        let announced = self.discovery_prefix();
        let record_of = |&id: &DeviceId| {
            let record = self.devices[id].record(announced);
            let pause = self.pauses.record(&record.name, turn.now.boot);
            let fleet = self.fleet_of(&self.devices[id]).cloned();
            DeviceRecord { pause, unheard: self.unheard_of(&record.name), fleet, ..record }
        };
        let forgotten =
            batch.forgotten.iter().filter_map(|name| self.fleets.forgotten().record(name));
        let changed = batch.changed.iter().map(record_of).chain(forgotten).collect();
        let alerts = self.alerts_record(turn);
        let heartbeat =
            Heartbeat { watched: turn.watched, alerts, full_fleets: self.fleets.full() };
        turn.out.push(Action::SaveDevices {
            heartbeat: Box::new(heartbeat),
            changed,
            gone: batch.gone,
        });
    }
}

/// The devices that have changed wait no longer. Where they need several batches, they go out in the order
/// of their names: the store keeps neighbours on one page, so that each page is then in one batch instead of
/// in all of them.
fn begin_round(devices: &mut Devices, changed: Vec<DeviceId>) -> Vec<DeviceId> {
    let ordered = if changed.len() > LARGEST_BATCH {
        devices.named_after(None).filter(|&id| devices[id].dirty).collect()
    } else {
        changed
    };
    ordered.iter().for_each(|&id| devices[id].dirty = false);
    ordered
}
