//! Suppresses notifications for a time, about one device or about everything.

use crate::boot_ends::{BootEnds, remaining};
use crate::model::device_name::DeviceName;
use crate::model::snapshot::MuteRecord;
use std::time::Duration;

/// `None` means everything. Only a few are silenced at a time.
#[derive(Debug, Clone, Default)]
pub struct Mutes {
    ends: BootEnds<Option<DeviceName>, ()>,
}

impl Mutes {
    /// Adds one that ends this much later than `boot`; it replaces an earlier one.
    pub fn set(&mut self, of: Option<DeviceName>, boot: Duration, span: Duration) {
        self.ends.set(of, boot, span, ());
    }

    /// Continues one of an earlier run, unless this one has another.
    pub fn resume(&mut self, boot: Duration, record: MuteRecord) {
        if !self.ends.contains(&record.device) {
            let left = remaining(record.left, record.at, boot);
            self.ends.set(record.device, boot, left, ());
        }
    }

    /// Returns whether there was one.
    pub fn end(&mut self, of: &Option<DeviceName>) -> bool {
        self.ends.end(of)
    }

    /// Drops those of devices that no longer exist.
    pub fn retain(&mut self, is_known: impl Fn(&DeviceName) -> bool) {
        self.ends.retain(|of| of.as_ref().is_none_or(&is_known));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether notifications are suppressed: about this device, or about conditions that concern
    /// none.
    #[must_use]
    pub fn covers(&self, device: Option<&DeviceName>) -> bool {
        !self.ends.is_empty()
            && (self.ends.contains(&None)
                || device.is_some_and(|name| self.ends.contains(&Some(name.clone()))))
    }

    /// Whether there is one for exactly this subject.
    #[must_use]
    pub fn holds(&self, of: Option<&DeviceName>) -> bool {
        self.ends.contains(&of.cloned())
    }

    /// The remaining time of the silence.
    #[must_use]
    pub fn left(&self, device: Option<&DeviceName>, boot: Duration) -> Option<Duration> {
        if self.ends.is_empty() {
            return None;
        }
        let own = device.and_then(|name| self.ends.get(&Some(name.clone()), boot));
        own.into_iter().chain(self.ends.get(&None, boot)).map(|(left, ())| left).max()
    }

    /// Whether there is one for exactly this subject that ends in about so long.
    #[must_use]
    pub fn ends_at_about(&self, of: &Option<DeviceName>, boot: Duration, left: Duration) -> bool {
        self.ends.ends_at_about(of, boot, left)
    }

    pub fn subjects(&self) -> impl Iterator<Item = &Option<DeviceName>> {
        self.ends.subjects()
    }

    /// How long until the next one ends.
    #[must_use]
    pub fn next(&self, boot: Duration) -> Option<Duration> {
        self.ends.next(boot)
    }

    /// Removes those that have ended.
    pub fn take_ended(&mut self, boot: Duration) -> Vec<Option<DeviceName>> {
        self.ends.take_ended(boot).into_iter().map(|(of, ())| of).collect()
    }

    #[must_use]
    pub fn records(&self, boot: Duration) -> Vec<MuteRecord> {
        let record = |of: &Option<DeviceName>| {
            let (left, ()) = self.ends.get(of, boot)?;
            Some(MuteRecord { device: of.clone(), left, at: boot })
        };
        self.ends.subjects().filter_map(record).collect()
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
    fn one_of_everything_covers_all_and_the_longer_one_holds() {
        let mut mutes = Mutes::default();
        assert!(!mutes.covers(Some(&lamp())));
        mutes.set(Some(lamp()), secs(0), secs(10));
        assert!(mutes.covers(Some(&lamp())) && !mutes.covers(None));
        mutes.set(None, secs(0), secs(5));
        assert!(mutes.covers(None));
        assert_eq!(mutes.left(Some(&lamp()), secs(2)), Some(secs(8)));
        assert_eq!(mutes.take_ended(secs(5)), [None]);
        assert!(mutes.covers(Some(&lamp())) && !mutes.covers(None));
        assert_eq!(mutes.take_ended(secs(10)), [Some(lamp())]);
        assert!(mutes.is_empty());
    }

    #[test]
    fn one_of_an_earlier_run_goes_on_unless_there_is_another() {
        let mut mutes = Mutes::default();
        mutes.set(None, secs(1_000), secs(600));
        let [record] = mutes.records(secs(1_100)).try_into().unwrap();
        let mut next = Mutes::default();
        next.resume(secs(1_150), record.clone());
        assert_eq!(next.left(None, secs(1_150)), Some(secs(450)));
        next.set(None, secs(1_150), secs(9));
        next.resume(secs(1_150), record);
        assert_eq!(next.left(None, secs(1_150)), Some(secs(9)));
    }
}
