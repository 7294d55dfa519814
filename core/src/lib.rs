//! The core of iotmonitor: events and the time in, actions out.
//!
//! It decides everything and does nothing: who is silent, what is restored, which agent is started
//! when. It is a function of its inputs. Clocks, files, sockets, tasks and randomness are outside;
//! the dependencies of this package have none of them, and its `clippy.toml` keeps those of std
//! out.
//!
//! - [`monitor`] decides; [`monitor::Monitor::handle`] is the only way in.
//! - [`topic`] has topic names and filters by the MQTT standard, and an index of many filters.
//! - [`unit_name`] has the names of the agents' units.

// No input, no fault and no race may end the process: what cannot go on is an error or an alert.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![deny(clippy::todo, clippy::unimplemented, clippy::exit)]

pub mod monitor;
pub mod topic;
pub mod unit_name;
