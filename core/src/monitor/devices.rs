//! The devices of the configuration in force, found by index, name and unit.

use super::device::Device;
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// All devices. Their ids belong to this list: another configuration is another list.
#[derive(Debug, Default)]
pub(super) struct Devices {
    all: Vec<Device>,
    /// In the order of their names.
    by_name: Vec<DeviceId>,
    by_unit: BTreeMap<UnitName, DeviceId>,
    /// The number of places whose device was taken out.
    vacant: usize,
}

impl Devices {
    pub fn new(all: Vec<Device>) -> Self {
        let mut by_name: Vec<DeviceId> = (0..all.len()).map(DeviceId::at).collect();
        by_name.sort_by(|a, b| all[a.place()].spec.name.cmp(&all[b.place()].spec.name));
        let mut by_unit = BTreeMap::new();
        for (place, device) in all.iter().enumerate() {
            if let Some(agent) = device.rare.agent() {
                by_unit.insert(agent.unit().clone(), DeviceId::at(place));
            }
        }
        Self { all, by_name, by_unit, vacant: 0 }
    }

    pub fn len(&self) -> usize {
        self.all.len() - self.vacant
    }

    /// The id that the next device gets.
    pub fn next_id(&self) -> DeviceId {
        DeviceId::at(self.all.len())
    }

    /// Adds a device without a process, whose name no other one has.
    pub fn push(&mut self, device: Device) {
        let id = self.next_id();
        let is_before = |&other: &DeviceId| self[other].spec.name < device.spec.name;
        let place = self.by_name.partition_point(is_before);
        self.by_name.insert(place, id);
        self.all.push(device);
    }

    /// Takes a device without a process out. Its place stays, because ids may be kept anywhere; the
    /// device there expects nothing, has no name, and is not listed.
    pub fn take_out(&mut self, id: DeviceId) -> Option<Device> {
        let place = self.by_name.iter().position(|&other| other == id)?;
        self.by_name.remove(place);
        self.vacant += 1;
        let device = self.all.get_mut(id.place())?;
        let vacant = Device::vacant(device.spec.name.clone());
        Some(std::mem::replace(device, vacant))
    }

    /// All ids, which borrow nothing, so devices may be changed during the iteration.
    pub fn ids(&self) -> impl Iterator<Item = DeviceId> + use<> {
        let vacant: Vec<bool> = if self.vacant == 0 {
            Vec::new()
        } else {
            self.all.iter().map(|device| device.spec.is_vacant).collect()
        };
        let is_there = move |place: &usize| !vacant.get(*place).is_some_and(|vacant| *vacant);
        (0..self.all.len()).filter(is_there).map(DeviceId::at)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Device> + Clone {
        self.all.iter().filter(|device| !device.spec.is_vacant)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.all.iter_mut().filter(|device| !device.spec.is_vacant)
    }

    /// Ids of those with a process.
    pub fn agents(&self) -> Vec<DeviceId> {
        self.ids().filter(|&id| self[id].rare.agent().is_some()).collect()
    }

    /// For an id that may be of an earlier configuration.
    pub fn get(&self, id: DeviceId) -> Option<&Device> {
        self.all.get(id.place())
    }

    pub fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.all.get_mut(id.place())
    }

    pub fn named(&self, name: &DeviceName) -> Option<DeviceId> {
        self.named_as(name.as_str())
    }

    /// The same for a string that need not be a device name.
    pub fn named_as(&self, name: &str) -> Option<DeviceId> {
        let place = self.by_name.binary_search_by(|&id| self[id].spec.name.as_str().cmp(name));
        place.ok().map(|place| self.by_name[place])
    }

    /// The devices that this name refers to, in the order of their names; all where there is none.
    pub fn named_after(&self, name: Option<&DeviceName>) -> impl Iterator<Item = DeviceId> {
        let is_before = |&id: &DeviceId| name.is_some_and(|name| self[id].spec.name <= *name);
        let from = self.by_name.partition_point(is_before);
        self.by_name[from..].iter().copied()
    }

    pub fn of_unit(&self, unit: &UnitName) -> Option<DeviceId> {
        self.by_unit.get(unit).copied()
    }

    pub fn into_devices(self) -> impl Iterator<Item = Device> {
        self.all.into_iter().filter(|device| !device.spec.is_vacant)
    }
}

impl Index<DeviceId> for Devices {
    type Output = Device;
    fn index(&self, id: DeviceId) -> &Device {
        &self.all[id.place()]
    }
}

impl IndexMut<DeviceId> for Devices {
    fn index_mut(&mut self, id: DeviceId) -> &mut Device {
        &mut self.all[id.place()]
    }
}
