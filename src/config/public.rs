//! Warns of secrets in properties that systemd shows to every user of the machine: the command and
//! the environment of an agent (`systemctl show`).
//!
//! No message shows a value.

use super::exposure::{command_shows_secret, is_secret};
use super::report::ConfigReport;
use super::section::{self, Field};
use iotmonitor_core::model::spec::DeviceSpec;
use toml::de::DeTable;

/// Warns of names that suggest a secret.
pub(super) fn warn(root: &DeTable<'_>, devices: &[DeviceSpec], report: &mut ConfigReport) {
    for device in devices {
        let Some(agent) = device.agent.as_deref() else { continue };
        let title = format!("agent_{}", device.name);
        if command_shows_secret(&agent.exec)
            && let Some(exec) = section::value_of(root, &title, "exec")
        {
            let message =
                format!("exec of [{title}] seems to hold a secret, and every user can read it");
            let hint = "systemd shows commands to everybody: let the program read it from an \
                        environmentFile that only root may read, or from $CREDENTIALS_DIRECTORY \
                        (passCredentials)";
            report.warning(&exec.span, message, hint);
        }
        let variables = section::value_of(root, &title, "environment");
        let Some(table) = variables.as_ref().and_then(|field| field.value.as_table()) else {
            continue;
        };
        for Field { key, key_span, .. } in section::fields(table) {
            if agent.environment.get(key).is_some_and(|value| is_secret(key, value)) {
                let message = format!("`{key}` sounds like a secret, and every user can read it");
                let hint = "systemd shows the environment to everybody: put it into an \
                            environmentFile that only root may read, or use passCredentials for the \
                            broker's";
                report.warning(&key_span, message, hint);
            }
        }
    }
}
