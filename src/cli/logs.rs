//! `iotmonitor logs NAME`: shows the journal's entries about one device or agent. The process
//! becomes journalctl.
//!
//! An agent's own output, systemd's messages about its unit and the monitor's messages about it are
//! shown together; for a device there are only the monitor's alerts. The running monitor is only
//! asked whether the name exists, so a journal can also be read when no monitor runs.

use super::command::{fail, in_runtime, suggesting};
use crate::bus::{Addressee, CallError, Caller};
use crate::dbus::Bus;
use crate::systemd::journal::terms_about;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::unit_name::UnitName;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The arguments of the command.
#[derive(Debug)]
pub struct LogsQuery {
    pub name: String,
    pub follow: bool,
    pub lines: Option<u32>,
    /// Further arguments of journalctl.
    pub rest: Vec<String>,
}

/// Returns only when journalctl could not be run, with the exit code.
pub fn logs(bus: Bus, client_id: String, question: LogsQuery) -> u8 {
    let name = match DeviceName::new(question.name) {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    let unit = match UnitName::for_agent(&client_id, name.as_str()) {
        Ok(unit) => unit,
        Err(error) => return fail(&error),
    };
    match in_runtime(check_name(bus, client_id, &name)) {
        // A device that is no longer configured has left entries behind.
        Ok(Err(CallError::UnknownDevice(sentence))) => {
            return fail(&format!(
                "{sentence}\n(`journalctl IOTMONITOR_DEVICE={name}` shows what an earlier one left)"
            ));
        }
        Ok(_) => {}
        Err(error) => return fail(&error),
    }
    let mut journalctl = Command::new("journalctl");
    journalctl.args(question.follow.then_some("--follow"));
    journalctl.args(question.lines.map(|lines| format!("--lines={lines}")));
    journalctl.args(question.rest);
    journalctl.args(terms_about(bus, &name, Some(&unit)));
    let error = journalctl.exec();
    fail(&format!("journalctl cannot be run: {error}"))
}

async fn check_name(bus: Bus, client_id: String, name: &DeviceName) -> Result<(), CallError> {
    let caller = Caller::connect(bus, None, Addressee::ClientId(client_id)).await?;
    suggesting(&caller, name, caller.device(name).await).await.map(drop)
}
