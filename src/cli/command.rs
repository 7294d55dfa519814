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
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(bus::call(bus, addressee, command)) {
        Ok(()) => 0,
        Err(error) => fail::<CallError>(&error),
    }
}

fn fail<E: std::fmt::Display>(error: &E) -> u8 {
    eprintln!("iotmonitor: {error}");
    EXIT_FAILURE
}
