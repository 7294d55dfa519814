//! A new configuration over a running monitor: whatever did not change goes on.

use super::agent::{Agent, agent_left};
use super::device::Device;
use super::liveness::id_of;
use crate::model::action::Action;
use crate::model::device_name::DeviceName;
use crate::model::spec::{DeviceSpec, MonitorSpec};
use crate::model::time::Now;
use crate::monitor::{Monitor, Target};
use crate::topic::TopicName;
use crate::topic::index::TopicIndex;
use std::collections::BTreeMap;

impl Monitor {
    /// Puts a new configuration in force. Its clientid and base topic are those in force; the
    /// caller refuses others, since connections and units bear them.
    pub(super) fn reconfigure(&mut self, now: Now, spec: MonitorSpec, out: &mut Vec<Action>) {
        let restoring: Vec<DeviceName> = self
            .restores
            .abandon()
            .into_iter()
            .map(|id| self.devices[id as usize].spec.name.clone())
            .collect();
        let plans_before = self.plans();
        self.identity_reconfigured(&spec, out);
        self.disarm_all();
        self.saving.forget_devices();
        self.stale_statuses.clear();
        let announced = std::mem::replace(&mut self.home_assistant, spec.home_assistant).discovery;
        let old = std::mem::take(&mut self.devices);
        let mut old: BTreeMap<DeviceName, Device> =
            old.into_iter().map(|device| (device.spec.name.clone(), device)).collect();
        self.take_in_devices(now, spec.devices);
        let mut before_agents: Vec<Option<Box<Agent>>> = Vec::with_capacity(self.devices.len());
        for device in &mut self.devices {
            let before = old.remove(&device.spec.name).and_then(|before| device.inherit(before));
            before_agents.push(before);
        }
        self.adopt_timeouts(now);
        let announced = announced.as_ref().map(TopicName::as_str);
        for gone in old.into_values() {
            self.retract_if_stale(announced, &gone.spec.name, out);
            self.device_left(gone, out);
        }
        // One that left in an earlier reload and is back keeps its record.
        let mut gone = std::mem::take(&mut self.saving.gone);
        gone.retain(|name| !self.knows(name));
        self.saving.gone = gone;
        for (at, before) in before_agents.into_iter().enumerate() {
            let id = id_of(at);
            self.save_soon(id);
            self.agent_redefined(id, before, out);
            self.schedule_repeat(now, id);
            out.push(self.status_publication(id));
            self.retract_if_stale(announced, &self.devices[id as usize].spec.name, out);
            self.announce(id, out);
        }
        self.count_agents();
        self.rearm_timers();
        self.settle_dependents(now, out);
        self.arm_all();
        self.count_expired();
        self.resubscribe_watch(now, &plans_before.watch, out);
        self.resubscribe_states(&plans_before.state, out);
        for name in restoring {
            if let Some(id) = self.id_named(&name) {
                self.request_restore(id, out);
            }
        }
        self.flush_saves(now, out);
    }

    fn device_left(&mut self, gone: Device, out: &mut Vec<Action>) {
        let name = &gone.spec.name;
        out.push(self.clearing(&format!("status/{name}")));
        if let Some(agent) = gone.agent {
            agent_left(name, *agent, out);
        }
        self.saving.gone.push(gone.spec.name);
    }

    /// Makes the list of devices and the indexes that belong to it.
    pub(super) fn take_in_devices(&mut self, now: Now, specs: Vec<DeviceSpec>) {
        let watched = self.clock.at(now.mono);
        self.devices = Vec::with_capacity(specs.len());
        self.by_unit.clear();
        self.index = TopicIndex::new();
        let mut dependences = Vec::new();
        let names = DeviceName::side_by_side(specs.iter().map(|spec| &spec.name));
        for (at, (mut spec, name)) in specs.into_iter().zip(names).enumerate() {
            let id = id_of(at);
            spec.name = name;
            if !spec.depends_on.is_empty() {
                dependences.push((id, std::mem::take(&mut spec.depends_on)));
            }
            if let Some(agent) = &spec.agent {
                self.by_unit.insert(agent.unit.clone(), id);
            }
            let first = self.index.len();
            for filter in &spec.watch {
                self.index.insert(filter, Target::Contact(id));
            }
            if let Some(filter) = &spec.hello {
                self.index.insert(filter, Target::Hello(id));
            }
            for filter in &spec.state {
                self.index.insert(filter, Target::State(id));
            }
            // A topic name without wildcards is a filter that matches itself.
            if let Some(filter) = spec.availability.as_ref().and_then(TopicName::as_filter) {
                self.index.insert(&filter, Target::Availability(id));
            }
            let filters = first..self.index.len();
            self.devices.push(Device::new(spec, filters, watched, now.wall));
        }
        self.index.shrink_to_fit();
        self.by_name = (0..self.devices.len()).map(id_of).collect();
        self.by_name.sort_by_key(|&id| self.devices[id as usize].spec.name.clone());
        self.relate(dependences);
        self.silence.reserve(self.devices.len());
        self.count_agents();
    }

    /// Timers name devices by their place, which has changed: those of agents and of what
    /// flaps are made anew.
    fn rearm_timers(&mut self) {
        for at in 0..self.devices.len() {
            if let Some((due, timer)) = self.devices[at].stable_timer(id_of(at)) {
                self.timers.push(due, timer);
            }
            if let Some(agent) = &self.devices[at].agent {
                for (due, timer) in agent.pending_timers(id_of(at)) {
                    self.timers.push(due, timer);
                }
            }
        }
    }
}
