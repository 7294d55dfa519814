//! The part of systemd's D-Bus interface that is used (org.freedesktop.systemd1(5)), and the
//! meaning of its errors.

use crate::dbus::CALL_TIMEOUT;
use std::io::ErrorKind;
use zbus::{DBusError as _, OwnedObjectPath, Variant};

/// The service manager's name on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The path of its manager object.
pub(super) const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";

/// The object path below which all units are.
pub(super) const UNIT_NAMESPACE: &str = "/org/freedesktop/systemd1/unit";

/// A property with its name, as StartTransientUnit takes it.
pub(super) type Property = (&'static str, Variant<'static>);

/// One row of ListUnits: name, description, load state, active state, sub state, followed unit,
/// path, job id, job type, job path.
pub(super) type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Units to be created along with a transient one; there are never any.
pub(super) type AuxiliaryUnit = (&'static str, Vec<Property>);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    fn ref_unit(&self, name: &str) -> zbus::Result<()>;

    fn unref_unit(&self, name: &str) -> zbus::Result<()>;

    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<ListedUnit>>;

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[Property],
        auxiliary: &[AuxiliaryUnit],
    ) -> zbus::Result<OwnedObjectPath>;

    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;
}

/// The meaning of an error of a call to systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The unit is not loaded.
    NoSuchUnit,
    /// The unit is loaded, or has a file.
    UnitExists,
    AlreadySubscribed,
    /// systemd is not on the bus, or left it before it answered; the call may have taken effect.
    ManagerAway,
    /// Any other error: systemd's final answer to that call.
    Refused,
}

pub(super) fn meaning(error: &zbus::Error) -> Meaning {
    match error {
        zbus::Error::MethodError(name, _, _) => match name.as_str() {
            "org.freedesktop.systemd1.NoSuchUnit" => Meaning::NoSuchUnit,
            "org.freedesktop.systemd1.UnitExists" => Meaning::UnitExists,
            "org.freedesktop.systemd1.AlreadySubscribed" => Meaning::AlreadySubscribed,
            _ => Meaning::Refused,
        },
        zbus::Error::InputOutput(_) => Meaning::ManagerAway,
        zbus::Error::FDO(fdo) => match fdo.name().as_str() {
            "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner"
            | "org.freedesktop.DBus.Error.Disconnected"
            | "org.freedesktop.DBus.Error.Spawn.ChildExited"
            | "org.freedesktop.DBus.Error.Spawn.ChildSignaled" => Meaning::ManagerAway,
            _ => Meaning::Refused,
        },
        _ => Meaning::Refused,
    }
}

/// Whether a call was not answered in time.
pub(super) fn is_timeout(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(error) if error.kind() == ErrorKind::TimedOut)
}

/// systemd's own message of an error, without the D-Bus names around it.
pub(super) fn words(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(text), _) => text.clone(),
        zbus::Error::FDO(fdo) => fdo.description().map_or_else(|| error.to_string(), str::to_owned),
        error if is_timeout(error) => {
            format!("systemd has not answered for {} s", CALL_TIMEOUT.as_secs())
        }
        other => other.to_string(),
    }
}
