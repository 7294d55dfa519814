//! The systemd adapter: agents as transient units over D-Bus, and the notify protocol.
//!
//! Two connections to the bus. On the first, [`signals`] does nothing but take in what systemd
//! tells and note it in the [`inbox`]; it never waits for anybody, since a message stream that
//! nobody polls stalls its whole connection. On the second, [`units`] reads the truth from systemd
//! for each unit that the inbox names, and [`jobs`] starts and stops units. [`manager`] keeps the
//! two alive and is the door for the rest of the program. [`alert_units`] starts what people have
//! written for alerts; [`former`] stops what a former clientid has started.
//!
//! Invariant: the content of a signal never becomes an event. Signals only say where to look, so
//! that sixteen of them for one restart, or a lost one, cost a look and no error.
//!
//! The core decides whether an agent is started again; nothing here does.

pub mod account;
pub mod alert_units;
mod command;
pub mod former;
mod inbox;
mod jobs;
pub mod manager;
pub mod notify;
mod properties;
mod proxy;
mod reading;
mod signals;
#[cfg(test)]
mod tests;
mod units;
pub mod usage;
