//! What the original iotmonitor left behind: its database of states and its configuration.
//!
//! Both are only read, never changed.

pub mod configuration;
pub mod database;
pub mod leveldb;
