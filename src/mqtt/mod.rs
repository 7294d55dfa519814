//! The MQTT adapter: packets become events, actions become packets.

pub mod settings;
