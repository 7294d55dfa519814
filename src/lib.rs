//! iotmonitor watches MQTT devices, restores their states, and supervises helper programs (agents).
//!
//! `ARCHITECTURE.md`, in the root of the repository, has the bird's-eye view, the code map, the
//! invariants, and the way of a message and of an alert through the program. In short, adapters
//! turn whatever happens into an [`Event`](iotmonitor_core::model::event::Event). The only loop, in
//! [`daemon`], passes the event and the time to
//! [`Monitor::handle`](iotmonitor_core::monitor::Monitor::handle), has the adapters carry out the
//! returned [`Action`](iotmonitor_core::model::action::Action)s, and sleeps until the monitor's
//! next deadline.

// No input, no fault and no race may end the process. Whatever cannot continue becomes an error or
// an alert.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![deny(clippy::todo, clippy::unimplemented, clippy::exit)]
// These macros end the process when its output is no longer read. `cli::output` prints instead.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod age_clock;
pub mod bounded;
pub mod bus;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod dbus;
pub mod discovery;
pub mod etcd;
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "it is there to panic")]
pub mod fuzzing;
pub mod guard;
pub mod history;
pub mod http;
mod lmdb;
pub mod logging;
pub mod machine_id;
mod mapped_files;
pub mod mqtt;
pub mod original;
pub mod printable;
pub mod pulse;
pub mod recorder;
pub mod request;
pub mod secret;
pub mod store;
pub mod systemd;
pub mod terminal;
pub mod time_span;
pub mod tls;
pub mod trusted_path;
