//! What a node does: it carries out what its monitor says, and its guard kills.

use super::{Event, Fate, Mistake, World};
use iotmonitor_core::machines::cluster::{Guarded, Member, MemberOutcome, MemberSettings};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::timing::{LEASE, Timing};
use iotmonitor_core::model::cluster::{Item, SessionId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How late a mistaken monitor takes a part out of the file.
const FORGOTTEN_LATE: Duration = Duration::from_secs(2);

impl World {
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
            MemberOutcome::Start { item, epoch } => {
                self.keep(node, &item, epoch);
                self.start(node, item, epoch);
            }
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
    pub(super) fn fenced(&mut self, node: usize) {
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

    pub(super) fn start(&mut self, node: usize, item: Item, epoch: Revision) {
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

    pub(super) fn end(&mut self, node: usize, item: &Item) {
        self.nodes[node].runs.remove(item);
    }

    /// What the guard does.
    pub(super) fn kill(&mut self, node: usize) {
        let running: Vec<Item> = self.nodes[node].runs.keys().cloned().collect();
        for item in running {
            self.end(node, &item);
            self.tell_stopped(node, &item);
        }
        self.fenced(node);
    }

    /// Tells the machine that an item has ended, after the file has lost it.
    pub(super) fn tell_stopped(&mut self, node: usize, item: &Item) {
        let this = &self.nodes[node];
        if this.monitor.is_none() || this.paused_until.is_some() {
            return;
        }
        if self.mistake == Some(Mistake::ForgetLate) {
            let (process, item) = (this.process, item.clone());
            self.after(FORGOTTEN_LATE, Event::Forgotten { node, process, item });
        } else {
            self.forget(node, item);
        }
        self.call(node, |member, now| member.stopped(now, item));
    }

    /// Writes a part into the file before this node speaks of it.
    fn keep(&mut self, node: usize, item: &Item, epoch: Revision) {
        let this = &mut self.nodes[node];
        let Some(guarded) = this.guard.filter(|_| item.needs_broker()) else { return };
        let parts = match this.kept.take() {
            Some((session, parts)) if session == guarded.session => parts,
            Some(_) | None => BTreeMap::new(),
        };
        let kept = this.kept.insert((guarded.session, parts));
        kept.1.insert(item.clone(), epoch);
    }

    pub(super) fn forget(&mut self, node: usize, item: &Item) {
        if let Some((_, parts)) = &mut self.nodes[node].kept {
            parts.remove(item);
        }
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
            config: None,
        }
    }

    pub(super) fn boot(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.boot += 1;
        this.booted_at = self.now;
        this.is_on = true;
        self.start_monitor(node);
    }

    pub(super) fn start_monitor(&mut self, node: usize) {
        let (settings, items) = (self.settings(node), self.items.clone());
        let member = match self.nodes[node].guard {
            Some(guarded) => {
                for (item, epoch) in self.resumed_parts(node, guarded) {
                    self.nodes[node].runs.insert(item.clone(), epoch);
                    self.compare(node, &item);
                }
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

    /// The parts that go on with a session, if its lease is in force.
    fn resumed_parts(&self, node: usize, guarded: Guarded) -> BTreeMap<Item, Revision> {
        let is_in_force = self.local(node) < guarded.deadline;
        if self.mistake == Some(Mistake::ResumeByPlan) {
            let plan = self.store.contents().plan.as_ref().filter(|_| is_in_force);
            let owners = plan.into_iter().flat_map(|plan| {
                plan.value.owners.iter().map(|(item, owner)| (item, owner, plan.revision))
            });
            let own = owners
                .filter(|(item, owner, _)| item.needs_broker() && owner.session == guarded.session);
            return own.map(|(item, _, revision)| (item.clone(), revision)).collect();
        }
        let any = self.mistake == Some(Mistake::ResumeAnySession);
        let kept = self.nodes[node].kept.as_ref();
        let kept = kept.filter(|(of, _)| is_in_force && (any || *of == guarded.session));
        kept.map_or(BTreeMap::new(), |(_, parts)| parts.clone())
    }

    pub(super) fn continues(&mut self, node: usize) {
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
                self.tell_stopped(node, &item);
            }
        }
        self.fenced(node);
    }
}
