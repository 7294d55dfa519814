//! The place where the interface is offered.

use crate::dbus::Bus;

/// The bus and the instance.
#[derive(Debug, Clone)]
pub struct BusSettings {
    pub bus: Bus,
    pub client_id: String,
    /// The D-Bus address instead of the bus's well-known one.
    pub bus_address: Option<String>,
}
