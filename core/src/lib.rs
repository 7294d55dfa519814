//! The core of iotmonitor takes events and the time, and returns actions.
//!
//! It decides everything and does nothing: which device is silent, what is restored, which agent is
//! started when. It is a function of its inputs. Clocks, files, sockets, tasks and randomness are outside;
//! the dependencies of this package have none of them, and its `clippy.toml` keeps those of std
//! out.
//!
//! Three layers, of which each imports only those above it in this list:
//!
//! - [`topic`], [`backoff`], [`boot_ends`] and [`model`] are the vocabulary: topic names and filters
//!   by the MQTT standard, delays between tries, orders for a time, and the types of events,
//!   actions, messages, units and alerts.
//! - [`machines`] are closed types that each handle one matter and return outcomes.
//! - [`monitor`] conducts: it turns events into calls of machines, and their outcomes into actions.
//!   [`monitor::Monitor::handle`] is the only entry point.

// No input, no fault and no race may end the process: whatever cannot continue is an error or an
// alert.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![deny(clippy::todo, clippy::unimplemented, clippy::exit)]

pub mod backoff;
pub mod boot_ends;
pub mod machines;
pub mod model;
pub mod monitor;
pub mod topic;
