//! Reloading: the file is read and checked in a thread of its own, and put into force by the loop.
//!
//! A large file, or a disk that does not answer, takes time, in which devices go on to be heard and
//! the watchdog to be fed. Whoever asks while a check is under way may have written the file after
//! it was read: it is read once more then, for all of them together.

use super::{AdapterSettings, Daemon, keep_credentials};
use crate::config::{self, ConfigErrors, Environment, Loaded};
use crate::request::Rejection;
use crate::systemd::notify;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::words::devices_and_agents;
use std::future::pending;
use std::path::PathBuf;
use tokio::sync::oneshot;

/// The way back to a person who asked.
pub type CommandReply = oneshot::Sender<Result<(), Rejection>>;

/// What became of a check; an error is the thread's, which could not be started or has died.
type LoadOutcome = std::io::Result<Result<Loaded, ConfigErrors>>;

/// The check that is under way, if there is one, and who waits.
#[derive(Default)]
pub struct Reloads {
    running: Option<oneshot::Receiver<LoadOutcome>>,
    waiting: Vec<CommandReply>,
    /// Those who asked since it began, if anybody has.
    next: Option<Vec<CommandReply>>,
}

impl Reloads {
    /// Has a file checked, at once or after the check that is under way.
    fn ask(&mut self, reply: Option<CommandReply>, file: PathBuf, environment: Environment) {
        if self.running.is_some() {
            self.next.get_or_insert_default().extend(reply);
            return;
        }
        self.waiting.extend(reply);
        let (sender, receiver) = oneshot::channel();
        self.running = Some(receiver);
        let thread = std::thread::Builder::new().name("config".to_owned());
        let started = thread.spawn(move || {
            // A daemon that has ended meanwhile wants no outcome.
            let _ = sender.send(Ok(config::load(&file, &environment)));
        });
        if let Err(error) = started {
            let (sender, receiver) = oneshot::channel();
            let _ = sender.send(Err(error));
            self.running = Some(receiver);
        }
    }

    /// The outcome of the check that is under way, whenever it comes. Dropping the wait loses
    /// nothing.
    pub async fn outcome(&mut self) -> LoadOutcome {
        let Some(running) = &mut self.running else { return pending().await };
        let outcome = running.await;
        self.running = None;
        outcome.unwrap_or_else(|gone| Err(std::io::Error::other(gone)))
    }
}

impl Daemon<'_> {
    /// Has the file read again. What comes of it is in the journal, and told to who waits for it.
    pub(super) fn reload(&mut self, reply: Option<CommandReply>) {
        notify::reloading();
        let (file, environment) = (&self.options.config_file, &self.options.environment);
        self.reloads.ask(reply, file.clone(), environment.clone());
    }

    /// Puts a file into force that has been checked. A broken one leaves everything as it is.
    pub(super) fn end_reload(&mut self, outcome: LoadOutcome) {
        let outcome = match outcome {
            Ok(Ok(loaded)) => self.put_in_force(loaded),
            Ok(Err(errors)) => Err(errors.to_string()),
            Err(error) => Err(format!(
                "the configuration cannot be checked: {error}; the system is out of resources"
            )),
        };
        match &outcome {
            Ok(message) => self.tell(AlertKind::Reloaded, message.clone()),
            Err(message) => self.tell(AlertKind::ReloadFailed, message.clone()),
        }
        for reply in std::mem::take(&mut self.reloads.waiting) {
            // Who asked may have gone away meanwhile.
            let _ = reply.send(outcome.clone().map(drop).map_err(Rejection::Failed));
        }
        match self.reloads.next.take() {
            Some(waiting) => {
                self.reloads.waiting = waiting;
                self.reload(None);
            }
            None => notify::ready(),
        }
    }

    fn put_in_force(&mut self, loaded: Loaded) -> Result<String, String> {
        for warning in loaded.warnings.paragraphs() {
            self.tell(AlertKind::ConfigWarning, warning);
        }
        let new = AdapterSettings::of(&loaded.config);
        for (key, old, new) in [
            ("clientid", self.settings.client_id.as_str(), new.client_id.as_str()),
            ("baseTopic", self.settings.base_topic.as_str(), new.base_topic.as_str()),
        ] {
            if old != new {
                return Err(format!(
                    "`{key}` has changed from `{old}` to `{new}`, which a reload cannot do: \
                     `{}`",
                    restart_command(self.options)
                ));
            }
        }
        keep_credentials(self.options, &loaded.config, self.logger);
        self.adapters.reconfigure(&self.settings, &new);
        self.settings = new;
        self.turn(Event::Reconfigured(loaded.config.monitor));
        self.tell_status();
        self.adapters.show_reload();
        let summary = self.monitor.summary();
        Ok(format!(
            "{} is in force with {}",
            self.options.config_file.display(),
            devices_and_agents(summary.devices, summary.agents)
        ))
    }
}

/// What restarts the unit that speaks.
fn restart_command(options: &super::Options) -> String {
    match (options.environment.user_manager, options.environment.instance.name()) {
        (true, _) => "systemctl --user restart iotmonitor".to_owned(),
        (false, Some(name)) => format!("systemctl restart iotmonitor@{name}"),
        (false, None) => "systemctl restart iotmonitor".to_owned(),
    }
}
