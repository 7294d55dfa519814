//! Answers queries of people and programs: copies that are made for each request.

use super::Monitor;
use super::device::Device;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::view::{AgentView, DeviceView, NotificationsSummary, Summary};

impl Monitor {
    /// Figures of the whole monitoring.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            watching: self.clock.is_running(),
            devices: self.devices.len() - self.manager.agents,
            expired: self.expired_count,
            agents: self.manager.agents,
            agents_running: self.manager.running,
            store_fails: self.store_fails,
            names_refused: self.fleets.refused(),
            notifications: NotificationsSummary {
                pending: self.notifications.pending(),
                last_delivered: self.notifications.last_delivered(),
                silenced: self.mutes.covers(None),
            },
        }
    }

    /// Whether a device or an agent of this name is configured.
    #[must_use]
    pub fn knows(&self, name: &DeviceName) -> bool {
        self.id_named(name).is_some()
    }

    /// Whether an agent of this name is configured.
    #[must_use]
    pub fn knows_agent(&self, name: &DeviceName) -> bool {
        self.id_named(name).is_some_and(|id| self.devices[id].rare.agent().is_some())
    }

    pub(super) fn id_named(&self, name: &DeviceName) -> Option<DeviceId> {
        self.devices.named(name)
    }

    /// The device or agent of this name.
    #[must_use]
    pub fn view(&self, name: &DeviceName) -> Option<DeviceView> {
        self.id_named(name).map(|id| self.view_of(id))
    }

    /// At most `limit` devices by name, beginning after `after`.
    #[must_use]
    pub fn views_after(&self, after: Option<&DeviceName>, limit: usize) -> Vec<DeviceView> {
        self.devices.named_after(after).take(limit).map(|id| self.view_of(id)).collect()
    }

    /// The name of the fleet that learned a device.
    pub(super) fn fleet_of(&self, device: &Device) -> Option<&DeviceName> {
        device.spec.fleet.map(|fleet| &self.fleets.spec(fleet).name)
    }

    fn names_of(&self, ids: &[DeviceId]) -> Vec<String> {
        ids.iter().map(|&id| self.devices[id].spec.name.to_string()).collect()
    }

    pub(super) fn view_of(&self, id: DeviceId) -> DeviceView {
        let device = &self.devices[id];
        DeviceView {
            name: device.spec.name.to_string(),
            state: self.liveness_of(id),
            reason: self.reason_of(id).map(|reason| reason.as_str().to_owned()),
            since: self.since_of(id),
            fleet: self.fleet_of(device).map(ToString::to_string),
            area: self.areas.of(id).cloned(),
            depends_on: self.names_of(self.dependencies.parents(id)),
            last_contact: device.silence.last_contact(),
            watch_timeout: device.silence.timeout(),
            auto_timeout: device.silence.is_auto(),
            learned: device.silence.learned(self.clock.at(self.last_turn.mono)),
            hellos: device.hellos.into(),
            disabled_until: self
                .pauses
                .left(&device.spec.name, self.last_turn.boot)
                .map(|left| self.last_turn.wall + left),
            silenced_until: self
                .mutes
                .left(Some(&device.spec.name), self.last_turn.boot)
                .map(|left| self.last_turn.wall + left),
            node: self.node_of(id),
            epoch: self.epoch_of(id),
            is_unsent: self.sharing.is_some() && device.episode.hangs_on_another(),
            agent: device.rare.agent().map(|agent| AgentView {
                unit: agent.unit().to_string(),
                state: agent.unit_state().to_owned(),
                main_pid: agent.main_pid(),
                restarts: agent.restarts().into(),
                last_exit: agent.last_end().map(|end| end.how.clone()),
                last_exit_at: agent.last_end().map(|end| end.at),
                next_start: agent
                    .next_start()
                    .map(|until| self.last_turn.wall + until.saturating_sub(self.last_turn.mono)),
            }),
        }
    }
}
