//! An agent: the wanted unit, systemd's reports about it, and the actions that follow from the
//! difference.
//!
//! systemd restarts a dead agent by itself, also while the monitor is away. The machine starts a
//! unit that is missing, adopts one that runs, and relaunches where systemd does not: after a stop
//! by hand, a failed start, a lost unit, or the start limit. Before each relaunch of its own it
//! waits for a delay that doubles up to a cap and is reset after the agent has been healthy for a
//! while.
//!
//! Every method that can change what must be done returns [`Outcome`]s, which are carried out in
//! order.

mod definition;
mod orders;
mod reports;
#[cfg(test)]
mod tests;

use crate::model::cluster::sharing::Tenure;
use crate::model::device_name::DeviceName;
use crate::model::progress::Goal;
use crate::model::spec::AgentSpec;
use crate::model::time::{ClockStep, Now};
use crate::model::unit::{ActiveState, UnitReport};
use crate::model::unit_name::UnitName;
use definition::definition_of;
use std::time::Duration;

/// An agent that has run this long is healthy: the delays start again with the first one.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// After this time systemd's own tries of a failing start are over, unless each takes long, and
/// processes left behind by a main process have mostly ended.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// An agent at run time.
#[derive(Debug, Clone)]
pub struct Agent {
    spec: AgentSpec,
    /// The right to run it, where several nodes share it.
    tenure: Option<Tenure>,
    /// Changes exactly when the unit has to be created anew.
    definition: String,
    phase: Phase,
    /// systemd's last report of the unit; `None` when it is not loaded.
    report: Option<UnitReport>,
    /// The invocation whose start was reported last.
    last_invocation: Option<String>,
    /// The number of relaunches since it was last healthy; the delay's exponent.
    step: u32,
    /// The time at which the running process will have been healthy for long enough.
    healthy_at: Option<Duration>,
    /// The reason of the last failed start, which systemd tries again by itself.
    start_trouble: Option<String>,
    /// The time at which a unit between two states is checked.
    settled_at: Option<Duration>,
    /// The deadline that was returned last and has not passed.
    deadline_given: Option<Duration>,
    /// The repeated failure has been reported.
    reported_failing: bool,
    /// systemd's own count of restarts when the running process was started.
    restarts_at_start: u32,
    /// It has been observed running, so the next start is a restart.
    seen_running: bool,
    /// The restarts that were observed over all runs of the monitor, whatever their cause.
    restarts: u32,
    ended: Option<End>,
}

/// How the last process ended, or the reason why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// In words.
    pub how: String,
    /// Since the Unix epoch.
    pub at: Duration,
}

/// The operation on the unit at present.
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
    /// The agent should not run.
    Stopped,
}

/// The conditions outside the agent on which its decisions depend.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub now: Now,
    /// Whether the agent should run.
    pub enabled: bool,
    /// Whether units may be started: not while the system or the monitor shuts down.
    pub may_start: bool,
    /// A random number from 0 to 100, which shortens a delay.
    pub jitter: u32,
}

/// One thing to do or to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The unit must be started.
    Start,
    /// The unit must be stopped.
    Stop,
    /// A process that was running before the monitor is adopted.
    Adopted { pid: u32 },
    /// A main process has started that was not known before.
    Started(Start),
    /// systemd reports another state of the unit, or the unit has left the wanted state.
    StateChanged,
    /// The unit is down through no failure of the agent, and is started again after the delay.
    Relaunched { after: Fall, delay: Duration },
    /// The agent cannot be kept up. Reported once until it is healthy.
    Failing(Failure),
    /// A failing agent has run for [`HEALTHY_AFTER`].
    Healthy,
    /// The unit could not be stopped, for this reason.
    NotStopped { reason: String },
    /// The main process has ended in this way, and other processes of the unit have not.
    Lingers { exit: String },
}

/// The start of a main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub pid: u32,
    /// Another process of the agent was observed before.
    pub is_restart: bool,
    /// systemd started it by itself after the previous one had ended.
    pub by_systemd: bool,
    /// How the previous one ended, where that is known.
    pub exit: Option<String>,
    /// It has been reported that the agent keeps failing.
    pub while_failing: bool,
}

/// The reason why a unit is down although its agent did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fall {
    /// systemd refused a start by hand after too many others.
    RestartedByHand,
    /// The unit was stopped from outside.
    Stopped,
    /// The unit is no longer loaded, which may follow a stop.
    Gone,
}

/// The reason why an agent cannot be kept up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// systemd has given up after this exit. The agent is relaunched after the delay.
    GivenUp { exit: String, ran: bool, delay: Duration },
    /// No start succeeds, for this reason, and systemd goes on trying.
    Retried { reason: String },
    /// The start failed for this reason, and is tried again after the delay.
    NotStarted { reason: String, delay: Duration },
}

/// The progress of the agent towards the state that a person has ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distance {
    Reached,
    OnTheWay,
    /// Its processes do not end.
    NotStopped,
    /// It could not be started for this reason, and is started again then, on monotonic time.
    Waiting {
        reason: String,
        until: Duration,
    },
}

impl Agent {
    #[must_use]
    pub fn new(name: &DeviceName, spec: AgentSpec) -> Self {
        Self {
            definition: definition_of(name, &spec, None),
            spec,
            tenure: None,
            phase: Phase::Unknown,
            report: None,
            last_invocation: None,
            step: 0,
            healthy_at: None,
            start_trouble: None,
            settled_at: None,
            deadline_given: None,
            reported_failing: false,
            restarts_at_start: 0,
            seen_running: false,
            restarts: 0,
            ended: None,
        }
    }

    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    #[must_use]
    pub fn unit(&self) -> &UnitName {
        &self.spec.unit
    }

    #[must_use]
    pub fn tenure(&self) -> Option<Tenure> {
        self.tenure
    }

    /// Whether it has been stopped, and no process of its unit can remain.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Stopped && self.is_gone()
    }

    /// Differs from the unit's hash exactly when the unit has to be created anew.
    #[must_use]
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// The invocation of the process whose start was observed last.
    #[must_use]
    pub fn last_invocation(&self) -> Option<&str> {
        self.last_invocation.as_deref()
    }

    /// Notes what an earlier run observed last, unless this one has observed a start already.
    pub fn resume(&mut self, invocation: Option<&str>, restarts: u32) {
        self.restarts = self.restarts.saturating_add(restarts);
        if self.last_invocation.is_none() {
            self.last_invocation = invocation.map(str::to_owned);
        }
    }

    /// The process id of the main process; 0 when there is none.
    #[must_use]
    pub fn main_pid(&self) -> u32 {
        self.report.as_ref().map_or(0, |report| report.main_pid)
    }

    /// Whether a main process lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.main_pid() != 0
    }

    /// Whether it has been reported that the agent cannot be kept up.
    #[must_use]
    pub fn keeps_failing(&self) -> bool {
        self.reported_failing
    }

    /// The restarts that were observed over all runs of the monitor, whatever their cause.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// How the last process ended, or the reason why there was none.
    #[must_use]
    pub fn last_end(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// The wall clock has stepped, and the displayed time of the last end moves with it.
    pub fn follow_clock(&mut self, step: ClockStep) {
        if let Some(end) = &mut self.ended {
            end.at = step.follow(end.at);
        }
    }

    /// How the last main process of the unit that is loaded now has ended.
    #[must_use]
    pub fn last_exit(&self) -> Option<&str> {
        self.report.as_ref()?.last_exit.as_deref()
    }

    /// When the agent is started again, on monotonic time, unless that is up to systemd.
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

    /// systemd's ActiveState in its own words.
    #[must_use]
    pub fn unit_state(&self) -> &'static str {
        self.report.as_ref().map_or(ActiveState::Inactive, |report| report.active).as_str()
    }

    /// The time of the next [`Self::time_passed`] call, on monotonic time; `None` where an earlier
    /// deadline has been returned before.
    pub fn take_deadline(&mut self) -> Option<Duration> {
        let deadlines = [self.next_start(), self.healthy_at, self.settled_at];
        let next = deadlines.into_iter().flatten().min()?;
        if self.deadline_given.is_some_and(|given| given <= next) {
            return None;
        }
        self.deadline_given = Some(next);
        Some(next)
    }

    /// The progress of the agent towards the state that a person has ordered.
    #[must_use]
    pub fn distance_to(&self, goal: &Goal) -> Distance {
        match (goal, &self.phase) {
            (Goal::Stopped, Phase::Stopped) if self.is_gone() => Distance::Reached,
            (Goal::Stopped, Phase::Stopped) => Distance::NotStopped,
            (Goal::Stopped, _) => Distance::OnTheWay,
            (Goal::Started { .. } | Goal::Running, Phase::Running) if !self.is_running() => {
                Distance::OnTheWay
            }
            (Goal::Started { .. } | Goal::Running, Phase::Running)
                if goal.is_old(self.last_invocation()) =>
            {
                Distance::NotStopped
            }
            (Goal::Started { .. } | Goal::Running, Phase::Running) if self.is_active() => {
                Distance::Reached
            }
            (Goal::Started { .. } | Goal::Running, Phase::Waiting { until }) => {
                let reason = self.ended.as_ref().map_or_else(|| self.exit(), |end| end.how.clone());
                Distance::Waiting { reason, until: *until }
            }
            (Goal::Started { .. } | Goal::Running, _) => Distance::OnTheWay,
        }
    }

    /// Whether its start has succeeded.
    fn is_active(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.active == ActiveState::Active)
    }

    /// Whether systemd holds the unit up or is about to restart it.
    fn is_alive(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.active.is_alive())
    }

    /// Whether no process of the unit can remain.
    fn is_gone(&self) -> bool {
        self.report.as_ref().is_none_or(|report| report.active.is_down())
    }

    /// Whether its main process has ended and others of its unit have not.
    fn lingers(&self) -> bool {
        let state = self.report.as_ref().map(|report| report.active);
        state == Some(ActiveState::Deactivating) && !self.is_running()
    }

    /// Whether the loaded unit was created for another definition.
    fn is_outdated(&self) -> bool {
        let found = self.report.as_ref().and_then(|report| report.definition.as_deref());
        found != Some(self.definition.as_str())
    }

    /// Describes how the last main process of the unit ended.
    fn exit(&self) -> String {
        match &self.report {
            Some(UnitReport { last_exit: Some(exit), .. }) => exit.clone(),
            Some(UnitReport { result, .. }) if result != "success" => format!("result `{result}`"),
            Some(_) | None => "no exit is known".to_owned(),
        }
    }
}
