//! What the monitor orders for its agents: start, stop, restart, relaunch after a delay.

use super::definition::delay_of;
use super::{Agent, HEALTHY_AFTER, Phase, SETTLED_AFTER, Seconds, agent_left};
use crate::model::action::Action;
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_name::DeviceName;
use crate::model::time::Now;
use crate::monitor::device::DeviceId;
use crate::monitor::episode::Telling;
use crate::monitor::liveness::id_of;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

/// How often a relaunch that a shutdown prevents is thought of again.
const SHUTDOWN_RECHECK: Duration = Duration::from_secs(5);

impl Monitor {
    pub(in crate::monitor) fn relaunch_due(
        &mut self,
        due: Duration,
        id: DeviceId,
        out: &mut Vec<Action>,
    ) {
        let Some(agent) = self.devices.get(id as usize).and_then(|device| device.agent.as_ref())
        else {
            return;
        };
        if agent.phase != (Phase::Waiting { until: due }) {
            return;
        }
        if self.manager.system_stopping {
            // A shutdown can be called off: look again.
            let until = due + SHUTDOWN_RECHECK;
            if let Some(agent) = self.agent_mut(id) {
                agent.phase = Phase::Waiting { until };
            }
            self.timers.push(until, Timer::Relaunch(id));
        } else {
            self.start_agent(id, out);
        }
    }

    pub(in crate::monitor) fn healthy_due(
        &mut self,
        now: Now,
        due: Duration,
        id: DeviceId,
        out: &mut Vec<Action>,
    ) {
        let Some(device) = self.devices.get_mut(id as usize) else { return };
        let name = device.spec.name.clone();
        let Some(agent) = &mut device.agent else { return };
        if agent.healthy_at != Some(due) || !agent.is_running() {
            return;
        }
        agent.healthy_at = None;
        agent.step = 0;
        if std::mem::take(&mut agent.told_failing) {
            let message = format!(
                "agent `{name}` is healthy again, it has run for {}",
                Seconds(HEALTHY_AFTER)
            );
            self.tell_state(id, out);
            let reason = Some(Reason::AgentFailed);
            out.push(self.episode_alert(id, AlertKind::AgentHealthy, reason, message));
            self.rose(now, id);
        }
    }

    /// The unit is between two states: what comes of that is told if it takes long.
    pub(super) fn look_when_settled(&mut self, now: Now, id: DeviceId) {
        let Some(agent) = self.agent_mut(id) else { return };
        let due = now.mono + SETTLED_AFTER;
        if agent.settled_at.is_none_or(|at| at <= now.mono) {
            agent.settled_at = Some(due);
            self.timers.push(due, Timer::Settled(id));
        }
    }

    pub(in crate::monitor) fn settled_due(
        &mut self,
        now: Now,
        due: Duration,
        id: DeviceId,
        out: &mut Vec<Action>,
    ) {
        let Some(device) = self.devices.get_mut(id as usize) else { return };
        let name = device.spec.name.clone();
        let Some(agent) = &mut device.agent else { return };
        if agent.settled_at != Some(due) {
            return;
        }
        agent.settled_at = None;
        if agent.phase != Phase::Running || self.manager.system_stopping {
            return;
        }
        if agent.lingers() {
            let message = format!(
                "the main process of agent `{name}` has ended ({}) and has left others behind: \
                 systemd waits until they have ended too, then it starts the agent again",
                agent.last_exit()
            );
            out.push(self.device_alert(id, AlertKind::AgentLingers, message));
        } else if let Some(trouble) = agent.start_trouble.take_if(|_| !agent.told_failing) {
            agent.told_failing = true;
            let message = format!(
                "agent `{name}` cannot be started ({trouble}): systemd tries it again and again"
            );
            self.tell_failing(now, id, message, out);
        }
    }

    /// Sets the next relaunch and gives its delay.
    pub(super) fn relaunch_later(&mut self, now: Now, id: DeviceId) -> Duration {
        let percent = self.random.percent();
        let Some(agent) = self.agent_mut(id) else { return Duration::ZERO };
        let delay = delay_of(&agent.spec, agent.step, percent);
        agent.step = agent.step.saturating_add(1);
        agent.healthy_at = None;
        let until = now.mono + delay;
        agent.phase = Phase::Waiting { until };
        self.timers.push(until, Timer::Relaunch(id));
        delay
    }

    /// Nothing is started while the system goes down, but made up for when that is called off.
    pub(super) fn start_agent(&mut self, id: DeviceId, out: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        let device = &mut self.devices[id as usize];
        let Some(agent) = &mut device.agent else { return };
        if self.manager.system_stopping {
            agent.phase = Phase::Stopped;
            return;
        }
        agent.phase = Phase::Starting;
        out.push(Action::StartUnit {
            device: device.spec.name.clone(),
            agent: Box::new(agent.spec.clone()),
            definition: agent.definition.clone(),
        });
    }

    /// The system begins to go down, or stays up after all: then what was not started is.
    pub(in crate::monitor) fn note_system_state(&mut self, stopping: bool, out: &mut Vec<Action>) {
        let was_stopping = std::mem::replace(&mut self.manager.system_stopping, stopping);
        if stopping || !was_stopping {
            return;
        }
        for id in self.agent_ids() {
            let device = &self.devices[id as usize];
            let phase = device.agent.as_ref().map(|agent| &agent.phase);
            if device.is_enabled() && phase == Some(&Phase::Stopped) {
                self.start_agent(id, out);
            }
        }
    }

    pub(super) fn stop_agent(&mut self, id: DeviceId, out: &mut Vec<Action>) {
        let Some(agent) = self.agent_mut(id) else { return };
        if agent.phase == Phase::Unknown && agent.report.is_none() {
            return;
        }
        agent.phase = Phase::Stopping { then_start: false };
        agent.healthy_at = None;
        let unit = agent.spec.unit.clone();
        out.push(Action::StopUnit { unit });
    }

    /// Stops the agent's unit and starts it anew, with its full timeout from then on.
    pub(in crate::monitor) fn restart_agent(
        &mut self,
        now: Now,
        id: DeviceId,
        out: &mut Vec<Action>,
    ) {
        if !self.devices[id as usize].is_enabled() {
            return;
        }
        let Some(agent) = self.agent_mut(id) else { return };
        match agent.phase {
            Phase::Running => {
                agent.phase = Phase::Stopping { then_start: true };
                let unit = agent.spec.unit.clone();
                out.push(Action::StopUnit { unit });
            }
            Phase::Stopping { .. } => agent.phase = Phase::Stopping { then_start: true },
            Phase::Waiting { .. } | Phase::Stopped => self.start_agent(id, out),
            // It is about to start anyway.
            Phase::Unknown | Phase::Starting => {}
        }
        self.restart_silence(now, id);
    }

    /// A person takes a device into the monitoring, or out of it.
    pub(in crate::monitor) fn set_enabled(
        &mut self,
        now: Now,
        name: &DeviceName,
        enabled: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(id) = self.id_named(name) else { return };
        let device = &mut self.devices[id as usize];
        let was = device.is_enabled();
        device.enabled = Some(enabled);
        if was == enabled {
            self.save_soon(id);
            self.flush_saves(now, out);
            return;
        }
        if device.expired_since.take().is_some() {
            self.expired_count -= 1;
            device.telling = Telling::Told;
        }
        device.flaps = None;
        if let Some(agent) = &mut device.agent {
            (agent.step, agent.told_failing) = (0, false);
        }
        self.devices[id as usize].since = now.wall;
        self.rose(now, id);
        let (kind, message) = if enabled {
            self.restart_silence(now, id);
            self.start_if_settled(id, out);
            (AlertKind::Enabled, format!("`{name}` is in the monitoring again"))
        } else {
            self.stop_agent(id, out);
            (
                AlertKind::Disabled,
                format!("`{name}` is out of the monitoring until `iotmonitor enable {name}`"),
            )
        };
        self.tell_state(id, out);
        out.push(self.device_alert(id, kind, message));
        self.recall_availability(now, id, out);
        self.save_soon(id);
        self.flush_saves(now, out);
    }

    pub(super) fn start_if_settled(&mut self, id: DeviceId, out: &mut Vec<Action>) {
        let Some(agent) = self.agent_mut(id) else { return };
        match agent.phase {
            Phase::Stopped => self.start_agent(id, out),
            Phase::Stopping { .. } => agent.phase = Phase::Stopping { then_start: true },
            Phase::Unknown | Phase::Starting | Phase::Running | Phase::Waiting { .. } => {}
        }
    }

    /// Brings the agent of a new configuration in line with the one before it.
    pub(in crate::monitor) fn agent_redefined(
        &mut self,
        id: DeviceId,
        before: Option<Box<Agent>>,
        out: &mut Vec<Action>,
    ) {
        let enabled = self.devices[id as usize].is_enabled();
        let name = self.devices[id as usize].spec.name.clone();
        let settled = self.manager.settled && self.manager.waiting_units.is_none();
        let Some(agent) = self.agent_mut(id) else {
            if let Some(before) = before {
                agent_left(&name, *before, out);
            }
            return;
        };
        let Some(before) = before else {
            if settled && enabled {
                self.start_agent(id, out);
            } else if settled {
                agent.phase = Phase::Stopped;
            }
            return;
        };
        let changed = before.definition != agent.definition;
        *agent =
            Agent { spec: agent.spec.clone(), definition: agent.definition.clone(), ..*before };
        if changed {
            agent.step = 0;
            agent.told_failing = false;
        }
        match agent.phase {
            Phase::Unknown => {}
            Phase::Stopped | Phase::Stopping { then_start: false } if !enabled => {}
            Phase::Starting | Phase::Running | Phase::Waiting { .. } | Phase::Stopping { .. }
                if !enabled =>
            {
                self.stop_agent(id, out);
            }
            Phase::Running | Phase::Starting if changed => {
                agent.phase = Phase::Stopping { then_start: true };
                let unit = agent.spec.unit.clone();
                out.push(Action::StopUnit { unit });
            }
            Phase::Waiting { .. } if changed => self.start_agent(id, out),
            Phase::Stopped | Phase::Stopping { .. } => self.start_if_settled(id, out),
            Phase::Running | Phase::Starting | Phase::Waiting { .. } => {}
        }
    }

    pub(in crate::monitor) fn agent_ids(&self) -> Vec<DeviceId> {
        (0..self.devices.len()).filter(|&at| self.devices[at].agent.is_some()).map(id_of).collect()
    }

    /// Counts again after the configuration changed.
    pub(in crate::monitor) fn count_agents(&mut self) {
        let agents = self.devices.iter().filter_map(|device| device.agent.as_ref());
        self.manager.agents = agents.clone().count();
        self.manager.running = agents.filter(|agent| agent.is_running()).count();
    }

    pub(super) fn agent_mut(&mut self, id: DeviceId) -> Option<&mut Agent> {
        self.devices.get_mut(id as usize).and_then(|device| device.agent.as_deref_mut())
    }

    pub(super) fn unit_of(&self, id: DeviceId) -> String {
        let agent = self.devices[id as usize].agent.as_ref();
        agent.map(|agent| agent.spec.unit.to_string()).unwrap_or_default()
    }
}
