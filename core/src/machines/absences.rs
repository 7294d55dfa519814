//! Nodes that are lost in one moment, as when a switch fails, are one matter for people.

use crate::model::cluster::NodeName;
use std::collections::BTreeSet;
use std::time::Duration;

/// Nodes that fail together are noticed within this time: their renewals were a period apart, and so
/// are the looks at them.
const TOGETHER: Duration = Duration::from_secs(4);

/// Losses that have not been reported yet.
#[derive(Debug, Default)]
pub struct Absences {
    lost: BTreeSet<NodeName>,
    /// On monotonic time.
    due: Option<Duration>,
}

impl Absences {
    /// Notes a loss. Returns when the report is due, if it is the first of several.
    pub fn lost(&mut self, now: Duration, node: NodeName) -> Option<Duration> {
        let is_first = self.lost.is_empty();
        self.lost.insert(node);
        is_first.then(|| *self.due.insert(now + TOGETHER))
    }

    /// Notes that a node is back. Returns whether its loss was reported.
    pub fn back(&mut self, node: &NodeName) -> bool {
        !self.lost.remove(node)
    }

    /// Returns the nodes whose loss is to be reported now.
    pub fn take_due(&mut self, now: Duration) -> BTreeSet<NodeName> {
        match self.due.take_if(|due| *due <= now) {
            Some(_) => std::mem::take(&mut self.lost),
            None => BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_lost_together_is_reported_together_and_once() {
        let mut absences = Absences::default();
        let due = absences.lost(SECOND, node("nas")).unwrap();
        assert_eq!(absences.lost(2 * SECOND, node("pi2")), None);
        assert!(absences.take_due(due - SECOND).is_empty());
        assert_eq!(absences.take_due(due), BTreeSet::from([node("nas"), node("pi2")]));
        assert!(absences.take_due(due + 9 * SECOND).is_empty());
        assert!(absences.back(&node("nas")));
        assert!(absences.lost(due, node("nas")).is_some());
    }

    #[test]
    fn a_node_that_is_back_at_once_was_not_lost() {
        let mut absences = Absences::default();
        let due = absences.lost(SECOND, node("nas")).unwrap();
        assert!(!absences.back(&node("nas")));
        assert!(absences.take_due(due).is_empty());
        assert!(absences.lost(due, node("nas")).is_some());
    }
}
