//! The uptimes that are published, and when they are read again.
//!
//! They are read from the history, which knows all devices, once an hour, and soon after an incident
//! has ended; incidents that end together are read together.

use crate::model::device_name::DeviceName;
use std::collections::BTreeMap;
use std::time::Duration;

/// The interval at which uptimes are read.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// The delay after the end of an incident, by which it is recorded.
const SOON: Duration = Duration::from_secs(60);

/// One ten-thousandth is shown.
const SHOWN: f64 = 10_000.0;

#[derive(Debug, Default)]
pub struct Uptimes {
    /// In ten-thousandths, rounded down.
    of: BTreeMap<DeviceName, u16>,
    /// When they are read; `None` while they are not wanted.
    due: Option<Duration>,
}

impl Uptimes {
    /// They are wanted from now on; returns when they are read.
    pub fn begin(&mut self, now: Duration) -> Option<Duration> {
        if self.due.is_some() {
            return None;
        }
        self.due = Some(now + SOON);
        self.due
    }

    /// They are not wanted any more.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// An incident has ended; returns when they are read, if that changes.
    pub fn hurry(&mut self, now: Duration) -> Option<Duration> {
        let due = self.due.as_mut().filter(|due| **due > now + SOON)?;
        *due = now + SOON;
        Some(*due)
    }

    /// Whether they are to be read, as was planned for this time; and when the next time is.
    pub fn take_due(&mut self, due: Duration) -> Option<Duration> {
        let planned = self.due.as_mut().filter(|planned| **planned == due)?;
        *planned = due + INTERVAL;
        Some(*planned)
    }

    /// Takes in what was read of a device; returns whether it is shown in another way now.
    pub fn read(&mut self, name: &DeviceName, uptime: Option<f64>) -> bool {
        if self.due.is_none() {
            return false;
        }
        // It is from 0 to 1.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number up to ten thousand"
        )]
        let uptime = uptime.map(|uptime| (uptime * SHOWN).floor() as u16);
        let before = match uptime {
            Some(uptime) => self.of.insert(name.clone(), uptime),
            None => self.of.remove(name),
        };
        before != uptime
    }

    /// The uptime that is shown, from 0 to 1.
    #[must_use]
    pub fn of(&self, name: &DeviceName) -> Option<f64> {
        self.of.get(name).map(|uptime| f64::from(*uptime) / SHOWN)
    }

    /// Forgets the others.
    pub fn retain(&mut self, is_known: impl Fn(&DeviceName) -> bool) {
        self.of.retain(|name, _| is_known(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn they_are_read_each_hour_and_soon_after_incidents() {
        let mut uptimes = Uptimes::default();
        assert_eq!(uptimes.hurry(T(0)), None, "they are not wanted");
        assert_eq!(uptimes.begin(T(10)), Some(T(70)));
        assert_eq!(uptimes.begin(T(20)), None);
        assert_eq!(uptimes.hurry(T(30)), None, "it is soon enough");
        assert_eq!(uptimes.take_due(T(70)), Some(T(3_670)));
        assert_eq!(uptimes.take_due(T(70)), None);
        assert_eq!(uptimes.hurry(T(100)), Some(T(160)));
        assert_eq!(uptimes.hurry(T(101)), None, "together with the first");
        assert_eq!(uptimes.take_due(T(3_670)), None, "that was put forward");
        assert_eq!(uptimes.take_due(T(160)), Some(T(3_760)));
        uptimes.end();
        assert_eq!(uptimes.take_due(T(3_760)), None);
    }

    #[test]
    fn only_a_change_that_is_seen_is_one() {
        let lamp = DeviceName::new("lamp").unwrap();
        let mut uptimes = Uptimes::default();
        assert!(!uptimes.read(&lamp, Some(1.0)));
        uptimes.begin(T(0));
        assert!(uptimes.read(&lamp, Some(1.0)));
        assert!(!uptimes.read(&lamp, Some(1.0)));
        assert!(uptimes.read(&lamp, Some(0.999_99)));
        assert_eq!(uptimes.of(&lamp), Some(0.999_9), "it is rounded down");
        assert!(!uptimes.read(&lamp, Some(0.999_95)));
        assert!(uptimes.read(&lamp, None));
        assert_eq!(uptimes.of(&lamp), None);
        uptimes.read(&lamp, Some(0.5));
        uptimes.retain(|_| false);
        assert_eq!(uptimes.of(&lamp), None);
    }
}
