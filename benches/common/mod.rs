//! What all bench programs share: a fleet of devices, their messages, and a monitor to send them to.

pub mod fleet;
pub mod monitor;
