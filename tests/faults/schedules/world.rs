//! What is around the monitor in a schedule: a broker, a store, the passing of time.
//!
//! It reports events to the monitor and facts to the model, and compares the two.

use super::Tally;
use super::model::{Definition, Millis, Model, SAVING};
use super::specs::{number_in, number_of, spec};
use super::step::{Step, ceil};
use bytes::Bytes;
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, LossReason, Message, Protocol, Publication, QoS, Token,
};
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::model::snapshot::{DeviceRecord, Heartbeat, Snapshot};
use iotmonitor_core::model::time::Now;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use iotmonitor_core::monitor::Monitor;
use iotmonitor_core::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub const BASE: &str = "home/monitoring";
/// Wall clock at the start, Unix seconds.
const START: u64 = 1_700_000_000;

/// Two of the longest: one under way, and one for devices that became due meanwhile.
const ROUND_TRIPS: Millis = 6_000;

/// A hold-up that is none.
const MOMENT: Millis = 2_000;

/// The device that is an agent.
pub const AGENT: usize = 5;

pub struct World {
    monitor: Monitor,
    model: Model,
    definitions: BTreeMap<usize, Definition>,
    now: Millis,
    wall_step: i64,
    connected: bool,
    /// The subscriptions are acknowledged and the broker is not mute.
    hears: bool,
    mute: bool,
    /// The monitor waits for an acknowledgement of subscriptions.
    asked: bool,
    last_packet: Millis,
    /// When devices may have become due all of a sudden: after a hold-up, or by a reload.
    jumped_at: Millis,
    answers_after: Millis,
    /// When an answer is due, and when what it answers was sent.
    answers_due: VecDeque<(Millis, Millis, Token)>,
    /// The monitor was held up from here on, and the last time until then; no round trip has shown
    /// yet that the connection stood meanwhile.
    unproven: Option<(Millis, Millis)>,
    /// How long in all, and until when, with less than a minute between.
    held_up: (Millis, Millis),
    queue: VecDeque<Event>,
    heartbeat: Heartbeat,
    records: BTreeMap<DeviceName, DeviceRecord>,
    units: BTreeMap<UnitName, UnitReport>,
    /// Of the agent's unit.
    definition: String,
    runs: u32,
    /// Reported, and not yet judged.
    recovered: Vec<usize>,
    alarms: BTreeMap<usize, u64>,
    /// Devices that were last reported as flapping.
    quiet: BTreeSet<usize>,
    /// What has just become known of devices, and is owed a word in the journal.
    owed: Vec<(AlertKind, usize)>,
    expire_publications: BTreeMap<usize, u64>,
    /// Devices whose alarms were ever to be repeated.
    repeated: BTreeSet<usize>,
    tally: Tally,
    error: Option<String>,
}

impl World {
    pub fn new(definitions: &BTreeMap<usize, Definition>) -> Self {
        let mut world = Self {
            monitor: Monitor::new(spec(definitions), now_at(0, 0), 1),
            model: Model::default(),
            definitions: definitions.clone(),
            now: 0,
            wall_step: 0,
            connected: false,
            hears: false,
            mute: false,
            asked: false,
            last_packet: 0,
            jumped_at: 0,
            answers_after: 0,
            answers_due: VecDeque::new(),
            unproven: None,
            held_up: (0, 0),
            queue: VecDeque::new(),
            heartbeat: Heartbeat::default(),
            records: BTreeMap::new(),
            units: BTreeMap::new(),
            definition: String::new(),
            runs: 0,
            recovered: Vec::new(),
            alarms: BTreeMap::new(),
            quiet: BTreeSet::new(),
            owed: Vec::new(),
            expire_publications: BTreeMap::new(),
            repeated: BTreeSet::new(),
            tally: Tally::default(),
            error: None,
        };
        world.configure(definitions.clone());
        world.begin();
        world
    }

    pub fn tally(&self) -> Tally {
        Tally { alarms: self.model.alarms, ..self.tally }
    }

    /// Takes a step and judges what the monitor has done.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        self.tally.faults += usize::from(step.is_fault());
        match step {
            Step::Wait(time) => self.flow(*time),
            Step::Talk(device) => self.talk(*device),
            Step::Replay(device) => self.replay(*device),
            Step::Lose(how) => self.lose(*how),
            Step::Connect { acknowledged } => self.connect(*acknowledged),
            Step::Acknowledge => self.acknowledge(),
            Step::Mute { quiet, noticed } => self.fall_mute(*quiet, *noticed),
            Step::Stall { time, talk, drops } => self.stall(*time, talk, *drops),
            Step::Restart(definitions) => self.restart(definitions.as_ref()),
            Step::Crash => self.crash(),
            Step::Reload(definitions) => self.reload(definitions.clone()),
            Step::Retime(device, timeout) => self.retime(*device, *timeout),
            Step::WallClock(seconds) => self.wall_step += seconds,
            Step::Enable(device) => self.set_enabled(*device, true),
            Step::Disable(device) => self.set_enabled(*device, false),
            Step::AgentRestarted => self.restart_agent(),
            Step::AnswersAfter(time) => self.answers_after = *time,
        }
        self.flow(0);
        self.judge()
    }

    fn judge(&mut self) -> Result<(), String> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.hears {
            let prompt = self.answers_after == 0 && self.answers_due.is_empty();
            if prompt {
                self.model.missed(0)?;
            } else if self.now >= self.jumped_at + ROUND_TRIPS {
                self.model.missed(ROUND_TRIPS)?;
            }
        }
        let (reported, expired) = (self.monitor.summary().expired, self.model.expired());
        if reported != expired {
            return Err(format!("{expired} are expired, and the monitor says {reported}"));
        }
        for device in self.definitions.keys() {
            let count = |of: &BTreeMap<usize, u64>| of.get(device).copied().unwrap_or(0);
            let (alarms, published) = (count(&self.alarms), count(&self.expire_publications));
            if published < alarms || (published > alarms && !self.repeated.contains(device)) {
                return Err(format!("{alarms} alarms for {device}, {published} published"));
            }
        }
        // The alert of what is behind another waits for that, and may be none.
        let quiet = |(_, device): &(AlertKind, usize)| {
            let behind = self.definitions.get(device).is_some_and(|of| of.behind.is_some());
            behind || self.quiet.contains(device)
        };
        if let Some((kind, device)) = std::mem::take(&mut self.owed).iter().find(|o| !quiet(o)) {
            return Err(format!("missed alarm: {kind:?} of {device} is not in the journal"));
        }
        if self.recovered.is_empty() {
            return Ok(());
        }
        Err(format!("recovered without being expired: {:?}", self.recovered))
    }

    /// Lets time pass, waking the monitor at its deadlines and the broker when it answers.
    fn flow(&mut self, time: Millis) {
        let end = self.now + time;
        loop {
            let wake = self.monitor.next_deadline().map_or(u64::MAX, ceil);
            let answer = self.answers_due.front().map_or(u64::MAX, |(due, ..)| *due);
            let next = wake.min(answer).max(self.now);
            if next > end {
                break;
            }
            self.pass(next - self.now);
            if answer <= self.now {
                self.answer();
            } else {
                self.happen(Event::TimePassed);
            }
        }
        self.pass(end - self.now);
    }

    /// The broker's oldest answer arrives.
    fn answer(&mut self) {
        let Some((_, sent, token)) = self.answers_due.pop_front() else { return };
        self.unproven = self.unproven.filter(|(_, until)| sent < *until);
        self.last_packet = self.now;
        self.happen(Event::Published { token });
    }

    fn pass(&mut self, time: Millis) {
        self.now += time;
        let heard = if self.hears { time } else { 0 };
        self.model.pass(time, heard, heard);
    }

    fn talk(&mut self, device: usize) {
        if self.hears && self.definitions.contains_key(&device) {
            let recovers = self.model.contact(device);
            self.deliver(device, recovers);
        }
    }

    /// The monitor gets a message; it reports a recovery if and only if there is one.
    fn deliver(&mut self, device: usize, recovers: bool) {
        self.tally.messages += 1;
        self.last_packet = self.now;
        self.happen(Event::WatchMessage(self.message_of(device)));
        let reported = std::mem::take(&mut self.recovered);
        if reported != vec![device; usize::from(recovers)] {
            self.wrong(format!(
                "contact of {device}, recovers: {recovers}, reported: {reported:?}"
            ));
        }
    }

    fn message_of(&self, device: usize) -> Message {
        let last = if self.definitions[&device].watched { "x" } else { "hello" };
        Message {
            topic: TopicName::new(format!("home/d{device}/{last}")).unwrap(),
            payload: Bytes::from_static(b"1"),
            qos: QoS::AtMostOnce,
            retain: false,
            restored: false,
            waited_micros: 0,
        }
    }

    fn replay(&mut self, device: usize) {
        if self.hears && self.definitions.contains_key(&device) {
            self.last_packet = self.now;
            let message = Message { retain: true, ..self.message_of(device) };
            self.happen(Event::WatchMessage(message));
        }
    }

    fn lose(&mut self, how: usize) {
        if self.connected {
            self.disconnect(match how {
                0 => LossReason::TakenOver,
                1 => LossReason::Refused("bad password".into()),
                _ => LossReason::Other("closed".into()),
            });
        }
    }

    fn disconnect(&mut self, reason: LossReason) {
        (self.connected, self.hears) = (false, false);
        self.answers_due.clear();
        if let Some((from, _)) = self.unproven.take() {
            // The last turn before may have been a second earlier.
            self.model.unsure(self.now - from + 1_000);
        }
        self.happen(Event::Disconnected { connection: Connection::Watch, reason });
    }

    fn connect(&mut self, acknowledged: bool) {
        if self.connected {
            return;
        }
        self.connected = true;
        self.last_packet = self.now;
        self.asked = false;
        let (connection, protocol) = (Connection::Watch, Protocol::V5);
        self.happen(Event::Connected { connection, protocol, session_present: false });
        if !self.asked {
            self.hears_again();
        } else if acknowledged {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        if !self.connected || !self.asked {
            return;
        }
        self.asked = false;
        self.last_packet = self.now;
        if !self.hears {
            self.hears_again();
        }
        let connection = Connection::Watch;
        self.happen(Event::Subscribed { connection, refused: Vec::new() });
    }

    fn hears_again(&mut self) {
        self.hears = true;
        self.model.hears_again();
    }

    fn fall_mute(&mut self, quiet: Millis, noticed: Millis) {
        if !self.hears {
            return;
        }
        let quiet = quiet.min(self.now - self.last_packet);
        self.hears = false;
        self.mute = true;
        self.answers_due.clear();
        self.flow(noticed);
        self.mute = false;
        self.model.unsure(quiet);
        let quiet = Duration::from_millis(quiet + noticed);
        self.disconnect(LossReason::Silent { sentence: "no answer".into(), quiet });
    }

    fn stall(&mut self, time: Millis, talk: &[usize], drops: bool) {
        let drops = drops && self.hears && time >= 3_000;
        let piece = time / (talk.len() as u64 + 1);
        let mut waiting = Vec::new();
        let start = self.now;
        for device in talk {
            self.pass_held_up(piece, start, time, drops);
            let gone = drops && self.now - start > time / 2;
            if self.hears && !gone && self.definitions.contains_key(device) {
                waiting.push((self.now, *device, self.model.contact(*device)));
            }
        }
        self.pass_held_up(start + time - self.now, start, time, drops);
        self.jumped_at = self.now;
        let before = if start <= self.held_up.1 + SAVING { self.held_up.0 } else { 0 };
        self.held_up = (before + time, self.now);
        self.model.was_held_up();
        if self.hears {
            self.unproven = Some((self.unproven.map_or(start, |(from, _)| from), self.now));
        }
        self.happen(Event::TimePassed);
        for (time, device, recovers) in waiting {
            // A verdict that a stop for a moment delays is one of the moment before.
            let in_order = self.now - start > MOMENT;
            while in_order && self.answers_due.front().is_some_and(|(due, ..)| *due <= time) {
                self.answer();
            }
            let recovers = self.model.heard_late(device, recovers);
            self.deliver(device, recovers);
        }
        if drops {
            self.disconnect(LossReason::Other("closed".into()));
        }
    }

    fn pass_held_up(&mut self, time: Millis, start: Millis, whole: Millis, drops: bool) {
        let before = self.now - start;
        self.now += time;
        let heard = match (self.hears, drops) {
            (false, _) => 0,
            (true, false) => time,
            (true, true) => (whole / 2).saturating_sub(before).min(time),
        };
        self.model.pass(time, heard, heard);
    }

    fn restart(&mut self, definitions: Option<&BTreeMap<usize, Definition>>) {
        self.happen(Event::Stopping);
        self.model.orderly_restart();
        if let Some(definitions) = definitions {
            self.configure(definitions.clone());
        }
        self.begin_anew();
    }

    fn configure(&mut self, definitions: BTreeMap<usize, Definition>) {
        self.model.configure(&definitions);
        let repeating = definitions.iter().filter(|(_, definition)| definition.repeats);
        self.repeated.extend(repeating.map(|(device, _)| *device));
        self.quiet.retain(|device| definitions.contains_key(device));
        self.definitions = definitions;
    }

    fn crash(&mut self) {
        let recent = self.now <= self.held_up.1 + SAVING;
        self.model.crash(SAVING + if recent { self.held_up.0 } else { 0 });
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        (self.connected, self.hears) = (false, false);
        self.answers_due.clear();
        self.unproven = None;
        // A spell of flapping goes on over a restart if it is on disk.
        let is_flapping = |record: &&DeviceRecord| {
            record.flaps.as_ref().is_some_and(|flaps| flaps.spell.is_some())
        };
        let flapping = self.records.values().filter(is_flapping);
        self.quiet = flapping.filter_map(|record| number_of(Some(&record.name))).collect();
        self.queue.clear();
        self.monitor = Monitor::new(spec(&self.definitions), self.time(), 2);
        self.begin();
    }

    fn begin(&mut self) {
        let devices = self.records.values().cloned().collect();
        let heartbeat = self.heartbeat.clone();
        let snapshot = Snapshot { heartbeat, devices, ..Snapshot::default() };
        self.happen(Event::StoreOpened(Box::new(snapshot)));
        let units = self.units.values().cloned().collect();
        self.happen(Event::ManagerConnected { units });
    }

    fn reload(&mut self, definitions: BTreeMap<usize, Definition>) {
        self.configure(definitions);
        self.jumped_at = self.now;
        self.happen(Event::Reconfigured(Box::new(spec(&self.definitions))));
        if self.hears {
            self.acknowledge();
        }
    }

    fn retime(&mut self, device: usize, timeout: Millis) {
        let mut definitions = self.definitions.clone();
        if let Some(definition) = definitions.get_mut(&device) {
            definition.timeout = timeout;
            self.reload(definitions);
        }
    }

    fn set_enabled(&mut self, device: usize, enabled: bool) {
        if self.definitions.contains_key(&device) {
            self.model.set_enabled(device, enabled);
            let device = DeviceName::new(format!("d{device}")).unwrap();
            self.happen(if enabled {
                Event::Enabled { device }
            } else {
                Event::Disabled { device }
            });
        }
    }

    fn restart_agent(&mut self) {
        if let Some(unit) = self.units.keys().next().cloned() {
            self.run_unit(unit);
        }
    }
}

/// What the monitor asks for, carried out.
impl World {
    fn happen(&mut self, event: Event) {
        self.queue.push_back(event);
        let mut turns = 0;
        while let Some(event) = self.queue.pop_front() {
            turns += 1;
            if turns > 1_000 {
                return self.wrong("the monitor never comes to rest".to_owned());
            }
            let mut actions = Vec::new();
            self.monitor.handle(self.time(), event, &mut actions);
            actions.iter().for_each(|action| self.carry_out(action));
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Publish(publication) => self.publish(publication),
            Action::Subscribe { .. } => self.asked = true,
            Action::Notify(notice) => match notice {
                Notice::Expired { device, .. } => {
                    let device = number_in(device).unwrap();
                    *self.alarms.entry(device).or_default() += 1;
                    self.owed.push((AlertKind::Expired, device));
                    if let Err(error) = self.model.alarm(device) {
                        self.wrong(error);
                    } else if !self.connected {
                        self.wrong(format!("alarm for {device} without a connection"));
                    }
                }
                Notice::Recovered { device, .. } => {
                    let device = number_in(device).unwrap();
                    self.owed.push((AlertKind::Recovered, device));
                    self.recovered.push(device);
                }
                _ => {}
            },
            Action::Raise(alert) => {
                if let Some(device) = number_of(alert.device.as_ref()) {
                    self.journal(alert.kind, device);
                }
            }
            Action::SaveDevices { heartbeat, changed, gone } => {
                self.heartbeat.clone_from(heartbeat);
                for record in changed {
                    self.records.insert(record.name.clone(), record.clone());
                }
                for name in gone {
                    self.records.remove(name);
                }
                self.queue.push_back(Event::DevicesSaved);
            }
            Action::ReadStates { read, .. } => {
                let (read, states, next) = (*read, Vec::new(), None);
                self.queue.push_back(Event::StatesRead { read, states, next });
            }
            Action::StartUnit { agent, definition, .. } => {
                self.definition.clone_from(definition);
                self.run_unit(agent.unit.clone());
                let (unit, outcome) = (agent.unit.clone(), JobOutcome::Done);
                self.queue.push_back(Event::StartFinished { unit, outcome });
            }
            Action::StopUnit { unit } => {
                self.units.remove(unit);
                let (unit, outcome) = (unit.clone(), JobOutcome::Done);
                self.queue.push_back(Event::UnitRemoved { unit: unit.clone() });
                self.queue.push_back(Event::StopFinished { unit, outcome });
            }
            Action::Unsubscribe { .. }
            | Action::Acknowledge { .. }
            | Action::Record { .. }
            | Action::SaveSessionFilters(_)
            | Action::SaveHistory(_)
            | Action::ReadFigures
            | Action::SaveIdentity(_)
            | Action::AcknowledgeFormer { .. }
            | Action::RecordFormer { .. }
            | Action::ConnectFormer { .. }
            | Action::DisconnectFormer
            // No device has an `alertUnit`.
            | Action::SendNotification(_)
            | Action::DropNotification { .. }
            | Action::StopFormerUnits { .. }
            | Action::WriteStates { .. }
            | Action::Withdraw { .. }
            | Action::Sever
            | Action::Reply(_) => {}
        }
    }

    /// An alert is raised.
    fn journal(&mut self, kind: AlertKind, device: usize) {
        match kind {
            AlertKind::Flapping if !self.quiet.insert(device) => {
                self.wrong(format!("reported twice that {device} flaps"));
            }
            AlertKind::Flapping => {
                self.owed.retain(|owed| *owed != (AlertKind::Expired, device));
            }
            AlertKind::Expired
                if self.model.is_cut_off(device) && !self.quiet.contains(&device) =>
            {
                self.wrong(format!("alert of {device}, which is behind one that was alarmed"));
            }
            AlertKind::Expired | AlertKind::Recovered => {
                self.quiet.remove(&device);
                self.owed.retain(|owed| *owed != (kind, device));
            }
            AlertKind::Disabled | AlertKind::Enabled => drop(self.quiet.remove(&device)),
            _ => {}
        }
    }

    fn publish(&mut self, publication: &Publication) {
        if let Some(token) = publication.token
            && self.connected
            && !self.mute
        {
            self.answers_due.push_back((self.now + self.answers_after, self.now, token));
        }
        let below = &publication.topic.as_str()[BASE.len() + 1..];
        if let Some(device) = below.strip_prefix("expire/d") {
            *self.expire_publications.entry(device.parse().unwrap()).or_default() += 1;
        }
    }

    /// A new process in the agent's unit, however it was started.
    fn run_unit(&mut self, unit: UnitName) {
        self.runs += 1;
        if self.definitions.contains_key(&AGENT) {
            self.model.agent_restarted(AGENT);
        }
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
            definition: Some(self.definition.clone()),
            shared: None,
        };
        self.units.insert(unit, report.clone());
        self.queue.push_back(Event::UnitChanged(Box::new(report)));
        if self.queue.len() == 1 {
            let event = self.queue.pop_front();
            event.into_iter().for_each(|event| self.happen(event));
        }
    }

    fn wrong(&mut self, what: String) {
        let at = self.now;
        self.error.get_or_insert_with(|| format!("at {at} ms: {what}"));
    }

    fn time(&self) -> Now {
        now_at(self.now, self.wall_step)
    }
}

fn now_at(now: Millis, wall_step: i64) -> Now {
    let wall = (START * 1_000 + now).saturating_add_signed(wall_step * 1_000);
    let mono = Duration::from_millis(1_000_000 + now);
    Now { mono, wall: Duration::from_millis(wall), boot: mono }
}
