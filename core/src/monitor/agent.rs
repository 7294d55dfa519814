//! Agents: which unit should run, what systemd says of it, and what to do about the difference.
//!
//! systemd restarts a dead agent by itself, also while the monitor is away. The monitor starts
//! what is not there, adopts what is, and relaunches where systemd does not: a unit that was
//! stopped, failed to start, is gone, or hit its start limit. Each of its own relaunches waits for
//! a delay that doubles up to a cap and starts afresh after the agent has been healthy for a while.
//!
//! Deliberately absent: D-Bus, unit properties, and polling.

mod definition;
mod orders;
mod progress;
mod reports;

use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::spec::AgentSpec;
use crate::model::unit::{ActiveState, JobOutcome, UnitReport};
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use definition::definition_of;
use std::time::Duration;

/// An agent that has run this long is healthy: its next failure begins with the first delay.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// systemd's own tries of a failing start are over by then, unless each takes its time; and what a
/// main process leaves behind has mostly ended.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// systemd refuses further starts (systemd.unit(5), StartLimitBurst=).
const START_LIMIT: &str = "start-limit-hit";

/// An agent at run time.
#[derive(Debug, Clone)]
pub struct Agent {
    pub spec: AgentSpec,
    /// Changes when, and only when, the unit has to be made anew.
    pub definition: String,
    phase: Phase,
    /// systemd's last word on the unit; `None` when it is not loaded.
    pub report: Option<UnitReport>,
    /// The invocation whose start was published.
    pub last_invocation: Option<String>,
    /// Relaunches since it was last healthy; the delay's exponent.
    step: u32,
    /// When [`Timer::Healthy`] is to look; a later one replaces it.
    healthy_at: Option<Duration>,
    /// Why the last start failed that systemd tries again by itself.
    start_trouble: Option<String>,
    /// When [`Timer::Settled`] is to look at a unit between two states.
    settled_at: Option<Duration>,
    /// The alert that it keeps failing is out.
    told_failing: bool,
    /// systemd's own count of restarts when the process that runs now was started.
    restarts_at_start: u32,
    /// It has been seen to run, so the next start is a restart.
    seen_running: bool,
    /// Restarts that were seen since the monitor started, whoever made them.
    pub restarts: u64,
    /// How the last process that has ended did so, or why there was none, and when by the wall clock.
    pub ended: Option<(String, Duration)>,
}

/// What the monitor does with the unit at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// systemd has not been asked yet.
    Unknown,
    /// Asked to start, not answered.
    Starting,
    /// Left to systemd.
    Running,
    /// Waiting for the next relaunch.
    Waiting { until: Duration },
    /// Asked to stop; started again afterwards if so.
    Stopping { then_start: bool },
    /// Meant not to run.
    Stopped,
}

/// The service manager as a whole.
#[derive(Debug, Default)]
pub struct ManagerState {
    told_lost: bool,
    /// What was asked for before the loss may never be answered.
    answers_lost: bool,
    /// Units that were reported before it was known which agents are disabled.
    waiting_units: Option<Vec<UnitReport>>,
    /// The store has told, or cannot tell, which agents are disabled.
    settled: bool,
    pub system_stopping: bool,
    pub agents: usize,
    /// Agents with a living main process.
    pub running: usize,
}

impl Agent {
    #[must_use]
    pub fn new(name: &DeviceName, spec: AgentSpec) -> Self {
        Self {
            definition: definition_of(name, &spec),
            spec,
            phase: Phase::Unknown,
            report: None,
            last_invocation: None,
            step: 0,
            healthy_at: None,
            start_trouble: None,
            settled_at: None,
            told_failing: false,
            restarts_at_start: 0,
            seen_running: false,
            restarts: 0,
            ended: None,
        }
    }

    /// Whether a main process lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.main_pid != 0)
    }

    /// Whether systemd cannot keep it up, as was told.
    #[must_use]
    pub fn keeps_failing(&self) -> bool {
        self.told_failing
    }

    /// When it is to be started again, on monotonic time, where that is the monitor's business.
    #[must_use]
    pub fn next_start(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Unknown
            | Phase::Starting
            | Phase::Running
            | Phase::Stopping { .. }
            | Phase::Stopped => None,
        }
    }

    /// Remembers how a process ended, for its unit may go.
    fn note_end(&mut self, turn: &Turn<'_>, before: Option<&UnitReport>) {
        let Some(report) = &self.report else { return };
        let Some(exit) = &report.last_exit else { return };
        let same = |before: &UnitReport| {
            (&before.last_exit, before.ended_at) == (&report.last_exit, report.ended_at)
        };
        if !before.is_some_and(same) {
            self.ended = Some((exit.clone(), report.ended_at.unwrap_or(turn.now.wall)));
        }
    }

    /// systemd's ActiveState in its own words.
    #[must_use]
    pub fn unit_state(&self) -> &'static str {
        match self.report.as_ref().map(|report| report.active) {
            Some(ActiveState::Active) => "active",
            Some(ActiveState::Reloading) => "reloading",
            Some(ActiveState::Inactive) | None => "inactive",
            Some(ActiveState::Failed) => "failed",
            Some(ActiveState::Activating) => "activating",
            Some(ActiveState::Deactivating) => "deactivating",
        }
    }

    /// Whether its start has succeeded.
    fn is_active(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.active == ActiveState::Active)
    }

    /// Whether its main process has ended and others of its unit have not.
    fn lingers(&self) -> bool {
        self.report.as_ref().is_some_and(|report| {
            report.active == ActiveState::Deactivating && report.main_pid == 0
        })
    }

    /// Whether systemd refuses to start it for nothing but too many restarts by hand: those are not
    /// counted as its own, and end the process as a stop does.
    fn was_restarted_by_hand(&self) -> bool {
        self.report.as_ref().is_some_and(|report| {
            report.result == START_LIMIT
                && (report.restarts == 0
                    || report.last_exit.as_deref() == Some("killed by SIGTERM"))
        })
    }

    /// Whether systemd holds the unit up or is about to restart it.
    fn is_alive(&self) -> bool {
        self.report.as_ref().is_some_and(|report| is_alive(report.active))
    }

    /// Whether no process of the unit can be left.
    fn is_gone(&self) -> bool {
        match self.report.as_ref().map(|report| report.active) {
            None | Some(ActiveState::Inactive | ActiveState::Failed) => true,
            Some(
                ActiveState::Active
                | ActiveState::Reloading
                | ActiveState::Activating
                | ActiveState::Deactivating,
            ) => false,
        }
    }

    /// What waits on the monotonic clock for it.
    pub fn pending_timers(&self, id: DeviceId) -> impl Iterator<Item = (Duration, Timer)> {
        let relaunch = self.next_start().map(|until| (until, Timer::Relaunch(id)));
        let healthy = self.healthy_at.map(|at| (at, Timer::Healthy(id)));
        let settled = self.settled_at.map(|at| (at, Timer::Settled(id)));
        relaunch.into_iter().chain(healthy).chain(settled)
    }

    fn last_exit(&self) -> String {
        match &self.report {
            Some(UnitReport { last_exit: Some(exit), .. }) => exit.clone(),
            Some(UnitReport { result, .. }) if result != "success" => format!("result `{result}`"),
            Some(_) | None => "no exit is known".to_owned(),
        }
    }
}

fn is_alive(active: ActiveState) -> bool {
    match active {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Activating => true,
        ActiveState::Inactive | ActiveState::Failed | ActiveState::Deactivating => false,
    }
}

impl Monitor {
    pub(super) fn manager_connected(&mut self, turn: &mut Turn<'_>, units: Vec<UnitReport>) {
        if std::mem::take(&mut self.manager.told_lost) {
            turn.raise(AlertKind::ManagerBack, "systemd answers on D-Bus again".to_owned());
        }
        self.manager.waiting_units = Some(units);
        let orders = self.takedown.manager_connected();
        self.take_down(turn, orders);
        self.take_in_units(turn);
    }

    pub(super) fn manager_lost(&mut self, turn: &mut Turn<'_>, reason: &str) {
        self.takedown.manager_lost();
        // Also without agents: a reload may bring the first one while systemd is away.
        self.manager.answers_lost = true;
        if self.manager.agents == 0 {
            return;
        }
        self.manager.told_lost = true;
        let message =
            format!("agents cannot be started or watched for now, those that run go on: {reason}");
        turn.raise(AlertKind::ManagerLost, message);
    }

    /// It is known now, or cannot be known, which agents a person disabled.
    pub(super) fn settle_agents(&mut self, turn: &mut Turn<'_>) {
        let first = !std::mem::replace(&mut self.manager.settled, true);
        if first {
            self.take_in_units(turn);
            return;
        }
        for id in self.devices.agents() {
            let device = &self.devices[id];
            if !device.is_enabled()
                && device.agent.as_ref().is_some_and(|a| a.phase != Phase::Stopped)
            {
                self.stop_agent(turn, id);
            }
        }
    }

    /// Compares what systemd has with what the configuration wants.
    pub(super) fn take_in_units(&mut self, turn: &mut Turn<'_>) {
        // No agent runs twice: what a former clientid has started is stopped first.
        if !self.manager.settled || !self.takedown.has_stopped_units() {
            return;
        }
        let Some(units) = self.manager.waiting_units.take() else { return };
        let mut listed: Vec<(DeviceId, UnitReport)> = Vec::new();
        for report in units {
            match self.devices.of_unit(&report.unit) {
                Some(id) => listed.push((id, report)),
                None if is_alive(report.active) => {
                    let message =
                        format!("`{}` is no longer configured and is stopped", report.unit);
                    turn.raise(AlertKind::AgentStopped, message);
                    turn.out.push(Action::StopUnit { unit: report.unit });
                }
                None => turn.out.push(Action::StopUnit { unit: report.unit }),
            }
        }
        let answers_lost = std::mem::take(&mut self.manager.answers_lost);
        let mut missing = self.devices.agents();
        for (id, report) in listed {
            missing.retain(|&other| other != id);
            self.compare_unit(turn, id, report, answers_lost);
        }
        for id in missing {
            self.unit_missing(turn, id, answers_lost);
        }
    }

    fn compare_unit(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        report: UnitReport,
        answers_lost: bool,
    ) {
        let Some(agent) = &self.devices[id].agent else { return };
        match agent.phase {
            Phase::Unknown => self.meet_unit(turn, id, report),
            Phase::Starting if answers_lost && is_alive(report.active) => {
                self.unit_changed(turn, report);
                if let Some(agent) = self.agent_mut(id) {
                    agent.phase = Phase::Running;
                }
            }
            Phase::Starting if answers_lost => {
                self.unit_changed(turn, report);
                self.start_agent(turn, id);
            }
            Phase::Stopping { .. } if answers_lost => {
                let unit = report.unit.clone();
                self.unit_changed(turn, report);
                turn.out.push(Action::StopUnit { unit });
            }
            Phase::Running => {
                self.unit_changed(turn, report);
                self.replace_outdated(turn, id);
            }
            Phase::Starting | Phase::Stopping { .. } | Phase::Waiting { .. } | Phase::Stopped => {
                self.unit_changed(turn, report)
            }
        }
    }

    /// Makes a running unit anew whose definition is no longer the one in force.
    fn replace_outdated(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(agent) = self.agent_mut(id) else { return };
        let Some(report) = &agent.report else { return };
        let same = report.definition.as_deref() == Some(agent.definition.as_str());
        if agent.phase == Phase::Running && is_alive(report.active) && !same {
            agent.phase = Phase::Stopping { then_start: true };
            let unit = agent.spec.unit.clone();
            turn.out.push(Action::StopUnit { unit });
        }
    }

    /// The first look at an agent's unit: adopted, made anew, started or stopped.
    fn meet_unit(&mut self, turn: &mut Turn<'_>, id: DeviceId, report: UnitReport) {
        let enabled = self.devices[id].is_enabled();
        self.note_report(turn, id, report);
        let Some(agent) = self.agent_mut(id) else { return };
        let found = agent.report.as_ref().and_then(|report| report.definition.as_deref());
        let same = found == Some(agent.definition.as_str());
        if !enabled {
            self.stop_agent(turn, id);
        } else if !same {
            agent.phase = Phase::Stopping { then_start: true };
            let unit = agent.spec.unit.clone();
            turn.out.push(Action::StopUnit { unit });
        } else if agent.is_alive() {
            agent.phase = Phase::Running;
            agent.seen_running = true;
            agent.restarts_at_start = agent.report.as_ref().map_or(0, |report| report.restarts);
            let pid = agent.report.as_ref().map_or(0, |report| report.main_pid);
            let name = self.devices[id].spec.name.clone();
            let message = format!("agent `{name}` was running already and is adopted (PID {pid})");
            turn.out.push(self.device_alert(id, AlertKind::AgentAdopted, message));
        } else {
            self.start_agent(turn, id);
        }
    }

    fn unit_missing(&mut self, turn: &mut Turn<'_>, id: DeviceId, answers_lost: bool) {
        let enabled = self.devices[id].is_enabled();
        let Some(agent) = self.agent_mut(id) else { return };
        let unit = agent.spec.unit.clone();
        match agent.phase {
            Phase::Unknown if enabled => self.start_agent(turn, id),
            Phase::Unknown => agent.phase = Phase::Stopped,
            Phase::Starting if answers_lost => self.start_agent(turn, id),
            Phase::Stopping { .. } if answers_lost => {
                self.unit_removed(turn, &unit);
                self.stop_finished(turn, &unit, JobOutcome::Done);
            }
            Phase::Running => self.unit_removed(turn, &unit),
            Phase::Starting | Phase::Stopping { .. } | Phase::Waiting { .. } | Phase::Stopped => {}
        }
    }
}

/// The agent is no longer in the configuration.
pub(super) fn agent_left(turn: &mut Turn<'_>, name: &DeviceName, gone: Agent) {
    let message = format!("agent `{name}` is no longer configured and is stopped");
    turn.raise(AlertKind::AgentStopped, message);
    turn.out.push(Action::StopUnit { unit: gone.spec.unit });
}

/// A delay as a person reads it: `0.8 s`, `60 s`.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < Duration::from_secs(10) {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        } else {
            write!(f, "{} s", self.0.as_secs())
        }
    }
}
