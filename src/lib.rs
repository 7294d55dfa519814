//! iotmonitor keeps a house or a fleet of MQTT devices and agents always up.

pub mod bus;
pub mod dbus;
pub mod logging;
pub mod monitor;
pub mod mqtt;
pub mod pulse;
pub mod systemd;
pub mod topic;
pub mod unit_name;
