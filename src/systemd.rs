//! The systemd adapter: agents as transient units over D-Bus, and the notify protocol.
//!
//! It uses two connections to the bus. On the first, [`signals`] only receives systemd's signals
//! and notes them in the [`inbox`]; it never waits for anything else, because a message stream that
//! is not polled stalls its whole connection. On the second, the [`session`], [`units`] checks each
//! unit in the inbox, and [`jobs`] starts and stops units. [`manager`] keeps the
//! two alive and is the interface for the rest of the program. [`alert_units`] starts the units
//! that people have written for alerts, and [`guard_unit`] the guard of a node; [`journal`] reads what was said; [`former`] stops the units of a former clientid.
//!
//! Invariant: only a check becomes an event. Signals mark units to check, so eight of them for one
//! restart, or a lost one, cost a check and cause no error. A check asks systemd, unless the last
//! signal has brought the whole [`condition`] of a unit that runs, which systemd was already asked
//! about or has just created for this monitor, and no answer can be newer.
//!
//! The core decides whether an agent is started again; nothing here does.

pub mod account;
pub mod alert_units;
mod command;
mod condition;
pub mod former;
pub mod guard_unit;
mod inbox;
mod jobs;
pub mod journal;
pub mod manager;
pub mod notify;
mod properties;
mod proxy;
mod reading;
mod session;
mod signals;
#[cfg(test)]
mod tests;
mod units;
pub mod usage;
