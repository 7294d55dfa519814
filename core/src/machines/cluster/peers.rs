//! What this node has seen of the others and of the plan, and for how long by its own clock.

use super::MemberSettings;
use super::placement::Candidate;
use super::roster::Presence;
use crate::model::cluster::store::{Revision, StoreContents, Versioned};
use crate::model::cluster::view::{NodeState, NodeView};
use crate::model::cluster::{Item, NodeName, NodeRecord, Owner, OwnerPlan};
use std::collections::BTreeMap;
use std::time::Duration;

/// A gap between the answers of the store in which it may have lost writes. It is longer than the
/// election of a leader. A store of which the majority has failed takes longer to come back.
const GAP: Duration = Duration::from_millis(4_500);

/// After such a gap, owners by a plan that is lost end within this time: their renewals fail, or
/// do not arrive.
pub const SETTLED: Duration = Duration::from_secs(8);

/// A node counts as settled a little later than it settles, since it was seen before it began.
const SETTLED_ELSEWHERE: Duration = Duration::from_secs(10);

/// What has no owner is not handed out before this time after the start of this node. If all nodes
/// start, the first one does not get everything.
const TOGETHER: Duration = Duration::from_secs(3);

/// What was read, and since when it has been so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Peers {
    nodes: BTreeMap<NodeName, Peer>,
    plan: Option<Versioned<OwnerPlan>>,
    /// When an own change of the plan was confirmed. Earlier reads may not contain it.
    changed_at: Duration,
    /// When the last read that was answered was sent.
    read_sent: Option<Duration>,
    /// Since when the store has answered without a gap.
    steady_since: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Peer {
    found: Versioned<NodeRecord>,
    /// When this record was first seen, which is after it was committed.
    record_since: Duration,
    session_since: Duration,
}

impl Peer {
    /// When others may end the session.
    fn due(&self) -> Duration {
        self.record_since + self.found.value.evict_after
    }
}

impl Peers {
    /// Takes the answer to a read. Returns whether it is current: what was read before a change of
    /// this node is left out, since it may show sessions as living that the change has ended.
    pub fn read(&mut self, now: Duration, sent: Duration, contents: StoreContents) -> bool {
        if self.read_sent.is_none_or(|last| now.saturating_sub(last) > GAP) {
            self.steady_since = Some(now);
        }
        self.read_sent = Some(sent);
        if sent < self.changed_at {
            return false;
        }
        let mut before = std::mem::take(&mut self.nodes);
        for (name, found) in contents.nodes {
            let former = before.remove(&name);
            let session = found.value.session;
            let same = former.as_ref().filter(|peer| peer.found.value.session == session);
            let peer = Peer {
                session_since: same.map_or(now, |peer| peer.session_since),
                record_since: same
                    .filter(|peer| peer.found == found)
                    .map_or(now, |peer| peer.record_since),
                found,
            };
            self.nodes.insert(name, peer);
        }
        self.plan = contents.plan;
        true
    }

    /// Takes in what this node has committed itself, unless a later plan has been read meanwhile.
    pub fn changed(
        &mut self,
        now: Duration,
        revision: Revision,
        evicted: &[NodeName],
        plan: OwnerPlan,
    ) {
        if self.plan.as_ref().is_some_and(|plan| plan.revision >= revision) {
            return;
        }
        for name in evicted {
            if let Some(peer) = self.nodes.get_mut(name) {
                peer.found.value.evicted = true;
                peer.found.revision = revision;
            }
        }
        self.plan = Some(Versioned { revision, value: plan });
        self.changed_at = now;
    }

    #[must_use]
    pub fn plan(&self) -> Option<&Versioned<OwnerPlan>> {
        self.plan.as_ref()
    }

    #[must_use]
    pub fn owner(&self, item: &Item) -> Option<&Owner> {
        self.plan.as_ref()?.value.owners.get(item)
    }

    /// The owners by the plan.
    pub fn owners(&self) -> impl Iterator<Item = (&Item, &Owner)> {
        self.plan.iter().flat_map(|plan| &plan.value.owners)
    }

    #[must_use]
    pub fn record(&self, name: &NodeName) -> Option<&Versioned<NodeRecord>> {
        self.nodes.get(name).map(|peer| &peer.found)
    }

    /// The other nodes, and whether they take part.
    pub fn others(&self, own: &NodeName) -> impl Iterator<Item = (&NodeName, Presence)> {
        let others = self.nodes.iter().filter(move |(name, _)| *name != own);
        others.map(|(name, peer)| {
            let presence = match &peer.found.value {
                NodeRecord { drains: true, .. } => Presence::Leaves,
                NodeRecord { evicted: true, .. } => Presence::Lost,
                NodeRecord { .. } => Presence::There,
            };
            (name, presence)
        })
    }

    /// All nodes that have ever taken part, for people.
    #[must_use]
    pub fn views(&self, now: Duration) -> BTreeMap<NodeName, NodeView> {
        let view = |peer: &Peer| {
            let NodeRecord { session, evict_after, evicted, broker, drains, config, .. } =
                peer.found.value;
            let state = match evicted {
                true => NodeState::Lost,
                false if now >= peer.due() => NodeState::Late,
                false => NodeState::Alive,
            };
            let renewed = now.saturating_sub(peer.record_since);
            let failover_after = evict_after;
            NodeView { session, state, renewed, failover_after, broker, drains, config }
        };
        self.nodes.iter().map(|(name, peer)| (name.clone(), view(peer))).collect()
    }

    /// Whether others may end the session of this node.
    #[must_use]
    pub fn is_overdue(&self, now: Duration, name: &NodeName) -> bool {
        self.nodes.get(name).is_some_and(|peer| now >= peer.due())
    }

    /// Nodes whose sessions have not been ended, and when others may end them.
    pub fn due(&self) -> impl Iterator<Item = (&NodeName, Duration)> {
        let living = self.nodes.iter().filter(|(_, peer)| !peer.found.value.evicted);
        living.map(|(name, peer)| (name, peer.due()))
    }

    /// Whether the session is the present one of the node, and no node has ended it.
    #[must_use]
    pub fn lives(&self, owner: &Owner) -> bool {
        self.record(&owner.node)
            .is_some_and(|Versioned { value, .. }| value.session == owner.session && !value.evicted)
    }

    /// The nodes that can have something. For itself, a node knows better. `config` is the version of
    /// the shared sections that it uses.
    #[must_use]
    pub fn candidates<'a>(
        &'a self,
        now: Duration,
        own: Candidate<'a>,
        config: Option<u64>,
    ) -> Vec<Candidate<'a>> {
        let others = self.living(now, own.name).map(|(name, peer)| Candidate {
            name,
            broker: peer.found.value.broker,
            drains: peer.found.value.drains,
            is_alike: peer.found.value.config == config,
            is_settled: now >= peer.session_since + SETTLED_ELSEWHERE
                || own.is_settled && self.gathered_at().is_some_and(|at| peer.session_since <= at),
        });
        others.chain([own]).collect()
    }

    /// Whether another node is there that does not use the shared sections of this one.
    #[must_use]
    pub fn differ(&self, now: Duration, own: &MemberSettings) -> bool {
        self.living(now, &own.name).any(|(_, peer)| peer.found.value.config != own.config)
    }

    /// The other nodes whose sessions have not ended, and may not be ended yet.
    fn living<'a>(
        &'a self,
        now: Duration,
        own: &'a NodeName,
    ) -> impl Iterator<Item = (&'a NodeName, &'a Peer)> {
        let others = self.nodes.iter().filter(move |(name, _)| *name != own);
        others.filter(move |(_, peer)| !peer.found.value.evicted && now < peer.due())
    }

    /// Whether the store has answered for so long that whatever was started by a plan that it has
    /// lost since has ended.
    #[must_use]
    pub fn is_settled(&self, now: Duration) -> bool {
        let answers = self.read_sent.is_some_and(|last| now.saturating_sub(last) <= GAP);
        answers && self.settles_at().is_some_and(|at| now >= at)
    }

    /// When those that started together with this node are known.
    #[must_use]
    pub fn gathered_at(&self) -> Option<Duration> {
        self.steady_since.map(|since| since + TOGETHER)
    }

    /// When this node has settled, if the store goes on answering.
    #[must_use]
    pub fn settles_at(&self) -> Option<Duration> {
        self.steady_since.map(|since| since + SETTLED)
    }
}
