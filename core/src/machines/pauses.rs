//! Devices that are disabled for a time, on the boot clock.
//!
//! A pause is counted on the clock that starts with the machine, includes suspension, and cannot be
//! set. So a step of the wall clock ends no pause, and a restart of the monitor moves none. The
//! remaining time is kept over a boot; the time for which the machine was off is unknown and does
//! not count.

use crate::model::device_name::DeviceName;
use crate::model::snapshot::PauseRecord;
use std::collections::BTreeMap;
use std::time::Duration;

/// Only a few are paused at a time.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    pauses: BTreeMap<DeviceName, Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    /// On the boot clock.
    end: Duration,
    enabled_before: bool,
}

impl Pauses {
    /// Adds a pause that ends this much later than `boot`. A later order replaces an earlier one,
    /// but not the state before it.
    pub fn set(&mut self, name: DeviceName, boot: Duration, span: Duration, enabled_before: bool) {
        let end = boot.saturating_add(span);
        self.pauses
            .entry(name)
            .and_modify(|pause| pause.end = end)
            .or_insert(Pause { end, enabled_before });
    }

    /// Continues a pause of an earlier run, perhaps of an earlier boot, since which the clock has
    /// started again: at least its present count has passed.
    pub fn resume(&mut self, name: DeviceName, boot: Duration, record: PauseRecord) {
        let passed = boot.checked_sub(record.at).unwrap_or(boot);
        self.set(name, boot, record.left.saturating_sub(passed), record.enabled_before);
    }

    pub fn end(&mut self, name: &DeviceName) {
        self.pauses.remove(name);
    }

    /// Drops those of devices that are gone.
    pub fn retain(&mut self, is_known: impl Fn(&DeviceName) -> bool) {
        self.pauses.retain(|name, _| is_known(name));
    }

    /// The remaining time.
    #[must_use]
    pub fn left(&self, name: &DeviceName, boot: Duration) -> Option<Duration> {
        self.pauses.get(name).map(|pause| pause.end.saturating_sub(boot))
    }

    #[must_use]
    pub fn record(&self, name: &DeviceName, boot: Duration) -> Option<PauseRecord> {
        let enabled_before = self.pauses.get(name)?.enabled_before;
        self.left(name, boot).map(|left| PauseRecord { left, at: boot, enabled_before })
    }

    /// How long until the next one ends.
    #[must_use]
    pub fn next(&self, boot: Duration) -> Option<Duration> {
        self.pauses.values().map(|pause| pause.end.saturating_sub(boot)).min()
    }

    /// Removes those that have ended, each with whether a person had enabled it before.
    pub fn take_ended(&mut self, boot: Duration) -> Vec<(DeviceName, bool)> {
        let mut ended = Vec::new();
        self.pauses.retain(|name, pause| {
            let is_over = pause.end <= boot;
            if is_over {
                ended.push((name.clone(), pause.enabled_before));
            }
            !is_over
        });
        ended
    }

    pub fn names(&self) -> impl Iterator<Item = &DeviceName> {
        self.pauses.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lamp() -> DeviceName {
        DeviceName::new("lamp").unwrap()
    }

    #[test]
    fn a_pause_ends_once_and_at_its_time() {
        let mut pauses = Pauses::default();
        pauses.set(lamp(), secs(10), secs(5), true);
        pauses.set(lamp(), secs(10), secs(5), false);
        assert_eq!(pauses.next(secs(12)), Some(secs(3)));
        assert!(pauses.take_ended(secs(14)).is_empty());
        assert_eq!(pauses.take_ended(secs(15)), [(lamp(), true)]);
        assert!(pauses.take_ended(secs(16)).is_empty());
        assert_eq!(pauses.next(secs(16)), None);
    }

    #[test]
    fn what_is_left_is_counted_on_after_a_restart_and_after_a_boot() {
        let mut pauses = Pauses::default();
        pauses.set(lamp(), secs(1_000), secs(600), false);
        let record = pauses.record(&lamp(), secs(1_100)).unwrap();
        assert_eq!(record, PauseRecord { left: secs(500), at: secs(1_100), enabled_before: false });
        let left = |boot| {
            let mut pauses = Pauses::default();
            pauses.resume(lamp(), boot, record);
            pauses.left(&lamp(), boot)
        };
        assert_eq!(left(secs(1_150)), Some(secs(450)), "the same boot");
        assert_eq!(left(secs(30)), Some(secs(470)), "another one, up for 30 s");
        assert_eq!(left(secs(9_999)), Some(secs(0)));
    }
}
