//! Nodes with their monitors, guards, clocks and items, and one store, in simulated time.
//!
//! Nothing here is random: whoever drives the world decides what becomes of each request, and which
//! faults happen when.

#[path = "faults.rs"]
mod faults;

use crate::store::Store;
use iotmonitor_core::machines::cluster::{Guarded, Member, MemberOutcome, MemberSettings};
use iotmonitor_core::model::cluster::store::{
    Compare, Put, RequestNumber, Revision, StoreAnswer, StoreRequest, Transaction,
};
use iotmonitor_core::model::cluster::timing::{LEASE, STOP_BUDGET, Timing};
use iotmonitor_core::model::cluster::{Item, Items, NodeName, SessionId};
use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes of a request: how long it and its answer take, or that one of them is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fate {
    pub request: Option<Duration>,
    pub answer: Option<Duration>,
}

impl Fate {
    pub const FAST: Self =
        Self { request: Some(Duration::from_millis(1)), answer: Some(Duration::from_millis(1)) };
    pub const REQUEST_LOST: Self = Self { request: None, answer: None };
    pub const ANSWER_LOST: Self = Self { request: Self::FAST.request, answer: None };
}

/// Rules that are broken on purpose, to see whether it is noticed. The machine is the same; what
/// goes in and comes out is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// The deadline is counted from the receipt of the answer to a renewal.
    DeadlineFromReceipt,
    /// Others wait as long as a lease lasts, and not until everything has ended.
    WaitLeaseAlone,
    /// A session is ended in one transaction, and the new owners come in a second one.
    SecondTransaction,
    /// An item is started when its plan has been read.
    StartUnconfirmed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Event {
    /// A node sends a request.
    Sent {
        node: usize,
        process: u64,
        number: RequestNumber,
        request: StoreRequest,
    },
    Arrived {
        node: usize,
        process: u64,
        number: RequestNumber,
        request: StoreRequest,
        answer: Option<Duration>,
    },
    Answered {
        node: usize,
        process: u64,
        number: RequestNumber,
        answer: StoreAnswer,
    },
    Stopped {
        node: usize,
        boot: u64,
        item: Item,
    },
    Continues {
        node: usize,
    },
    MonitorStarts {
        node: usize,
        process: u64,
    },
    Booted {
        node: usize,
        boot: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub name: NodeName,
    /// What its clock gains, in millionths.
    rate: i64,
    boot: u64,
    booted_at: Duration,
    pub is_on: bool,
    process: u64,
    monitor: Option<Member>,
    /// The monitor, or all of the node, does not run before this time.
    paused_until: Option<Duration>,
    is_frozen: bool,
    /// What came while the monitor was paused.
    backlog: Vec<Event>,
    /// When the monitor has something to do.
    wakes: Option<Duration>,
    guard: Option<Guarded>,
    /// The deadline by which the machine goes, where a mistake gives the guard another one.
    deadline: Option<Duration>,
    pub runs: BTreeMap<Item, Revision>,
    is_fencing: bool,
    /// Nothing that it sends arrives any more.
    is_cut: bool,
    drains: bool,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    pub starts: u32,
    pub fences: u32,
    pub evictions: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Duration,
    pub store: Store,
    /// The store answers nothing before this time; requests wait for it.
    pub store_away: Duration,
    pub nodes: Vec<Node>,
    queue: Vec<(Duration, Event)>,
    items: Items,
    sessions: u64,
    mistake: Option<Mistake>,
    /// How long an item takes to stop, and how late the guard kills.
    pub stop_time: Duration,
    pub guard_late: Duration,
    pub tally: Tally,
    /// The node that has last tried to end the session of another.
    pub evictor: Option<usize>,
    /// The first two owners of one item at one time.
    pub double: Option<String>,
}

impl World {
    /// Machines with these clock rates, in millionths, that are switched on at once.
    pub fn new(rates: &[i64], items: Items, mistake: Option<Mistake>) -> Self {
        let names = ["a", "b", "c", "d"].map(|name| NodeName::new(name).unwrap());
        let nodes = rates.iter().zip(names).map(|(&rate, name)| Node {
            name,
            rate,
            boot: 0,
            booted_at: Duration::ZERO,
            is_on: false,
            process: 0,
            monitor: None,
            paused_until: None,
            is_frozen: false,
            backlog: Vec::new(),
            wakes: None,
            guard: None,
            deadline: None,
            runs: BTreeMap::new(),
            is_fencing: false,
            is_cut: false,
            drains: false,
        });
        let mut world = Self {
            now: Duration::from_secs(1),
            store: Store::default(),
            store_away: Duration::ZERO,
            nodes: nodes.collect(),
            queue: Vec::new(),
            items,
            sessions: 0,
            mistake,
            stop_time: STOP_BUDGET,
            guard_late: Duration::from_millis(300),
            tally: Tally::default(),
            evictor: None,
            double: None,
        };
        if mistake == Some(Mistake::WaitLeaseAlone) {
            world.store.evict_after = Some(LEASE);
        }
        for node in 0..rates.len() {
            world.boot(node);
        }
        world
    }

    /// The next thing that happens by itself.
    pub fn next(&self) -> Duration {
        let running = self.nodes.iter().filter(|node| node.paused_until.is_none());
        let wakes = running.filter_map(|node| node.wakes.filter(|_| node.monitor.is_some()));
        let kills = (0..self.nodes.len()).filter_map(|node| self.kills(node));
        let first = self.queue.first().map(|(at, _)| *at);
        wakes.chain(kills).chain(first).min().unwrap_or(Duration::MAX).max(self.now)
    }

    /// The node whose request is the next thing that happens, and whether it only reads.
    pub fn asks(&self) -> Option<(usize, bool)> {
        match self.queue.first() {
            Some((at, Event::Sent { node, request, .. })) if *at <= self.next() => {
                Some((*node, *request == StoreRequest::Read))
            }
            _ => None,
        }
    }

    /// Lets the next thing happen. A request that is sent has this fate.
    pub fn step(&mut self, fate: Fate) {
        self.now = self.next();
        for node in 0..self.nodes.len() {
            if self.kills(node).is_some_and(|at| at <= self.now) {
                self.nodes[node].guard = None;
                self.kill(node);
                return;
            }
        }
        if self.queue.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, event) = self.queue.remove(0);
            self.happens(event, fate);
            return;
        }
        let wakes = |node: &Node| {
            let runs = node.monitor.is_some() && node.paused_until.is_none();
            runs && node.wakes.is_some_and(|at| at <= self.now)
        };
        if let Some(node) = self.nodes.iter().position(wakes) {
            self.call(node, Member::time_passed);
        }
    }

    /// Lets everything happen until a time, with one fate for all requests.
    pub fn run_until(&mut self, end: Duration, fate: Fate) {
        while self.next() <= end {
            self.step(fate);
        }
        self.now = end;
    }

    fn happens(&mut self, event: Event, fate: Fate) {
        match event {
            Event::Sent { node, .. } if self.nodes[node].paused_until.is_some() => {
                self.nodes[node].backlog.push(event);
            }
            Event::Sent { node, .. } if self.nodes[node].is_cut => {}
            Event::Sent { node, process, number, request } => {
                if let Some(delay) = fate.request {
                    let answer = fate.answer;
                    let arrived = Event::Arrived { node, process, number, request, answer };
                    self.after(delay, arrived);
                }
            }
            Event::Arrived { node, process, number, request, answer } => {
                self.arrived(node, process, number, request, answer);
            }
            Event::Answered { node, process, .. }
                if !self.nodes[node].is_on || self.nodes[node].process != process => {}
            Event::Answered { node, .. } if self.nodes[node].paused_until.is_some() => {
                self.nodes[node].backlog.push(event);
            }
            Event::Answered { node, number, answer, .. } => self.answered(node, number, answer),
            Event::Stopped { node, boot, item } => {
                let is_same = self.nodes[node].boot == boot && self.nodes[node].is_on;
                if is_same && self.nodes[node].runs.contains_key(&item) {
                    if self.nodes[node].is_frozen {
                        let until = self.nodes[node].paused_until.unwrap_or(self.now);
                        self.at(until, Event::Stopped { node, boot, item });
                        return;
                    }
                    self.end(node, &item);
                    self.call(node, |member, now| member.stopped(now, &item));
                    self.fenced(node);
                }
            }
            Event::Continues { node } => self.continues(node),
            Event::MonitorStarts { node, process } => {
                if self.nodes[node].is_on && self.nodes[node].process == process {
                    self.start_monitor(node);
                }
            }
            Event::Booted { node, boot } => {
                if self.nodes[node].boot == boot && !self.nodes[node].is_on {
                    self.boot(node);
                }
            }
        }
    }

    fn arrived(
        &mut self,
        node: usize,
        process: u64,
        number: RequestNumber,
        request: StoreRequest,
        answer: Option<Duration>,
    ) {
        if self.now < self.store_away {
            let event = Event::Arrived { node, process, number, request, answer };
            self.at(self.store_away, event);
            return;
        }
        let name = &self.nodes[node].name;
        let ends_another = |transaction: &Transaction| {
            transaction.puts.iter().any(|put| matches!(put, Put::Node(other, _) if other != name))
        };
        let result = match &request {
            StoreRequest::Commit(transaction) if ends_another(transaction) => {
                self.tally.evictions += 1;
                self.evictor = Some(node);
                if self.mistake == Some(Mistake::SecondTransaction) {
                    let both = transaction.clone();
                    self.in_two(node, process, number, both, answer);
                    return;
                }
                self.store.answer(&request)
            }
            _ => self.store.answer(&request),
        };
        if let Some(delay) = answer {
            self.after(delay, Event::Answered { node, process, number, answer: result });
        }
    }

    /// Ends the sessions now. The new owners come in a request of their own.
    fn in_two(
        &mut self,
        node: usize,
        process: u64,
        number: RequestNumber,
        both: Transaction,
        answer: Option<Duration>,
    ) {
        let mut first = both.clone();
        first.compares.retain(|compare| matches!(compare, Compare::Node(..)));
        first.puts.retain(|put| matches!(put, Put::Node(..)));
        let mut second = both;
        second.compares.clear();
        second.puts.retain(|put| matches!(put, Put::Plan(_)));
        if self.store.answer(&StoreRequest::Commit(first)) != StoreAnswer::Refused
            && let Some(delay) = answer
        {
            let request = StoreRequest::Commit(second);
            self.after(delay, Event::Sent { node, process, number, request });
        }
    }

    fn answered(&mut self, node: usize, number: RequestNumber, answer: StoreAnswer) {
        if self.mistake == Some(Mistake::StartUnconfirmed)
            && let StoreAnswer::Read(contents) = &answer
            && let Some(Guarded { session, deadline, .. }) = self.nodes[node].guard
            && self.local(node) < deadline
            && let Some(plan) = &contents.plan
        {
            for (item, owner) in &plan.value.owners {
                if owner.session == session && !self.nodes[node].runs.contains_key(item) {
                    self.start(node, item.clone(), plan.revision);
                }
            }
        }
        self.call(node, |member, now| member.answered(now, number, answer));
    }

    /// Calls the monitor of a node, and does what it says.
    pub fn call(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Member, Duration) -> Vec<MemberOutcome>,
    ) {
        let now = self.believed(node);
        let this = &mut self.nodes[node];
        if this.paused_until.is_some() {
            return;
        }
        let Some(monitor) = &mut this.monitor else { return };
        let outcomes = call(monitor, now);
        for outcome in outcomes {
            self.carry_out(node, outcome);
        }
        self.nodes[node].wakes = self.wakes(node);
    }

    fn carry_out(&mut self, node: usize, outcome: MemberOutcome) {
        let boot = self.nodes[node].boot;
        match outcome {
            MemberOutcome::Send { number, request } => {
                let process = self.nodes[node].process;
                self.at(self.now, Event::Sent { node, process, number, request });
            }
            MemberOutcome::Guard(mut guarded) => {
                self.nodes[node].deadline = Some(guarded.deadline);
                if self.mistake == Some(Mistake::DeadlineFromReceipt) {
                    guarded.deadline = self.local(node) + LEASE;
                }
                self.nodes[node].guard = Some(guarded);
            }
            MemberOutcome::Start { item, epoch } => self.start(node, item, epoch),
            MemberOutcome::Stop(item) => {
                self.after(self.stop_time, Event::Stopped { node, boot, item })
            }
            MemberOutcome::Fence(_) => {
                self.tally.fences += 1;
                self.nodes[node].is_fencing = true;
                let running: Vec<Item> = self.nodes[node].runs.keys().cloned().collect();
                for item in running {
                    self.after(self.stop_time, Event::Stopped { node, boot, item });
                }
                self.fenced(node);
            }
            MemberOutcome::NameTaken => {}
        }
    }

    /// Begins a new session when nothing of the former one is left.
    fn fenced(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        let is_there = this.monitor.is_some() && this.paused_until.is_none();
        if this.is_fencing && this.runs.is_empty() && is_there {
            this.is_fencing = false;
            this.guard = None;
            this.deadline = None;
            let session = self.session(node);
            self.call(node, |member, now| member.fenced(now, session));
        }
    }

    fn start(&mut self, node: usize, item: Item, epoch: Revision) {
        let this = &mut self.nodes[node];
        if this.runs.insert(item.clone(), epoch).is_some() {
            return;
        }
        self.tally.starts += 1;
        self.compare(node, &item);
    }

    /// Looks whether another node runs an item that this one runs.
    fn compare(&mut self, node: usize, item: &Item) {
        let (now, name) = (self.now, &self.nodes[node].name);
        let mut others = self.nodes.iter().filter(|other| other.name != *name && !other.is_frozen);
        if let Some(other) = others.find(|other| other.runs.contains_key(item)) {
            let double = format!("{item} runs on {name} at {now:?} and runs on {}", other.name);
            self.double.get_or_insert(double);
        }
    }

    fn end(&mut self, node: usize, item: &Item) {
        self.nodes[node].runs.remove(item);
    }

    /// What the guard does.
    fn kill(&mut self, node: usize) {
        let running: Vec<Item> = self.nodes[node].runs.keys().cloned().collect();
        for item in running {
            self.end(node, &item);
            self.call(node, |member, now| member.stopped(now, &item));
        }
        self.fenced(node);
    }

    fn kills(&self, node: usize) -> Option<Duration> {
        let this = &self.nodes[node];
        let guarded = this.guard.filter(|_| this.is_on)?;
        let at = self.true_time(node, guarded.deadline + STOP_BUDGET) + self.guard_late;
        Some(if this.is_frozen { at.max(this.paused_until?) } else { at })
    }

    fn wakes(&self, node: usize) -> Option<Duration> {
        let this = &self.nodes[node];
        let local = this.monitor.as_ref()?.next_deadline(self.believed(node));
        let lied = this
            .deadline
            .zip(this.guard)
            .filter(|(deadline, guard)| local >= *deadline && self.local(node) < guard.deadline);
        Some(self.true_time(node, lied.map_or(local, |(_, guard)| guard.deadline)))
    }

    /// The time by a node's own clock, which counts from its boot.
    fn local(&self, node: usize) -> Duration {
        let this = &self.nodes[node];
        let since = self.now.saturating_sub(this.booted_at).as_nanos() as i128;
        Duration::from_nanos((since + since * i128::from(this.rate) / 1_000_000) as u64)
    }

    /// With a mistaken deadline, the monitor does not see that the true one has passed.
    fn believed(&self, node: usize) -> Duration {
        let this = &self.nodes[node];
        let local = self.local(node);
        match (this.deadline, this.guard) {
            (Some(deadline), Some(guard)) if local >= deadline && local < guard.deadline => {
                deadline - Duration::from_nanos(1)
            }
            _ => local,
        }
    }

    fn true_time(&self, node: usize, local: Duration) -> Duration {
        let this = &self.nodes[node];
        let nanos = local.as_nanos() as i128 * 1_000_000 / i128::from(1_000_000 + this.rate);
        this.booted_at + Duration::from_nanos(nanos as u64 + 2)
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        let place = self.queue.partition_point(|(other, _)| *other <= at);
        self.queue.insert(place, (at, event));
    }

    fn session(&mut self, node: usize) -> SessionId {
        self.sessions += 1;
        SessionId { boot: u128::from(self.nodes[node].boot), number: self.sessions }
    }

    fn settings(&self, node: usize) -> MemberSettings {
        let this = &self.nodes[node];
        MemberSettings {
            name: this.name.clone(),
            machine: format!("machine-{node}"),
            timing: Timing::new(Duration::from_secs(8), Duration::from_secs(1)).unwrap(),
            broker: true,
            drains: this.drains,
        }
    }

    fn boot(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.boot += 1;
        this.booted_at = self.now;
        this.is_on = true;
        self.start_monitor(node);
    }

    fn start_monitor(&mut self, node: usize) {
        let (settings, items) = (self.settings(node), self.items.clone());
        let member = match self.nodes[node].guard {
            Some(guarded) => {
                let runs = self.nodes[node].runs.clone();
                Member::resumed(settings, items, guarded, runs)
            }
            None => {
                let session = self.session(node);
                Member::new(settings, items, session)
            }
        };
        self.nodes[node].monitor = Some(member);
        self.call(node, Member::time_passed);
    }

    fn continues(&mut self, node: usize) {
        if self.nodes[node].paused_until.is_none_or(|until| until > self.now) {
            return;
        }
        let this = &mut self.nodes[node];
        (this.paused_until, this.is_frozen) = (None, false);
        let running: Vec<Item> = this.runs.keys().cloned().collect();
        for item in running {
            self.compare(node, &item);
        }
        let this = &mut self.nodes[node];
        for event in std::mem::take(&mut this.backlog) {
            self.happens(event, Fate::FAST);
        }
        self.call(node, Member::time_passed);
        // Items may have ended meanwhile.
        let gone: Vec<Item> = self.items.iter().map(|(item, _)| item.clone()).collect();
        for item in gone {
            if !self.nodes[node].runs.contains_key(&item) {
                self.call(node, |member, now| member.stopped(now, &item));
            }
        }
        self.fenced(node);
    }

    /// The node on which an item runs.
    pub fn owner(&self, item: &Item) -> Option<usize> {
        self.nodes.iter().position(|node| node.runs.contains_key(item))
    }

    pub fn is_cut(&self, node: usize) -> bool {
        self.nodes[node].is_cut
    }

    /// Items that run nowhere.
    pub fn unowned(&self) -> Vec<Item> {
        let items = self.items.iter().map(|(item, _)| item);
        items.filter(|item| self.owner(item).is_none()).cloned().collect()
    }
}
