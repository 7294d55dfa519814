//! Devices that pass from one node to another.
//!
//! Each node hears all devices and keeps its own account of their silences. So the node that gets a
//! device goes on with what it knows itself, and learns from the retained status only what people
//! have heard of already: an alarm that was told is not told again, and one that was missed is
//! raised at once.

use super::Monitor;
use super::turn::Turn;
use crate::machines::episode::Episode;
use crate::machines::notifications::Subject;
use crate::machines::sharing::Sharing;
use crate::machines::sharing::parts::{Arrival, PartOutcome};
use crate::model::action::Action;
use crate::model::alert::Reason;
use crate::model::cluster::Item;
use crate::model::cluster::sharing::ClusterReply;
use crate::model::device_id::DeviceId;
use crate::model::message::{QoS, Token};
use crate::model::notice::Notice;
use crate::model::status::{StatusWord, digest};
use crate::model::view::Liveness;
use crate::monitor::device::Device;
use crate::monitor::{Target, Timer};
use crate::topic::TopicName;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Monitor {
    pub(super) fn part_changes(&mut self, turn: &mut Turn<'_>, outcome: PartOutcome) {
        match outcome {
            PartOutcome::Comes => self.take_up_parts(turn),
            PartOutcome::Goes(part) => self.let_go(turn, &part),
            PartOutcome::Released(part) => self.finish_speaking(turn, part),
            PartOutcome::Stopped(part) => self.reply_to_cluster(turn, ClusterReply::Stopped(part)),
        }
    }

    /// Goes on with the devices of the parts that have come, as soon as it is known what was said of
    /// them.
    pub(super) fn take_up_parts(&mut self, turn: &mut Turn<'_>) {
        let Some(nodes) = &self.nodes else { return };
        if !nodes.has_read() || !self.clock.is_running() || !self.is_store_settled() {
            return;
        }
        let is_first = nodes.is_first();
        let Some(sharing) = &mut self.sharing else { return };
        let arrivals = sharing.parts_mut().to_take_up();
        if arrivals.is_empty() {
            return;
        }
        let may_restore = arrivals.iter().any(|arrival| sharing.may_restore(&arrival.part));
        let nodes = self.nodes.as_mut().filter(|_| may_restore);
        if nodes.is_some_and(|nodes| nodes.serves(turn.now.mono)) {
            self.say_here(turn);
        }
        self.expect_resubscription(turn);
        let arrivals = arrivals.into_iter().map(|Arrival { part, is_resumed }| (part, is_resumed));
        let are_resumed: BTreeMap<Item, bool> = arrivals.collect();
        if are_resumed.contains_key(&Item::House) {
            self.house_comes(turn);
        }
        let devices = self.devices.ids().filter(|&id| self.devices[id].rare.agent().is_none());
        let devices = devices.filter_map(|id| Some((id, *are_resumed.get(&self.item_of(id))?)));
        // Nobody has watched a device before an earlier process of this node has ended, and this one
        // has come; or before the first of all nodes has it.
        let is_unserved = |id| is_first && !self.standby.was_served(id);
        let devices = devices.map(|(id, is_resumed)| (id, is_resumed || is_unserved(id)));
        let devices: Vec<(DeviceId, bool)> = devices.collect();
        for &(id, _) in &devices {
            self.take_up(turn.watched, id);
        }
        self.settle_dependents(turn);
        for (id, restores) in devices {
            self.go_on_with(turn, id, restores);
        }
        self.silence_due(turn);
        self.flush_saves(turn);
    }

    /// Makes a device this node's, with the alarm that people know of.
    fn take_up(&mut self, watched: Duration, id: DeviceId) {
        let is_unheard = self.is_unheard(id);
        let device = &mut self.devices[id];
        if is_unheard {
            device.silence.begin_anew(watched);
        }
        let was_elsewhere = device.monitoring.is_elsewhere();
        device.monitoring.set_elsewhere(false);
        device.monitoring.say_down(false);
        let Some(word) = self.standby.word(id) else { return };
        if !was_elsewhere {
            return;
        }
        if let Some(contact) = word.last_contact {
            device.silence.learn_of(contact);
        }
        if !device.is_enabled() {
            return;
        }
        if word.state == Liveness::Expired && device.can_expire() {
            device.episode = resumed(word);
            self.expired_count += 1;
            device.since = word.since.into();
        } else if word.state == device.liveness() {
            device.since = word.since.into();
        }
    }

    fn go_on_with(&mut self, turn: &mut Turn<'_>, id: DeviceId, restores: bool) {
        let has_spoken = self.standby.take_spoken(id);
        let device = &self.devices[id];
        if device.is_enabled() {
            if device.episode.is_open() && has_spoken && !device.is_gone() {
                self.recover(turn, id);
            }
            self.recall_availability(turn, id);
            self.arm(id);
            self.wait(id);
            self.wait_in_doubt(id);
            self.schedule_repeat(turn, id);
        }
        self.note_standing(turn.now.wall, id);
        self.publish_where_other(turn, id);
        turn.out.push(Action::Notify(Notice::StateChanged(Box::new(self.view_of(id)))));
        self.save_soon(id);
        if !self.may_restore(id) {
            return;
        }
        self.standby.served(id);
        let unanswered = self.standby.take_unanswered(turn.now.mono, id);
        if restores && self.is_restored_at_start(id) {
            self.restores.request_as_at_start(id);
            self.start_restores(turn);
        } else if let Some(given) = unanswered.filter(|_| self.devices[id].is_enabled()) {
            self.request_rest(turn, id, given);
        }
    }

    /// Another monitor has restored a state. If it is a node of the cluster, it may have answered a
    /// hello.
    pub(super) fn restored_by(&mut self, turn: &Turn<'_>, by: &str, topic: &TopicName) {
        let mut behind = by.strip_prefix(self.client_id.as_str()).into_iter();
        let is_node = self.sharing.is_some() && behind.any(|behind| behind.starts_with('@'));
        // After an outage this may be one that the broker has kept, of before the hello. It counts
        // nevertheless: it is more often the answer, and another one could do harm.
        if !is_node {
            return;
        }
        let mut found = Vec::new();
        self.index.for_each_match(topic, |target| {
            if let Target::State(id) = target {
                found.push(id);
            }
        });
        found.retain(|&id| self.devices[id].rare.agent().is_none() && !self.may_restore(id));
        for id in found {
            self.standby.restored(turn.now.mono, id, topic);
        }
    }

    /// Publishes the status of a device, unless the broker retains the same.
    fn publish_where_other(&self, turn: &mut Turn<'_>, id: DeviceId) {
        let payload = self.status_payload(id);
        let is_same =
            self.standby.word(id).is_some_and(|word| word.digest == digest(payload.as_bytes()));
        if !is_same {
            turn.out.push(self.device_publication("status", id, payload, true));
        }
    }

    /// Ceases to speak of a part and to restore its devices.
    fn let_go(&mut self, turn: &mut Turn<'_>, part: &Item) {
        if *part == Item::House {
            return;
        }
        self.expect_resubscription(turn);
        for id in self.devices_of(part) {
            self.leave_to_others(turn, id);
        }
        self.flush_saves(turn);
    }

    /// Devices come or go. Where contacts are heard only of those that are here, the subscriptions
    /// follow when all have.
    fn expect_resubscription(&mut self, turn: &Turn<'_>) {
        let is_cold = self.sharing.as_ref().is_some_and(Sharing::is_cold);
        if is_cold && self.plan_before.is_none() {
            self.plan_before = Some(self.watch_plan().0);
            self.timers.push(turn.now.mono, Timer::Resubscribe);
        }
    }

    pub(super) fn resubscribe_due(&mut self, turn: &mut Turn<'_>) {
        if let Some(before) = self.plan_before.take() {
            self.resubscribe_watch(turn, before);
        }
    }

    fn devices_of(&self, part: &Item) -> Vec<DeviceId> {
        let devices = self.devices.ids().filter(|&id| self.devices[id].rare.agent().is_none());
        devices.filter(|&id| self.item_of(id) == *part).collect()
    }

    fn leave_to_others(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let word = word_of(&self.devices[id]);
        let device = &mut self.devices[id];
        if device.is_enabled() && device.episode.end().is_some() {
            self.expired_count -= 1;
        }
        device.rare.forget_hold();
        device.rare.forget_flaps();
        device.monitoring.set_elsewhere(true);
        device.monitoring.say_down(word.is_down());
        let subject = Subject::Device(device.spec.name.clone());
        self.standby.said(id, word);
        self.notifications.withdraw(&subject);
        self.cut_restore_off(turn.now.mono, id);
        self.start_restores(turn);
        self.report_state(turn, id);
        self.save_soon(id);
    }

    /// Has the cluster wait until the broker has taken what this node has said of a part.
    fn finish_speaking(&mut self, turn: &mut Turn<'_>, part: Item) {
        let mut tokens = BTreeSet::new();
        let below = format!("marker/{}/watch", self.connection_id);
        let token = self.new_token();
        tokens.insert(token);
        let (payload, qos) = (Bytes::new(), QoS::AtLeastOnce);
        turn.out.push(self.own_publication(&below, payload, qos, false, Some(token)));
        if self.session.protocol().is_some() && !self.echoes.is_empty() {
            let token = self.new_token();
            tokens.insert(token);
            self.end_round(turn, Some(token));
        }
        if let Some(sharing) = &mut self.sharing {
            let due = sharing.parts_mut().awaits(part, tokens, turn.now.mono);
            self.timers.push(due, Timer::LastWords);
        }
    }

    /// The broker has acknowledged a publication; returns whether it was one behind last words.
    pub(super) fn last_words_taken(&mut self, turn: &mut Turn<'_>, token: Token) -> bool {
        let Some(sharing) = &mut self.sharing else { return false };
        let Some(over) = sharing.parts_mut().answered(token) else { return false };
        for part in over {
            self.reply_to_cluster(turn, ClusterReply::Stopped(part));
        }
        true
    }

    /// Gives up on last words that the broker has not taken.
    pub(super) fn last_words_due(&mut self, turn: &mut Turn<'_>) {
        let Some(sharing) = &mut self.sharing else { return };
        for part in sharing.parts_mut().time_passed(turn.now.mono) {
            self.withdraw(turn, &part);
            self.reply_to_cluster(turn, ClusterReply::Stopped(part));
        }
    }

    /// What the broker has not taken of a part may not arrive later.
    pub(super) fn withdraw(&self, turn: &mut Turn<'_>, part: &Item) {
        let names = self.devices_of(part).into_iter().map(|id| self.devices[id].spec.name.clone());
        let devices: BTreeSet<_> = names.collect();
        if !devices.is_empty() {
            turn.out.push(Action::Withdraw { devices });
        }
    }

    /// Ends the restore of a device. If no other node restores its states, this one does when it has the
    /// device again.
    fn cut_restore_off(&mut self, now: Duration, id: DeviceId) {
        if let Some(given) = self.restores.drop_device(id) {
            self.standby.cut_off(now, id, given);
        }
    }

    /// The session of this node has ended: restores stop, and nothing that is on its way may arrive
    /// after another node has restored something newer. Nor may this node restore again before it has
    /// recorded what the broker has for it, which an old connection delivers as late after an outage as
    /// that was long: TCP doubles the time between its attempts (RFC 6298, 5.5).
    pub(super) fn end_restores(&mut self, turn: &mut Turn<'_>) {
        let devices: Vec<DeviceId> =
            self.devices.ids().filter(|&id| !self.may_restore(id)).collect();
        for id in devices {
            self.cut_restore_off(turn.now.mono, id);
        }
        if self.session.protocol().is_some() {
            turn.out.push(Action::Sever);
        }
    }
}

/// The alarm that the status reports. One that was told as flapping was told.
fn resumed(word: &StatusWord) -> Episode {
    let cause = match word.reason {
        None | Some(Reason::Upstream | Reason::Flapping) => Reason::Silent,
        Some(reason) => reason,
    };
    Episode::resumed(word.since, cause, word.is_unsent)
}

/// What this node has said of a device.
fn word_of(device: &Device) -> StatusWord {
    StatusWord {
        state: device.liveness(),
        reason: device.reason(),
        since: device.since.get(),
        last_contact: device.silence.last_contact(),
        is_unsent: device.episode.hangs_on_another(),
        is_owned: false,
        digest: 0,
    }
}
