//! What people order: which event it is, and who waits until it has happened.

use super::Daemon;
use super::reload::CommandReply;
use crate::request::{Command, Rejection};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::progress::{Goal, Progress};
use iotmonitor_core::monitor::Monitor;

/// Who waits beyond that is told so; what was ordered happens all the same.
const MOST_WAITING: usize = 64;

/// Those who wait, looked at after each turn.
#[derive(Debug, Default)]
pub struct Orders {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    device: DeviceName,
    goal: Goal,
    reply: CommandReply,
}

impl Orders {
    /// What a command has to bring about before its caller is answered; `None` where it has happened
    /// as soon as it is obeyed. To be asked before that.
    #[must_use]
    pub fn goal_of(command: &Command, monitor: &Monitor) -> Option<(DeviceName, Goal)> {
        let device = command.device()?.clone();
        let goal = match command {
            Command::Reload | Command::Restore(_) => return None,
            // One that is enabled runs already, or is about to.
            Command::Enable(_) => Goal::Running,
            Command::RestartAgent(_) => Goal::Started { before: monitor.invocation(&device) },
            Command::Disable(_) | Command::Pause(..) => Goal::Stopped,
        };
        Some((device, goal))
    }

    pub fn push(&mut self, (device, goal): (DeviceName, Goal), reply: CommandReply) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push(Waiting { device, goal, reply });
            return;
        }
        let sentence =
            format!("it happens, but {MOST_WAITING} others wait for such a thing already");
        let _ = reply.send(Err(Rejection::Failed(sentence)));
    }

    /// Answers those whose waiting is over, and forgets those who are gone.
    pub fn look(&mut self, monitor: &Monitor) {
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            let outcome = match monitor.progress(&waiting.device, &waiting.goal) {
                Progress::Pending if !waiting.reply.is_closed() => {
                    at += 1;
                    continue;
                }
                Progress::Pending | Progress::Done => Ok(()),
                Progress::Failed(sentence) => Err(Rejection::Failed(sentence)),
            };
            let _ = self.waiting.swap_remove(at).reply.send(outcome);
        }
    }
}

impl Daemon<'_> {
    /// Does it, and answers at once; a reload when it is done.
    pub(super) fn obey(&mut self, command: Command, reply: CommandReply) {
        if command == Command::Reload {
            return self.reload(Some(reply));
        }
        // Who asked may have gone away meanwhile.
        let _ = reply.send(self.event_of(command).map(|event| self.turn(event)));
    }

    /// Does it, and answers when it has happened.
    pub(super) fn follow(&mut self, command: Command, reply: CommandReply) {
        let Some(goal) = Orders::goal_of(&command, &self.monitor) else {
            return self.obey(command, reply);
        };
        match self.event_of(command) {
            Ok(event) => {
                self.turn(event);
                self.orders.push(goal, reply);
            }
            Err(rejection) => drop(reply.send(Err(rejection))),
        }
    }

    fn event_of(&self, command: Command) -> Result<Event, Rejection> {
        Ok(match command {
            // It is none for the monitor.
            Command::Reload => Event::TimePassed,
            Command::Enable(device) => Event::Enabled { device: self.known(device)? },
            Command::Disable(device) => Event::Disabled { device: self.known(device)? },
            Command::Pause(device, span) => {
                let device = self.known(device)?;
                if self.monitor.is_disabled_by_its_section(&device) {
                    return Err(Rejection::Failed(format!(
                        "`{device}` is out of the monitoring already, by `enabled = false` in its \
                         section"
                    )));
                }
                Event::Paused { device, span }
            }
            Command::Restore(device) => Event::RestoreRequested { device: self.known(device)? },
            Command::RestartAgent(device) => {
                let device = self.known_agent(device)?;
                if !self.monitor.is_enabled(&device) {
                    return Err(Rejection::Failed(format!(
                        "`{device}` is out of the monitoring: `{} enable {device}` starts it",
                        self.monitor.command()
                    )));
                }
                Event::RestartRequested { device }
            }
        })
    }

    fn known(&self, name: DeviceName) -> Result<DeviceName, Rejection> {
        if self.monitor.knows(&name) { Ok(name) } else { Err(Rejection::UnknownDevice(name)) }
    }

    fn known_agent(&self, name: DeviceName) -> Result<DeviceName, Rejection> {
        let name = self.known(name)?;
        if self.monitor.knows_agent(&name) {
            return Ok(name);
        }
        let sentence =
            format!("`{name}` is a device without a process, there is nothing to restart");
        Err(Rejection::Failed(sentence))
    }
}
