//! The one event loop, and the order of start and stop.
//!
//! Everything that happens arrives here as an [`Event`] and is decided by the [`Monitor`]; the
//! resulting actions go to the adapters in order. A flood on one adapter cannot starve the others:
//! signals and requests are handled before each batch, and deadlines after it.
//!
//! Decisions about devices, states and agents belong to the core.

mod adapters;
mod alert_book;
mod alerts;
mod answers;
mod cluster;
mod credentials;
mod former;
mod history;
mod journal;
mod memory;
mod orders;
mod reload;
mod sections;
mod shared_orders;
mod status;
mod unrecorded;
mod watchdog;

pub use memory::keep_to_limits;
pub use watchdog::Watchdog;

use crate::bus::{self, Holder, NameClaim, NodePlace, OwnedName};
use crate::config::{Config, ConfigErrors, Environment, Loaded};
use crate::http::Surroundings;
use crate::logging::Logger;
use crate::request::{Rejection, Request};
use crate::store::{self, StoreError};
use crate::systemd::journal::JournalReader;
use crate::systemd::notify;
use adapters::{AdapterSettings, Adapters};
use alerts::{Accounted, Alerts, Outgoing};
use answers::Answers;
use cluster::Cluster;
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::{Alert, AlertKind};
use iotmonitor_core::model::cluster::sections::SectionsVersion;
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::Connection;
use iotmonitor_core::model::time::Now;
use iotmonitor_core::model::view::Summary;
use iotmonitor_core::model::words::devices_and_agents;
use iotmonitor_core::monitor::Monitor;
use memory::{LARGE_TURN, Trimming};
use orders::Orders;
use reload::Reloads;
use sections::SectionsState;
use shared_orders::PlacedOrders;
use status::Readiness;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Events of all adapters wait in one queue. When it is full, an adapter waits with its next one;
/// for MQTT this holds the socket back.
const EVENT_QUEUE: usize = 4_096;

/// Events handled before deadlines are looked at again.
const BATCH: usize = 256;

/// A D-Bus request waits for its turn; when this many wait, the next caller waits to be queued.
const REQUEST_QUEUE: usize = 16;

/// Reading and checking a large file on a slow machine takes longer than systemd's usual start
/// timeout.
const START_PATIENCE: Duration = Duration::from_secs(300);

/// systemd waits for the first notification no longer than this, whatever D-Bus and the disk do.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// At a stop, the last states are acknowledged if their commit takes no longer.
const COMMIT_PATIENCE: Duration = Duration::from_millis(300);

/// The time limit for the last messages to the broker and the last commit together.
const STOP_PATIENCE: Duration = Duration::from_millis(1_000);

/// Twice this number of file descriptors is more than the runtime needs, together with those that
/// the logging thread opens at that time.
const RUNTIME_PAIRS: usize = 6;

/// The arguments of `iotmonitor run`.
#[derive(Debug, Clone)]
pub struct Options {
    pub config_file: PathBuf,
    pub state_directory: PathBuf,
    pub environment: Environment,
}

/// Explains why the daemon did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error(
        "another iotmonitor with the clientid `{client_id}` runs as {holder}: stop it first, or give \
         this one a `clientid` of its own"
    )]
    AnotherRuns { client_id: String, holder: Holder },
    #[error(
        "another iotmonitor of this machine is a node of a cluster already, {holder}, and a machine \
         can only be one: remove the section [cluster] from one of the two configurations"
    )]
    AnotherNode { holder: Holder },
    #[error(
        "the store's directory was removed: the service manager starts iotmonitor again, which makes it"
    )]
    StoreLost,
    #[error("cannot start the runtime: {0}; the system is out of resources")]
    Runtime(std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Returns an error that is fatal at the start: a configuration with errors, a store of a newer
/// format, or another monitor of the same clientid. Later, only the loss of the store's directory
/// under a service manager is fatal, because the manager can create it again.
pub fn run(options: &Options, logger: &Logger) -> Result<(), DaemonError> {
    let opened = store::check_format(&options.state_directory)?;
    let environment = Environment {
        main_defaults: opened.as_ref().is_some_and(goes_by_main_defaults),
        ..options.environment.clone()
    };
    let options = &Options { environment, ..options.clone() };
    notify::starting(START_PATIENCE);
    let (loaded, refused) = sections::load_at_start(&options.config_file, &options.environment)?;
    for warning in loaded.warnings.paragraphs() {
        logger.alert(&Alert::plain(AlertKind::ConfigWarning, warning));
    }
    if let Some((alert, _)) = &refused {
        logger.alert(alert);
    }
    let refused = refused.and_then(|(_, version)| version);
    check_descriptors().map_err(DaemonError::Runtime)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let outcome = runtime.block_on(async {
        // This happens before any unit is touched.
        let place = claim_place(options, &loaded.config.monitor.client_id).await?;
        if loaded.config.cluster.is_some() {
            let client_id = &loaded.config.monitor.client_id;
            let place = claim_node(options, client_id).await?;
            tokio::spawn(bus::keep_node(adapters::bus_settings(options, client_id), place));
        }
        let mut daemon = Daemon::start(options, loaded, refused, opened, place, logger)
            .map_err(DaemonError::Runtime)?;
        daemon.run().await;
        let is_to_restart = daemon.is_to_restart;
        daemon.stop().await;
        if is_to_restart { Err(DaemonError::StoreLost) } else { Ok(()) }
    });
    // A hanging lookup of the broker's name must not delay the end.
    runtime.shutdown_background();
    outcome
}

/// The place on the bus, or none where it is only available later: the watching begins without it.
async fn claim_place(
    options: &Options,
    client_id: &str,
) -> Result<Option<Box<OwnedName>>, DaemonError> {
    match bus::claim(&adapters::bus_settings(options, client_id)).await {
        NameClaim::Made(place) => Ok(Some(place)),
        NameClaim::Pending => Ok(None),
        NameClaim::Held(holder) => {
            Err(DaemonError::AnotherRuns { client_id: client_id.to_owned(), holder })
        }
    }
}

/// The place of a node, or none where the bus is not there yet.
async fn claim_node(options: &Options, client_id: &str) -> Result<Option<NodePlace>, DaemonError> {
    match bus::claim_node(&adapters::bus_settings(options, client_id)).await {
        NameClaim::Made(place) => Ok(Some(place)),
        NameClaim::Pending => Ok(None),
        NameClaim::Held(holder) => Err(DaemonError::AnotherNode { holder }),
    }
}

/// Whether the store was created when an instance still used the main monitor's names by default,
/// as before version 0.4.0, and has not had names of its own since.
fn goes_by_main_defaults(opened: &store::Opened) -> bool {
    opened.identity().is_none_or(|record| record.main_defaults)
}

/// Ensures that the file descriptors that the runtime needs at its start are available, because it
/// panics when it gets none for its signals.
fn check_descriptors() -> std::io::Result<()> {
    let pairs: std::io::Result<Vec<_>> = (0..RUNTIME_PAIRS).map(|_| UnixStream::pair()).collect();
    pairs.map(drop)
}

struct Daemon<'a> {
    options: &'a Options,
    logger: &'a Logger,
    settings: AdapterSettings,
    monitor: Monitor,
    adapters: Adapters,
    /// Present only where the configuration names a cluster.
    cluster: Option<Cluster>,
    events: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<Request>,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    watchdog: Watchdog,
    trimming: Trimming,
    readiness: Readiness,
    /// The origin of monotonic time.
    start: Instant,
    actions: Vec<Action>,
    /// Callers that wait for the store.
    answers: Answers,
    reloads: Reloads,
    sections: SectionsState,
    /// Callers that wait for an agent.
    orders: Orders,
    /// Those that are on their way to all nodes of the cluster.
    placed_orders: PlacedOrders,
    journal: Arc<JournalReader>,
    alerts: Alerts,
    accounts: mpsc::Receiver<Accounted>,
    /// The store's directory is gone, and only a new process can get it back.
    is_to_restart: bool,
    /// The summary that was reported last, without what is not reported when it changes.
    reported: Option<Summary>,
}

/// This happens before any agent starts that receives the credentials.
fn keep_credentials(options: &Options, config: &Config, logger: &Logger) {
    let directory = &options.environment.runtime_directory;
    if let Err(error) = credentials::keep(directory, &config.mqtt, &config.monitor) {
        let message = format!(
            "the credentials for agents cannot be written to {}: {error}; agents with \
             passCredentials do not start",
            directory.display()
        );
        logger.alert(&Alert::plain(AlertKind::ConfigWarning, message));
    }
}

impl<'a> Daemon<'a> {
    fn start(
        options: &'a Options,
        loaded: Loaded,
        refused: Option<SectionsVersion>,
        opened: Option<store::Opened>,
        place: Option<Box<OwnedName>>,
        logger: &'a Logger,
    ) -> std::io::Result<Self> {
        let Loaded { config, shared, .. } = loaded;
        keep_credentials(options, &config, logger);
        let (event_sender, events) = mpsc::channel(EVENT_QUEUE);
        let (request_sender, requests) = mpsc::channel(REQUEST_QUEUE);
        let settings = AdapterSettings::of(&config);
        let (alerts, accounts) = Alerts::new(adapters::bus_of(options));
        let start = Instant::now();
        let wall = wall_clock();
        let surroundings =
            Surroundings { requests: request_sender, events: event_sender, started: wall };
        let adapters = Adapters::start(options, &settings, opened, place, surroundings, start)?;
        let mut cluster = adapters.cluster(&config, &options.environment);
        if let Some(cluster) = &mut cluster {
            cluster.uses(shared.and_then(|shared| shared.version));
        }
        let now = Now { mono: Duration::ZERO, wall, boot: boot_clock() };
        let monitor = Monitor::new(config.monitor, now, fastrand::u64(..));
        let summary = monitor.summary();
        let message = format!(
            "iotmonitor {} starts with {} on {}",
            env!("CARGO_PKG_VERSION"),
            devices_and_agents(summary.devices, summary.agents),
            settings.mqtt.server
        );
        let daemon = Self {
            watchdog: Watchdog::new(notify::watchdog_interval(), start),
            trimming: Trimming::after_start(start),
            options,
            logger,
            settings,
            monitor,
            adapters,
            cluster,
            events,
            requests,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            readiness: Readiness { store: false, manager: false, is_reported: false },
            start,
            actions: Vec::new(),
            answers: Answers::default(),
            reloads: Reloads::default(),
            sections: SectionsState::new(refused),
            orders: Orders::default(),
            placed_orders: PlacedOrders::default(),
            journal: Arc::default(),
            alerts,
            accounts,
            is_to_restart: false,
            reported: None,
        };
        daemon.raise(AlertKind::Started, message);
        Ok(daemon)
    }

    async fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let sleep = tokio::time::sleep_until(self.start);
        tokio::pin!(sleep);
        loop {
            let deadline = self.next_wake();
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                _ = self.terminate.recv() => if self.ends_at_once() { return },
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    // No caller waits for the result, which is in the journal.
                    self.reload(None);
                }
                Some(request) = self.requests.recv() => {
                    self.answer(request);
                    // However many requests arrive, events have their turn.
                    self.take_in(BATCH);
                }
                Some(account) = self.accounts.recv() => {
                    let alerts = self.alerts.accounted(account);
                    self.report_all(alerts);
                }
                outcome = self.reloads.outcome() => self.end_reload(outcome),
                placed = self.placed_orders.placed() => self.placed(placed),
                news = Cluster::next(&mut self.cluster) => self.hear_cluster(news),
                count = self.events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    // They had all arrived by now.
                    let now = self.begin_turn();
                    for event in batch.drain(..) {
                        self.turn_at(now, event);
                    }
                }
                () = &mut sleep => {}
            }
            self.look_at_time().await;
            if self.is_to_restart || self.has_left() {
                return;
            }
        }
    }

    /// Processes deadlines, once everything that arrived before them has been handled.
    async fn look_at_time(&mut self) {
        let due = self.monitor.next_deadline().is_some_and(|due| due <= self.start.elapsed());
        if due {
            tokio::task::yield_now().await;
            self.take_in(self.events.len());
            self.turn(Event::TimePassed);
        }
        self.orders.look(&self.monitor);
        // This is repeated each time, because the state may have changed since the last report.
        self.report_status();
        if let Some(silent) = self.adapters.newly_stuck() {
            let error = format!(
                "the disk under {} has not answered for {} s: states are not recorded until it does; monitoring continues",
                self.options.state_directory.display(),
                silent.as_secs()
            );
            self.turn(Event::StoreFailed { error });
        }
        let cluster = self.cluster.as_ref();
        let are_alive = |within| {
            self.adapters.are_alive(within)
                && cluster.is_none_or(|cluster| cluster.is_alive(within))
        };
        self.watchdog.feed_if(are_alive, || self.adapters.ask());
        self.report_ready();
        self.trimming.trim_if_due();
    }

    /// Handles up to this many of the waiting events.
    fn take_in(&mut self, most: usize) {
        let now = self.begin_turn();
        for _ in 0..most {
            let Ok(event) = self.events.try_recv() else { break };
            self.turn_at(now, event);
        }
    }

    fn next_wake(&self) -> Instant {
        let monitor = self.monitor.next_deadline().map(|due| self.start + due);
        let ready = (!self.readiness.is_reported).then(|| self.start + READY_PATIENCE);
        let leaves = self.cluster.as_ref().and_then(Cluster::leaves);
        let others = [monitor, ready, leaves, self.watchdog.next()];
        others.into_iter().flatten().fold(self.trimming.next(), Instant::min)
    }

    /// Passes one event to the monitor and its actions to the adapters.
    fn turn(&mut self, event: Event) {
        let now = self.begin_turn();
        self.turn_at(now, event);
    }

    /// Reads the clocks. Whatever comes next is not covered by a lease that has ended.
    fn begin_turn(&mut self) -> Now {
        let now = self.now();
        let ended = self.cluster.as_mut().and_then(|cluster| cluster.lease_ended(now.boot));
        self.tell_of_cluster(now, ended.into_iter().collect());
        now
    }

    /// Does so for one of several events that arrived by the same time. Reading the clocks takes
    /// longer than many a message.
    fn turn_at(&mut self, now: Now, mut event: Event) {
        let mut facts = Vec::new();
        self.adapters.retry();
        if self.answers.pass_on(&mut event) {
            return;
        }
        match &mut event {
            Event::Cluster(ClusterFact::GuardEnded { how }) => {
                let how = std::mem::take(how);
                return self.end_guard(now, how);
            }
            Event::StateMessage { redelivery, .. } => {
                *redelivery = self.adapters.judge(*redelivery);
            }
            Event::StoreOpened(snapshot) => {
                self.readiness.store = true;
                self.adapters.store_opened(&self.settings, !snapshot.session_filters.is_empty());
            }
            Event::StoreFailed { .. } => self.readiness.store = true,
            // Alerts of this run have received their numbers, and earlier ones can be read.
            Event::HistoryOpened(_) => self.adapters.show_reload(),
            Event::StoreLost { .. } => self.is_to_restart = notify::is_supervised(),
            Event::StatesCommitted { .. }
            | Event::FormerStatesCommitted { .. }
            | Event::StatesRead { .. }
            | Event::DevicesSaved
            | Event::StoreRecovered => self.adapters.store_progressed(&self.settings),
            Event::Connected { connection: Connection::State, .. } => {
                self.adapters.state_connected()
            }
            Event::Connected { connection: Connection::Former(_), .. } => {
                self.adapters.former_connected();
            }
            Event::ManagerConnected { units } => {
                self.readiness.manager = true;
                let cluster = self.cluster.as_mut();
                facts = cluster.map(|cluster| cluster.units_listed(units)).unwrap_or_default();
            }
            Event::ManagerLost { .. } => self.readiness.manager = true,
            Event::SystemState { stopping } => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.system_stops(*stopping);
                }
            }
            _ => {}
        }
        self.monitor.handle(now, event, &mut self.actions);
        self.carry_out();
        self.tell_of_cluster(now, facts);
    }

    fn carry_out(&mut self) {
        self.trimming.note(self.actions.len());
        let mut alerts = Vec::new();
        for action in self.actions.drain(..) {
            match action {
                Action::Raise(alert) => {
                    self.adapters.show_alert(wall_clock(), &alert);
                    alerts.extend(self.alerts.take_in(Outgoing::Alert(Box::new(alert))));
                }
                Action::SendNotification(notification) => {
                    alerts.extend(self.alerts.take_in(Outgoing::Notification(notification)));
                }
                Action::Reply(reply) => {
                    if let Some(cluster) = &mut self.cluster {
                        cluster.reply(reply);
                    }
                }
                action => self.adapters.carry_out(&self.settings, action),
            }
        }
        self.report_all(alerts);
        // A turn that concerns every device is rare, and its list is large.
        self.actions.shrink_to(LARGE_TURN);
    }

    /// Delivers alerts that no longer wait for anything.
    fn report_all(&mut self, alerts: Vec<Outgoing>) {
        for outgoing in alerts {
            match outgoing {
                Outgoing::Alert(alert) => self.logger.alert(&alert),
                Outgoing::Notification(notification) => {
                    self.adapters.start_alert_unit(alerts::order_of(*notification));
                }
            }
        }
    }

    /// Raises an alert of the daemon's own.
    fn raise(&self, kind: AlertKind, message: String) {
        let alert = Alert::plain(kind, message);
        self.logger.alert(&alert);
        self.adapters.show_alert(wall_clock(), &alert);
    }

    fn now(&self) -> Now {
        Now { mono: self.start.elapsed(), wall: wall_clock(), boot: boot_clock() }
    }

    fn answer(&mut self, request: Request) {
        // The caller may have gone away meanwhile.
        match request {
            Request::Command { command, reply } => self.obey(command, reply),
            Request::Order { command, reply } => self.follow(command, reply),
            Request::View { device, reply } => {
                let view = self.monitor.view(&device);
                let _ = reply.send(view.ok_or(Rejection::UnknownDevice(device)));
            }
            Request::Views { after, limit, reply } => {
                let _ = reply.send(Ok(self.monitor.views_after(after.as_ref(), limit)));
            }
            Request::Summary { reply } => {
                let _ = reply.send(Ok(self.monitor.summary()));
            }
            Request::Cluster { reply } => self.show_cluster(reply),
            Request::MoveAgent { agent, to, reply } => self.move_agent(agent, to, reply),
            Request::DrainNode { node, drains, reply } => self.drain_node(node, drains, reply),
            Request::ApplySections { path, text, reply } => self.apply_sections(path, text, reply),
            Request::History { device, length, reply } => self.read_history(device, length, reply),
            Request::Histories { devices, length, boundaries, reply } => {
                self.read_histories(devices, length, boundaries, reply);
            }
            Request::Hours { device, length, reply } => self.read_hours(device, length, reply),
            Request::Alerts { query, reply } => self.read_alerts(query, reply),
            Request::Incidents { device, length, reply } => {
                self.read_incidents(device, length, reply);
            }
            Request::Figures { reply } => self.read_figures(reply),
            Request::Acknowledge { id, reply } => self.acknowledge(id, reply),
            Request::Bars { devices, boundaries, reply } => {
                self.read_bars(devices, boundaries, reply);
            }
            Request::Topics { device, reply } => {
                let filters = self.monitor.topic_filters_of(&device);
                let _ = reply.send(filters.ok_or(Rejection::UnknownDevice(device)));
            }
            Request::States { of, after, reply } => self.read_states(of, after, reply),
            Request::Journal { device, lines, reply } => self.read_journal(device, lines, reply),
            Request::SetState { state, reply } => self.set_state(state, reply),
            Request::ForgetState { topic, clear, reply } => self.forget_state(topic, clear, reply),
            Request::ImportStates { states, reply } => self.import_states(states, reply),
        }
    }

    /// Acknowledges what waits for its commit, so that the broker need not deliver it again. Other events
    /// come too late.
    async fn await_commits(&mut self) {
        let until = Instant::now() + COMMIT_PATIENCE;
        while self.adapters.owes_acknowledgement() {
            let Ok(Some(event)) = timeout_at(until, self.events.recv()).await else { return };
            if let Event::StatesCommitted { .. } = event {
                self.turn(event);
            }
        }
    }

    /// Sends the last messages, commits, and disconnects.
    async fn stop(mut self) {
        notify::stopping();
        self.turn(Event::Stopping);
        self.await_commits().await;
        let alerts = self.alerts.give_up();
        self.report_all(alerts);
        let goodbye = "iotmonitor stops; agents keep running";
        let stopped = Alert::plain(AlertKind::Stopped, goodbye.to_owned());
        self.adapters.show_alert(wall_clock(), &stopped);
        let deadline = Instant::now() + STOP_PATIENCE;
        let renewed = async {
            if let Some(cluster) = &self.cluster {
                cluster.renew_last(deadline).await;
            }
        };
        let (flushed, ()) = tokio::join!(self.adapters.close(deadline), renewed);
        if !flushed {
            let message = "the last states are not on disk; the broker delivers them again";
            self.logger.alert(&Alert::plain(AlertKind::StoreFailed, message.to_owned()));
        }
        self.logger.alert(&stopped);
    }
}

/// The time since the machine was switched on, including suspension (clock_gettime(2)).
fn boot_clock() -> Duration {
    // Linux has had the clock since 2.6.39; without it a suspension is not counted.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(Duration::ZERO, Duration::from)
}

fn wall_clock() -> Duration {
    // A clock before 1970 counts as 1970, because wall time is only displayed.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
