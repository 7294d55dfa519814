//! `reload`, `enable`, `disable`, `restore`, `restart`, `forget` and others: one call to the running monitor each.

use super::EXIT_FAILURE;
use super::output::{OutputError, print, say};
use crate::bus::{Addressee, CallError, Caller};
use crate::config::nearest::nearest;
use crate::dbus::Bus;
use crate::request::Command;
use crate::time_span::{self, MAX_TIME_SPAN};
use iotmonitor_core::model::device_name::DeviceName;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

pub fn reload(bus: Bus, addressee: Addressee) -> u8 {
    send(bus, addressee, Command::Reload)
}

pub fn enable(bus: Bus, addressee: Addressee, name: String, wait: bool) -> u8 {
    order(bus, addressee, name, wait, Command::Enable)
}

/// Permanently, or for a time.
pub fn disable(
    bus: Bus,
    addressee: Addressee,
    name: String,
    span: Option<Duration>,
    wait: bool,
) -> u8 {
    order(bus, addressee, name, wait, |name| match span {
        Some(span) => Command::Pause(name, span),
        None => Command::Disable(name),
    })
}

pub fn restore(bus: Bus, addressee: Addressee, name: String) -> u8 {
    send_about(bus, addressee, name, Command::Restore)
}

pub fn restart(bus: Bus, addressee: Addressee, name: String, wait: bool) -> u8 {
    order(bus, addressee, name, wait, Command::RestartAgent)
}

/// Takes a learned device out of its fleet for good.
pub fn forget(bus: Bus, addressee: Addressee, name: String) -> u8 {
    send_about(bus, addressee, name, Command::Forget)
}

/// Suppresses notifications about a device, or about everything, for a time.
pub fn silence(bus: Bus, addressee: Addressee, name: Option<String>, span: Duration) -> u8 {
    send_about_any(bus, addressee, name, |name| Command::Silence(name, span))
}

pub fn unsilence(bus: Bus, addressee: Addressee, name: Option<String>) -> u8 {
    send_about_any(bus, addressee, name, Command::Unsilence)
}

/// Sends a test alert, and prints the result.
pub fn test_alert(bus: Bus, addressee: Addressee, name: Option<String>) -> u8 {
    let name = match name.map(DeviceName::new).transpose() {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let outcome = caller.order(Command::TestAlert(name.clone()), true).await;
        match &name {
            Some(name) => suggesting(&caller, name, outcome).await?,
            None => outcome?,
        }
        print("the test alert was sent, and its unit has succeeded\n")?;
        Ok::<(), AskError>(())
    }))
}

fn send_about_any(
    bus: Bus,
    addressee: Addressee,
    name: Option<String>,
    command: impl FnOnce(Option<DeviceName>) -> Command,
) -> u8 {
    match name.map(DeviceName::new).transpose() {
        Ok(name) => send(bus, addressee, command(name)),
        Err(error) => fail(&error),
    }
}

/// Waits until the command has taken effect, or only until it was accepted; a success prints
/// nothing.
fn order(
    bus: Bus,
    addressee: Addressee,
    name: String,
    wait: bool,
    command: impl FnOnce(DeviceName) -> Command,
) -> u8 {
    let name = match DeviceName::new(name) {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let outcome = caller.order(command(name.clone()), wait).await;
        suggesting(&caller, &name, outcome).await
    }))
}

/// The shortest and the longest time for which a device may be disabled.
const PAUSE: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_TIME_SPAN;

/// The time span of `--for`, in the form of the configuration.
pub fn pause(text: &str) -> Result<Duration, String> {
    let span = time_span::parse(text).map_err(|error| error.to_string())?;
    if PAUSE.contains(&span) {
        return Ok(span);
    }
    let (least, most) = (time_span::format(*PAUSE.start()), time_span::format(*PAUSE.end()));
    Err(format!("it must be from {least} to {most}"))
}

fn send_about(
    bus: Bus,
    addressee: Addressee,
    name: String,
    command: fn(DeviceName) -> Command,
) -> u8 {
    match DeviceName::new(name) {
        Ok(name) => send(bus, addressee, command(name)),
        Err(error) => fail(&error),
    }
}

/// Waits for the outcome; a success prints nothing.
fn send(bus: Bus, addressee: Addressee, command: Command) -> u8 {
    let name = command.device().cloned();
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let outcome = caller.send(command).await;
        match name {
            Some(name) => suggesting(&caller, &name, outcome).await,
            None => outcome,
        }
    }))
}

/// Adds the nearest existing name to the answer that no device has this name.
pub(super) async fn suggesting<T>(
    caller: &Caller,
    name: &DeviceName,
    outcome: Result<T, CallError>,
) -> Result<T, CallError> {
    let Err(CallError::UnknownDevice(sentence)) = outcome else { return outcome };
    let devices = caller.devices().await?;
    let names = devices.iter().map(|device| device.name.as_str());
    Err(CallError::UnknownDevice(match nearest(name.as_str(), names) {
        Some(near) => format!("there is no device or agent `{name}`, did you mean `{near}`?"),
        None => sentence,
    }))
}

/// Explains why a command that asks the monitor and prints has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Runs a future in a runtime, prints its error, and returns the exit code.
pub(super) fn conclude<E: Display>(outcome: std::io::Result<Result<(), E>>) -> u8 {
    match outcome {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => fail(&error),
        Err(error) => fail(&error),
    }
}

/// Waits for something that needs a runtime; fails when the system has no resources for one.
pub(super) fn in_runtime<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// Prints the error; returns the exit code.
pub(super) fn fail<E: Display>(error: &E) -> u8 {
    say!("iotmonitor: {error}");
    EXIT_FAILURE
}
