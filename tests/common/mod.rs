//! What several integration tests need: a real broker, and events to wait for.

pub mod broker;
pub mod client;
