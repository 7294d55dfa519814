//! A notification for a person elsewhere: the contents of one message, and the unit that carries
//! it.

use super::alert::{Account, Priority, Reason};
use super::device_name::DeviceName;
use super::unit_name::{UnitName, UnitTemplate};
use std::time::Duration;

/// A message, and the unit that is started for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub template: UnitTemplate,
    /// The name of the unit's instance and of the file that it reads. No other message has it
    /// meanwhile.
    pub instance: String,
    pub event: &'static str,
    pub priority: Priority,
    /// The time of the event, since the Unix epoch.
    pub time: Duration,
    pub device: Option<DeviceName>,
    pub reason: Option<Reason>,
    /// Of the agent.
    pub unit: Option<UnitName>,
    /// The known details of the agent's unit, completed on the way.
    pub account: Option<Box<Account>>,
    pub message: String,
}
