//! What programs that look on are told at once: a change as it happens, for nobody in particular.
//!
//! A notice is no alert, which is for people and is kept, and no publication, which the broker
//! delivers: who is not there at the moment has missed it and asks for a view.

use super::view::{DeviceView, Summary};
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
