//! The D-Bus interface that iotmonitor offers, and the caller's side of it.
//!
//! On the system bus (in a user manager on the user's) the daemon owns the name of
//! [`well_known_name`] and offers the interface `org.iotmonitor.Monitor1` at the path
//! `/org/iotmonitor/Monitor1`, and below it an object for each device and agent. The interfaces are
//! described in their files below `/usr/share/dbus-1/interfaces`. Every user may read; commands
//! require root or polkit authorization. Commands are forwarded to the daemon, which decides them.

mod alerts;
mod authority;
mod callers;
mod calls;
mod client;
mod error;
mod lanes;
mod name;
mod object;
mod sections;
mod server;
mod settings;
mod signals;
mod states;
#[cfg(test)]
mod tests;
mod unknown;
mod view;

pub use client::{Addressee, CallError, Caller, call, call_at};
pub use name::{Holder, NameClaim, NodePlace, OwnedName, claim, claim_node, keep_node};
pub use server::{BusHandle, spawn};
pub use settings::BusSettings;
pub use states::{MAX_PAYLOAD_BYTES, RecordedState};

use iotmonitor_core::model::unit_name::DEFAULT_CLIENT_ID;

/// Name of the interface, and of the daemon with the default clientid.
pub const NAME: &str = "org.iotmonitor.Monitor1";

/// The path of the object.
pub const PATH: &str = "/org/iotmonitor/Monitor1";

/// The longest name that a bus allows, in bytes (D-Bus specification, "Valid Names").
const MAX_NAME_BYTES: usize = 255;

/// The number of devices in one answer to ListDevices: far below the size limit of a message, and
/// quick for the daemon.
pub const PAGE: usize = 1_000;

/// The name that a daemon owns on the bus: [`NAME`] with the default clientid, else `NAME.X` where
/// X is the clientid with each byte that is not an ASCII letter or digit written as `_` and two hex
/// digits, after an `i` where it begins with a digit or is empty (an element of a bus name may not
/// begin with a digit).
///
/// `None` when the clientid is too long for it.
#[must_use]
pub fn well_known_name(client_id: &str) -> Option<String> {
    if client_id == DEFAULT_CLIENT_ID {
        return Some(NAME.to_owned());
    }
    let mut name = format!("{NAME}.");
    if !client_id.starts_with(|first: char| !first.is_ascii_digit()) {
        name.push('i');
    }
    for byte in client_id.bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(byte.into());
        } else {
            name.push_str(&format!("_{byte:02x}"));
        }
    }
    (name.len() <= MAX_NAME_BYTES).then_some(name)
}

/// The clientid behind a name that [`well_known_name`] built; `None` for any other name.
pub(crate) fn client_id_of(name: &str) -> Option<String> {
    if name == NAME {
        return Some(DEFAULT_CLIENT_ID.to_owned());
    }
    let label = name.strip_prefix(NAME)?.strip_prefix('.')?;
    let label = match label.strip_prefix('i') {
        Some(rest) if rest.is_empty() || rest.starts_with(|first: char| first.is_ascii_digit()) => {
            rest
        }
        Some(_) | None => label,
    };
    object::unescape(label)
}
