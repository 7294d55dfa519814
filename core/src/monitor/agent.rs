//! Agents: events become calls of [`Agent`], and [`outcomes`] carries out its decisions.
//!
//! This file processes the reports of the service manager; [`orders`] contains the orders of people
//! and of other parts of the monitor, and [`progress`] reports how far an order has been carried
//! out, and [`tenure`] which agents are here where several nodes share them.

mod orders;
mod outcomes;
mod progress;
mod tenure;

use crate::machines::agent::{Agent, Context, Outcome};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::unit::{JobOutcome, UnitReport};
use crate::model::unit_name::UnitName;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
pub(super) use outcomes::agent_left;

/// The service manager as a whole.
#[derive(Debug, Default)]
pub struct ManagerState {
    reported_lost: bool,
    /// Requests from before the loss may never be answered.
    answers_lost: bool,
    /// Units that were reported before it was known which agents are disabled.
    waiting_units: Option<Vec<UnitReport>>,
    /// The store has reported, or cannot report, which agents are disabled.
    settled: bool,
    system_stopping: bool,
    pub agents: usize,
    /// Agents with a living main process.
    pub running: usize,
}

impl Monitor {
    /// Lets an agent decide, and carries out the outcomes. An id of an earlier configuration that
    /// no longer belongs to an agent is ignored.
    pub(super) fn drive(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        decide: impl FnOnce(&mut Agent, &Context) -> Vec<Outcome>,
    ) {
        let jitter = self.random.percent();
        let may_start = !self.stopping && !self.manager.system_stopping;
        let Some(device) = self.devices.get_mut(id) else { return };
        let context = Context { now: turn.now, enabled: device.is_enabled(), may_start, jitter };
        let Some(agent) = device.rare.agent_mut() else { return };
        let was_running = agent.is_running();
        let outcomes = decide(agent, &context);
        match (was_running, agent.is_running()) {
            (false, true) => self.manager.running += 1,
            (true, false) => self.manager.running -= 1,
            (true, true) | (false, false) => {}
        }
        if let Some(deadline) = agent.take_deadline() {
            self.timers.push(deadline, Timer::Agent(id));
        }
        for outcome in outcomes {
            self.carry_out(turn, id, outcome);
        }
        self.note_ended(turn, id);
    }

    pub(super) fn agent_due(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        self.drive(turn, id, Agent::time_passed);
    }

    pub(super) fn manager_connected(&mut self, turn: &mut Turn<'_>, units: Vec<UnitReport>) {
        if std::mem::take(&mut self.manager.reported_lost) {
            turn.raise(AlertKind::ManagerBack, "systemd answers on D-Bus again".to_owned());
        }
        self.manager.waiting_units = Some(units);
        let orders = self.takedown.manager_connected();
        self.take_down(turn, orders);
        self.take_in_units(turn);
    }

    pub(super) fn manager_lost(&mut self, turn: &mut Turn<'_>, reason: &str) {
        self.takedown.manager_lost();
        // This also happens without agents: a reload may bring the first one while systemd is away.
        self.manager.answers_lost = true;
        if self.manager.agents == 0 {
            return;
        }
        self.manager.reported_lost = true;
        let message = format!(
            "agents cannot be started or watched for now; running agents continue: {reason}"
        );
        turn.raise(AlertKind::ManagerLost, message);
    }

    /// It is now known, or cannot be known, which agents a person disabled.
    pub(super) fn settle_agents(&mut self, turn: &mut Turn<'_>) {
        let first = !std::mem::replace(&mut self.manager.settled, true);
        if first {
            self.take_in_units(turn);
            return;
        }
        for id in self.devices.agents() {
            self.drive(turn, id, Agent::stop_if_disabled);
        }
    }

    /// Compares systemd's units with the configuration.
    pub(super) fn take_in_units(&mut self, turn: &mut Turn<'_>) {
        // No agent may run twice, so the units of a former clientid are stopped first.
        if !self.manager.settled || !self.takedown.has_stopped_units() {
            return;
        }
        // Those of a session that goes on are adopted, and all others are stopped.
        if self.sharing.as_ref().is_some_and(|sharing| !sharing.has_joined()) {
            return;
        }
        let Some(units) = self.manager.waiting_units.take() else { return };
        self.departures_listed(turn, &units);
        let mut listed: Vec<(DeviceId, UnitReport)> = Vec::new();
        for report in units {
            match self.devices.of_unit(&report.unit) {
                Some(id) => listed.push((id, report)),
                None => stop_unconfigured(turn, report),
            }
        }
        let answers_lost = std::mem::take(&mut self.manager.answers_lost);
        let mut missing = self.devices.agents();
        for (id, report) in listed {
            missing.retain(|&other| other != id);
            self.drive(turn, id, |agent, context| agent.listed(report, answers_lost, context));
        }
        for id in missing {
            self.drive(turn, id, |agent, context| agent.missing(answers_lost, context));
        }
    }

    pub(super) fn unit_changed(&mut self, turn: &mut Turn<'_>, report: UnitReport) {
        if let Some(waiting) = &mut self.manager.waiting_units {
            // The list has not been processed yet: it is kept up to date instead.
            waiting.retain(|listed| listed.unit != report.unit);
            waiting.push(report);
            return;
        }
        let Some(id) = self.devices.of_unit(&report.unit) else { return };
        self.drive(turn, id, |agent, context| agent.reported(report, context));
    }

    pub(super) fn unit_removed(&mut self, turn: &mut Turn<'_>, unit: &UnitName) {
        if let Some(waiting) = &mut self.manager.waiting_units {
            waiting.retain(|listed| listed.unit != *unit);
            return;
        }
        let Some(id) = self.devices.of_unit(unit) else {
            return self.unit_departed(turn, unit);
        };
        self.drive(turn, id, Agent::removed);
    }

    pub(super) fn start_finished(
        &mut self,
        turn: &mut Turn<'_>,
        unit: &UnitName,
        outcome: JobOutcome,
    ) {
        let Some(id) = self.devices.of_unit(unit) else { return };
        self.drive(turn, id, |agent, context| agent.start_finished(outcome, context));
    }

    pub(super) fn stop_finished(
        &mut self,
        turn: &mut Turn<'_>,
        unit: &UnitName,
        outcome: JobOutcome,
    ) {
        let Some(id) = self.devices.of_unit(unit) else {
            if outcome == JobOutcome::Done {
                self.unit_departed(turn, unit);
            }
            return;
        };
        self.drive(turn, id, |agent, context| agent.stop_finished(outcome, context));
    }

    /// The system begins to go down, or the shutdown is cancelled; then missed starts are made up
    /// for.
    pub(super) fn note_system_state(&mut self, turn: &mut Turn<'_>, stopping: bool) {
        let was_stopping = std::mem::replace(&mut self.manager.system_stopping, stopping);
        if stopping || !was_stopping {
            return;
        }
        for id in self.devices.agents() {
            self.drive(turn, id, Agent::shutdown_called_off);
        }
    }

    /// Counts again after the configuration changed.
    pub(super) fn count_agents(&mut self) {
        let agents = self.devices.iter().filter_map(|device| device.rare.agent());
        self.manager.agents = agents.clone().count();
        self.manager.running = agents.filter(|agent| agent.is_running()).count();
    }
}

/// Stops a unit of this monitor that has left the configuration.
fn stop_unconfigured(turn: &mut Turn<'_>, report: UnitReport) {
    if report.active.is_alive() {
        let message = format!("`{}` is no longer configured and is stopped", report.unit);
        turn.raise(AlertKind::AgentStopped, message);
    }
    turn.out.push(Action::StopUnit { unit: report.unit });
}
