//! Conducts the watch connection: its subscriptions, and the consequences of its loss and its
//! return.

use crate::machines::watch_link::{self, ReportTime, Return};
use crate::model::action::Action;
use crate::model::alert::AlertKind;
use crate::model::message::{Connection, FilterRefusal, LossReason, Protocol};
use crate::model::words::devices_and_agents;
use crate::monitor::sentences::{loss_kind, loss_sentence, refusal_sentence};
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use std::collections::BTreeMap;
use std::time::Duration;

/// Up to this many refusals for one reason are reported individually.
const MOST_REFUSALS_TOLD: usize = 5;

impl Monitor {
    pub(super) fn watch_connected(&mut self, turn: &mut Turn<'_>, protocol: Protocol) {
        self.watch.connected(turn.now.mono, protocol);
        self.shared_base.connected(turn.now.mono);
        self.say_online(turn);
        self.plan_before = None;
        let (subscriptions, has_wildcards) = self.watch_plan();
        self.covering.planned(turn.now.mono, has_wildcards);
        if subscriptions.is_empty() {
            self.watch_subscribed(turn, &[]);
        } else {
            turn.out.push(Action::Subscribe { connection: Connection::Watch, subscriptions });
        }
    }

    pub(super) fn watch_subscribed(&mut self, turn: &mut Turn<'_>, refused: &[FilterRefusal]) {
        // A broker that hides the messages below the base topic hides no device.
        let own = self.own_word_filters();
        let refused: Vec<&FilterRefusal> =
            refused.iter().filter(|refusal| !own.contains(&refusal.filter)).collect();
        let mut news = self.watch.subscribed(turn.now.mono, refused.clone());
        if !self.clock.is_running() {
            self.clock.resume(turn.now.mono);
            turn.watched = self.clock.at(turn.now.mono);
            self.history.watching(turn.now.wall);
            self.watching_again(turn);
        }
        self.node_subscribed(turn);
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
            ReportTime::Now => self.report_watching(turn),
            ReportTime::At(due) => self.timers.push(due, Timer::Lasting),
        }
        // A broker that was away may have lost its retained messages.
        self.publish_all_statuses(turn);
    }

    /// The clientid has belonged to this monitor for a while.
    pub(super) fn lasting_due(&mut self, turn: &mut Turn<'_>, due: Duration) {
        if self.watch.has_lasted(due) {
            self.report_watching(turn);
        }
    }

    fn report_watching(&mut self, turn: &mut Turn<'_>) {
        let Return { protocol, is_again } = self.watch.report_return();
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
            let unheard = turn.now.mono.saturating_sub(last_watched);
            self.history.deaf(turn.now.wall.saturating_sub(unheard));
            // A contact that was read late counts as recent as possible.
            let watched = turn.watched;
            for device in self.devices.iter_mut() {
                device.silence.begin_no_later(watched);
                if let Some(flaps) = device.rare.flaps_mut() {
                    flaps.step_back(watched);
                }
            }
            self.dependencies.step_back(watched);
        }
        self.node_disconnected(turn);
        let must_be_reported = self.watch.disconnected(reason);
        self.probes.begin_anew();
        self.heard_echoes.forget();
        self.covering.disconnected();
        self.disarm_all();
        self.arm_all();
        self.save_less_watched(turn);
        self.flush_history(turn);
        if must_be_reported {
            turn.raise(loss_kind(reason), loss_sentence(&self.connection_id, reason));
        }
    }
}

/// Returns one sentence for each refusal, or for each reason where there are many refusals.
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
