//! Carries out what the rule asks for: requests to the store, deadlines for the guard, and events.

use super::kept::KeptParts;
use super::sections::{self, SectionsSeen};
use super::{ClusterCommand, ClusterEvent, Membership};
use crate::etcd::{EtcdError, EtcdStore};
use crate::pulse::Pulse;
use iotmonitor_core::machines::cluster::roster::{NodeRoster, RosterChange};
use iotmonitor_core::machines::cluster::{Guarded, Member, MemberOutcome};
use iotmonitor_core::model::cluster::orders::{MoveOrder, SharedOrder, SharedOrders};
use iotmonitor_core::model::cluster::store::{RequestNumber, StoreAnswer, StoreRequest};
use iotmonitor_core::model::cluster::view::StoreView;
use iotmonitor_core::model::cluster::{Item, SessionId};
use iotmonitor_core::model::device_name::DeviceName;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// Timers stand still while the machine is suspended, and the boot clock does not. It is looked at
/// this often, whatever the rule waits for.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// An order to move that nobody could carry out is withdrawn, because it would surprise later.
const STALE_MOVE: Duration = Duration::from_secs(30);

type NumberedAnswer = (RequestNumber, Result<StoreAnswer, EtcdError>);

pub struct Renewals<G> {
    member: Member,
    store: Arc<EtcdStore>,
    boot: u128,
    guard: G,
    guard_is_gone: bool,
    kept: KeptParts,
    /// Items that have ended, of which the rule has not learned.
    ended: Vec<Item>,
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
    /// The latest request with an answer.
    last_answered: Option<RequestNumber>,
    /// Since when that has been so, and why.
    store_since: Duration,
    store_reason: Option<String>,
    /// The read on its way. An answer to an earlier one may show less.
    reading: Option<RequestNumber>,
    orders: OrdersSeen,
    sections: SectionsSeen,
    roster: NodeRoster,
    /// That everything has been given away was reported.
    is_drained: bool,
}

/// What people have ordered, as it was read last.
#[derive(Debug, Default)]
struct OrdersSeen {
    reported: Option<Arc<SharedOrders>>,
    /// A person has drained this node, or it drains itself before the machine goes down.
    is_drained: bool,
    goes_down: bool,
    /// When each order to move was first seen.
    moves_since: BTreeMap<DeviceName, (MoveOrder, Duration)>,
}

impl<G: FnMut(Guarded) -> io::Result<()>> Renewals<G> {
    pub fn new(
        membership: Membership,
        boot: u128,
        guard: G,
        (commands, events): (mpsc::Receiver<ClusterCommand>, mpsc::Sender<ClusterEvent>),
        pulse: Pulse,
    ) -> Self {
        let Membership { mut settings, items, etcd, resumes, kept, sections } = membership;
        settings.config = sections.as_ref().map(|version| version.number);
        let goes_down = settings.drains;
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
            kept,
            ended: Vec::new(),
            fences: 0,
            pulse,
            commands,
            events,
            backlog: VecDeque::new(),
            requests: JoinSet::new(),
            store_answers: None,
            last_answered: None,
            store_since: boot_clock().unwrap_or_default(),
            store_reason: None,
            reading: None,
            orders: OrdersSeen { goes_down, ..OrdersSeen::default() },
            sections: SectionsSeen::new(sections),
            roster: NodeRoster::default(),
            is_drained: false,
        }
    }

    /// Takes part until nobody sends commands or takes events.
    pub async fn run(mut self) {
        let events = self.events.clone();
        // Without a clock there is no lease.
        while let Some(now) = boot_clock() {
            self.pulse.beat();
            self.let_go(now);
            let outcomes = self.member.time_passed(now);
            self.carry_out(outcomes);
            self.report_drained();
            let due = self.member.next_deadline(now).saturating_sub(now).min(LONGEST_SLEEP);
            let goes_on = tokio::select! {
                Some(answer) = self.requests.join_next() => self.answered(answer),
                fetched = self.sections.fetched() => self.fetched(fetched),
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
                self.last_answered = self.last_answered.max(Some(number));
                if let StoreAnswer::Read(contents) = &answer {
                    let orders = Arc::clone(&contents.orders);
                    self.sections.read(contents.config.clone(), &self.store);
                    self.read_orders(now, number, orders);
                }
                let outcomes = self.member.answered(now, number, answer);
                self.carry_out(outcomes);
                self.report_roster();
                if self.store_answers.replace(true) != Some(true) {
                    (self.store_since, self.store_reason) = (now, None);
                    self.report(ClusterEvent::StoreAnswers);
                }
            }
            // The store has answered since.
            Err(_) if self.last_answered > Some(number) => {}
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

    fn fetched(&mut self, fetched: Option<sections::Fetched>) -> bool {
        let event = fetched.and_then(|fetched| self.sections.take(fetched));
        if let Some(event) = event {
            // One that has not been taken is out of date.
            self.backlog.retain(|event| !matches!(event, ClusterEvent::Sections(_)));
            self.report(event);
        }
        true
    }

    fn obey(&mut self, command: ClusterCommand) -> bool {
        let Some(now) = boot_clock() else { return false };
        let outcomes = match command {
            ClusterCommand::Stopped(item) => {
                self.ended.push(item);
                self.let_go(now);
                return true;
            }
            ClusterCommand::Fenced(number) if number == self.fences => {
                self.member.fenced(now, new_session(self.boot))
            }
            ClusterCommand::Fenced(_) => return true,
            ClusterCommand::GuardEnded => self.member.guard_ended(now),
            ClusterCommand::Renew => self.member.renew_now(now),
            ClusterCommand::Share(items) => self.member.set_items(now, items),
            ClusterCommand::Drain(drains) => {
                self.orders.goes_down = drains;
                self.member.set_drains(now, drains || self.orders.is_drained)
            }
            ClusterCommand::Broker(broker) => self.member.set_broker(now, broker),
            ClusterCommand::Move { item, to } => self.member.move_to(now, item, to),
            ClusterCommand::View(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.member.view(now, self.store_view(now)));
                return true;
            }
            ClusterCommand::Order { order, reply } => {
                self.put(order, reply);
                return true;
            }
            ClusterCommand::Apply { text, reply } => {
                sections::apply(&self.store, text, self.member.name().clone(), reply);
                return true;
            }
            ClusterCommand::Uses(version) => {
                let number = version.as_ref().map(|version| version.number);
                self.sections.used(version);
                self.member.set_config(now, number)
            }
        };
        self.carry_out(outcomes);
        true
    }

    /// Tells the rule what has ended, so that other nodes can have it. What the file still holds waits
    /// until the next look, because the next process would go on with it.
    fn let_go(&mut self, now: Duration) {
        for item in std::mem::take(&mut self.ended) {
            if self.kept.remove(&item).is_ok() {
                let outcomes = self.member.stopped(now, &item);
                self.carry_out(outcomes);
            } else {
                self.ended.push(item);
            }
        }
    }

    /// Does everything in its order. The time from which a lease counts was read before.
    fn carry_out(&mut self, outcomes: Vec<MemberOutcome>) {
        for outcome in outcomes {
            match outcome {
                MemberOutcome::Send { number, request } => {
                    if request == StoreRequest::Read {
                        self.reading = Some(number);
                    }
                    let store = Arc::clone(&self.store);
                    self.requests.spawn(async move { (number, store.request(&request).await) });
                }
                MemberOutcome::Guard(guarded) => {
                    self.kept.renewed(guarded);
                    self.renew_guard(guarded);
                }
                MemberOutcome::Start { item, epoch } => {
                    self.kept.add(&item, epoch);
                    self.report(ClusterEvent::Start { item, epoch });
                }
                MemberOutcome::Stop(item) => self.report(ClusterEvent::Stop(item)),
                MemberOutcome::Fence(reason) => {
                    self.fences += 1;
                    self.ended.clear();
                    self.report(ClusterEvent::Fence { number: self.fences, reason });
                }
                MemberOutcome::NameTaken => self.report(ClusterEvent::NameTaken),
            }
        }
    }

    /// Reports what has changed among the nodes.
    fn report_roster(&mut self) {
        for change in self.roster.look(&self.member) {
            match change {
                RosterChange::Owners(owners) => {
                    // One that has not been taken is out of date.
                    self.backlog.retain(|event| !matches!(event, ClusterEvent::Owners(_)));
                    self.report(ClusterEvent::Owners(owners));
                }
                RosterChange::NodeLost(node) => self.report(ClusterEvent::NodeLost(node)),
                RosterChange::NodeBack(node) => self.report(ClusterEvent::NodeBack(node)),
            }
        }
    }

    /// Reports once that a node that goes down has given away everything.
    fn report_drained(&mut self) {
        let is_drained = self.orders.goes_down && self.member.is_idle();
        if is_drained && !self.is_drained {
            self.report(ClusterEvent::Drained);
        }
        self.is_drained = is_drained;
    }

    /// Puts an order into the store, in a task. Whoever gave it may have gone by then.
    fn put(&mut self, order: SharedOrder, reply: oneshot::Sender<Result<(), String>>) {
        if self.orders.reported.is_none() {
            let reason = self.store_reason.as_deref().unwrap_or("it is being asked");
            let _ = reply.send(Err(reason.to_owned()));
            return;
        }
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let outcome = store.order(&order).await;
            let _ = reply.send(outcome.map_err(|error| error.to_string()));
        });
    }

    /// Takes what people have ordered from a read.
    fn read_orders(&mut self, now: Duration, number: RequestNumber, orders: Arc<SharedOrders>) {
        if self.reading.take_if(|reading| *reading == number).is_none() {
            return;
        }
        let is_drained = orders.drains.contains_key(self.member.name());
        if std::mem::replace(&mut self.orders.is_drained, is_drained) != is_drained {
            let outcomes = self.member.set_drains(now, is_drained || self.orders.goes_down);
            self.carry_out(outcomes);
        }
        self.move_on(now, &orders);
        if self.orders.reported.as_ref() != Some(&orders) {
            self.orders.reported = Some(Arc::clone(&orders));
            // One that has not been taken is out of date.
            self.backlog.retain(|event| !matches!(event, ClusterEvent::Orders(_)));
            self.report(ClusterEvent::Orders(orders));
        }
    }

    /// Gives away what is to move, and withdraws what has been done or is left over.
    fn move_on(&mut self, now: Duration, orders: &SharedOrders) {
        let mut before = std::mem::take(&mut self.orders.moves_since);
        for (agent, order) in &orders.moves {
            let seen = before.remove(agent).filter(|(seen, _)| seen == order);
            let since = seen.map_or(now, |(_, since)| since);
            self.orders.moves_since.insert(agent.clone(), (order.clone(), since));
            let item = Item::Agent(agent.clone());
            let (own, owner) = (self.member.name(), self.member.owner(&item));
            let is_done = owner == Some(&order.to) && order.to == *own;
            if is_done || now.saturating_sub(since) > STALE_MOVE {
                let (store, agent, order) = (Arc::clone(&self.store), agent.clone(), order.clone());
                // The next read shows whether that was done.
                tokio::spawn(async move {
                    let _ = store.order(&SharedOrder::Withdraw { agent, order }).await;
                });
            } else if owner == Some(own) {
                let outcomes = self.member.move_to(now, item, order.to.clone());
                self.carry_out(outcomes);
            }
        }
    }

    fn store_view(&self, now: Duration) -> StoreView {
        StoreView {
            answers: self.store_answers,
            lasts: now.saturating_sub(self.store_since),
            reason: self.store_reason.clone(),
            config: self.sections.held.clone(),
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
