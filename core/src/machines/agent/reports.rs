//! systemd's reports about an agent's unit, and the actions that follow from them.

use super::{
    Agent, Context, End, Failure, Fall, HEALTHY_AFTER, Outcome, Phase, SETTLED_AFTER, Start,
};
use crate::model::unit::{ActiveState, JobOutcome, UnitReport};
use std::time::Duration;

/// systemd refuses further starts (systemd.unit(5), StartLimitBurst=).
const START_LIMIT: &str = "start-limit-hit";

impl Agent {
    /// Processes the unit as systemd lists it after a connection. `answers_lost` means that earlier
    /// requests may never be answered.
    pub fn listed(
        &mut self,
        report: UnitReport,
        answers_lost: bool,
        context: &Context,
    ) -> Vec<Outcome> {
        if self.phase == Phase::Unknown {
            return self.meet(report, context);
        }
        let mut outcomes = self.reported(report, context);
        match self.phase {
            Phase::Starting if answers_lost && self.is_alive() => self.phase = Phase::Running,
            Phase::Starting if answers_lost => self.start(context, &mut outcomes),
            Phase::Stopping { .. } if answers_lost => outcomes.push(Outcome::Stop),
            Phase::Running => self.replace_if_outdated(&mut outcomes),
            Phase::Unknown
            | Phase::Starting
            | Phase::Stopping { .. }
            | Phase::Waiting { .. }
            | Phase::Stopped => {}
        }
        outcomes
    }

    /// Processes that systemd lists no unit of the agent after a connection.
    pub fn missing(&mut self, answers_lost: bool, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        match self.phase {
            Phase::Unknown if context.enabled => self.start(context, &mut outcomes),
            Phase::Unknown => self.phase = Phase::Stopped,
            Phase::Starting if answers_lost => self.start(context, &mut outcomes),
            Phase::Stopping { .. } if answers_lost => {
                self.report = None;
                return self.stop_finished(JobOutcome::Done, context);
            }
            Phase::Running => self.vanish(context, &mut outcomes),
            Phase::Starting | Phase::Stopping { .. } | Phase::Waiting { .. } | Phase::Stopped => {}
        }
        outcomes
    }

    /// Processes a change of the unit.
    pub fn reported(&mut self, report: UnitReport, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let state = self.unit_state();
        self.take_in(report, context, &mut outcomes);
        match self.phase {
            Phase::Running if !self.is_alive() => self.fall(context, &mut outcomes),
            Phase::Running if self.is_active() => self.start_trouble = None,
            // Another process has started it, which is equivalent.
            Phase::Waiting { .. } if self.is_running() => self.phase = Phase::Running,
            Phase::Stopped if self.is_running() => self.stop(&mut outcomes),
            Phase::Running
            | Phase::Waiting { .. }
            | Phase::Stopped
            | Phase::Unknown
            | Phase::Starting
            | Phase::Stopping { .. } => {}
        }
        if self.unit_state() != state {
            outcomes.push(Outcome::StateChanged);
        }
        outcomes
    }

    /// Processes that the unit is no longer loaded.
    pub fn removed(&mut self, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.vanish(context, &mut outcomes);
        outcomes
    }

    /// Processes the end of a requested start.
    pub fn start_finished(&mut self, outcome: JobOutcome, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if self.phase != Phase::Starting {
            return outcomes;
        }
        match outcome {
            JobOutcome::Done => {
                self.phase = Phase::Running;
                match &self.report {
                    Some(report) if report.active.is_alive() => {
                        self.replace_if_outdated(&mut outcomes);
                    }
                    Some(_) => self.fall(context, &mut outcomes),
                    None => self.vanish(context, &mut outcomes),
                }
            }
            JobOutcome::Failed(_) if !context.may_start => self.phase = Phase::Stopped,
            // systemd tries again by itself at once. The result of its last try is reported when it
            // gives up: by then the next try has begun, and nothing remains of the previous one.
            JobOutcome::Failed(reason) if self.is_alive() => {
                self.phase = Phase::Running;
                if !self.is_active() {
                    self.start_trouble = Some(reason);
                    self.look_when_settled(context.now.mono);
                }
            }
            JobOutcome::Failed(reason) => {
                if self.last_exit().is_none() {
                    let how = format!("was not started: {reason}");
                    self.ended = Some(End { how, at: context.now.wall });
                }
                self.fail(context, &mut outcomes, |delay| Failure::NotStarted { reason, delay });
            }
        }
        outcomes
    }

    /// Processes the end of a requested stop.
    pub fn stop_finished(&mut self, outcome: JobOutcome, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let Phase::Stopping { then_start } = self.phase else { return outcomes };
        match outcome {
            // Two concurrent processes are worse than a stopped agent: nothing is started before
            // the old one is gone.
            JobOutcome::Failed(reason) if !self.is_gone() => {
                self.phase = if then_start { Phase::Running } else { Phase::Stopped };
                outcomes.push(Outcome::NotStopped { reason });
            }
            JobOutcome::Done | JobOutcome::Failed(_) => {
                self.phase = Phase::Stopped;
                if then_start && context.enabled {
                    self.start(context, &mut outcomes);
                } else {
                    outcomes.push(Outcome::StateChanged);
                }
            }
        }
        outcomes
    }

    /// Processes the first report of the unit: it is adopted, created anew, started or stopped.
    fn meet(&mut self, report: UnitReport, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.take_in(report, context, &mut outcomes);
        if !context.enabled {
            self.stop(&mut outcomes);
        } else if self.is_outdated() {
            self.replace(&mut outcomes);
        } else if self.is_alive() {
            self.phase = Phase::Running;
            self.seen_running = true;
            self.restarts_at_start = self.report.as_ref().map_or(0, |report| report.restarts);
            outcomes.push(Outcome::Adopted { pid: self.main_pid() });
        } else {
            self.start(context, &mut outcomes);
        }
        outcomes
    }

    /// Replaces systemd's last report, and notes a start and an end that the new one shows.
    fn take_in(&mut self, report: UnitReport, context: &Context, outcomes: &mut Vec<Outcome>) {
        self.note_end(&report, context.now.wall);
        let is_start = report.main_pid != 0
            && !report.invocation.is_empty()
            && self.last_invocation.as_deref() != Some(report.invocation.as_str());
        if is_start {
            outcomes.push(Outcome::Started(self.note_start(&report, context.now.wall)));
            self.healthy_at = Some(context.now.mono + HEALTHY_AFTER);
        }
        self.report = Some(report);
    }

    /// Remembers how a process ended, because its unit may disappear.
    fn note_end(&mut self, report: &UnitReport, wall: Duration) {
        let Some(exit) = &report.last_exit else { return };
        let is_known = self.report.as_ref().is_some_and(|before| {
            (&before.last_exit, before.ended_at) == (&report.last_exit, report.ended_at)
        });
        if !is_known {
            self.ended = Some(End { how: exit.clone(), at: report.ended_at.unwrap_or(wall) });
        }
    }

    fn note_start(&mut self, report: &UnitReport, wall: Duration) -> Start {
        // The count belongs to one unit: it starts again with a unit that the monitor creates.
        let by_systemd = report.restarts > 0 && report.restarts != self.restarts_at_start;
        let exit = report.last_exit.as_deref().or(self.last_exit()).map(str::to_owned);
        if by_systemd && exit.is_none() && self.seen_running {
            let how = "ended, and systemd was faster than the look at how".to_owned();
            self.ended = Some(End { how, at: wall });
        }
        self.restarts_at_start = report.restarts;
        self.last_invocation = Some(report.invocation.clone());
        let is_restart = std::mem::replace(&mut self.seen_running, true);
        self.restarts = self.restarts.saturating_add(u32::from(is_restart));
        let (pid, while_failing) = (report.main_pid, self.reported_failing);
        Start { pid, is_restart, by_systemd, exit, while_failing }
    }

    /// The unit is down, and systemd does not restart it unless it has a job for it.
    fn fall(&mut self, context: &Context, outcomes: &mut Vec<Outcome>) {
        let Some(report) = &self.report else { return };
        match report.active {
            // An example is the start in a manual restart, which follows its stop.
            _ if report.has_job => {}
            ActiveState::Deactivating if self.lingers() => {
                self.look_when_settled(context.now.mono);
            }
            ActiveState::Failed if !self.has_given_up() => {
                let after = if report.result == START_LIMIT {
                    Fall::RestartedByHand
                } else {
                    Fall::Stopped
                };
                self.relaunch_after(after, context, outcomes);
            }
            ActiveState::Failed => {
                let ran = self.start_trouble.take().is_none();
                let exit = self.exit();
                self.fail(context, outcomes, |delay| Failure::GivenUp { exit, ran, delay });
            }
            ActiveState::Inactive => self.relaunch_after(Fall::Stopped, context, outcomes),
            ActiveState::Active
            | ActiveState::Reloading
            | ActiveState::Activating
            | ActiveState::Deactivating => {}
        }
    }

    /// The unit is no longer loaded; if it should run, it is relaunched.
    fn vanish(&mut self, context: &Context, outcomes: &mut Vec<Outcome>) {
        self.report = None;
        if self.phase == Phase::Running {
            self.relaunch_after(Fall::Gone, context, outcomes);
            outcomes.push(Outcome::StateChanged);
        }
    }

    /// Plans the next start of an agent that has not failed.
    fn relaunch_after(&mut self, after: Fall, context: &Context, outcomes: &mut Vec<Outcome>) {
        let step = self.step;
        let delay = self.relaunch(context);
        if after == Fall::RestartedByHand {
            self.step = step;
        }
        outcomes.push(Outcome::Relaunched { after, delay });
    }

    /// Plans the next start, and reports the first failure of several.
    fn fail(
        &mut self,
        context: &Context,
        outcomes: &mut Vec<Outcome>,
        failure: impl FnOnce(Duration) -> Failure,
    ) {
        let delay = self.relaunch(context);
        if !std::mem::replace(&mut self.reported_failing, true) {
            outcomes.push(Outcome::Failing(failure(delay)));
        }
    }

    /// Creates a unit anew that runs by another definition than the one in force.
    fn replace_if_outdated(&mut self, outcomes: &mut Vec<Outcome>) {
        if self.is_alive() && self.is_outdated() {
            self.replace(outcomes);
        }
    }

    /// The unit is between two states, which is reported if it takes long.
    fn look_when_settled(&mut self, now: Duration) {
        if self.settled_at.is_none_or(|at| at <= now) {
            self.settled_at = Some(now + SETTLED_AFTER);
        }
    }

    /// Whether the failed unit is down because systemd no longer restarts it by itself. systemd
    /// counts each restart of its own before the start limit refuses it. An unchanged count since
    /// the process was started means that a stop or a restart was requested, whatever the process
    /// made of it.
    fn has_given_up(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.restarts > self.restarts_at_start)
    }
}
