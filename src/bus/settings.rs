//! Where the interface is offered.

use crate::dbus::Bus;

/// Which bus, and which instance.
#[derive(Debug, Clone)]
pub struct BusSettings {
    pub bus: Bus,
    pub client_id: String,
    /// D-Bus address instead of the bus's well-known one.
    pub bus_address: Option<String>,
}
