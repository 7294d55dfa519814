//! What is asked of the shared store, and what it answers, as data. The store is etcd or one like
//! it: a transaction compares, and puts all or nothing; each commit has the next revision.

use crate::model::cluster::orders::SharedOrders;
use crate::model::cluster::sections::SectionsVersion;
use crate::model::cluster::{NodeName, NodeRecord, OwnerPlan};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The number of a commit. Each later commit of one history has a larger one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A value in the store and the revision of its last change (`mod_revision`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Versioned<T> {
    pub revision: Revision,
    pub value: T,
}

/// A condition on one key: it holds exactly this, or does not exist.
///
/// The revision alone is not enough. A store that has lost its last writes gives their revisions
/// to other ones, so the value is compared too. No two values are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Compare {
    Node(NodeName, Option<Versioned<NodeRecord>>),
    Plan(Option<Versioned<OwnerPlan>>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Put {
    Node(NodeName, NodeRecord),
    Plan(OwnerPlan),
}

/// All puts are committed at one revision if all conditions hold, and otherwise none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub compares: Vec<Compare>,
    pub puts: Vec<Put>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreRequest {
    /// Reads everything, linearizably: the answer contains each commit before the request.
    Read,
    Commit(Transaction),
}

/// Identifies a request in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

/// An answer of the store. One that does not come is not reported: a request ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreAnswer {
    Read(StoreContents),
    Committed(Revision),
    /// A condition did not hold.
    Refused,
}

/// Everything that the nodes share in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StoreContents {
    pub nodes: BTreeMap<NodeName, Versioned<NodeRecord>>,
    pub plan: Option<Versioned<OwnerPlan>>,
    /// What people have ordered. The rule of who has what knows nothing of it.
    pub orders: Arc<SharedOrders>,
    /// The sections that people have given to all nodes. The rule knows nothing of them either.
    pub config: Option<SectionsVersion>,
}
