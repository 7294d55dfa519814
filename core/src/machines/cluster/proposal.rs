//! What this node would change of the plan: it ends sessions that are overdue, hands out what
//! has no owner, and gives away what it has stopped. All of that is one transaction.

use super::peers::Peers;
use super::placement::{self, Candidate};
use super::{MemberSettings, RANK_DELAY};
use crate::model::cluster::store::{Compare, Put, Transaction, Versioned};
use crate::model::cluster::{Item, Items, NodeName, Owner, OwnerPlan, SessionId, Stamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is known when a change is considered.
pub struct Situation<'a> {
    pub now: Duration,
    pub settings: &'a MemberSettings,
    pub session: SessionId,
    pub items: &'a Items,
    pub peers: &'a Peers,
    /// Others may be about to use the shared sections of this node too. Agents that no plan has had
    /// wait for them, and are spread then.
    pub is_early: bool,
    /// Where people want an item to be.
    pub orders: &'a BTreeMap<Item, NodeName>,
}

/// Whether the owner keeps an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemWish {
    Stay,
    /// To this node, or away from all.
    Go(Option<NodeName>),
}

/// A change of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// Nodes whose sessions it ends.
    pub evicted: Vec<NodeName>,
    pub plan: OwnerPlan,
}

impl Situation<'_> {
    fn own(&self) -> Candidate<'_> {
        let MemberSettings { name, broker, drains, .. } = self.settings;
        let is_settled = self.peers.is_settled(self.now);
        Candidate { name, broker: *broker, drains: *drains, is_settled, is_alike: true }
    }

    /// The nodes that can have something, with this one as it is given.
    fn candidates<'a>(&'a self, own: Candidate<'a>) -> Vec<Candidate<'a>> {
        self.peers.candidates(self.now, own, self.settings.config)
    }

    #[must_use]
    pub fn is_own(&self, owner: &Owner) -> bool {
        owner.node == self.settings.name && owner.session == self.session
    }

    /// Whether the session of an owner lives. What was read of this node itself may be older than its
    /// session.
    pub fn lives(&self, owner: &Owner) -> bool {
        if owner.node == self.settings.name {
            owner.session == self.session
        } else {
            self.peers.lives(owner)
        }
    }

    /// What this node wants with an item that it has.
    #[must_use]
    pub fn wish(&self, item: &Item) -> ItemWish {
        let Some(allowed) = self.items.allowed(item) else { return ItemWish::Go(None) };
        // What a node already has, it need not start.
        let own = Candidate { is_settled: true, ..self.own() };
        let candidates = self.candidates(own);
        let others: Vec<_> = candidates.iter().copied().filter(|c| c.name != own.name).collect();
        let other = || placement::best(item, allowed, &others).map(|best| best.name.clone());
        if own.drains || !allowed.includes(own.name) {
            return ItemWish::Go(other());
        }
        if !own.takes(item, allowed) {
            return other().map_or(ItemWish::Stay, |other| ItemWish::Go(Some(other)));
        }
        if let Some(ordered) = self.orders.get(item)
            && self.can_move(item, ordered)
        {
            return ItemWish::Go(Some(ordered.clone()));
        }
        match placement::best(item, allowed, &candidates) {
            Some(best) if matches!(item, Item::Shard(_)) && best.name != own.name => {
                ItemWish::Go(Some(best.name.clone()))
            }
            _ => ItemWish::Stay,
        }
    }

    /// Whether this node has the item and the other one can have it.
    #[must_use]
    pub fn can_move(&self, item: &Item, node: &NodeName) -> bool {
        let is_own = self.peers.owner(item).is_some_and(|owner| self.is_own(owner));
        let candidates = self.candidates(self.own());
        is_own
            && *node != self.settings.name
            && self.items.allowed(item).is_some_and(|allowed| {
                candidates.iter().any(|c| c.name == node && c.takes(item, allowed))
            })
    }

    /// Items that no living session has, and that a node could have.
    fn orphans(&self) -> impl Iterator<Item = &Item> {
        let owners = self.peers.plan().map(|plan| &plan.value.owners);
        let candidates = self.candidates(self.own());
        self.items.iter().filter_map(move |(item, allowed)| {
            let owner = owners.and_then(|owners| owners.get(item));
            let is_owned = owner.is_some_and(|owner| self.lives(owner));
            let is_able = || candidates.iter().any(|candidate| candidate.takes(item, allowed));
            (!is_owned && !self.waits(item) && is_able()).then_some(item)
        })
    }

    /// Whether an item is in no plan and is not handed out yet.
    fn waits(&self, item: &Item) -> bool {
        self.is_early && matches!(item, Item::Agent(_)) && self.peers.owner(item).is_none()
    }

    #[must_use]
    pub fn has_orphans(&self) -> bool {
        self.orphans().next().is_some()
    }

    /// When this node acts, if it has nothing of its own to give away.
    #[must_use]
    pub fn due(&self, orphans_since: Option<Duration>) -> Option<Duration> {
        let candidates = self.candidates(self.own());
        let delay =
            |matter: &str| RANK_DELAY * placement::rank(matter, &self.settings.name, &candidates);
        let others = self.peers.due().filter(|(name, _)| **name != self.settings.name);
        let evictions = others.map(|(name, due)| due + delay(name.as_str()));
        let orphans = orphans_since.zip(self.peers.gathered_at()).zip(self.orphans().next());
        let handing =
            orphans.map(|((since, gathered), item)| since.max(gathered) + delay(&item.to_string()));
        evictions.chain(handing).min()
    }

    /// Returns everything that may be changed now, if anything. `replaces` asks for a new plan also
    /// if it has the same owners.
    #[must_use]
    pub fn change(&self, runs: impl Fn(&Item) -> bool, replaces: bool) -> Option<Change> {
        let overdue =
            self.peers.due().filter(|&(name, due)| *name != self.settings.name && self.now >= due);
        let evicted: Vec<NodeName> = overdue.map(|(name, _)| name.clone()).collect();
        let before = self.peers.plan().map(|plan| &plan.value.owners);
        let mut owners = before.cloned().unwrap_or_default();
        owners.retain(|_, owner| self.lives(owner) && !evicted.contains(&owner.node));
        let own: Vec<Item> = owners
            .iter()
            .filter(|(item, owner)| self.is_own(owner) && !runs(item))
            .map(|(item, _)| item.clone())
            .collect();
        for item in own {
            if let ItemWish::Go(to) = self.wish(&item) {
                owners.remove(&item);
                if let Some(owner) = to.and_then(|name| self.owner(&name)) {
                    owners.insert(item, owner);
                }
            }
        }
        let candidates = self.candidates(self.own());
        for (item, allowed) in self.items.iter() {
            if !owners.contains_key(item)
                && !self.waits(item)
                && let Some(best) = placement::best(item, allowed, &candidates)
                && let Some(owner) = self.owner(best.name)
            {
                owners.insert(item.clone(), owner);
            }
        }
        let is_same = before.map_or(owners.is_empty(), |before| *before == owners);
        let number = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        let by = Stamp { session: self.session, number };
        (!is_same || !evicted.is_empty() || replaces)
            .then_some(Change { evicted, plan: OwnerPlan { by, owners } })
    }

    /// The present session of a node.
    fn owner(&self, name: &NodeName) -> Option<Owner> {
        let session = if *name == self.settings.name {
            self.session
        } else {
            self.peers.record(name)?.value.session
        };
        Some(Owner { node: name.clone(), session })
    }
}

impl Change {
    /// Compares everything that the change follows from and puts all of it, so that no time lies
    /// between the end of a session and the new owners.
    #[must_use]
    pub fn transaction(&self, peers: &Peers) -> Transaction {
        let mut compares = vec![Compare::Plan(peers.plan().cloned())];
        let mut puts = vec![Put::Plan(self.plan.clone())];
        for name in &self.evicted {
            let found = peers.record(name).cloned();
            if let Some(Versioned { value, .. }) = &found {
                let mut value = value.clone();
                value.evicted = true;
                puts.push(Put::Node(name.clone(), value));
            }
            compares.push(Compare::Node(name.clone(), found));
        }
        Transaction { compares, puts }
    }
}
