//! Contacts, silence, expiry and recovery, and the watch connection that they rest on.
//!
//! Nobody expires on a line that may be dead: a round trip comes first, see [`super::probe`].

use super::device::Device;
use crate::machines::silence::{EndedSilence, GRACE, Grace};
use crate::machines::watch_link::{self, Return, Telling};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::device_id::DeviceId;
use crate::model::message::{
    Connection, FilterRefusal, LossReason, Message, Protocol, QoS, Subscription,
};
use crate::model::plan::{self, Plan};
use crate::model::words::devices_and_agents;
use crate::monitor::availability::is_shared;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Target, Timer, loss_kind};
use crate::topic::TopicFilter;
use crate::topic::index::TopicIndex;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many refusals for one reason are told one by one.
const MOST_REFUSALS_TOLD: usize = 5;

impl Monitor {
    pub(super) fn watch_connected(&mut self, turn: &mut Turn<'_>, protocol: Protocol) {
        self.watch.connected(turn.now.mono, protocol);
        self.shared_base.connected(turn.now.mono);
        let payload = Bytes::from_static(b"online");
        turn.out.push(self.own_publication("availability", payload, QoS::AtLeastOnce, true, None));
        let (subscriptions, has_wildcards) = self.watch_plan();
        self.covering.planned(turn.now.mono, has_wildcards);
        if subscriptions.is_empty() {
            self.watch_subscribed(turn, &[]);
        } else {
            turn.out.push(Action::Subscribe { connection: Connection::Watch, subscriptions });
        }
    }

    pub(super) fn watch_subscribed(&mut self, turn: &mut Turn<'_>, refused: &[FilterRefusal]) {
        // A broker that shows nobody what is below the base topic is none that hears less.
        let own = self.own_word_filters();
        let refused: Vec<&FilterRefusal> =
            refused.iter().filter(|refusal| !own.contains(&refusal.filter)).collect();
        let mut news = self.watch.subscribed(turn.now.mono, refused.clone());
        if !self.clock.is_running() {
            self.clock.resume(turn.now.mono);
            turn.watched = self.clock.at(turn.now.mono);
            self.watching_again(turn);
        }
        let orders = self.takedown.watching();
        self.take_down(turn, orders);
        let unheard = self.watch_plan_answered(turn, refused);
        news.retain(|refusal| unheard.contains(refusal));
        for sentence in refusal_sentences(&news) {
            turn.raise(AlertKind::FilterRefused, sentence);
        }
        self.judge_deafness(turn);
    }

    fn watching_again(&mut self, turn: &mut Turn<'_>) {
        match self.watch.resumed(turn.now.mono) {
            Telling::Now => self.tell_watching(turn),
            Telling::At(due) => self.timers.push(due, Timer::Lasting),
        }
        // A broker that was away may have forgotten what it retained.
        self.publish_all_statuses(turn);
    }

    /// The clientid has been this monitor's own for a while.
    pub(super) fn lasting_due(&mut self, turn: &mut Turn<'_>, due: Duration) {
        if self.watch.has_lasted(due) {
            self.tell_watching(turn);
        }
    }

    fn tell_watching(&mut self, turn: &mut Turn<'_>) {
        let Return { protocol, is_again } = self.watch.tell_return();
        let protocol = match protocol {
            Protocol::V5 => "MQTT 5",
            Protocol::V311 => "MQTT 3.1.1",
        };
        let again = if is_again { "again " } else { "" };
        let watched =
            devices_and_agents(self.devices.len() - self.manager.agents, self.manager.agents);
        let message = format!("connected {again}to the broker ({protocol}) and watching {watched}");
        turn.raise(AlertKind::BrokerBack, message);
    }

    pub(super) fn watch_disconnected(&mut self, turn: &mut Turn<'_>, reason: &LossReason) {
        self.shared_base.disconnected();
        let answered_until = watch_link::answered_until(turn.now.mono, reason);
        let last_watched = answered_until.min(self.probes.sure_until(turn.now.mono));
        if self.clock.is_running() {
            self.clock.pause(last_watched);
            turn.watched = self.clock.at(turn.now.mono);
            // A contact that was read late is as young as can be.
            let watched = turn.watched;
            for device in self.devices.iter_mut() {
                device.silence.begin_no_later(watched);
            }
        }
        let is_to_be_told = self.watch.disconnected(reason);
        self.probes.begin_anew();
        self.heard_echoes.forget();
        self.covering.disconnected();
        self.disarm_all();
        self.arm_all();
        self.save_less_watched(turn);
        if is_to_be_told {
            turn.raise(loss_kind(reason), self.loss_sentence(reason));
        }
    }

    pub(super) fn loss_sentence(&self, reason: &LossReason) -> String {
        match reason {
            LossReason::TakenOver => format!(
                "another program connects with the clientid `{}`: give one of the two another \
                 `clientid` in [mqtt]",
                self.client_id
            ),
            LossReason::Refused(text)
            | LossReason::Silent { sentence: text, .. }
            | LossReason::Other(text) => text.clone(),
        }
    }

    /// Brings the subscriptions of a living connection in line with the plan; `had` is what was
    /// asked for before.
    pub(super) fn resubscribe_watch(&mut self, turn: &mut Turn<'_>, mut had: Plan) {
        if !self.watch.is_up() {
            return;
        }
        let mut leaving = self.covering.take_leaving();
        let is_awaited = !leaving.is_empty();
        had.append(&mut leaving);
        had.sort_unstable_by(|a, b| a.filter.cmp(&b.filter));
        let (planned, has_wildcards) = self.watch_plan();
        self.covering.planned(turn.now.mono, has_wildcards);
        if self.watch.has_refused_any() {
            let in_force = self.watch_plan_in_force();
            let is_planned = |filter: &TopicFilter| plan::find(&in_force, filter).is_some();
            self.watch.forget_refused_unless(is_planned);
        }
        let gone = had.iter().filter(|had| plan::find(&planned, &had.filter).is_none());
        self.covering.leave(gone.cloned().collect());
        // A refused filter is asked for again, since a person may have mended the broker first.
        let is_new = |wanted: &Subscription| {
            plan::find(&had, &wanted.filter) != Some(wanted)
                || self.watch.has_refused(&wanted.filter)
        };
        let wanted: Plan = planned.into_iter().filter(is_new).collect();
        self.judge_deafness(turn);
        // First the new and then the old, so that no filter is without a subscription between.
        if !wanted.is_empty() {
            turn.out
                .push(Action::Subscribe { connection: Connection::Watch, subscriptions: wanted });
        } else if !is_awaited {
            self.unsubscribe_left(turn);
        }
    }

    /// A device with a filter that the broker refused cannot be judged by its silence.
    fn judge_deafness(&mut self, turn: &mut Turn<'_>) {
        let watched = turn.watched;
        let granted = self.granted_filters();
        for id in self.devices.ids() {
            let filters = granted.as_ref().map(|_| self.watch_filters(id));
            let deaf = granted.as_ref().zip(filters).is_some_and(|(granted, filters)| {
                !filters.iter().all(|filter| granted.covers(filter))
            });
            if self.devices[id].silence.set_deaf(deaf, watched) {
                self.arm(id);
            }
        }
    }

    /// The filters that the broker has not refused; `None` when it has refused none.
    fn granted_filters(&self) -> Option<TopicIndex<()>> {
        if !self.watch.has_refused_any() {
            return None;
        }
        let mut granted = TopicIndex::new();
        for Subscription { filter, .. } in self.watch_plan_in_force() {
            if !self.watch.has_refused(&filter) {
                granted.insert(&filter, ());
            }
        }
        Some(granted)
    }

    pub(super) fn watch_message(&mut self, turn: &mut Turn<'_>, message: &Message) {
        self.watch.heard(turn.now.mono);
        if message.restored {
            return;
        }
        // Retain-as-published is off, so a set flag means a replay of something old.
        let is_replay = message.retain;
        if message.topic.is_below(&self.base_topic) {
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
            if found.is_empty() {
                self.came_for_nobody(turn);
            }
        }
        // A will is sent by the broker, so it never counts as a contact.
        let is_will = self.is_will(&found, message);
        let is_shared = is_shared(&found);
        for target in found.drain(..) {
            match target {
                Target::Availability(id, source) => {
                    self.availability_told(turn, (id, source), is_shared, message);
                }
                Target::Contact(_) | Target::Hello(_) if is_replay || is_will => {}
                Target::Contact(id) if self.is_from_memory(turn.watched, id) => {}
                Target::Contact(id) => self.contact(turn, id),
                Target::Hello(id) => {
                    self.contact(turn, id);
                    self.hello(turn, id);
                }
                Target::State(_) => {}
            }
        }
        self.found = found;
    }

    fn hello(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &mut self.devices[id];
        if !device.is_enabled() {
            return;
        }
        device.hellos += 1;
        let count = device.hellos.to_string();
        turn.out.push(self.device_publication("helloTopicCount", id, count, false));
        self.request_restore(turn, id);
    }

    /// A sign of life.
    pub(super) fn contact(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        let device = &mut self.devices[id];
        let standing = device.standing();
        let EndedSilence { is_first, silence, is_awaited } =
            device.silence.end(turn.now.wall, watched, standing);
        // After a crash it has at least this long; one that talks more rarely would be taken for
        // silent by then if the crash took this contact along.
        self.saving.hurry_if(silence > GRACE);
        if let Some(availability) = &mut device.availability {
            availability.heard();
        }
        self.saving.changed(id, &mut device.dirty);
        if !device.silence.is_pending() {
            self.arm(id);
        }
        let device = &mut self.devices[id];
        if !device.is_enabled() {
            return;
        }
        if device.episode.is_open() {
            self.recover(turn, id);
        } else if is_first {
            device.since = turn.now.wall;
            self.tell_state(turn, id);
        }
        if is_awaited {
            self.awaited_word(turn, id);
        }
        self.contact_to_tell(id);
    }

    /// Counts again after the devices changed.
    pub(super) fn count_expired(&mut self) {
        let expired = |device: &&Device| device.is_enabled() && device.episode.is_open();
        self.expired_count = self.devices.iter().filter(expired).count();
    }

    /// Makes sure that the deadline table will look at the device.
    pub(super) fn arm(&mut self, id: DeviceId) {
        let device = &mut self.devices[id];
        if device.is_settled() || !device.is_enabled() {
            return;
        }
        if let Some(deadline) = device.silence.enter() {
            self.silence.push(deadline, id);
        }
    }

    pub(super) fn arm_all(&mut self) {
        for id in self.devices.ids() {
            self.arm(id);
            self.wait(id);
            self.wait_in_doubt(id);
        }
    }

    /// Starts the device's silence anew, without a contact: it was restarted or taken in.
    pub(super) fn restart_silence(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let watched = turn.watched;
        self.devices[id].silence.begin_anew(watched);
        self.arm(id);
    }

    /// Looks at every device whose time has come, and puts those that seem too silent to the test.
    pub(super) fn silence_due(&mut self, turn: &mut Turn<'_>) {
        if !self.clock.is_running() {
            return;
        }
        let watched = turn.watched;
        while let Some((_, id)) = self.silence.pop_due(watched) {
            self.devices[id].silence.leave_table();
            if self.is_overdue(id, watched) {
                self.devices[id].silence.hold();
                self.probes.suspect(id);
            } else {
                self.arm(id);
            }
        }
        self.holds_due(watched);
        self.send_probe(turn);
    }

    /// Whether the deadline has passed and no grace is left. A device that gets a grace is armed
    /// for its end.
    pub(super) fn is_overdue(&mut self, id: DeviceId, watched: Duration) -> bool {
        let device = &self.devices[id];
        let Some(deadline) = device.silence_deadline() else { return false };
        if device.is_settled() || deadline > watched {
            return false;
        }
        let Some(end) = self.grace_end(id, watched) else { return true };
        self.devices[id].silence.hold();
        self.silence.push(end, id);
        false
    }

    /// Until when it has a grace after an outage, if it has one left.
    pub(super) fn grace_end(&mut self, id: DeviceId, watched: Duration) -> Option<Duration> {
        let (resumed_at, stretch) = (self.clock.resumed_at(), self.clock.stretch());
        match self.devices[id].silence.grant(resumed_at, stretch, watched) {
            Grace::None => None,
            Grace::Until { end, is_new } => {
                if is_new {
                    // A monitor that is restarted again and again must hide nobody either.
                    self.save_soon(id);
                }
                Some(end)
            }
        }
    }

    /// Drops whoever is under suspicion and the whole deadline table, before it is filled anew.
    pub(super) fn disarm_all(&mut self) {
        self.probes.forget();
        self.silence.clear();
        self.holds.clear();
        for device in self.devices.iter_mut() {
            device.silence.leave_table();
        }
    }
}

/// One sentence for each refusal, or for each reason where there are many.
fn refusal_sentences(refused: &[&FilterRefusal]) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<&FilterRefusal>> = BTreeMap::new();
    for refusal in refused {
        by_reason.entry(&refusal.reason).or_default().push(refusal);
    }
    let mut sentences = Vec::new();
    for (reason, of_it) in by_reason {
        match of_it.as_slice() {
            [first, ..] if of_it.len() > MOST_REFUSALS_TOLD => sentences.push(format!(
                "the broker refused {} subscriptions, such as that to `{}` ({reason}): check the \
                 access rights of the monitor's user, and how many subscriptions the broker allows",
                of_it.len(),
                first.filter
            )),
            few => sentences.extend(few.iter().map(|refusal| refusal_sentence(refusal))),
        }
    }
    sentences
}

pub(super) fn refusal_sentence(refusal: &FilterRefusal) -> String {
    format!(
        "the broker refused the subscription to `{}` ({}): check the access rights of the \
         monitor's user there",
        refusal.filter, refusal.reason
    )
}
