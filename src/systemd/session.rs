//! One session with systemd: the calls that the checks of units and the jobs make.

use super::condition::{Properties, active_state, changed_at, text_of};
use super::inbox::Inbox;
use super::properties::GUARD;
use super::proxy::{ManagerProxy, Meaning, SYSTEMD, meaning};
use super::reading::{UNIT_PATTERN, UnitReading, interpret};
use super::usage::{Usage, directory_of, group_of, usage_of};
use iotmonitor_core::model::unit::ActiveState;
use iotmonitor_core::model::unit_name::UnitName;
use std::path::PathBuf;
use std::sync::Arc;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath};

/// One connection to systemd, shared by the unit checks and the jobs.
pub(super) struct ManagerSession {
    pub manager: ManagerProxy<'static>,
    pub inbox: Arc<Inbox>,
    calls: Connection,
    pub client_id: String,
}

impl ManagerSession {
    pub async fn new(
        calls: Connection,
        inbox: Arc<Inbox>,
        client_id: String,
    ) -> zbus::Result<Self> {
        // The one property that is asked for changes without a signal.
        let cached = CacheProperties::No;
        let manager = ManagerProxy::builder(&calls).cache_properties(cached).build().await?;
        Ok(Self { manager, inbox, calls, client_id })
    }

    /// Makes systemd send its signals, which it does only for subscribers.
    pub async fn subscribe(&self) -> zbus::Result<()> {
        match self.manager.subscribe().await {
            Err(error) if meaning(&error) == Meaning::AlreadySubscribed => Ok(()),
            other => other,
        }
    }

    /// All units with an agent's name, including those of others.
    pub async fn list(&self) -> zbus::Result<Vec<(UnitName, OwnedObjectPath, ActiveState)>> {
        let listed = self.manager.list_units_by_patterns(&[], &[UNIT_PATTERN]).await?;
        Ok(listed
            .into_iter()
            .filter(|row| row.2 != "not-found")
            .map(|row| (UnitName::from_systemd(row.0), row.6, active_state(&row.3)))
            .collect())
    }

    /// Whether a name on the bus has an owner.
    pub async fn is_owned(&self, name: &str) -> zbus::Result<bool> {
        const BUS: &str = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        let reply = self.calls.call_method(Some(BUS), path, Some(BUS), "NameHasOwner", &(name));
        reply.await?.body().deserialize()
    }

    /// The object behind a unit's name at present. It never makes systemd load the unit: a query by
    /// object path alone would, and each load is signalled as a new unit.
    pub async fn read(&self, unit: &UnitName) -> zbus::Result<UnitReading> {
        self.read_as(unit, &self.client_id).await
    }

    /// The same where the unit must carry the marker of this clientid.
    pub async fn read_as(&self, unit: &UnitName, client_id: &str) -> zbus::Result<UnitReading> {
        self.read_in_full(unit, client_id).await.map(|(reading, _)| reading)
    }

    pub async fn read_in_full(
        &self,
        unit: &UnitName,
        client_id: &str,
    ) -> zbus::Result<(UnitReading, Particulars)> {
        let path = match self.manager.get_unit(unit.as_str()).await {
            Ok(path) => path,
            Err(error) if meaning(&error) == Meaning::NoSuchUnit => {
                return Ok((UnitReading::Absent, Particulars::default()));
            }
            Err(error) => return Err(error),
        };
        self.read_path(unit, &path, client_id).await
    }

    /// The properties of all interfaces of a unit, at one moment.
    pub async fn all_properties(&self, path: &OwnedObjectPath) -> zbus::Result<zbus::Message> {
        let interface = Some("org.freedesktop.DBus.Properties");
        // An empty interface name means all.
        self.calls.call_method(Some(SYSTEMD), path, interface, "GetAll", &("")).await
    }

    /// The unit with what is not part of its report.
    pub async fn read_path(
        &self,
        unit: &UnitName,
        path: &OwnedObjectPath,
        client_id: &str,
    ) -> zbus::Result<(UnitReading, Particulars)> {
        let reply = self.all_properties(path).await?;
        let body = reply.body();
        let properties: Properties<'_> = body.deserialize()?;
        let reading = interpret(unit, client_id, &properties);
        let mut particulars = Particulars { is_answer: true, ..Particulars::default() };
        if let UnitReading::Own(report) = &reading {
            particulars.changed_at = changed_at(&properties);
            if report.main_pid == 0 {
                particulars.last_usage = usage_of(&properties);
            } else {
                particulars.group = group_of(&properties).map(directory_of);
            }
        }
        Ok((reading, particulars))
    }

    /// How the guard of this node has ended; `None` while it is up or starts.
    pub async fn end_of_guard(&self) -> zbus::Result<Option<String>> {
        let path = match self.manager.get_unit(GUARD).await {
            Ok(path) => path,
            Err(error) if meaning(&error) == Meaning::NoSuchUnit => {
                return Ok(Some("not loaded".to_owned()));
            }
            Err(error) => return Err(error),
        };
        let reply = self.all_properties(&path).await?;
        let body = reply.body();
        let properties: Properties<'_> = body.deserialize()?;
        let is_alive = active_state(text_of(&properties, "ActiveState")).is_alive();
        Ok((!is_alive).then(|| text_of(&properties, "Result").to_owned()))
    }

    /// Whether the manager is going down.
    pub async fn is_stopping(&self) -> zbus::Result<bool> {
        Ok(self.manager.system_state().await? == "stopping")
    }

    /// Whether a job is still queued or running.
    pub async fn job_exists(&self, job: &OwnedObjectPath) -> zbus::Result<bool> {
        let reply = self
            .calls
            .call_method(
                Some(SYSTEMD),
                job,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &("org.freedesktop.systemd1.Job", "State"),
            )
            .await;
        match reply {
            Ok(_) => Ok(true),
            Err(error) if meaning(&error) == Meaning::ManagerAway => Err(error),
            Err(_unknown_object) => Ok(false),
        }
    }
}

/// What is read of an own unit beside its report.
#[derive(Debug, Default)]
pub(super) struct Particulars {
    /// The directory of its control group, if it has a main process and that is known.
    pub group: Option<PathBuf>,
    /// When it last changed its state, in microseconds of the monotonic clock.
    pub changed_at: u64,
    /// What it has used, if its main process has ended.
    pub last_usage: Usage,
    /// Whether this was systemd's answer, and not a signal.
    pub is_answer: bool,
}
