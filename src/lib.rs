//! iotmonitor keeps a house or a fleet of MQTT devices and agents always up.

pub mod cli;
pub mod config;
pub mod monitor;
pub mod mqtt;
pub mod pulse;
pub mod store;
pub mod topic;
pub mod unit_name;
