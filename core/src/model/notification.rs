//! What a person elsewhere gets: the contents of one message, and the unit that carries it.

use super::alert::{Account, Priority, Reason};
use super::device_name::DeviceName;
use super::unit_name::{UnitName, UnitTemplate};
use std::time::Duration;

/// A message on its way, and the unit that is started for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    pub template: UnitTemplate,
    /// Names the unit's instance and the file that it reads. No other one has it meanwhile.
    pub instance: String,
    pub event: &'static str,
    pub priority: Priority,
    /// When it happened, since the Unix epoch.
    pub time: Duration,
    pub device: Option<DeviceName>,
    pub reason: Option<Reason>,
    /// Of the agent.
    pub unit: Option<UnitName>,
    /// What is known of the agent's unit, to be completed on the way.
    pub account: Option<Box<Account>>,
    pub message: String,
}
