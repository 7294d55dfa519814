//! Tests of the objects, their properties and their signals over a test bus.

use super::both_sides::{offer_with, on_the_bus};
use crate::bus::object::{AGENT, DEVICE, MONITOR, PROPERTIES, device_path};
use crate::bus::{NAME, PAGE, PATH};
use crate::dbus::test_bus::TestBus;
use crate::dbus::{Bus, CALL_TIMEOUT, connect};
use crate::request::{Command, Forgotten, Imported, Rejection, Request, StatePage};
use futures_util::StreamExt as _;
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::view::{ClusterView, StoreView};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::model::view::{
    AgentView, DeviceView, Liveness, NotificationsSummary, Summary,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant, Variant};

const SUMMARY: Summary = Summary {
    watching: true,
    devices: 2,
    expired: 1,
    agents: 1,
    agents_running: 1,
    names_refused: 5,
    store_fails: false,
    notifications: NotificationsSummary {
        pending: 2,
        last_delivered: Some(false),
        silenced: false,
    },
};

fn view(name: &str) -> DeviceView {
    let agent = name.starts_with("agent").then(|| AgentView {
        unit: format!("iotmonitor-agent-{name}.service"),
        state: "active".to_owned(),
        main_pid: 17,
        restarts: 2,
        ..AgentView::default()
    });
    DeviceView {
        name: name.to_owned(),
        state: Liveness::Alive,
        reason: None,
        since: Duration::from_secs(5),
        last_contact: None,
        fleet: None,
        area: None,
        depends_on: Vec::new(),
        watch_timeout: Some(Duration::from_secs(30)),
        auto_timeout: false,
        learned: None,
        hellos: 3,
        disabled_until: None,
        silenced_until: None,
        node: None,
        epoch: None,
        is_unsent: false,
        agent,
    }
}

/// Answers as a monitor of these devices does; returns the commands that it received.
async fn answer(mut requests: mpsc::Receiver<Request>, names: Vec<String>, commands: CommandLog) {
    let devices: BTreeMap<String, DeviceView> =
        names.iter().map(|name| (name.clone(), view(name))).collect();
    while let Some(request) = requests.recv().await {
        match request {
            Request::Command { command, reply } | Request::Order { command, reply } => {
                commands.send(command).await.unwrap();
                let _ = reply.send(Ok(()));
            }
            Request::View { device, reply } => {
                let view = devices.get(device.as_str()).cloned();
                let _ = reply.send(view.ok_or(Rejection::UnknownDevice(device)));
            }
            Request::Views { after, limit, reply } => {
                let after = after.as_ref().map_or("", DeviceName::as_str);
                let behind = devices.values().filter(|view| view.name.as_str() > after);
                let _ = reply.send(Ok(behind.take(limit).cloned().collect()));
            }
            Request::Summary { reply } => drop(reply.send(Ok(SUMMARY))),
            Request::History { reply, .. } => drop(reply.send(Ok(String::new()))),
            Request::Histories { reply, .. } => drop(reply.send(Ok(Vec::new()))),
            Request::Alerts { reply, .. } => drop(reply.send(Ok(String::new()))),
            Request::Acknowledge { reply, .. } => drop(reply.send(Ok(()))),
            Request::Topics { reply, .. } => drop(reply.send(Ok(Vec::new()))),
            Request::States { reply, .. } => {
                drop(reply.send(Ok(StatePage { states: Vec::new(), next: None })));
            }
            Request::SetState { reply, .. } => drop(reply.send(Ok(true))),
            Request::ForgetState { reply, .. } => {
                drop(reply.send(Ok(Forgotten { recorded: true, cleared: true })));
            }
            Request::ImportStates { reply, .. } => drop(reply.send(Ok(Imported::default()))),
            Request::Cluster { reply } => drop(reply.send(Ok(Box::new(cluster())))),
            Request::MoveAgent { reply, .. } | Request::DrainNode { reply, .. } => {
                drop(reply.send(Ok(())));
            }
            Request::ApplySections { reply, .. } => drop(reply.send(Ok(String::new()))),
            Request::Hours { .. }
            | Request::Incidents { .. }
            | Request::Figures { .. }
            | Request::Bars { .. }
            | Request::Journal { .. } => panic!("{request:?}"),
        }
    }
}

/// A cluster without nodes.
fn cluster() -> ClusterView {
    ClusterView {
        node: NodeName::new("pi1").unwrap(),
        epoch: None,
        etcd: StoreView { answers: None, lasts: Duration::ZERO, reason: None, config: None },
        nodes: BTreeMap::new(),
        items: BTreeMap::new(),
    }
}

type CommandLog = mpsc::Sender<Command>;

/// A monitor of these devices on a test bus, and a caller.
pub(super) struct TestMonitor {
    _bus: TestBus,
    handle: crate::bus::BusHandle,
    commands: mpsc::Receiver<Command>,
    caller: Connection,
}

impl TestMonitor {
    pub async fn of(names: &[&str]) -> Self {
        let bus = TestBus::start("unix:tmpdir=/tmp");
        let (requests, handle) = offer_with(&bus.address, "iotmonitor");
        let (log, commands) = mpsc::channel(16);
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        tokio::spawn(answer(requests, names, log));
        on_the_bus(&bus.address, "iotmonitor").await;
        let caller = connect(Bus::System, Some(&bus.address), CALL_TIMEOUT).await.unwrap();
        Self { _bus: bus, handle, commands, caller }
    }

    pub async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.caller.call_method(Some(NAME), path, Some(interface), member, body).await
    }

    /// The name of the error reply.
    async fn error(&self, path: &str, interface: &str, member: &str) -> String {
        match self.call(path, interface, member, &()).await {
            Err(zbus::Error::MethodError(name, ..)) => name.to_string(),
            Err(zbus::Error::FDO(error)) => zbus::DBusError::name(&*error).to_string(),
            other => panic!("{interface}.{member}: {other:?}"),
        }
    }

    pub async fn description(&self, path: &str) -> String {
        let interface = "org.freedesktop.DBus.Introspectable";
        let reply = self.call(path, interface, "Introspect", &()).await.unwrap();
        reply.body().deserialize().unwrap()
    }

    async fn properties(&self, path: &str, interface: &str) -> HashMap<String, OwnedVariant> {
        let reply = self.call(path, PROPERTIES, "GetAll", &interface).await.unwrap();
        reply.body().deserialize().unwrap()
    }

    /// All paths, as `busctl tree` finds them.
    async fn tree(&self) -> Vec<String> {
        let (mut found, mut wanted) = (Vec::new(), vec!["/".to_owned()]);
        while let Some(path) = wanted.pop() {
            let children = attributes(&self.description(&path).await, "node");
            let parent = path.trim_end_matches('/');
            wanted.extend(children.into_iter().map(|child| format!("{parent}/{}", child[0])));
            found.push(path);
        }
        found.sort();
        found
    }
}

/// The attributes' values of each element of this kind, in their order.
fn attributes(xml: &str, element: &str) -> Vec<Vec<String>> {
    let start = format!("<{element} ");
    let elements = xml.split(&start).skip(1).map(|rest| rest.split('>').next().unwrap());
    let values = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    elements.map(values).collect()
}

/// The description of one interface.
fn part<'x>(xml: &'x str, interface: &str) -> &'x str {
    let start = xml.find(&format!("<interface name=\"{interface}\"")).unwrap();
    xml[start..].split("</interface>").next().unwrap()
}

#[tokio::test]
async fn the_tree_is_walked_from_the_root() {
    let monitor = TestMonitor::of(&["lamp", "agent_x", "küche 1"]).await;
    let devices = format!("{PATH}/device");
    assert_eq!(
        monitor.tree().await,
        [
            "/".to_owned(),
            "/org".to_owned(),
            "/org/iotmonitor".to_owned(),
            PATH.to_owned(),
            devices.clone(),
            format!("{devices}/agent_5fx"),
            format!("{devices}/k_c3_bcche_201"),
            format!("{devices}/lamp"),
        ]
    );
}

#[tokio::test]
async fn a_fleet_has_an_object_for_each() {
    let names: Vec<String> = (0..2 * PAGE + 1).map(|number| format!("d{number}")).collect();
    let monitor = TestMonitor::of(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let children = attributes(&monitor.description(&format!("{PATH}/device")).await, "node");
    assert_eq!(children.len(), names.len());
}

/// Whether a method has an argument that the caller gives.
fn takes_something(description: &str, method: &str) -> bool {
    let (_, after) = description.split_once(&format!("<method name=\"{method}\">")).unwrap();
    after.split("</method>").next().unwrap().contains("direction=\"in\"")
}

/// The description of an object is true: it has every method, and every property with its type.
#[tokio::test]
async fn objects_are_as_they_describe_themselves() {
    let mut monitor = TestMonitor::of(&["lamp", "agent"]).await;
    let (lamp, agent) = (device_path("lamp"), device_path("agent"));
    assert!(!monitor.description(&lamp).await.contains(AGENT));
    for (path, interface) in [(PATH, MONITOR), (&lamp, DEVICE), (&agent, DEVICE), (&agent, AGENT)] {
        let description = monitor.description(path).await;
        let description = part(&description, interface);
        let properties = monitor.properties(path, interface).await;
        let declared = attributes(description, "property");
        assert_eq!(properties.len(), declared.len(), "{interface}");
        for property in declared {
            let [name, signature, access] = &property[..] else { panic!("{property:?}") };
            assert_eq!(properties[name].value_signature().to_string(), *signature, "{name}");
            assert_eq!(access, "read");
            let reply = monitor.call(path, PROPERTIES, "Get", &(interface, name)).await.unwrap();
            let alone: OwnedVariant = reply.body().deserialize().unwrap();
            assert_eq!(alone, properties[name]);
        }
        for method in attributes(description, "method") {
            if method.len() == 2 || !description.contains(&format!("\"{}\">", method[0])) {
                monitor.call(path, interface, &method[0], &()).await.unwrap();
                monitor.commands.recv().await.unwrap();
            } else if !takes_something(description, &method[0]) {
                monitor.call(path, interface, &method[0], &()).await.unwrap();
            } else {
                let error = monitor.error(path, interface, &method[0]).await;
                assert_eq!(error, "org.freedesktop.DBus.Error.InvalidArgs", "{method:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_command_on_an_object_is_about_its_device() {
    let mut monitor = TestMonitor::of(&["lamp", "agent"]).await;
    let name = |text| DeviceName::new(text).unwrap();
    for (device, interface, member, command) in [
        ("lamp", DEVICE, "Enable", Command::Enable(name("lamp"))),
        ("lamp", DEVICE, "Disable", Command::Disable(name("lamp"))),
        ("lamp", DEVICE, "Restore", Command::Restore(name("lamp"))),
        ("agent", AGENT, "Restart", Command::RestartAgent(name("agent"))),
    ] {
        monitor.call(&device_path(device), interface, member, &()).await.unwrap();
        assert_eq!(monitor.commands.recv().await, Some(command));
    }
}

#[tokio::test]
async fn an_order_has_options_and_refuses_what_it_does_not_know() {
    let mut monitor = TestMonitor::of(&["lamp", "agent"]).await;
    let name = |text| DeviceName::new(text).unwrap();
    let options = |options: &[(&'static str, Variant<'static>)]| {
        options.iter().cloned().collect::<HashMap<&str, Variant<'static>>>()
    };
    let wait = || ("Wait", Variant::from(true));
    let seconds = || ("Seconds", Variant::from(90_u64));
    for (verb, device, options, command) in [
        ("enable", "lamp", options(&[]), Command::Enable(name("lamp"))),
        ("disable", "lamp", options(&[wait()]), Command::Disable(name("lamp"))),
        ("restart", "agent", options(&[wait()]), Command::RestartAgent(name("agent"))),
        (
            "disable",
            "agent",
            options(&[wait(), seconds()]),
            Command::Pause(name("agent"), Duration::from_secs(90)),
        ),
        (
            "silence",
            "lamp",
            options(&[seconds()]),
            Command::Silence(Some(name("lamp")), Duration::from_secs(90)),
        ),
        ("silence", "", options(&[seconds()]), Command::Silence(None, Duration::from_secs(90))),
        ("unsilence", "", options(&[]), Command::Unsilence(None)),
        ("test-alert", "lamp", options(&[wait()]), Command::TestAlert(Some(name("lamp")))),
    ] {
        monitor.call(PATH, MONITOR, "Order", &(verb, device, options)).await.unwrap();
        assert_eq!(monitor.commands.recv().await, Some(command));
    }
    for (verb, options) in [
        ("explode", options(&[])),
        ("restart", options(&[seconds()])),
        ("silence", options(&[])),
        ("unsilence", options(&[seconds()])),
        ("disable", options(&[("Hurry", Variant::from(true))])),
        ("disable", options(&[("Seconds", Variant::from("90"))])),
        ("disable", options(&[("Seconds", Variant::from(0_u64))])),
    ] {
        monitor.call(PATH, MONITOR, "Order", &(verb, "agent", options)).await.unwrap_err();
    }
    assert!(monitor.commands.try_recv().is_err());
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_its_standard_name() {
    let monitor = TestMonitor::of(&["lamp"]).await;
    let (lamp, introspectable) = (device_path("lamp"), "org.freedesktop.DBus.Introspectable");
    let standard = |name: &str| format!("org.freedesktop.DBus.Error.{name}");
    for (path, interface, member, error) in [
        (device_path("lammp").as_str(), introspectable, "Introspect", "UnknownObject"),
        ("/org/elsewhere", introspectable, "Introspect", "UnknownObject"),
        (&lamp, MONITOR, "Reload", "UnknownInterface"),
        (&lamp, DEVICE, "Explode", "UnknownMethod"),
        (&lamp, AGENT, "Explode", "UnknownMethod"),
        (PATH, MONITOR, "Explode", "UnknownMethod"),
        (PATH, PROPERTIES, "Set", "PropertyReadOnly"),
        (PATH, PROPERTIES, "Get", "InvalidArgs"),
    ] {
        assert_eq!(
            monitor.error(path, interface, member).await,
            standard(error),
            "{path} {member}"
        );
    }
    monitor.call("/anywhere", "org.freedesktop.DBus.Peer", "Ping", &()).await.unwrap();
}

#[tokio::test]
async fn notices_are_heard_by_everybody() {
    let monitor = TestMonitor::of(&["lamp", "agent"]).await;
    let rule = MatchRule::builder().path_namespace(PATH).build().unwrap();
    let mut heard = MessageStream::for_match_rule(rule, &monitor.caller, None).await.unwrap();
    let device = || "lamp".to_owned();
    let contact = Duration::from_secs(7);
    for notice in [
        Notice::Expired { device: device(), last_contact: Some(contact) },
        Notice::Expired { device: device(), last_contact: None },
        Notice::Recovered { device: device(), contact },
        Notice::AgentRestarted { device: device(), main_pid: 17 },
        Notice::StateChanged(Box::new(view("lamp"))),
        Notice::UnitChanged(Box::new(view("agent"))),
        Notice::SummaryChanged(SUMMARY),
    ] {
        monitor.handle.notify(notice);
    }
    let mut next = async || {
        let signal = tokio::time::timeout(Duration::from_secs(20), heard.next()).await;
        signal.unwrap().unwrap().unwrap()
    };
    for expected in [("Expired", 7), ("Expired", 0), ("Recovered", 7)] {
        let signal = next().await;
        let (name, time): (String, u64) = signal.body().deserialize().unwrap();
        assert_eq!((signal.header().member().unwrap().as_str(), time), expected);
        assert_eq!(name, "lamp");
    }
    let restarted: (String, u32) = next().await.body().deserialize().unwrap();
    assert_eq!(restarted, ("lamp".to_owned(), 17));
    for (path, interface, keys) in [
        (device_path("lamp"), DEVICE, ["Reason", "Since", "State"].as_slice()),
        (device_path("agent"), AGENT, &["MainPID", "Restarts", "UnitState"]),
        (
            PATH.to_owned(),
            MONITOR,
            &[
                "Agents",
                "AgentsRunning",
                "AlertsWaiting",
                "Devices",
                "Expired",
                "LastAlert",
                "Silenced",
                "StoreFails",
                "Watching",
            ],
        ),
    ] {
        let signal = next().await;
        assert_eq!(signal.header().path().unwrap().as_str(), path);
        let (of, changed, invalidated): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            signal.body().deserialize().unwrap();
        let mut names: Vec<&str> = changed.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!((of.as_str(), names.as_slice()), (interface, keys));
        assert!(invalidated.is_empty());
    }
}
