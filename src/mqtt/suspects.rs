//! Publications and subscriptions on which the broker has closed the connection.
//!
//! Many brokers answer a publication or a subscription that they do not allow by closing the
//! connection without a reason. Whatever was unanswered at that time becomes a suspect and is sent
//! one at a time at the next connection. A suspect that was alone at two closings is set aside: the
//! rest continues without it, and it is tried again, alone, after a while.

use crate::mqtt::filters::FILTERS_PER_PACKET;
use iotmonitor_core::backoff::Backoff;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// This many closings with nothing else unanswered prove a suspect guilty.
const STRIKES: u8 = 2;

/// The first and the longest delay before something set aside is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(10 * 60);
const LAST_RETRY: Duration = Duration::from_secs(6 * 3600);

/// The number of filters in one packet after the broker has closed on a larger one: AWS IoT accepts
/// no more.
const FEW_FILTERS: usize = 8;

/// After this many topics of one branch the whole branch is set aside: a broker rarely objects to
/// one alone, and each costs two connections.
const BRANCH: usize = 2;

/// The reason why something is not sent.
pub(super) const REASON: &str = "the broker has closed the connection on it twice; let its access \
    control list allow it to the user of [mqtt]";

/// The kinds of things that can be unanswered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SuspectItem {
    Topic(TopicName),
    Filter(TopicFilter),
    /// All topics that share this prefix up to their last level.
    Branch(String),
}

impl fmt::Display for SuspectItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "a publication on `{topic}`"),
            Self::Filter(filter) => write!(f, "a subscription to `{filter}`"),
            Self::Branch(branch) => write!(f, "publications below `{branch}`"),
        }
    }
}

/// One packet that was unanswered: a publication, or a packet of filters.
pub(super) type Unanswered = Vec<SuspectItem>;

#[derive(Debug)]
struct Aside {
    retry: Instant,
    backoff: Backoff,
}

#[derive(Debug)]
pub(super) struct SuspectItems {
    /// Unanswered at a closing, together with others.
    suspected: BTreeSet<SuspectItem>,
    strikes: BTreeMap<SuspectItem, u8>,
    aside: BTreeMap<SuspectItem, Aside>,
    /// Shrinks when the broker closes on a packet of filters. It is whole again once one filter is
    /// found guilty, because the filter was then the cause rather than the number. Otherwise it
    /// stays small until the settings change: small packets cost little, and each attempt with a
    /// large one would cost the connection.
    filters_per_packet: usize,
}

/// The decision about a publication or a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemVerdict {
    Free,
    Aside,
    /// It was set aside a while ago, and may be sent alone.
    Retry,
}

impl Default for SuspectItems {
    fn default() -> Self {
        Self {
            suspected: BTreeSet::new(),
            strikes: BTreeMap::new(),
            aside: BTreeMap::new(),
            filters_per_packet: FILTERS_PER_PACKET,
        }
    }
}

impl SuspectItems {
    /// Whether packets are sent one at a time.
    pub(super) fn is_careful(&self) -> bool {
        !self.suspected.is_empty()
    }

    pub(super) fn filters_per_packet(&self) -> usize {
        self.filters_per_packet
    }

    /// The broker closed the connection but still serves others. Returns what it closed on, where
    /// that is certain, and whether the next connection will be used differently from this one.
    pub(super) fn closed_on(&mut self, unanswered: Vec<Unanswered>) -> (Option<SuspectItem>, bool) {
        let [only] = unanswered.as_slice() else {
            let before = self.suspected.len();
            self.suspected.extend(unanswered.into_iter().flatten());
            return (None, self.suspected.len() > before);
        };
        let [item] = only.as_slice() else {
            self.filters_per_packet = if only.len() > FEW_FILTERS { FEW_FILTERS } else { 1 };
            self.suspected.extend(only.iter().cloned());
            return (None, true);
        };
        let strikes = self.strikes.entry(item.clone()).or_default();
        *strikes = strikes.saturating_add(1);
        let strikes = *strikes;
        if strikes >= STRIKES || self.verdict(item) != ItemVerdict::Free {
            self.put_aside(item.clone());
        }
        (Some(item.clone()), true)
    }

    fn put_aside(&mut self, item: SuspectItem) {
        self.suspected.remove(&item);
        if matches!(item, SuspectItem::Filter(_)) {
            self.filters_per_packet = FILTERS_PER_PACKET;
        }
        let branch = branch_of(&item);
        if let Some(branch) = &branch
            && let Some(aside) = self.aside.get_mut(branch)
        {
            aside.prolong();
            return;
        }
        self.aside.entry(item).and_modify(Aside::prolong).or_insert_with(Aside::new);
        let of_branch = self.aside.keys().filter(|item| branch_of(item) == branch).count();
        if let Some(branch) = branch
            && of_branch >= BRANCH
        {
            self.aside.retain(|item, _| branch_of(item).as_ref() != Some(&branch));
            self.aside.insert(branch, Aside::new());
        }
    }

    /// An answer arrived: the broker does not object to this one.
    pub(super) fn answered(&mut self, item: &SuspectItem) {
        if self.suspected.is_empty() && self.strikes.is_empty() {
            return;
        }
        self.suspected.remove(item);
        self.strikes.remove(item);
        self.aside.remove(item);
        if let Some(branch) = branch_of(item) {
            self.aside.remove(&branch);
        }
    }

    /// Everything that was to be sent is answered, so the suspects were not the cause.
    pub(super) fn settle(&mut self) {
        self.suspected.clear();
    }

    pub(super) fn verdict(&self, item: &SuspectItem) -> ItemVerdict {
        if self.aside.is_empty() {
            return ItemVerdict::Free;
        }
        let aside = self.aside.get(item);
        let aside = aside.or_else(|| self.aside.get(&branch_of(item)?));
        match aside {
            None => ItemVerdict::Free,
            Some(aside) if Instant::now() >= aside.retry => ItemVerdict::Retry,
            Some(_) => ItemVerdict::Aside,
        }
    }

    /// Makes everything else wait for its answer.
    pub(super) fn suspect(&mut self, item: SuspectItem) {
        self.suspected.insert(item);
    }
}

impl Aside {
    fn new() -> Self {
        let mut aside =
            Self { retry: Instant::now(), backoff: Backoff::new(FIRST_RETRY, LAST_RETRY) };
        aside.prolong();
        aside
    }

    fn prolong(&mut self) {
        self.retry = Instant::now() + self.backoff.next_delay();
    }
}

fn branch_of(item: &SuspectItem) -> Option<SuspectItem> {
    let SuspectItem::Topic(topic) = item else { return None };
    topic.as_str().rsplit_once('/').map(|(branch, _)| SuspectItem::Branch(branch.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> SuspectItem {
        SuspectItem::Topic(TopicName::new(text).unwrap())
    }

    fn filter(text: &str) -> SuspectItem {
        SuspectItem::Filter(TopicFilter::new(text).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_alone_at_two_closings_is_put_aside_and_tried_again_later() {
        let mut suspects = SuspectItems::default();
        let (bad, good) = (topic("a/bad"), topic("b/good"));
        let both = || vec![vec![topic("a/bad")], vec![topic("b/good")]];
        assert_eq!(suspects.closed_on(both()), (None, true));
        assert_eq!(suspects.closed_on(both()), (None, false), "that teaches nothing");
        assert!(suspects.is_careful());
        suspects.answered(&good);
        assert_eq!(suspects.closed_on(vec![vec![bad.clone()]]), (Some(bad.clone()), true));
        assert_eq!(suspects.verdict(&bad), ItemVerdict::Free);
        suspects.closed_on(vec![vec![bad.clone()]]);
        assert_eq!(suspects.verdict(&bad), ItemVerdict::Aside);
        assert!(!suspects.is_careful());
        for wait in [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY] {
            tokio::time::advance(wait - Duration::from_secs(1)).await;
            assert_eq!(suspects.verdict(&bad), ItemVerdict::Aside);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(suspects.verdict(&bad), ItemVerdict::Retry);
            suspects.closed_on(vec![vec![bad.clone()]]);
        }
        suspects.answered(&bad);
        assert_eq!(suspects.verdict(&bad), ItemVerdict::Free);
        suspects.closed_on(vec![vec![bad.clone()]]);
        assert_eq!(suspects.verdict(&bad), ItemVerdict::Free, "the count begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn two_topics_put_their_branch_aside() {
        let mut suspects = SuspectItems::default();
        for name in ["expire/a", "expire/b"] {
            for _ in 0..STRIKES {
                suspects.closed_on(vec![vec![topic(name)]]);
            }
        }
        assert_eq!(suspects.verdict(&topic("expire/c")), ItemVerdict::Aside);
        assert_eq!(suspects.verdict(&topic("status/c")), ItemVerdict::Free);
        tokio::time::advance(FIRST_RETRY).await;
        assert_eq!(suspects.verdict(&topic("expire/c")), ItemVerdict::Retry);
        suspects.answered(&topic("expire/c"));
        assert_eq!(suspects.verdict(&topic("expire/a")), ItemVerdict::Free);
    }

    #[test]
    fn a_packet_of_filters_shrinks_until_the_one_is_found() {
        let mut suspects = SuspectItems::default();
        let packet = |count: usize| (0..count).map(|n| filter(&n.to_string())).collect::<Vec<_>>();
        for (had, has) in [(200, 8), (8, 1)] {
            assert_eq!(suspects.closed_on(vec![packet(had)]), (None, true));
            assert_eq!(suspects.filters_per_packet(), has);
        }
        assert_eq!(suspects.closed_on(vec![packet(1)]).0, Some(filter("0")));
        assert_eq!(suspects.filters_per_packet(), 1, "it may have been the number yet");
        assert_eq!(suspects.closed_on(vec![packet(1)]).0, Some(filter("0")));
        assert_eq!(suspects.filters_per_packet(), FILTERS_PER_PACKET, "it was the filter");
    }

    #[test]
    fn packets_stay_small_where_their_size_was_the_cause() {
        let mut suspects = SuspectItems::default();
        suspects.closed_on(vec![(0..200).map(|n| filter(&n.to_string())).collect()]);
        (0..200).for_each(|n| suspects.answered(&filter(&n.to_string())));
        suspects.settle();
        assert!(!suspects.is_careful());
        assert_eq!(suspects.filters_per_packet(), 8);
    }
}
