//! The caller's side: one command to the daemon, with sentences for what can go wrong.

use super::{BusCommand, NAME, PATH, well_known_name};
use crate::dbus::{Bus, connect};
use crate::unit_name::DEFAULT_CLIENT_ID;
use zbus::DBusError as _;

/// Why a command did not reach the daemon, or was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the bus cannot be reached ({0}); is dbus running?")]
    NoBus(String),
    #[error("iotmonitor is not running; start it with `{0}`")]
    NotRunning(String),
    #[error("you are not allowed to do this; try again with sudo")]
    Denied,
    #[error("iotmonitor does not answer; `systemctl status iotmonitor` tells more")]
    NoAnswer,
    #[error("the clientid `{0}` is too long for a name on the bus")]
    ClientIdTooLong(String),
    /// The daemon's own sentence.
    #[error("{0}")]
    UnknownDevice(String),
    /// The daemon's own sentence.
    #[error("{0}")]
    Rejected(String),
}

/// Sends a command to the daemon with this clientid and waits for its outcome.
///
/// # Errors
/// When the daemon cannot be reached or refuses, in a sentence for the person who asked.
pub async fn call(bus: Bus, client_id: &str, command: BusCommand) -> Result<(), CallError> {
    call_at(bus, None, client_id, command).await
}

/// As [`call`], over the bus at an address of its own.
///
/// # Errors
/// As [`call`].
pub async fn call_at(
    bus: Bus,
    address: Option<&str>,
    client_id: &str,
    command: BusCommand,
) -> Result<(), CallError> {
    let name = well_known_name(client_id)
        .ok_or_else(|| CallError::ClientIdTooLong(client_id.to_owned()))?;
    let connection =
        connect(bus, address).await.map_err(|error| CallError::NoBus(error.to_string()))?;
    let proxy = zbus::Proxy::new(&connection, name, PATH, NAME)
        .await
        .map_err(|error| CallError::NoBus(error.to_string()))?;
    let result = match &command {
        BusCommand::Reload => proxy.call_method("Reload", &()).await,
        BusCommand::Enable(device) => proxy.call_method("Enable", &device.as_str()).await,
        BusCommand::Disable(device) => proxy.call_method("Disable", &device.as_str()).await,
        BusCommand::Restore(device) => proxy.call_method("Restore", &device.as_str()).await,
        BusCommand::RestartAgent(device) => {
            proxy.call_method("RestartAgent", &device.as_str()).await
        }
    };
    result.map(|_reply| ()).map_err(|error| explain(bus, client_id, error))
}

fn explain(bus: Bus, client_id: &str, error: zbus::Error) -> CallError {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            let text = text.unwrap_or_else(|| name.to_string());
            match name.as_str() {
                "org.iotmonitor.Error.UnknownDevice" => CallError::UnknownDevice(text),
                _ => CallError::Rejected(text),
            }
        }
        zbus::Error::FDO(fdo) => match fdo.name().as_str() {
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                CallError::NotRunning(start_command(bus, client_id))
            }
            "org.freedesktop.DBus.Error.AccessDenied" => CallError::Denied,
            "org.freedesktop.DBus.Error.NoReply" => CallError::NoAnswer,
            _ => CallError::Rejected(fdo.to_string()),
        },
        zbus::Error::InputOutput(_) => CallError::NoAnswer,
        other => CallError::Rejected(other.to_string()),
    }
}

fn start_command(bus: Bus, client_id: &str) -> String {
    let manager = match bus {
        Bus::System => "systemctl",
        Bus::User => "systemctl --user",
    };
    if client_id == DEFAULT_CLIENT_ID {
        format!("{manager} start iotmonitor")
    } else {
        format!("{manager} start` the service whose clientid is `{client_id}")
    }
}
