//! `reload`, `enable`, `disable`, `restore` and `restart`: one call to the running monitor each.

use super::EXIT_FAILURE;
use crate::bus::{self, Addressee, BusCommand, CallError};
use crate::dbus::Bus;
use crate::monitor::spec::DeviceName;

pub fn reload(bus: Bus, addressee: Addressee) -> u8 {
    send(bus, addressee, BusCommand::Reload)
}

pub fn enable(bus: Bus, addressee: Addressee, name: String) -> u8 {
    send_about(bus, addressee, name, BusCommand::Enable)
}

pub fn disable(bus: Bus, addressee: Addressee, name: String) -> u8 {
    send_about(bus, addressee, name, BusCommand::Disable)
}

pub fn restore(bus: Bus, addressee: Addressee, name: String) -> u8 {
    send_about(bus, addressee, name, BusCommand::Restore)
}

pub fn restart(bus: Bus, addressee: Addressee, name: String) -> u8 {
    send_about(bus, addressee, name, BusCommand::RestartAgent)
}

fn send_about(
    bus: Bus,
    addressee: Addressee,
    name: String,
    command: fn(DeviceName) -> BusCommand,
) -> u8 {
    match DeviceName::new(name) {
        Ok(name) => send(bus, addressee, command(name)),
        Err(error) => fail(&error),
    }
}

/// Waits for the outcome; nothing is said about a success.
fn send(bus: Bus, addressee: Addressee, command: BusCommand) -> u8 {
    match in_runtime(bus::call(bus, addressee, command)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => fail::<CallError>(&error),
        Err(error) => fail(&error),
    }
}

/// Waits for something that needs a runtime; fails when the system has no resources for one.
pub(super) fn in_runtime<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Says what went wrong; returns the exit code.
pub(super) fn fail<E: std::fmt::Display>(error: &E) -> u8 {
    eprintln!("iotmonitor: {error}");
    EXIT_FAILURE
}
