//! Finds the devices that a message on the watch connection concerns, and its meaning for each.

use crate::model::device_id::DeviceId;
use crate::model::message::{Connection, Message};
use crate::monitor::availability::is_shared;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Target};

impl Monitor {
    pub(super) fn watch_message(&mut self, turn: &mut Turn<'_>, message: &Message) {
        self.watch.heard(turn.now.mono);
        if message.restored {
            return;
        }
        // Retain-as-published is off, so a set flag means a replay of something old.
        let is_replay = message.retain;
        if message.topic.is_below(&self.base_topic) {
            if self.nodes.is_some() {
                self.word_of_node(turn, message);
            }
            if !is_replay {
                self.own_word(turn, message);
                self.command_message(turn, message);
            }
            return;
        }
        if self.is_own(&message.topic) {
            return;
        }
        if !is_replay && !self.heard_echoes.is_empty() && self.swallow_echo(message) {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        self.index.for_each_match(&message.topic, |target| found.push(target));
        if !is_replay {
            self.covering.came();
            let is_fleets = !self.fleets.is_empty()
                && self.meet(turn, (Connection::Watch, message), &mut found);
            if found.is_empty() && !is_fleets {
                self.came_in_vain(turn);
            }
        }
        self.hear(turn, message, &mut found, |_, _| true);
        self.found = found;
    }

    /// A message of these targets, which counts for those that fit.
    pub(super) fn hear(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        found: &mut Vec<Target>,
        fits: impl Fn(&Self, Target) -> bool,
    ) {
        let is_replay = message.retain;
        // A will is sent by the broker, so it never counts as a contact.
        let is_will = self.is_will(found, message);
        let is_shared = is_shared(found);
        for target in found.drain(..) {
            if !fits(self, target) {
                continue;
            }
            match target {
                Target::Availability(id, source) => {
                    self.availability_reported(turn, (id, source), is_shared, message);
                }
                Target::Contact(_) | Target::Hello(_) if is_replay || is_will => {}
                Target::Contact(id) if self.is_from_memory(turn.watched, id) => {}
                Target::Contact(id) => self.contact(turn, id, message.waited()),
                Target::Hello(id) => {
                    self.contact(turn, id, message.waited());
                    self.hello(turn, id);
                }
                Target::State(_) | Target::Nobody => {}
            }
        }
    }

    fn hello(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let may_restore = self.may_restore(id);
        let device = &mut self.devices[id];
        if !may_restore && device.spec.records_states && device.monitoring.is_wanted() {
            self.standby.hello(turn.now.mono, id);
        }
        if !device.is_enabled() {
            return;
        }
        device.hellos += 1;
        let count = device.hellos.to_string();
        turn.out.push(self.device_publication("helloTopicCount", id, count, false));
        self.request_restore(turn, id);
    }
}
