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

use crate::model::action::Action;
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::notice::Notice;
use crate::model::spec::AgentSpec;
use crate::model::unit::{ActiveState, JobOutcome, UnitReport};
use crate::model::unit_name::UnitName;
use crate::monitor::publishing::notify;
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

    pub(super) fn unit_changed(&mut self, turn: &mut Turn<'_>, report: UnitReport) {
        if let Some(waiting) = &mut self.manager.waiting_units {
            // The list has not been looked at yet: it is kept up to date instead.
            waiting.retain(|listed| listed.unit != report.unit);
            waiting.push(report);
            return;
        }
        let Some(id) = self.devices.of_unit(&report.unit) else { return };
        let was = self.devices[id].agent.as_ref().map(|agent| agent.unit_state());
        self.note_report(turn, id, report);
        let Some(agent) = self.agent_mut(id) else { return };
        match agent.phase {
            Phase::Running if !agent.is_alive() => self.unit_fell(turn, id),
            Phase::Running if agent.is_active() => agent.start_trouble = None,
            // Somebody else started it: so be it.
            Phase::Waiting { .. } if agent.is_running() => agent.phase = Phase::Running,
            Phase::Stopped if agent.is_running() => self.stop_agent(turn, id),
            Phase::Running
            | Phase::Waiting { .. }
            | Phase::Stopped
            | Phase::Unknown
            | Phase::Starting
            | Phase::Stopping { .. } => {}
        }
        let is = self.devices[id].agent.as_ref().map(|agent| agent.unit_state());
        if was != is {
            self.tell_unit(turn, id);
        }
    }

    /// Takes in a report, and publishes a start that it tells of.
    fn note_report(&mut self, turn: &mut Turn<'_>, id: DeviceId, report: UnitReport) {
        let Some(agent) = self.agent_mut(id) else { return };
        let was_running = agent.is_running();
        let before = agent.report.replace(report);
        agent.note_end(turn, before.as_ref());
        let Some(report) = &agent.report else { return };
        let runs = report.main_pid != 0;
        let started = runs
            && !report.invocation.is_empty()
            && agent.last_invocation.as_deref() != Some(report.invocation.as_str());
        if started {
            // The count is of one unit: it begins anew with a unit that the monitor makes.
            let by_systemd = report.restarts > 0 && report.restarts != agent.restarts_at_start;
            let exit = before.as_ref().and_then(|before| before.last_exit.clone());
            let exit = report.last_exit.clone().or(exit);
            agent.restarts_at_start = report.restarts;
            if by_systemd && exit.is_none() && agent.seen_running {
                let unknown = "ended, and systemd was faster than the look at how".to_owned();
                agent.ended = Some((unknown, turn.now.wall));
            }
            agent.last_invocation = Some(report.invocation.clone());
            agent.healthy_at = Some(turn.now.mono + HEALTHY_AFTER);
            self.timers.push(turn.now.mono + HEALTHY_AFTER, Timer::Healthy(id));
            self.agent_started(turn, id, by_systemd, exit.as_deref());
        }
        match (was_running, runs) {
            (false, true) => self.manager.running += 1,
            (true, false) => self.manager.running -= 1,
            (true, true) | (false, false) => {}
        }
    }

    fn agent_started(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        by_systemd: bool,
        last_exit: Option<&str>,
    ) {
        self.restart_silence(turn, id);
        self.save_soon(id);
        let device = &mut self.devices[id];
        let name = device.spec.name.clone();
        let Some(agent) = &mut device.agent else { return };
        let again = std::mem::replace(&mut agent.seen_running, true);
        agent.restarts += u64::from(again);
        let pid = agent.report.as_ref().map_or(0, |report| report.main_pid);
        if again {
            let device = name.to_string();
            turn.out.push(notify(Notice::AgentRestarted { device, main_pid: pid }));
        }
        let is_failing = agent.told_failing;
        let payload = turn.now.wall.as_secs().to_string();
        // systemd may be faster than the look at what it does, and then the exit is not known.
        let exit = last_exit.map(|exit| format!(" ({exit})")).unwrap_or_default();
        let message = if by_systemd {
            format!("agent `{name}` has ended{exit}, systemd has restarted it (PID {pid})")
        } else {
            format!("agent `{name}` has started (PID {pid})")
        };
        turn.out.push(self.device_publication("startedprocess", id, payload, false));
        self.tell_unit(turn, id);
        turn.out.push(self.device_alert(id, AlertKind::AgentStarted, message));
        if by_systemd && !is_failing {
            self.note_flap(turn, id, "has ended");
        }
    }

    /// The unit is down and systemd will not restart it.
    fn unit_fell(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let name = self.devices[id].spec.name.clone();
        let Some(agent) = self.agent_mut(id) else { return };
        let Some(report) = &agent.report else { return };
        match report.active {
            ActiveState::Deactivating => {
                if agent.lingers() {
                    self.look_when_settled(turn, id);
                }
            }
            ActiveState::Failed if agent.was_restarted_by_hand() => {
                let step = agent.step;
                let delay = self.relaunch_later(turn, id);
                if let Some(agent) = self.agent_mut(id) {
                    agent.step = step;
                }
                let message = format!(
                    "agent `{name}` was restarted by hand more often than systemd's start limit \
                     allows, and is started again in {}",
                    Seconds(delay)
                );
                turn.out.push(self.device_alert(id, AlertKind::AgentRelaunched, message));
            }
            ActiveState::Failed => self.unit_failed(turn, id),
            ActiveState::Inactive => {
                let delay = self.relaunch_later(turn, id);
                let message = format!(
                    "agent `{name}` was stopped and is relaunched in {}; `iotmonitor disable \
                     {name}` stops it for good",
                    Seconds(delay)
                );
                turn.out.push(self.device_alert(id, AlertKind::AgentRelaunched, message));
            }
            ActiveState::Active | ActiveState::Reloading | ActiveState::Activating => {}
        }
    }

    /// systemd has given up.
    fn unit_failed(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let name = self.devices[id].spec.name.clone();
        let Some(agent) = self.agent_mut(id) else { return };
        let exit = agent.last_exit();
        let trouble = agent.start_trouble.take();
        let told = std::mem::replace(&mut agent.told_failing, true);
        let delay = self.relaunch_later(turn, id);
        if told {
            return;
        }
        let verb = if trouble.is_some() { "cannot be started" } else { "keeps failing" };
        let hint = if exit == "exited with 0" {
            "; what it starts in the background ends with it, so let that run in the foreground, \
             with `exec`"
        } else {
            ""
        };
        let message = format!(
            "agent `{name}` {verb} ({exit}): it is relaunched after growing delays, now in {}{hint}; \
             its output is in `journalctl -u {}`",
            Seconds(delay),
            self.unit_of(id)
        );
        self.tell_failing(turn, id, message);
    }

    pub(super) fn unit_removed(&mut self, turn: &mut Turn<'_>, unit: &UnitName) {
        if let Some(waiting) = &mut self.manager.waiting_units {
            waiting.retain(|listed| listed.unit != *unit);
            return;
        }
        let Some(id) = self.devices.of_unit(unit) else { return };
        let name = self.devices[id].spec.name.clone();
        if self.devices[id].agent.as_deref().is_some_and(Agent::is_running) {
            self.manager.running -= 1;
        }
        let Some(agent) = self.agent_mut(id) else { return };
        agent.report = None;
        if agent.phase == Phase::Running {
            let delay = self.relaunch_later(turn, id);
            let message = format!(
                "agent `{name}` was stopped, or its unit is gone: it is relaunched in {}; \
                 `iotmonitor disable {name}` stops it for good",
                Seconds(delay)
            );
            turn.out.push(self.device_alert(id, AlertKind::AgentRelaunched, message));
            self.tell_unit(turn, id);
        }
    }

    pub(super) fn start_finished(
        &mut self,
        turn: &mut Turn<'_>,
        unit: &UnitName,
        outcome: JobOutcome,
    ) {
        let Some(id) = self.devices.of_unit(unit) else { return };
        let name = self.devices[id].spec.name.clone();
        let system_stopping = self.manager.system_stopping;
        let Some(agent) = self.agent_mut(id) else { return };
        if agent.phase != Phase::Starting {
            return;
        }
        match outcome {
            JobOutcome::Done => {
                agent.phase = Phase::Running;
                match agent.is_alive() {
                    true => self.replace_outdated(turn, id),
                    false if agent.report.is_some() => self.unit_fell(turn, id),
                    false => self.unit_removed(turn, unit),
                }
            }
            JobOutcome::Failed(_) if system_stopping => agent.phase = Phase::Stopped,
            // systemd tries again by itself at once. What its last try came to is told when it gives
            // up: at the moment, the next one has begun, and nothing is left of the one before.
            JobOutcome::Failed(reason) if agent.is_alive() => {
                agent.phase = Phase::Running;
                if !agent.is_active() {
                    agent.start_trouble = Some(reason);
                    self.look_when_settled(turn, id);
                }
            }
            JobOutcome::Failed(reason) => {
                if agent.report.as_ref().is_none_or(|report| report.last_exit.is_none()) {
                    agent.ended = Some((format!("was not started: {reason}"), turn.now.wall));
                }
                let told = std::mem::replace(&mut agent.told_failing, true);
                let delay = self.relaunch_later(turn, id);
                if !told {
                    let message = format!(
                        "agent `{name}` cannot be started ({reason}): it is tried again after \
                         growing delays, now in {}",
                        Seconds(delay)
                    );
                    self.tell_failing(turn, id, message);
                }
            }
        }
    }

    pub(super) fn stop_finished(
        &mut self,
        turn: &mut Turn<'_>,
        unit: &UnitName,
        outcome: JobOutcome,
    ) {
        let Some(id) = self.devices.of_unit(unit) else { return };
        let name = self.devices[id].spec.name.clone();
        let Some(agent) = self.agent_mut(id) else { return };
        let Phase::Stopping { then_start } = agent.phase else { return };
        if let JobOutcome::Failed(reason) = outcome
            && !agent.is_gone()
        {
            // Two at once are worse than one too long: nothing is started before the old is gone.
            agent.phase = if then_start { Phase::Running } else { Phase::Stopped };
            let message = format!(
                "agent `{name}` cannot be stopped ({reason}): see `systemctl status {unit}`"
            );
            turn.out.push(self.device_alert(id, AlertKind::AgentFailed, message));
            return;
        }
        agent.phase = Phase::Stopped;
        if then_start && self.devices[id].is_enabled() {
            self.start_agent(turn, id);
        } else {
            self.tell_unit(turn, id);
        }
    }

    /// The one alert of an agent that keeps failing, until it is healthy again.
    fn tell_failing(&mut self, turn: &mut Turn<'_>, id: DeviceId, mut message: String) {
        // What comes of a row of failures is told here.
        self.devices[id].flaps = None;
        self.tell_state(turn, id);
        message.push_str(&self.dependents_clause(id));
        let reason = Some(Reason::AgentFailed);
        turn.out.push(self.episode_alert(id, AlertKind::AgentFailed, reason, message));
        self.fell(turn, id);
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
