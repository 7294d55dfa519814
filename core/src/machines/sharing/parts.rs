//! The parts of the watching that a node has: the shards of the devices, and the house.
//!
//! A part is spoken of by the node that has it. After an end of the session by the deadline the node
//! goes on speaking, since nothing is known of others then and an alarm that is told twice is better
//! than none; but it restores nothing any more. A part that another node is to have is silent at
//! once, and answered for when the broker has taken what was said before.
//!
//! While the store does not answer, one of the nodes that the broker shows as connected also stands
//! in for those that are not: it speaks of their parts, and restores nothing.

use crate::model::cluster::store::Revision;
use crate::model::cluster::{EndReason, Item, NodeName, SHARDS};
use crate::model::message::Token;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A broker that has not taken the last words of a part by then gets nothing more of them: the
/// sockets have been given up before.
const PATIENCE: Duration = Duration::from_secs(3);

/// All parts.
#[derive(Debug)]
pub struct HeldParts {
    node: NodeName,
    all: BTreeMap<Item, PartState>,
    /// Those that the cluster waits for, until the broker has acknowledged these publications.
    leaving: BTreeMap<Item, LastWords>,
    /// This process has read a plan.
    has_read: bool,
}

#[derive(Debug, Default)]
struct PartState {
    held: Option<Held>,
    /// The node that has it by the plan.
    owner: Option<NodeName>,
    /// An earlier process of this node had it, and no node since.
    is_left: bool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    /// The plan by which it came here. A node that stands in for another one has none.
    epoch: Option<Revision>,
    /// The session by which it came here goes on.
    may_restore: bool,
    /// Its devices have been taken up.
    is_taken_up: bool,
    /// It goes on from an earlier process of this node.
    is_resumed: bool,
}

#[derive(Debug)]
struct LastWords {
    tokens: BTreeSet<Token>,
    due: Duration,
}

/// What follows for the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOutcome {
    /// [`HeldParts::to_take_up`] has something.
    Comes,
    /// This node ceases to speak of it.
    Goes(Item),
    /// The cluster waits until the broker has what was said of it.
    Released(Item),
    /// The cluster waits for nothing of it.
    Stopped(Item),
}

/// A part whose devices are to be taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub part: Item,
    /// The devices were not watched between two processes of this node.
    pub is_resumed: bool,
}

impl HeldParts {
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        let items = (0..SHARDS).map(Item::Shard).chain([Item::House]);
        let all = items.map(|item| (item, PartState::default())).collect();
        Self { node, all, leaving: BTreeMap::new(), has_read: false }
    }

    /// These parts go on from an earlier process.
    pub fn joined(&mut self, runs: BTreeMap<Item, Revision>) -> Vec<PartOutcome> {
        let is_any = !runs.is_empty();
        for (item, epoch) in runs {
            self.hold(&item, epoch, true);
        }
        if is_any { vec![PartOutcome::Comes] } else { Vec::new() }
    }

    /// The cluster gives the part to this node.
    pub fn owned(&mut self, item: &Item, epoch: Revision) -> Vec<PartOutcome> {
        self.hold(item, epoch, false);
        vec![PartOutcome::Comes]
    }

    fn hold(&mut self, item: &Item, epoch: Revision, is_resumed: bool) {
        self.leaving.remove(item);
        let Some(part) = self.all.get_mut(item) else { return };
        let epoch = Some(epoch);
        if part.held.is_some_and(|held| held.epoch == epoch && held.may_restore) {
            return;
        }
        let is_resumed = is_resumed || part.is_left;
        part.is_left = false;
        part.held = Some(Held { epoch, may_restore: true, is_taken_up: false, is_resumed });
        part.owner = Some(self.node.clone());
    }

    /// The part must be silent, so that another node can have it.
    pub fn released(&mut self, item: &Item) -> Vec<PartOutcome> {
        if self.leaving.contains_key(item) {
            return Vec::new();
        }
        match self.all.get_mut(item).and_then(|part| part.held.take()) {
            Some(held) if held.is_taken_up => {
                vec![PartOutcome::Goes(item.clone()), PartOutcome::Released(item.clone())]
            }
            Some(_) | None => vec![PartOutcome::Stopped(item.clone())],
        }
    }

    /// The session has ended for this reason.
    pub fn ended(&mut self, reason: EndReason) -> Vec<PartOutcome> {
        self.leaving.clear();
        let mut outcomes = Vec::new();
        for (item, part) in &mut self.all {
            match &mut part.held {
                Some(held) if reason == EndReason::Deadline && held.is_taken_up => {
                    held.may_restore = false;
                }
                Some(held) => {
                    if held.is_taken_up {
                        outcomes.push(PartOutcome::Goes(item.clone()));
                    }
                    part.held = None;
                }
                None => {}
            }
        }
        outcomes
    }

    /// The nodes that have parts by the plan.
    pub fn owners(&mut self, owners: &BTreeMap<Item, NodeName>) -> Vec<PartOutcome> {
        let mut outcomes = Vec::new();
        let is_first = !std::mem::replace(&mut self.has_read, true);
        for (item, part) in &mut self.all {
            part.owner = owners.get(item).cloned();
            let is_own = part.owner.as_ref() == Some(&self.node);
            let has_come = part.held.is_some_and(|held| held.epoch.is_some());
            part.is_left = is_own && !has_come && (is_first || part.is_left);
            let is_taken = part.owner.as_ref().is_some_and(|owner| *owner != self.node);
            if is_taken && part.held.is_some_and(|held| !held.may_restore) {
                part.held = None;
                outcomes.push(PartOutcome::Goes(item.clone()));
            }
        }
        outcomes
    }

    /// Speaks of the parts of which nobody else does, while the store does not answer. `is_elsewhere`
    /// tells whether the node that has a part by the plan, if that is known, speaks of it.
    pub fn stand_in(
        &mut self,
        is_elsewhere: impl Fn(Option<&NodeName>) -> bool,
    ) -> Vec<PartOutcome> {
        let mut comes = false;
        for part in self.all.values_mut().filter(|part| part.held.is_none()) {
            let owner = part.owner.as_ref().filter(|owner| **owner != self.node);
            if !is_elsewhere(owner) {
                let (may_restore, is_taken_up, is_resumed) = (false, false, false);
                part.held = Some(Held { epoch: None, may_restore, is_taken_up, is_resumed });
                comes = true;
            }
        }
        if comes { vec![PartOutcome::Comes] } else { Vec::new() }
    }

    /// Ceases to stand in for this node, or for all others.
    pub fn returned(&mut self, node: Option<&NodeName>) -> Vec<PartOutcome> {
        let mut outcomes = Vec::new();
        for (item, part) in &mut self.all {
            let owner = part.owner.as_ref().filter(|owner| **owner != self.node);
            let is_back = owner.is_some_and(|owner| node.is_none_or(|node| node == owner));
            if is_back && part.held.is_some_and(|held| held.epoch.is_none()) {
                part.held = None;
                outcomes.push(PartOutcome::Goes(item.clone()));
            }
        }
        outcomes
    }

    /// The parts whose devices have not been taken up yet. They count as taken up from now on.
    pub fn to_take_up(&mut self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (item, part) in &mut self.all {
            if let Some(held) = part.held.as_mut().filter(|held| !held.is_taken_up) {
                held.is_taken_up = true;
                arrivals.push(Arrival { part: item.clone(), is_resumed: held.is_resumed });
            }
        }
        arrivals
    }

    /// Whether a part waits for [`Self::to_take_up`].
    #[must_use]
    pub fn has_arrivals(&self) -> bool {
        self.all.values().any(|part| part.held.is_some_and(|held| !held.is_taken_up))
    }

    /// The last words of a part are those before these publications. Returns when to give up on
    /// them.
    pub fn awaits(&mut self, item: Item, tokens: BTreeSet<Token>, now: Duration) -> Duration {
        let due = now + PATIENCE;
        self.leaving.insert(item, LastWords { tokens, due });
        due
    }

    /// The broker has answered a publication. Returns the parts that are over by that, or nothing
    /// where the publication is none of these.
    pub fn answered(&mut self, token: Token) -> Option<Vec<Item>> {
        let mut all = self.leaving.values_mut();
        if !all.any(|last| last.tokens.remove(&token)) {
            return None;
        }
        Some(self.take_parts(|last| last.tokens.is_empty()))
    }

    /// Returns the parts whose last words the broker has not taken in time.
    pub fn time_passed(&mut self, now: Duration) -> Vec<Item> {
        self.take_parts(|last| last.due <= now)
    }

    fn take_parts(&mut self, is_over: impl Fn(&LastWords) -> bool) -> Vec<Item> {
        let over = self.leaving.iter().filter(|(_, last)| is_over(last));
        let over: Vec<Item> = over.map(|(item, _)| item.clone()).collect();
        for item in &over {
            self.leaving.remove(item);
        }
        over
    }

    /// Whether this node speaks of the part.
    #[must_use]
    pub fn speaks_of(&self, item: &Item) -> bool {
        self.held(item).is_some_and(|held| held.is_taken_up)
    }

    /// Whether this node may restore states of the part's devices.
    #[must_use]
    pub fn may_restore(&self, item: &Item) -> bool {
        self.held(item).is_some_and(|held| held.is_taken_up && held.may_restore)
    }

    /// The revision of the plan that gave the part to this node.
    #[must_use]
    pub fn epoch(&self, item: &Item) -> Option<Revision> {
        self.held(item)?.epoch
    }

    /// The node that has the part, as far as it is known.
    #[must_use]
    pub fn node_of(&self, item: &Item) -> Option<&NodeName> {
        let part = self.all.get(item)?;
        if part.held.is_some() {
            return Some(&self.node);
        }
        part.owner.as_ref().filter(|owner| **owner != self.node)
    }

    fn held(&self, item: &Item) -> Option<Held> {
        self.all.get(item)?.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: Item = Item::Shard(3);

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn owner() -> HeldParts {
        let mut parts = HeldParts::new(node("pi1"));
        assert_eq!(parts.owned(&SHARD, Revision(7)), [PartOutcome::Comes]);
        let arrival = Arrival { part: SHARD, is_resumed: false };
        assert!(parts.has_arrivals() && !parts.speaks_of(&SHARD));
        assert_eq!(parts.to_take_up(), [arrival]);
        assert!(parts.speaks_of(&SHARD) && parts.may_restore(&SHARD) && !parts.has_arrivals());
        parts
    }

    #[test]
    fn after_the_deadline_it_is_spoken_of_and_not_restored_until_another_node_has_it() {
        let mut parts = owner();
        assert_eq!(parts.ended(EndReason::Deadline), []);
        assert!(parts.speaks_of(&SHARD) && !parts.may_restore(&SHARD));
        assert_eq!(parts.owners(&BTreeMap::new()), []);
        assert_eq!(parts.owners(&[(SHARD, node("pi1"))].into()), []);
        let goes = [PartOutcome::Goes(SHARD)];
        assert_eq!(parts.owners(&[(SHARD, node("nas"))].into()), goes);
        assert!(!parts.speaks_of(&SHARD) && parts.node_of(&SHARD) == Some(&node("nas")));
    }

    #[test]
    fn it_stands_in_for_nodes_that_do_not_speak_until_they_return_or_the_plan_is_known() {
        let other = Item::Shard(4);
        let owners: BTreeMap<Item, NodeName> =
            [(SHARD, node("nas")), (other.clone(), node("pi2"))].into();
        let standing_in = || {
            let mut parts = HeldParts::new(node("pi1"));
            parts.owners(&owners);
            let speaks = |owner: Option<&NodeName>| owner.is_none_or(|it| it.as_str() == "pi2");
            assert_eq!(parts.stand_in(speaks), [PartOutcome::Comes]);
            assert_eq!(parts.stand_in(speaks), []);
            assert_eq!(parts.to_take_up().len(), 1);
            assert!(parts.speaks_of(&SHARD) && !parts.may_restore(&SHARD));
            assert_eq!((parts.epoch(&SHARD), parts.speaks_of(&other)), (None, false));
            parts
        };
        let goes = [PartOutcome::Goes(SHARD)];
        let mut parts = standing_in();
        assert_eq!(parts.ended(EndReason::Deadline), []);
        assert_eq!(parts.returned(Some(&node("pi2"))), []);
        assert_eq!(parts.returned(Some(&node("nas"))), goes);
        assert_eq!(standing_in().returned(None), goes);
        assert_eq!(standing_in().owners(&owners), goes);
        let mut parts = standing_in();
        parts.owned(&SHARD, Revision(9));
        assert_eq!(parts.to_take_up().len(), 1, "with its epoch, and to restore");
        assert!(parts.may_restore(&SHARD) && parts.returned(None).is_empty());
    }

    #[test]
    fn in_all_other_cases_it_is_silent_at_once() {
        for reason in [EndReason::Evicted, EndReason::StoreLostWrites] {
            let mut parts = owner();
            assert_eq!(parts.ended(reason), [PartOutcome::Goes(SHARD)]);
            assert!(!parts.speaks_of(&SHARD));
        }
    }

    #[test]
    fn the_cluster_waits_for_the_brokers_answer_and_no_longer_than_three_seconds() {
        for gives_up in [false, true] {
            let mut parts = owner();
            let outcomes = [PartOutcome::Goes(SHARD), PartOutcome::Released(SHARD)];
            assert_eq!(parts.released(&SHARD), outcomes);
            let due = parts.awaits(SHARD, [Token(1), Token(2)].into(), Duration::ZERO);
            assert_eq!(parts.released(&SHARD), [], "it is on its way already");
            assert_eq!((parts.answered(Token(1)), parts.answered(Token(9))), (Some(vec![]), None));
            let over = match gives_up {
                true => parts.time_passed(due),
                false => parts.answered(Token(2)).unwrap(),
            };
            assert_eq!(over, [SHARD]);
            assert_eq!(parts.released(&SHARD), [PartOutcome::Stopped(SHARD)]);
        }
    }

    #[test]
    fn what_was_not_taken_up_leaves_nothing_to_wait_for() {
        let mut parts = HeldParts::new(node("pi1"));
        parts.joined([(SHARD, Revision(7))].into());
        assert_eq!(parts.released(&SHARD), [PartOutcome::Stopped(SHARD)]);
        parts.owned(&SHARD, Revision(9));
        assert_eq!(parts.ended(EndReason::Deadline), [], "and it is not spoken of either");
        assert!(!parts.has_arrivals());
    }

    #[test]
    fn the_same_epoch_again_changes_nothing_and_another_one_is_taken_up() {
        let mut parts = owner();
        parts.owned(&SHARD, Revision(7));
        assert!(!parts.has_arrivals());
        parts.ended(EndReason::Deadline);
        parts.owned(&SHARD, Revision(9));
        assert_eq!(parts.to_take_up().len(), 1);
        assert_eq!(parts.epoch(&SHARD), Some(Revision(9)));
    }
}
