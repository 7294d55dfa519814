//! Values that follow from an agent's section alone: when its unit must be created anew, and the
//! delay of a relaunch.

use crate::backoff::Backoff;
use crate::model::cluster::sharing::{Tenure, WhenCut};
use crate::model::device_name::DeviceName;
use crate::model::spec::{AgentSpec, Exec, Sandbox};
use std::fmt::Write;
use std::time::Duration;

/// The delay of a relaunch: doubling from the first to the last, and up to a quarter shorter, so
/// that agents which failed together do not come back together.
pub(super) fn delay_of(spec: &AgentSpec, step: u32, percent: u32) -> Duration {
    let backoff = Backoff::new(spec.restart_delay, spec.restart_max_delay);
    let capped = backoff.delay_after(step);
    capped - capped / 400 * percent.min(100)
}

/// A hash over everything that defines the unit, stable across versions of the program: an upgrade
/// must leave agents alone. Unset keys are not hashed, so a new key changes nothing.
pub(super) fn definition_of(name: &DeviceName, spec: &AgentSpec, tenure: Option<Tenure>) -> String {
    let mut text = format!("name={name}\n");
    match &spec.exec {
        Exec::Shell(line) => writeln!(text, "shell={line:?}"),
        Exec::Argv(arguments) => writeln!(text, "argv={arguments:?}"),
    }
    .unwrap_or(());
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            writeln!(text, "{key}={value:?}").unwrap_or(());
        }
    };
    add("user", spec.user.clone());
    add("group", spec.group.clone());
    add("directory", spec.working_directory.as_ref().map(|path| path.display().to_string()));
    for (variable, value) in &spec.environment {
        add(&format!("environment.{variable}"), Some(value.clone()));
    }
    add("environmentFile", spec.environment_file.as_ref().map(|path| path.display().to_string()));
    add("stopTimeout", spec.stop_timeout.map(|timeout| timeout.as_micros().to_string()));
    add("memoryMax", spec.memory_max.map(|bytes| bytes.to_string()));
    add("cpuQuota", spec.cpu_quota_percent.map(|percent| percent.to_string()));
    add("tasksMax", spec.tasks_max.map(|tasks| tasks.to_string()));
    add("sandbox", (spec.sandbox == Sandbox::Strict).then(|| "strict".to_owned()));
    add("mqttServer", Some(spec.mqtt_server.clone()));
    add("epoch", tenure.map(|tenure| tenure.epoch.0.to_string()));
    let keeps = tenure.is_some_and(|tenure| tenure.when_cut == WhenCut::Keep);
    add("whenCut", keeps.then(|| "keep".to_owned()));
    for (credential, file) in &spec.credentials {
        add(&format!("credential.{credential}"), Some(file.display().to_string()));
    }
    format!("{:016x}", fnv1a(text.as_bytes()))
}

/// FNV-1a, 64 bits (draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
