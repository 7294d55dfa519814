//! Of which devices this node speaks, where several nodes share them, and what it shows of the
//! others. A machine that is by itself speaks of all.

use super::Monitor;
use crate::machines::sharing::Sharing;
use crate::model::alert::Reason;
use crate::model::cluster::Item;
use crate::model::cluster::shard::shard_of;
use crate::model::device_id::DeviceId;
use crate::model::message::Protocol;
use crate::model::view::Liveness;
use std::time::Duration;

impl Monitor {
    /// What the nodes share of which the device is a part. Devices that are heard through others are
    /// in the shard of the first of those, so that one node sees the causes of their silence.
    pub(super) fn item_of(&self, id: DeviceId) -> Item {
        let device = &self.devices[id];
        if device.rare.agent().is_some() {
            return Item::Agent(device.spec.name.clone());
        }
        let mut root = id;
        while let Some(&parent) = self.dependencies.parents(root).first() {
            root = parent;
        }
        shard_of(&self.devices[root].spec.name)
    }

    /// Whether contacts of the device are not subscribed to, because another node speaks of it.
    pub(super) fn is_unheard(&self, id: DeviceId) -> bool {
        let device = &self.devices[id];
        let is_cold = self.sharing.as_ref().is_some_and(Sharing::is_cold);
        is_cold && device.monitoring.is_elsewhere() && device.rare.agent().is_none()
    }

    /// Whether this node speaks of the whole installation.
    pub(super) fn speaks_for_house(&self) -> bool {
        self.sharing.as_ref().is_none_or(|sharing| sharing.parts().speaks_of(&Item::House))
    }

    /// Whether this node may restore the states of a device.
    pub(super) fn may_restore(&self, id: DeviceId) -> bool {
        let Some(sharing) = &self.sharing else { return true };
        // Where restored states carry no mark, other nodes would take them for new ones.
        self.session.protocol() != Some(Protocol::V311) && sharing.may_restore(&self.item_of(id))
    }

    /// Whether this node speaks of a device that is no agent.
    pub(super) fn speaks_of(&self, id: DeviceId) -> bool {
        self.sharing.as_ref().is_none_or(|sharing| sharing.parts().speaks_of(&self.item_of(id)))
    }

    /// Puts a device where it is before anything has been done about it.
    pub(super) fn place_device(&mut self, id: DeviceId) {
        if self.sharing.is_some() && self.devices[id].rare.agent().is_none() {
            let is_elsewhere = !self.speaks_of(id);
            self.devices[id].monitoring.set_elsewhere(is_elsewhere);
        }
    }

    /// The node that has a device, as far as it is known.
    pub(super) fn node_of(&self, id: DeviceId) -> Option<String> {
        let node = self.sharing.as_ref()?.node_of(&self.item_of(id))?;
        Some(node.to_string())
    }

    /// The revision of the plan by which this node has the device.
    pub(super) fn epoch_of(&self, id: DeviceId) -> Option<u64> {
        let epoch = self.sharing.as_ref()?.epoch(&self.item_of(id))?;
        Some(epoch.0)
    }

    /// The state of a device, which the node that has it knows best.
    pub(super) fn liveness_of(&self, id: DeviceId) -> Liveness {
        let device = &self.devices[id];
        if !device.monitoring.is_elsewhere() || device.rare.agent().is_some() {
            return device.liveness();
        }
        match self.standby.word(id) {
            _ if !device.monitoring.is_wanted() => Liveness::Disabled,
            Some(word) => word.state,
            None if device.silence.last_contact().is_some() => Liveness::Alive,
            None => Liveness::Unknown,
        }
    }

    /// The reason of its alarm, if there is one.
    pub(super) fn reason_of(&self, id: DeviceId) -> Option<Reason> {
        let device = &self.devices[id];
        if device.monitoring.is_elsewhere() {
            let word = self.standby.word(id).filter(|_| device.monitoring.is_wanted());
            return word.and_then(|word| word.reason);
        }
        device.reason()
    }

    /// The wall clock of the last change of its state.
    pub(super) fn since_of(&self, id: DeviceId) -> Duration {
        let device = &self.devices[id];
        let is_elsewhere = device.monitoring.is_elsewhere();
        let word = self.standby.word(id).filter(|_| is_elsewhere);
        word.map_or(device.since.get(), |word| word.since)
    }
}
