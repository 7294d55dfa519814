//! One node of several: which of the shared items it may run, and until when.
//!
//! [`Member`] takes the answers of the shared store and the time of this node's own boot clock, and
//! returns what to send, start and stop. No two nodes run one item, whichever messages are lost or
//! late, whichever nodes or programs pause, and also if the store loses its last writes:
//!
//! - A session lasts until a deadline, counted from *before* its last confirmed renewal was sent. A
//!   renewal of which no answer came extends nothing; if it was committed, the next one builds
//!   upon it. After the deadline the session never returns. The guard ends what is left of it.
//! - Another node ends the session when it has seen the node's record unchanged for as long as that
//!   record asks for, by its own clock. The end and the new owners are one transaction, which
//!   compares what was seen.
//! - An owner starts an item after a renewal of its own that was committed later than the plan, and
//!   that compared the plan. A store that loses the plan has lost that renewal too, so the next
//!   renewal fails.
//! - An owner starts something only if the store has answered without a long gap for some seconds.
//!   Owners by a plan that was lost in such a gap have ended by then. A store that loses writes
//!   *without* being away for longer than an election is not coped with.
//! - Only its owner takes an item from a living session, after it has stopped. The change that does
//!   so may be committed long after it was given up. An owner therefore starts nothing by a plan that
//!   a change of its session has compared: it first replaces the plan, with the same owners if
//!   nothing else is to be changed. A process that continues a session does not know what the one
//!   before it has sent, and treats the first plan that it reads in this way.

pub mod guard;
mod lease;
mod member;
mod peers;
mod placement;
mod proposal;
pub mod roster;

pub use member::Member;

use crate::model::cluster::store::{RequestNumber, Revision, StoreRequest};
use crate::model::cluster::timing::Timing;
use crate::model::cluster::{EndReason, Item, NodeName, SessionId};
use std::time::Duration;

/// A request without an answer is given up after this time.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Between the sending of two reads.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Nodes that can use a version of the shared sections use it this soon after each other.
const ALIKE_WITHIN: Duration = Duration::from_secs(3);

/// Each node waits this much longer than the one before it, so that one of them acts.
const RANK_DELAY: Duration = Duration::from_millis(300);

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberSettings {
    pub name: NodeName,
    /// Identifies the machine.
    pub machine: String,
    pub timing: Timing,
    /// The node is connected to the broker.
    pub broker: bool,
    /// The node gives away what it has, and takes nothing.
    pub drains: bool,
    /// The number of the version of the shared sections that the node uses.
    pub config: Option<u64>,
}

/// What the guard keeps, also while the monitor does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guarded {
    pub session: SessionId,
    /// The number of the last confirmed renewal.
    pub n: u64,
    /// On this node's boot clock.
    pub deadline: Duration,
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberOutcome {
    /// Send this to the store, and report its answer to [`Member::answered`]. If none comes,
    /// nothing needs to be reported.
    Send { number: RequestNumber, request: StoreRequest },
    /// Let the guard kill everything shared when the deadline and the time to stop have passed.
    Guard(Guarded),
    /// Start the item. Its plan's revision is larger than that of any earlier owner.
    Start { item: Item, epoch: Revision },
    /// Stop the item, and report [`Member::stopped`] when it has ended.
    Stop(Item),
    /// The session has ended. Stop everything shared, and report [`Member::fenced`] when all of it
    /// has ended.
    Fence(EndReason),
    /// Another machine uses the name of this node. It takes no part while that lasts. Reported
    /// once.
    NameTaken,
}
