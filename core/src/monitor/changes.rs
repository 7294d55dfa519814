//! Marks changes of a device since it was saved.

use crate::model::device_id::DeviceId;
use crate::monitor::Monitor;

impl Monitor {
    /// Marks a device whose record should be on disk soon.
    pub(super) fn save_soon(&mut self, id: DeviceId) {
        self.saving.changed(id, &mut self.devices[id].dirty);
        self.saving.hurry_if(true);
    }
}
