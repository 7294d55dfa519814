//! Who is heard by way of whom (`dependsOn`), and how long an alert waits for that.

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
}

/// A device that others depend on.
#[derive(Debug, Default)]
struct Branch {
    children: Vec<DeviceId>,
    /// Watched time of its last word, while it is down.
    down_since: Option<Duration>,
    /// Watched time at which it was up again last.
    up_since: Option<Duration>,
}

impl Dependencies {
    /// Takes in the parents of each device that has any. There is no circle.
    #[must_use]
    pub fn new(parents: BTreeMap<DeviceId, Vec<DeviceId>>) -> Self {
        let mut branches: BTreeMap<DeviceId, Branch> = BTreeMap::new();
        for (&child, parents) in &parents {
            for &parent in parents {
                branches.entry(parent).or_default().children.push(child);
            }
        }
        Self { parents, branches }
    }

    /// What a device depends on itself.
    #[must_use]
    pub fn parents(&self, id: DeviceId) -> &[DeviceId] {
        self.parents.get(&id).map_or(&[], Vec::as_slice)
    }

    /// What depends on a device itself.
    #[must_use]
    pub fn children(&self, id: DeviceId) -> &[DeviceId] {
        self.branches.get(&id).map_or(&[], |branch| &branch.children)
    }

    /// Everything that depends on a device, also by way of others.
    #[must_use]
    pub fn descendants(&self, id: DeviceId) -> BTreeSet<DeviceId> {
        let mut found = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            open.extend(self.children(id).iter().filter(|child| found.insert(**child)));
        }
        found
    }

    /// Whether anything that a device depends on is down, also by way of others.
    pub fn is_cut_off(&self, id: DeviceId, is_down: impl Fn(DeviceId) -> bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = self.parents(id).to_vec();
        while let Some(id) = open.pop() {
            if is_down(id) {
                return true;
            }
            if seen.insert(id) {
                open.extend(self.parents(id));
            }
        }
        false
    }

    /// A device is down, and spoke last at this watched time; whether that is news to any that
    /// depends on it.
    pub fn fell(&mut self, id: DeviceId, last_word: Duration) -> bool {
        let branch = self.branches.get_mut(&id).filter(|branch| branch.down_since.is_none());
        branch.map(|branch| branch.down_since = Some(last_word)).is_some()
    }

    /// A device is up; the watched time of its last word before, if it was down to any that depends
    /// on it.
    pub fn rose(&mut self, id: DeviceId, watched: Duration) -> Option<Duration> {
        let branch = self.branches.get_mut(&id)?;
        let down_since = branch.down_since.take()?;
        branch.up_since = Some(watched);
        Some(down_since)
    }

    /// Watched time at which anything that a device depends on was up again last, also by way of
    /// others; `None` when nothing of it was down in this run.
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

    /// Less time was watched than was thought: nothing happened later than now.
    pub fn step_back(&mut self, watched: Duration) {
        for branch in self.branches.values_mut() {
            branch.down_since = branch.down_since.map(|since| since.min(watched));
            branch.up_since = branch.up_since.map(|since| since.min(watched));
        }
    }

    /// Takes in which devices are down, each with the watched time of its last word.
    pub fn settle(&mut self, down_since: impl Fn(DeviceId) -> Option<Duration>) {
        for (&id, branch) in &mut self.branches {
            branch.down_since = down_since(id);
        }
    }
}

/// An alert that waits. All times are watched time.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// When the alert is due.
    due: Duration,
    limit: Duration,
    /// When the device fell silent too long: a later word of a parent shows that the parent lives.
    overdue_since: Duration,
}

impl Hold {
    /// The device is overdue since then. Its alert may wait for others from now on.
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

    /// Waits for a verdict that is due then, if there is time; whether it does.
    pub fn await_verdict(&mut self, due: Duration, watched: Duration) -> bool {
        let due = due.min(self.limit);
        let waits = due > watched;
        if waits {
            self.due = due;
        }
        waits
    }

    /// Puts the alert off until then, however late that is.
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
    fn descendants_and_cuts_reach_through_others() {
        let house = house();
        assert_eq!(house.descendants(ID(0)), [ID(1), ID(2), ID(3)].into());
        assert!(house.is_cut_off(ID(2), |id| id == ID(0)));
        assert!(!house.is_cut_off(ID(0), |_| true) && !house.is_cut_off(ID(3), |id| id == ID(1)));
    }

    #[test]
    fn one_that_fell_is_down_until_it_rises() {
        let mut house = house();
        assert!(house.fell(ID(0), T(7)) && !house.fell(ID(0), T(9)));
        assert_eq!(house.returned_at(ID(2)), None);
        assert_eq!((house.rose(ID(0), T(10)), house.rose(ID(0), T(11))), (Some(T(7)), None));
        assert_eq!((house.returned_at(ID(2)), house.returned_at(ID(0))), (Some(T(10)), None));
        assert!(!house.fell(ID(2), T(1)), "nothing depends on the lamp");
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
