//! Reloading: a separate thread reads and checks the file, and the loop puts it into force.
//!
//! A large file, or a disk that does not answer, takes time, during which devices must still be
//! heard and the watchdog fed. A caller that asks while a check is running may have written the
//! file after it was read; it is then read once more, for all such callers together.

use super::cluster::Cluster;
use super::sections::{OfferOutcome, load_offered};
use super::{AdapterSettings, Daemon, keep_credentials};
use crate::config::{self, ConfigErrors, Environment, Loaded};
use crate::request::Rejection;
use crate::systemd::notify;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::sections::SharedSections;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::words::devices_and_agents;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The channel for the answer to a caller.
pub type CommandReply = oneshot::Sender<Result<(), Rejection>>;

/// The result of a check.
pub struct Checked {
    /// The error is that of a thread that could not be started or has died. `None` where only shared
    /// sections were to be taken in, and cannot be.
    loaded: Option<std::io::Result<Result<Loaded, ConfigErrors>>>,
    /// What came of shared sections that are not in force.
    offer: Option<OfferOutcome>,
}

/// What is to be checked.
struct Check {
    file: PathBuf,
    environment: Environment,
    /// Shared sections that are not in force.
    offered: Option<Arc<SharedSections>>,
    /// Nobody has asked, but for these sections.
    is_for_offer: bool,
}

impl Check {
    fn run(self) -> Checked {
        let refused = match &self.offered {
            Some(offered) => match load_offered(&self.file, &self.environment, offered) {
                Ok(loaded) => {
                    let offer = Some(OfferOutcome::Taken(Arc::clone(offered)));
                    return Checked { loaded: Some(Ok(Ok(loaded))), offer };
                }
                Err(reason) => Some(OfferOutcome::Refused(Arc::clone(offered), reason)),
            },
            None => None,
        };
        let load = || Ok(config::load(&self.file, &self.environment));
        Checked { loaded: (!self.is_for_offer).then(load), offer: refused }
    }
}

/// The running check, if there is one, and the callers that wait for it.
#[derive(Default)]
pub struct Reloads {
    running: Option<oneshot::Receiver<Checked>>,
    waiting: Vec<CommandReply>,
    /// The callers that have asked since the check began.
    next: Option<Vec<CommandReply>>,
    /// Shared sections were offered since then.
    offered_next: bool,
}

impl Reloads {
    /// Checks a file, at once or after the running check.
    fn ask(&mut self, reply: Option<CommandReply>, check: Check) {
        if self.running.is_some() {
            if check.is_for_offer {
                self.offered_next = true;
            } else {
                self.next.get_or_insert_default().extend(reply);
            }
            return;
        }
        self.waiting.extend(reply);
        let (sender, receiver) = oneshot::channel();
        self.running = Some(receiver);
        let thread = std::thread::Builder::new().name("config".to_owned());
        let started = thread.spawn(move || {
            // A daemon that has ended meanwhile does not need the result.
            let _ = sender.send(check.run());
        });
        if let Err(error) = started {
            let (sender, receiver) = oneshot::channel();
            let _ = sender.send(Checked { loaded: Some(Err(error)), offer: None });
            self.running = Some(receiver);
        }
    }

    /// Returns the result of the running check when it arrives. Dropping the future loses nothing.
    pub async fn outcome(&mut self) -> Checked {
        let Some(running) = &mut self.running else { return pending().await };
        let outcome = running.await;
        self.running = None;
        outcome.unwrap_or_else(|gone| Checked {
            loaded: Some(Err(std::io::Error::other(gone))),
            offer: None,
        })
    }
}

impl Daemon<'_> {
    /// Reads the file again. The result is logged, and reported to the callers that wait for it.
    pub(super) fn reload(&mut self, reply: Option<CommandReply>) {
        self.check_again(reply, false);
    }

    /// Takes in the shared sections that are offered.
    pub(super) fn reload_offered(&mut self) {
        self.check_again(None, true);
    }

    fn check_again(&mut self, reply: Option<CommandReply>, is_for_offer: bool) {
        // A start is over when it is reported, and not with what it takes in meanwhile.
        if self.readiness.is_reported {
            notify::reloading();
        }
        let check = Check {
            file: self.options.config_file.clone(),
            environment: self.options.environment.clone(),
            offered: self.sections.offered.clone(),
            is_for_offer,
        };
        self.reloads.ask(reply, check);
    }

    /// Puts a checked file into force. A broken one leaves everything unchanged.
    pub(super) fn end_reload(&mut self, checked: Checked) {
        let Checked { loaded, offer } = checked;
        if let Some(loaded) = loaded {
            let outcome = match loaded {
                Ok(Ok(loaded)) => self.put_in_force(loaded),
                Ok(Err(errors)) => Err(errors.to_string()),
                Err(error) => Err(format!(
                    "the configuration cannot be checked: {error}; the system is out of resources"
                )),
            };
            self.report_reload(&outcome);
            if let Some(offer) = offer.filter(|_| outcome.is_ok()) {
                self.end_offer(offer);
            }
        } else if let Some(offer) = offer {
            self.end_offer(offer);
        }
        let is_offered = std::mem::take(&mut self.reloads.offered_next);
        match self.reloads.next.take() {
            Some(waiting) => {
                self.reloads.waiting = waiting;
                self.reload(None);
            }
            None if is_offered && self.sections.offered.is_some() => self.reload_offered(),
            None if self.readiness.is_reported => notify::ready(),
            None => {}
        }
    }

    fn report_reload(&mut self, outcome: &Result<String, String>) {
        match outcome {
            Ok(message) => self.raise(AlertKind::Reloaded, message.clone()),
            Err(message) => self.raise(AlertKind::ReloadFailed, message.clone()),
        }
        for reply in std::mem::take(&mut self.reloads.waiting) {
            // The caller may have gone away meanwhile.
            let _ = reply.send(outcome.clone().map(drop).map_err(Rejection::Failed));
        }
    }

    fn put_in_force(&mut self, loaded: Loaded) -> Result<String, String> {
        for warning in loaded.warnings.paragraphs() {
            self.raise(AlertKind::ConfigWarning, warning);
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
        if self.cluster.as_ref().map(Cluster::settings) != loaded.config.cluster.as_ref() {
            return Err(format!(
                "[cluster] has changed, which a reload cannot do: `{}`; agents go on meanwhile",
                restart_command(self.options)
            ));
        }
        keep_credentials(self.options, &loaded.config, self.logger);
        self.adapters.reconfigure(&self.settings, &new);
        self.settings = new;
        let shared = loaded.shared.and_then(|shared| shared.version);
        if let (Some(cluster), Some(spec)) = (&mut self.cluster, &loaded.config.monitor.cluster) {
            // Whoever has another version is not given what is new in this one.
            cluster.uses(shared.clone());
            cluster.share(spec.clone());
        }
        self.turn(Event::Reconfigured(Box::new(loaded.config.monitor)));
        self.report_status();
        self.adapters.show_reload();
        let summary = self.monitor.summary();
        let shared = shared.map_or_else(String::new, |version| {
            format!(", version {} of the shared sections included", version.number)
        });
        Ok(format!(
            "{} is in force with {}{shared}",
            self.options.config_file.display(),
            devices_and_agents(summary.devices, summary.agents)
        ))
    }
}

/// The command that restarts this unit.
fn restart_command(options: &super::Options) -> String {
    match (options.environment.user_manager, options.environment.instance.name()) {
        (true, _) => "systemctl --user restart iotmonitor".to_owned(),
        (false, Some(name)) => format!("systemctl restart iotmonitor@{name}"),
        (false, None) => "systemctl restart iotmonitor".to_owned(),
    }
}
