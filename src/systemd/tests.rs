//! Which signals count: a manager that answers on a test bus, and other connections that
//! impersonate it.

mod changes;

use changes::SignalledChange;

use super::manager::{ManagerHandle, ManagerSettings, spawn};
use super::proxy::{SYSTEMD, SYSTEMD_PATH};
use crate::dbus::test_bus::TestBus;
use crate::dbus::{Bus, CALL_TIMEOUT, connect};
use crate::pulse::Pulse;
use futures_util::StreamExt as _;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::unit::UnitUsage;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::fdo::{DBusProxy, RequestNameFlags};
use zbus::{Connection, DynamicType, MatchRule, Message, MessageStream, ObjectPath, Variant};

const LOGIN: &str = "org.freedesktop.login1";
const LOGIN_PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const LOGIN_MANAGER: &str = "org.freedesktop.login1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";
const UNIT: &str = "iotmonitor-agent-box.service";
const JOB_PATH: &str = "/org/freedesktop/systemd1/job/1";
const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/iotmonitor_2dagent_2dbox_2eservice";

/// The manager's answers.
#[derive(Debug, Clone)]
struct Truth {
    main_pid: u32,
    state: &'static str,
    /// The control group of the unit, and the memory peak that is shown of it.
    group: String,
    memory_peak: u64,
    /// When the unit last changed its state, in microseconds of the monotonic clock.
    changed_at: u64,
}

/// A connection on the bus.
struct Peer {
    connection: Connection,
}

impl Peer {
    async fn join(bus: &TestBus) -> Self {
        let connection = connect(Bus::System, Some(&bus.address), CALL_TIMEOUT).await.unwrap();
        Self { connection }
    }

    async fn own(&self, name: &'static str) {
        let bus = DBusProxy::new(&self.connection).await.unwrap();
        let flags = RequestNameFlags::REPLACE_EXISTING | RequestNameFlags::ALLOW_REPLACEMENT;
        bus.request_name(name.try_into().unwrap(), flags).await.unwrap();
    }

    /// Sends a signal, to one connection or to all subscribers; the bus has passed it on when this
    /// returns.
    async fn signal<B>(&self, to: Option<&str>, path: &str, interface: &str, member: &str, body: &B)
    where
        B: serde::Serialize + DynamicType,
    {
        let mut signal = Message::signal(path, interface, member);
        if let Some(to) = to {
            signal = signal.destination(to);
        }
        self.connection.send(&signal.build(body).unwrap()).await.unwrap();
        DBusProxy::new(&self.connection).await.unwrap().get_id().await.unwrap();
    }

    /// Everything that would mislead if it counted.
    async fn pretend(&self, to: Option<&str>) {
        let (job, unit) = (path(JOB_PATH), path(UNIT_PATH));
        let changed: HashMap<&str, Variant<'_>> = HashMap::new();
        let none: Vec<&str> = Vec::new();
        let systemd = async |member: &str| {
            let signal = (1_u32, job.clone(), "shutdown.target");
            self.signal(to, SYSTEMD_PATH, MANAGER, member, &signal).await;
        };
        systemd("JobNew").await;
        let removed = (1_u32, job.clone(), UNIT, "done");
        self.signal(to, SYSTEMD_PATH, MANAGER, "JobRemoved", &removed).await;
        for member in ["UnitNew", "UnitRemoved"] {
            self.signal(to, SYSTEMD_PATH, MANAGER, member, &(UNIT, unit.clone())).await;
        }
        let properties = ("org.freedesktop.systemd1.Service", changed, none);
        self.signal(to, UNIT_PATH, PROPERTIES, "PropertiesChanged", &properties).await;
        SignalledChange { main_pid: 666, ..SignalledChange::up(9_000) }.signal(self, to).await;
        self.signal(to, LOGIN_PATH, LOGIN_MANAGER, "PrepareForShutdown", &true).await;
        let gone = (SYSTEMD, ":1.0", "");
        self.signal(to, "/org/freedesktop/DBus", BUS, "NameOwnerChanged", &gone).await;
        self.signal(to, SYSTEMD_PATH, MANAGER, "Reloading", &true).await;
    }

    /// Signals that properties of this interface of the unit have changed.
    async fn report_change(&self, interface: &str) {
        let changed: HashMap<&str, Variant<'_>> = HashMap::new();
        let body = (interface, changed, Vec::<&str>::new());
        self.signal(None, UNIT_PATH, PROPERTIES, "PropertiesChanged", &body).await;
    }

    /// Signals that there is a unit.
    async fn report_unit(&self) {
        self.signal(None, SYSTEMD_PATH, MANAGER, "UnitNew", &(UNIT, path(UNIT_PATH))).await;
    }
}

fn path(path: &str) -> ObjectPath<'static> {
    ObjectPath::try_from(path.to_owned()).unwrap()
}

/// A manager on a bus, and the adapter.
struct TestBench {
    _directory: tempfile::TempDir,
    /// Without the identity of one bus, so that another can take its place later.
    address: String,
    bus: TestBus,
    truth: Arc<Mutex<Truth>>,
    systemd: Peer,
    /// The calls that the manager received.
    asked: Arc<Mutex<Vec<String>>>,
    events: mpsc::Receiver<Event>,
    handle: ManagerHandle,
}

impl TestBench {
    async fn set() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", directory.path().join("bus").display());
        let bus = TestBus::start(&address);
        let truth = Arc::new(Mutex::new(Truth {
            main_pid: 17,
            state: "running",
            group: String::new(),
            memory_peak: u64::MAX,
            changed_at: 1_000,
        }));
        let asked = Arc::default();
        let systemd = manager(&bus, &truth, &asked).await;
        let (sender, events) = mpsc::channel(64);
        let settings = ManagerSettings {
            bus: Bus::System,
            client_id: "iotmonitor".to_owned(),
            alert_directory: "/nonexistent".into(),
            bus_address: Some(address.clone()),
        };
        let handle = spawn(settings, sender, Pulse::new());
        let _directory = directory;
        let mut stage = Self { _directory, address, bus, truth, systemd, asked, events, handle };
        assert_eq!(stage.next().await, Event::SystemState { stopping: false });
        let Event::ManagerConnected { units } = stage.next().await else { panic!() };
        assert_eq!(units[0].main_pid, 17);
        stage
    }

    async fn next(&mut self) -> Event {
        let next = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
        next.expect("an event is expected").unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Truth)) {
        change(&mut self.truth.lock().unwrap());
    }

    /// The next report is that the agent's main process is this one.
    async fn expect_main_pid(&mut self, expected: u32) {
        match self.next().await {
            Event::UnitChanged(report) => assert_eq!(report.main_pid, expected),
            other => panic!("{other:?}"),
        }
    }

    /// The unique names of the adapter's connections.
    async fn our_names(&self, others: &[&Peer]) -> Vec<String> {
        let proxy = DBusProxy::new(&self.systemd.connection).await.unwrap();
        let others: BTreeSet<String> = others
            .iter()
            .map(|peer| peer.connection.unique_name().unwrap().to_string())
            .chain([self.systemd.connection.unique_name().unwrap().to_string()])
            .collect();
        let names = proxy.list_names().await.unwrap();
        let unique = names.iter().map(ToString::to_string).filter(|name| name.starts_with(':'));
        unique.filter(|name| !others.contains(name)).collect()
    }
}

/// A connection that owns systemd's name and answers as it does.
async fn manager(
    bus: &TestBus,
    truth: &Arc<Mutex<Truth>>,
    asked: &Arc<Mutex<Vec<String>>>,
) -> Peer {
    let peer = Peer::join(bus).await;
    let rule = MatchRule::builder().msg_type(zbus::message::Type::MethodCall).build().unwrap();
    let calls = MessageStream::for_match_rule(rule, &peer.connection, None).await.unwrap();
    peer.own(SYSTEMD).await;
    let (connection, truth) = (peer.connection.clone(), Arc::clone(truth));
    tokio::spawn(answer(connection, calls, truth, Arc::clone(asked)));
    peer
}

async fn answer(
    connection: Connection,
    mut calls: MessageStream,
    truth: Arc<Mutex<Truth>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    while let Some(Ok(call)) = calls.next().await {
        let header = call.header();
        let member = header.member().unwrap().to_string();
        let truth = truth.lock().unwrap().clone();
        let unit = path(UNIT_PATH);
        let reply = Message::method_return(&header);
        let reply = match member.as_str() {
            "Subscribe" => reply.build(&()),
            "GetUnit" => reply.build(&unit),
            "ListUnitsByPatterns" => {
                let row = (UNIT, "", "loaded", "active", "running", "", unit, 0_u32, "", path("/"));
                reply.build(&vec![row])
            }
            "Get" => reply.build(&Variant::from(truth.state)),
            "StartTransientUnit" => reply.build(&path(JOB_PATH)),
            "GetAll" => {
                let fields = ["IOTMONITOR_AGENT=box", "IOTMONITOR_INSTANCE=iotmonitor"];
                let fields: Vec<Vec<u8>> = fields.map(|field| field.as_bytes().to_vec()).into();
                reply.build(&HashMap::from([
                    ("LogExtraFields", Variant::from(fields)),
                    ("ActiveState", Variant::from("active")),
                    ("MainPID", Variant::from(truth.main_pid)),
                    ("ControlGroup", Variant::from(truth.group)),
                    ("MemoryPeak", Variant::from(truth.memory_peak)),
                    ("StateChangeTimestampMonotonic", Variant::from(truth.changed_at)),
                ]))
            }
            other => panic!("{other}"),
        };
        asked.lock().unwrap().push(member);
        // This fails when the bus has gone.
        let _ = connection.send(&reply.unwrap()).await;
    }
}

#[tokio::test]
async fn signals_of_strangers_are_ignored() {
    let mut stage = TestBench::set().await;
    let stranger = Peer::join(&stage.bus).await;
    // A check that is pending after the start is over when the next change has been reported.
    stage.change(|truth| truth.main_pid = 18);
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
    let ours = stage.our_names(&[&stranger]).await;
    assert_eq!(ours.len(), 2, "one for signals and one for calls");
    stage.asked.lock().unwrap().clear();

    for name in &ours {
        stranger.pretend(Some(name)).await;
    }
    stranger.pretend(None).await;
    // Having owned a name once, or owning another, does not help either.
    stranger.own(LOGIN).await;
    stage.systemd.own(LOGIN).await;
    stranger.pretend(Some(&ours[0])).await;
    stranger.pretend(Some(&ours[1])).await;

    // The manager itself is heard as before, so no reload has begun.
    stage.change(|truth| truth.main_pid = 19);
    stage.systemd.report_unit().await;
    stage.expect_main_pid(19).await;
    assert_eq!(*stage.asked.lock().unwrap(), ["GetUnit", "GetAll"]);
}

#[tokio::test]
async fn a_signal_counts_on_its_own_path_and_interface_alone() {
    let mut stage = TestBench::set().await;
    stage.systemd.signal(None, UNIT_PATH, MANAGER, "Reloading", &true).await;
    stage.systemd.signal(None, SYSTEMD_PATH, LOGIN_MANAGER, "PrepareForShutdown", &true).await;
    let ours = stage.our_names(&[]).await;
    for name in &ours {
        let name = Some(name.as_str());
        stage.systemd.signal(name, UNIT_PATH, MANAGER, "Reloading", &true).await;
        stage.systemd.signal(name, SYSTEMD_PATH, PROPERTIES, "Reloading", &true).await;
        stage.systemd.signal(name, LOGIN_PATH, LOGIN_MANAGER, "PrepareForShutdown", &true).await;
    }
    stage.change(|truth| truth.main_pid = 18);
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
}

/// systemd signals each change for both interfaces of a unit.
#[tokio::test]
async fn a_change_of_a_unit_is_heard_once() {
    let mut stage = TestBench::set().await;
    stage.change(|truth| truth.main_pid = 18);
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
    stage.asked.lock().unwrap().clear();

    stage.change(|truth| truth.main_pid = 19);
    stage.systemd.report_change("org.freedesktop.systemd1.Service").await;
    for (state, stopping) in [("stopping", true), ("running", false)] {
        stage.change(|truth| truth.state = state);
        let job = (1_u32, path(JOB_PATH), "shutdown.target");
        stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "JobNew", &job).await;
        assert_eq!(stage.next().await, Event::SystemState { stopping });
    }
    assert_eq!(*stage.asked.lock().unwrap(), ["Get", "Get"]);
    stage.systemd.report_change("org.freedesktop.systemd1.Unit").await;
    stage.expect_main_pid(19).await;
}

/// systemd comes back under another name when it re-executes itself.
#[tokio::test]
async fn the_new_owner_of_a_name_counts_and_the_old_one_no_more() {
    let mut stage = TestBench::set().await;
    let next = manager(&stage.bus, &stage.truth, &stage.asked).await;
    let former = std::mem::replace(&mut stage.systemd, next);
    for name in stage.our_names(&[&former]).await {
        former.pretend(Some(&name)).await;
    }
    stage.change(|truth| truth.main_pid = 18);
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
}

#[tokio::test]
async fn a_shutdown_that_was_announced_is_taken_back_when_it_is_called_off() {
    let mut stage = TestBench::set().await;
    let login = Peer::join(&stage.bus).await;
    login.own(LOGIN).await;
    for announced in [true, false, true] {
        login.signal(None, LOGIN_PATH, LOGIN_MANAGER, "PrepareForShutdown", &announced).await;
        assert_eq!(stage.next().await, Event::SystemState { stopping: announced });
    }
    // A sender that has gone cancels nothing any more.
    drop(login);
    assert_eq!(stage.next().await, Event::SystemState { stopping: false });

    // The same holds for systemd's own jobs.
    let job = || (1_u32, path(JOB_PATH), "shutdown.target");
    stage.change(|truth| truth.state = "stopping");
    stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "JobNew", &job()).await;
    assert_eq!(stage.next().await, Event::SystemState { stopping: true });
    stage.change(|truth| truth.state = "running");
    let (number, path, unit) = job();
    let removed = (number, path, unit, "canceled");
    stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "JobRemoved", &removed).await;
    assert_eq!(stage.next().await, Event::SystemState { stopping: false });
}

#[tokio::test]
async fn a_shutdown_is_known_of_before_the_units_are() {
    let mut stage = TestBench::set().await;
    // The bus goes, and comes back: that is a new session.
    drop(std::mem::replace(&mut stage.bus, TestBus::start("unix:tmpdir=/tmp")));
    assert!(matches!(stage.next().await, Event::ManagerLost { .. }));
    stage.change(|truth| truth.state = "stopping");
    stage.bus = TestBus::start(&stage.address);
    stage.systemd = manager(&stage.bus, &stage.truth, &stage.asked).await;
    assert_eq!(stage.next().await, Event::SystemState { stopping: true });
    assert!(matches!(stage.next().await, Event::ManagerConnected { .. }));
}

#[tokio::test]
async fn what_a_unit_uses_is_read_from_its_control_group_and_at_its_end_from_systemd() {
    let group = tempfile::tempdir().unwrap();
    std::fs::write(group.path().join("memory.peak"), "4096").unwrap();
    std::fs::write(group.path().join("cpu.stat"), "usage_usec 1500").unwrap();
    let mut stage = TestBench::set().await;
    let directory = format!("/../../..{}", group.path().display());
    stage.change(|truth| (truth.main_pid, truth.group) = (18, directory));
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
    // The units are compared as they are each minute.
    for is_active in [true, false] {
        stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "Reloading", &is_active).await;
    }
    let Event::UnitsMeasured(usages) = stage.next().await else { panic!() };
    let usage = UnitUsage {
        unit: UnitName::from_systemd(UNIT),
        invocation: String::new(),
        memory: None,
        memory_peak: Some(4_096),
        cpu: Some(Duration::from_micros(1_500)),
    };
    assert_eq!(usages, std::slice::from_ref(&usage));

    stage.change(|truth| {
        (truth.main_pid, truth.group, truth.memory_peak) = (0, String::new(), 8_192);
    });
    stage.systemd.report_unit().await;
    let last = UnitUsage { memory_peak: Some(8_192), cpu: None, ..usage };
    assert_eq!(stage.next().await, Event::UnitsMeasured(vec![last]));
    stage.expect_main_pid(0).await;
}
