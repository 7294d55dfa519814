//! Suppresses notifications for a time, about one device or about everything.
//!
//! Like a pause (see [`super::pauses`]) a silence is counted on the boot clock, and the remaining
//! time is kept.

use crate::model::device_name::DeviceName;
use crate::model::snapshot::MuteRecord;
use std::collections::BTreeMap;
use std::time::Duration;

/// `None` means everything. Only a few are silenced at a time.
#[derive(Debug, Clone, Default)]
pub struct Mutes {
    ends: BTreeMap<Option<DeviceName>, Duration>,
}

impl Mutes {
    /// Adds one that ends this much later than `boot`; it replaces an earlier one.
    pub fn set(&mut self, of: Option<DeviceName>, boot: Duration, span: Duration) {
        self.ends.insert(of, boot.saturating_add(span));
    }

    /// Continues one of an earlier run, unless this one has another.
    pub fn resume(&mut self, boot: Duration, record: MuteRecord) {
        // A clock that starts again has counted that much at least.
        let passed = boot.checked_sub(record.at).unwrap_or(boot);
        let end = boot.saturating_add(record.left.saturating_sub(passed));
        self.ends.entry(record.device).or_insert(end);
    }

    /// Returns whether there was one.
    pub fn end(&mut self, of: &Option<DeviceName>) -> bool {
        self.ends.remove(of).is_some()
    }

    /// Drops those of devices that no longer exist.
    pub fn retain(&mut self, is_known: impl Fn(&DeviceName) -> bool) {
        self.ends.retain(|of, _| of.as_ref().is_none_or(&is_known));
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
            && (self.ends.contains_key(&None)
                || device.is_some_and(|name| self.ends.contains_key(&Some(name.clone()))))
    }

    /// Whether there is one for exactly this subject.
    #[must_use]
    pub fn holds(&self, of: Option<&DeviceName>) -> bool {
        self.ends.contains_key(&of.cloned())
    }

    /// The remaining time of the silence.
    #[must_use]
    pub fn left(&self, device: Option<&DeviceName>, boot: Duration) -> Option<Duration> {
        if self.ends.is_empty() {
            return None;
        }
        let own = device.and_then(|name| self.ends.get(&Some(name.clone())));
        let end = own.into_iter().chain(self.ends.get(&None)).max()?;
        Some(end.saturating_sub(boot))
    }

    /// How long until the next one ends.
    #[must_use]
    pub fn next(&self, boot: Duration) -> Option<Duration> {
        self.ends.values().map(|end| end.saturating_sub(boot)).min()
    }

    /// Removes those that have ended.
    pub fn take_ended(&mut self, boot: Duration) -> Vec<Option<DeviceName>> {
        let ended: Vec<_> =
            self.ends.iter().filter(|(_, end)| **end <= boot).map(|(of, _)| of.clone()).collect();
        self.ends.retain(|_, end| *end > boot);
        ended
    }

    #[must_use]
    pub fn records(&self, boot: Duration) -> Vec<MuteRecord> {
        let record = |(of, end): (&Option<DeviceName>, &Duration)| MuteRecord {
            device: of.clone(),
            left: end.saturating_sub(boot),
            at: boot,
        };
        self.ends.iter().map(record).collect()
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
    fn what_is_left_is_counted_on_after_a_restart_and_after_a_boot() {
        let mut mutes = Mutes::default();
        mutes.set(None, secs(1_000), secs(600));
        let [record] = mutes.records(secs(1_100)).try_into().unwrap();
        let left = |boot| {
            let mut mutes = Mutes::default();
            mutes.resume(boot, record.clone());
            mutes.left(None, boot)
        };
        assert_eq!(left(secs(1_150)), Some(secs(450)), "the same boot");
        assert_eq!(left(secs(30)), Some(secs(470)), "another one, up for 30 s");
        assert_eq!(left(secs(9_999)), Some(secs(0)));
    }
}
