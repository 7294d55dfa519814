//! The adapters of a running daemon, and the mapping of actions to adapters.

use super::Options;
use super::cluster::Cluster;
use super::former::FormerLink;
use super::unrecorded::Unrecorded;
use crate::bus::{self, BusHandle, BusSettings, OwnedName};
use crate::config::{Config, Environment};
use crate::dbus::Bus;
use crate::history::alerts::AlertBook;
use crate::history::{
    self, HistoryCommand, HistoryHandle, HistoryReader, HistorySettings, PastReader,
};
use crate::http::settings::HttpSettings;
use crate::http::{self, HttpHandle, PageNews, Surroundings};
use crate::mqtt::settings::MqttSettings;
use crate::mqtt::{self, ConnectionOptions, MqttHandle, Pair, Will};
use crate::pulse::Pulse;
use crate::store::{self, StoreCommand, StoreFull, StoreHandle, StoreSettings};
use crate::systemd::alert_units::AlertOrder;
use crate::systemd::former::FormerUnits;
use crate::systemd::manager::{self, ManagerHandle, ManagerSettings};
use bytes::Bytes;
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::Alert;
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::node_word::NodeWord;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord};
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::message::{Connection, Delivery, QoS, Redelivery};
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::topic::TopicName;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A disk that does not answer for this long is worth an alert. A slow one takes a second or two
/// for a commit.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Everything that has been started.
pub struct Adapters {
    events: mpsc::Sender<Event>,
    watch: MqttHandle,
    /// The state that the two connections share.
    pair: Pair,
    /// Present only where there is something to record, or to unsubscribe.
    state: Option<MqttHandle>,
    former: FormerLink,
    store: StoreHandle,
    /// Commands for which the store had no room: at most the reads and the saving for which it
    /// reserves room, and people's requests, whose callers wait for the answer. Deliveries never
    /// wait here.
    waiting: VecDeque<StoreCommand>,
    /// Deliveries of this connection for which the store had no room.
    unrecorded: Unrecorded,
    /// The last delivery that was given to the store, until it is acknowledged.
    owed: Option<Delivery>,
    /// The state connection waits for the store: a delivery is acknowledged only once it is
    /// recorded.
    store_is_open: bool,
    /// Present once the monitor is ready.
    history: Option<HistoryHandle>,
    /// The alerts that the history has not written yet.
    book: AlertBook,
    /// Parts of the past for which its thread had no room: one, and the last one of the run.
    past: VecDeque<HistoryCommand>,
    manager: ManagerHandle,
    bus: BusHandle,
    /// Present only where the status page is configured, with its pulse.
    http: Option<(HttpHandle, Pulse)>,
    surroundings: Surroundings,
    state_pulse: Pulse,
    store_pulse: Pulse,
    /// Pulses of the other parts, which always run.
    pulses: Vec<Pulse>,
}

/// The part of a configuration that the adapters need. The devices, which can be many, belong to
/// the monitor alone.
#[derive(Debug)]
pub struct AdapterSettings {
    pub mqtt: MqttSettings,
    pub client_id: String,
    pub base_topic: TopicName,
    /// Whether the state connection is needed.
    pub records_states: bool,
    /// This node, where several share what they watch.
    pub node: Option<NodeName>,
    /// The address of the status page, if it is enabled.
    pub http: Option<HttpSettings>,
    /// How long the past is kept.
    pub history_keep: Duration,
}

impl AdapterSettings {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let spec = &config.monitor;
        Self {
            mqtt: MqttSettings { client_id: spec.connection_id(), ..config.mqtt.clone() },
            node: spec.cluster.as_ref().map(|cluster| cluster.node.clone()),
            client_id: spec.client_id.clone(),
            base_topic: spec.base_topic.clone(),
            records_states: spec.records_states(),
            http: config.http.clone(),
            history_keep: config.history_keep,
        }
    }
}

impl Adapters {
    /// Starts all adapters except the state connection, with the place on the bus if there is one
    /// yet. `start` is the daemon's, as in `surroundings`.
    pub fn start(
        options: &Options,
        settings: &AdapterSettings,
        opened: Option<store::Opened>,
        place: Option<Box<OwnedName>>,
        surroundings: Surroundings,
        start: Instant,
    ) -> std::io::Result<Self> {
        let bus = bus_of(options);
        let events = surroundings.events.clone();
        let [watch_pulse, state_pulse, store_pulse, manager_pulse, bus_pulse] =
            std::array::from_fn(|_| Pulse::since(start.into_std()));
        let pulses = vec![watch_pulse.clone(), manager_pulse.clone(), bus_pulse.clone()];
        let store = store::spawn_with(
            opened,
            StoreSettings::new(&options.state_directory),
            events.clone(),
            store_pulse.clone(),
        )?;
        let client_id = settings.client_id.clone();
        let manager = manager::spawn(
            ManagerSettings {
                bus,
                client_id: client_id.clone(),
                alert_directory: options.environment.runtime_directory.join("alerts"),
                bus_address: None,
            },
            events.clone(),
            manager_pulse,
        );
        let bus = bus::spawn(
            bus_settings(options, &client_id),
            place,
            surroundings.requests.clone(),
            events.clone(),
            bus_pulse,
        );
        let pair = Pair::default();
        let watch = mqtt::spawn(
            Connection::Watch,
            settings.mqtt.clone(),
            ConnectionOptions {
                will: will_of(settings),
                pair: Some(pair.clone()),
                gives_up_after: gives_up_after(settings),
                ..Default::default()
            },
            events.clone(),
            watch_pulse,
        );
        let mut adapters = Self {
            events,
            watch,
            pair,
            state: None,
            former: FormerLink::default(),
            store,
            waiting: VecDeque::new(),
            unrecorded: Unrecorded::default(),
            owed: None,
            store_is_open: false,
            history: None,
            book: AlertBook::default(),
            past: VecDeque::new(),
            manager,
            bus,
            http: None,
            surroundings,
            state_pulse,
            store_pulse,
            pulses,
        };
        adapters.offer_page(settings);
        Ok(adapters)
    }

    /// Asks whether the system stops. Answered by [`Event::SystemState`], if systemd can be reached.
    pub fn ask_system_state(&self) {
        self.manager.ask_system_state();
    }

    /// This node's part in a cluster, if the configuration names one.
    pub fn cluster(&self, config: &Config, environment: &Environment) -> Option<Cluster> {
        let spec = &config.monitor;
        let (settings, shared) = (config.cluster.clone()?, spec.cluster.clone()?);
        let (client_id, machine) = (spec.client_id.clone(), environment.machine.clone());
        let (directory, pulse) =
            (environment.runtime_directory.clone(), self.store_pulse.sibling());
        let guard = self.manager.guard();
        Some(Cluster::new(settings, shared, client_id, directory, machine, guard, pulse))
    }

    /// Opens the status page as configured, or closes it.
    fn offer_page(&mut self, settings: &AdapterSettings) {
        let Some(settings) = settings.http.clone() else {
            self.http = None;
            return;
        };
        if let Some((page, _)) = &self.http {
            page.reconfigure(settings);
            return;
        }
        let pulse = self.store_pulse.sibling();
        match http::spawn(settings, self.surroundings.clone(), pulse.clone()) {
            Ok(page) => self.http = Some((page, pulse)),
            Err(error) => {
                let error = format!(
                    "the status page cannot be offered: {error}; the system is out of resources"
                );
                // When the queue is full at a start or a reload, there are worse problems to
                // report.
                let _ = self.events.try_send(Event::PageFailed { error });
            }
        }
    }

    /// The pulses of all parts. A part that does not run yet has none. A store that waits for the
    /// disk counts as alive: a restart would not end the wait, but would end the watching.
    pub fn are_alive(&self, within: Duration) -> bool {
        self.asked_pulses().all(|pulse| pulse.age() < within)
            && (self.store_pulse.age() < within || self.store.waits_for_disk())
    }

    /// Asks all parts to prove that they are alive. The store does so whenever it has something to
    /// do.
    pub fn ask(&self) {
        self.asked_pulses().for_each(Pulse::ask);
    }

    fn asked_pulses(&self) -> impl Iterator<Item = &Pulse> {
        let state = self.state.as_ref().map(|_| &self.state_pulse);
        let http = self.http.as_ref().map(|(_, pulse)| pulse);
        self.pulses.iter().chain(state).chain(http)
    }

    /// The time for which the disk has not answered the store, once it is long enough to be
    /// reported.
    pub fn newly_stuck(&self) -> Option<Duration> {
        let silent = self.store_pulse.age();
        (silent >= DISK_PATIENCE && self.store.is_newly_stuck()).then_some(silent)
    }

    /// The store is open, so topics to record may be subscribed to.
    pub fn store_opened(&mut self, settings: &AdapterSettings, session_is_kept: bool) {
        self.store_is_open = true;
        if session_is_kept || settings.records_states {
            self.start_state_connection(settings);
        }
    }

    fn start_state_connection(&mut self, settings: &AdapterSettings) {
        if self.state.is_none() {
            self.state_pulse.beat();
            self.state = Some(mqtt::spawn(
                Connection::State,
                settings.mqtt.clone(),
                ConnectionOptions {
                    pair: Some(self.pair.clone()),
                    gives_up_after: gives_up_after(settings),
                    ..Default::default()
                },
                self.events.clone(),
                self.state_pulse.clone(),
            ));
        }
    }

    /// Reconnects where the settings of the broker have changed, and starts the state connection
    /// where it is newly needed.
    pub fn reconfigure(&mut self, old: &AdapterSettings, new: &AdapterSettings) {
        if old.mqtt != new.mqtt {
            self.watch.reconnect(new.mqtt.clone());
            if let Some(state) = &self.state {
                state.reconnect(new.mqtt.clone());
            }
        }
        if self.store_is_open && new.records_states {
            self.start_state_connection(new);
        }
        if old.history_keep != new.history_keep {
            self.give_to_history(HistoryCommand::Keep(new.history_keep));
        }
        self.offer_page(new);
    }

    /// Opens the records of the past. Neither the start nor the watching waits for them.
    pub fn begin_history(&mut self, state_directory: &Path, keep: Duration) {
        let directory = state_directory.join(history::DIRECTORY);
        match history::spawn(
            HistorySettings::new(directory, keep),
            self.book.clone(),
            self.events.clone(),
        ) {
            Ok(handle) => self.history = Some(handle),
            Err(error) => {
                let error =
                    format!("the past is not recorded: {error}; the system is out of resources");
                // When the queue is full at a start, there are worse problems to report.
                let _ = self.events.try_send(Event::HistoryFailed { error });
            }
        }
    }

    /// Asks for the records of devices from the first time up to the second. Where there are none,
    /// or too many questions wait, the reader is dropped.
    pub fn read_history(
        &self,
        devices: Vec<DeviceName>,
        (since, now): (Duration, Duration),
        reader: HistoryReader,
    ) {
        if let Some(history) = &self.history {
            // A refused question is dropped, which the caller notices.
            let _ = history.send(HistoryCommand::Read { devices, since, now, reader });
        }
    }

    fn give_to_history(&mut self, command: HistoryCommand) {
        let Some(history) = &self.history else { return };
        if let Err(command) = history.send(command) {
            self.past.push_back(command);
        }
    }

    /// The state connection is established again: the broker repeats everything that was not
    /// acknowledged.
    pub fn state_connected(&mut self) {
        self.unrecorded.connected();
        if let Some(state) = &self.state {
            state.attend();
        }
    }

    /// Sees to it that what the store had no room for is recorded when it comes again.
    pub fn judge(&self, redelivery: Redelivery) -> Redelivery {
        self.unrecorded.judge(redelivery)
    }

    pub fn former_connected(&mut self) {
        self.former.connected();
    }

    /// Gives the store and the history the commands for which they had no room before.
    pub fn retry(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(StoreFull(command)) = self.store.send(command) {
                self.waiting.push_front(*command);
                break;
            }
        }
        while let (Some(history), Some(command)) = (&self.history, self.past.pop_front()) {
            if let Err(command) = history.send(command) {
                self.past.push_front(command);
                return;
            }
        }
    }

    /// The store has completed something, and so has room: the deliveries that it refused may come
    /// again.
    pub fn store_progressed(&mut self, settings: &AdapterSettings) {
        if self.unrecorded.has_room()
            && let Some(state) = &self.state
        {
            state.reconnect(settings.mqtt.clone());
        }
        self.former.store_progressed();
    }

    fn give_to_store(&mut self, command: StoreCommand) {
        if let StoreCommand::Record { delivery, .. } = &command
            && self.unrecorded.passes_over(*delivery)
        {
            return;
        }
        if let StoreCommand::RecordFormer { delivery, .. } = &command
            && !self.former.may_record(*delivery)
        {
            return;
        }
        let Err(StoreFull(command)) = self.store.send(command) else { return };
        match *command {
            StoreCommand::Record { delivery, .. } => self.unrecorded.begin(delivery),
            StoreCommand::RecordFormer { delivery, .. } => self.former.not_recorded(delivery),
            command @ (StoreCommand::ReadStates { .. }
            | StoreCommand::WriteStates { .. }
            | StoreCommand::SaveDevices { .. }
            | StoreCommand::SaveSessionFilters(_)
            | StoreCommand::SaveIdentity(_)) => self.waiting.push_back(command),
        }
    }

    /// Hands an action to its adapter. The daemon itself carries out what concerns alerts and the
    /// cluster.
    pub fn carry_out(&mut self, settings: &AdapterSettings, action: Action) {
        match action {
            Action::Publish(publication) => {
                if let Some(handle) = self.connection(publication.connection) {
                    handle.publish(publication);
                }
            }
            Action::Subscribe { connection, subscriptions } => {
                if let Some(handle) = self.connection(connection) {
                    handle.subscribe(subscriptions);
                }
            }
            Action::Unsubscribe { connection, filters } => {
                if let Some(handle) = self.connection(connection) {
                    handle.unsubscribe(filters);
                }
            }
            Action::Withdraw { devices } => {
                let devices: BTreeSet<&str> = devices.iter().map(DeviceName::as_str).collect();
                self.watch.withdraw(|topic| {
                    let below = topic.below(&settings.base_topic);
                    let name = below.and_then(|below| below.split_once('/'));
                    name.is_some_and(|(_, name)| devices.contains(name))
                });
            }
            Action::Sever => {
                if let Some(state) = &self.state {
                    state.sever();
                }
            }
            Action::Acknowledge { through } => {
                self.owed = self.owed.filter(|owed| *owed > through);
                if let Some(state) = &self.state
                    && self.unrecorded.may_acknowledge(through)
                {
                    state.acknowledge(through);
                }
            }
            Action::Record { delivery, change } => {
                self.owed = Some(delivery);
                self.give_to_store(StoreCommand::Record { delivery, change });
            }
            Action::RecordFormer { delivery, change } => {
                self.give_to_store(StoreCommand::RecordFormer { delivery, change });
            }
            Action::ConnectFormer { part, client_id } => {
                let settings = MqttSettings { client_id, ..settings.mqtt.clone() };
                self.former.connect(part, settings, self.events.clone());
            }
            Action::DisconnectFormer => self.former.disconnect(),
            Action::AcknowledgeFormer { through } => self.former.acknowledge(through),
            Action::ReadStates { read, filters, after } => {
                self.give_to_store(StoreCommand::ReadStates { read, filters, after });
            }
            Action::WriteStates { write, changes, keep_newer } => {
                let command = StoreCommand::WriteStates { write, changes, keep_newer };
                self.give_to_store(command);
            }
            Action::SaveDevices { heartbeat, changed, gone } => {
                self.give_to_store(StoreCommand::SaveDevices { heartbeat, changed, gone });
            }
            Action::SaveIdentity(record) => {
                self.give_to_store(StoreCommand::SaveIdentity(record));
            }
            Action::SaveSessionFilters(filters) => {
                self.give_to_store(StoreCommand::SaveSessionFilters(filters));
            }
            Action::StartUnit { device, agent, definition, tenure } => {
                self.manager.start(device, agent, definition, tenure);
            }
            Action::StopUnit { unit } => self.manager.stop(unit),
            Action::StopFormerUnits { client_id, units } => {
                let bus_name = bus::well_known_name(&client_id);
                self.manager.stop_former(FormerUnits { client_id, bus_name, units });
            }
            Action::Notify(notice) => self.notify(notice),
            Action::DropNotification { instance } => self.manager.drop_alert_file(&instance),
            Action::ReadFigures => self.read_figures(),
            Action::SaveHistory(batch) => self.give_to_history(HistoryCommand::Save(batch)),
            Action::Raise(_) | Action::SendNotification(_) | Action::Reply(_) => {}
        }
    }

    /// Starts a unit that people have written.
    pub fn start_alert_unit(&self, order: AlertOrder) {
        self.manager.alert(order);
    }

    /// Notifies connected D-Bus clients.
    pub fn notify(&self, notice: Notice) {
        if let Some((page, _)) = &self.http {
            page.notify(&notice);
        }
        self.bus.notify(notice);
    }

    /// Records an alert, and reports it to the status page.
    pub fn show_alert(&self, time: Duration, alert: &Alert) {
        let (record, is_first) = self.book.push(AlertRecord::new(time, alert));
        if let Some(history) = self.history.as_ref().filter(|_| is_first) {
            // A thread that has so much to do looks at what waits before it sleeps.
            let _ = history.send(HistoryCommand::Wake);
        }
        if let Some((page, _)) = &self.http {
            page.alert(alert.kind, record);
        }
    }

    /// Asks for alerts; a reader for which there is no room is dropped.
    pub fn read_alerts(&self, query: AlertQuery, reader: PastReader<Vec<Arc<AlertRecord>>>) {
        match &self.history {
            Some(history) => drop(history.send(HistoryCommand::ReadAlerts { query, reader })),
            None => reader.take(Ok(self.book.matching(&query))),
        }
    }

    /// Asks the history; a reader for which there is no room, or no history, is dropped.
    pub fn ask_history(&self, command: HistoryCommand) {
        if let Some(history) = &self.history {
            let _ = history.send(command);
        }
    }

    /// Reports the figures of all devices; when there is no room for that, they are asked for again later.
    fn read_figures(&self) {
        let events = self.events.clone();
        let reader = PastReader::new(move |figures: Result<Vec<PastFigures>, String>| {
            if let Ok(figures) = figures {
                let _ = events.try_send(Event::FiguresRead(figures));
            }
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        self.ask_history(HistoryCommand::ReadFigures { now, reader });
    }

    /// Has the alert acknowledged on disk; a reader for which there is no room is dropped.
    pub fn acknowledge(&self, id: u64, time: Duration, reader: PastReader<Option<Duration>>) {
        if let Some(history) = &self.history {
            let _ = history.send(HistoryCommand::Acknowledge { id, time, reader });
        }
    }

    /// Returns what reports to the status page, where there is one, that an alert was acknowledged.
    pub fn page_news(&self) -> Option<PageNews> {
        self.http.as_ref().map(|(page, _)| page.news())
    }

    /// Reports to the status page that devices may have been added or removed.
    pub fn show_reload(&self) {
        if let Some((page, _)) = &self.http {
            page.reloaded();
        }
    }

    fn connection(&self, connection: Connection) -> Option<&MqttHandle> {
        match connection {
            Connection::Watch => Some(&self.watch),
            Connection::State => self.state.as_ref(),
            Connection::Former(_) => self.former.handle(),
        }
    }

    /// Whether a delivery waits for its commit.
    pub fn owes_acknowledgement(&self) -> bool {
        self.owed.is_some()
    }

    /// Commits pending changes, sends queued messages, and disconnects. Returns whether everything
    /// that had to be kept is on disk.
    pub async fn close(self, deadline: Instant) -> bool {
        let within = deadline.saturating_duration_since(Instant::now());
        let store = self.store;
        let flushed = tokio::task::spawn_blocking(move || store.close(within));
        let history = self.history;
        let recorded =
            tokio::task::spawn_blocking(move || history.is_none_or(|it| it.close(within)));
        let state = async {
            if let Some(state) = &self.state {
                state.close(deadline).await;
            }
        };
        // The mark that a lost last batch would have set is ten minutes old at most.
        let ((), (), flushed, _recorded) =
            tokio::join!(self.watch.close(deadline), state, flushed, recorded);
        flushed.unwrap_or(false)
    }
}

/// The location of systemd, and the identity of this monitor.
pub fn bus_of(options: &Options) -> Bus {
    if options.environment.user_manager { Bus::User } else { Bus::System }
}

/// The topic on which a monitor of this clientid receives commands.
pub fn bus_settings(options: &Options, client_id: &str) -> BusSettings {
    BusSettings { bus: bus_of(options), client_id: client_id.to_owned(), bus_address: None }
}

/// The will: the broker publishes `offline` when the monitor cannot.
/// What has not been sent by then is dropped, since another node may have taken over.
const GIVES_UP_AFTER: Duration = Duration::from_secs(2);

fn gives_up_after(settings: &AdapterSettings) -> Option<Duration> {
    settings.node.as_ref().map(|_| GIVES_UP_AFTER)
}

/// A node's will speaks of that node alone.
fn will_of(settings: &AdapterSettings) -> Option<Will> {
    let (below, payload) = match &settings.node {
        Some(node) => (format!("nodes/{node}"), Bytes::from(NodeWord::Offline.to_json())),
        None => ("availability".to_owned(), Bytes::from_static(b"offline")),
    };
    let topic = TopicName::new(format!("{}/{below}", settings.base_topic)).ok()?;
    Some(Will { topic, payload, retain: true, qos: QoS::AtLeastOnce })
}
