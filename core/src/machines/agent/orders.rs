//! The orders to an agent: start, stop, restart, and relaunch after a delay.

use super::definition::{definition_of, delay_of};
use super::{Agent, Context, Failure, Outcome, Phase};
use crate::model::cluster::sharing::Tenure;
use crate::model::device_name::DeviceName;
use std::time::Duration;

/// The interval at which a relaunch that a shutdown prevents is checked again, because the shutdown
/// may be cancelled.
const SHUTDOWN_RECHECK: Duration = Duration::from_secs(5);

impl Agent {
    /// Continues from the agent of the same name in the previous configuration.
    pub fn succeed(&mut self, before: Self, context: &Context) -> Vec<Outcome> {
        let changed = before.definition != self.definition;
        *self = Self {
            spec: self.spec.clone(),
            definition: std::mem::take(&mut self.definition),
            tenure: self.tenure,
            // Deadlines were returned under the agent's former index.
            deadline_given: None,
            ..before
        };
        if changed {
            self.forgive();
        }
        let mut outcomes = Vec::new();
        match self.phase {
            Phase::Unknown => {}
            Phase::Stopped | Phase::Stopping { then_start: false } if !context.enabled => {}
            _ if !context.enabled => self.stop(&mut outcomes),
            Phase::Running | Phase::Starting if changed => self.replace(&mut outcomes),
            Phase::Waiting { .. } if changed => self.start(context, &mut outcomes),
            Phase::Stopped | Phase::Stopping { .. } => {
                self.start_if_stopped(context, &mut outcomes)
            }
            Phase::Running | Phase::Starting | Phase::Waiting { .. } => {}
        }
        outcomes
    }

    /// Notes by what right it runs before anything is known of its unit.
    pub fn expect(&mut self, name: &DeviceName, tenure: Option<Tenure>) {
        self.tenure = tenure;
        self.definition = definition_of(name, &self.spec, tenure);
    }

    /// Changes the right by which it runs. A process that runs by another one is replaced.
    pub fn entrust(
        &mut self,
        name: &DeviceName,
        tenure: Option<Tenure>,
        context: &Context,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if self.tenure == tenure {
            return outcomes;
        }
        self.expect(name, tenure);
        match self.phase {
            Phase::Running | Phase::Starting => self.replace(&mut outcomes),
            Phase::Waiting { .. } => self.start(context, &mut outcomes),
            Phase::Unknown | Phase::Stopping { .. } | Phase::Stopped => {}
        }
        outcomes
    }

    /// Applies a change of whether the agent should run.
    pub fn choose(&mut self, context: &Context) -> Vec<Outcome> {
        self.forgive();
        let mut outcomes = Vec::new();
        if context.enabled {
            self.start_if_stopped(context, &mut outcomes);
        } else {
            self.stop(&mut outcomes);
        }
        outcomes
    }

    /// Stops an agent that should not run.
    pub fn stop_if_disabled(&mut self, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if !context.enabled && self.phase != Phase::Stopped {
            self.stop(&mut outcomes);
        }
        outcomes
    }

    /// Stops the unit and starts a new one.
    pub fn restart(&mut self, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        match self.phase {
            Phase::Running => self.replace(&mut outcomes),
            Phase::Stopping { .. } => self.phase = Phase::Stopping { then_start: true },
            Phase::Waiting { .. } | Phase::Stopped => self.start(context, &mut outcomes),
            // It is about to start anyway.
            Phase::Unknown | Phase::Starting => {}
        }
        outcomes
    }

    /// Makes up for starts that a cancelled shutdown of the system has prevented.
    pub fn shutdown_called_off(&mut self, context: &Context) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if context.enabled && self.phase == Phase::Stopped {
            self.start(context, &mut outcomes);
        }
        outcomes
    }

    /// Looks at what has become due.
    pub fn time_passed(&mut self, context: &Context) -> Vec<Outcome> {
        let now = context.now.mono;
        let is_due = |at: &mut Duration| *at <= now;
        let mut outcomes = Vec::new();
        self.deadline_given.take_if(is_due);
        if self.next_start().is_some_and(|until| until <= now) {
            if context.may_start {
                self.start(context, &mut outcomes);
            } else {
                self.phase = Phase::Waiting { until: now + SHUTDOWN_RECHECK };
            }
        }
        if self.healthy_at.take_if(is_due).is_some() && self.is_running() {
            self.step = 0;
            if std::mem::take(&mut self.reported_failing) {
                outcomes.push(Outcome::Healthy);
            }
        }
        if self.settled_at.take_if(is_due).is_some() {
            self.look_at_unsettled(context, &mut outcomes);
        }
        outcomes
    }

    /// The unit has been between two states for a while, which is worth a report.
    fn look_at_unsettled(&mut self, context: &Context, outcomes: &mut Vec<Outcome>) {
        if self.phase != Phase::Running || !context.may_start {
            return;
        }
        if self.lingers() {
            outcomes.push(Outcome::Lingers { exit: self.exit() });
        } else if let Some(reason) = self.start_trouble.take_if(|_| !self.reported_failing) {
            self.reported_failing = true;
            outcomes.push(Outcome::Failing(Failure::Retried { reason }));
        }
    }

    /// Nothing is started while the system shuts down; the start follows if the shutdown is
    /// cancelled.
    pub(super) fn start(&mut self, context: &Context, outcomes: &mut Vec<Outcome>) {
        if context.may_start {
            self.phase = Phase::Starting;
            // The unit is created anew, and systemd counts from the beginning.
            self.restarts_at_start = 0;
            outcomes.push(Outcome::Start);
        } else {
            self.phase = Phase::Stopped;
        }
    }

    fn start_if_stopped(&mut self, context: &Context, outcomes: &mut Vec<Outcome>) {
        match self.phase {
            Phase::Stopped => self.start(context, outcomes),
            Phase::Stopping { .. } => self.phase = Phase::Stopping { then_start: true },
            Phase::Unknown | Phase::Starting | Phase::Running | Phase::Waiting { .. } => {}
        }
    }

    /// Stops the unit permanently, unless no unit is known that could be stopped.
    pub(super) fn stop(&mut self, outcomes: &mut Vec<Outcome>) {
        if self.phase == Phase::Unknown && self.report.is_none() {
            return;
        }
        self.phase = Phase::Stopping { then_start: false };
        self.healthy_at = None;
        outcomes.push(Outcome::Stop);
    }

    /// Stops the unit in order to start a new one.
    pub(super) fn replace(&mut self, outcomes: &mut Vec<Outcome>) {
        self.phase = Phase::Stopping { then_start: true };
        outcomes.push(Outcome::Stop);
    }

    /// Plans the next start and returns its delay.
    pub(super) fn relaunch(&mut self, context: &Context) -> Duration {
        let delay = delay_of(&self.spec, self.step, context.jitter);
        self.step = self.step.saturating_add(1);
        self.healthy_at = None;
        self.phase = Phase::Waiting { until: context.now.mono + delay };
        delay
    }

    /// Resets the count of earlier failures.
    fn forgive(&mut self) {
        self.step = 0;
        self.reported_failing = false;
    }
}
