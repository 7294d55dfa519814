//! Orders to agents: by a person, by another configuration, or because one is silent.

use crate::machines::agent::Agent;
use crate::machines::episode::AlertStage;
use crate::model::device_id::DeviceId;
use crate::monitor::Monitor;
use crate::monitor::agent::agent_left;
use crate::monitor::turn::Turn;

impl Monitor {
    /// Alarms a device that is silent, and restarts an agent whose section asks for that.
    pub(in crate::monitor) fn expire_or_restart(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.expire(turn, id);
        let device = &mut self.devices[id];
        let is_silent = device.silence_deadline().is_none_or(|end| end <= turn.watched);
        let is_its_own = device.episode.stage() != Some(AlertStage::Upstream);
        if device.restarts_on_expire() && is_its_own && is_silent {
            device.silence.begin_anew(turn.watched);
            self.restart_agent(turn, id);
        }
    }

    /// Stops the agent's unit and starts a new one, with its full timeout from then on.
    pub(in crate::monitor) fn restart_agent(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &self.devices[id];
        if device.rare.agent().is_some() && device.is_enabled() {
            self.drive(turn, id, Agent::restart);
            self.restart_silence(turn, id);
        }
    }

    /// Brings the agent of a new configuration in line with the one before it.
    pub(in crate::monitor) fn agent_redefined(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        before: Option<Box<Agent>>,
    ) {
        let device = &self.devices[id];
        match (before, device.rare.agent()) {
            (Some(before), Some(_)) => {
                self.drive(turn, id, |agent, context| agent.succeed(*before, context));
            }
            (Some(before), None) => {
                let name = device.spec.name.clone();
                self.agent_departs(&name, &before);
                agent_left(turn, &name, &before);
            }
            (None, _) => {
                if self.manager.settled && self.manager.waiting_units.is_none() {
                    self.drive(turn, id, |agent, context| agent.missing(false, context));
                }
            }
        }
    }
}
