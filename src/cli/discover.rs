//! `iotmonitor discover`: listens to the broker, and prints a configuration.
//!
//! It uses a separate connection with a clean session, so that neither a running monitor nor its
//! session at the broker is affected. [`crate::discovery`] interprets the messages.

use super::check::EXIT_CONFIG;
use super::command::{conclude, fail, in_runtime};
use super::output::{self, OutputError, say};
use crate::config::{self, Config, ConfigErrors, Environment};
use crate::discovery::configuration::{self, Head, quoted};
use crate::discovery::{DevicePattern, Discovered, Discovery, Observation};
use crate::mqtt::settings::{MqttSettings, ProtocolChoice};
use crate::mqtt::{ConnectionOptions, MqttHandle, spawn};
use crate::pulse::Pulse;
use crate::time_span;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, LossReason, QoS, Subscription};
use iotmonitor_core::model::words::{RoundedDuration, counted};
use iotmonitor_core::topic::{TopicError, TopicFilter};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};

/// The number of messages that wait to be examined. When the queue is full, the broker waits.
const CHANNEL: usize = 256;

/// The time limit for examining, after the end, the messages that the broker sent before it.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// The shortest and the longest time of listening.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// The broker to listen to.
#[derive(Debug)]
pub enum BrokerSource {
    /// The broker of a configuration.
    Of(PathBuf),
    /// The broker at an address.
    At(String),
}

/// Describes an error in a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
enum DiscoverError {
    #[error("{0}")]
    Unreachable(String),
    #[error("another client took over the clientid `{0}`: try again")]
    TakenOver(String),
    #[error(
        "the broker does not let this login subscribe to `{filter}` ({reason}): allow it, or use another login"
    )]
    Refused { filter: TopicFilter, reason: String },
    #[error("{0}")]
    Topic(#[from] TopicError),
    #[error("{0}")]
    Output(#[from] OutputError),
    #[error("cannot watch for signals: {0}")]
    Signals(#[from] std::io::Error),
    #[error(
        "the connection to the broker has ended by itself, which is a defect: please report it"
    )]
    Ended,
}

/// Parses the time of listening.
///
/// # Errors
/// Returns a sentence about the error.
pub fn span(text: &str) -> Result<Duration, String> {
    let span = time_span::parse(text).map_err(|error| error.to_string())?;
    if (SHORTEST..=LONGEST).contains(&span) {
        return Ok(span);
    }
    let (least, most) = (time_span::format(SHORTEST), time_span::format(LONGEST));
    Err(format!("it must be from {least} to {most}"))
}

/// Listens and prints; returns the exit code.
pub fn discover(
    broker: BrokerSource,
    listen_for: Duration,
    only: &[DevicePattern],
    environment: &Environment,
) -> u8 {
    let (config, file) = match config_of(broker, environment) {
        Ok(found) => found,
        Err(errors) => {
            fail(&errors);
            return EXIT_CONFIG;
        }
    };
    conclude(in_runtime(listen_and_print(config, file, listen_for, only)))
}

fn config_of(
    broker: BrokerSource,
    environment: &Environment,
) -> Result<(Config, Option<PathBuf>), ConfigErrors> {
    match broker {
        BrokerSource::Of(path) => Ok((config::load(&path, environment)?.config, Some(path))),
        BrokerSource::At(address) => {
            let text = format!("[mqtt]\nserverAddress = {}\n", quoted(&address));
            Ok((config::parse(&text, Path::new("--server"), environment)?.config, None))
        }
    }
}

async fn listen_and_print(
    config: Config,
    file: Option<PathBuf>,
    listen_for: Duration,
    only: &[DevicePattern],
) -> Result<(), DiscoverError> {
    let Config { mqtt, monitor, http: _, cluster: _, listed: _, history_keep: _, recorder: _ } =
        config;
    let mut discovery = Discovery::new(&monitor);
    let listened = listen(&mqtt, listen_for, &mut discovery).await?;
    let found = discovery.found(listened);
    let all = found.devices.len();
    let found = selected(found, only);
    let head = Head {
        mqtt: mqtt_section(&mqtt, monitor.base_topic.as_str()),
        beside: file.map(|file| file.display().to_string()),
        has_password: mqtt.password.is_some(),
        listened,
    };
    let text = configuration::write(&head, &discovery, &found);
    output::print(text)?;
    let of_all = if only.is_empty() { String::new() } else { format!(" of {all}") };
    let count = counted(found.devices.len(), "device");
    say!("{count}{of_all} found in {}", RoundedDuration(listened));
    for line in configuration::summary(&found).lines() {
        say!("{line}");
    }
    Ok(())
}

/// The devices that match one of the patterns, or all where there is none.
fn selected(found: Discovered, only: &[DevicePattern]) -> Discovered {
    let takes = |device: &_| only.is_empty() || only.iter().any(|pattern| pattern.takes(device));
    Discovered { devices: found.devices.into_iter().filter(takes).collect(), ..found }
}

/// The section as the file needs it, without the password.
fn mqtt_section(mqtt: &MqttSettings, base_topic: &str) -> Vec<(&'static str, String)> {
    let mut keys = vec![("serverAddress", quoted(&mqtt.server.to_string()))];
    let mut add =
        |key, value: Option<String>| keys.extend(value.map(|value| (key, quoted(&value))));
    add("baseTopic", Some(base_topic.to_owned()));
    add("user", mqtt.user.clone());
    add(
        "clientid",
        (mqtt.client_id != iotmonitor_core::model::unit_name::DEFAULT_CLIENT_ID)
            .then(|| mqtt.client_id.clone()),
    );
    add(
        "protocol",
        match mqtt.protocol {
            ProtocolChoice::Auto => None,
            ProtocolChoice::V5 => Some("5".to_owned()),
            ProtocolChoice::V311 => Some("3.1.1".to_owned()),
        },
    );
    let path = |path: &PathBuf| path.display().to_string();
    add("caFile", mqtt.ca_file.as_ref().map(path));
    if let Some((certificate, key)) = &mqtt.client_certificate {
        add("certFile", Some(path(certificate)));
        add("keyFile", Some(path(key)));
    }
    keys
}

/// Receives messages until the time is over or a signal interrupts; returns the time that passed.
async fn listen(
    mqtt: &MqttSettings,
    listen_for: Duration,
    discovery: &mut Discovery,
) -> Result<Duration, DiscoverError> {
    let client_id = format!("{}-discover-{}", mqtt.client_id, std::process::id());
    let settings = MqttSettings { client_id, ..mqtt.clone() };
    let (sender, events) = mpsc::channel(CHANNEL);
    let handle = spawn(
        Connection::Watch,
        settings.clone(),
        ConnectionOptions::default(),
        sender,
        Pulse::new(),
    );
    let interrupts = [SignalKind::interrupt(), SignalKind::terminate()];
    let [interrupt, terminate] = interrupts.map(signal);
    let mut ear = Ear {
        handle: handle.clone(),
        events,
        settings,
        interrupt: interrupt?,
        terminate: terminate?,
        discovery,
        began: None,
        progress: progress(listen_for),
    };
    let listened = ear.listen(listen_for).await;
    ear.progress.finish_and_clear();
    if listened.is_ok() {
        ear.last_round().await;
    }
    handle.close(Instant::now()).await;
    listened
}

struct Ear<'a> {
    handle: MqttHandle,
    events: mpsc::Receiver<Event>,
    settings: MqttSettings,
    interrupt: Signal,
    terminate: Signal,
    discovery: &'a mut Discovery,
    /// The time at which the broker confirmed the subscription.
    began: Option<Instant>,
    progress: ProgressBar,
}

impl Ear<'_> {
    async fn listen(&mut self, listen_for: Duration) -> Result<Duration, DiscoverError> {
        let mut ticks = interval(Duration::from_millis(200));
        loop {
            let over = self.began.map(|began| began + listen_for);
            tokio::select! {
                event = self.events.recv() => {
                    self.on_event(event.ok_or(DiscoverError::Ended)?, listen_for)?;
                }
                () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => return Ok(self.at()),
                _ = self.interrupt.recv() => return Ok(self.at()),
                _ = self.terminate.recv() => return Ok(self.at()),
                _ = ticks.tick() => self.show(),
            }
        }
    }

    fn on_event(&mut self, event: Event, listen_for: Duration) -> Result<(), DiscoverError> {
        match event {
            Event::Connected { .. } => {
                let filter = TopicFilter::new("#")?;
                let qos = QoS::AtMostOnce;
                self.handle.subscribe(vec![Subscription { filter, qos, replay: true }]);
            }
            Event::Subscribed { refused, .. } => {
                if let Some(refusal) = refused.into_iter().next() {
                    let (filter, reason) = (refusal.filter, refusal.reason);
                    return Err(DiscoverError::Refused { filter, reason });
                }
                if self.began.is_none() {
                    self.began = Some(Instant::now());
                    let server = &self.settings.server;
                    let span = RoundedDuration(listen_for);
                    self.progress.suspend(|| {
                        say!("listening to {server} for {span}; Ctrl-C ends it early");
                    });
                }
            }
            Event::WatchMessage(message) => {
                let at = self.at();
                self.discovery.observe(&Observation {
                    topic: &message.topic,
                    payload: &message.payload,
                    retained: message.retain,
                    at,
                });
            }
            Event::Disconnected { reason, .. } => return self.lost(reason),
            // A connection that only listens reports nothing else.
            _ => {}
        }
        Ok(())
    }

    /// A broker that cannot be reached at first is an error for the person; one that is lost later
    /// is reconnected.
    fn lost(&self, reason: LossReason) -> Result<(), DiscoverError> {
        let is_passing = self.began.is_some();
        match reason {
            LossReason::TakenOver => Err(DiscoverError::TakenOver(self.settings.client_id.clone())),
            LossReason::Silent { sentence, .. } | LossReason::Other(sentence) if is_passing => {
                self.progress.suspend(|| say!("iotmonitor: {sentence}; trying again"));
                Ok(())
            }
            LossReason::Silent { sentence, .. }
            | LossReason::Other(sentence)
            | LossReason::Refused(sentence) => Err(DiscoverError::Unreachable(sentence)),
        }
    }

    /// Receives the messages that the broker sent before the end: it answers a subscription after
    /// those. The subscription is to an unused topic, for the answer alone.
    async fn last_round(&mut self) {
        let Ok(filter) = TopicFilter::new(format!("{}/end", self.settings.client_id)) else {
            return;
        };
        self.handle.subscribe(vec![Subscription { filter, qos: QoS::AtMostOnce, replay: false }]);
        let round = async {
            while let Some(event) = self.events.recv().await {
                if matches!(event, Event::Subscribed { .. } | Event::Disconnected { .. }) {
                    return;
                }
                // An error no longer matters.
                let _ = self.on_event(event, Duration::ZERO);
            }
        };
        let _late = timeout(LAST_ROUND, round).await;
    }

    fn at(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    fn show(&self) {
        let (messages, topics) = (self.discovery.messages(), self.discovery.topics());
        self.progress.set_position(u64::try_from(self.at().as_millis()).unwrap_or(u64::MAX));
        self.progress.set_message(format!("messages: {messages}, topics: {topics}"));
    }
}

/// Shows a bar on a terminal, and nothing elsewhere.
fn progress(listen_for: Duration) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let length = u64::try_from(listen_for.as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), target);
    // The template is fixed in this file; the default is used if it were invalid.
    let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
