//! Conducts the machines: events and the time go in, actions come out.
//!
//! [`Monitor::handle`] is the only entry point. The caller states a time by which the event had
//! arrived, carries the actions out in order, and returns with their results as events, at the
//! latest at [`Monitor::next_deadline`].
//!
//! Each file below handles the events of one matter. Files call downward only, in this order, which
//! `core/tests/structure.rs` keeps free of cycles:
//!
//! | Files | Matter |
//! |-------|--------|
//! | `reconfigure`, `store`, `sharing` | another configuration, the records of earlier runs, and what other nodes leave to this one |
//! | `messages`, `commands`, `shared_orders`, `control`, `refusals`, `states` | requests of messages and people |
//! | `fleets` | devices that are learned from their messages, and forgotten |
//! | `watch_connection`, `covering`, `resubscribe`, `session` | the two connections |
//! | `neighbours`, `handover`, `catch_up`, `house` | the other nodes of a cluster: what they say, devices that pass from one to another, and the one voice of all |
//! | `probe`, `availability`, `contact` | whether a device is there |
//! | `agent` | agents and their units |
//! | `former`, `restore` | former identities, and the restore of recorded states |
//! | `alarms`, `dependents` | the course of an alarm, and the device that causes its silence |
//! | `deadlines`, `timeouts`, `saving`, `notifications`, `changes`, `subscriptions` | the tables of due, wanted, unsaved and undelivered items |
//! | `home_assistant`, `notices`, `publishing`, `views`, `ownership` | what is published and shown, and of what this node may speak |
//! | `history` | what is recorded of the past |

mod agent;
mod alarms;
mod availability;
mod catch_up;
mod changes;
mod commands;
mod contact;
mod control;
mod covering;
mod deadlines;
mod dependents;
mod device;
mod devices;
mod early;
mod fleets;
mod former;
mod handover;
mod history;
mod home_assistant;
mod house;
mod messages;
mod mutes;
mod neighbours;
mod notices;
mod notifications;
mod ownership;
mod presence;
mod probe;
pub mod publishing;
mod rare;
mod reconfigure;
mod refusals;
mod restore;
mod resubscribe;
mod saving;
mod sentences;
mod session;
mod shared_orders;
mod sharing;
mod states;
mod store;
mod subscriptions;
mod timeouts;
mod turn;
mod views;
mod watch_connection;

use crate::machines::absences::Absences;
use crate::machines::areas::Areas;
use crate::machines::catch_up::CatchUp;
use crate::machines::clock::WatchedClock;
use crate::machines::covering::Covering;
use crate::machines::deadline::DeadlineTable;
use crate::machines::dependency::Dependencies;
use crate::machines::echoes::{Echoes, Round};
use crate::machines::fleets::Fleets;
use crate::machines::history::Recorder;
use crate::machines::mutes::Mutes;
use crate::machines::nodes::Nodes;
use crate::machines::notifications::Notifications;
use crate::machines::pauses::Pauses;
use crate::machines::probes::Probes;
use crate::machines::random::Random;
use crate::machines::refusals::Refusals;
use crate::machines::restores::Restores;
use crate::machines::save_queue::SaveQueue;
use crate::machines::shared_base::SharedBase;
use crate::machines::shared_orders::KnownOrders;
use crate::machines::sharing::Sharing;
use crate::machines::standby::StandbyDevices;
use crate::machines::state_session::StateSession;
use crate::machines::takedown::Takedown;
use crate::machines::uptimes::Uptimes;
use crate::machines::usage::UsageMeters;
use crate::machines::wall_clock::WallClock;
use crate::machines::watch_link::WatchLink;
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::event::Event;
use crate::model::history::{EpisodeKind, HistorySnapshot};
use crate::model::identity::Identity;
use crate::model::message::{Connection, QoS, Token};
use crate::model::plan::Plan;
use crate::model::spec::{HomeAssistant, MonitorSpec};
use crate::model::state::ReadId;
use crate::model::time::Now;
use crate::model::unit_name::UnitTemplate;
use crate::monitor::publishing::publication;
use crate::monitor::turn::Turn;
use crate::topic::index::TopicIndex;
use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;
use devices::Devices;
use std::collections::BTreeMap;
use std::time::Duration;

/// The interval at which `up` is published.
const UP_INTERVAL: Duration = Duration::from_secs(1);

/// The whole state of the monitoring.
#[derive(Debug)]
pub struct Monitor {
    client_id: String,
    /// The clientid of the watch connection, which in a cluster contains the node.
    connection_id: String,
    /// The command line that reaches this monitor, without the command.
    command: String,
    base_topic: TopicName,
    home_assistant: HomeAssistant,
    devices: Devices,
    /// Those whose members are learned.
    fleets: Fleets,
    /// Forgotten devices whose states are being deleted, with their filters, by the read.
    forgetting: BTreeMap<ReadId, (DeviceName, Vec<TopicFilter>)>,
    /// Devices that others depend on.
    dependencies: Dependencies,
    areas: Areas,
    /// All filters of all devices.
    index: TopicIndex<Target>,
    /// With more subscriptions of the watch connection than this, wildcards replace many.
    max_subscriptions: usize,
    /// The meaning of the present message; kept for its memory.
    found: Vec<Target>,
    clock: WatchedClock,
    wall_clock: WallClock,
    /// Silence deadlines on watched time, at most one entry for each device.
    silence: DeadlineTable<DeviceId>,
    /// The times at which alerts are due that wait for the state of another device, on watched
    /// time.
    holds: DeadlineTable<DeviceId>,
    /// All other times, on monotonic time.
    timers: DeadlineTable<Timer>,
    watch: WatchLink,
    covering: Covering,
    probes: Probes,
    session: StateSession,
    restores: Restores,
    /// Copies of restored states that the state connection is expected to bring.
    echoes: Echoes,
    /// Copies that the watch connection is expected to bring, where it cannot distinguish them from
    /// contacts.
    heard_echoes: Echoes,
    /// The last round of restored states that was published, on any connection and on an earlier one.
    last_round: Round,
    earlier_round: Round,
    /// After this acknowledgement the watch connection has delivered the copies of the round.
    heard_until: Option<(Token, Round)>,
    refusals: Refusals,
    saving: SaveQueue,
    /// The store has been read, or cannot be: later findings are news.
    store_answered: bool,
    store_fails: bool,
    takedown: Takedown,
    shared_base: SharedBase,
    /// The publication after whose acknowledgement nothing is retained under a former identity.
    cleared_by: Option<Token>,
    /// Devices that were heard since their status was last refreshed; a flag ensures that each
    /// occurs once.
    stale_statuses: Vec<DeviceId>,
    up_count: u64,
    /// Kept, because it is needed each second.
    up_topic: TopicName,
    /// The number of devices that are expired at present.
    expired_count: usize,
    manager: agent::ManagerState,
    /// What this node shares with others; `None` where it is by itself.
    sharing: Option<Sharing>,
    /// Other nodes whose loss has not been reported yet.
    absences: Absences,
    /// The other nodes; `None` where there are none.
    nodes: Option<Nodes>,
    /// The states that this node or another one has missed.
    catch_up: CatchUp,
    /// The plan of the watch connection before devices came or went of which contacts are heard only
    /// where they are.
    plan_before: Option<Plan>,
    /// The wall clock at which this node has connected to the broker.
    node_since: Duration,
    /// The devices of which they speak.
    standby: StandbyDevices,
    known_orders: KnownOrders,
    /// The template for alerts that concern no device.
    alert_unit: Option<UnitTemplate>,
    /// The time for which the broker may be lost before people are notified.
    broker_grace: Duration,
    /// Undelivered notifications.
    notifications: Notifications,
    /// The time of their next check, if there is one on the timetable.
    notifications_due: Option<Duration>,
    /// What was, and is not recorded yet.
    history: Recorder,
    /// What agents use.
    usage: UsageMeters,
    /// Uptimes that are published for Home Assistant.
    uptimes: Uptimes,
    /// The records of earlier runs, while they wait for those of the devices.
    history_snapshot: Option<Box<HistorySnapshot>>,
    /// Subjects whose notifications are suppressed for a time.
    mutes: Mutes,
    next_token: u64,
    next_read: u64,
    random: Random,
    stopping: bool,
    /// Devices that are disabled for a time.
    pauses: Pauses,
    /// The time of the last event.
    last_turn: Now,
}

/// The meaning of a message that matches one of a device's filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Contact(DeviceId),
    Hello(DeviceId),
    State(DeviceId),
    /// The topic's number among those of the device.
    Availability(DeviceId, u8),
    /// The device was taken out.
    Nobody,
}

/// The items that can wait on monotonic time. A timer only states when to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Up,
    Save,
    /// A connection after a takeover has lasted.
    Lasting,
    /// The answer to a probe of the watch connection is overdue.
    Probe,
    ExpireRepeat(DeviceId),
    /// Something of an agent is due.
    Agent(DeviceId),
    /// A device that flaps may be stable again.
    Stable(DeviceId),
    /// A device may be gone, and would have spoken by now if it were not.
    Doubt(DeviceId),
    /// The state connection has been quiet for a moment, or its markers are overdue.
    Session,
    /// The state connection has been down for a while beside a living watch connection.
    SessionLoss,
    /// Echoes that never arrived are given up.
    Echoes,
    /// A former identity must be checked again.
    Takedown,
    /// Failed notifications may be tried again.
    Notifications,
    /// The interval has passed in which contacts are counted.
    History,
    /// Uptimes are to be read.
    Uptimes,
    /// Learned devices are reported together.
    Finds,
    /// The store that several nodes share has not answered for a while.
    Cut,
    /// Nodes that were lost together are reported.
    Absences,
    /// Something about the nodes is due.
    Nodes,
    /// Devices have come or gone whose contacts are heard only where they are.
    Resubscribe,
    /// The broker has not taken the last words about a part in time.
    LastWords,
}

impl Target {
    fn device(self) -> Option<DeviceId> {
        match self {
            Self::Contact(id) | Self::Hello(id) | Self::State(id) | Self::Availability(id, _) => {
                Some(id)
            }
            Self::Nobody => None,
        }
    }
}

impl Monitor {
    /// A monitor that starts now. `seed` varies the jitter of delays between runs.
    #[must_use]
    pub fn new(spec: MonitorSpec, now: Now, seed: u64) -> Self {
        let takedown = Takedown::new(Identity::of(&spec), &spec);
        let mut monitor = Self {
            client_id: spec.client_id.clone(),
            connection_id: spec.connection_id(),
            command: spec.command.clone(),
            base_topic: spec.base_topic.clone(),
            home_assistant: spec.home_assistant,
            stale_statuses: Vec::new(),
            devices: Devices::default(),
            fleets: Fleets::new(spec.fleets),
            forgetting: BTreeMap::new(),
            dependencies: Dependencies::default(),
            areas: Areas::default(),
            index: TopicIndex::new(),
            max_subscriptions: spec.max_subscriptions,
            found: Vec::new(),
            clock: WatchedClock::default(),
            wall_clock: WallClock::new(now),
            silence: DeadlineTable::default(),
            holds: DeadlineTable::default(),
            timers: DeadlineTable::default(),
            watch: WatchLink::default(),
            covering: Covering::default(),
            probes: Probes::default(),
            session: StateSession::default(),
            restores: Restores::default(),
            echoes: Echoes::default(),
            heard_echoes: Echoes::default(),
            last_round: Round::default(),
            earlier_round: Round::default(),
            heard_until: None,
            refusals: Refusals::default(),
            saving: SaveQueue::default(),
            store_answered: false,
            store_fails: false,
            takedown,
            shared_base: SharedBase::default(),
            cleared_by: None,
            up_count: 0,
            up_topic: spec.base_topic.clone(),
            expired_count: 0,
            manager: agent::ManagerState::default(),
            nodes: spec.cluster.as_ref().map(|cluster| Nodes::new(cluster.node.clone())),
            catch_up: CatchUp::default(),
            plan_before: None,
            node_since: now.wall,
            standby: StandbyDevices::default(),
            sharing: spec.cluster.map(Sharing::new),
            absences: Absences::default(),
            known_orders: KnownOrders::default(),
            alert_unit: spec.alert_unit,
            broker_grace: spec.broker_grace,
            notifications: Notifications::default(),
            notifications_due: None,
            history: Recorder::new(),
            usage: UsageMeters::default(),
            uptimes: Uptimes::default(),
            history_snapshot: None,
            mutes: Mutes::default(),
            next_token: 0,
            next_read: 0,
            random: Random::new(seed),
            stopping: false,
            pauses: Pauses::default(),
            last_turn: now,
        };
        monitor.up_topic = monitor.own_topic("up");
        monitor.take_in_devices(Duration::ZERO, now.wall, spec.devices);
        monitor.arm_all();
        monitor.timers.push(now.mono + UP_INTERVAL, Timer::Up);
        monitor.timers.push(now.mono + saving::SAVE_INTERVAL, Timer::Save);
        monitor.await_tallies(now);
        monitor.begin_uptimes(now);
        monitor
    }

    /// Processes one event and appends the resulting actions, in order.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        let noted = out.len();
        let turn = &mut Turn { now, watched: self.clock.at(now.mono), out, noted };
        self.note_turn(turn);
        self.take_in(turn, event);
        if turn.out.len() > noted {
            self.note_alerts(turn);
            self.flush_history(turn);
        }
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, event: Event) {
        match event {
            Event::TimePassed => self.time_passed(turn),
            Event::Connected { connection: Connection::Watch, protocol, .. } => {
                self.watch_connected(turn, protocol);
            }
            Event::Connected { connection: Connection::State, protocol, session_present } => {
                self.session_connected(turn, protocol, session_present);
            }
            Event::Disconnected { connection: Connection::Watch, reason } => {
                self.watch_disconnected(turn, &reason);
            }
            Event::Disconnected { connection: Connection::State, reason } => {
                self.session_disconnected(turn, reason);
            }
            Event::Subscribed { connection: Connection::Watch, refused } => {
                self.watch_subscribed(turn, &refused);
            }
            Event::Subscribed { connection: Connection::State, refused } => {
                self.session_subscribed(turn, &refused);
            }
            Event::Connected { connection: Connection::Former(part), session_present, .. } => {
                let orders = self.takedown.connected(turn.now.mono, part, session_present);
                self.take_down(turn, orders);
            }
            Event::Disconnected { connection: Connection::Former(part), reason } => {
                let orders = self.takedown.disconnected(part, &reason);
                self.take_down(turn, orders);
            }
            Event::Subscribed { connection: Connection::Former(part), refused } => {
                let orders = self.takedown.subscribed(part, !refused.is_empty());
                self.take_down(turn, orders);
            }
            Event::FormerMessage { part, delivery, message } => {
                self.former_message(turn, (part, delivery), &message);
            }
            Event::FormerStatesCommitted { through } => {
                let orders = self.takedown.committed(turn.now.mono, through);
                self.take_down(turn, orders);
            }
            Event::FormerUnitsStopped { client_id, outcome } => {
                let orders = self.takedown.units_stopped(turn.now.mono, &client_id, outcome);
                self.take_down(turn, orders);
                self.take_in_units(turn);
            }
            Event::Published { token } if self.cleared_by == Some(token) => {
                self.cleared_by = None;
                let orders = self.takedown.cleared();
                self.take_down(turn, orders);
            }
            Event::AnsweredLate { after } => {
                self.clock.leave_out(after, turn.now.mono);
                self.note_missed(turn, EpisodeKind::BrokerLost, after);
            }
            Event::WatchMessage(message) => self.watch_message(turn, &message),
            Event::StateMessage { delivery, message, redelivery } => {
                self.state_message(turn, delivery, message, redelivery);
            }
            Event::RestoredByAnother { by, topic } => self.restored_by(turn, &by, &topic),
            Event::Published { token } => self.published(turn, token),
            Event::PublishRefused { topic, reason, token } => {
                self.publication_refused(turn, &topic, reason, token);
            }
            Event::BrokerLacks { what } => self.broker_lacks(turn, &what),
            Event::PublishAccepted { topic } => self.publication_accepted(turn, &topic),
            Event::StoreOpened(snapshot) => self.store_opened(turn, *snapshot),
            Event::StoreFailed { error } | Event::StoreLost { error } => {
                self.store_failed(turn, error);
            }
            Event::StoreReplaced { path } => self.store_replaced(turn, &path),
            Event::StoreRecovered => self.store_recovered(turn),
            Event::StorePutAside { path, error } => {
                self.store_put_aside(turn, &path, &error);
            }
            Event::StoreRecordsDamaged { count, example } => turn.raise(
                AlertKind::StorePutAside,
                format!("{count} damaged records were dropped from the store, such as `{example}`"),
            ),
            Event::StatesCommitted { through } => turn.out.push(Action::Acknowledge { through }),
            Event::StatesRead { read: read @ ReadId::Forget(_), states, next } => {
                self.delete_states(turn, read, &states, next);
            }
            Event::StatesRead { read: read @ ReadId::CatchUp(_), states, next } => {
                self.states_for_node(turn, read, states, next);
            }
            Event::StatesRead { read, states, next } => {
                self.states_read(turn, read, states, next);
            }
            Event::StatesOrdered { write, order } => self.states_ordered(turn, write, order),
            // The caller of the command waits for it.
            Event::StatesWritten { .. } => {}
            Event::DevicesSaved => self.devices_saved(turn),
            Event::HistoryOpened(snapshot) => self.history_opened(turn, snapshot),
            Event::HistorySaved => self.history_saved(turn),
            Event::FiguresRead(figures) => self.figures_read(turn, &figures),
            Event::HistoryFailed { error } => turn.raise(AlertKind::HistoryFailed, error),
            Event::HistoryBack => turn.raise(
                AlertKind::HistoryBack,
                "the history is recorded again; nothing that waited was lost".to_owned(),
            ),
            Event::HistoryPutAside { path, error } => history::put_aside(turn, &path, &error),
            Event::HistoryReplaced { path } => history::replaced(turn, &path),
            Event::ManagerConnected { units } => self.manager_connected(turn, units),
            Event::ManagerLost { reason } => self.manager_lost(turn, &reason),
            Event::UnitChanged(report) => self.unit_changed(turn, *report),
            Event::UnitsMeasured(usages) => self.units_measured(&usages),
            Event::UnitRemoved { unit } => self.unit_removed(turn, &unit),
            Event::StartFinished { unit, outcome } => self.start_finished(turn, &unit, outcome),
            Event::StopFinished { unit, outcome } => self.stop_finished(turn, &unit, outcome),
            Event::NotificationEnded { instance, outcome } => {
                self.notification_ended(turn, &instance, outcome);
                self.flush_saves(turn);
            }
            Event::PageFailed { error } => turn.raise(AlertKind::PageFailed, error),
            Event::PageBack { address } => turn.raise(
                AlertKind::PageBack,
                format!("the status page is offered on http://{address}/"),
            ),
            Event::BusNameRefused { reason } => turn.raise(
                AlertKind::BusNameRefused,
                format!("commands and `systemctl reload` do not reach this monitor: {reason}"),
            ),
            Event::BusNameBack => {
                turn.raise(AlertKind::BusNameBack, "commands reach this monitor again".to_owned())
            }
            Event::SystemState { stopping } => self.note_system_state(turn, stopping),
            Event::Cluster(fact) => self.cluster_reported(turn, fact),
            Event::Reconfigured(spec) => self.reconfigure(turn, *spec),
            Event::Enabled { device } => self.set_enabled(turn, &device, true),
            Event::Disabled { device } => self.set_enabled(turn, &device, false),
            Event::Paused { device, span } => self.pause(turn, &device, span),
            Event::Silenced { device, span } => self.silence(turn, device, span),
            Event::Unsilenced { device } => self.unsilence(turn, device),
            Event::NotificationTested { device } => self.test_notification(turn, device),
            Event::RestoreRequested { device } => {
                if let Some(id) = self.id_named(&device) {
                    self.request_restore(turn, id);
                }
            }
            Event::RestartRequested { device } => {
                if let Some(id) = self.id_named(&device) {
                    self.restart_agent(turn, id);
                }
            }
            Event::Forgotten { device } => self.forget(turn, &device),
            Event::Stopping => self.stop(turn),
        }
    }

    /// The monotonic time at which [`Event::TimePassed`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let of = |watched| self.clock.mono_of(watched);
        let silence = self.silence.next().and_then(of);
        let holds = self.holds.next().and_then(of);
        let pause = self.pauses.next(self.last_turn.boot).map(|left| self.last_turn.mono + left);
        let loud = self.mutes.next(self.last_turn.boot).map(|left| self.last_turn.mono + left);
        [silence, holds, pause, loud, self.timers.next()].into_iter().flatten().min()
    }

    /// The command line that reaches this monitor, without the command.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    fn time_passed(&mut self, turn: &mut Turn<'_>) {
        while let Some((due, timer)) = self.timers.pop_due(turn.now.mono) {
            match timer {
                Timer::Up => self.publish_up(turn, due),
                Timer::Save => self.save_due(turn),
                Timer::Lasting => self.lasting_due(turn, due),
                Timer::Probe => self.probe_overdue(turn),
                Timer::ExpireRepeat(id) => self.expire_repeat_due(turn, due, id),
                Timer::Agent(id) => self.agent_due(turn, id),
                Timer::Stable(id) => self.stable_due(turn, due, id),
                Timer::Doubt(id) => self.doubt_due(turn, id),
                Timer::Session => self.session_due(turn),
                Timer::SessionLoss => self.session_loss_due(turn, due),
                Timer::Echoes => self.echoes_due(turn),
                Timer::Notifications => self.notifications_due(turn),
                Timer::History => self.history_due(turn),
                Timer::Uptimes => self.uptimes_due(turn, due),
                Timer::Finds => self.finds_due(turn),
                Timer::Cut => self.cut_due(turn),
                Timer::Absences => self.absences_due(turn),
                Timer::Resubscribe => self.resubscribe_due(turn),
                Timer::Nodes => self.nodes_due(turn),
                Timer::LastWords => self.last_words_due(turn),
                Timer::Takedown => {
                    let orders = self.takedown.time_passed(turn.now.mono);
                    self.take_down(turn, orders);
                }
            }
        }
        self.pauses_due(turn);
        self.mutes_due(turn);
        self.silence_due(turn);
        self.flush_saves(turn);
    }

    fn publish_up(&mut self, turn: &mut Turn<'_>, due: Duration) {
        if self.speaks_for_house() {
            self.up_count += 1;
            let payload = Bytes::from(self.up_count.to_string());
            let up = publication(self.up_topic.clone(), payload, QoS::AtMostOnce, false, None);
            turn.out.push(up);
        }
        // A monitor that was held up does not make up for the seconds that it missed.
        let next = due + UP_INTERVAL;
        let next =
            if next + UP_INTERVAL < turn.now.mono { turn.now.mono + UP_INTERVAL } else { next };
        self.timers.push(next, Timer::Up);
    }

    fn stop(&mut self, turn: &mut Turn<'_>) {
        self.stopping = true;
        self.save_everything(turn);
        self.save_history(turn);
        self.say_goodbye(turn);
    }

    fn published(&mut self, turn: &mut Turn<'_>, token: Token) {
        if self.probes.is_answered_by(token) {
            self.probe_succeeded(turn);
        } else if !self.last_words_taken(turn, token) && !self.chunk_taken(turn, token) {
            self.restored_published(turn, token);
        }
    }
}
