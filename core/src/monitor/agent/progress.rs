//! How far what a person has ordered of an agent has come, for who waits for it.

use super::{Agent, Phase, Seconds};
use crate::model::device_name::DeviceName;
use crate::model::progress::{Goal, Progress};
use crate::monitor::Monitor;

impl Monitor {
    /// The invocation of an agent's process that was last seen to start, for [`Goal::Started`].
    #[must_use]
    pub fn invocation(&self, name: &DeviceName) -> Option<String> {
        let id = self.id_named(name)?;
        self.devices[id].agent.as_ref()?.last_invocation.clone()
    }

    /// A device has no process, and all is done with it at once.
    #[must_use]
    pub fn progress(&self, name: &DeviceName, goal: &Goal) -> Progress {
        let Some(id) = self.id_named(name) else {
            return Progress::Failed(format!("`{name}` has left the configuration"));
        };
        let device = &self.devices[id];
        let Some(agent) = &device.agent else { return Progress::Done };
        if self.manager.answers_lost {
            return Progress::Failed(format!(
                "systemd cannot be reached for now; it is done with `{name}` as soon as it can be"
            ));
        }
        match goal {
            Goal::Stopped if device.is_enabled() => {
                Progress::Failed(format!("`{name}` has been enabled meanwhile"))
            }
            Goal::Stopped => match agent.phase {
                Phase::Stopped if agent.is_gone() => Progress::Done,
                Phase::Stopped => agent.is_stubborn(name),
                _ => Progress::Pending,
            },
            Goal::Started { .. } | Goal::Running if !device.is_enabled() => {
                Progress::Failed(format!("`{name}` has been disabled meanwhile"))
            }
            Goal::Started { .. } | Goal::Running if self.manager.system_stopping => {
                Progress::Failed("the system is going down".to_owned())
            }
            Goal::Started { .. } | Goal::Running => match agent.phase {
                Phase::Running if !agent.is_running() => Progress::Pending,
                Phase::Running if goal.is_old(agent.last_invocation.as_deref()) => {
                    agent.is_stubborn(name)
                }
                Phase::Running if agent.is_active() => Progress::Done,
                Phase::Waiting { until } => Progress::Failed(format!(
                    "agent `{name}` cannot be started ({}): it is tried again in {}",
                    agent.ended.as_ref().map_or_else(|| agent.last_exit(), |(how, _)| how.clone()),
                    Seconds(until.saturating_sub(self.last_turn.mono))
                )),
                _ => Progress::Pending,
            },
        }
    }
}

impl Agent {
    fn is_stubborn(&self, name: &DeviceName) -> Progress {
        Progress::Failed(format!(
            "agent `{name}` cannot be stopped: see `systemctl status {}`",
            self.spec.unit
        ))
    }
}
