//! Reports how far a person's order to an agent has been carried out.

use super::outcomes::Seconds;
use crate::machines::agent::Distance;
use crate::model::device_name::DeviceName;
use crate::model::progress::{Goal, Progress};
use crate::monitor::Monitor;

impl Monitor {
    /// The invocation of an agent's process whose start was observed last, for [`Goal::Started`].
    #[must_use]
    pub fn invocation(&self, name: &DeviceName) -> Option<String> {
        let agent = self.devices[self.id_named(name)?].rare.agent()?;
        agent.last_invocation().map(str::to_owned)
    }

    /// Returns the progress of an order. A device has no process, so its goal is always reached.
    #[must_use]
    pub fn progress(&self, name: &DeviceName, goal: &Goal) -> Progress {
        let Some(id) = self.id_named(name) else {
            return Progress::Failed(format!("`{name}` has left the configuration"));
        };
        let device = &self.devices[id];
        let Some(agent) = device.rare.agent() else { return Progress::Done };
        if self.manager.answers_lost {
            return Progress::Failed(format!(
                "systemd cannot be reached for now; it is done with `{name}` as soon as it can be"
            ));
        }
        match goal {
            Goal::Stopped if device.monitoring.is_wanted() => {
                return Progress::Failed(format!("`{name}` has been enabled meanwhile"));
            }
            Goal::Started { .. } | Goal::Running if !device.monitoring.is_wanted() => {
                return Progress::Failed(format!("`{name}` has been disabled meanwhile"));
            }
            Goal::Started { .. } if device.monitoring.is_elsewhere() => {
                return Progress::Failed(self.elsewhere_sentence(id));
            }
            // The node that has it starts it.
            Goal::Running if device.monitoring.is_elsewhere() => return Progress::Done,
            Goal::Started { .. } | Goal::Running if self.manager.system_stopping => {
                return Progress::Failed("the system is going down".to_owned());
            }
            Goal::Stopped | Goal::Started { .. } | Goal::Running => {}
        }
        match agent.distance_to(goal) {
            Distance::Reached => Progress::Done,
            Distance::OnTheWay => Progress::Pending,
            Distance::NotStopped => Progress::Failed(format!(
                "agent `{name}` cannot be stopped: see `systemctl status {}`",
                agent.unit()
            )),
            Distance::Waiting { reason, until } => Progress::Failed(format!(
                "agent `{name}` cannot be started ({reason}): it is tried again in {}",
                Seconds(until.saturating_sub(self.last_turn.mono))
            )),
        }
    }
}
