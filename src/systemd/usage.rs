//! The resource usage of units: queried from systemd on request, and read from the files of their
//! control groups each minute, which costs systemd nothing.

use super::condition::{Properties, text_of};
use super::proxy::{ManagerProxy, SYSTEMD};
use crate::dbus::{Bus, CALL_TIMEOUT, connect};
use iotmonitor_core::model::unit_name::UnitName;
use std::path::{Path, PathBuf};
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

pub(super) fn usage_of(properties: &Properties<'_>) -> Usage {
    // The largest number means "not accounted" (org.freedesktop.systemd1(5)).
    let number = |key: &str| match properties.get(key) {
        Some(Variant::U64(number)) if *number != u64::MAX => Some(*number),
        _ => None,
    };
    Usage {
        memory: number("MemoryCurrent"),
        // systemd reports it from version 255 on, the kernel from 5.19 on.
        memory_peak: number("MemoryPeak").or_else(|| {
            group_of(properties).and_then(|group| figure(&directory_of(group), "memory.peak"))
        }),
        cpu: number("CPUUsageNSec").map(Duration::from_nanos),
    }
}

/// The control group of a unit that has processes.
pub(super) fn group_of<'p>(properties: &'p Properties<'_>) -> Option<&'p str> {
    Some(text_of(properties, "ControlGroup")).filter(|path| !path.is_empty())
}

/// The directory of control groups (systemd.resource-control(5)).
const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) fn directory_of(group: &str) -> PathBuf {
    Path::new(CGROUPS).join(group.trim_start_matches('/'))
}

/// The directory of the control group of a unit, by one of its processes; `None` when the process has
/// ended or left the unit.
pub(super) fn group_of_process(process: u32, unit: &UnitName) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    // The one of version 2 has the number 0 and no controllers (cgroups(7)).
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    directory_within(path, unit)
}

/// The part of the path of a control group that ends with the unit's.
fn directory_within(path: &str, unit: &UnitName) -> Option<PathBuf> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let end = parts.iter().position(|part| *part == unit.as_str())?;
    parts.truncate(end + 1);
    // Seen from a namespace of control groups, a path can begin outside.
    (!parts.contains(&"..")).then(|| directory_of(&parts.join("/")))
}

/// The kernel's figures of a control group, which exist as long as one of its processes. Without the
/// memory controller there are none of memory.
pub(super) fn measure(directory: &Path) -> Usage {
    let cpu = std::fs::read_to_string(directory.join("cpu.stat")).ok();
    let micros =
        cpu.as_deref().and_then(|text| text.lines().find_map(|it| it.strip_prefix("usage_usec ")));
    Usage {
        memory: figure(directory, "memory.current"),
        memory_peak: figure(directory, "memory.peak"),
        cpu: micros.and_then(|micros| micros.parse().ok()).map(Duration::from_micros),
    }
}

fn figure(directory: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_accounted_is_no_figure() {
        let properties = Properties::from([
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
        let peak = Properties::from([("MemoryPeak".to_owned(), Variant::from(12_345_u64))]);
        assert_eq!(usage_of(&peak).memory_peak, Some(12_345));
        let gone = Properties::from([("ControlGroup".to_owned(), Variant::from("/none.service"))]);
        assert_eq!(usage_of(&gone), Usage::default());
    }

    #[test]
    fn the_control_group_of_a_unit_is_above_that_of_its_process() {
        let unit = UnitName::from_systemd("iotmonitor-agent-box.service");
        let within = |path: &str| directory_within(path, &unit);
        let own = Path::new("/sys/fs/cgroup/iotmonitor.slice/iotmonitor-agent-box.service");
        assert_eq!(within("/iotmonitor.slice/iotmonitor-agent-box.service").as_deref(), Some(own));
        let below = "/iotmonitor.slice/iotmonitor-agent-box.service/libpod-payload";
        assert_eq!(within(below).as_deref(), Some(own));
        assert_eq!(within("/user.slice/user-0.slice/session-1.scope"), None);
        assert_eq!(within("/../iotmonitor.slice/iotmonitor-agent-box.service"), None);
    }

    #[test]
    fn a_control_group_is_measured_as_far_as_the_kernel_accounts_for_it() {
        let group = tempfile::tempdir().unwrap();
        assert_eq!(measure(group.path()), Usage::default(), "it is gone");
        let cpu = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        std::fs::write(group.path().join("cpu.stat"), cpu).unwrap();
        let cpu = Some(Duration::from_micros(1_500));
        assert_eq!(measure(group.path()), Usage { memory: None, memory_peak: None, cpu });
        std::fs::write(group.path().join("memory.current"), "1024\n").unwrap();
        std::fs::write(group.path().join("memory.peak"), "4096\n").unwrap();
        let known = Usage { memory: Some(1_024), memory_peak: Some(4_096), cpu };
        assert_eq!(measure(group.path()), known);
        assert_eq!(
            directory_of("/a.slice/b.service"),
            Path::new("/sys/fs/cgroup/a.slice/b.service")
        );
    }
}
