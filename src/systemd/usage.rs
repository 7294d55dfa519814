//! The current resource usage of a unit, queried from systemd on request.

use super::proxy::{ManagerProxy, SYSTEMD};
use crate::dbus::{Bus, CALL_TIMEOUT, connect};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use zbus::Variant;

/// The figures of systemd's accounting; `None` where it keeps none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The memory of all processes of the unit together, in bytes.
    pub memory: Option<u64>,
    /// The peak memory, in bytes.
    pub memory_peak: Option<u64>,
    /// The processor time of the present invocation.
    pub cpu: Option<Duration>,
}

/// Queries each of the units; one that is not loaded uses nothing.
///
/// # Errors
/// Returns an error when the bus cannot be reached.
pub async fn usages(bus: Bus, units: &[&str]) -> zbus::Result<Vec<Usage>> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let connection = connect(bus, None, CALL_TIMEOUT).await?;
    let manager = ManagerProxy::new(&connection).await?;
    let mut usages = Vec::with_capacity(units.len());
    for unit in units {
        let usage = async {
            let path = manager.get_unit(unit).await?;
            let proxy =
                zbus::Proxy::new(&connection, SYSTEMD, path, "org.freedesktop.DBus.Properties")
                    .await?;
            let reply = proxy.call_method("GetAll", &"org.freedesktop.systemd1.Service").await?;
            let body = reply.body();
            zbus::Result::Ok(usage_of(&body.deserialize()?))
        };
        usages.push(usage.await.unwrap_or_default());
    }
    Ok(usages)
}

fn usage_of(properties: &HashMap<String, Variant<'_>>) -> Usage {
    // The largest number means "not accounted" (org.freedesktop.systemd1(5)).
    let number = |key: &str| match properties.get(key) {
        Some(Variant::U64(number)) if *number != u64::MAX => Some(*number),
        _ => None,
    };
    let group = match properties.get("ControlGroup") {
        Some(Variant::Str(path)) if !path.is_empty() => Some(path.as_str()),
        _ => None,
    };
    Usage {
        memory: number("MemoryCurrent"),
        // systemd reports it from version 255 on, the kernel from 5.19 on.
        memory_peak: number("MemoryPeak")
            .or_else(|| group.and_then(|path| peak_of(Path::new(CGROUPS), path))),
        cpu: number("CPUUsageNSec").map(Duration::from_nanos),
    }
}

/// The directory of control groups (systemd.resource-control(5)).
const CGROUPS: &str = "/sys/fs/cgroup";

/// The kernel's figures of a control group, which exists as long as one of its processes.
fn peak_of(root: &Path, group: &str) -> Option<u64> {
    let file = root.join(group.trim_start_matches('/')).join("memory.peak");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_accounted_is_no_figure() {
        let properties = HashMap::from([
            ("MemoryCurrent".to_owned(), Variant::from(u64::MAX)),
            ("CPUUsageNSec".to_owned(), Variant::from(1_500_000_000_u64)),
        ]);
        let usage = usage_of(&properties);
        assert_eq!(
            usage,
            Usage { memory: None, memory_peak: None, cpu: Some(Duration::from_millis(1_500)) }
        );
    }

    #[test]
    fn the_peak_is_systemds_or_else_the_kernels() {
        let peak = HashMap::from([("MemoryPeak".to_owned(), Variant::from(12_345_u64))]);
        assert_eq!(usage_of(&peak).memory_peak, Some(12_345));
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("iotmonitor.slice/x.service");
        std::fs::create_dir_all(&group).unwrap();
        assert_eq!(peak_of(root.path(), "/iotmonitor.slice/x.service"), None);
        std::fs::write(group.join("memory.peak"), "4096\n").unwrap();
        assert_eq!(peak_of(root.path(), "/iotmonitor.slice/x.service"), Some(4_096));
    }
}
