//! What the original iotmonitor left behind: its database of states and its configuration.
//!
//! Both are only read. Deliberately absent: what becomes of them.

pub mod configuration;
pub mod database;
pub mod leveldb;
