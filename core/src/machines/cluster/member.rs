//! The member: turns answers and the time into renewals, reads, changes of the plan, and orders to
//! start and stop.

use super::lease::{Lease, OwnRecord, Renewed};
use super::peers::Peers;
use super::proposal::{Change, ItemWish, Situation};
use super::roster::Presence;
use super::{ALIKE_WITHIN, Guarded, MemberOutcome, MemberSettings, READ_EVERY, TIMEOUT};
use crate::model::cluster::EndReason;
use crate::model::cluster::store::{
    RequestNumber, Revision, StoreAnswer, StoreContents, StoreRequest,
};
use crate::model::cluster::view::{ClusterView, ItemView, StoreView};
use crate::model::cluster::{Allowed, Item, Items, NodeName, SessionId};
use std::collections::BTreeMap;
use std::time::Duration;

/// This node in the cluster. All times are of its own boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    settings: MemberSettings,
    items: Items,
    orders: BTreeMap<Item, NodeName>,
    lease: Lease,
    peers: Peers,
    runs: BTreeMap<Item, Run>,
    /// Items that have had no living owner since then.
    orphans_since: Option<Duration>,
    /// Until then, others may be about to use the shared sections that this node uses.
    early_until: Duration,
    renewing: Option<RequestNumber>,
    reading: Option<Sent<()>>,
    changing: Option<Sent<Change>>,
    /// The newest plan that a change of this session has compared. While that plan holds, the change
    /// may be committed, however late it arrives.
    compared: Option<Revision>,
    /// An earlier process of the session may have sent changes, and nothing has been read since.
    is_resumed: bool,
    next_read: Duration,
    /// Nothing is changed before what was read after this time.
    changes_after: Option<Duration>,
    requests: u64,
    name_is_taken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Run {
    epoch: Revision,
    stops: bool,
}

/// A request that has no answer yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sent<T> {
    number: RequestNumber,
    at: Duration,
    what: T,
}

impl Member {
    /// Joins with a new session, while nothing shared runs.
    #[must_use]
    pub fn new(settings: MemberSettings, items: Items, session: SessionId) -> Self {
        Self::with(settings, items, Lease::new(session))
    }

    /// Continues a session of an earlier process, of which the guard and these items remain.
    #[must_use]
    pub fn resumed(
        settings: MemberSettings,
        items: Items,
        guarded: Guarded,
        runs: impl IntoIterator<Item = (Item, Revision)>,
    ) -> Self {
        let runs = runs.into_iter().map(|(item, epoch)| (item, Run { epoch, stops: false }));
        let lease = Lease::resumed(guarded);
        Self { runs: runs.collect(), is_resumed: true, ..Self::with(settings, items, lease) }
    }

    fn with(settings: MemberSettings, items: Items, lease: Lease) -> Self {
        Self {
            settings,
            items,
            orders: BTreeMap::new(),
            lease,
            peers: Peers::default(),
            runs: BTreeMap::new(),
            orphans_since: None,
            early_until: Duration::ZERO,
            renewing: None,
            reading: None,
            changing: None,
            compared: None,
            is_resumed: false,
            next_read: Duration::ZERO,
            changes_after: None,
            requests: 0,
            name_is_taken: false,
        }
    }

    /// Takes an answer of the store. An answer to a request that was given up is ignored.
    pub fn answered(
        &mut self,
        now: Duration,
        number: RequestNumber,
        answer: StoreAnswer,
    ) -> Vec<MemberOutcome> {
        let mut out = self.expired(now);
        if self.renewing == Some(number) {
            self.renewing = None;
            match answer {
                StoreAnswer::Committed(revision) => self.renewed(now, revision, &mut out),
                StoreAnswer::Refused | StoreAnswer::Read(_) => {
                    self.lease.refused(now);
                    self.next_read = now;
                }
            }
        } else if let Some(sent) = self.reading.take_if(|sent| sent.number == number) {
            if let StoreAnswer::Read(contents) = answer {
                self.read(now, sent.at, contents, &mut out);
            }
        } else if let Some(sent) = self.changing.take_if(|sent| sent.number == number) {
            match answer {
                StoreAnswer::Committed(revision) => {
                    let Change { evicted, plan } = sent.what;
                    self.peers.changed(now, revision, &evicted, plan);
                }
                StoreAnswer::Refused | StoreAnswer::Read(_) => self.reads_before_changes(now),
            }
        }
        self.advance(now, &mut out);
        out
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Duration) -> Vec<MemberOutcome> {
        let mut out = self.expired(now);
        self.advance(now, &mut out);
        out
    }

    /// Notes that an item has ended, after [`MemberOutcome::Stop`] or otherwise.
    pub fn stopped(&mut self, now: Duration, item: &Item) -> Vec<MemberOutcome> {
        self.runs.remove(item);
        self.time_passed(now)
    }

    /// Notes that everything shared has ended after [`MemberOutcome::Fence`]. Begins this session.
    pub fn fenced(&mut self, now: Duration, session: SessionId) -> Vec<MemberOutcome> {
        if self.lease.has_ended() {
            self.lease = Lease::new(session);
            // What the new session has is in plans that nothing sent so far compares.
            self.compared = None;
            self.next_read = now;
        }
        self.time_passed(now)
    }

    /// Ends the session, since the guard has ended and what was bound to it ends too.
    pub fn guard_ended(&mut self, now: Duration) -> Vec<MemberOutcome> {
        let mut out = self.expired(now);
        if !self.lease.has_ended() {
            self.lease.end();
            out.extend(self.ended(EndReason::GuardEnded));
        }
        self.advance(now, &mut out);
        out
    }

    /// Renews at once, before this process ends and another one continues the session.
    pub fn renew_now(&mut self, now: Duration) -> Vec<MemberOutcome> {
        self.lease.hasten(now);
        self.time_passed(now)
    }

    /// Takes a new list of what is shared.
    pub fn set_items(&mut self, now: Duration, items: Items) -> Vec<MemberOutcome> {
        self.items = items;
        self.time_passed(now)
    }

    /// Gives away everything and takes nothing, or takes part again.
    pub fn set_drains(&mut self, now: Duration, drains: bool) -> Vec<MemberOutcome> {
        self.settings.drains = drains;
        self.lease.hasten(now);
        self.time_passed(now)
    }

    /// Notes whether the broker can be reached.
    pub fn set_broker(&mut self, now: Duration, broker: bool) -> Vec<MemberOutcome> {
        self.settings.broker = broker;
        self.lease.hasten(now);
        self.time_passed(now)
    }

    /// Notes the version of the shared sections that this node uses.
    pub fn set_config(&mut self, now: Duration, number: Option<u64>) -> Vec<MemberOutcome> {
        if self.settings.config != number {
            self.settings.config = number;
            self.early_until = now + ALIKE_WITHIN;
            self.lease.hasten(now);
        }
        self.time_passed(now)
    }

    /// Gives an item of this node to another one, if that can have it.
    pub fn move_to(&mut self, now: Duration, item: Item, node: NodeName) -> Vec<MemberOutcome> {
        self.orders.insert(item, node);
        self.time_passed(now)
    }

    /// The other nodes, and whether they take part.
    pub fn others(&self) -> impl Iterator<Item = (&NodeName, Presence)> {
        self.peers.others(&self.settings.name)
    }

    /// The nodes whose living sessions have something.
    pub fn owners(&self) -> impl Iterator<Item = (&Item, &NodeName)> {
        let situation = self.situation(Duration::ZERO);
        let living = self.peers.owners().filter(move |(_, owner)| situation.lives(owner));
        living.map(|(item, owner)| (item, &owner.node))
    }

    /// Whether the session has nothing, and gets nothing if it drains.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.own_items().next().is_none()
    }

    /// The node that has an item, as the plan says.
    #[must_use]
    pub fn owner(&self, item: &Item) -> Option<&NodeName> {
        self.peers.owner(item).map(|owner| &owner.node)
    }

    /// This node.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.settings.name
    }

    /// What is known of the nodes and of who has what. Whether the store answers is known to whoever
    /// asks it.
    #[must_use]
    pub fn view(&self, now: Duration, etcd: StoreView) -> ClusterView {
        let items = self.items.iter().map(|(item, allowed)| {
            let node = self.owner(item).cloned();
            let nodes = match allowed {
                Allowed::Everywhere => Vec::new(),
                Allowed::On(nodes) => nodes.clone(),
            };
            let epoch = self.runs.get(item).map(|run| run.epoch);
            (item.clone(), ItemView { node, nodes, epoch })
        });
        ClusterView {
            node: self.settings.name.clone(),
            epoch: self.peers.plan().map(|plan| plan.revision),
            etcd,
            nodes: self.peers.views(now),
            items: items.collect(),
        }
    }

    /// When [`time_passed`](Self::time_passed) has something to do.
    #[must_use]
    pub fn next_deadline(&self, now: Duration) -> Duration {
        let read = self.reading.as_ref().map_or(self.next_read, |sent| sent.at + TIMEOUT);
        let mut due = read;
        let mut also = |at: Option<Duration>| due = at.map_or(due, |at| due.min(at));
        also(self.lease.deadline());
        also(self.lease.due());
        also(self.changing.as_ref().map(|sent| sent.at + TIMEOUT));
        if self.may_change(now) {
            also(self.situation(now).due(self.orphans_since));
        }
        also(self.peers.settles_at().filter(|&at| at > now));
        due
    }

    /// Ends the session if its deadline has passed, before anything else is looked at.
    fn expired(&mut self, now: Duration) -> Vec<MemberOutcome> {
        if self.lease.expire(now) { self.ended(EndReason::Deadline) } else { Vec::new() }
    }

    fn ended(&mut self, reason: EndReason) -> Vec<MemberOutcome> {
        self.runs.clear();
        self.renewing = None;
        vec![MemberOutcome::Fence(reason)]
    }

    fn renewed(&mut self, now: Duration, revision: Revision, out: &mut Vec<MemberOutcome>) {
        let Some(Renewed { guarded, plan }) = self.lease.committed(now, revision) else { return };
        out.push(MemberOutcome::Guard(guarded));
        let current = self.peers.plan().map(|plan| plan.revision);
        let is_settled = self.peers.is_settled(now);
        let holds = plan == current && is_settled && !self.plan_may_be_replaced();
        let Some(epoch) = plan.filter(|_| holds) else { return };
        for item in self.waiting(now) {
            self.runs.insert(item.clone(), Run { epoch, stops: false });
            out.push(MemberOutcome::Start { item, epoch });
        }
    }

    fn read(
        &mut self,
        now: Duration,
        sent: Duration,
        contents: StoreContents,
        out: &mut Vec<MemberOutcome>,
    ) {
        if !self.peers.read(now, sent, contents) {
            self.next_read = now;
            return;
        }
        if std::mem::take(&mut self.is_resumed) {
            self.compared = self.peers.plan().map(|plan| plan.revision);
        }
        if self.changes_after.is_some_and(|after| sent >= after) {
            self.changes_after = None;
        }
        let name = &self.settings.name;
        let is_overdue = self.peers.is_overdue(now, name);
        let own = self.peers.record(name);
        match self.lease.read(now, sent, own, &self.settings.machine, is_overdue) {
            OwnRecord::Fine => self.name_is_taken = false,
            OwnRecord::NameTaken if self.name_is_taken => {}
            OwnRecord::NameTaken => {
                self.name_is_taken = true;
                out.push(MemberOutcome::NameTaken);
            }
            OwnRecord::Ended(reason) => out.extend(self.ended(reason)),
        }
    }

    fn advance(&mut self, now: Duration, out: &mut Vec<MemberOutcome>) {
        if self.lease.is_held(now) {
            self.stop_what_goes(now, out);
        }
        self.send_renewal(now, out);
        self.send_change(now, out);
        self.send_read(now, out);
    }

    /// Stops what the plan does not give to this node, and what is to go elsewhere.
    fn stop_what_goes(&mut self, now: Duration, out: &mut Vec<MemberOutcome>) {
        if self.peers.plan().is_none() && self.lease.needs_read() {
            // A session that was resumed has not read the plan.
            return;
        }
        let situation = self.situation(now);
        let goes = |item: &Item| {
            let owner = self.peers.owner(item);
            !owner.is_some_and(|owner| situation.is_own(owner))
                || situation.wish(item) != ItemWish::Stay
        };
        let running = self.runs.iter().filter(|(_, run)| !run.stops);
        let going: Vec<Item> =
            running.filter(|(item, _)| goes(item)).map(|(item, _)| item.clone()).collect();
        for item in going {
            if let Some(run) = self.runs.get_mut(&item) {
                run.stops = true;
            }
            out.push(MemberOutcome::Stop(item));
        }
        let has_orphans = self.situation(now).has_orphans();
        self.orphans_since = if has_orphans { self.orphans_since.or(Some(now)) } else { None };
        let situation = self.situation(now);
        let orders = self.orders.iter().filter(|(item, node)| situation.can_move(item, node));
        self.orders = orders.map(|(item, node)| (item.clone(), node.clone())).collect();
    }

    fn send_renewal(&mut self, now: Duration, out: &mut Vec<MemberOutcome>) {
        let starts = self.starts_something(now) && !self.plan_may_be_replaced();
        let plan = self.peers.plan().filter(|_| starts);
        let Some(transaction) = self.lease.renew(now, &self.settings, plan) else { return };
        let number = self.number();
        self.renewing = Some(number);
        out.push(MemberOutcome::Send { number, request: StoreRequest::Commit(transaction) });
    }

    fn send_change(&mut self, now: Duration, out: &mut Vec<MemberOutcome>) {
        if self.changing.take_if(|sent| now >= sent.at + TIMEOUT).is_some() {
            // It may have been committed.
            self.reads_before_changes(now);
        }
        if !self.may_change(now) {
            return;
        }
        let situation = self.situation(now);
        let is_due = situation.due(self.orphans_since).is_some_and(|due| now >= due);
        let gives = || {
            let mut own = self.own_items().filter(|item| !self.runs.contains_key(item));
            own.any(|item| situation.wish(item) != ItemWish::Stay)
        };
        let replaces = self.plan_may_be_replaced() && self.starts_something(now);
        if !is_due && !gives() && !replaces {
            return;
        }
        let runs = |item: &Item| self.runs.contains_key(item);
        let Some(change) = situation.change(runs, replaces) else { return };
        let transaction = change.transaction(&self.peers);
        self.compared = self.compared.max(self.peers.plan().map(|plan| plan.revision));
        let number = self.number();
        self.changing = Some(Sent { number, at: now, what: change });
        out.push(MemberOutcome::Send { number, request: StoreRequest::Commit(transaction) });
    }

    fn send_read(&mut self, now: Duration, out: &mut Vec<MemberOutcome>) {
        self.reading.take_if(|sent| now >= sent.at + TIMEOUT);
        if self.reading.is_some() || now < self.next_read {
            return;
        }
        let number = self.number();
        self.reading = Some(Sent { number, at: now, what: () });
        self.next_read = now + READ_EVERY;
        out.push(MemberOutcome::Send { number, request: StoreRequest::Read });
    }

    fn reads_before_changes(&mut self, now: Duration) {
        self.changes_after = Some(now);
        self.next_read = now;
    }

    fn may_change(&self, now: Duration) -> bool {
        self.lease.is_held(now) && self.changing.is_none() && self.changes_after.is_none()
    }

    /// What the plan gives to this session.
    fn own_items(&self) -> impl Iterator<Item = &Item> {
        let own = (&self.settings.name, self.lease.session());
        let owned = self.peers.owners();
        owned.filter(move |(_, owner)| (&owner.node, owner.session) == own).map(|(item, _)| item)
    }

    /// Whether a change that this node has sent may still replace the plan. It may take away what
    /// the plan gives to this node, so that nothing is started before the plan has been replaced.
    fn plan_may_be_replaced(&self) -> bool {
        self.peers.plan().map(|plan| plan.revision) <= self.compared
    }

    /// Whether something is to be started, and the store has answered for long enough.
    fn starts_something(&self, now: Duration) -> bool {
        self.lease.is_held(now) && self.peers.is_settled(now) && !self.waiting(now).is_empty()
    }

    /// What is to be started.
    fn waiting(&self, now: Duration) -> Vec<Item> {
        let situation = self.situation(now);
        let own = self.own_items().filter(|item| !self.runs.contains_key(item));
        own.filter(|item| situation.wish(item) == ItemWish::Stay).cloned().collect()
    }

    fn situation(&self, now: Duration) -> Situation<'_> {
        Situation {
            now,
            settings: &self.settings,
            session: self.lease.session(),
            items: &self.items,
            peers: &self.peers,
            is_early: now < self.early_until && self.peers.differ(now, &self.settings),
            orders: &self.orders,
        }
    }

    fn number(&mut self) -> RequestNumber {
        self.requests += 1;
        RequestNumber(self.requests)
    }
}
