//! Interprets calls on the objects, and answers them.
//!
//! The calls are decoded by hand rather than by zbus's object server, which would hold every
//! device's object in memory, and describe all of them whenever their parent is introspected.

use super::PAGE;
use super::authority::{MOST_QUESTIONS, is_trusted, may_command};
use super::error::BusError;
use super::lanes::Purpose;
use super::object::{
    AGENT, DEVICE, INTROSPECTABLE, MONITOR, Object, PEER, PROPERTIES, escape, interfaces,
    introspection,
};
use super::view::{
    Dictionary, agent_properties, device_properties, monitor_properties, to_dictionary,
};
use crate::dbus::Bus;
use crate::request::{Command, Rejection, Request};
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::view::DeviceView;
use iotmonitor_core::topic::TopicFilter;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use zbus::message::{Flags, Header};
use zbus::{Connection, Message, OwnedVariant, Variant};

/// The file with the machine's identity (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Answers calls over one connection.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    bus: Bus,
    connection: Connection,
    requests: mpsc::Sender<Request>,
    /// Permits to query polkit.
    questions: Arc<Semaphore>,
}

/// The size limit of a call about a device: its name and its path take some hundred bytes.
const SHORT: usize = 16 << 10;

/// The purpose of a call, and its size limit.
pub(super) fn purpose(header: &Header<'_>) -> (Purpose, usize) {
    let member = header.member().map_or("", |member| member.as_str());
    match (header.interface().map_or("", |interface| interface.as_str()), member) {
        (PEER | INTROSPECTABLE | PROPERTIES, _) => (Purpose::Look, SHORT),
        (
            MONITOR,
            "GetDevice" | "ListDevices" | "GetHistory" | "GetTopics" | "ListAlerts" | "GetCluster",
        ) => (Purpose::Look, SHORT),
        // Many names.
        (MONITOR, "GetHistories") => (Purpose::Look, 16 * SHORT),
        // The bus has a limit of its own.
        (MONITOR, "SetState" | "ImportStates" | "ApplySections") => (Purpose::Command, usize::MAX),
        // A filter may be as long as MQTT allows.
        (MONITOR, "ListStates" | "ForgetState") => (Purpose::Command, 16 * SHORT),
        _ => (Purpose::Command, SHORT),
    }
}

/// Times of which each is later than the one before.
fn ascending(seconds: Vec<u64>) -> Result<Vec<Duration>, BusError> {
    if !seconds.is_sorted_by(|one, next| one < next) {
        return Err(BusError::Failed("GetHistories: the boundaries must ascend".to_owned()));
    }
    Ok(seconds.into_iter().map(Duration::from_secs).collect())
}

/// A decoded call.
pub(super) struct Call<'m> {
    message: &'m Message,
    /// The sender.
    user: u32,
    pub header: &'m Header<'m>,
    object: Object,
    member: &'m str,
}

impl Call<'_> {
    /// The user that calls.
    pub fn user(&self) -> u32 {
        self.user
    }

    pub fn arguments<T: DeserializeOwned + zbus::Type>(&self) -> Result<T, BusError> {
        let body = self.message.body();
        body.deserialize().map_err(|_| BusError::InvalidArguments(self.member.to_owned()))
    }

    pub fn reply<B: serde::Serialize + zbus::DynamicType>(
        &self,
        body: &B,
    ) -> Result<Message, BusError> {
        Ok(Message::method_return(self.header).build(body)?)
    }

    fn unknown_method<T>(&self) -> Result<T, BusError> {
        Err(BusError::UnknownMethod(self.member.to_owned()))
    }
}

impl Calls {
    pub fn new(bus: Bus, connection: Connection, requests: mpsc::Sender<Request>) -> Self {
        let questions = Arc::new(Semaphore::new(MOST_QUESTIONS));
        Self { bus, connection, requests, questions }
    }

    /// Whether this user may command without authorization by polkit.
    pub fn trusts(&self, user: u32) -> bool {
        is_trusted(user)
    }

    /// Succeeds when the caller may command; it is checked before anything of the body is read.
    pub async fn authorise(&self, call: &Call<'_>) -> Result<(), BusError> {
        may_command(self.bus, &self.connection, &self.questions, call.user, call.header).await
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Carries out the call, and reports the result to a caller that expects a reply.
    pub async fn answer(self, message: Message, user: u32) {
        let header = message.header();
        let outcome = self.outcome(&message, &header, user).await;
        if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
            return;
        }
        // A caller that has gone does not receive it.
        if let Ok(Some(reply)) = outcome.or_else(|error| error.reply(&header).map(Some)) {
            let _ = self.connection.send(&reply).await;
        }
    }

    /// The answer; `None` where it follows later.
    async fn outcome(
        &self,
        message: &Message,
        header: &Header<'_>,
        user: u32,
    ) -> Result<Option<Message>, BusError> {
        let path = header.path().map_or("", |path| path.as_str());
        let member = header.member().map_or("", |member| member.as_str());
        let interface = header.interface().map_or("", |interface| interface.as_str());
        let object = match Object::at(path) {
            Some(object) => object,
            // Every path answers this (D-Bus specification, "org.freedesktop.DBus.Peer").
            None if interface == PEER => Object::Devices,
            None => return Err(BusError::UnknownObject(path.to_owned())),
        };
        let call = Call { message, user, header, object, member };
        let answer = match (interface, &call.object) {
            (MONITOR, Object::Monitor) if member == "Order" => return self.order(&call).await,
            (PEER, _) => peer(&call),
            (INTROSPECTABLE, _) => self.introspect(&call).await,
            (PROPERTIES, _) => self.properties(&call).await,
            (MONITOR, Object::Monitor) => self.monitor(&call).await,
            (DEVICE, Object::Device(name)) => self.device(&call, name.clone()).await,
            (AGENT, Object::Device(name)) if member == "Restart" => {
                self.command(&call, || Ok(Command::RestartAgent(name.clone()))).await
            }
            (AGENT, Object::Device(_)) => call.unknown_method(),
            _ => Err(BusError::UnknownInterface(interface.to_owned())),
        };
        answer.map(Some)
    }

    async fn monitor(&self, call: &Call<'_>) -> Result<Message, BusError> {
        let name = || device_name(call.arguments()?);
        match call.member {
            "Reload" => self.command(call, || Ok(Command::Reload)).await,
            "Enable" => self.command(call, || Ok(Command::Enable(name()?))).await,
            "Disable" => self.command(call, || Ok(Command::Disable(name()?))).await,
            "Restore" => self.command(call, || Ok(Command::Restore(name()?))).await,
            "RestartAgent" => self.command(call, || Ok(Command::RestartAgent(name()?))).await,
            "Forget" => self.command(call, || Ok(Command::Forget(name()?))).await,
            "GetDevice" => call.reply(&to_dictionary(&self.view(name()?).await?)),
            "ListDevices" => {
                let after: String = call.arguments()?;
                let after = if after.is_empty() { None } else { Some(device_name(after)?) };
                let views = self.ask(|reply| Request::Views { after, limit: PAGE, reply }).await?;
                call.reply(&views.iter().map(to_dictionary).collect::<Vec<Dictionary>>())
            }
            "GetHistory" => {
                let (name, seconds): (String, u64) = call.arguments()?;
                let (device, length) = (device_name(name)?, Duration::from_secs(seconds));
                let asked = self.ask(|reply| Request::History { device, length, reply }).await?;
                call.reply(&asked)
            }
            "GetHistories" => {
                let (names, seconds, boundaries): (Vec<String>, u64, Vec<u64>) =
                    call.arguments()?;
                let devices = names.into_iter().map(device_name).collect::<Result<_, _>>()?;
                let length = Duration::from_secs(seconds);
                let boundaries = ascending(boundaries)?;
                let request = |reply| Request::Histories { devices, length, boundaries, reply };
                call.reply(&self.ask(request).await?)
            }
            "GetCluster" => {
                let view = self.ask(|reply| Request::Cluster { reply }).await?;
                call.reply(&view.to_json())
            }
            "MoveAgent" => {
                self.authorise(call).await?;
                let (name, node): (String, String) = call.arguments()?;
                let (agent, to) = (device_name(name)?, node_name(&node)?);
                self.ask(|reply| Request::MoveAgent { agent, to, reply }).await?;
                call.reply(&())
            }
            "DrainNode" => {
                self.authorise(call).await?;
                let (node, drains): (String, bool) = call.arguments()?;
                let node = if node.is_empty() { None } else { Some(node_name(&node)?) };
                self.ask(|reply| Request::DrainNode { node, drains, reply }).await?;
                call.reply(&())
            }
            "ApplySections" => self.apply_sections(call).await,
            "ListAlerts" => self.list_alerts(call).await,
            "AcknowledgeAlert" => self.acknowledge_alert(call).await,
            "GetTopics" => {
                let device = name()?;
                let filters = self.ask(|reply| Request::Topics { device, reply }).await?;
                call.reply(&filters.iter().map(TopicFilter::as_str).collect::<Vec<&str>>())
            }
            "ListStates" => self.list_states(call).await,
            "SetState" => self.set_state(call).await,
            "ForgetState" => self.forget_state(call).await,
            "ImportStates" => self.import_states(call).await,
            _ => call.unknown_method(),
        }
    }

    /// A command with options.
    async fn order(&self, call: &Call<'_>) -> Result<Option<Message>, BusError> {
        self.authorise(call).await?;
        let (verb, name, options): (String, String, HashMap<String, OwnedVariant>) =
            call.arguments()?;
        let invalid = |reason: &str| BusError::Failed(format!("Order: {reason}"));
        let (mut wait, mut span) = (false, None);
        for (key, value) in &options {
            match (key.as_str(), &**value) {
                ("Wait", Variant::Bool(value)) => wait = *value,
                ("Seconds", Variant::U64(seconds)) => span = Some(Duration::from_secs(*seconds)),
                ("Wait" | "Seconds", _) => {
                    return Err(invalid(&format!("the option `{key}` has the wrong type")));
                }
                _ => return Err(invalid(&format!("unknown option `{key}`"))),
            }
        }
        let command = match (verb.as_str(), span) {
            (_, Some(Duration::ZERO)) => return Err(invalid("the time must be longer than zero")),
            ("silence", Some(span)) => Command::Silence(device_or_all(name)?, span),
            ("unsilence", None) => Command::Unsilence(device_or_all(name)?),
            ("test-alert", None) => Command::TestAlert(device_or_all(name)?),
            ("silence", None) => return Err(invalid("`silence` takes Seconds")),
            (verb, span) => order_about(verb, device_name(name)?, span).map_err(invalid)?,
        };
        if !wait {
            self.ask(|reply| Request::Command { command, reply }).await?;
            return call.reply(&()).map(Some);
        }
        let (server, message) = (self.clone(), call.message.clone());
        // The call gives up its turn meanwhile, so that no other waits for it. The daemon limits
        // the number of such waits.
        tokio::spawn(async move {
            let header = message.header();
            let outcome = server.ask(|reply| Request::Order { command, reply }).await;
            let reply = match outcome {
                Ok(()) => Message::method_return(&header).build(&()),
                Err(error) => error.reply(&header),
            };
            // A caller that has gone does not receive it.
            if let Ok(reply) = reply {
                let _ = server.connection.send(&reply).await;
            }
        });
        Ok(None)
    }

    async fn device(&self, call: &Call<'_>, name: DeviceName) -> Result<Message, BusError> {
        match call.member {
            "Enable" => self.command(call, || Ok(Command::Enable(name))).await,
            "Disable" => self.command(call, || Ok(Command::Disable(name))).await,
            "Restore" => self.command(call, || Ok(Command::Restore(name))).await,
            _ => call.unknown_method(),
        }
    }

    async fn introspect(&self, call: &Call<'_>) -> Result<Message, BusError> {
        if call.member != "Introspect" {
            return call.unknown_method();
        }
        let (mut is_agent, mut children) = (false, Vec::new());
        match &call.object {
            Object::Ancestor(child) => children.push((*child).to_owned()),
            Object::Monitor => children.push("device".to_owned()),
            Object::Devices => children = self.device_labels().await?,
            Object::Device(name) => is_agent = self.object(name).await?.agent.is_some(),
        }
        call.reply(&introspection(interfaces(&call.object, is_agent), &children))
    }

    /// The path elements of all devices.
    async fn device_labels(&self) -> Result<Vec<String>, BusError> {
        let mut labels = Vec::new();
        let mut after = None;
        loop {
            let views = self.ask(|reply| Request::Views { after, limit: PAGE, reply }).await?;
            labels.extend(views.iter().map(|view| escape(&view.name)));
            match views.last() {
                Some(last) if views.len() >= PAGE => after = Some(device_name(last.name.clone())?),
                Some(_) | None => return Ok(labels),
            }
        }
    }

    async fn properties(&self, call: &Call<'_>) -> Result<Message, BusError> {
        match call.member {
            "Get" => {
                let (interface, name): (String, String) = call.arguments()?;
                let mut all = self.all_properties(&call.object, &interface).await?;
                let value = all.remove(&name).ok_or(BusError::UnknownProperty(name))?;
                call.reply(&value)
            }
            "GetAll" => {
                let interface: String = call.arguments()?;
                call.reply(&self.all_properties(&call.object, &interface).await?)
            }
            "Set" => Err(BusError::ReadOnly),
            _ => call.unknown_method(),
        }
    }

    async fn all_properties(
        &self,
        object: &Object,
        interface: &str,
    ) -> Result<Dictionary, BusError> {
        let unknown = || BusError::UnknownInterface(interface.to_owned());
        match (interface, object) {
            (MONITOR, Object::Monitor) => {
                let summary = self.ask(|reply| Request::Summary { reply }).await?;
                Ok(monitor_properties(&summary))
            }
            (DEVICE, Object::Device(name)) => Ok(device_properties(&self.object(name).await?)),
            (AGENT, Object::Device(name)) => {
                let agent = self.object(name).await?.agent;
                agent.as_ref().map(agent_properties).ok_or_else(unknown)
            }
            (PEER | INTROSPECTABLE | PROPERTIES, _) => Ok(Dictionary::new()),
            _ => Err(unknown()),
        }
    }

    /// Carries out a command, which is built from the call's body once the caller is authorized.
    async fn command(
        &self,
        call: &Call<'_>,
        command: impl FnOnce() -> Result<Command, BusError>,
    ) -> Result<Message, BusError> {
        self.authorise(call).await?;
        let command = command()?;
        self.ask(|reply| Request::Command { command, reply }).await?;
        call.reply(&())
    }

    async fn view(&self, device: DeviceName) -> Result<DeviceView, BusError> {
        self.ask(|reply| Request::View { device, reply }).await
    }

    /// The view of the device at this path.
    async fn object(&self, name: &DeviceName) -> Result<DeviceView, BusError> {
        self.view(name.clone()).await.map_err(|error| match error {
            BusError::UnknownDevice(_) => {
                BusError::UnknownObject(super::object::device_path(name.as_str()))
            }
            other => other,
        })
    }

    /// Sends a request to the daemon, and waits for its answer.
    pub async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Rejection>>) -> Request,
    ) -> Result<T, BusError> {
        let ending = || BusError::Failed("iotmonitor is shutting down".to_owned());
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| ending())?;
        Ok(answer.await.map_err(|_| ending())??)
    }
}

/// A command about one device; the error is a reason in words.
fn order_about(
    verb: &str,
    name: DeviceName,
    span: Option<Duration>,
) -> Result<Command, &'static str> {
    match (verb, span) {
        ("disable", Some(span)) => Ok(Command::Pause(name, span)),
        ("disable", None) => Ok(Command::Disable(name)),
        ("enable", None) => Ok(Command::Enable(name)),
        ("restart", None) => Ok(Command::RestartAgent(name)),
        ("enable" | "restart" | "unsilence" | "test-alert", Some(_)) => {
            Err("only `disable` and `silence` take Seconds")
        }
        _ => Err("the command is enable, disable, restart, silence, unsilence or test-alert"),
    }
}

/// The empty string stands for everything.
fn device_or_all(name: String) -> Result<Option<DeviceName>, BusError> {
    if name.is_empty() { Ok(None) } else { device_name(name).map(Some) }
}

fn node_name(name: &str) -> Result<NodeName, BusError> {
    NodeName::new(name).map_err(|error| BusError::Failed(error.to_string()))
}

pub(super) fn device_name(name: String) -> Result<DeviceName, BusError> {
    DeviceName::new(name).map_err(|error| BusError::UnknownDevice(error.to_string()))
}

fn peer(call: &Call<'_>) -> Result<Message, BusError> {
    match call.member {
        "Ping" => call.reply(&()),
        "GetMachineId" => {
            let id = std::fs::read_to_string(MACHINE_ID)
                .map_err(|error| BusError::Failed(format!("cannot read {MACHINE_ID}: {error}")))?;
            call.reply(&id.trim())
        }
        _ => call.unknown_method(),
    }
}
