//! The areas of a house in which devices are (`area`).

use crate::model::device_id::DeviceId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The area of each device that has one. Devices of one area share its name in memory.
#[derive(Debug, Default)]
pub struct Areas {
    of: BTreeMap<DeviceId, Arc<str>>,
    names: BTreeSet<Arc<str>>,
}

impl Areas {
    /// Puts a device into an area, or into none.
    pub fn place(&mut self, id: DeviceId, area: Option<Arc<str>>) {
        let Some(area) = area else {
            self.of.remove(&id);
            return;
        };
        let known = self.names.get(&area).cloned();
        let area = known.unwrap_or_else(|| {
            self.names.insert(Arc::clone(&area));
            area
        });
        self.of.insert(id, area);
    }

    #[must_use]
    pub fn of(&self, id: DeviceId) -> Option<&Arc<str>> {
        self.of.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_one_area_share_its_name() {
        let mut areas = Areas::default();
        let [lamp, kettle, car] = [0, 1, 2].map(DeviceId::at);
        areas.place(lamp, Some("Kitchen".into()));
        areas.place(kettle, Some("Kitchen".into()));
        areas.place(car, None);
        let (first, second) = (areas.of(lamp).unwrap(), areas.of(kettle).unwrap());
        assert_eq!(&**first, "Kitchen");
        assert!(Arc::ptr_eq(first, second));
        assert_eq!(areas.of(car), None);
        areas.place(lamp, None);
        assert_eq!(areas.of(lamp), None);
        assert!(areas.of(kettle).is_some());
    }
}
