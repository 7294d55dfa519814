//! Reads the files that the original iotmonitor left behind: its database of states and its
//! configuration.
//!
//! Neither is ever changed.

pub mod configuration;
pub mod database;
pub mod leveldb;
