//! What the monitor orders for its agents: start, stop, restart, relaunch after a delay.

use super::definition::delay_of;
use super::{Agent, HEALTHY_AFTER, Phase, SETTLED_AFTER, Seconds, agent_left};
use crate::model::action::Action;
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::time::Duration;

/// How often a relaunch that a shutdown prevents is thought of again.
const SHUTDOWN_RECHECK: Duration = Duration::from_secs(5);

impl Monitor {
    pub(in crate::monitor) fn relaunch_due(
        &mut self,
        turn: &mut Turn<'_>,
        due: Duration,
        id: DeviceId,
    ) {
        let Some(agent) = self.devices.get(id).and_then(|device| device.agent.as_ref()) else {
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
            self.start_agent(turn, id);
        }
    }

    pub(in crate::monitor) fn healthy_due(
        &mut self,
        turn: &mut Turn<'_>,
        due: Duration,
        id: DeviceId,
    ) {
        let Some(device) = self.devices.get_mut(id) else { return };
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
            self.tell_state(turn, id);
            let reason = Some(Reason::AgentFailed);
            turn.out.push(self.episode_alert(id, AlertKind::AgentHealthy, reason, message));
            self.rose(turn, id);
        }
    }

    /// The unit is between two states: what comes of that is told if it takes long.
    pub(super) fn look_when_settled(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(agent) = self.agent_mut(id) else { return };
        let due = turn.now.mono + SETTLED_AFTER;
        if agent.settled_at.is_none_or(|at| at <= turn.now.mono) {
            agent.settled_at = Some(due);
            self.timers.push(due, Timer::Settled(id));
        }
    }

    pub(in crate::monitor) fn settled_due(
        &mut self,
        turn: &mut Turn<'_>,
        due: Duration,
        id: DeviceId,
    ) {
        let Some(device) = self.devices.get_mut(id) else { return };
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
            turn.out.push(self.device_alert(id, AlertKind::AgentLingers, message));
        } else if let Some(trouble) = agent.start_trouble.take_if(|_| !agent.told_failing) {
            agent.told_failing = true;
            let message = format!(
                "agent `{name}` cannot be started ({trouble}): systemd tries it again and again"
            );
            self.tell_failing(turn, id, message);
        }
    }

    /// Sets the next relaunch and gives its delay.
    pub(super) fn relaunch_later(&mut self, turn: &mut Turn<'_>, id: DeviceId) -> Duration {
        let percent = self.random.percent();
        let Some(agent) = self.agent_mut(id) else { return Duration::ZERO };
        let delay = delay_of(&agent.spec, agent.step, percent);
        agent.step = agent.step.saturating_add(1);
        agent.healthy_at = None;
        let until = turn.now.mono + delay;
        agent.phase = Phase::Waiting { until };
        self.timers.push(until, Timer::Relaunch(id));
        delay
    }

    /// Nothing is started while the system goes down, but made up for when that is called off.
    pub(super) fn start_agent(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.stopping {
            return;
        }
        let device = &mut self.devices[id];
        let Some(agent) = &mut device.agent else { return };
        if self.manager.system_stopping {
            agent.phase = Phase::Stopped;
            return;
        }
        agent.phase = Phase::Starting;
        turn.out.push(Action::StartUnit {
            device: device.spec.name.clone(),
            agent: Box::new(agent.spec.clone()),
            definition: agent.definition.clone(),
        });
    }

    /// The system begins to go down, or stays up after all: then what was not started is.
    pub(in crate::monitor) fn note_system_state(&mut self, turn: &mut Turn<'_>, stopping: bool) {
        let was_stopping = std::mem::replace(&mut self.manager.system_stopping, stopping);
        if stopping || !was_stopping {
            return;
        }
        for id in self.devices.agents() {
            let device = &self.devices[id];
            let phase = device.agent.as_ref().map(|agent| &agent.phase);
            if device.is_enabled() && phase == Some(&Phase::Stopped) {
                self.start_agent(turn, id);
            }
        }
    }

    pub(super) fn stop_agent(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(agent) = self.agent_mut(id) else { return };
        if agent.phase == Phase::Unknown && agent.report.is_none() {
            return;
        }
        agent.phase = Phase::Stopping { then_start: false };
        agent.healthy_at = None;
        let unit = agent.spec.unit.clone();
        turn.out.push(Action::StopUnit { unit });
    }

    /// Stops the agent's unit and starts it anew, with its full timeout from then on.
    pub(in crate::monitor) fn restart_agent(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if !self.devices[id].is_enabled() {
            return;
        }
        let Some(agent) = self.agent_mut(id) else { return };
        match agent.phase {
            Phase::Running => {
                agent.phase = Phase::Stopping { then_start: true };
                let unit = agent.spec.unit.clone();
                turn.out.push(Action::StopUnit { unit });
            }
            Phase::Stopping { .. } => agent.phase = Phase::Stopping { then_start: true },
            Phase::Waiting { .. } | Phase::Stopped => self.start_agent(turn, id),
            // It is about to start anyway.
            Phase::Unknown | Phase::Starting => {}
        }
        self.restart_silence(turn, id);
    }

    /// A person takes a device into the monitoring, or out of it.
    pub(in crate::monitor) fn set_enabled(
        &mut self,
        turn: &mut Turn<'_>,
        name: &DeviceName,
        enabled: bool,
    ) {
        let Some(id) = self.id_named(name) else { return };
        self.pauses.end(name);
        let message = if enabled {
            format!("`{name}` is in the monitoring again")
        } else {
            format!("`{name}` is out of the monitoring until `{} enable {name}`", self.command)
        };
        self.choose(turn, id, Some(enabled), message);
    }

    /// Puts a person's choice in force, or the section's where there is none. The message is used
    /// if that changes anything.
    pub(in crate::monitor) fn choose(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        choice: Option<bool>,
        message: String,
    ) {
        let device = &mut self.devices[id];
        let was = device.is_enabled();
        device.enabled = choice;
        let enabled = device.is_enabled();
        if was == enabled {
            self.save_soon(id);
            self.flush_saves(turn);
            return;
        }
        self.drop_alarm(turn, id);
        if let Some(agent) = self.agent_mut(id) {
            (agent.step, agent.told_failing) = (0, false);
        }
        self.rose(turn, id);
        let kind = if enabled {
            self.restart_silence(turn, id);
            self.start_if_settled(turn, id);
            AlertKind::Enabled
        } else {
            self.stop_agent(turn, id);
            AlertKind::Disabled
        };
        self.tell_state(turn, id);
        turn.out.push(self.device_alert(id, kind, message));
        self.recall_availability(turn, id);
        self.save_soon(id);
        self.flush_saves(turn);
    }

    pub(super) fn start_if_settled(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(agent) = self.agent_mut(id) else { return };
        match agent.phase {
            Phase::Stopped => self.start_agent(turn, id),
            Phase::Stopping { .. } => agent.phase = Phase::Stopping { then_start: true },
            Phase::Unknown | Phase::Starting | Phase::Running | Phase::Waiting { .. } => {}
        }
    }

    /// Brings the agent of a new configuration in line with the one before it.
    pub(in crate::monitor) fn agent_redefined(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        before: Option<Box<Agent>>,
    ) {
        let enabled = self.devices[id].is_enabled();
        let name = self.devices[id].spec.name.clone();
        let settled = self.manager.settled && self.manager.waiting_units.is_none();
        let Some(agent) = self.agent_mut(id) else {
            if let Some(before) = before {
                agent_left(turn, &name, *before);
            }
            return;
        };
        let Some(before) = before else {
            if settled && enabled {
                self.start_agent(turn, id);
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
                self.stop_agent(turn, id);
            }
            Phase::Running | Phase::Starting if changed => {
                agent.phase = Phase::Stopping { then_start: true };
                let unit = agent.spec.unit.clone();
                turn.out.push(Action::StopUnit { unit });
            }
            Phase::Waiting { .. } if changed => self.start_agent(turn, id),
            Phase::Stopped | Phase::Stopping { .. } => self.start_if_settled(turn, id),
            Phase::Running | Phase::Starting | Phase::Waiting { .. } => {}
        }
    }

    /// Counts again after the configuration changed.
    pub(in crate::monitor) fn count_agents(&mut self) {
        let agents = self.devices.iter().filter_map(|device| device.agent.as_ref());
        self.manager.agents = agents.clone().count();
        self.manager.running = agents.filter(|agent| agent.is_running()).count();
    }

    pub(super) fn agent_mut(&mut self, id: DeviceId) -> Option<&mut Agent> {
        self.devices.get_mut(id).and_then(|device| device.agent.as_deref_mut())
    }

    pub(super) fn unit_of(&self, id: DeviceId) -> String {
        let agent = self.devices[id].agent.as_ref();
        agent.map(|agent| agent.spec.unit.to_string()).unwrap_or_default()
    }
}
