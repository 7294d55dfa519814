//! Carries out what the rule asks for: requests to the store, deadlines for the guard, and events.

use super::{ClusterCommand, ClusterEvent, Membership};
use crate::etcd::{EtcdError, EtcdStore};
use crate::pulse::Pulse;
use iotmonitor_core::machines::cluster::{Guarded, Member, MemberOutcome};
use iotmonitor_core::model::cluster::SessionId;
use iotmonitor_core::model::cluster::store::{RequestNumber, StoreAnswer};
use iotmonitor_core::model::cluster::view::StoreView;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// Timers stand still while the machine is suspended, and the boot clock does not. It is looked at
/// this often, whatever the rule waits for.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

type NumberedAnswer = (RequestNumber, Result<StoreAnswer, EtcdError>);

pub struct Renewals<G> {
    member: Member,
    store: Arc<EtcdStore>,
    boot: u128,
    guard: G,
    guard_is_gone: bool,
    /// The number of the last fence.
    fences: u64,
    pulse: Pulse,
    commands: mpsc::Receiver<ClusterCommand>,
    events: mpsc::Sender<ClusterEvent>,
    /// Events for which there was no room.
    backlog: VecDeque<ClusterEvent>,
    requests: JoinSet<NumberedAnswer>,
    /// `None` before the first answer.
    store_answers: Option<bool>,
    /// Since when that has been so, and why.
    store_since: Duration,
    store_reason: Option<String>,
}

impl<G: FnMut(Guarded) -> io::Result<()>> Renewals<G> {
    pub fn new(
        membership: Membership,
        boot: u128,
        guard: G,
        (commands, events): (mpsc::Receiver<ClusterCommand>, mpsc::Sender<ClusterEvent>),
        pulse: Pulse,
    ) -> Self {
        let Membership { settings, items, etcd, resumes } = membership;
        let member = match resumes {
            Some((guarded, runs)) => Member::resumed(settings, items, guarded, runs),
            None => Member::new(settings, items, new_session(boot)),
        };
        Self {
            member,
            store: Arc::new(EtcdStore::new(&etcd)),
            boot,
            guard,
            guard_is_gone: false,
            fences: 0,
            pulse,
            commands,
            events,
            backlog: VecDeque::new(),
            requests: JoinSet::new(),
            store_answers: None,
            store_since: boot_clock().unwrap_or_default(),
            store_reason: None,
        }
    }

    /// Takes part until nobody sends commands or takes events.
    pub async fn run(mut self) {
        let events = self.events.clone();
        // Without a clock there is no lease.
        while let Some(now) = boot_clock() {
            self.pulse.beat();
            let outcomes = self.member.time_passed(now);
            self.carry_out(outcomes);
            let due = self.member.next_deadline(now).saturating_sub(now).min(LONGEST_SLEEP);
            let goes_on = tokio::select! {
                Some(answer) = self.requests.join_next() => self.answered(answer),
                command = self.commands.recv() => command.is_some_and(|command| self.obey(command)),
                room = events.reserve(), if !self.backlog.is_empty() => {
                    match (room, self.backlog.pop_front()) {
                        (Ok(room), Some(event)) => {
                            room.send(event);
                            true
                        }
                        _ => false,
                    }
                }
                () = sleep(due) => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn answered(&mut self, answer: Result<NumberedAnswer, JoinError>) -> bool {
        // A request that gave no answer is given up by the rule.
        let Ok((number, answer)) = answer else { return true };
        let Some(now) = boot_clock() else { return false };
        match answer {
            Ok(answer) => {
                let outcomes = self.member.answered(now, number, answer);
                self.carry_out(outcomes);
                if self.store_answers.replace(true) != Some(true) {
                    (self.store_since, self.store_reason) = (now, None);
                    self.report(ClusterEvent::StoreAnswers);
                }
            }
            Err(error) => {
                if self.store_answers.replace(false) != Some(false) {
                    let reason = error.to_string();
                    (self.store_since, self.store_reason) = (now, Some(reason.clone()));
                    self.report(ClusterEvent::StoreSilent(reason));
                }
            }
        }
        true
    }

    fn obey(&mut self, command: ClusterCommand) -> bool {
        let Some(now) = boot_clock() else { return false };
        let outcomes = match command {
            ClusterCommand::Stopped(item) => self.member.stopped(now, &item),
            ClusterCommand::Fenced(number) if number == self.fences => {
                self.member.fenced(now, new_session(self.boot))
            }
            ClusterCommand::Fenced(_) => return true,
            ClusterCommand::GuardEnded => self.member.guard_ended(now),
            ClusterCommand::Renew => self.member.renew_now(now),
            ClusterCommand::Share(items) => self.member.set_items(now, items),
            ClusterCommand::Drain(drains) => self.member.set_drains(now, drains),
            ClusterCommand::Broker(broker) => self.member.set_broker(now, broker),
            ClusterCommand::Move { item, to } => self.member.move_to(now, item, to),
            ClusterCommand::View(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.member.view(now, self.store_view(now)));
                return true;
            }
        };
        self.carry_out(outcomes);
        true
    }

    /// Does everything in its order. The time from which a lease counts was read before.
    fn carry_out(&mut self, outcomes: Vec<MemberOutcome>) {
        for outcome in outcomes {
            match outcome {
                MemberOutcome::Send { number, request } => {
                    let store = Arc::clone(&self.store);
                    self.requests.spawn(async move { (number, store.request(&request).await) });
                }
                MemberOutcome::Guard(guarded) => self.renew_guard(guarded),
                MemberOutcome::Start { item, epoch } => {
                    self.report(ClusterEvent::Start { item, epoch });
                }
                MemberOutcome::Stop(item) => self.report(ClusterEvent::Stop(item)),
                MemberOutcome::Fence(reason) => {
                    self.fences += 1;
                    self.report(ClusterEvent::Fence { number: self.fences, reason });
                }
                MemberOutcome::NameTaken => self.report(ClusterEvent::NameTaken),
            }
        }
    }

    fn store_view(&self, now: Duration) -> StoreView {
        StoreView {
            answers: self.store_answers,
            lasts: now.saturating_sub(self.store_since),
            reason: self.store_reason.clone(),
        }
    }

    fn renew_guard(&mut self, guarded: Guarded) {
        match (self.guard)(guarded) {
            Ok(()) => self.guard_is_gone = false,
            Err(error) => {
                if !std::mem::replace(&mut self.guard_is_gone, true) {
                    self.report(ClusterEvent::GuardGone(error.to_string()));
                }
            }
        }
    }

    fn report(&mut self, event: ClusterEvent) {
        self.backlog.push_back(event);
        while let Ok(room) = self.events.try_reserve()
            && let Some(event) = self.backlog.pop_front()
        {
            room.send(event);
        }
    }
}

/// A session that no other node and no other process has.
fn new_session(boot: u128) -> SessionId {
    SessionId { boot, number: random() }
}

/// Identifies the boot of the machine (random(4)), or this process where the service's sandbox hides
/// that.
pub fn boot_id() -> u128 {
    let written = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = written.trim().split('-').collect();
    let random = || u128::from(random()) << 64 | u128::from(random());
    u128::from_str_radix(&digits, 16).unwrap_or_else(|_| random())
}

fn random() -> u64 {
    // The keys of the hasher are random.
    RandomState::new().build_hasher().finish()
}

fn boot_clock() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}
