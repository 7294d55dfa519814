//! What is ordered for agents: by a person, by another configuration, or since one is silent.

use super::agent_left;
use crate::machines::agent::Agent;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;

impl Monitor {
    /// Stops the agent's unit and starts it anew, with its full timeout from then on.
    pub(in crate::monitor) fn restart_agent(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &self.devices[id];
        if device.agent.is_some() && device.is_enabled() {
            self.drive(turn, id, Agent::restart);
            self.restart_silence(turn, id);
        }
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
        self.drive(turn, id, Agent::choose);
        self.rose(turn, id);
        let kind = if enabled { AlertKind::Enabled } else { AlertKind::Disabled };
        if enabled {
            self.restart_silence(turn, id);
        }
        self.tell_state(turn, id);
        turn.out.push(self.device_alert(id, kind, message));
        self.recall_availability(turn, id);
        self.save_soon(id);
        self.flush_saves(turn);
    }

    /// Brings the agent of a new configuration in line with the one before it.
    pub(in crate::monitor) fn agent_redefined(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        before: Option<Box<Agent>>,
    ) {
        let device = &self.devices[id];
        match (before, &device.agent) {
            (Some(before), Some(_)) => {
                self.drive(turn, id, |agent, context| agent.succeed(*before, context));
            }
            (Some(before), None) => agent_left(turn, &device.spec.name, &before),
            (None, _) => {
                if self.manager.settled && self.manager.waiting_units.is_none() {
                    self.drive(turn, id, |agent, context| agent.missing(false, context));
                }
            }
        }
    }
}
