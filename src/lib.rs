//! iotmonitor keeps a house or a fleet of MQTT devices and agents always up.
//!
//! # Bird's-eye view
//!
//! ```text
//!  broker ──► mqtt ───┐                            ┌──► mqtt ────► publish, subscribe, acknowledge
//!  systemd ─► systemd ┤                            ├──► systemd ─► start and stop units
//!  store ───► store ──┼─► Event ─► monitor ─► Action ─► store ──► record, read, save
//!  D-Bus ───► bus ────┤   (daemon: one loop)       ├──► logging ─► journal
//!  readers ─► http ───┤                            └──► bus, http ─► who looks on
//!  signals, time ─────┘
//! ```
//!
//! Adapters turn what happens into an [`Event`](iotmonitor_core::model::event::Event). The one loop in
//! [`daemon`] reads the time, hands both to [`Monitor::handle`](iotmonitor_core::monitor::Monitor),
//! has the adapters carry out the [`Action`](iotmonitor_core::model::action::Action)s that come back, and
//! sleeps until the monitor's next deadline.
//!
//! # Code map
//!
//! - [`iotmonitor_core`]: a package of its own, which decides everything. A function of its inputs.
//! - [`config`]: from the file's text to the core's specification, with all errors at once.
//! - [`mqtt`]: the two connections, with their outbox, over MQTT 5 and 3.1.1.
//! - [`store`]: LMDB on a thread of its own, grouped commits.
//! - [`systemd`]: agents as transient units over D-Bus; sd_notify.
//! - [`bus`]: the D-Bus interface that the command line talks to.
//! - [`discovery`]: from what passes on a broker to a configuration.
//! - [`original`]: the database and the configuration of the original iotmonitor.
//! - [`http`]: the status page, its JSON and the metrics, on a thread of its own.
//! - [`logging`]: alerts to the journal, or to the terminal.
//! - [`daemon`]: the event loop, the order of start and stop. The only module that knows all.
//! - [`cli`]: one file a command; exit codes.
//! - `fuzzing`: what fuzzing tries, built for it and for tests alone.
//! - [`request`]: what people and programs ask the daemon for, by whichever adapter.
//! - [`dbus`], [`pulse`], [`secret`], [`machine_id`], [`trusted_path`]: which bus; proof of life for the
//!   watchdog; what no output shows; by which a machine is known; whether a file is root's alone.
//!
//! # Invariants
//!
//! - The core knows no clock, no file, no socket, no task and no randomness: its package depends on
//!   none of them, and its `clippy.toml` keeps those of std out.
//! - Adapters know the core's events and actions, and never each other.
//! - A state message is acknowledged to the broker only after the commit that holds it, in the
//!   order of receipt.
//! - Nobody expires on a line that may be dead: a round trip to the broker comes first.
//! - Every alert is raised by the core or the daemon, once per change and never per try; adapters
//!   write no log.
//! - Every channel is bounded, and where it is made it says what happens when it is full.

// No input, no fault and no race may end the process: what cannot go on is an error or an alert.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![deny(clippy::todo, clippy::unimplemented, clippy::exit)]

pub mod bus;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dbus;
pub mod discovery;
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "it is there to panic")]
pub mod fuzzing;
pub mod http;
pub mod logging;
pub mod machine_id;
pub mod mqtt;
pub mod original;
pub mod pulse;
pub mod request;
pub mod secret;
pub mod store;
pub mod systemd;
pub mod trusted_path;
