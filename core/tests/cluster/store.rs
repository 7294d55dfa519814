//! A store with transactions, which can lose its last writes.

use iotmonitor_core::model::cluster::store::{
    Compare, Put, Revision, StoreAnswer, StoreContents, StoreRequest, Transaction, Versioned,
};
use std::sync::Arc;
use std::time::Duration;

/// Writes that can be lost.
const HISTORY: usize = 24;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Store {
    revision: u64,
    contents: Arc<StoreContents>,
    /// The contents before each of the last commits.
    history: Vec<Arc<StoreContents>>,
    /// What is written instead of the time that each node asks the others to wait.
    pub evict_after: Option<Duration>,
}

impl Store {
    pub fn contents(&self) -> &StoreContents {
        &self.contents
    }

    pub fn answer(&mut self, request: &StoreRequest) -> StoreAnswer {
        match request {
            StoreRequest::Read => StoreAnswer::Read(StoreContents::clone(&self.contents)),
            StoreRequest::Commit(transaction) => self.commit(transaction),
        }
    }

    fn commit(&mut self, transaction: &Transaction) -> StoreAnswer {
        if !transaction.compares.iter().all(|compare| self.holds(compare)) {
            return StoreAnswer::Refused;
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        let mut contents = StoreContents::clone(&self.contents);
        for put in &transaction.puts {
            match put.clone() {
                Put::Plan(value) => contents.plan = Some(Versioned { revision, value }),
                Put::Node(name, mut value) => {
                    value.evict_after = self.evict_after.unwrap_or(value.evict_after);
                    contents.nodes.insert(name, Versioned { revision, value });
                }
            }
        }
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(std::mem::replace(&mut self.contents, Arc::new(contents)));
        StoreAnswer::Committed(revision)
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Plan(found) => self.contents.plan == *found,
            Compare::Node(name, found) => {
                let mut found = found.clone();
                if let (Some(found), Some(evict_after)) = (&mut found, self.evict_after) {
                    found.value.evict_after = evict_after;
                }
                self.contents.nodes.get(name) == found.as_ref()
            }
        }
    }

    /// Goes back, and gives the revisions of the lost writes to the next ones.
    pub fn lose(&mut self, writes: usize) {
        for _ in 0..writes {
            let Some(before) = self.history.pop() else { return };
            self.contents = before;
            self.revision -= 1;
        }
    }
}
