//! `iotmonitor-recorder run`: the loop that passes messages from the broker to the disk, and the
//! order of start and stop.
//!
//! ```text
//! connection ─► loop ─► recording ─► segments ─► files          upkeep ─► a file for each day
//!      ▲                    │
//!      └── acknowledgement ─┘
//! ```
//!
//! The connection is that of iotmonitor itself, with a session of its own. Three parts run beside
//! each other: this loop with the connection, the thread that records, and the thread that keeps the
//! store small. The queues between them are bounded. When the disk does not keep up, they fill, and
//! the connection stops reading.

pub mod recording;
mod status;
mod subscriptions;
pub mod upkeep;

use crate::summary::summary;
use crate::{Error, Keep, Limits, Store};
use iotmonitor::config::recorder::RecorderSettings;
use iotmonitor::config::{self, ConfigErrors, Environment, RecorderConfig};
use iotmonitor::daemon::Watchdog;
use iotmonitor::logging::Logger;
use iotmonitor::mqtt::settings::MqttSettings;
use iotmonitor::mqtt::{self, Client, ConnectionOptions, MqttHandle};
use iotmonitor::pulse::Pulse;
use iotmonitor::systemd::notify;
use iotmonitor_core::model::alert::{Alert, AlertKind};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, FilterRefusal, LossReason, Protocol, Redelivery,
};
use iotmonitor_core::topic::index::TopicIndex;
use recording::{Batch, Figures, Order, RecordingContext, Report};
use status::Status;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use subscriptions::{Requests, Subscriptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use upkeep::UpkeepReport;

/// Events of the connection. When it is full, the connection stops reading.
const EVENT_QUEUE: usize = 4_096;

/// Messages that are passed on at once.
const BATCH: usize = 1_024;

/// Batches on their way to the thread that records. When it is full, events stay in their queue.
const ORDER_QUEUE: usize = 4;

/// How far the times of messages may be ahead of the clock, in microseconds.
const MOST_AHEAD: i64 = 1_000_000;

/// Reports of a thread: it makes one for each change. When it is full, the thread waits.
const REPORT_QUEUE: usize = 16;

/// systemd waits for the first notification no longer than this, whatever the disk does.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// How often the status line is renewed.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The time limit for the last messages to be written.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The time limit for the last acknowledgements.
const FAREWELL: Duration = Duration::from_secs(1);

/// The arguments of `iotmonitor-recorder run`.
#[derive(Debug, Clone)]
pub struct Options {
    pub config_file: PathBuf,
    /// Where the messages are stored.
    pub directory: PathBuf,
    pub environment: Environment,
}

/// Explains why the recorder did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("another iotmonitor-recorder is at work in {}: stop it first", .directory.display())]
    AnotherRuns { directory: PathBuf },
    #[error("{0}: the service manager starts iotmonitor-recorder again, which makes the directory")]
    StoreLost(Error),
    #[error("cannot start a thread or the runtime: {0}; the system is out of resources")]
    Runtime(std::io::Error),
}

/// Records until SIGTERM or SIGINT.
///
/// # Errors
/// Returns an error when the configuration has errors, another recorder uses the directory, or the
/// directory was removed meanwhile.
pub fn run(options: &Options, logger: &Logger) -> Result<(), ServiceError> {
    let config = config::load_for_recorder(&options.config_file, &options.environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServiceError::Runtime)?;
    let outcome = runtime.block_on(async {
        let mut service = Service::start(options, config, logger).map_err(ServiceError::Runtime)?;
        let ended = service.serve().await;
        service.stop().await;
        ended
    });
    // A hanging lookup of the broker's name must not delay the end.
    runtime.shutdown_background();
    outcome
}

/// The connection as it was reported last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing has been heard of it since the start.
    Unknown,
    Up(Protocol),
    /// With the kind of its journal entry.
    Down(AlertKind),
}

/// The times of messages, in microseconds since 1970. Each is later than the one before, so that the
/// messages of a topic keep their order in the files.
#[derive(Debug, Default)]
struct Clock {
    /// The earliest time of the next message.
    next: i64,
}

impl Clock {
    /// The time of the next message, of which many may have come at this one.
    fn read(&self, now: i64) -> i64 {
        // A clock that was set back counts, and is not waited for.
        if self.next - now > MOST_AHEAD { now } else { self.next.max(now) }
    }
}

struct Service<'a> {
    options: &'a Options,
    logger: &'a Logger,
    settings: MqttSettings,
    recorder: RecorderSettings,
    excluded: TopicIndex<()>,
    mqtt: MqttHandle,
    events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Report>,
    upkeep: std::sync::mpsc::Sender<Keep>,
    upkeep_reports: mpsc::Receiver<UpkeepReport>,
    /// Whether the thread that records has ended.
    recorded: oneshot::Receiver<()>,
    figures: Arc<Figures>,
    status: Status,
    subscriptions: Subscriptions,
    standing: Standing,
    refused: Vec<FilterRefusal>,
    /// What is to be recorded next.
    batch: Option<Batch>,
    clock: Clock,
    /// What the thread that records is to be told before that.
    limits: Option<Limits>,
    pulses: [Pulse; 2],
    watchdog: Watchdog,
    is_ready: bool,
    start: Instant,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Why the loop went round.
enum Turn {
    Stop,
    Reload,
    Events,
    Report(Report),
    Upkeep(UpkeepReport),
    Passed,
    TimePassed,
}

impl<'a> Service<'a> {
    fn start(
        options: &'a Options,
        config: RecorderConfig,
        logger: &'a Logger,
    ) -> std::io::Result<Self> {
        let RecorderConfig { mqtt: settings, recorder, warnings } = config;
        for warning in warnings.paragraphs() {
            logger.alert(&Alert::plain(AlertKind::ConfigWarning, warning));
        }
        let store = Store::new(&options.directory);
        let (event_sender, events) = mpsc::channel(EVENT_QUEUE);
        let (orders, order_receiver) = mpsc::channel(ORDER_QUEUE);
        let (report_sender, reports) = mpsc::channel(REPORT_QUEUE);
        let (upkeep_sender, upkeep_reports) = mpsc::channel(REPORT_QUEUE);
        let figures = Arc::new(Figures::default());
        let start = Instant::now();
        let pulse = Pulse::since(start.into_std());
        let pulses = [pulse.clone(), pulse.sibling()];
        let mqtt = mqtt::spawn(
            Connection::State,
            settings.clone(),
            ConnectionOptions { client: Client::Recorder, ..Default::default() },
            event_sender,
            pulse,
        );
        let recorded = recording::start(RecordingContext {
            store: store.clone(),
            limits: limits(&recorder),
            orders: order_receiver,
            reports: report_sender,
            connection: mqtt.clone(),
            figures: Arc::clone(&figures),
            pulse: pulses[1].clone(),
        })?;
        let upkeep = upkeep::start(store, keep(&recorder), upkeep_sender)?;
        let message = format!(
            "iotmonitor-recorder records {} in {}",
            summary(&recorder),
            options.directory.display()
        );
        logger.alert(&Alert::plain(AlertKind::Started, message));
        Ok(Self {
            options,
            logger,
            excluded: index(&recorder),
            status: Status::new(settings.server.to_string()),
            settings,
            recorder,
            mqtt,
            events,
            orders,
            reports,
            upkeep,
            upkeep_reports,
            recorded,
            figures,
            subscriptions: Subscriptions::read(&options.directory),
            standing: Standing::Unknown,
            refused: Vec::new(),
            batch: None,
            clock: Clock::default(),
            limits: None,
            pulses,
            watchdog: Watchdog::new(notify::watchdog_interval(), start),
            is_ready: false,
            start,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn serve(&mut self) -> Result<(), ServiceError> {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            match self.next_turn(&mut events).await {
                Turn::Stop => return Ok(()),
                Turn::Reload if self.options.takes_credentials() => {
                    // systemd reads them at a start alone.
                    let message = "iotmonitor-recorder starts again with the new configuration";
                    self.log(AlertKind::Reloaded, message.to_owned());
                    return Ok(());
                }
                Turn::Reload => self.reload(),
                Turn::Events => self.take(&mut events),
                Turn::Report(report) => self.on_report(report)?,
                Turn::Upkeep(report) => self.on_upkeep(report),
                Turn::TimePassed => self.subscriptions.save_again(),
                Turn::Passed => {}
            }
            self.tick();
        }
    }

    /// Waits for whatever comes next. Signals come before a flood of messages.
    async fn next_turn(&mut self, events: &mut Vec<Event>) -> Turn {
        let deadline = self.watchdog.next().into_iter().fold(self.status.next(), Instant::min);
        let deadline =
            if self.is_ready { deadline } else { deadline.min(self.start + READY_PATIENCE) };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Turn::Stop,
            _ = self.interrupt.recv() => Turn::Stop,
            _ = self.hangup.recv() => Turn::Reload,
            Some(report) = self.reports.recv() => Turn::Report(report),
            Some(report) = self.upkeep_reports.recv() => Turn::Upkeep(report),
            permit = self.orders.reserve(), if self.batch.is_some() || self.limits.is_some() => {
                let order = match self.limits.take() {
                    Some(limits) => Some(Order::Limits(limits)),
                    None => self.batch.take().map(Order::Record),
                };
                if let (Ok(permit), Some(order)) = (permit, order) {
                    permit.send(order);
                }
                Turn::Passed
            }
            _ = self.events.recv_many(events, BATCH), if self.batch.is_none() => Turn::Events,
            () = sleep_until(deadline) => Turn::TimePassed,
        }
    }

    /// Passes the messages on, and handles the rest.
    fn take(&mut self, events: &mut Vec<Event>) {
        let mut batch: Option<Batch> = None;
        let mut time = self.clock.read(upkeep::now());
        for event in events.drain(..) {
            match event {
                Event::StateMessage { delivery, message, redelivery } => {
                    self.status.received += 1;
                    let batch = batch.get_or_insert_with(|| Batch {
                        messages: Vec::with_capacity(BATCH),
                        through: delivery,
                    });
                    batch.through = delivery;
                    // What was recorded before its acknowledgement was lost is not recorded again.
                    let is_recorded = matches!(redelivery, Redelivery::Reported(_));
                    if is_recorded || self.excluded.matches(&message.topic) {
                        self.status.passed_over += 1;
                    } else {
                        batch.messages.push((time, message));
                        time += 1;
                    }
                }
                event => self.on_change(event),
            }
        }
        self.clock.next = time;
        self.batch = batch;
    }

    /// The connection has changed. The monitor's other events do not occur here.
    fn on_change(&mut self, event: Event) {
        match event {
            Event::Connected { protocol, session_present, .. } => {
                if let Standing::Down(_) = self.standing {
                    let message = format!("connected to {} again", self.settings.server);
                    self.log(AlertKind::BrokerBack, message);
                }
                self.standing = Standing::Up(protocol);
                let requests = self.subscriptions.connected(
                    self.settings.server.to_string(),
                    self.settings.client_id.clone(),
                    session_present,
                    protocol,
                    &self.recorder.topics,
                );
                self.ask(requests);
            }
            Event::Disconnected { reason, .. } => self.on_loss(reason),
            Event::Subscribed { refused, .. } => {
                self.subscriptions.answered(&self.recorder.topics, &refused);
                for FilterRefusal { filter, reason } in &refused {
                    if self.refused.iter().all(|known| known.filter != *filter) {
                        let message = format!(
                            "the broker refuses the subscription to `{filter}`, so that its messages are not \
                             recorded: {reason}"
                        );
                        self.log(AlertKind::FilterRefused, message);
                    }
                }
                self.refused = refused;
            }
            _ => {}
        }
    }

    fn ask(&self, requests: Requests) {
        self.mqtt.unsubscribe(requests.unsubscribe);
        if !requests.subscribe.is_empty() {
            self.mqtt.subscribe(requests.subscribe);
        }
    }

    fn on_loss(&mut self, reason: LossReason) {
        let (kind, sentence) = match reason {
            LossReason::TakenOver => (
                AlertKind::ClientIdTaken,
                format!(
                    "another client has taken over the clientid `{}-recorder`; only one recorder may use it",
                    self.settings.client_id
                ),
            ),
            LossReason::Refused(sentence) => (AlertKind::BrokerRefused, sentence),
            LossReason::Silent { sentence, .. } | LossReason::Other(sentence) => {
                (AlertKind::BrokerLost, sentence)
            }
        };
        if self.standing != Standing::Down(kind) {
            self.log(kind, sentence);
        }
        self.standing = Standing::Down(kind);
    }

    fn on_report(&mut self, report: Report) -> Result<(), ServiceError> {
        // The directory is there now, or has room again.
        if let Report::Opened | Report::Recovered = report {
            self.subscriptions.save_again();
        }
        match report {
            Report::Opened => self.ready(),
            Report::Failed(error) => {
                self.status.is_failing = true;
                let message = format!(
                    "{error}: what is not on disk is not acknowledged, and the broker keeps it"
                );
                self.log(AlertKind::RecordingFailed, message);
                self.ready();
            }
            Report::Recovered => {
                self.status.is_failing = false;
                self.log(AlertKind::RecordingBack, "messages are recorded again".to_owned());
            }
            Report::PutAside(damage) => {
                let message = format!(
                    "a segment was damaged, with the loss of {} messages; it is kept as {}",
                    damage.lost,
                    damage.kept.display()
                );
                self.log(AlertKind::RecordingPutAside, message);
            }
            Report::Ended(Error::InUse { .. }) => {
                let directory = self.options.directory.clone();
                return Err(ServiceError::AnotherRuns { directory });
            }
            Report::Ended(error) => return Err(ServiceError::StoreLost(error)),
        }
        Ok(())
    }

    fn on_upkeep(&mut self, report: UpkeepReport) {
        match report {
            UpkeepReport::PutAside(files) => {
                for file in files {
                    let message =
                        format!("a damaged file of messages was put aside as {}", file.display());
                    self.log(AlertKind::RecordingPutAside, message);
                }
            }
            UpkeepReport::Failed(error) => {
                let message = format!(
                    "{error}: old messages are not removed, nor the files of a day merged; messages are \
                     still recorded"
                );
                self.log(AlertKind::RecordingFailed, message);
            }
            UpkeepReport::Recovered => {
                let message = "old messages are removed and files are merged again";
                self.log(AlertKind::RecordingBack, message.to_owned());
            }
        }
    }

    /// Reads the configuration again. After an error the present one stays in force.
    fn reload(&mut self) {
        notify::reloading();
        match config::load_for_recorder(&self.options.config_file, &self.options.environment) {
            Ok(config) if config.mqtt.client_id != self.settings.client_id => {
                let message = format!(
                    "`clientid` has changed from `{}` to `{}`, which a reload cannot do: \
                     `systemctl restart iotmonitor-recorder`",
                    self.settings.client_id, config.mqtt.client_id
                );
                self.log(AlertKind::ReloadFailed, message);
            }
            Ok(config) => self.put_in_force(config),
            Err(ConfigErrors::Invalid { errors, .. }) => {
                for error in errors.paragraphs() {
                    self.log(AlertKind::ReloadFailed, error);
                }
            }
            Err(unreadable @ ConfigErrors::Unreadable { .. }) => {
                self.log(AlertKind::ReloadFailed, unreadable.to_string());
            }
        }
        notify::ready();
    }

    fn put_in_force(&mut self, config: RecorderConfig) {
        for warning in config.warnings.paragraphs() {
            self.log(AlertKind::ConfigWarning, warning);
        }
        self.recorder = config.recorder;
        self.excluded = index(&self.recorder);
        self.limits = Some(limits(&self.recorder));
        let _ = self.upkeep.send(keep(&self.recorder));
        if self.settings != config.mqtt {
            self.settings = config.mqtt;
            self.status.server = self.settings.server.to_string();
            self.mqtt.reconnect(self.settings.clone());
        } else if let Standing::Up(protocol) = self.standing {
            let requests = self.subscriptions.change(protocol, &self.recorder.topics);
            self.ask(requests);
        }
        let message = format!("iotmonitor-recorder records {}", summary(&self.recorder));
        self.log(AlertKind::Reloaded, message);
    }

    fn ready(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            notify::ready();
        }
    }

    fn tick(&mut self) {
        if !self.is_ready && self.start.elapsed() >= READY_PATIENCE {
            self.ready();
        }
        self.watchdog.feed_if(
            |within| self.pulses.iter().all(|pulse| pulse.age() < within),
            || self.pulses.iter().for_each(Pulse::ask),
        );
        let is_connected = matches!(self.standing, Standing::Up(_));
        if let Some(line) = self.status.renewed(is_connected, &self.figures) {
            notify::status(&line);
        }
    }

    fn log(&self, kind: AlertKind, message: String) {
        self.logger.alert(&Alert::plain(kind, message));
    }

    /// Writes what has arrived, acknowledges it, and disconnects.
    async fn stop(mut self) {
        notify::stopping();
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut events = Vec::new();
        loop {
            if let Some(batch) = self.batch.take() {
                let sent = timeout_at(deadline, self.orders.send(Order::Record(batch))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            match self.events.try_recv() {
                Ok(event) => events.push(event),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            while events.len() < BATCH
                && let Ok(event) = self.events.try_recv()
            {
                events.push(event);
            }
            self.take(&mut events);
        }
        drop(self.orders);
        let mut recorded = self.recorded;
        loop {
            tokio::select! {
                _ = &mut recorded => break,
                // The thread may wait for one to be taken.
                Some(_) = self.reports.recv() => {}
                () = sleep_until(deadline) => break,
            }
        }
        self.mqtt.close(Instant::now() + FAREWELL).await;
        let message = "iotmonitor-recorder stops; the broker keeps what comes meanwhile";
        self.logger.alert(&Alert::plain(AlertKind::Stopped, message.to_owned()));
    }
}

impl Options {
    /// Whether the configuration comes from systemd, which reads it at a start.
    fn takes_credentials(&self) -> bool {
        self.environment.passes(&self.config_file)
    }
}

fn index(recorder: &RecorderSettings) -> TopicIndex<()> {
    let mut index = TopicIndex::new();
    recorder.exclude.iter().for_each(|filter| index.insert(filter, ()));
    index
}

fn limits(recorder: &RecorderSettings) -> Limits {
    Limits { flush: recorder.flush, ..Limits::default() }
}

fn keep(recorder: &RecorderSettings) -> Keep {
    Keep { age: Some(recorder.keep), size: recorder.max_size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_unless_the_clock_was_set_back() {
        let clock = Clock { next: 5_000 };
        assert_eq!(clock.read(4_000), 5_000);
        assert_eq!(clock.read(6_000), 6_000);
        assert_eq!(clock.read(-2_000_000), -2_000_000);
    }
}
