//! Devices that a fleet learns: whoever is heard first on its topics becomes a device at once, like
//! one of the configuration, and stays one until a person forgets it or the configuration excludes
//! it (see [`crate::machines::fleets`]).

use super::Monitor;
use super::device::Device;
use super::presence::{shows_presence, tells_nothing};
use super::subscriptions::availability_subscriptions;
use super::turn::Turn;
use super::{Target, Timer};
use crate::machines::fleets::{FindReport, FleetId, Meeting, Room};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::message::{Connection, Message};
use crate::model::snapshot::DeviceRecord;
use crate::model::sparkplug::Certificate;
use crate::model::spec::{DeviceSpec, FleetSpec};
use crate::model::state::{ReadId, StateChange, StateRecord, WriteId};
use crate::model::words::counted;
use crate::topic::{TopicFilter, TopicName};
use std::time::Duration;

/// A learned device, by the names of its fleet and itself.
pub(super) type LearnedDevice = (DeviceName, DeviceName);

impl Monitor {
    /// A live message, for which these targets were found. If it is of no member yet, its device may
    /// become one, and the targets become those that it has then. Returns whether the message is on
    /// a topic of a fleet.
    pub(super) fn meet(
        &mut self,
        turn: &mut Turn<'_>,
        (connection, message): (Connection, &Message),
        found: &mut Vec<Target>,
    ) -> bool {
        // A section may contain wide filters, so that one says nothing about whose name this is.
        if found.iter().any(|&target| self.is_of_learned(target)) {
            return true;
        }
        let Some((fleet, name)) = self.fleets.name_in(&message.topic) else { return false };
        if !self.store_answered {
            self.keep_early((fleet, name), (connection, message), found);
            return true;
        }
        if let Some(id) = self.devices.named_as(name) {
            let device = &self.devices[id];
            if device.spec.fleet == Some(fleet) {
                // Its section replaces this topic.
                return true;
            }
            if device.spec.fleet.is_none() && self.merge(turn, fleet, id, message) {
                self.find_again(message, found);
                return true;
            }
            if found.iter().any(|target| target.device() == Some(id)) {
                return true;
            }
        }
        let devices = &self.devices;
        let is_taken = |name: &DeviceName| devices.named(name).is_some();
        match self.fleets.meet(fleet, name, is_taken) {
            Meeting::New(spec) if shows_presence(&spec, message) => {
                let id = self.learn(turn, fleet, *spec, &message.topic);
                if connection == Connection::State || !self.devices[id].is_enabled() {
                    // Otherwise the contact that follows does it.
                    self.report_state(turn, id);
                }
                self.find_again(message, found);
            }
            Meeting::New(_) | Meeting::Ignored | Meeting::Refused(None) => {}
            Meeting::Refused(Some(refusal)) => {
                let sentence = format!(
                    "fleet `{}` learns no device from `{}`, nor from other names of this kind: {}",
                    self.fleets.spec(fleet).name,
                    message.topic.as_str().escape_debug(),
                    refusal.reason()
                );
                turn.raise(AlertKind::NameRefused, sentence);
            }
        }
        true
    }

    /// Keeps a message with the name of a possible member, for which these targets were found.
    fn keep_early(
        &mut self,
        (fleet, name): (FleetId, &str),
        (connection, message): (Connection, &Message),
        found: &[Target],
    ) {
        if !self.fleets.could_admit(fleet, name) {
            return;
        }
        let named = self.devices.named_as(name);
        let was_heard = named.is_some() && found.iter().any(|target| target.device() == named);
        let is_report = self.fleets.spec(fleet).reports_on(&message.topic)
            || Certificate::of(&message.topic).is_some()
            || found.iter().any(|target| matches!(target, Target::Availability(..)));
        self.fleets.early_mut().keep((connection, message), was_heard, is_report);
    }

    pub(super) fn find_again(&self, message: &Message, found: &mut Vec<Target>) {
        found.clear();
        self.index.for_each_match(&message.topic, |target| found.push(target));
    }

    /// The name of a device of no fleet was heard: if it has a section of its own, it gets the keys
    /// of the fleet. Returns whether it did.
    fn merge(
        &mut self,
        turn: &mut Turn<'_>,
        fleet: FleetId,
        id: DeviceId,
        message: &Message,
    ) -> bool {
        let (spec, name) = (self.fleets.spec(fleet), &self.devices[id].spec.name);
        let merged = spec.exceptions.get(name).filter(|_| !spec.ignores(name.as_str()));
        let Some(merged) = merged.filter(|merged| !tells_nothing(merged, message)) else {
            return false;
        };
        let merged = merged.clone();
        self.become_member(turn, fleet, id, merged);
        self.devices[id].silence.adopt_timeout(turn.watched);
        self.judge_deafness_of(turn, id);
        self.count_expired();
        self.schedule_repeat(turn, id);
        self.save_soon(id);
        self.arm(id);
        if self.clock.is_running() {
            self.announce(turn, id);
        }
        self.report_state(turn, id);
        true
    }

    /// Gives a device of the configuration the specification that it has as a member.
    fn become_member(&mut self, turn: &Turn<'_>, fleet: FleetId, id: DeviceId, spec: DeviceSpec) {
        let filters = self.file_filters(id, &spec);
        let mut device = Device::new(spec, filters, turn.watched, turn.now.wall);
        device.spec.fleet = Some(fleet);
        let before = std::mem::replace(&mut self.devices[id], device);
        for number in before.filters.clone() {
            self.index.replace(number, Target::Nobody);
        }
        let device = &mut self.devices[id];
        (device.dirty, device.status_stale) = (before.dirty, before.status_stale);
        // Only a device without a process has such a section.
        device.inherit(before);
        self.place_device(id);
    }

    /// Whether a message on the state connection is a state of a device. One that shows that its
    /// device exists makes it known first.
    pub(super) fn is_states_topic(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        is_replay: bool,
    ) -> bool {
        if self.fleets.is_empty() || is_replay || message.payload.is_empty() {
            return self.is_recorded(&message.topic);
        }
        let mut found = std::mem::take(&mut self.found);
        self.index.for_each_match(&message.topic, |target| found.push(target));
        self.meet(turn, (Connection::State, message), &mut found);
        let is_state = found.drain(..).any(|target| matches!(target, Target::State(_)));
        self.found = found;
        is_state
    }

    /// Makes a device known that was heard for the first time.
    fn learn(
        &mut self,
        turn: &mut Turn<'_>,
        fleet: FleetId,
        spec: DeviceSpec,
        topic: &TopicName,
    ) -> DeviceId {
        let id = self.join(turn, fleet, spec);
        self.history.joined(&self.devices[id].spec.name, turn.now.wall);
        self.devices[id].silence.adopt_timeout(turn.watched);
        self.judge_deafness_of(turn, id);
        self.save_soon(id);
        self.arm(id);
        if self.clock.is_running() {
            self.announce(turn, id);
        }
        self.report_found(turn, fleet, id, topic);
        self.report_room_of(turn, fleet);
        id
    }

    /// Adds a device behind all others.
    fn join(&mut self, turn: &Turn<'_>, fleet: FleetId, mut spec: DeviceSpec) -> DeviceId {
        let id = self.devices.next_id();
        let parents = std::mem::take(&mut spec.depends_on);
        let parents: Vec<_> = parents.iter().filter_map(|name| self.devices.named(name)).collect();
        self.areas.place(id, spec.area.take());
        let filters = self.file_filters(id, &spec);
        let mut device = Device::new(spec, filters, turn.watched, turn.now.wall);
        device.spec.fleet = Some(fleet);
        self.saving.is_back(&device.spec.name);
        self.devices.push(device);
        self.dependencies.add(id, parents.clone());
        for parent in parents {
            let device = &self.devices[parent];
            if device.is_down() {
                let last_word = device.silence.since().min(turn.watched);
                self.dependencies.fell(parent, last_word);
            }
        }
        self.place_device(id);
        self.fleets.joined(fleet);
        id
    }

    fn report_found(
        &mut self,
        turn: &mut Turn<'_>,
        fleet: FleetId,
        id: DeviceId,
        topic: &TopicName,
    ) {
        if self.devices[id].monitoring.is_elsewhere() {
            return;
        }
        let name = &self.devices[id].spec.name;
        match self.fleets.found(fleet, name, turn.now.mono) {
            FindReport::ByItself => {
                let message = format!(
                    "device `{name}` was found by fleet `{}`, on `{topic}`; \
                     `{} forget {name}` takes it out",
                    self.fleets.spec(fleet).name,
                    self.command
                );
                turn.out.push(self.device_alert(id, AlertKind::DeviceFound, message));
            }
            FindReport::At(due) => self.timers.push(due, Timer::Finds),
            FindReport::Later => {}
        }
    }

    /// Reports the members together that were too many to be reported one by one.
    pub(super) fn finds_due(&mut self, turn: &mut Turn<'_>) {
        for (fleet, summary) in self.fleets.summaries(turn.now.mono) {
            let message = format!(
                "{} found by fleet `{}`, such as `{}`",
                match summary.count {
                    1 => "1 more device was".to_owned(),
                    count => format!("{count} more devices were"),
                },
                self.fleets.spec(fleet).name,
                summary.example
            );
            turn.raise(AlertKind::DeviceFound, message);
        }
    }

    /// Takes over which fleets were full at the end of the earlier run, which is not news.
    pub(super) fn resume_full_fleets(&mut self, turn: &mut Turn<'_>, full: Vec<DeviceName>) {
        let gone = self.fleets.resume_full(full);
        report_gone(turn, gone);
    }

    /// Reports each fleet that has become full, or is no longer.
    pub(super) fn report_room(&mut self, turn: &mut Turn<'_>) {
        for fleet in self.fleets.ids() {
            self.report_room_of(turn, fleet);
        }
    }

    fn report_room_of(&mut self, turn: &mut Turn<'_>, fleet: FleetId) {
        let room = self.fleets.room(fleet);
        let (spec, members) = (self.fleets.spec(fleet), self.fleets.members(fleet));
        let (name, most) = (&spec.name, spec.max_devices);
        self.saving.hurry_if(room != Room::Unchanged);
        match room {
            Room::Full | Room::Again if !self.speaks_for_house() => {}
            Room::Unchanged => {}
            Room::Full => {
                let message = format!(
                    "fleet `{name}` is full with {}: further ones are ignored until \
                     `maxDevices = {most}` in [fleet_{name}] is raised, or `{} forget NAME` makes \
                     room",
                    counted(members, "device"),
                    self.command
                );
                turn.raise(AlertKind::FleetFull, message);
            }
            Room::Again => {
                let message = format!(
                    "fleet `{name}` has room again, with {members} of at most {most} devices"
                );
                turn.raise(AlertKind::FleetRoom, message);
            }
        }
    }

    /// Takes in the members of earlier runs, and the names that were forgotten.
    pub(super) fn readmit_members(&mut self, turn: &mut Turn<'_>, records: &[DeviceRecord]) {
        for record in records.iter().filter(|record| record.forgotten) {
            self.forgotten_earlier(turn, record);
        }
        let mut is_any = false;
        for record in records.iter().filter(|record| !record.forgotten) {
            let fleet = record.fleet.as_ref();
            let fleet = fleet.and_then(|fleet| self.fleets.readmits(fleet, &record.name));
            let Some(fleet) = fleet else { continue };
            if self.readmit(turn, fleet, &record.name) {
                self.history.joined(&record.name, turn.now.wall);
                is_any = true;
            }
        }
        if is_any {
            self.judge_deafness(turn);
            self.ask_for_reports_again(turn);
        }
    }

    /// Takes in a member of before; returns whether it is one.
    fn readmit(&mut self, turn: &Turn<'_>, fleet: FleetId, name: &DeviceName) -> bool {
        let spec = self.fleets.spec(fleet);
        match self.id_named(name) {
            None => {
                let spec = spec.member(name);
                self.join(turn, fleet, spec);
            }
            Some(id) if self.devices[id].spec.fleet.is_none() => {
                let Some(merged) = spec.exceptions.get(name).cloned() else { return false };
                self.become_member(turn, fleet, id, merged);
            }
            Some(_) => return false,
        }
        true
    }

    fn forgotten_earlier(&mut self, turn: &mut Turn<'_>, record: &DeviceRecord) {
        let name = &record.name;
        match self.id_named(name).filter(|&id| self.devices[id].spec.fleet.is_some()) {
            // It was heard while the store could not be read.
            Some(id) if !self.fleets.has_section(name) => {
                self.take_out(turn, id);
                self.remember_forgotten(name, record.silent_since);
            }
            // The record is replaced by that of the device.
            Some(_) => {}
            None if self.knows(name) => {}
            None if self.fleets.has_section(name) => self.saving.left(name.clone()),
            None => self.remember_forgotten(name, record.silent_since),
        }
        let fleet = record.fleet.as_ref().and_then(|fleet| self.fleets.named(fleet));
        if let Some(fleet) = fleet.filter(|_| self.fleets.forgotten().contains(name.as_str())) {
            // The earlier run was killed before it had deleted all of them.
            self.begin_to_delete(turn, fleet, name);
        }
    }

    /// The broker may have sent before what it retains of devices that are known only now.
    fn ask_for_reports_again(&self, turn: &mut Turn<'_>) {
        let templates = self.fleets.specs().map(|spec| &spec.template);
        let subscriptions: Vec<_> = templates.flat_map(availability_subscriptions).collect();
        if self.watch.is_up() && !subscriptions.is_empty() {
            turn.out.push(Action::Subscribe { connection: Connection::Watch, subscriptions });
        }
    }

    /// The learned devices, in the order of the list.
    pub(super) fn members(&self) -> Vec<LearnedDevice> {
        let member =
            |device: &Device| Some((self.fleet_of(device)?.clone(), device.spec.name.clone()));
        self.devices.iter().filter_map(member).collect()
    }

    /// Another configuration is in force, whose devices have been taken in. The members that it does
    /// not exclude follow them.
    pub(super) fn replace_fleets(
        &mut self,
        turn: &mut Turn<'_>,
        specs: Vec<FleetSpec>,
        members: Vec<LearnedDevice>,
    ) {
        let gone = self.fleets.replace(specs);
        report_gone(turn, gone);
        let (devices, fleets) = (&self.devices, &mut self.fleets);
        let sections: Vec<DeviceName> =
            fleets.specs().flat_map(|spec| spec.exceptions.keys().cloned()).collect();
        let is_named = |name: &DeviceName| {
            devices.named(name).is_some() || sections.iter().any(|section| section == name)
        };
        for name in fleets.forgotten_mut().named(is_named) {
            self.saving.left(name);
        }
        for (fleet, name) in members {
            if let Some(fleet) = self.fleets.readmits(&fleet, &name) {
                self.readmit(turn, fleet, &name);
            }
        }
    }

    /// A person takes a learned device out of its fleet for good.
    pub(super) fn forget(&mut self, turn: &mut Turn<'_>, name: &DeviceName) {
        let Some(id) = self.id_named(name).filter(|_| self.is_forgettable(name)) else { return };
        let Some(fleet) = self.devices[id].spec.fleet else { return };
        let message = format!(
            "device `{name}` of fleet `{}` is forgotten; it is a device again when the \
             configuration names it",
            self.fleets.spec(fleet).name
        );
        turn.out.push(self.device_alert(id, AlertKind::DeviceForgotten, message));
        self.take_out(turn, id);
        self.remember_forgotten(name, turn.watched);
        self.saving.forgot_name(name.clone());
        self.saving.hurry_if(true);
        self.begin_to_delete(turn, fleet, name);
        self.report_room_of(turn, fleet);
        self.flush_saves(turn);
    }

    fn remember_forgotten(&mut self, name: &DeviceName, at: Duration) {
        if let Some(dropped) = self.fleets.forgotten_mut().remember(name, at) {
            self.saving.left(dropped);
        }
    }

    /// Takes a member out, with everything that was published about it and its past.
    fn take_out(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(gone) = self.devices.take_out(id) else { return };
        let name = &gone.spec.name;
        for number in gone.filters.clone() {
            self.index.replace(number, Target::Nobody);
        }
        turn.out.push(self.clearing(&format!("status/{name}")));
        self.retract_if_stale(turn, self.discovery_prefix(), name);
        self.drop_restore(turn, id);
        self.saving.drop_device(id);
        self.stale_statuses.retain(|stale| *stale != id);
        self.dependencies.remove(id);
        self.areas.place(id, None);
        self.pauses.end(name);
        self.mutes.end(&Some(name.clone()));
        self.history.forgotten(name);
        if gone.episode.is_open() {
            self.expired_count = self.expired_count.saturating_sub(1);
        }
        if let Some(fleet) = gone.spec.fleet {
            self.fleets.left(fleet);
        }
        self.settle_notifications(turn);
    }

    /// Begins to delete the states of a forgotten name.
    fn begin_to_delete(&mut self, turn: &mut Turn<'_>, fleet: FleetId, name: &DeviceName) {
        let spec = self.fleets.spec(fleet);
        let (fleet, states) = (spec.name.clone(), spec.member(name).state);
        if !states.is_empty() {
            self.fleets.forgotten_mut().states_remain(name.clone(), fleet);
            self.next_read += 1;
            let read = ReadId::Forget(self.next_read);
            self.read_to_delete(turn, read, (name.clone(), states), None);
        }
    }

    fn read_to_delete(
        &mut self,
        turn: &mut Turn<'_>,
        read: ReadId,
        (name, filters): (DeviceName, Vec<TopicFilter>),
        after: Option<TopicName>,
    ) {
        self.forgetting.insert(read, (name, filters.clone()));
        turn.out.push(Action::ReadStates { read, filters, after });
    }

    /// Deletes states of a forgotten device, unless they are another one's too.
    pub(super) fn delete_states(
        &mut self,
        turn: &mut Turn<'_>,
        read: ReadId,
        states: &[StateRecord],
        next: Option<TopicName>,
    ) {
        let Some((name, filters)) = self.forgetting.remove(&read) else { return };
        let topics = states.iter().map(|state| &state.topic);
        let changes: Vec<_> = topics
            .filter(|topic| !self.is_recorded(topic))
            .map(|topic| StateChange::Forget(topic.clone()))
            .collect();
        if !changes.is_empty() {
            let write = WriteId::Forget;
            turn.out.push(Action::WriteStates { write, changes, keep_newer: false });
        }
        if next.is_some() {
            self.read_to_delete(turn, read, (name, filters), next);
        } else if self.fleets.forgotten_mut().states_deleted(&name) {
            // The store writes in this order.
            self.saving.forgot_name(name);
            self.saving.hurry_if(true);
            self.flush_saves(turn);
        }
    }

    /// Remembers the forgotten names in a store that has lost them.
    pub(super) fn save_forgotten_again(&mut self) {
        for record in self.fleets.forgotten().records() {
            self.saving.forgot_name(record.name);
        }
    }

    /// Whether a device was learned, and the configuration has no section for it.
    #[must_use]
    pub fn is_forgettable(&self, name: &DeviceName) -> bool {
        let is_learned = |id: DeviceId| self.devices[id].spec.fleet.is_some();
        self.id_named(name).is_some_and(is_learned) && !self.fleets.has_section(name)
    }
}

fn report_gone(turn: &mut Turn<'_>, fleets: Vec<DeviceName>) {
    for fleet in fleets {
        let message = format!("fleet `{fleet}`, which was full, is no longer configured");
        turn.raise(AlertKind::FleetRoom, message);
    }
}
