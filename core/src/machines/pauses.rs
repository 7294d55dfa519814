//! Devices that are disabled for a time.

use crate::boot_ends::{BootEnds, remaining};
use crate::model::device_name::DeviceName;
use crate::model::snapshot::PauseRecord;
use std::time::Duration;

/// Each device that is paused, with whether a person had enabled it before. Only a few are paused
/// at a time.
#[derive(Debug, Clone, Default)]
pub struct Pauses {
    ends: BootEnds<DeviceName, bool>,
}

impl Pauses {
    /// Adds a pause that ends this much later than `boot`. A later order replaces an earlier one,
    /// but not the state before it.
    pub fn set(&mut self, name: DeviceName, boot: Duration, span: Duration, enabled_before: bool) {
        self.ends.set(name, boot, span, enabled_before);
    }

    /// Continues a pause of an earlier run, perhaps of an earlier boot.
    pub fn resume(&mut self, name: DeviceName, boot: Duration, record: PauseRecord) {
        let left = remaining(record.left, record.at, boot);
        self.set(name, boot, left, record.enabled_before);
    }

    pub fn end(&mut self, name: &DeviceName) {
        self.ends.end(name);
    }

    /// Drops those of devices that are gone.
    pub fn retain(&mut self, is_known: impl Fn(&DeviceName) -> bool) {
        self.ends.retain(is_known);
    }

    /// The remaining time.
    #[must_use]
    pub fn left(&self, name: &DeviceName, boot: Duration) -> Option<Duration> {
        self.ends.get(name, boot).map(|(left, _)| left)
    }

    #[must_use]
    pub fn record(&self, name: &DeviceName, boot: Duration) -> Option<PauseRecord> {
        let (left, enabled_before) = self.ends.get(name, boot)?;
        Some(PauseRecord { left, at: boot, enabled_before })
    }

    #[must_use]
    pub fn contains(&self, name: &DeviceName) -> bool {
        self.ends.contains(name)
    }

    /// Whether there is one that ends in about so long.
    #[must_use]
    pub fn ends_at_about(&self, name: &DeviceName, boot: Duration, left: Duration) -> bool {
        self.ends.ends_at_about(name, boot, left)
    }

    /// How long until the next one ends.
    #[must_use]
    pub fn next(&self, boot: Duration) -> Option<Duration> {
        self.ends.next(boot)
    }

    /// Removes those that have ended, each with whether a person had enabled it before.
    pub fn take_ended(&mut self, boot: Duration) -> Vec<(DeviceName, bool)> {
        self.ends.take_ended(boot)
    }

    pub fn names(&self) -> impl Iterator<Item = &DeviceName> {
        self.ends.subjects()
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
    fn a_pause_goes_on_in_the_next_run_with_the_state_before_it() {
        let mut pauses = Pauses::default();
        pauses.set(lamp(), secs(1_000), secs(600), false);
        let record = pauses.record(&lamp(), secs(1_100)).unwrap();
        assert_eq!(record, PauseRecord { left: secs(500), at: secs(1_100), enabled_before: false });
        let mut next = Pauses::default();
        next.resume(lamp(), secs(30), record);
        assert_eq!(next.left(&lamp(), secs(30)), Some(secs(470)));
        assert_eq!(next.take_ended(secs(500)), [(lamp(), false)]);
    }
}
