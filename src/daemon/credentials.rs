//! Writes the broker's credentials as files, which systemd hands to the agents that request them.
//!
//! The files lie in a runtime directory (systemd.exec(5), RuntimeDirectory=), in memory and
//! accessible to the monitor's user alone. They remain when the monitor ends, because systemd
//! restarts agents while it is down. Each agent's unit states which of them it receives.

use crate::mqtt::settings::MqttSettings;
use iotmonitor_core::model::spec::MonitorSpec;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes the credentials of the agents, or removes them where no agent receives any.
///
/// # Errors
/// Returns an error when the directory cannot be written to.
pub fn keep(directory: &Path, broker: &MqttSettings, spec: &MonitorSpec) -> io::Result<()> {
    let wanted = spec
        .devices
        .iter()
        .any(|device| device.agent.as_ref().is_some_and(|agent| !agent.credentials.is_empty()));
    let mut credentials = broker.credentials();
    for name in MqttSettings::CREDENTIALS {
        let file = directory.join(name);
        match credentials.remove(name).filter(|_| wanted) {
            Some(secret) => write(directory, &file, secret.reveal())?,
            None => remove(&file)?,
        }
    }
    Ok(())
}

/// The replacement is atomic: an agent that starts meanwhile finds the old file or the new one. Only
/// the monitor's user may read it.
fn write(directory: &Path, file: &Path, text: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut draft = NamedTempFile::new_in(directory)?;
    draft.write_all(text.as_bytes())?;
    draft.persist(file)?;
    Ok(())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
