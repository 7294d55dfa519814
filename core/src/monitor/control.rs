//! Orders of people about a device: to enable it, to disable it, or to disable it for a time.

use crate::machines::agent::Agent;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::snapshot::DeviceRecord;
use crate::model::time::Now;
use crate::model::words::RoundedDuration;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use std::time::Duration;

impl Monitor {
    /// A person enables or disables a device.
    pub(super) fn set_enabled(&mut self, turn: &mut Turn<'_>, name: &DeviceName, enabled: bool) {
        let Some(id) = self.id_named(name) else { return };
        self.pauses.end(name);
        let message = if enabled {
            format!("`{name}` is monitored again")
        } else {
            format!("`{name}` is disabled until `{} enable {name}`", self.command)
        };
        self.choose(turn, id, Some(enabled), message);
    }

    /// Applies a person's choice, or the section's where there is none. The message is used if that
    /// changes anything.
    pub(super) fn choose(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        choice: Option<bool>,
        message: String,
    ) {
        let device = &mut self.devices[id];
        let was = device.monitoring.is_wanted();
        device.monitoring.choose(choice);
        let enabled = device.monitoring.is_wanted();
        if was == enabled {
            self.save_soon(id);
            self.flush_saves(turn);
            return;
        }
        let kind = if enabled { AlertKind::Enabled } else { AlertKind::Disabled };
        // The node that has it reports it.
        let is_here = !self.devices[id].monitoring.is_elsewhere();
        self.monitoring_changed(turn, id, is_here.then_some((kind, message)));
    }

    /// Begins or ends the monitoring of a device, or its stay on this node.
    pub(super) fn monitoring_changed(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        alert: Option<(AlertKind, String)>,
    ) {
        self.drop_alarm(turn, id);
        let is_elsewhere = self.devices[id].monitoring.is_elsewhere();
        self.drive(turn, id, if is_elsewhere { Agent::stop_if_disabled } else { Agent::choose });
        self.dependencies.forget_counts();
        self.rose(turn, id);
        if self.devices[id].is_enabled() {
            self.restart_silence(turn, id);
        }
        self.report_state(turn, id);
        if let Some((kind, message)) = alert {
            turn.out.push(self.device_alert(id, kind, message));
        }
        self.recall_availability(turn, id);
        self.save_soon(id);
        self.flush_saves(turn);
    }

    /// A person disables a device for this long.
    pub(super) fn pause(&mut self, turn: &mut Turn<'_>, name: &DeviceName, span: Duration) {
        let Some(id) = self.id_named(name) else { return };
        let was_enabled = self.devices[id].monitoring.is_wanted();
        let enabled_before = self.devices[id].monitoring.choice() == Some(true);
        self.pauses.set(name.clone(), turn.now.boot, span, enabled_before);
        let message = format!(
            "`{name}` is disabled for {}, or until `{} enable {name}`",
            RoundedDuration(span),
            self.command
        );
        if was_enabled {
            self.choose(turn, id, Some(false), message);
        } else {
            if !self.devices[id].monitoring.is_elsewhere() {
                turn.out.push(self.device_alert(id, AlertKind::Disabled, message));
            }
            self.choose(turn, id, Some(false), String::new());
        }
    }

    /// Enables the devices whose time is over.
    pub(super) fn pauses_due(&mut self, turn: &mut Turn<'_>) {
        if self.pauses.next(turn.now.boot).is_none_or(|left| !left.is_zero()) {
            return;
        }
        for (name, enabled_before) in self.pauses.take_ended(turn.now.boot) {
            if let Some(id) = self.id_named(&name) {
                let message = format!("`{name}` is monitored again: its pause is over");
                self.choose(turn, id, enabled_before.then_some(true), message);
            }
        }
    }

    /// Continues a pause of an earlier run, unless this one has newer knowledge.
    pub(super) fn resume_pause(&mut self, now: Now, record: &DeviceRecord) {
        let Some(id) = self.id_named(&record.name) else { return };
        let chosen_since = self.devices[id].monitoring.choice().is_some();
        if let Some(pause) = record.pause.filter(|_| !chosen_since && record.enabled == Some(false))
        {
            self.pauses.resume(record.name.clone(), now.boot, pause);
        }
    }

    /// The remaining time is saved at intervals, because the clock starts again with each boot.
    pub(super) fn save_pauses(&mut self) {
        let names: Vec<DeviceName> = self.pauses.names().cloned().collect();
        for id in names.iter().filter_map(|name| self.id_named(name)).collect::<Vec<_>>() {
            self.save_soon(id);
        }
    }

    /// Whether it is enabled, on whichever node.
    #[must_use]
    pub fn is_enabled(&self, name: &DeviceName) -> bool {
        self.id_named(name).is_some_and(|id| self.devices[id].monitoring.is_wanted())
    }

    /// Whether its section enables it.
    #[must_use]
    pub fn is_enabled_by_its_section(&self, name: &DeviceName) -> bool {
        self.id_named(name).is_some_and(|id| self.devices[id].monitoring.by_section())
    }

    /// Whether a person has enabled it.
    #[must_use]
    pub fn is_enabled_by_choice(&self, name: &DeviceName) -> bool {
        self.id_named(name).is_some_and(|id| self.devices[id].monitoring.choice() == Some(true))
    }

    /// Whether its section disables it, and no person has chosen otherwise.
    #[must_use]
    pub fn is_disabled_by_its_section(&self, name: &DeviceName) -> bool {
        self.id_named(name).is_some_and(|id| {
            let device = &self.devices[id];
            !device.monitoring.by_section() && device.monitoring.choice().is_none()
        })
    }
}
