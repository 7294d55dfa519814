//! This node's part in a cluster: passes on what the renewal thread, the guard and the monitor say to
//! each other.
//!
//! The monitor first learns which agents an earlier process has left, since only systemd knows that.
//! If their guard lives, the session goes on and so do they. Otherwise they are stopped before
//! another session begins, because another node may start them then. Neither waits for etcd.
//!
//! An agent is started only beside a guard, so what the cluster gives to this node meanwhile waits
//! here.

mod guard;

use super::{Daemon, boot_clock};
use crate::cluster::kept::KeptParts;
use crate::cluster::settings::ClusterSettings;
use crate::cluster::{self, ClusterCommand, ClusterEvent, ClusterHandle, OrderError};
use crate::pulse::Pulse;
use crate::systemd::guard_unit::GuardUnit;
use guard::{GuardLink, GuardNews};
use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::sections::SectionsVersion;
use iotmonitor_core::model::cluster::sharing::{ClusterFact, ClusterReply, ClusterSpec, WhenCut};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::{EndReason, Item};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::time::Now;
use iotmonitor_core::model::unit::UnitReport;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Events that the loop has not taken. When there are more, they wait in the thread.
const EVENTS: usize = 64;

/// What the guard's keeper has to report. When it is full, the keeper waits.
const GUARD_NEWS: usize = 4;

/// How long others may need to take what this node has when the system stops. Agents need a second
/// of it to end.
const DRAINED_WITHIN: Duration = Duration::from_secs(4);

/// How long systemd may need to say whether the system stops.
const STATE_ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// How long the end of this process waits for the last renewal. It only lets the next process come
/// later.
const LAST_RENEWAL_WITHIN: Duration = Duration::from_millis(500);

/// The answer to what only a node of a cluster can do.
pub const NO_CLUSTER: &str = "this machine is in no cluster: `iotmonitor cluster init` prepares the first \
                          three hosts of one, and the section [cluster] makes a machine a node";

/// The node.
pub struct Cluster {
    settings: ClusterSettings,
    spec: ClusterSpec,
    client_id: String,
    /// Holds the parts of the watching for the next process.
    runtime_directory: PathBuf,
    /// Identifies the machine.
    machine: String,
    guard_unit: GuardUnit,
    pulse: Pulse,
    part: Participation,
    link: GuardLink,
    guard: GuardState,
    guard_news: (mpsc::Sender<GuardNews>, mpsc::Receiver<GuardNews>),
    /// An agent has been started beside the guard in this session.
    is_bound: bool,
    /// What waits for the guard.
    held: BTreeMap<Item, Revision>,
    /// The number of the fence that the monitor has learned of last.
    fence: u64,
    /// The broker can be reached.
    broker: bool,
    drains: Drains,
    /// The version of the shared sections that is in force.
    sections: Option<SectionsVersion>,
    /// Everything has been given away.
    has_drained: bool,
    /// Until when this process waits to end.
    leaves: Option<Instant>,
}

/// How far this node takes part.
enum Participation {
    /// It is not known what an earlier process has left.
    Begins,
    /// What it has left is being stopped.
    Clears,
    Member {
        handle: ClusterHandle,
        events: mpsc::Receiver<ClusterEvent>,
    },
    /// There can be no thread for it.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GuardState {
    Up,
    /// It is being started.
    Down,
    /// It could not be started, which has been reported, and is tried again.
    Fails,
}

/// Why this node gives everything away.
#[derive(Default)]
struct Drains {
    system_stops: bool,
    guard_fails: bool,
}

/// What has happened.
pub enum ClusterNews {
    Event(ClusterEvent),
    Guard(GuardNews),
}

impl Cluster {
    pub fn new(
        settings: ClusterSettings,
        spec: ClusterSpec,
        client_id: String,
        runtime_directory: PathBuf,
        machine: Option<String>,
        guard_unit: GuardUnit,
        pulse: Pulse,
    ) -> Self {
        Self {
            // Without a number of its own, the machine is another one at each start.
            machine: machine.unwrap_or_else(|| format!("{:016x}", fastrand::u64(..))),
            settings,
            spec,
            client_id,
            runtime_directory,
            guard_unit,
            pulse,
            part: Participation::Begins,
            link: GuardLink::default(),
            guard: GuardState::Down,
            guard_news: mpsc::channel(GUARD_NEWS),
            is_bound: false,
            held: BTreeMap::new(),
            fence: 0,
            broker: false,
            drains: Drains::default(),
            sections: None,
            has_drained: false,
            leaves: None,
        }
    }

    /// The thread by which this node takes part.
    pub fn handle(&self) -> Result<ClusterHandle, OrderError> {
        match &self.part {
            Participation::Member { handle, .. } => Ok(handle.clone()),
            Participation::Begins | Participation::Clears | Participation::Nothing => {
                Err(OrderError::NoPart)
            }
        }
    }

    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// Proof that the renewal thread is alive, once there is one.
    pub fn is_alive(&self, within: Duration) -> bool {
        !matches!(self.part, Participation::Member { .. }) || self.pulse.age() < within
    }

    /// Returns what has happened, without an end where nothing can. Dropping the future loses nothing.
    pub async fn next(cluster: &mut Option<Self>) -> ClusterNews {
        let Some(Self {
            part: Participation::Member { events, .. }, guard_news: (_, guard), ..
        }) = cluster
        else {
            return pending().await;
        };
        tokio::select! {
            Some(event) = events.recv() => ClusterNews::Event(event),
            Some(news) = guard.recv() => ClusterNews::Guard(news),
            // The thread has ended, which the watchdog notices.
            else => pending().await,
        }
    }

    /// Takes the units that systemd lists first. The monitor takes them in before what is returned.
    pub fn units_listed(&mut self, units: &[UnitReport]) -> Vec<ClusterFact> {
        if !matches!(self.part, Participation::Begins) {
            return Vec::new();
        }
        let mut runs = self.left_behind(units);
        if let Some(guarded) = self.link.find() {
            (self.guard, self.is_bound) = (GuardState::Up, true);
            let kept = KeptParts::read(&self.runtime_directory, Some(guarded));
            // The monitor reports a broker that cannot be reached for some time.
            self.broker |= !kept.parts().is_empty();
            runs.extend(kept.parts().clone());
            let items = runs.iter().map(|(item, epoch)| (item.clone(), *epoch)).collect();
            self.join(kept, Some((guarded, items)));
            return vec![ClusterFact::Joined { runs }];
        }
        self.part = Participation::Clears;
        // The session by which they run has ended without a word of other nodes.
        vec![ClusterFact::Joined { runs }, ClusterFact::Fenced(EndReason::Deadline)]
    }

    /// Shared agents of an earlier process, which may have been one without a cluster.
    fn left_behind(&self, units: &[UnitReport]) -> BTreeMap<Item, Revision> {
        let mut runs = BTreeMap::new();
        for shared in units.iter().filter_map(|report| report.shared.as_ref()) {
            runs.insert(Item::Agent(shared.agent.clone()), shared.epoch);
        }
        for (name, placement) in &self.spec.agents {
            let unit = UnitName::for_agent(&self.client_id, name.as_str());
            let is_alone =
                |report: &UnitReport| report.shared.is_none() && unit.as_ref() == Ok(&report.unit);
            let is_shared = placement.allowed.pinned_to().is_none();
            if is_shared && placement.when_cut == WhenCut::Stop && units.iter().any(is_alone) {
                runs.insert(Item::Agent(name.clone()), Revision(0));
            }
        }
        runs
    }

    fn join(&mut self, kept: KeptParts, resumes: Option<(Guarded, Vec<(Item, Revision)>)>) {
        let (machine, items) = (self.machine.clone(), self.spec.items());
        let mut membership = self.settings.membership(machine, items, kept);
        membership.settings.drains = self.drains.any();
        membership.settings.broker = self.broker;
        membership.resumes = resumes;
        membership.sections = self.sections.clone();
        let (sender, events) = mpsc::channel(EVENTS);
        self.pulse.beat();
        let link = self.link.clone();
        let renew = move |guarded| link.renew(guarded);
        self.part = match cluster::spawn(membership, renew, sender, self.pulse.clone()) {
            Ok(handle) => Participation::Member { handle, events },
            Err(_) => Participation::Nothing,
        };
        let news = self.guard_news.0.clone();
        tokio::spawn(guard::keep(self.link.clone(), self.guard_unit.clone(), news));
    }

    /// Takes what has happened, and returns what the monitor has to know of it.
    pub fn heard(&mut self, news: ClusterNews) -> Vec<ClusterFact> {
        match news {
            ClusterNews::Event(event) => self.reported(event),
            ClusterNews::Guard(GuardNews::Up) => self.guard_up(),
            ClusterNews::Guard(GuardNews::Failed(reason)) => {
                if self.guard != GuardState::Down {
                    return Vec::new();
                }
                self.guard = GuardState::Fails;
                self.drain(|drains| drains.guard_fails = true);
                vec![ClusterFact::GuardFailed { reason }]
            }
        }
    }

    /// Looks whether the lease has ended by this time of the boot clock. A machine that was paused has
    /// to know that before anything else that has waited meanwhile, such as the hello of a device. The
    /// thread reports the same later.
    pub fn lease_ended(&mut self, boot: Duration) -> Option<ClusterFact> {
        self.link.end_lease(boot).then(|| {
            self.held.clear();
            ClusterFact::Fenced(EndReason::Deadline)
        })
    }

    fn reported(&mut self, event: ClusterEvent) -> Vec<ClusterFact> {
        let fact = match event {
            ClusterEvent::Start { item, epoch } => {
                if self.needs_guard(&item) && self.guard != GuardState::Up {
                    self.held.insert(item, epoch);
                    return Vec::new();
                }
                self.owned(item, epoch)
            }
            ClusterEvent::Stop(item) if self.held.remove(&item).is_some() => {
                self.send(ClusterCommand::Stopped(item));
                return Vec::new();
            }
            ClusterEvent::Stop(item) => ClusterFact::Released { item },
            ClusterEvent::Fence { number, reason } => {
                self.fence = number;
                self.held.clear();
                self.is_bound = false;
                if reason == EndReason::Deadline {
                    self.guard_goes();
                    self.link.forget_lease();
                }
                ClusterFact::Fenced(reason)
            }
            ClusterEvent::NameTaken => ClusterFact::NameTaken,
            ClusterEvent::Owners(owners) => ClusterFact::Owners(owners),
            ClusterEvent::NodeLost(node) => ClusterFact::NodeLost(node),
            ClusterEvent::NodeBack(node) => ClusterFact::NodeBack(node),
            ClusterEvent::Drained => {
                self.has_drained = true;
                return Vec::new();
            }
            ClusterEvent::StoreSilent(reason) => ClusterFact::Cut { reason },
            ClusterEvent::StoreAnswers => ClusterFact::Back,
            ClusterEvent::Orders(orders) => ClusterFact::Orders(orders),
            // They are a matter of the configuration.
            ClusterEvent::Sections(_) | ClusterEvent::SectionsMissing { .. } => return Vec::new(),
            ClusterEvent::GuardGone(how) => return self.guard_ended(how).into_iter().collect(),
        };
        vec![fact]
    }

    fn needs_guard(&self, item: &Item) -> bool {
        match item {
            Item::Agent(name) => {
                let placement = self.spec.agents.get(name);
                placement.is_none_or(|placement| placement.when_cut == WhenCut::Stop)
            }
            Item::House | Item::Shard(_) => false,
        }
    }

    fn owned(&mut self, item: Item, epoch: Revision) -> ClusterFact {
        self.is_bound |= self.needs_guard(&item);
        ClusterFact::Owned { item, epoch }
    }

    fn guard_up(&mut self) -> Vec<ClusterFact> {
        self.guard = GuardState::Up;
        self.drain(|drains| drains.guard_fails = false);
        let held = std::mem::take(&mut self.held);
        held.into_iter().map(|(item, epoch)| self.owned(item, epoch)).collect()
    }

    /// The guard has ended in this way. Returns what the monitor has to know before it learns that
    /// units have ended.
    pub fn guard_ended(&mut self, how: String) -> Option<ClusterFact> {
        // A report of one that has been replaced meanwhile comes late.
        if self.guard != GuardState::Up || self.link.is_heard() {
            return None;
        }
        let has_expired = self.link.has_expired();
        self.guard_goes();
        // systemd ends it like everything else, or nothing was bound to it.
        if self.drains.system_stops || !self.is_bound {
            return None;
        }
        if has_expired {
            // It has done its work. The thread reports the same, perhaps a moment later.
            return Some(ClusterFact::Fenced(EndReason::Deadline));
        }
        self.is_bound = false;
        self.held.clear();
        self.send(ClusterCommand::GuardEnded);
        Some(ClusterFact::GuardEnded { how })
    }

    fn guard_goes(&mut self) {
        if self.guard == GuardState::Up {
            self.guard = GuardState::Down;
        }
        self.link.disconnect();
    }

    /// Passes an answer of the monitor on.
    pub fn reply(&mut self, reply: ClusterReply) {
        match reply {
            ClusterReply::Stopped(item) => self.send(ClusterCommand::Stopped(item)),
            ClusterReply::Broker(is_connected) => {
                self.broker = is_connected;
                self.send(ClusterCommand::Broker(is_connected));
            }
            ClusterReply::Fenced if matches!(self.part, Participation::Clears) => {
                self.join(KeptParts::read(&self.runtime_directory, None), None);
            }
            ClusterReply::Fenced => self.send(ClusterCommand::Fenced(self.fence)),
        }
    }

    /// Takes another list of agents.
    pub fn share(&mut self, spec: ClusterSpec) {
        self.spec = spec;
        self.send(ClusterCommand::Share(self.spec.items()));
    }

    /// Notes the version of the shared sections that is in force.
    pub fn uses(&mut self, version: Option<SectionsVersion>) {
        if self.sections != version {
            self.sections.clone_from(&version);
            self.send(ClusterCommand::Uses(version));
        }
    }

    /// The system goes down, or does not after all. What this node has goes to others meanwhile.
    pub fn system_stops(&mut self, stops: bool) {
        self.has_drained &= stops;
        self.drain(|drains| drains.system_stops = stops);
        if self.leaves.is_some() {
            let patience = if stops { DRAINED_WITHIN } else { Duration::ZERO };
            self.leaves = Some(Instant::now() + patience);
        }
    }

    /// Begins to end this process: if the system stops, others take what this node has first. Returns
    /// whether there is something to wait for.
    fn leave(&mut self) -> bool {
        let is_member = matches!(self.part, Participation::Member { .. });
        if !is_member || self.leaves.is_some() {
            return false;
        }
        let patience =
            if self.drains.system_stops { DRAINED_WITHIN } else { STATE_ANSWERED_WITHIN };
        self.leaves = Some(Instant::now() + patience);
        true
    }

    /// When this process ends, if it waits for that.
    pub fn leaves(&self) -> Option<Instant> {
        let at = self.leaves?;
        Some(if self.has_drained { at.min(Instant::now()) } else { at })
    }

    fn drain(&mut self, change: impl FnOnce(&mut Drains)) {
        let before = self.drains.any();
        change(&mut self.drains);
        if self.drains.any() != before {
            self.send(ClusterCommand::Drain(self.drains.any()));
        }
    }

    /// Renews once more, so that the next process has the whole lease to come.
    pub async fn renew_last(&self, deadline: Instant) {
        if self.guard != GuardState::Up {
            return;
        }
        let deadline = deadline.min(Instant::now() + LAST_RENEWAL_WITHIN);
        let before = boot_clock();
        self.send(ClusterCommand::Renew);
        let _ = timeout_at(deadline, self.link.renewed_after(before)).await;
    }

    /// A thread that takes no commands has ended or hangs, which the watchdog notices.
    fn send(&self, command: ClusterCommand) {
        if let Participation::Member { handle, .. } = &self.part {
            let _ = handle.send(command);
        }
    }
}

impl Drains {
    fn any(&self) -> bool {
        self.system_stops || self.guard_fails
    }
}

impl Daemon<'_> {
    /// Whether this process ends at once when it is asked to. A node of a cluster first asks whether
    /// the system stops, since it moves nothing otherwise.
    pub(super) fn ends_at_once(&mut self) -> bool {
        let waits = self.cluster.as_mut().is_some_and(Cluster::leave);
        if waits {
            self.adapters.ask_system_state();
        }
        !waits
    }

    /// Whether the process has waited long enough to end.
    pub(super) fn has_left(&self) -> bool {
        let leaves = self.cluster.as_ref().and_then(Cluster::leaves);
        leaves.is_some_and(|at| at <= Instant::now())
    }

    /// Takes what the cluster has to say to this node.
    pub(super) fn hear_cluster(&mut self, news: ClusterNews) {
        if let ClusterNews::Event(
            event @ (ClusterEvent::Sections(_) | ClusterEvent::SectionsMissing { .. }),
        ) = news
        {
            return self.hear_of_sections(event);
        }
        let facts = self.cluster.as_mut().map(|cluster| cluster.heard(news));
        self.tell_of_cluster(self.now(), facts.unwrap_or_default());
    }

    /// The guard has ended, as systemd says.
    pub(super) fn end_guard(&mut self, now: Now, how: String) {
        let fact = self.cluster.as_mut().and_then(|cluster| cluster.guard_ended(how));
        self.tell_of_cluster(now, fact.into_iter().collect());
    }

    /// Passes facts to the monitor.
    pub(super) fn tell_of_cluster(&mut self, now: Now, facts: Vec<ClusterFact>) {
        for fact in facts {
            self.monitor.handle(now, Event::Cluster(fact), &mut self.actions);
            self.carry_out();
        }
    }
}
