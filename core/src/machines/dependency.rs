//! Which devices are heard through which (`dependsOn`), and how long an alert waits for them.

use crate::model::device_id::DeviceId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An alert waits no longer than this for another device.
const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// Which devices depend on which, and which of those are down.
#[derive(Debug, Default)]
pub struct Dependencies {
    parents: BTreeMap<DeviceId, Vec<DeviceId>>,
    branches: BTreeMap<DeviceId, Branch>,
    /// The devices behind one that is down, directly or indirectly.
    cut_off: BTreeSet<DeviceId>,
    /// No device has two ways, so that the counts of branches can be added.
    is_forest: bool,
}

/// A device that others depend on.
#[derive(Debug, Default)]
struct Branch {
    children: Vec<DeviceId>,
    /// The watched time of its last message, while it is down.
    down_since: Option<Duration>,
    /// The watched time of its last return.
    up_since: Option<Duration>,
    /// The devices behind it, as they were counted when it fell.
    count: Option<usize>,
}

impl Dependencies {
    /// Creates the graph from the parents of each device that has any. There is no cycle.
    #[must_use]
    pub fn new(parents: BTreeMap<DeviceId, Vec<DeviceId>>) -> Self {
        let mut branches: BTreeMap<DeviceId, Branch> = BTreeMap::new();
        for (&child, parents) in &parents {
            for &parent in parents {
                branches.entry(parent).or_default().children.push(child);
            }
        }
        let is_forest = parents.values().all(|parents| parents.len() <= 1);
        Self { parents, branches, cut_off: BTreeSet::new(), is_forest }
    }

    /// Adds a device that nothing depends on.
    pub fn add(&mut self, child: DeviceId, parents: Vec<DeviceId>) {
        if parents.is_empty() {
            return;
        }
        for &parent in &parents {
            self.branches.entry(parent).or_default().children.push(child);
        }
        if parents.iter().any(|&parent| self.blocks(parent)) {
            self.cut_off.insert(child);
        }
        self.is_forest &= parents.len() <= 1;
        self.parents.insert(child, parents);
        self.forget_counts();
    }

    /// Takes a device out that nothing depends on.
    pub fn remove(&mut self, child: DeviceId) {
        for parent in self.parents.remove(&child).unwrap_or_default() {
            if let Some(branch) = self.branches.get_mut(&parent) {
                branch.children.retain(|other| *other != child);
            }
        }
        self.cut_off.remove(&child);
        self.forget_counts();
    }

    /// The direct dependencies of a device.
    #[must_use]
    pub fn parents(&self, id: DeviceId) -> &[DeviceId] {
        self.parents.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The direct dependents of a device.
    #[must_use]
    pub fn children(&self, id: DeviceId) -> &[DeviceId] {
        self.branches.get(&id).map_or(&[], |branch| &branch.children)
    }

    /// Counts what depends on a device that is down, directly or indirectly, if `is_counted`.
    ///
    /// The count of a device that fell before is added as it is. So in a line of devices of which
    /// one after the other falls, none is visited twice.
    pub fn count_behind(&mut self, id: DeviceId, is_counted: impl Fn(DeviceId) -> bool) -> usize {
        let (mut count, mut seen, mut open) = (0, BTreeSet::new(), vec![id]);
        while let Some(at) = open.pop() {
            for &child in self.children(at) {
                if !self.is_forest && !seen.insert(child) {
                    continue;
                }
                count += usize::from(is_counted(child));
                let known = self.branches.get(&child).and_then(|branch| branch.count);
                match known.filter(|_| self.is_forest) {
                    Some(known) => count += known,
                    None => open.push(child),
                }
            }
        }
        if let Some(branch) = self.branches.get_mut(&id) {
            branch.count = Some(count);
        }
        count
    }

    /// Which devices are counted has changed.
    pub fn forget_counts(&mut self) {
        self.branches.values_mut().for_each(|branch| branch.count = None);
    }

    /// Whether any direct or indirect dependency of a device is down.
    #[must_use]
    pub fn is_cut_off(&self, id: DeviceId) -> bool {
        self.cut_off.contains(&id)
    }

    /// A device is down, and spoke last at this watched time. Returns the devices that are now cut
    /// off and were not before.
    pub fn fell(&mut self, id: DeviceId, last_word: Duration) -> Vec<DeviceId> {
        let branch = self.branches.get_mut(&id).filter(|branch| branch.down_since.is_none());
        let Some(branch) = branch else { return Vec::new() };
        branch.down_since = Some(last_word);
        self.cut_off_behind(id)
    }

    /// Below a device that is already cut off nothing changes, so each is visited once, however
    /// many fall.
    fn cut_off_behind(&mut self, id: DeviceId) -> Vec<DeviceId> {
        let mut news = Vec::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            for &child in self.branches.get(&id).map_or(&[][..], |branch| &branch.children) {
                if self.cut_off.insert(child) {
                    news.push(child);
                    open.push(child);
                }
            }
        }
        news.sort_unstable();
        news
    }

    /// A device is up. If it was down to any of its dependents, returns the watched time of its
    /// last message before that, and the devices that are no longer cut off.
    pub fn rose(&mut self, id: DeviceId, watched: Duration) -> Option<(Duration, Vec<DeviceId>)> {
        let branch = self.branches.get_mut(&id)?;
        branch.count = None;
        let down_since = branch.down_since.take()?;
        branch.up_since = Some(watched);
        let mut news = Vec::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if self.blocks(id) {
                continue;
            }
            for &child in self.branches.get(&id).map_or(&[][..], |branch| &branch.children) {
                let is_free = !self.parents(child).iter().any(|&parent| self.blocks(parent));
                if is_free && self.cut_off.remove(&child) {
                    news.push(child);
                    open.push(child);
                }
            }
        }
        news.sort_unstable();
        Some((down_since, news))
    }

    /// Whether nothing is heard through a device.
    fn blocks(&self, id: DeviceId) -> bool {
        let is_down = self.branches.get(&id).is_some_and(|branch| branch.down_since.is_some());
        is_down || self.cut_off.contains(&id)
    }

    /// The watched time at which a direct or indirect dependency last returned; `None` when none
    /// was down in this run.
    #[must_use]
    pub fn returned_at(&self, id: DeviceId) -> Option<Duration> {
        let mut seen = BTreeSet::new();
        let mut open = self.parents(id).to_vec();
        let mut last = None;
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                last = last.max(self.branches.get(&id).and_then(|branch| branch.up_since));
                open.extend(self.parents(id));
            }
        }
        last
    }

    /// Less time was watched than assumed: nothing happened later than now.
    pub fn step_back(&mut self, watched: Duration) {
        for branch in self.branches.values_mut() {
            branch.down_since = branch.down_since.map(|since| since.min(watched));
            branch.up_since = branch.up_since.map(|since| since.min(watched));
        }
    }

    /// Restores which devices are down, each with the watched time of its last message.
    pub fn settle(&mut self, down_since: impl Fn(DeviceId) -> Option<Duration>) {
        self.cut_off.clear();
        let mut down = Vec::new();
        for (&id, branch) in &mut self.branches {
            (branch.down_since, branch.count) = (down_since(id), None);
            down.extend(branch.down_since.map(|_| id));
        }
        for id in down {
            self.cut_off_behind(id);
        }
    }
}

/// An alert that waits. All times are watched time.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// When the alert is due.
    due: Duration,
    limit: Duration,
    /// The time at which the device had been silent for too long: a later message of a parent shows
    /// that the parent is alive.
    overdue_since: Duration,
}

impl Hold {
    /// The device is overdue since this time. Its alert may wait for others from now on.
    pub fn begin(&mut self, overdue_since: Duration, watched: Duration) {
        self.limit = watched + LONGEST_HOLD;
        self.overdue_since = overdue_since.min(watched);
    }

    #[must_use]
    pub fn due(&self) -> Duration {
        self.due
    }

    #[must_use]
    pub fn overdue_since(&self) -> Duration {
        self.overdue_since
    }

    /// Waits for a verdict that is due at this time, if there is time; returns whether it does.
    pub fn await_verdict(&mut self, due: Duration, watched: Duration) -> bool {
        let due = due.min(self.limit);
        let waits = due > watched;
        if waits {
            self.due = due;
        }
        waits
    }

    /// Delays the alert until this time, however late that is.
    pub fn put_off(&mut self, due: Duration) {
        self.due = due;
    }

    /// Moves its times when the watched time of earlier runs becomes known.
    pub fn carry_over(&mut self, earlier: Duration) {
        self.due += earlier;
        self.limit += earlier;
        self.overdue_since += earlier;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;
    const ID: fn(usize) -> DeviceId = DeviceId::at;

    /// A gateway 0, a bridge 1 behind it, a lamp 2 behind that, and a switch 3 behind the gateway.
    fn house() -> Dependencies {
        let parents = [(ID(1), vec![ID(0)]), (ID(2), vec![ID(1)]), (ID(3), vec![ID(0)])];
        Dependencies::new(parents.into())
    }

    #[test]
    fn counts_and_cuts_reach_through_others() {
        let mut house = house();
        assert_eq!(house.count_behind(ID(0), |_| true), 3);
        assert_eq!(house.fell(ID(1), T(1)), [ID(2)]);
        assert_eq!(house.fell(ID(0), T(2)), [ID(1), ID(3)], "the lamp was cut off before");
        assert!(house.is_cut_off(ID(2)) && !house.is_cut_off(ID(0)));
        assert_eq!(house.rose(ID(0), T(3)), Some((T(2), vec![ID(1), ID(3)])));
        assert!(house.is_cut_off(ID(2)), "the bridge is still down");
        assert_eq!(house.rose(ID(1), T(4)), Some((T(1), vec![ID(2)])));
        house.settle(|id| (id == ID(0)).then_some(T(5)));
        assert!([1, 2, 3].map(ID).iter().all(|id| house.is_cut_off(*id)));
    }

    #[test]
    fn one_that_fell_is_down_until_it_rises() {
        let mut house = house();
        assert!(house.fell(ID(0), T(7)).len() == 3 && house.fell(ID(0), T(9)).is_empty());
        assert_eq!(house.returned_at(ID(2)), None);
        assert!(house.rose(ID(0), T(10)).is_some() && house.rose(ID(0), T(11)).is_none());
        assert_eq!((house.returned_at(ID(2)), house.returned_at(ID(0))), (Some(T(10)), None));
        assert!(house.fell(ID(2), T(1)).is_empty(), "nothing depends on the lamp");
    }

    #[test]
    fn a_line_that_falls_one_by_one_is_counted_with_one_visit_each() {
        const LINE: usize = 10_000;
        let parents = (1..LINE).map(|at| (ID(at), vec![ID(at - 1)])).collect();
        let mut line = Dependencies::new(parents);
        let visits = std::cell::Cell::new(0_usize);
        let is_counted = |_| {
            visits.set(visits.get() + 1);
            true
        };
        for at in (0..LINE).rev() {
            assert_eq!(line.count_behind(ID(at), is_counted), LINE - 1 - at);
            line.fell(ID(at), T(1));
        }
        assert_eq!(visits.get(), LINE - 1);
        // They come back and fall again, and fewer are counted.
        for at in 0..LINE {
            line.rose(ID(at), T(2));
        }
        assert_eq!(line.count_behind(ID(0), |id| id == ID(7)), 1);
        line.forget_counts();
        assert_eq!(line.count_behind(ID(0), |id| id > ID(7)), LINE - 8);
    }

    #[test]
    fn a_device_with_two_ways_is_counted_once() {
        let parents = [(ID(1), vec![ID(0)]), (ID(2), vec![ID(0)]), (ID(3), vec![ID(1), ID(2)])];
        let mut house = Dependencies::new(parents.into());
        assert_eq!([1, 2, 0].map(|at| house.count_behind(ID(at), |_| true)), [1, 1, 3]);
    }

    #[test]
    fn with_two_ways_both_have_to_be_up() {
        let parents = [(ID(2), vec![ID(0), ID(1)]), (ID(3), vec![ID(2)])];
        let mut house = Dependencies::new(parents.into());
        assert_eq!(house.fell(ID(0), T(1)), [ID(2), ID(3)]);
        assert_eq!(house.fell(ID(1), T(1)), []);
        assert_eq!(house.rose(ID(0), T(2)), Some((T(1), vec![])));
        assert_eq!(house.rose(ID(1), T(2)), Some((T(1), vec![ID(2), ID(3)])));
    }

    /// In whatever order a chain fails and recovers, each device is visited twice.
    #[test]
    fn a_long_line_costs_no_more_than_its_length() {
        const LINE: usize = 10_000;
        let parents = (1..LINE).map(|at| (ID(at), vec![ID(at - 1)])).collect();
        let mut line = Dependencies::new(parents);
        let down: [Vec<usize>; 2] = [(0..LINE).collect(), (0..LINE).rev().collect()];
        for falls in &down {
            for rises in &down {
                let fell = falls.iter().map(|&at| line.fell(ID(at), T(1)).len());
                assert_eq!(fell.sum::<usize>(), LINE - 1);
                let rose = rises.iter().filter_map(|&at| line.rose(ID(at), T(2)));
                assert_eq!(rose.map(|(_, news)| news.len()).sum::<usize>(), LINE - 1);
            }
        }
    }

    #[test]
    fn an_alert_waits_for_a_verdict_but_no_longer_than_five_minutes() {
        let mut hold = Hold::default();
        hold.begin(T(90), T(100));
        assert!(hold.await_verdict(T(1_000), T(100)));
        assert_eq!((hold.due(), hold.overdue_since()), (T(400), T(90)));
        assert!(!hold.await_verdict(T(1_000), T(400)), "the time is up");
        hold.put_off(T(2_000));
        hold.carry_over(T(10));
        assert_eq!(hold.due(), T(2_010));
    }
}
