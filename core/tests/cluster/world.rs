//! Nodes with their monitors, guards, clocks and items, and one store, in simulated time.
//!
//! Nothing here is random: whoever drives the world decides what becomes of each request, and which
//! faults happen when.

#[path = "clocks.rs"]
mod clocks;
#[path = "faults.rs"]
mod faults;
#[path = "machine.rs"]
mod machine;
#[path = "requests.rs"]
mod requests;

use crate::store::Store;
use iotmonitor_core::machines::cluster::{Guarded, Member};
use iotmonitor_core::model::cluster::store::{
    Put, RequestNumber, Revision, StoreAnswer, StoreRequest, Transaction,
};
use iotmonitor_core::model::cluster::timing::{LEASE, STOP_BUDGET};
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

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Read,
    Renewal,
    /// Of the plan.
    Change,
}

impl Asks {
    fn of(request: &StoreRequest) -> Self {
        match request {
            StoreRequest::Read => Self::Read,
            StoreRequest::Commit(Transaction { puts, .. }) => {
                let is_change = puts.iter().any(|put| matches!(put, Put::Plan(_)));
                if is_change { Self::Change } else { Self::Renewal }
            }
        }
    }
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
    /// A part is taken out of the file a little later than the node has said that it ended.
    ForgetLate,
    /// A monitor goes on with the parts of the file, of whichever session they were.
    ResumeAnySession,
    /// A monitor goes on with the parts that the plan gives to its session, and knows no file.
    ResumeByPlan,
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
    /// A mistaken monitor takes a part out of the file.
    Forgotten {
        node: usize,
        process: u64,
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
    /// The file below /run, with the parts of a session. They end with the monitor, as agents do not.
    kept: Option<(SessionId, BTreeMap<Item, Revision>)>,
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
            kept: None,
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

    /// The node whose request is the next thing that happens, and what it asks for.
    pub fn asks(&self) -> Option<(usize, Asks)> {
        match self.queue.first() {
            Some((at, Event::Sent { node, request, .. })) if *at <= self.next() => {
                Some((*node, Asks::of(request)))
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
                    self.tell_stopped(node, &item);
                    self.fenced(node);
                }
            }
            Event::Forgotten { node, process, item } => {
                if self.nodes[node].process == process {
                    self.forget(node, &item);
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

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        let place = self.queue.partition_point(|(other, _)| *other <= at);
        self.queue.insert(place, (at, event));
    }

    /// The node on which an item runs.
    pub fn owner(&self, item: &Item) -> Option<usize> {
        self.nodes.iter().position(|node| node.runs.contains_key(item))
    }

    pub fn is_cut(&self, node: usize) -> bool {
        self.nodes[node].is_cut
    }

    /// Nodes without a session.
    pub fn absent(&self) -> Vec<&NodeName> {
        let absent = self.nodes.iter().filter(|node| node.guard.is_none());
        absent.map(|node| &node.name).collect()
    }

    /// Items that run nowhere.
    pub fn unowned(&self) -> Vec<Item> {
        let items = self.items.iter().map(|(item, _)| item);
        items.filter(|item| self.owner(item).is_none()).cloned().collect()
    }
}
