//! What programs that look on are told at once: a change as it happens, for nobody in particular.
//!
//! A notice is no alert, which is for people and is kept, and no publication, which the broker
//! delivers: who is not there at the moment has missed it and asks for a view.

use super::device::DeviceId;
use super::event::Now;
use super::view::DeviceView;
use super::{Action, Monitor, Summary};
use std::time::Duration;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A device fell silent; its last contact, since the Unix epoch, `None` if there never was one.
    Expired { device: String, last_contact: Option<Duration> },
    /// A device is back; the time of the contact, since the Unix epoch.
    Recovered { device: String, contact: Duration },
    /// An agent runs again in a new main process, whoever restarted it.
    AgentRestarted { device: String, main_pid: u32 },
    /// The state of a device is another one; the whole of it as it is now.
    StateChanged(DeviceView),
    /// The state, the process or the restarts of an agent's unit are other ones.
    UnitChanged(DeviceView),
    /// The figures of the whole monitoring are other ones.
    SummaryChanged(Summary),
}

impl Monitor {
    /// Tells everybody of a device's new state.
    pub(super) fn tell_state(&self, id: DeviceId, out: &mut Vec<Action>) {
        out.push(self.status_publication(id));
        out.push(notify(Notice::StateChanged(self.view_of(id))));
    }

    /// Tells everybody of a new state of an agent's unit.
    pub(super) fn tell_unit(&self, id: DeviceId, out: &mut Vec<Action>) {
        out.push(self.status_publication(id));
        out.push(notify(Notice::UnitChanged(self.view_of(id))));
    }

    pub(super) fn tell_expired(&self, id: DeviceId, out: &mut Vec<Action>) {
        let device = &self.devices[id as usize];
        let (device, last_contact) = (device.spec.name.to_string(), device.last_contact);
        out.push(notify(Notice::Expired { device, last_contact }));
        self.tell_state(id, out);
    }

    pub(super) fn tell_recovered(&self, now: Now, id: DeviceId, out: &mut Vec<Action>) {
        let device = self.devices[id as usize].spec.name.to_string();
        out.push(notify(Notice::Recovered { device, contact: now.wall }));
        self.tell_state(id, out);
    }
}

pub(super) fn notify(notice: Notice) -> Action {
    Action::Notify(Box::new(notice))
}
