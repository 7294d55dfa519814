//! The agents of a node in a cluster: which of them may run here, and what the cluster waits for.
//!
//! A shared agent is here from the moment at which the cluster gives it to this node until its unit
//! has ended. The cluster learns of the end only then, because another node starts the agent next.
//! An agent that is pinned to a node takes no part in this: it is here or elsewhere for good.

pub mod parts;

use crate::model::cluster::sharing::{
    ClusterReply, ClusterSpec, Placement, StandbyMode, Tenure, WhenCut,
};
use crate::model::cluster::store::Revision;
use crate::model::cluster::timing::LEASE;
use crate::model::cluster::{EndReason, Item, NodeName};
use crate::model::device_name::DeviceName;
use crate::model::unit_name::UnitName;
use parts::HeldParts;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What this node has, and waits for.
#[derive(Debug)]
pub struct Sharing {
    node: NodeName,
    agents: BTreeMap<DeviceName, Shared>,
    /// It is known what goes on from an earlier process.
    has_joined: bool,
    /// The session has ended, and something of it may still run.
    is_fencing: bool,
    /// Agents that have left the configuration while they were here.
    parting: BTreeSet<DeviceName>,
    /// The same, by their units, which are being stopped.
    departed: BTreeMap<UnitName, DeviceName>,
    cut: Option<Cut>,
    parts: HeldParts,
    standby: StandbyMode,
}

#[derive(Debug)]
struct Shared {
    placement: Placement,
    stage: Stage,
    /// The node that has it by the plan.
    owner: Option<NodeName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Elsewhere,
    Here(Revision),
    /// The session by which it came here has ended, and it goes on.
    Kept(Revision),
    /// It is being stopped.
    Leaving,
}

/// The store does not answer.
#[derive(Debug)]
struct Cut {
    reason: String,
    /// When it has lasted, on monotonic time.
    due: Duration,
    is_reported: bool,
}

/// Where an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this node, by this right if several nodes share it.
    Here(Option<Tenure>),
    Elsewhere,
}

/// One thing that follows, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharingOutcome {
    /// [`Sharing::place`] or [`Sharing::node_of`] may say something else of this agent.
    Placed(DeviceName),
    /// This node has it in place of that one.
    Moved { agent: DeviceName, from: NodeName },
    /// Answer the cluster.
    Reply(ClusterReply),
}

impl Sharing {
    #[must_use]
    pub fn new(spec: ClusterSpec) -> Self {
        let agents = spec.agents.into_iter();
        Self {
            standby: spec.standby,
            parts: HeldParts::new(spec.node.clone()),
            node: spec.node,
            agents: agents.map(|(name, placement)| (name, Shared::new(placement))).collect(),
            has_joined: false,
            is_fencing: false,
            parting: BTreeSet::new(),
            departed: BTreeMap::new(),
            cut: None,
        }
    }

    /// Takes another configuration. What has left it is to be named to [`Self::departs`] next.
    pub fn reconfigured(&mut self, spec: ClusterSpec) {
        self.standby = spec.standby;
        let mut before = std::mem::take(&mut self.agents);
        for (name, placement) in spec.agents {
            let mut shared = Shared::new(placement);
            match (before.remove(&name), shared.placement.allowed.pinned_to()) {
                (Some(before), None) => {
                    (shared.stage, shared.owner) = (before.stage, before.owner);
                }
                (Some(before), Some(node)) if *node != self.node && before.runs() => {
                    shared.stage = Stage::Leaving;
                }
                (Some(_) | None, _) => {}
            }
            self.agents.insert(name, shared);
        }
        let gone = before.into_iter().filter(|(_, shared)| shared.stage != Stage::Elsewhere);
        self.parting = gone.map(|(name, _)| name).collect();
    }

    /// Notes that the unit of an agent that has left the configuration is being stopped.
    pub fn departs(&mut self, name: &DeviceName, unit: &UnitName) {
        if self.parting.remove(name) {
            self.departed.insert(unit.clone(), name.clone());
        }
    }

    /// Whether it is known what goes on from an earlier process. Nothing may be done to units before.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// Whether the session has ended, and something of it may still run.
    #[must_use]
    pub fn is_fencing(&self) -> bool {
        self.is_fencing
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Where the agent runs. One that the cluster does not know runs here.
    #[must_use]
    pub fn place(&self, name: &DeviceName) -> Place {
        let Some(shared) = self.agents.get(name) else { return Place::Here(None) };
        if let Some(node) = shared.placement.allowed.pinned_to() {
            return if *node == self.node { Place::Here(None) } else { Place::Elsewhere };
        }
        let when_cut = shared.placement.when_cut;
        match shared.stage {
            Stage::Here(epoch) | Stage::Kept(epoch) => {
                Place::Here(Some(Tenure { epoch, when_cut }))
            }
            Stage::Elsewhere | Stage::Leaving => Place::Elsewhere,
        }
    }

    /// Whether this node hears no contacts of the devices of which others speak.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.standby == StandbyMode::Cold
    }

    /// The parts of the watching.
    #[must_use]
    pub fn parts(&self) -> &HeldParts {
        &self.parts
    }

    pub fn parts_mut(&mut self) -> &mut HeldParts {
        &mut self.parts
    }

    /// Whether this node may restore the states of what belongs to an item. What goes on without a
    /// session may not.
    #[must_use]
    pub fn may_restore(&self, item: &Item) -> bool {
        let Item::Agent(name) = item else { return self.parts.may_restore(item) };
        let Some(shared) = self.agents.get(name) else { return true };
        match shared.placement.allowed.pinned_to() {
            Some(node) => *node == self.node,
            None => matches!(shared.stage, Stage::Here(_)),
        }
    }

    /// The revision of the plan by which this node has an item.
    #[must_use]
    pub fn epoch(&self, item: &Item) -> Option<Revision> {
        let Item::Agent(name) = item else { return self.parts.epoch(item) };
        match self.agents.get(name)?.stage {
            Stage::Here(epoch) | Stage::Kept(epoch) => Some(epoch),
            Stage::Elsewhere | Stage::Leaving => None,
        }
    }

    /// The node that has the item, as far as it is known.
    #[must_use]
    pub fn node_of(&self, item: &Item) -> Option<&NodeName> {
        let Item::Agent(name) = item else { return self.parts.node_of(item) };
        let shared = self.agents.get(name)?;
        match shared.stage {
            Stage::Here(_) | Stage::Kept(_) => Some(&self.node),
            Stage::Elsewhere | Stage::Leaving => {
                let owner = shared.owner.as_ref().filter(|owner| **owner != self.node);
                shared.placement.allowed.pinned_to().or(owner)
            }
        }
    }

    /// This node takes part, and these agents go on from an earlier process.
    pub fn joined(&mut self, runs: BTreeMap<DeviceName, Revision>) -> Vec<SharingOutcome> {
        self.has_joined = true;
        let mut outcomes = Vec::new();
        for (name, epoch) in runs {
            match self.agents.get_mut(&name).filter(|shared| !shared.is_pinned()) {
                Some(shared) => {
                    shared.stage = Stage::Here(epoch);
                    outcomes.push(SharingOutcome::Placed(name));
                }
                // It has left the configuration while nothing ran that could have read that.
                None => {
                    self.parting.insert(name);
                }
            }
        }
        outcomes
    }

    /// The agents that have left the configuration, and whose units are not known yet.
    pub fn parting(&self) -> impl Iterator<Item = &DeviceName> {
        self.parting.iter()
    }

    /// The cluster gives the agent to this node.
    pub fn owned(&mut self, name: DeviceName, epoch: Revision) -> Vec<SharingOutcome> {
        let shared = self.agents.get_mut(&name).filter(|shared| !shared.is_pinned());
        let Some(shared) = shared else { return Vec::new() };
        shared.stage = Stage::Here(epoch);
        let before = shared.owner.replace(self.node.clone());
        let from = before.filter(|before| *before != self.node);
        let moved = from.map(|from| SharingOutcome::Moved { agent: name.clone(), from });
        [SharingOutcome::Placed(name)].into_iter().chain(moved).collect()
    }

    /// The agent must stop, so that another node can have it.
    pub fn released(&mut self, name: DeviceName) -> Vec<SharingOutcome> {
        let is_going = |name: &DeviceName| {
            self.parting.contains(name) || self.departed.values().any(|other| other == name)
        };
        match self.agents.get_mut(&name) {
            Some(shared) if shared.runs() => {
                shared.stage = Stage::Leaving;
                vec![SharingOutcome::Placed(name)]
            }
            Some(Shared { stage: Stage::Leaving, .. }) => Vec::new(),
            None if is_going(&name) => Vec::new(),
            Some(_) | None => vec![SharingOutcome::Reply(stopped(name))],
        }
    }

    /// The session has ended for this reason.
    pub fn ended(&mut self, reason: EndReason) -> Vec<SharingOutcome> {
        self.is_fencing = true;
        let mut outcomes = Vec::new();
        for (name, shared) in &mut self.agents {
            let keeps = shared.placement.when_cut == WhenCut::Keep;
            shared.stage = match shared.stage {
                // Nothing is known of other nodes. In all other cases one of them has it, or will.
                Stage::Here(epoch) | Stage::Kept(epoch)
                    if keeps && reason == EndReason::Deadline =>
                {
                    Stage::Kept(epoch)
                }
                Stage::Here(_) | Stage::Kept(_) => {
                    outcomes.push(SharingOutcome::Placed(name.clone()));
                    Stage::Leaving
                }
                stage @ (Stage::Elsewhere | Stage::Leaving) => stage,
            };
        }
        outcomes.extend(self.fence_reply().map(SharingOutcome::Reply));
        outcomes
    }

    /// The nodes that have agents by the plan.
    pub fn owners(&mut self, mut owners: BTreeMap<DeviceName, NodeName>) -> Vec<SharingOutcome> {
        let mut outcomes = Vec::new();
        for (name, shared) in &mut self.agents {
            let owner = owners.remove(name);
            if owner.as_ref() == Some(&self.node) && !shared.runs() {
                // Until it comes here, it is where it was.
                continue;
            }
            let is_taken = owner.as_ref().is_some_and(|owner| *owner != self.node);
            if is_taken && matches!(shared.stage, Stage::Kept(_)) {
                shared.stage = Stage::Leaving;
                outcomes.push(SharingOutcome::Placed(name.clone()));
            } else if shared.owner != owner {
                outcomes.push(SharingOutcome::Placed(name.clone()));
            }
            shared.owner = owner;
        }
        outcomes
    }

    /// The unit of an agent that is elsewhere has ended.
    pub fn stopped(&mut self, name: &DeviceName) -> Option<ClusterReply> {
        let shared = self.agents.get_mut(name)?;
        if shared.stage != Stage::Leaving {
            return None;
        }
        shared.stage = Stage::Elsewhere;
        self.reply(name.clone())
    }

    /// The unit of an agent that has left the configuration has ended.
    pub fn unit_stopped(&mut self, unit: &UnitName) -> Option<ClusterReply> {
        let name = self.departed.remove(unit)?;
        self.reply(name)
    }

    /// The units that are there. A unit that is not has ended.
    pub fn listed(&mut self, units: &BTreeSet<UnitName>) -> Vec<ClusterReply> {
        let gone: Vec<UnitName> =
            self.departed.keys().filter(|unit| !units.contains(*unit)).cloned().collect();
        gone.iter().filter_map(|unit| self.unit_stopped(unit)).collect()
    }

    /// The store has ceased to answer. Returns when that is to be looked at.
    pub fn cut(&mut self, now: Duration, reason: String) -> Duration {
        // An election passes within a lease, and nobody has to do anything about it.
        let due = now + LEASE;
        self.cut = Some(Cut { reason, due, is_reported: false });
        due
    }

    /// Looks at a cut that has lasted. Returns its reason once.
    pub fn cut_lasts(&mut self, now: Duration) -> Option<&str> {
        let cut = self.cut.as_mut().filter(|cut| !cut.is_reported && cut.due <= now)?;
        cut.is_reported = true;
        Some(&cut.reason)
    }

    /// Whether the store has not answered for so long that this was reported.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| cut.is_reported)
    }

    /// The store answers again. Returns whether the cut was reported.
    pub fn back(&mut self) -> bool {
        self.cut.take().is_some_and(|cut| cut.is_reported)
    }

    /// Answers for an item of a session that goes on, or for the whole of one that has ended.
    fn reply(&mut self, name: DeviceName) -> Option<ClusterReply> {
        if self.is_fencing { self.fence_reply() } else { Some(stopped(name)) }
    }

    fn fence_reply(&mut self) -> Option<ClusterReply> {
        let leaves = self.agents.values().any(|shared| shared.stage == Stage::Leaving);
        let parts = !self.departed.is_empty() || !self.parting.is_empty();
        if !self.is_fencing || leaves || parts {
            return None;
        }
        self.is_fencing = false;
        Some(ClusterReply::Fenced)
    }
}

fn stopped(agent: DeviceName) -> ClusterReply {
    ClusterReply::Stopped(Item::Agent(agent))
}

impl Shared {
    fn new(placement: Placement) -> Self {
        Self { placement, stage: Stage::Elsewhere, owner: None }
    }

    fn is_pinned(&self) -> bool {
        self.placement.allowed.pinned_to().is_some()
    }

    fn runs(&self) -> bool {
        matches!(self.stage, Stage::Here(_) | Stage::Kept(_))
    }
}
