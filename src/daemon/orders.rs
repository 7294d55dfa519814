//! Commands from people: the event of each, and the callers that wait until it has happened.

use super::Daemon;
use super::reload::CommandReply;
use crate::request::{Command, Rejection};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::progress::{Goal, Progress};
use iotmonitor_core::monitor::Monitor;

/// A caller beyond this number is answered that it cannot wait; the command is carried out all the
/// same.
const MOST_WAITING: usize = 64;

/// The waiting callers, checked after each turn.
#[derive(Debug, Default)]
pub struct Orders {
    waiting: Vec<Waiting>,
    /// The caller that waits for the end of a test alert, of which there is one at a time.
    tester: Option<CommandReply>,
}

#[derive(Debug)]
struct Waiting {
    device: DeviceName,
    goal: Goal,
    reply: CommandReply,
}

impl Orders {
    /// The condition that a command must bring about before its caller is answered; `None` where
    /// the command takes effect at once. It must be determined before the command is carried out.
    #[must_use]
    pub fn goal_of(command: &Command, monitor: &Monitor) -> Option<(DeviceName, Goal)> {
        let device = command.device()?.clone();
        let goal = match command {
            Command::Reload
            | Command::Restore(_)
            | Command::Forget(_)
            | Command::Silence(..)
            | Command::Unsilence(_)
            | Command::TestAlert(_) => return None,
            // An enabled agent runs already, or is about to.
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
            format!("the order is carried out, but {MOST_WAITING} callers already wait for one");
        let _ = reply.send(Err(Rejection::Failed(sentence)));
    }

    /// Answers callers whose condition is met, and drops those that have gone away.
    pub fn look(&mut self, monitor: &Monitor) {
        if let Some(reply) = self.tester.take_if(|_| !monitor.is_testing_notification()) {
            let failure = monitor.failure_of_test().map(str::to_owned);
            let _ = reply.send(failure.map_or(Ok(()), |reason| Err(Rejection::Failed(reason))));
        }
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
    /// Carries out the command, and answers at once; a reload is answered when it is done.
    pub(super) fn obey(&mut self, command: Command, reply: CommandReply) {
        if let Some(reply) = self.place(&command, false, reply) {
            self.obey_here(command, reply);
        }
    }

    /// Carries out what concerns this node alone, or has been placed for all.
    pub(super) fn obey_here(&mut self, command: Command, reply: CommandReply) {
        if command == Command::Reload {
            return self.reload(Some(reply));
        }
        // The caller may have gone away meanwhile.
        let _ = reply.send(self.event_of(command).map(|event| self.turn(event)));
    }

    /// Carries out the command, and answers when its effect has happened.
    pub(super) fn follow(&mut self, command: Command, reply: CommandReply) {
        if let Some(reply) = self.place(&command, true, reply) {
            self.follow_here(command, reply);
        }
    }

    /// The same for what concerns this node alone, or has been placed for all.
    pub(super) fn follow_here(&mut self, command: Command, reply: CommandReply) {
        if let Command::TestAlert(_) = command {
            return self.follow_test(command, reply);
        }
        let Some(goal) = Orders::goal_of(&command, &self.monitor) else {
            return self.obey_here(command, reply);
        };
        match self.event_of(command) {
            Ok(event) => {
                self.turn(event);
                self.orders.push(goal, reply);
            }
            Err(rejection) => drop(reply.send(Err(rejection))),
        }
    }

    fn follow_test(&mut self, command: Command, reply: CommandReply) {
        match self.event_of(command) {
            Ok(event) => {
                self.orders.tester = Some(reply);
                self.turn(event);
            }
            Err(rejection) => drop(reply.send(Err(rejection))),
        }
    }

    pub(super) fn event_of(&self, command: Command) -> Result<Event, Rejection> {
        Ok(match command {
            // This command is not for the monitor.
            Command::Reload => Event::TimePassed,
            Command::Enable(device) => Event::Enabled { device: self.known(device)? },
            Command::Disable(device) => Event::Disabled { device: self.known(device)? },
            Command::Pause(device, span) => {
                let device = self.known(device)?;
                if self.monitor.is_disabled_by_its_section(&device) {
                    return Err(Rejection::Failed(format!(
                        "`{device}` is already disabled by `enabled = false` in its section"
                    )));
                }
                Event::Paused { device, span }
            }
            Command::Restore(device) => {
                let device = self.known(device)?;
                if let Some(sentence) = self.monitor.elsewhere(&device) {
                    return Err(Rejection::Failed(sentence));
                }
                Event::RestoreRequested { device }
            }
            Command::RestartAgent(device) => {
                let device = self.known_agent(device)?;
                if let Some(sentence) = self.monitor.elsewhere(&device) {
                    return Err(Rejection::Failed(sentence));
                }
                if !self.monitor.is_enabled(&device) {
                    return Err(Rejection::Failed(format!(
                        "`{device}` is disabled: `{} enable {device}` starts it",
                        self.monitor.command()
                    )));
                }
                Event::RestartRequested { device }
            }
            Command::Forget(device) => Event::Forgotten { device: self.forgettable(device)? },
            Command::Silence(device, span) => {
                Event::Silenced { device: self.known_or_all(device)?, span }
            }
            Command::Unsilence(device) => self.unsilenced(device)?,
            Command::TestAlert(device) => self.tested(device)?,
        })
    }

    fn unsilenced(&self, device: Option<DeviceName>) -> Result<Event, Rejection> {
        let device = self.known_or_all(device)?;
        if self.monitor.is_silenced_itself(device.as_ref()) {
            return Ok(Event::Unsilenced { device });
        }
        Err(Rejection::Failed(match device {
            Some(name) if self.monitor.is_silenced_itself(None) => format!(
                "`{name}` is silenced with everything else: `{} unsilence --all` ends that",
                self.monitor.command()
            ),
            Some(name) => format!("`{name}` is not silenced"),
            None => "`silence --all` is not in force; `status NAME` shows what is silenced".into(),
        }))
    }

    fn tested(&self, device: Option<DeviceName>) -> Result<Event, Rejection> {
        let device = self.known_or_all(device)?;
        if self.monitor.is_testing_notification() {
            let sentence = "another test alert is under way, try again when it has ended";
            return Err(Rejection::Failed(sentence.to_owned()));
        }
        if self.monitor.test_way(device.as_ref()).is_none() {
            let sentence = "no unit sends notifications: set `alertUnit` in [alerts], such as \
                            \"iotmonitor-notify@.service\", and reload the configuration";
            return Err(Rejection::Failed(sentence.to_owned()));
        }
        Ok(Event::NotificationTested { device })
    }

    fn known_or_all(&self, name: Option<DeviceName>) -> Result<Option<DeviceName>, Rejection> {
        name.map(|name| self.known(name)).transpose()
    }

    fn known(&self, name: DeviceName) -> Result<DeviceName, Rejection> {
        if self.monitor.knows(&name) { Ok(name) } else { Err(Rejection::UnknownDevice(name)) }
    }

    fn forgettable(&self, name: DeviceName) -> Result<DeviceName, Rejection> {
        let name = self.known(name)?;
        if self.monitor.is_forgettable(&name) {
            return Ok(name);
        }
        let kind = if self.monitor.knows_agent(&name) { "agent" } else { "device" };
        Err(Rejection::Failed(format!(
            "the configuration names `{name}`: remove its section [{kind}_{name}], or its name \
             from the `names` of a fleet, and reload the configuration"
        )))
    }

    fn known_agent(&self, name: DeviceName) -> Result<DeviceName, Rejection> {
        let name = self.known(name)?;
        if self.monitor.knows_agent(&name) {
            return Ok(name);
        }
        let sentence =
            format!("`{name}` is a device without a process: there is nothing to restart");
        Err(Rejection::Failed(sentence))
    }
}
