//! A house in simulated time: one monitor, a broker, a store and a service manager around it.
//!
//! All three answer as well-behaved ones do, at once; each can be set not to, and what it then
//! owes can be delivered by hand. Time moves by [`House::advance`] alone, from one deadline of the
//! monitor to the next, so whatever the monitor does carries its exact time.

use bytes::Bytes;
use iotmonitor_core::machines::retained::{Replay, Retained};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::Alert;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::identity::IdentityRecord;
use iotmonitor_core::model::message::{
    Connection, Delivery, FilterRefusal, LossReason, Message, Protocol, Publication, QoS,
    Redelivery, Subscription, Token,
};
use iotmonitor_core::model::notification::Notification;
use iotmonitor_core::model::snapshot::{DeviceRecord, Heartbeat, Snapshot};
use iotmonitor_core::model::spec::Origin;
use iotmonitor_core::model::spec::{
    DEFAULT_MAX_SUBSCRIPTIONS, DeviceSpec, HomeAssistant, MonitorSpec,
};
use iotmonitor_core::model::state::{ReadId, StateChange, StateRecord};
use iotmonitor_core::model::time::Now;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome, UnitReport};
use iotmonitor_core::model::unit_name::{UnitName, UnitTemplate};
use iotmonitor_core::monitor::Monitor;
use iotmonitor_core::monitor::publishing::OWN_LEVELS;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Wall clock at the start of every timetable, Unix seconds.
pub const START: u64 = 1_700_000_000;
pub const BASE: &str = "home/monitoring";

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub fn name(text: &str) -> DeviceName {
    DeviceName::new(text).unwrap()
}

pub fn topic(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

pub fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

pub struct House {
    pub spec: MonitorSpec,
    pub monitor: Monitor,
    /// Monotonic time.
    pub mono: Duration,
    /// Seconds by which the wall clock was stepped, in total.
    pub wall_step: i64,
    /// Monotonic time at which the machine was switched on.
    pub booted: Duration,
    /// Every action with the time at which it was asked for.
    pub log: Vec<(Duration, Action)>,
    pub broker: Broker,
    pub store: Store,
    pub manager: Manager,
    pub way: Way,
    pub past: super::history::Past,
    queue: VecDeque<Event>,
    deliveries: u64,
}

pub struct Broker {
    pub protocol: Protocol,
    /// Whether QoS 1 publications are acknowledged.
    pub acknowledges: bool,
    /// Whether subscriptions are acknowledged.
    pub answers_subscribe: bool,
    /// Whether a publication on the state connection comes back to those subscribed.
    pub delivers: bool,
    pub refused: BTreeSet<TopicFilter>,
    /// What may not be published; in MQTT 3.1.1 it is dropped without a word.
    pub denied: BTreeSet<TopicFilter>,
    /// What it sends to the state connection with each subscription.
    pub retained: BTreeMap<TopicName, Message>,
    /// Messages that it takes and does not pass on.
    pub lost: BTreeSet<TopicFilter>,
    /// Whether publications that are taken are reported.
    pub reports_accepted: bool,
    /// Acknowledgements that are owed.
    pub owed: Vec<Token>,
    pub watch_subscriptions: BTreeMap<TopicFilter, QoS>,
    /// Subscriptions of the persistent session.
    pub session: BTreeMap<TopicFilter, QoS>,
    pub has_session: bool,
    /// Subscriptions of the connection for a former identity, of which the tests do the rest.
    pub former: BTreeMap<TopicFilter, QoS>,
}

#[derive(Default)]
pub struct Store {
    pub heartbeat: Heartbeat,
    pub devices: BTreeMap<DeviceName, DeviceRecord>,
    pub session_filters: Vec<TopicFilter>,
    pub identity: Option<IdentityRecord>,
    pub states: BTreeMap<TopicName, StateRecord>,
    pub retained: BTreeMap<TopicName, Retained>,
    pub holds_commits: bool,
    pub holds_saves: bool,
    pub holds_reads: bool,
    pub owed_reads: Vec<(ReadId, Vec<TopicFilter>, Option<TopicName>)>,
    /// States to one answer.
    pub chunk: usize,
}

/// The way to people elsewhere.
pub struct Way {
    /// Whether units end.
    pub answers: bool,
    /// Whether they fail.
    pub fails: bool,
    /// One that fails alone.
    pub broken: Option<UnitTemplate>,
    /// What people have heard.
    pub notified: Vec<Notification>,
}

impl Way {
    fn answer(&mut self, notification: &Notification) -> Option<Event> {
        let is_broken = self.broken.as_ref() == Some(&notification.template);
        let outcome = if self.fails || is_broken {
            JobOutcome::Failed(format!("{} is down", notification.template))
        } else {
            self.notified.push(notification.clone());
            JobOutcome::Done
        };
        self.answers
            .then(|| Event::NotificationEnded { instance: notification.instance.clone(), outcome })
    }
}

pub struct Manager {
    pub units: BTreeMap<UnitName, UnitReport>,
    /// Whether starts and stops are answered.
    pub answers: bool,
    /// Starts fail with these words.
    pub fails: Option<String>,
    runs: u32,
}

impl House {
    /// A house in which nothing is connected yet.
    pub fn dark(devices: Vec<DeviceSpec>) -> Self {
        let spec = MonitorSpec {
            client_id: "iotmonitor".into(),
            base_topic: topic(BASE),
            devices,
            fleets: Vec::new(),
            max_subscriptions: DEFAULT_MAX_SUBSCRIPTIONS,
            home_assistant: HomeAssistant::default(),
            alert_unit: None,
            broker_grace: std::time::Duration::from_secs(60),
            origin: Origin::default(),
            command: "iotmonitor".into(),
            cluster: None,
        };
        Self::of(spec)
    }

    /// A house of this configuration in which nothing is connected yet.
    pub fn of(spec: MonitorSpec) -> Self {
        let mono = secs(1000);
        let monitor = Monitor::new(spec.clone(), now_at(mono, 0, Duration::ZERO), 1);
        Self {
            spec,
            monitor,
            mono,
            wall_step: 0,
            booted: Duration::ZERO,
            log: Vec::new(),
            broker: Broker::new(),
            store: Store { chunk: 100, ..Store::default() },
            manager: Manager { units: BTreeMap::new(), answers: true, fails: None, runs: 0 },
            way: Way { answers: true, fails: false, broken: None, notified: Vec::new() },
            past: super::history::Past::default(),
            queue: VecDeque::new(),
            deliveries: 0,
        }
    }

    /// A house in which everything stands from the first moment on.
    pub fn running(devices: Vec<DeviceSpec>) -> Self {
        let mut house = Self::dark(devices);
        house.power_up();
        house
    }

    pub fn running_311(devices: Vec<DeviceSpec>) -> Self {
        let mut house = Self::dark(devices);
        house.broker.protocol = Protocol::V311;
        house.power_up();
        house
    }

    pub fn power_up(&mut self) {
        self.open_store();
        self.connect_manager();
        self.connect_watch();
        if self.spec.records_states() {
            self.connect_state();
        }
    }

    pub fn open_store(&mut self) {
        let snapshot = Snapshot {
            heartbeat: self.store.heartbeat.clone(),
            devices: self.store.devices.values().cloned().collect(),
            session_filters: self.store.session_filters.clone(),
            identity: self.store.identity.clone(),
        };
        self.happen(Event::StoreOpened(Box::new(snapshot)));
    }

    pub fn connect_manager(&mut self) {
        let units = self.manager.units.values().cloned().collect();
        self.happen(Event::ManagerConnected { units });
    }

    pub fn connect_watch(&mut self) {
        self.broker.watch_subscriptions.clear();
        self.happen(Event::Connected {
            connection: Connection::Watch,
            protocol: self.broker.protocol,
            session_present: false,
        });
    }

    pub fn connect_state(&mut self) {
        let session_present = std::mem::replace(&mut self.broker.has_session, true);
        self.happen(Event::Connected {
            connection: Connection::State,
            protocol: self.broker.protocol,
            session_present,
        });
    }

    pub fn lose_watch(&mut self) {
        self.lose(Connection::Watch, LossReason::Other("the broker closed the connection".into()));
    }

    pub fn lose_state(&mut self) {
        self.lose(Connection::State, LossReason::Other("the broker closed the connection".into()));
    }

    pub fn lose(&mut self, connection: Connection, reason: LossReason) {
        if connection == Connection::Watch {
            self.broker.watch_subscriptions.clear();
        }
        self.happen(Event::Disconnected { connection, reason });
    }

    /// Ends the process without a word and starts another one; nothing is connected afterwards.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.broker.owed.clear();
        self.store.owed_reads.clear();
        self.broker.watch_subscriptions.clear();
        self.monitor = Monitor::new(self.spec.clone(), self.now(), 2);
    }

    /// An orderly end and a new start; nothing is connected afterwards.
    pub fn restart(&mut self) {
        self.happen(Event::Stopping);
        self.crash();
    }

    /// The machine is switched on anew, and has been up for so long; nothing is connected.
    pub fn reboot(&mut self, up: Duration) {
        self.manager.units.clear();
        self.booted = self.mono - up;
        self.crash();
    }

    pub fn reload(&mut self, devices: Vec<DeviceSpec>) {
        self.spec.devices = devices;
        self.happen(Event::Reconfigured(Box::new(self.spec.clone())));
    }

    pub fn now(&self) -> Now {
        now_at(self.mono, self.wall_step, self.booted)
    }

    /// Wall clock in Unix seconds, as payloads show it.
    pub fn wall(&self) -> String {
        self.now().wall.as_secs().to_string()
    }

    /// Lets something happen, and everything that follows from it at once.
    pub fn happen(&mut self, event: Event) {
        self.queue.push_back(event);
        let mut turns = 0;
        while let Some(event) = self.queue.pop_front() {
            turns += 1;
            assert!(turns < 10_000, "the monitor and its house never come to rest");
            let mut out = Vec::new();
            self.monitor.handle(self.now(), event, &mut out);
            for action in out {
                self.answer(&action);
                self.log.push((self.mono, action));
            }
        }
    }

    /// Lets time pass, waking the monitor at each of its deadlines.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.mono + duration;
        let mut turns = 0;
        while let Some(due) = self.monitor.next_deadline().filter(|due| *due <= end) {
            turns += if due <= self.mono { 1 } else { -turns };
            assert!(turns < 1000, "the monitor wakes for nothing");
            self.mono = self.mono.max(due);
            self.happen(Event::TimePassed);
        }
        self.mono = end;
    }

    /// Lets time pass while the process is held up.
    pub fn stall(&mut self, duration: Duration) {
        self.mono += duration;
    }

    /// A live QoS 0 message on the watch connection.
    pub fn hear(&mut self, at: &str) {
        self.hear_payload(at, "1");
    }

    pub fn hear_payload(&mut self, at: &str, payload: &str) {
        self.happen(Event::WatchMessage(message(at, payload)));
    }

    /// A live QoS 1 message on the state connection.
    pub fn state(&mut self, at: &str, payload: &str) -> Delivery {
        self.state_message(Message { qos: QoS::AtLeastOnce, ..message(at, payload) })
    }

    pub fn state_message(&mut self, message: Message) -> Delivery {
        self.redelivered(message, Redelivery::No)
    }

    pub fn redelivered(&mut self, message: Message, redelivery: Redelivery) -> Delivery {
        self.deliveries += 1;
        let delivery = Delivery(self.deliveries);
        self.happen(Event::StateMessage { delivery, message, redelivery });
        delivery
    }

    /// Puts a state into the store, as an earlier run did.
    pub fn recorded(&mut self, at: &str, payload: &str) {
        self.recorded_as(at, payload, QoS::AtLeastOnce, true);
    }

    pub fn recorded_as(&mut self, at: &str, payload: &str, qos: QoS, retain: bool) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let record = StateRecord { topic: topic(at), payload, qos, retain, time: secs(START) };
        self.store.states.insert(topic(at), record);
    }

    /// The broker acknowledges what it owes.
    pub fn settle_acknowledgements(&mut self) {
        for token in std::mem::take(&mut self.broker.owed) {
            self.happen(Event::Published { token });
        }
    }

    /// The store answers the reads that it owes.
    pub fn settle_reads(&mut self) {
        for (read, filters, after) in std::mem::take(&mut self.store.owed_reads) {
            let answer = self.store.read(read, &filters, after.as_ref());
            self.happen(answer);
        }
    }

    pub fn settle_save(&mut self) {
        self.happen(Event::DevicesSaved);
    }

    fn answer(&mut self, action: &Action) {
        match action {
            Action::Publish(publication) => self.answer_publish(publication),
            Action::Subscribe { connection, subscriptions } => {
                let table = self.broker.subscriptions(*connection);
                for wanted in subscriptions {
                    table.insert(wanted.filter.clone(), wanted.qos);
                }
                let asked = subscriptions.iter().map(|wanted| wanted.filter.clone());
                let refused = asked.filter(|filter| self.broker.refused.contains(filter));
                let refused =
                    refused.map(|filter| FilterRefusal { filter, reason: "not authorized".into() });
                let (connection, refused) = (*connection, refused.collect());
                if connection == Connection::State {
                    self.replay(subscriptions);
                }
                if self.broker.answers_subscribe {
                    self.queue.push_back(Event::Subscribed { connection, refused });
                }
            }
            Action::Unsubscribe { connection, filters } => {
                let table = self.broker.subscriptions(*connection);
                table.retain(|filter, _| !filters.contains(filter));
            }
            Action::Acknowledge { .. }
            | Action::AcknowledgeFormer { .. }
            | Action::RecordFormer { .. }
            | Action::ConnectFormer { .. }
            | Action::DisconnectFormer
            | Action::StopFormerUnits { .. }
            | Action::DropNotification { .. }
            | Action::Reply(_)
            | Action::Withdraw { .. }
            | Action::Sever
            | Action::ReadFigures
            | Action::Notify(_) => {}
            Action::Raise(alert) => assert_explained(alert),
            Action::SaveHistory(batch) => self.queue.extend(self.past.take_in(batch)),
            Action::SendNotification(it) => self.queue.extend(self.way.answer(it)),
            Action::Record { .. }
            | Action::ReadStates { .. }
            | Action::WriteStates { .. }
            | Action::SaveDevices { .. }
            | Action::SaveSessionFilters(_)
            | Action::SaveIdentity(_) => self.queue.extend(self.store.answer(action)),
            Action::StartUnit { agent, definition, .. } => {
                self.queue.extend(self.manager.start(&agent.unit, definition));
            }
            Action::StopUnit { unit } => self.queue.extend(self.manager.stop(unit)),
        }
    }

    fn replay(&mut self, subscriptions: &[Subscription]) {
        let is_wanted = |at: &TopicName| subscriptions.iter().any(|s| s.filter.matches(at));
        for message in self.broker.retained.values().filter(|message| is_wanted(&message.topic)) {
            self.deliveries += 1;
            let delivery = Delivery(self.deliveries);
            let message = Message { retain: true, ..message.clone() };
            let redelivery = Redelivery::No;
            self.queue.push_back(Event::StateMessage { delivery, message, redelivery });
        }
    }

    fn answer_publish(&mut self, publication: &Publication) {
        assert!(
            publication.token.is_none() || publication.qos == QoS::AtLeastOnce,
            "only QoS 1 is acknowledged"
        );
        let topic = publication.topic.clone();
        if let Some(below) = topic.as_str().strip_prefix(BASE) {
            let level = below.split('/').nth(1).unwrap_or_default();
            assert!(OWN_LEVELS.contains(&level), "wildcards are kept from own topics: {topic}");
        }
        let denied = self.broker.denied.iter().any(|filter| filter.matches(&topic));
        let lost = denied || self.broker.lost.iter().any(|filter| filter.matches(&topic));
        if denied && publication.qos == QoS::AtLeastOnce && self.broker.protocol == Protocol::V5 {
            let (reason, token) = ("not authorized".to_owned(), publication.token);
            self.broker.reports_accepted = true;
            self.queue.push_back(Event::PublishRefused { topic, reason, token });
            return;
        }
        if self.broker.reports_accepted && publication.qos == QoS::AtLeastOnce {
            self.queue.push_back(Event::PublishAccepted { topic });
        }
        if let Some(token) = publication.token {
            if self.broker.acknowledges {
                self.queue.push_back(Event::Published { token });
            } else {
                self.broker.owed.push(token);
            }
        }
        if publication.connection == Connection::Watch && self.broker.delivers && !lost {
            self.tell_nodes(publication);
        }
        if publication.connection != Connection::State || !self.broker.delivers || lost {
            return;
        }
        let v5 = self.broker.protocol == Protocol::V5;
        let copy = Message {
            topic: publication.topic.clone(),
            payload: publication.payload.clone(),
            qos: publication.qos,
            retain: v5 && publication.retain,
            restored: v5 && publication.restored,
            waited_micros: 0,
        };
        if self.broker.session.keys().any(|filter| filter.matches(&copy.topic)) {
            self.deliveries += 1;
            let delivery = Delivery(self.deliveries);
            let (message, redelivery) = (copy.clone(), Redelivery::No);
            self.queue.push_back(Event::StateMessage { delivery, message, redelivery });
        }
        if self.broker.watch_subscriptions.keys().any(|filter| filter.matches(&copy.topic)) {
            self.queue.push_back(Event::WatchMessage(Message { retain: false, ..copy }));
        }
    }
}

impl House {
    /// What the nodes of a cluster publish comes back to all of them, this one too.
    fn tell_nodes(&mut self, publication: &Publication) {
        let below = publication.topic.as_str().strip_prefix(BASE);
        let kind = below.and_then(|below| below.split('/').nth(1));
        let Some(kind @ ("nodes" | "status")) = kind else { return };
        if self.broker.watch_subscriptions.contains_key(&filter(&format!("{BASE}/{kind}/+"))) {
            self.queue.push_back(Event::WatchMessage(Message {
                topic: publication.topic.clone(),
                payload: publication.payload.clone(),
                qos: publication.qos,
                retain: false,
                restored: false,
                waited_micros: 0,
            }));
        }
    }
}

fn now_at(mono: Duration, wall_step: i64, booted: Duration) -> Now {
    let wall = Duration::from_millis(
        (START * 1000).saturating_add_signed(wall_step * 1000)
            + u64::try_from(mono.saturating_sub(secs(1000)).as_millis()).unwrap(),
    );
    Now { mono, wall, boot: mono - booted }
}

/// A live message as the watch connection delivers it.
pub fn message(at: &str, payload: &str) -> Message {
    Message {
        topic: topic(at),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtMostOnce,
        retain: false,
        restored: false,
        waited_micros: 0,
    }
}

impl Broker {
    fn new() -> Self {
        Self {
            protocol: Protocol::V5,
            acknowledges: true,
            answers_subscribe: true,
            delivers: true,
            refused: BTreeSet::new(),
            denied: BTreeSet::new(),
            retained: BTreeMap::new(),
            lost: BTreeSet::new(),
            reports_accepted: false,
            owed: Vec::new(),
            watch_subscriptions: BTreeMap::new(),
            session: BTreeMap::new(),
            has_session: false,
            former: BTreeMap::new(),
        }
    }

    fn subscriptions(&mut self, connection: Connection) -> &mut BTreeMap<TopicFilter, QoS> {
        match connection {
            Connection::Watch => &mut self.watch_subscriptions,
            Connection::State => &mut self.session,
            Connection::Former(_) => &mut self.former,
        }
    }
}

impl Store {
    fn answer(&mut self, action: &Action) -> Option<Event> {
        match action {
            Action::Record { delivery, change } => {
                self.change(change, false);
                (!self.holds_commits).then_some(Event::StatesCommitted { through: *delivery })
            }
            Action::WriteStates { write, changes, keep_newer } => {
                let changed = changes.iter().filter(|change| self.change(change, *keep_newer));
                Some(Event::StatesWritten { write: *write, changed: changed.count() })
            }
            Action::ReadStates { read, filters, after } => {
                if self.holds_reads {
                    self.owed_reads.push((*read, filters.clone(), after.clone()));
                    return None;
                }
                Some(self.read(*read, filters, after.as_ref()))
            }
            Action::SaveDevices { heartbeat, changed, gone } => {
                self.heartbeat.clone_from(heartbeat);
                for record in changed {
                    self.devices.insert(record.name.clone(), record.clone());
                }
                for name in gone {
                    self.devices.remove(name);
                }
                (!self.holds_saves).then_some(Event::DevicesSaved)
            }
            Action::SaveSessionFilters(filters) => {
                self.session_filters.clone_from(filters);
                None
            }
            Action::SaveIdentity(record) => {
                self.identity = Some((**record).clone());
                None
            }
            _ => None,
        }
    }

    fn change(&mut self, change: &StateChange, keep_newer: bool) -> bool {
        match change {
            StateChange::Nothing => false,
            StateChange::Put(record) | StateChange::PutUnflagged(record) => {
                let recorded = self.states.get(&record.topic);
                if keep_newer && recorded.is_some_and(|old| old.time > record.time) {
                    return false;
                }
                let before = recorded.map_or(&b""[..], |old| &old.payload);
                let retained = match change {
                    StateChange::Put(_) if record.retain => Retained::own(),
                    StateChange::Put(_) => self.retained(&record.topic).replaced(before),
                    _ => self.retained(&record.topic).replaced_unflagged(before, &record.payload),
                };
                self.put(record.clone(), retained);
                true
            }
            StateChange::Replay(record) => {
                let Some(recorded) = self.states.get(&record.topic).cloned() else {
                    self.put(record.clone(), Retained::own());
                    return true;
                };
                let retained = self.retained(&record.topic);
                match retained.replayed(&recorded.payload, &record.payload) {
                    Replay::Stale(retained) => self.put(recorded, retained),
                    Replay::Confirmed(retained) => {
                        self.put(StateRecord { retain: true, ..recorded }, retained);
                    }
                    Replay::News(retained) => self.put(record.clone(), retained),
                }
                true
            }
            StateChange::Forget(topic) => self.states.remove(topic).is_some(),
        }
    }

    fn put(&mut self, record: StateRecord, retained: Retained) {
        self.retained.insert(record.topic.clone(), retained);
        self.states.insert(record.topic.clone(), record);
    }

    fn retained(&self, at: &TopicName) -> Retained {
        let is_retained = self.states.get(at).is_some_and(|state| state.retain);
        let unknown = if is_retained { Retained::own() } else { Retained::default() };
        self.retained.get(at).cloned().unwrap_or(unknown)
    }

    fn read(&self, read: ReadId, filters: &[TopicFilter], after: Option<&TopicName>) -> Event {
        let wanted = |at: &TopicName| {
            (filters.is_empty() || filters.iter().any(|filter| filter.matches(at)))
                && after.is_none_or(|after| at > after)
        };
        let mut found = self.states.values().filter(|state| wanted(&state.topic));
        let states: Vec<StateRecord> = found.by_ref().take(self.chunk).cloned().collect();
        let more = found.next().is_some();
        let next = states.last().filter(|_| more).map(|state| state.topic.clone());
        Event::StatesRead { read, states, next }
    }
}

impl Manager {
    fn start(&mut self, unit: &UnitName, definition: &str) -> Vec<Event> {
        if !self.answers {
            return Vec::new();
        }
        if let Some(words) = &self.fails {
            let outcome = JobOutcome::Failed(words.clone());
            return vec![Event::StartFinished { unit: unit.clone(), outcome }];
        }
        let report = self.run(unit, definition);
        let outcome = JobOutcome::Done;
        vec![
            Event::UnitChanged(Box::new(report)),
            Event::StartFinished { unit: unit.clone(), outcome },
        ]
    }

    /// A new process in the unit, however it was started.
    pub fn run(&mut self, unit: &UnitName, definition: &str) -> UnitReport {
        self.runs += 1;
        let report = UnitReport {
            unit: unit.clone(),
            active: ActiveState::Active,
            has_job: false,
            main_pid: 100 + self.runs,
            invocation: format!("{:032x}", self.runs),
            restarts: 0,
            result: "success".into(),
            last_exit: None,
            ended_at: None,
            definition: Some(definition.into()),
            shared: None,
        };
        self.units.insert(unit.clone(), report.clone());
        report
    }

    fn stop(&mut self, unit: &UnitName) -> Vec<Event> {
        if !self.answers {
            return Vec::new();
        }
        self.units.remove(unit);
        let outcome = JobOutcome::Done;
        vec![
            Event::UnitRemoved { unit: unit.clone() },
            Event::StopFinished { unit: unit.clone(), outcome },
        ]
    }
}

const CATALOG: &str = include_str!("../../../systemd/usr/lib/systemd/catalog/iotmonitor.catalog");

/// journalctl -x shows the entry of the catalog, in which a field that the alert lacks is empty.
fn assert_explained(alert: &Alert) {
    let (_, entry) = CATALOG.split_once(&format!("-- {}\n", alert.kind.message_id())).unwrap();
    let entry = entry.split("\n-- ").next().unwrap();
    let is_complete = alert.device.is_some() || !entry.contains("@IOTMONITOR_DEVICE@");
    assert!(is_complete, "{alert:?} names no device, but its entry in the catalog shows one");
}
