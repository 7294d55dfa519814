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
}

impl ForgottenNames {
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains_key(name)
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
        DeviceName::new(oldest).ok()
    }

    /// Drops the names that the configuration contains now, and returns them.
    pub fn named(&mut self, is_named: impl Fn(&DeviceName) -> bool) -> Vec<DeviceName> {
        let all = self.names.keys().filter_map(|name| DeviceName::new(name.as_str()).ok());
        let named: Vec<DeviceName> = all.filter(is_named).collect();
        for name in &named {
            self.names.remove(name.as_str());
        }
        named
    }

    /// The records by which the store remembers all of them.
    pub fn records(&self) -> impl Iterator<Item = DeviceRecord> {
        let named = |(name, at): (&String, &Duration)| {
            Some(record(DeviceName::new(name.as_str()).ok()?, *at))
        };
        self.names.iter().filter_map(named)
    }

    /// The record by which the store remembers one.
    #[must_use]
    pub fn record(&self, name: &DeviceName) -> Option<DeviceRecord> {
        self.names.get(name.as_str()).map(|at| record(name.clone(), *at))
    }
}

fn record(name: DeviceName, at: Duration) -> DeviceRecord {
    DeviceRecord { forgotten: true, silent_since: at, ..DeviceRecord::new(name) }
}
