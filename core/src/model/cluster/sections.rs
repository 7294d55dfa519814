//! The sections of devices, agents and fleets that people give to all nodes at once.

use super::NodeName;
use super::orders::OrderStamp;
use std::sync::Arc;

/// Names a version of the shared sections. Their text is elsewhere in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SectionsVersion {
    /// One more than that of the version before, for people. A store that was restored from a backup
    /// may give a number twice.
    pub number: u64,
    /// Distinguishes the version from all others.
    #[serde(flatten)]
    pub stamp: OrderStamp,
    /// When a node took it, on the wall clock of that node, in seconds.
    pub given: u64,
    /// The node that took it.
    pub by: NodeName,
    /// The length of the text. Without one, no sections are shared any more.
    pub bytes: usize,
    /// The number of parts in which the store has the text.
    pub chunks: usize,
}

impl SectionsVersion {
    /// Returns the version as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Takes apart what [`to_json`](Self::to_json) writes.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

/// A version with its text, which is TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSections {
    pub version: SectionsVersion,
    pub text: Arc<str>,
}
