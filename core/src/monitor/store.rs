//! Processes the store's reports, and the round in which contacts are saved.

use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::snapshot::{DeviceRecord, Snapshot};
use crate::model::status::StatusWord;
use crate::model::view::Liveness;
use crate::monitor::saving::SAVE_INTERVAL;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

impl Monitor {
    pub(super) fn save_due(&mut self, turn: &mut Turn<'_>) {
        self.timers.push(turn.now.mono + SAVE_INTERVAL, Timer::Save);
        self.save_pauses();
        self.refresh_timeouts(turn);
        self.refresh_statuses(turn);
        self.saving.interval_passed(turn.watched);
        self.flush_saves(turn);
    }

    /// Takes over the records of earlier runs. The findings of this run are newer and stay.
    pub(super) fn store_opened(&mut self, turn: &mut Turn<'_>, snapshot: Snapshot) {
        if !self.saving.store_read() {
            return;
        }
        let earlier = snapshot.heartbeat.watched;
        self.clock.carry_over(earlier);
        turn.watched = self.clock.at(turn.now.mono);
        for device in self.devices.iter_mut() {
            device.carry_over(earlier);
        }
        self.meet_identity(turn, snapshot.identity, &snapshot.devices);
        self.readmit_members(turn, &snapshot.devices);
        if !self.takedown.is_copied() {
            self.resume_alerts(turn, snapshot.heartbeat.alerts);
        }
        for record in snapshot.devices {
            if record.forgotten {
                continue;
            }
            if !self.takedown.is_copied() {
                self.settle_announcement(turn, &record);
            }
            match self.id_named(&record.name) {
                Some(id) => self.take_over(turn, id, &record, earlier),
                None => {
                    if !self.takedown.is_copied() && self.speaks_for_house() {
                        let below = format!("status/{}", record.name);
                        turn.out.push(self.clearing(&below));
                    }
                    // A name that was forgotten meanwhile has a newer record, which replaces this.
                    if !self.fleets.forgotten().contains(record.name.as_str()) {
                        self.saving.left(record.name);
                    }
                    self.saving.hurry_if(true);
                }
            }
        }
        self.settle_dependents(turn);
        self.adopt_timeouts(turn.watched);
        self.disarm_all();
        self.arm_all();
        self.count_expired();
        self.watch_for_stability(turn);
        // Identities of another machine belong to it.
        let kept = !self.takedown.is_copied();
        let filters = if kept { snapshot.session_filters } else { Vec::new() };
        self.session_filters_known(filters);
        for id in self.devices.ids() {
            self.schedule_repeat(turn, id);
            // A device without a record gets one, so that its retained status is cleared when it
            // leaves the configuration while the monitor is down.
            if !self.devices[id].recorded {
                self.save_soon(id);
            }
        }
        if self.clock.is_running() {
            self.publish_all_statuses(turn);
        }
        self.settle_agents(turn);
        self.recall_availabilities(turn);
        self.resume_full_fleets(turn, snapshot.heartbeat.full_fleets);
        self.hear_early(turn);
        self.report_room(turn);
        self.start_notifications(turn);
        self.begin_history(turn);
        self.take_up_parts(turn);
        self.flush_saves(turn);
    }

    fn take_over(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        record: &DeviceRecord,
        earlier: Duration,
    ) {
        self.resume_pause(turn.now, record);
        if self.fleet_of(&self.devices[id]) != record.fleet.as_ref() {
            self.save_soon(id);
        }
        let device = &mut self.devices[id];
        device.recorded = true;
        device.restore_choices(record);
        device.resume_flaps(record, earlier);
        self.resume_unheard(turn.now.mono, id, record);
        self.recall_word(id, record);
        let device = &mut self.devices[id];
        if device.silence.last_contact().is_none() {
            device.restore(record, earlier);
            // The changes of the configuration in the meantime.
            let kept = device.record(None);
            let (expired, silent) = (record.expired_since, record.silent_since);
            if (kept.expired_since, kept.silent_since) != (expired, silent) {
                self.save_soon(id);
            }
            let device = &self.devices[id];
            if record.offline && device.is_here() && device.episode.is_open() {
                // It reported so before it was known that it had been gone.
                self.expired_count += 1;
                self.recover(turn, id);
                self.restart_silence(turn, id);
            }
        } else if record.expired_since.is_some() && device.is_enabled() {
            // The contact came before it was known that an alarm had been raised.
            self.recover_from(turn, id, record);
        }
    }

    /// An earlier process of this node has spoken of a device that is another's for now.
    fn recall_word(&mut self, id: DeviceId, record: &DeviceRecord) {
        let device = &self.devices[id];
        if let Some(since) = record.expired_since.filter(|_| device.monitoring.is_elsewhere()) {
            let word = StatusWord {
                state: Liveness::Expired,
                reason: Some(record.cause),
                since,
                last_contact: record.last_contact,
                is_unsent: record.unsent,
                is_owned: false,
                digest: 0,
            };
            self.standby.recall(id, word);
        }
    }

    /// Updates the descriptions that an earlier run has published for Home Assistant.
    fn settle_announcement(&mut self, turn: &mut Turn<'_>, record: &DeviceRecord) {
        let before = record.announced.as_deref();
        self.retract_if_stale(turn, before, &record.name);
        if before != self.discovery_prefix()
            && let Some(id) = self.id_named(&record.name)
        {
            self.save_soon(id);
        }
    }

    /// The store itself retries what is outstanding. Agents do not wait for it: one that a person
    /// disabled is stopped when the store can be read.
    pub(super) fn store_failed(&mut self, turn: &mut Turn<'_>, error: String) {
        self.store_fails = true;
        turn.raise(AlertKind::StoreFailed, error);
        self.settle_agents(turn);
        self.recall_availabilities(turn);
        self.hear_early(turn);
        self.begin_history(turn);
        self.take_up_parts(turn);
    }

    /// A new store has replaced a damaged one. The monitor's own knowledge is not lost with it.
    pub(super) fn store_put_aside(&mut self, turn: &mut Turn<'_>, path: &str, error: &str) {
        let message = format!(
            "the store was damaged ({error}); it was put aside as {path} and a new one was made: \
             recorded states start afresh"
        );
        turn.raise(AlertKind::StorePutAside, message);
        self.save_again(turn);
    }

    /// The store's files were removed while the monitor runs, or replaced by others.
    pub(super) fn store_replaced(&mut self, turn: &mut Turn<'_>, path: &str) {
        let message = format!(
            "the store in {path} was removed or replaced while it was in use, or another file \
             system was mounted there; the monitor now uses what is there, and states that were \
             recorded before are missing unless they are there as well"
        );
        turn.raise(AlertKind::StoreReplaced, message);
        self.save_again(turn);
    }

    /// Passes the complete state to a store that does not have it.
    fn save_again(&mut self, turn: &mut Turn<'_>) {
        self.learn_states_again(turn);
        if self.saving.is_store_read() {
            for id in self.devices.ids() {
                self.save_soon(id);
            }
            self.save_forgotten_again();
            turn.out.push(self.session_filters_again());
            let orders = self.takedown.save_again();
            self.take_down(turn, orders);
            self.flush_saves(turn);
        }
    }

    pub(super) fn store_recovered(&mut self, turn: &mut Turn<'_>) {
        self.store_fails = false;
        turn.raise(AlertKind::StoreBack, "the store works again; nothing was lost".to_owned());
    }
}
