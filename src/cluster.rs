//! This node's part in a cluster: the rule of the core, driven against the shared store.
//!
//! It runs on a thread and a runtime of its own ([`spawn`]), so that renewals are held up by nothing
//! else that the monitor does. Commands go in and events come out, and neither waits for the other
//! side. Only the guard is told of a renewal directly, before whatever the renewal starts.

pub mod kept;
mod orders;
mod renewals;
mod sections;
pub mod settings;

use crate::etcd::settings::EtcdSettings;
use crate::pulse::Pulse;
use iotmonitor_core::machines::cluster::{Guarded, MemberSettings};
use iotmonitor_core::model::cluster::EndReason;
use iotmonitor_core::model::cluster::orders::{SharedOrder, SharedOrders};
use iotmonitor_core::model::cluster::sections::{SectionsVersion, SharedSections};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::view::ClusterView;
use iotmonitor_core::model::cluster::{Item, Items, NodeName};
use kept::KeptParts;
pub use orders::OrderError;
use renewals::Renewals;
pub use sections::ApplyReply;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Commands that have not been taken. The thread takes them at once, so more than these show that it
/// has ended or hangs.
const MOST_COMMANDS: usize = 1_024;

/// What the thread needs to take part.
#[derive(Debug)]
pub struct Membership {
    pub settings: MemberSettings,
    pub items: Items,
    pub etcd: EtcdSettings,
    /// The session and the items of an earlier process. Its guard lives, so the boot is the same.
    pub resumes: Option<(Guarded, Vec<(Item, Revision)>)>,
    /// Where the parts among them are noted for the next process.
    pub kept: KeptParts,
    /// The version of the shared sections that this node uses.
    pub sections: Option<SectionsVersion>,
}

/// What the monitor says to the thread.
#[derive(Debug)]
pub enum ClusterCommand {
    /// An item has ended, after [`ClusterEvent::Stop`] or otherwise.
    Stopped(Item),
    /// Everything shared has ended after the [`ClusterEvent::Fence`] with this number. An answer to
    /// an earlier one changes nothing.
    Fenced(u64),
    /// The guard has ended, and what is bound to it ends too.
    GuardEnded,
    /// Renew at once, since this process is about to end.
    Renew,
    Share(Items),
    /// Give away everything and take nothing, or take part again.
    Drain(bool),
    /// Whether the broker is connected.
    Broker(bool),
    Move {
        item: Item,
        to: NodeName,
    },
    /// Say what is known of the cluster. Nothing is made of it before somebody asks.
    View(oneshot::Sender<ClusterView>),
    /// Put a person's order into the store, and say why if that has failed.
    Order {
        order: SharedOrder,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Put sections into the store that all nodes share, and say why if that has failed.
    Apply {
        text: Arc<str>,
        reply: ApplyReply,
    },
    /// This node uses this version of the shared sections, or none.
    Uses(Option<SectionsVersion>),
}

/// What the thread says to the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// Start the item, whose earlier owners have all ended.
    Start { item: Item, epoch: Revision },
    /// Stop the item, and say [`ClusterCommand::Stopped`].
    Stop(Item),
    /// The session has ended. Stop everything shared, and say [`ClusterCommand::Fenced`].
    Fence {
        /// One more than that of the fence before it.
        number: u64,
        reason: EndReason,
    },
    /// Another machine uses the name of this node.
    NameTaken,
    /// The nodes that have items, as the plan says now.
    Owners(BTreeMap<Item, NodeName>),
    /// The session of another node has ended by a time-out.
    NodeLost(NodeName),
    /// That node takes part again.
    NodeBack(NodeName),
    /// This node has given away everything after [`ClusterCommand::Drain`].
    Drained,
    /// The store has ceased to answer, with the reason. Reported once.
    StoreSilent(String),
    /// The store answers, for the first time or again.
    StoreAnswers,
    /// What people have ordered for all nodes is this. Reported after the first read and after each
    /// change.
    Orders(Arc<SharedOrders>),
    /// The store holds another version of the shared sections than this node uses.
    Sections(Arc<SharedSections>),
    /// It names a version and does not give its text, for this reason. Reported once.
    SectionsMissing { number: u64, reason: String },
    /// The guard has ceased to take renewals, with the reason. Reported once.
    GuardGone(String),
}

/// A handle to the thread, which ends with the last of them. What runs by then goes on until the guard's deadline.
#[derive(Debug, Clone)]
pub struct ClusterHandle(mpsc::Sender<ClusterCommand>);

impl ClusterHandle {
    /// Sends a command without waiting. Returns whether the thread lives.
    #[must_use]
    pub fn send(&self, command: ClusterCommand) -> bool {
        self.0.try_send(command).is_ok()
    }
}

/// Takes part on a thread of its own. `guard` passes each confirmed renewal on, and does not wait.
///
/// `events` is bounded. When it is full, further events wait in the thread, at most two for an item,
/// since the monitor has to answer before there is another one. Renewals go on meanwhile. The pulse
/// beats at least once a second.
///
/// # Errors
/// Returns an error if there can be no further thread.
pub fn spawn(
    membership: Membership,
    guard: impl FnMut(Guarded) -> io::Result<()> + Send + 'static,
    events: mpsc::Sender<ClusterEvent>,
    pulse: Pulse,
) -> io::Result<ClusterHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, commands) = mpsc::channel(MOST_COMMANDS);
    std::thread::Builder::new().name("cluster".to_owned()).spawn(move || {
        let renewals =
            Renewals::new(membership, renewals::boot_id(), guard, (commands, events), pulse);
        runtime.block_on(renewals.run());
        // A name that is being resolved is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(ClusterHandle(sender))
}
