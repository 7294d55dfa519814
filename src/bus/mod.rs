//! The D-Bus interface that iotmonitor offers, and the caller's side of it.
//!
//! On the system bus (in a user manager on the user's) the daemon owns the name of
//! [`well_known_name`] and offers the interface `org.iotmonitor.Monitor1` at the path
//! `/org/iotmonitor/Monitor1`, and below it an object for each device and agent. The interfaces are
//! described in their files below `/usr/share/dbus-1/interfaces`. Everybody may look; who may
//! command is for root and polkit to say. Deliberately absent: any decision; commands go to the
//! daemon, answers come back.

mod authority;
#[cfg(test)]
mod both_sides;
mod calls;
mod client;
mod object;
mod server;
mod signals;
mod states;
#[cfg(test)]
mod tree;
mod view;

pub use client::{Addressee, CallError, Caller, call, call_at};
pub use server::{BusHandle, BusSettings, spawn};
pub use states::State;

use crate::monitor::Summary;
use crate::monitor::event::StateRecord;
use crate::monitor::spec::DeviceName;
use crate::monitor::view::DeviceView;
use crate::topic::{TopicFilter, TopicName};
use crate::unit_name::DEFAULT_CLIENT_ID;
use tokio::sync::oneshot;

/// Name of the interface, and of the daemon with the default clientid.
pub const NAME: &str = "org.iotmonitor.Monitor1";

/// Where the object is.
pub const PATH: &str = "/org/iotmonitor/Monitor1";

/// The longest name that a bus allows, in bytes (D-Bus specification, "Valid Names").
const MAX_NAME_BYTES: usize = 255;

/// What a person asks the daemon for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusCommand {
    /// Read the configuration again.
    Reload,
    /// Take a device into the monitoring; an agent is started.
    Enable(DeviceName),
    /// Take a device out of the monitoring; an agent is stopped.
    Disable(DeviceName),
    /// Publish a device's recorded states now.
    Restore(DeviceName),
    /// Stop an agent and start it again.
    RestartAgent(DeviceName),
}

impl BusCommand {
    /// Whom it concerns.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceName> {
        match self {
            Self::Reload => None,
            Self::Enable(device)
            | Self::Disable(device)
            | Self::Restore(device)
            | Self::RestartAgent(device) => Some(device),
        }
    }
}

/// A call on its way to the daemon. Dropping it unanswered tells the caller that the daemon is
/// ending.
#[derive(Debug)]
pub enum Request {
    Command {
        command: BusCommand,
        reply: oneshot::Sender<Result<(), Rejection>>,
    },
    /// What is known of one device.
    View {
        device: DeviceName,
        reply: oneshot::Sender<Result<DeviceView, Rejection>>,
    },
    /// What is known of at most [`PAGE`] devices, by name, after the one given.
    Views {
        after: Option<DeviceName>,
        reply: oneshot::Sender<Result<Vec<DeviceView>, Rejection>>,
    },
    /// The figures of the whole monitoring.
    Summary {
        reply: oneshot::Sender<Result<Summary, Rejection>>,
    },
    /// Recorded states in topic order, a page of them, after the topic given.
    States {
        of: Selection,
        after: Option<TopicName>,
        reply: oneshot::Sender<Result<StatePage, Rejection>>,
    },
    /// Give a state; the daemon adds the time. The answer tells whether it was published too.
    SetState {
        state: StateRecord,
        reply: oneshot::Sender<Result<bool, Rejection>>,
    },
    /// Forget a state, and with `clear` take it from the broker too.
    ForgetState {
        topic: TopicName,
        clear: bool,
        reply: oneshot::Sender<Result<Forgotten, Rejection>>,
    },
    /// Record states that are not older than what is recorded.
    ImportStates {
        states: Vec<StateRecord>,
        reply: oneshot::Sender<Result<Imported, Rejection>>,
    },
}

/// Which recorded states are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    All,
    /// Those that match its stateTopics.
    Device(DeviceName),
    Filter(TopicFilter),
}

/// A page of recorded states; `next`, where there is more, is what the next page comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePage {
    pub states: Vec<StateRecord>,
    pub next: Option<TopicName>,
}

/// What became of a state that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// There was one.
    pub recorded: bool,
    /// The broker was told to drop its retained message.
    pub cleared: bool,
}

/// What became of states that were imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// The others were older than what is recorded.
    pub recorded: usize,
    /// They match no stateTopics of any device at the moment.
    pub unclaimed: usize,
}

/// Devices in one answer to ListDevices: far below what a bus lets through in one message, and a
/// moment's work for the daemon.
pub const PAGE: usize = 1_000;

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "there is no device or agent `{0}`; its name is what follows `device_` or `agent_` in the configuration"
    )]
    UnknownDevice(DeviceName),
    /// In words, for the person who asked.
    #[error("{0}")]
    Failed(String),
}

/// The name that a daemon owns on the bus: [`NAME`] with the default clientid, else `NAME.X` with
/// X being the clientid with each byte that is no ASCII letter or digit written as `_` and two hex
/// digits, after an `i` where it begins with a digit or is empty (an element of a bus name may
/// not begin with a digit).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_instance_has_the_plain_name_and_others_their_own() {
        for (client_id, name) in [
            ("iotmonitor", "org.iotmonitor.Monitor1"),
            ("garden", "org.iotmonitor.Monitor1.garden"),
            ("my-house.2", "org.iotmonitor.Monitor1.my_2dhouse_2e2"),
            ("a_b", "org.iotmonitor.Monitor1.a_5fb"),
            ("2nd", "org.iotmonitor.Monitor1.i2nd"),
            ("ü", "org.iotmonitor.Monitor1._c3_bc"),
            ("", "org.iotmonitor.Monitor1.i"),
        ] {
            assert_eq!(well_known_name(client_id).as_deref(), Some(name));
        }
        assert_eq!(well_known_name(&"x".repeat(300)), None);
    }
}
