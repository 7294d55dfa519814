//! Turns an agent's decisions into actions: orders to systemd, publications and alerts.

use crate::machines::agent::{Agent, Failure, Fall, HEALTHY_AFTER, Outcome, Start};
use crate::model::action::Action;
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::notice::Notice;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use std::time::Duration;

impl Monitor {
    pub(super) fn carry_out(&mut self, turn: &mut Turn<'_>, id: DeviceId, outcome: Outcome) {
        let device = &self.devices[id];
        let (name, Some(agent)) = (&device.spec.name, device.rare.agent()) else { return };
        let (kind, message) = match outcome {
            Outcome::Start => return turn.out.push(start_action(name, agent)),
            Outcome::Stop => {
                return turn.out.push(Action::StopUnit { unit: agent.unit().clone() });
            }
            Outcome::Started(start) => return self.agent_started(turn, id, &start),
            Outcome::StateChanged => return self.report_unit(turn, id),
            Outcome::Failing(failure) => {
                let message = failing_sentence(name, agent, &failure);
                return self.agent_fails(turn, id, message);
            }
            Outcome::Healthy => return self.agent_is_healthy(turn, id),
            Outcome::Adopted { pid } => (
                AlertKind::AgentAdopted,
                format!("agent `{name}` was running already and is adopted (PID {pid})"),
            ),
            Outcome::Relaunched { after, delay } => {
                (AlertKind::AgentRelaunched, self.relaunch_sentence(name, after, delay))
            }
            Outcome::NotStopped { reason } => (
                AlertKind::AgentFailed,
                format!(
                    "agent `{name}` cannot be stopped ({reason}): see `systemctl status {}`",
                    agent.unit()
                ),
            ),
            Outcome::Lingers { exit } => (
                AlertKind::AgentLingers,
                format!(
                    "the main process of agent `{name}` has ended ({exit}) and left other processes behind: systemd waits for them to end and then starts the agent again"
                ),
            ),
        };
        turn.out.push(self.device_alert(id, kind, message));
    }

    fn agent_started(&mut self, turn: &mut Turn<'_>, id: DeviceId, start: &Start) {
        self.restart_silence(turn, id);
        self.save_soon(id);
        let name = self.devices[id].spec.name.to_string();
        let pid = start.pid;
        let message = if start.by_systemd {
            // systemd may be faster than its observation, and then the exit is not known.
            let exit = start.exit.as_ref().map(|exit| format!(" ({exit})")).unwrap_or_default();
            format!("agent `{name}` has ended{exit}; systemd has restarted it (PID {pid})")
        } else {
            format!("agent `{name}` has started (PID {pid})")
        };
        self.note_start(turn, id, start.is_restart);
        if start.is_restart {
            turn.out.push(Action::Notify(Notice::AgentRestarted { device: name, main_pid: pid }));
        }
        let payload = turn.now.wall.as_secs().to_string();
        turn.out.push(self.device_publication("startedprocess", id, payload, false));
        self.report_unit(turn, id);
        turn.out.push(self.device_alert(id, AlertKind::AgentStarted, message));
        if start.by_systemd && !start.while_failing {
            self.note_flap(turn, id, "has ended");
        }
    }

    /// Raises the one alert of an agent that keeps failing.
    fn agent_fails(&mut self, turn: &mut Turn<'_>, id: DeviceId, mut message: String) {
        // The result of a series of failures is reported here.
        self.devices[id].rare.forget_flaps();
        self.save_soon(id);
        self.report_state(turn, id);
        message.push_str(&self.dependents_clause(id));
        let reason = Some(Reason::AgentFailed);
        turn.out.push(self.episode_alert(id, AlertKind::AgentFailed, reason, message));
        self.fell(turn, id);
    }

    fn agent_is_healthy(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let message = format!(
            "agent `{}` is healthy again: it has run for {}",
            self.devices[id].spec.name,
            Seconds(HEALTHY_AFTER)
        );
        self.report_state(turn, id);
        self.uptime_changed(turn.now);
        let reason = Some(Reason::AgentFailed);
        turn.out.push(self.episode_alert(id, AlertKind::AgentHealthy, reason, message));
        self.rose(turn, id);
    }

    fn relaunch_sentence(&self, name: &DeviceName, after: Fall, delay: Duration) -> String {
        let (command, delay) = (&self.command, Seconds(delay));
        match after {
            Fall::RestartedByHand => format!(
                "agent `{name}` was restarted by hand more often than systemd's start limit \
                 allows, and is started again in {delay}"
            ),
            Fall::Stopped => format!(
                "agent `{name}` was stopped and is relaunched in {delay}; `{command} disable \
                 {name}` stops it for good"
            ),
            Fall::Gone => format!(
                "agent `{name}` was stopped, or its unit is gone: it is relaunched in {delay}; \
                 `{command} disable {name}` stops it for good"
            ),
        }
    }
}

/// Stops the unit of an agent that has left the configuration.
pub(in crate::monitor) fn agent_left(turn: &mut Turn<'_>, name: &DeviceName, gone: &Agent) {
    let message = format!("agent `{name}` is no longer configured and is stopped");
    turn.raise(AlertKind::AgentStopped, message);
    turn.out.push(Action::StopUnit { unit: gone.unit().clone() });
}

fn start_action(name: &DeviceName, agent: &Agent) -> Action {
    Action::StartUnit {
        device: name.clone(),
        agent: Box::new(agent.spec().clone()),
        definition: agent.definition().to_owned(),
        tenure: agent.tenure(),
    }
}

fn failing_sentence(name: &DeviceName, agent: &Agent, failure: &Failure) -> String {
    match failure {
        Failure::GivenUp { exit, ran, delay } => {
            let verb = if *ran { "keeps failing" } else { "cannot be started" };
            let hint = if exit == "exited with 0" {
                "; what it starts in the background ends with it, so let that run in the \
                 foreground, with `exec`"
            } else {
                ""
            };
            format!(
                "agent `{name}` {verb} ({exit}): it is relaunched after growing delays, now in \
                 {}{hint}; its output is in `journalctl -u {}`",
                Seconds(*delay),
                agent.unit()
            )
        }
        Failure::Retried { reason } => {
            format!("agent `{name}` cannot be started ({reason}): systemd tries it again and again")
        }
        Failure::NotStarted { reason, delay } => format!(
            "agent `{name}` cannot be started ({reason}): it is tried again after growing delays, \
             now in {}",
            Seconds(*delay)
        ),
    }
}

/// Formats a delay for people: `0.8 s`, `60 s`.
pub(super) struct Seconds(pub Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < Duration::from_secs(10) {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        } else {
            write!(f, "{} s", self.0.as_secs())
        }
    }
}
