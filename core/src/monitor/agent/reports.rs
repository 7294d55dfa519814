//! What systemd reports of an agent's unit, and what follows from it.

use super::{Agent, HEALTHY_AFTER, Phase, Seconds};
use crate::model::alert::{AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::notice::Notice;
use crate::model::unit::{ActiveState, JobOutcome, UnitReport};
use crate::model::unit_name::UnitName;
use crate::monitor::publishing::notify;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};

impl Monitor {
    pub(in crate::monitor) fn unit_changed(&mut self, turn: &mut Turn<'_>, report: UnitReport) {
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
    pub(super) fn note_report(&mut self, turn: &mut Turn<'_>, id: DeviceId, report: UnitReport) {
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
                    "agent `{name}` was stopped and is relaunched in {}; `{} disable \
                     {name}` stops it for good",
                    Seconds(delay),
                    self.command
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

    pub(in crate::monitor) fn unit_removed(&mut self, turn: &mut Turn<'_>, unit: &UnitName) {
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
                 `{} disable {name}` stops it for good",
                Seconds(delay),
                self.command
            );
            turn.out.push(self.device_alert(id, AlertKind::AgentRelaunched, message));
            self.tell_unit(turn, id);
        }
    }

    pub(in crate::monitor) fn start_finished(
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

    pub(in crate::monitor) fn stop_finished(
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
    pub(super) fn tell_failing(&mut self, turn: &mut Turn<'_>, id: DeviceId, mut message: String) {
        // What comes of a row of failures is told here.
        self.devices[id].flaps = None;
        self.tell_state(turn, id);
        message.push_str(&self.dependents_clause(id));
        let reason = Some(Reason::AgentFailed);
        turn.out.push(self.episode_alert(id, AlertKind::AgentFailed, reason, message));
        self.fell(turn, id);
    }
}
