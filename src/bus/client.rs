//! The caller's side: sends one command to the daemon, and describes what can go wrong.

use super::view::{from_dictionary, notifications_of};
use super::{NAME, PAGE, PATH, client_id_of, well_known_name};
use crate::dbus::{Bus, CALL_TIMEOUT, connect};
use crate::request::Command;
use iotmonitor_core::model::cluster::view::ClusterView;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::report::DeviceReport;
use iotmonitor_core::model::unit_name::DEFAULT_CLIENT_ID;
use iotmonitor_core::model::view::{DeviceView, NotificationsSummary};
use iotmonitor_core::topic::TopicFilter;
use std::collections::HashMap;
use std::time::Duration;
use zbus::proxy::MethodFlags;
use zbus::{Connection, DBusError as _, Variant};

/// A command may wait for a person's password, which polkit requests, and for an agent to end,
/// which takes as long as its stopTimeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(900);

/// Explains why a command did not reach the daemon, or was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the bus cannot be reached ({0}); is dbus running?")]
    NoBus(String),
    /// The way to start it, and the monitors that run instead.
    #[error("iotmonitor is not running; start it with `{0}`{1}")]
    NotRunning(String, String),
    #[error("you are not allowed to do this ({0}){hint}", hint = sudo_hint())]
    Denied(String),
    #[error(
        "the bus lets nothing through to iotmonitor ({0}): see that \
         /usr/share/dbus-1/system.d/org.iotmonitor.Monitor1.conf is there, and `systemctl reload dbus`"
    )]
    Blocked(String),
    /// The command that shows its unit.
    #[error("iotmonitor does not answer; `{0}` shows more")]
    NoAnswer(String),
    #[error("the clientid `{0}` is too long for a name on the bus")]
    ClientIdTooLong(String),
    /// The command that starts the present version.
    #[error("the running iotmonitor is of an earlier version that cannot do this; `{0}` ends it")]
    Older(String),
    /// The daemon's own sentence.
    #[error("{0}")]
    UnknownDevice(String),
    /// The daemon's own sentence.
    #[error("{0}")]
    Rejected(String),
}

/// Root gains nothing from this hint.
fn sudo_hint() -> &'static str {
    if nix::unistd::geteuid().is_root() { "" } else { "; try again with sudo" }
}

/// Selects one of several daemons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressee {
    /// The daemon with this clientid.
    ClientId(String),
    /// The daemon with this process, whatever its clientid: the value of `$MAINPID` in a unit.
    Process(u32),
}

impl From<&str> for Addressee {
    fn from(client_id: &str) -> Self {
        Self::ClientId(client_id.to_owned())
    }
}

/// Sends a command to a daemon and waits for its outcome.
///
/// # Errors
/// Returns an error when the daemon cannot be reached or refuses, as a sentence for the person who
/// asked.
pub async fn call(bus: Bus, addressee: Addressee, command: Command) -> Result<(), CallError> {
    call_at(bus, None, addressee, command).await
}

/// Works as [`call`], over the bus at the given address.
///
/// # Errors
/// Returns the errors of [`call`].
pub async fn call_at(
    bus: Bus,
    address: Option<&str>,
    addressee: impl Into<Addressee>,
    command: Command,
) -> Result<(), CallError> {
    Caller::connect(bus, address, addressee).await?.send(command).await
}

/// The name of a device, or the empty string for everything.
fn text_of(device: &Option<DeviceName>) -> &str {
    device.as_ref().map_or("", DeviceName::as_str)
}

/// A connection to one daemon.
#[derive(Debug)]
pub struct Caller {
    bus: Bus,
    addressee: Addressee,
    proxy: zbus::Proxy<'static>,
}

impl Caller {
    /// Finds the daemon; `address` replaces the bus's well-known one.
    ///
    /// # Errors
    /// Returns an error when the bus cannot be reached, or has no such daemon.
    pub async fn connect(
        bus: Bus,
        address: Option<&str>,
        addressee: impl Into<Addressee>,
    ) -> Result<Self, CallError> {
        let no_bus = |error: zbus::Error| CallError::NoBus(error.to_string());
        let addressee = addressee.into();
        let connection = connect(bus, address, ANSWER_TIMEOUT).await.map_err(no_bus)?;
        let name = match &addressee {
            Addressee::ClientId(id) => {
                well_known_name(id).ok_or_else(|| CallError::ClientIdTooLong(id.clone()))?
            }
            Addressee::Process(pid) => {
                name_of_process(&connection, *pid).await.map_err(no_bus)?.ok_or_else(|| {
                    CallError::NotRunning(unit_command(bus, "start", &addressee), String::new())
                })?
            }
        };
        if let Some(others) = others_than(&connection, &name).await {
            return Err(CallError::NotRunning(unit_command(bus, "start", &addressee), others));
        }
        let proxy = zbus::Proxy::new(&connection, name, PATH, NAME).await.map_err(no_bus)?;
        Ok(Self { bus, addressee, proxy })
    }

    /// Sends a command about a device, and waits for its outcome; with `wait`, until it has taken
    /// effect.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn order(&self, command: Command, wait: bool) -> Result<(), CallError> {
        let at_once = command.clone();
        let (verb, device, span) = match command {
            Command::Enable(device) => ("enable", device, None),
            Command::Disable(device) => ("disable", device, None),
            Command::Pause(device, span) => ("disable", device, Some(span)),
            Command::RestartAgent(device) => ("restart", device, None),
            Command::TestAlert(device) => {
                return self
                    .ask("Order", &("test-alert", text_of(&device), options(wait, None)))
                    .await;
            }
            other @ (Command::Reload
            | Command::Restore(_)
            | Command::Forget(_)
            | Command::Silence(..)
            | Command::Unsilence(_)) => return self.send(other).await,
        };
        match self.ask("Order", &(verb, device.as_str(), options(wait, span))).await {
            // An upgrade leaves a monitor of an earlier version running if it finds errors in its
            // file. That version's methods answer at once.
            Err(CallError::Older(_)) if span.is_none() => self.send(at_once).await,
            done => done,
        }
    }

    /// Sends a command and waits for its outcome.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn send(&self, command: Command) -> Result<(), CallError> {
        let (method, device) = match &command {
            Command::Reload => ("Reload", None),
            Command::Enable(device) => ("Enable", Some(device)),
            Command::Disable(device) => ("Disable", Some(device)),
            Command::Pause(device, span) => {
                let options = options(false, Some(*span));
                return self.ask("Order", &("disable", device.as_str(), options)).await;
            }
            Command::Silence(device, span) => {
                let options = options(false, Some(*span));
                return self.ask("Order", &("silence", text_of(device), options)).await;
            }
            Command::Unsilence(device) => {
                let options = options(false, None);
                return self.ask("Order", &("unsilence", text_of(device), options)).await;
            }
            Command::TestAlert(device) => {
                let options = options(false, None);
                return self.ask("Order", &("test-alert", text_of(device), options)).await;
            }
            Command::Restore(device) => ("Restore", Some(device)),
            Command::RestartAgent(device) => ("RestartAgent", Some(device)),
            Command::Forget(device) => ("Forget", Some(device)),
        };
        match device {
            Some(device) => self.ask(method, &device.as_str()).await,
            None => self.ask(method, &()).await,
        }
    }

    /// Calls a method that requires authorization, and waits as long as polkit may ask a person.
    pub(super) async fn ask<B, R>(&self, method: &str, body: &B) -> Result<R, CallError>
    where
        B: serde::Serialize + zbus::Type,
        R: serde::de::DeserializeOwned + zbus::Type,
    {
        let flags = MethodFlags::ALLOW_INTERACTIVE_AUTH;
        let answer = self.proxy.call_with_flags(method, flags, body).await;
        // `None` occurs only for calls without a reply.
        answer.map_err(|error| self.explain(error))?.ok_or_else(|| self.no_answer())
    }

    /// The daemon's view of one device.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn device(&self, name: &DeviceName) -> Result<DeviceView, CallError> {
        let reply = self.method("GetDevice", &name.as_str()).await?;
        let body = reply.body();
        let dictionary = body.deserialize().map_err(|error| self.explain(error))?;
        from_dictionary(&dictionary).ok_or_else(|| self.no_answer())
    }

    /// The past of the first ones of these devices, as many as make up a long answer, and without
    /// those that there are not. Days begin at the boundaries, and are those of UTC if there are none.
    ///
    /// # Errors
    /// Returns the errors of [`call`], of which [`CallError::UnknownDevice`] is for no device at all.
    pub async fn histories(
        &self,
        names: &[&str],
        since: Duration,
        boundaries: &[u64],
    ) -> Result<Vec<DeviceReport>, CallError> {
        let reply = self.method("GetHistories", &(names, since.as_secs(), boundaries)).await?;
        let texts: Vec<String> = reply.body().deserialize().map_err(|error| self.explain(error))?;
        let reports = texts.iter().map(|text| DeviceReport::from_json(text));
        reports.collect::<Option<_>>().ok_or_else(|| self.no_answer())
    }

    /// The topic filters of one device.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn topics(&self, name: &DeviceName) -> Result<Vec<TopicFilter>, CallError> {
        let reply = self.method("GetTopics", &name.as_str()).await?;
        let body = reply.body();
        let filters: Vec<&str> = body.deserialize().map_err(|error| self.explain(error))?;
        let filters = filters.into_iter().map(TopicFilter::new).collect::<Result<_, _>>();
        filters.map_err(|_| self.no_answer())
    }

    /// Whether the daemon is connected to the broker and hears the devices, and how its alerts are
    /// delivered to people.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn health(&self) -> Result<(bool, NotificationsSummary), CallError> {
        let call = self.proxy.connection().call_method(
            Some(self.proxy.destination()),
            PATH,
            Some("org.freedesktop.DBus.Properties"),
            "GetAll",
            &(NAME),
        );
        let reply = call.await.map_err(|error| self.explain(error))?;
        let body = reply.body();
        let properties: HashMap<String, Variant<'_>> =
            body.deserialize().map_err(|error| self.explain(error))?;
        match properties.get("Watching") {
            Some(Variant::Bool(watching)) => Ok((*watching, notifications_of(&properties))),
            _ => Err(self.no_answer()),
        }
    }

    /// The daemon's view of all devices, by name.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn devices(&self) -> Result<Vec<DeviceView>, CallError> {
        let mut devices: Vec<DeviceView> = Vec::new();
        loop {
            let after = devices.last().map_or("", |last| last.name.as_str());
            let reply = self.method("ListDevices", &after).await?;
            let body = reply.body();
            let page: Vec<HashMap<String, Variant<'_>>> =
                body.deserialize().map_err(|error| self.explain(error))?;
            let views = page.iter().filter_map(from_dictionary);
            let before = devices.len();
            devices.extend(views);
            if devices.len() < before + PAGE {
                return Ok(devices);
            }
        }
    }

    /// Moves an agent to a node of the cluster.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn move_agent(&self, agent: &DeviceName, node: &str) -> Result<(), CallError> {
        self.ask("MoveAgent", &(agent.as_str(), node)).await
    }

    /// Lets a node give away everything, or take part again. The empty string stands for this node.
    ///
    /// # Errors
    /// Returns the errors of [`call`].
    pub async fn drain_node(&self, node: &str, drains: bool) -> Result<(), CallError> {
        self.ask("DrainNode", &(node, drains)).await
    }

    /// What the daemon knows of its cluster, as JSON.
    ///
    /// # Errors
    /// Returns the errors of [`call`]. A daemon that is in no cluster refuses.
    pub async fn cluster(&self) -> Result<String, CallError> {
        let reply = self.method("GetCluster", &()).await?;
        reply.body().deserialize().map_err(|error| self.explain(error))
    }

    /// The same, taken apart.
    ///
    /// # Errors
    /// Returns an error when the answer has another form.
    pub fn cluster_view(&self, json: &str) -> Result<ClusterView, CallError> {
        ClusterView::from_json(json).ok_or_else(|| self.no_answer())
    }

    pub(super) async fn method<B>(&self, name: &str, body: &B) -> Result<zbus::Message, CallError>
    where
        B: serde::Serialize + zbus::Type,
    {
        match tokio::time::timeout(CALL_TIMEOUT, self.proxy.call_method(name, body)).await {
            Ok(reply) => reply.map_err(|error| self.explain(error)),
            Err(_elapsed) => Err(self.no_answer()),
        }
    }

    pub(super) fn no_answer(&self) -> CallError {
        no_answer(self.bus, &self.addressee)
    }

    pub(super) fn explain(&self, error: zbus::Error) -> CallError {
        explain(self.bus, &self.addressee, error)
    }
}

/// The options of a command.
fn options(wait: bool, span: Option<Duration>) -> HashMap<&'static str, Variant<'static>> {
    let mut options = HashMap::from([("Wait", Variant::from(wait))]);
    options.extend(span.map(|span| ("Seconds", Variant::from(span.as_secs().max(1)))));
    options
}

fn explain(bus: Bus, addressee: &Addressee, error: zbus::Error) -> CallError {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            let text = text.unwrap_or_else(|| name.to_string());
            match name.as_str() {
                "org.iotmonitor.Error.Denied" => CallError::Denied(text),
                "org.iotmonitor.Error.UnknownDevice" => CallError::UnknownDevice(text),
                UNKNOWN_METHOD => older(bus, addressee),
                _ => CallError::Rejected(text),
            }
        }
        zbus::Error::FDO(fdo) => match fdo.name().as_str() {
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                CallError::NotRunning(unit_command(bus, "start", addressee), String::new())
            }
            "org.freedesktop.DBus.Error.AccessDenied" => {
                CallError::Blocked(fdo.description().unwrap_or("access denied").to_owned())
            }
            "org.freedesktop.DBus.Error.NoReply" => no_answer(bus, addressee),
            UNKNOWN_METHOD => older(bus, addressee),
            _ => CallError::Rejected(fdo.to_string()),
        },
        zbus::Error::InputOutput(_) => no_answer(bus, addressee),
        other => CallError::Rejected(other.to_string()),
    }
}

/// The name under which the process offers the interface; `None` if it does not.
async fn name_of_process(connection: &Connection, pid: u32) -> zbus::Result<Option<String>> {
    let bus = zbus::fdo::DBusProxy::new(connection).await?;
    for name in bus.list_names().await? {
        // A name may vanish between the two queries, which is not an error.
        let is_ours = name.as_str().starts_with(NAME);
        if is_ours
            && bus.get_connection_unix_process_id(name.inner().clone()).await.ok() == Some(pid)
        {
            return Ok(Some(name.to_string()));
        }
    }
    Ok(None)
}

/// Describes the running monitors, where none has this name; `None` where one has, or where that is
/// unknown.
async fn others_than(connection: &Connection, name: &str) -> Option<String> {
    let bus = zbus::fdo::DBusProxy::new(connection).await.ok()?;
    let names = bus.list_names().await.ok()?;
    if names.iter().any(|there| there.as_str() == name) {
        return None;
    }
    let running = names.iter().filter_map(|there| client_id_of(there.as_str()));
    let named: Vec<String> = running.map(|id| format!("`--clientid {id}`")).collect();
    if named.is_empty() {
        return Some(String::new());
    }
    Some(format!(" (what runs is reached with {})", named.join(", ")))
}

const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";

fn older(bus: Bus, addressee: &Addressee) -> CallError {
    CallError::Older(unit_command(bus, "restart", addressee))
}

fn no_answer(bus: Bus, addressee: &Addressee) -> CallError {
    CallError::NoAnswer(unit_command(bus, "status", addressee))
}

/// The systemctl command for the unit of a monitor.
fn unit_command(bus: Bus, verb: &str, addressee: &Addressee) -> String {
    let manager = match bus {
        Bus::System => "systemctl",
        Bus::User => "systemctl --user",
    };
    match addressee {
        Addressee::ClientId(id) if id == DEFAULT_CLIENT_ID => {
            format!("{manager} {verb} iotmonitor")
        }
        // The default clientid of an instance.
        Addressee::ClientId(id) => match id.strip_prefix("iotmonitor-") {
            Some(instance) if bus == Bus::System => {
                format!("{manager} {verb} iotmonitor@{instance}")
            }
            Some(_) | None => format!("{manager} {verb}` the service whose clientid is `{id}"),
        },
        Addressee::Process(pid) if verb == "status" => format!("{manager} status {pid}"),
        Addressee::Process(_) => format!("{manager} {verb} iotmonitor"),
    }
}
