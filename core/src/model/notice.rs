//! Changes as they happen, for programs that follow them.
//!
//! An alert is for people and is kept, and a publication is delivered by the broker. A notice is
//! neither: a program that is not connected at that time misses it, and requests a view.

use super::view::{DeviceView, Summary};
use std::time::Duration;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A device fell silent; its last contact, since the Unix epoch, `None` if there never was one.
    Expired { device: String, last_contact: Option<Duration> },
    /// A device is back; the time of the contact, since the Unix epoch.
    Recovered { device: String, contact: Duration },
    /// An agent runs again in a new main process, whatever restarted it.
    AgentRestarted { device: String, main_pid: u32 },
    /// The state of a device has changed, with its new value.
    StateChanged(Box<DeviceView>),
    /// The state, the process or the restarts of an agent's unit have changed.
    UnitChanged(Box<DeviceView>),
    /// The figures of the whole monitoring have changed.
    SummaryChanged(Summary),
}
