//! Applies a new configuration to a running monitor: whatever did not change continues.

use super::agent::agent_left;
use super::device::Device;
use super::devices::Devices;
use crate::machines::agent::Agent;
use crate::machines::areas::Areas;
use crate::machines::sharing::Sharing;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::spec::{DeviceSpec, MonitorSpec};
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use crate::topic::TopicName;
use crate::topic::index::TopicIndex;
use std::collections::BTreeMap;
use std::time::Duration;

impl Monitor {
    /// Applies a new configuration. Its clientid and base topic are those in force; the caller
    /// refuses others, because connections and units carry them.
    pub(super) fn reconfigure(&mut self, turn: &mut Turn<'_>, spec: MonitorSpec) {
        let restoring: Vec<DeviceName> = self
            .restores
            .abandon()
            .into_iter()
            .map(|id| self.devices[id].spec.name.clone())
            .collect();
        let mut plans_before = self.plans();
        if let Some(before) = self.plan_before.take() {
            plans_before.watch = before;
        }
        let members = self.members();
        let heard: Vec<_> = self
            .standby
            .take()
            .filter_map(|(id, entry)| Some((self.devices.get(id)?.spec.name.clone(), entry)))
            .collect();
        self.max_subscriptions = spec.max_subscriptions;
        self.covering.reloaded();
        self.identity_reconfigured(turn, &spec);
        self.disarm_all();
        self.saving.forget_devices();
        self.stale_statuses.clear();
        let announced = std::mem::replace(&mut self.home_assistant, spec.home_assistant).discovery;
        self.begin_uptimes(turn.now);
        let old = std::mem::take(&mut self.devices);
        let mut old: BTreeMap<DeviceName, Device> =
            old.into_devices().map(|device| (device.spec.name.clone(), device)).collect();
        match (&mut self.sharing, spec.cluster) {
            (Some(sharing), Some(cluster)) => sharing.reconfigured(cluster),
            (sharing, cluster) => *sharing = cluster.map(Sharing::new),
        }
        self.take_in_devices(turn.watched, turn.now.wall, spec.devices);
        self.replace_fleets(turn, spec.fleets, members);
        for (name, entry) in heard {
            if let Some(id) = self.id_named(&name) {
                let is_down = entry.is_down() && self.devices[id].monitoring.is_elsewhere();
                self.devices[id].monitoring.say_down(is_down);
                self.standby.put(id, entry);
            }
        }
        let mut before_agents: Vec<Option<Box<Agent>>> = Vec::with_capacity(self.devices.len());
        for device in self.devices.iter_mut() {
            let before = old.remove(&device.spec.name);
            if before.is_none() {
                self.history.joined(&device.spec.name, turn.now.wall);
            }
            let before = before.and_then(|before| device.inherit(before));
            before_agents.push(before);
        }
        self.adopt_timeouts(turn.watched);
        let announced = announced.as_ref().map(TopicName::as_str);
        for gone in old.into_values() {
            self.retract_if_stale(turn, announced, &gone.spec.name);
            self.device_left(turn, gone);
        }
        let mut pauses = std::mem::take(&mut self.pauses);
        pauses.retain(|name| self.knows(name));
        self.pauses = pauses;
        let mut mutes = std::mem::take(&mut self.mutes);
        mutes.retain(|name| self.knows(name));
        self.mutes = mutes;
        (self.alert_unit, self.broker_grace) = (spec.alert_unit, spec.broker_grace);
        // A device that was removed in an earlier reload and is back keeps its record.
        let devices = &self.devices;
        self.saving.keep(|name| devices.named(name).is_some());
        for (at, before) in before_agents.into_iter().enumerate() {
            let id = DeviceId::at(at);
            self.save_soon(id);
            self.agent_redefined(turn, id, before);
            self.schedule_repeat(turn, id);
            self.publish_status(turn, id);
            self.retract_if_stale(turn, announced, &self.devices[id].spec.name);
            self.announce(turn, id);
        }
        self.count_agents();
        self.rearm_timers();
        self.settle_dependents(turn);
        self.arm_all();
        self.count_expired();
        self.echoes_reconfigured();
        self.resubscribe_watch(turn, plans_before.watch);
        self.resubscribe_states(turn, &plans_before.state);
        for name in restoring {
            if let Some(id) = self.id_named(&name) {
                self.request_restore(turn, id);
            }
        }
        self.report_room(turn);
        self.settle_notifications(turn);
        self.note_all_standings(turn.now.wall);
        self.flush_saves(turn);
    }

    fn device_left(&mut self, turn: &mut Turn<'_>, gone: Device) {
        let name = &gone.spec.name;
        self.history.left(name, turn.now.wall);
        if !gone.monitoring.is_elsewhere() {
            turn.out.push(self.clearing(&format!("status/{name}")));
        }
        if let Some(agent) = gone.rare.into_agent() {
            self.usage.left(name);
            self.agent_departs(name, &agent);
            agent_left(turn, name, &agent);
        }
        self.saving.left(gone.spec.name);
    }

    /// Creates the list of devices and its indexes.
    pub(super) fn take_in_devices(
        &mut self,
        watched: Duration,
        wall: Duration,
        specs: Vec<DeviceSpec>,
    ) {
        let mut devices = Vec::with_capacity(specs.len());
        self.index = TopicIndex::new();
        let mut dependences = Vec::new();
        self.areas = Areas::default();
        let names = DeviceName::side_by_side(specs.iter().map(|spec| &spec.name));
        for (at, (mut spec, name)) in specs.into_iter().zip(names).enumerate() {
            let id = DeviceId::at(at);
            spec.name = name;
            self.areas.place(id, spec.area.take());
            if !spec.depends_on.is_empty() {
                dependences.push((id, std::mem::take(&mut spec.depends_on)));
            }
            let filters = self.file_filters(id, &spec);
            devices.push(Device::new(spec, filters, watched, wall));
        }
        self.index.shrink_to_fit();
        self.devices = Devices::new(devices);
        self.relate(dependences);
        self.place_all();
        self.silence.reserve(self.devices.len());
        self.count_agents();
    }

    /// Timers refer to devices by their index, which has changed: those of flapping devices are
    /// created anew, and those of agents when these are redefined.
    fn rearm_timers(&mut self) {
        for id in self.devices.ids() {
            if let Some((due, timer)) = self.devices[id].stable_timer(id) {
                self.timers.push(due, timer);
            }
        }
    }
}
