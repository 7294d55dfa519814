//! The nodes of a cluster, as the broker shows them: which of them are connected, whether this one
//! has read what they retain, and how long it has been without the broker.
//!
//! Each node retains `nodes/NODE`, and its will says `offline` there. A node's own copy comes back
//! behind everything that the broker retained when the node subscribed, and shows that all of it has
//! been read.

use crate::model::cluster::NodeName;
use crate::model::cluster::node_word::NodeWord;
use std::collections::BTreeSet;
use std::time::Duration;

/// A node that has been without its broker for this long gives up what needs the broker.
const WITHOUT_BROKER: Duration = Duration::from_secs(5);

/// Nodes of which all have come within this time do not count as having watched before the others.
const STARTING: Duration = Duration::from_secs(30);

/// The own copy comes back within this time, or the broker does not pass it on.
const READ_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Nodes {
    own: NodeName,
    /// Those that have a word at the broker, and this one.
    names: BTreeSet<NodeName>,
    names_changed: bool,
    /// Those that are connected to the broker.
    others: BTreeSet<NodeName>,
    /// Those of them that have just come.
    starting: BTreeSet<NodeName>,
    /// The one that has connected again after it had watched before.
    returned: Option<NodeName>,
    /// Those of them that have missed states.
    missing: BTreeSet<NodeName>,
    /// When this one has come, on monotonic time.
    started: Option<Duration>,
    reading: Reading,
    /// What the cluster knows of the connection to the broker.
    reported: Option<bool>,
    /// When that is to be looked at, without the broker.
    lost_at: Option<Duration>,
    /// It has had devices.
    has_served: bool,
    /// No other node watched when this one came.
    is_first: Option<bool>,
    /// It was reported that restored states cannot be marked.
    is_unmarked: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    No,
    /// Until this time at the latest.
    Until(Duration),
    Done,
}

impl Nodes {
    #[must_use]
    pub fn new(own: NodeName) -> Self {
        Self {
            names: [own.clone()].into(),
            names_changed: false,
            own,
            others: BTreeSet::new(),
            starting: BTreeSet::new(),
            returned: None,
            missing: BTreeSet::new(),
            started: None,
            reading: Reading::No,
            reported: None,
            lost_at: None,
            has_served: false,
            is_first: None,
            is_unmarked: false,
        }
    }

    /// The subscriptions are acknowledged. Returns when to look at it again.
    pub fn subscribed(&mut self, now: Duration) -> Vec<Duration> {
        self.lost_at = None;
        if self.reading != Reading::No {
            return Vec::new();
        }
        let due = now + READ_PATIENCE;
        self.reading = Reading::Until(due);
        vec![due, *self.started.get_or_insert(now) + STARTING]
    }

    /// The connection to the broker is lost. Returns when to look at it again.
    pub fn disconnected(&mut self, now: Duration) -> Duration {
        self.reading = Reading::No;
        self.others.clear();
        self.starting.clear();
        self.missing.clear();
        let due = now + WITHOUT_BROKER;
        *self.lost_at.get_or_insert(due)
    }

    /// This node goes on with what needs the broker. As after a loss, it is not without one before it
    /// has been so for some time. Returns when to look at it again.
    pub fn goes_on(&mut self, now: Duration) -> Option<Duration> {
        let is_news = self.reported.replace(true) != Some(true);
        is_news.then(|| *self.lost_at.insert(now + WITHOUT_BROKER))
    }

    /// Notes what a node says, or nothing where its word was removed. Returns whether everything that
    /// the broker retains has been read by that.
    pub fn heard(&mut self, name: &NodeName, word: Option<NodeWord>, is_replay: bool) -> bool {
        if *name == self.own {
            return !is_replay && matches!(word, Some(NodeWord::Online { .. })) && self.read();
        }
        self.names_changed |= match word {
            Some(_) => self.names.insert(name.clone()),
            None => self.names.remove(name),
        };
        let was_there = self.others.remove(name);
        self.starting.remove(name);
        self.missing.remove(name);
        if let Some(NodeWord::Online { starting, missing, .. }) = word {
            self.others.insert(name.clone());
            if missing {
                self.missing.insert(name.clone());
            }
            if starting {
                self.starting.insert(name.clone());
            } else if !was_there {
                self.returned = Some(name.clone());
            }
        }
        false
    }

    fn read(&mut self) -> bool {
        let is_news = matches!(self.reading, Reading::Until(_));
        if is_news {
            self.reading = Reading::Done;
            let watched_before = self.others.difference(&self.starting).next().is_some();
            self.is_first.get_or_insert(!watched_before);
        }
        is_news
    }

    /// Gives up waiting. Returns whether everything counts as read by that.
    pub fn read_due(&mut self, now: Duration) -> bool {
        matches!(self.reading, Reading::Until(due) if due <= now) && self.read()
    }

    /// Whether the broker can be reached, if the cluster has to learn that.
    pub fn take_broker_news(&mut self, now: Duration, is_up: bool) -> Option<bool> {
        let is_there = is_up || self.lost_at.is_some_and(|due| now < due);
        let is_there = if is_up { true } else { is_there && self.reported == Some(true) };
        (self.reported.replace(is_there) != Some(is_there)).then_some(is_there)
    }

    /// Whether everything that the broker retained has been read.
    #[must_use]
    pub fn has_read(&self) -> bool {
        self.reading == Reading::Done
    }

    /// All nodes that are known, in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.names.iter()
    }

    /// Whether there are other names since the last time.
    pub fn take_names_changed(&mut self) -> bool {
        std::mem::take(&mut self.names_changed)
    }

    /// Takes the node that has just connected again, and has watched since before that.
    pub fn take_returned(&mut self) -> Option<NodeName> {
        self.returned.take()
    }

    /// Whether this node is to stand in for those that are not connected: it is the first by its name
    /// among those that are, and knows them.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.has_read() && self.others.first().is_none_or(|first| self.own < *first)
    }

    /// Whether a node speaks of what it has, or any other node of what belongs to nobody, as far as the
    /// broker shows. One that has just started has nothing yet.
    #[must_use]
    pub fn speaks(&self, owner: Option<&NodeName>) -> bool {
        owner.map_or(!self.is_first(), |owner| self.others.contains(owner))
    }

    /// Whether any other node is connected to the broker.
    #[must_use]
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether any other node has all states.
    #[must_use]
    pub fn has_complete_others(&self) -> bool {
        self.others.difference(&self.missing).next().is_some()
    }

    /// The nodes to which this one, which has all states, has to send them: the first by its name
    /// does so.
    #[must_use]
    pub fn to_help(&self) -> BTreeSet<NodeName> {
        let first = self.others.difference(&self.missing).next();
        if first.is_some_and(|first| *first < self.own) {
            BTreeSet::new()
        } else {
            self.missing.clone()
        }
    }

    /// Whether nobody watched before this node came, as far as it is known.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.is_first.unwrap_or(false)
    }

    /// The protocol cannot mark restored states, so that other nodes would take them for new ones.
    /// Returns whether to report that, which happens once.
    pub fn cannot_mark(&mut self) -> bool {
        !std::mem::replace(&mut self.is_unmarked, true)
    }

    /// This node gets devices. Returns whether it does not count as starting any more by that.
    pub fn serves(&mut self, now: Duration) -> bool {
        let was_starting = self.is_starting(now);
        self.has_served = true;
        was_starting
    }

    /// Whether this node has not been there for long, and has had no devices.
    #[must_use]
    pub fn is_starting(&self, now: Duration) -> bool {
        !self.has_served && self.started.is_none_or(|started| now < started + STARTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;
    const ONLINE: Option<NodeWord> =
        Some(NodeWord::Online { since: 7, starting: false, missing: false });

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn connected() -> Nodes {
        let mut nodes = Nodes::new(node("pi1"));
        assert_eq!(nodes.subscribed(T(1)), [T(6), T(31)]);
        nodes
    }

    #[test]
    fn the_own_word_comes_back_behind_all_others() {
        let mut nodes = connected();
        assert!(!nodes.heard(&node("pi1"), ONLINE, true), "this is of an earlier connection");
        assert!(!nodes.heard(&node("nas"), ONLINE, true));
        assert!(nodes.heard(&node("pi1"), ONLINE, false) && nodes.has_read());
        assert!(!nodes.heard(&node("pi1"), ONLINE, false), "once");
        assert!(nodes.has_others() && !nodes.is_first());
        assert!(nodes.take_names_changed() && !nodes.take_names_changed());
        nodes.heard(&node("nas"), Some(NodeWord::Offline), false);
        assert!(!nodes.has_others() && !nodes.take_names_changed());
        assert_eq!(nodes.names().map(NodeName::as_str).collect::<Vec<_>>(), ["nas", "pi1"]);
        nodes.disconnected(T(9));
        assert!(!nodes.has_read());
    }

    #[test]
    fn a_broker_that_passes_it_not_on_is_waited_for_no_longer_than_five_seconds() {
        let mut nodes = connected();
        assert!(!nodes.read_due(T(5)) && nodes.read_due(T(6)) && nodes.has_read());
        assert!(!nodes.read_due(T(7)));
    }

    #[test]
    fn nodes_that_come_together_are_all_the_first() {
        let mut nodes = connected();
        let starting = Some(NodeWord::Online { since: 7, starting: true, missing: false });
        nodes.heard(&node("nas"), starting, true);
        nodes.heard(&node("pi1"), ONLINE, false);
        assert!(nodes.is_first());
        nodes.disconnected(T(9));
        nodes.subscribed(T(10));
        nodes.heard(&node("nas"), ONLINE, true);
        nodes.heard(&node("pi1"), ONLINE, false);
        assert!(nodes.is_first(), "it stays so");
        assert!(nodes.is_starting(T(30)) && !nodes.is_starting(T(31)));
        assert!(nodes.serves(T(20)) && !nodes.serves(T(21)) && !nodes.is_starting(T(22)));
    }

    #[test]
    fn the_broker_is_lost_after_five_seconds_and_back_at_once() {
        let mut nodes = Nodes::new(node("pi1"));
        assert_eq!(nodes.take_broker_news(T(0), true), Some(true));
        assert_eq!(nodes.disconnected(T(10)), T(15));
        assert_eq!(nodes.take_broker_news(T(14), false), None);
        assert_eq!(nodes.disconnected(T(14)), T(15), "another failed try is no news");
        assert_eq!(nodes.take_broker_news(T(15), false), Some(false));
        assert_eq!(nodes.take_broker_news(T(60), false), None);
        nodes.subscribed(T(61));
        assert_eq!(nodes.take_broker_news(T(61), true), Some(true));
        nodes.disconnected(T(70));
        nodes.subscribed(T(72));
        assert_eq!(nodes.take_broker_news(T(72), true), None, "nothing was given up");
    }

    #[test]
    fn a_node_that_goes_on_has_five_seconds_to_connect() {
        for tries in [false, true] {
            let mut nodes = Nodes::new(node("pi1"));
            if tries {
                nodes.disconnected(T(8));
                assert_eq!(nodes.take_broker_news(T(9), false), Some(false));
            }
            assert_eq!(nodes.goes_on(T(10)), Some(T(15)));
            assert_eq!(nodes.disconnected(T(11)), T(15));
            assert_eq!(nodes.take_broker_news(T(14), false), None);
            assert_eq!(nodes.take_broker_news(T(15), false), Some(false));
        }
        let mut nodes = Nodes::new(node("pi1"));
        nodes.goes_on(T(10));
        nodes.subscribed(T(11));
        assert_eq!(nodes.take_broker_news(T(11), true), None, "nothing was given up");
        assert_eq!(nodes.goes_on(T(12)), None);
    }

    #[test]
    fn the_first_node_that_has_all_states_helps_those_that_have_not() {
        let mut nodes = connected();
        let missing = Some(NodeWord::Online { since: 7, starting: false, missing: true });
        nodes.heard(&node("nas"), missing, true);
        assert!(!nodes.has_complete_others());
        assert_eq!(nodes.to_help(), [node("nas")].into());
        nodes.heard(&node("pi2"), ONLINE, true);
        assert_eq!(nodes.to_help(), [node("nas")].into());
        nodes.heard(&node("mini"), ONLINE, true);
        assert!(
            nodes.has_complete_others() && nodes.to_help().is_empty(),
            "`mini` is before `pi1`"
        );
        nodes.heard(&node("mini"), Some(NodeWord::Offline), false);
        assert_eq!(nodes.to_help(), [node("nas")].into());
    }
}
