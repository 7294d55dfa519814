//! Names that a person has taken out of a fleet, which do not come back by themselves.

use crate::model::device_name::DeviceName;
use crate::model::snapshot::DeviceRecord;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many are remembered; of more, the one that was forgotten first may be learned again.
const MOST_FORGOTTEN: usize = 1_000;

/// The names, each with the watched time at which it was forgotten.
#[derive(Debug, Default)]
pub struct ForgottenNames {
    names: BTreeMap<String, Duration>,
    /// Those of whose states some may remain, each with its fleet, by which the next run finds them.
    unswept: BTreeMap<DeviceName, DeviceName>,
}

impl ForgottenNames {
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains_key(name)
    }

    /// States of a name in this fleet are about to be deleted.
    pub fn states_remain(&mut self, name: DeviceName, fleet: DeviceName) {
        self.unswept.insert(name, fleet);
    }

    /// All states of a name are deleted. Returns whether its record has changed.
    pub fn states_deleted(&mut self, name: &DeviceName) -> bool {
        self.unswept.remove(name).is_some() && self.contains(name.as_str())
    }

    /// Remembers a name. Returns one that is no longer remembered in its place.
    pub fn remember(&mut self, name: &DeviceName, at: Duration) -> Option<DeviceName> {
        self.names.insert(name.as_str().to_owned(), at);
        if self.names.len() <= MOST_FORGOTTEN {
            return None;
        }
        let others = self.names.iter().filter(|(other, _)| *other != name.as_str());
        let oldest = others.min_by_key(|(_, at)| **at).map(|(oldest, _)| oldest.clone())?;
        self.names.remove(&oldest);
        let oldest = DeviceName::new(oldest).ok()?;
        self.unswept.remove(&oldest);
        Some(oldest)
    }

    /// Drops the names that the configuration contains now, and returns them.
    pub fn named(&mut self, is_named: impl Fn(&DeviceName) -> bool) -> Vec<DeviceName> {
        let all = self.names.keys().filter_map(|name| DeviceName::new(name.as_str()).ok());
        let named: Vec<DeviceName> = all.filter(is_named).collect();
        for name in &named {
            self.names.remove(name.as_str());
            self.unswept.remove(name);
        }
        named
    }

    /// The records by which the store remembers all of them.
    pub fn records(&self) -> impl Iterator<Item = DeviceRecord> {
        let names = self.names.keys().filter_map(|name| DeviceName::new(name.as_str()).ok());
        names.filter_map(|name| self.record(&name))
    }

    /// The record by which the store remembers one.
    #[must_use]
    pub fn record(&self, name: &DeviceName) -> Option<DeviceRecord> {
        let silent_since = *self.names.get(name.as_str())?;
        let fleet = self.unswept.get(name).cloned();
        Some(DeviceRecord {
            forgotten: true,
            silent_since,
            fleet,
            ..DeviceRecord::new(name.clone())
        })
    }
}
