//! Tests of both sides over a test bus.

use crate::bus::client::call_at;
use crate::bus::{
    BusHandle, BusSettings, CallError, Caller, NAME, NameClaim, OwnedName, PATH, claim, claim_node,
    keep_node, spawn, well_known_name,
};
use crate::dbus::test_bus::TestBus;
use crate::dbus::{Bus, CALL_TIMEOUT, connect};
use crate::pulse::Pulse;
use crate::request::{Command, Forgotten, Imported, Rejection, Request, Selection, StatePage};
use bytes::Bytes;
use futures_util::StreamExt;
use iotmonitor_core::model::alert::{AlertKind, Priority};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::view::{ClusterView, ItemView, StoreView};
use iotmonitor_core::model::cluster::{Item, NodeName};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::history::alert_record::{AlertRecord, AlertReport};
use iotmonitor_core::model::history::report::DeviceReport;
use iotmonitor_core::model::message::QoS;
use iotmonitor_core::model::state::StateRecord;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use zbus::Connection;
use zbus::fdo::{DBusProxy, RequestNameFlags, RequestNameReply};

fn offer(address: &str, client_id: &str) -> mpsc::Receiver<Request> {
    let (requests, handle) = offer_with(address, client_id);
    // It is offered until the handle is dropped, which ends the test.
    std::mem::forget(handle);
    requests
}

/// Offers the interface until the handle is dropped.
pub(super) fn offer_with(address: &str, client_id: &str) -> (mpsc::Receiver<Request>, BusHandle) {
    let (requests, events, handle) = offer_at(address, client_id, None);
    // Nothing reads the reports about the name.
    std::mem::forget(events);
    (requests, handle)
}

fn offer_at(
    address: &str,
    client_id: &str,
    place: Option<Box<OwnedName>>,
) -> (mpsc::Receiver<Request>, mpsc::Receiver<Event>, BusHandle) {
    let (sender, requests) = mpsc::channel(4);
    let (event_sender, events) = mpsc::channel(4);
    let handle = spawn(settings(address, client_id), place, sender, event_sender, Pulse::new());
    (requests, events, handle)
}

fn settings(address: &str, client_id: &str) -> BusSettings {
    BusSettings {
        bus: Bus::System,
        client_id: client_id.to_owned(),
        bus_address: Some(address.to_owned()),
    }
}

/// Waits for a daemon of that clientid to be on the bus.
pub(super) async fn on_the_bus(address: &str, client_id: &str) {
    owned(address, &well_known_name(client_id).unwrap()).await;
}

/// Waits for the name to have an owner.
async fn owned(address: &str, name: &str) {
    let present = async {
        loop {
            if let Ok(connection) = connect(Bus::System, Some(address), CALL_TIMEOUT).await {
                let bus = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
                if bus.name_has_owner(name.try_into().unwrap()).await == Ok(true) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), present).await.unwrap();
}

async fn next_command(
    requests: &mut mpsc::Receiver<Request>,
) -> (Command, oneshot::Sender<Result<(), Rejection>>) {
    match requests.recv().await {
        Some(Request::Command { command, reply }) => (command, reply),
        other => panic!("no command but {other:?}"),
    }
}

/// A bus, what is asked of a daemon there, and a caller that asks it.
async fn called() -> (TestBus, mpsc::Receiver<Request>, Caller) {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let requests = offer(&bus.address, "iotmonitor");
    on_the_bus(&bus.address, "iotmonitor").await;
    let caller = Caller::connect(Bus::System, Some(&bus.address), "iotmonitor").await.unwrap();
    (bus, requests, caller)
}

fn lamp() -> DeviceName {
    DeviceName::new("lamp").unwrap()
}

#[tokio::test]
async fn the_cluster_reaches_the_caller_and_a_machine_alone_refuses() {
    let (_bus, mut requests, caller) = called().await;
    let view = ClusterView {
        node: NodeName::new("pi1").unwrap(),
        epoch: Some(Revision(7)),
        etcd: StoreView {
            answers: Some(true),
            lasts: Duration::from_secs(60),
            reason: None,
            config: None,
        },
        nodes: BTreeMap::new(),
        items: [(Item::Shard(4), ItemView { node: None, nodes: Vec::new(), epoch: None })].into(),
    };
    let alone = Rejection::Failed("this machine is in no cluster".to_owned());
    for answer in [Ok(Box::new(view)), Err(alone)] {
        let daemon = async {
            let Some(Request::Cluster { reply }) = requests.recv().await else { panic!() };
            reply.send(answer.clone()).unwrap();
        };
        let (asked, ()) = tokio::join!(caller.cluster(), daemon);
        match answer {
            Ok(view) => assert_eq!(caller.cluster_view(&asked.unwrap()), Ok(*view)),
            Err(refusal) => {
                assert_eq!(asked, Err(CallError::Rejected(refusal.to_string())));
            }
        }
    }
}

#[tokio::test]
async fn sections_of_any_length_reach_the_daemon_and_its_words_the_caller() {
    let (_bus, mut requests, caller) = called().await;
    let sections = "[device_lamp]\nwatchTopics = \"lamp\"\n".repeat(100_000);
    let unfit = Rejection::Failed("[device_lamp] is twice in it".to_owned());
    for answer in [Ok("added: [device_lamp]\n".to_owned()), Err(unfit)] {
        let daemon = async {
            let Some(Request::ApplySections { path, text, reply }) = requests.recv().await else {
                panic!()
            };
            assert_eq!(path, Path::new("house.toml"));
            assert!(*text == *sections, "{} bytes", text.len());
            reply.send(answer.clone()).unwrap();
        };
        let (said, ()) = tokio::join!(caller.apply_sections("house.toml", &sections), daemon);
        let expected = answer.map_err(|refusal| CallError::Rejected(refusal.to_string()));
        assert_eq!(said, expected);
    }
}

#[tokio::test]
async fn commands_reach_the_daemon_and_its_answers_the_caller() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let mut requests = offer(&bus.address, "iotmonitor");
    on_the_bus(&bus.address, "iotmonitor").await;
    let failed = || Err(Rejection::Failed("the file has 2 errors".to_owned()));
    for (command, answer, outcome) in [
        (Command::Reload, Ok(()), Ok(())),
        (Command::Reload, failed(), Err(CallError::Rejected("the file has 2 errors".to_owned()))),
        (Command::Enable(lamp()), Ok(()), Ok(())),
        (
            Command::Disable(lamp()),
            Err(Rejection::UnknownDevice(lamp())),
            Err(CallError::UnknownDevice(Rejection::UnknownDevice(lamp()).to_string())),
        ),
        (Command::Restore(lamp()), Ok(()), Ok(())),
        (Command::RestartAgent(lamp()), Ok(()), Ok(())),
    ] {
        let daemon = async {
            let (asked, reply) = next_command(&mut requests).await;
            assert_eq!(asked, command);
            reply.send(answer).unwrap();
        };
        let caller = call_at(Bus::System, Some(&bus.address), "iotmonitor", command.clone());
        let (called, ()) = tokio::join!(caller, daemon);
        assert_eq!(called, outcome);
    }
}

#[tokio::test]
async fn instances_do_not_hear_each_other() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let mut requests = offer(&bus.address, "garden");
    on_the_bus(&bus.address, "garden").await;
    let call = |id: &'static str| call_at(Bus::System, Some(&bus.address), id, Command::Reload);
    assert_eq!(
        call("iotmonitor").await,
        Err(CallError::NotRunning(
            "systemctl start iotmonitor".to_owned(),
            " (what runs is reached with `--clientid garden`)".to_owned()
        ))
    );
    let error = call("iotmonitor-cellar").await.unwrap_err().to_string();
    assert!(error.contains("`systemctl start iotmonitor@cellar`"), "{error}");
    let daemon = async { next_command(&mut requests).await.1.send(Ok(())).unwrap() };
    assert_eq!(tokio::join!(call("garden"), daemon).0, Ok(()));
}

#[tokio::test]
async fn a_daemon_that_ends_answers_waiting_callers() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let mut requests = offer(&bus.address, "iotmonitor");
    on_the_bus(&bus.address, "iotmonitor").await;
    let caller = call_at(Bus::System, Some(&bus.address), "iotmonitor", Command::Reload);
    let daemon = async { drop(requests.recv().await.unwrap()) };
    let (called, ()) = tokio::join!(caller, daemon);
    assert_eq!(called, Err(CallError::Rejected("iotmonitor is shutting down".to_owned())));
}

#[tokio::test]
async fn the_name_is_taken_again_when_the_bus_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", directory.path().join("bus").display());
    let mut requests = offer(&address, "iotmonitor");
    for _ in 0..2 {
        let _bus = TestBus::start(&address);
        on_the_bus(&address, "iotmonitor").await;
        let caller = call_at(Bus::System, Some(&address), "iotmonitor", Command::Reload);
        let daemon = async { next_command(&mut requests).await.1.send(Ok(())).unwrap() };
        assert_eq!(tokio::join!(caller, daemon).0, Ok(()));
    }
    let gone = call_at(Bus::System, Some(&address), "iotmonitor", Command::Reload).await;
    assert!(matches!(gone, Err(CallError::NoBus(_))), "{gone:?}");
}

#[tokio::test]
async fn the_place_of_a_node_is_taken_again_when_the_bus_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", directory.path().join("bus").display());
    let settings = |id| settings(&address, id);
    let bus = TestBus::start(&address);
    let NameClaim::Made(place) = claim_node(&settings("iotmonitor")).await else { panic!() };
    let keeper = tokio::spawn(keep_node(settings("iotmonitor"), Some(place)));
    drop(bus);
    let _bus = TestBus::start(&address);
    owned(&address, "org.iotmonitor.Node").await;
    let held = claim_node(&settings("garden")).await;
    assert!(matches!(held, NameClaim::Held(_)), "{held:?}");
    keeper.abort();
    assert!(keeper.await.unwrap_err().is_cancelled());
    let next = claim_node(&settings("garden")).await;
    assert!(matches!(next, NameClaim::Made(_)), "{next:?}");
}

#[tokio::test]
async fn a_call_that_is_longer_than_any_needs_to_be_is_refused_unread() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let mut requests = offer(&bus.address, "iotmonitor");
    on_the_bus(&bus.address, "iotmonitor").await;
    let connection = connect(Bus::System, Some(&bus.address), CALL_TIMEOUT).await.unwrap();
    let name = "x".repeat(1 << 20);
    for member in ["GetDevice", "Enable", "ListStates"] {
        let refused =
            connection.call_method(Some(NAME), PATH, Some(NAME), member, &(&name, "", "")).await;
        let Err(zbus::Error::FDO(error)) = refused else { panic!("{member}: {refused:?}") };
        assert!(matches!(*error, zbus::fdo::Error::LimitsExceeded(_)), "{member}: {error}");
    }
    assert!(requests.try_recv().is_err());
}

/// Requests the name with all the force that the bus allows.
async fn grab(address: &str, client_id: &str) -> (Connection, RequestNameReply) {
    let connection = connect(Bus::System, Some(address), CALL_TIMEOUT).await.unwrap();
    let name = well_known_name(client_id).unwrap();
    let bus = DBusProxy::new(&connection).await.unwrap();
    let flags = RequestNameFlags::REPLACE_EXISTING
        | RequestNameFlags::ALLOW_REPLACEMENT
        | RequestNameFlags::DO_NOT_QUEUE;
    let reply = bus.request_name(name.as_str().try_into().unwrap(), flags).await.unwrap();
    (connection, reply)
}

#[tokio::test]
async fn no_other_process_takes_the_name_away() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let mut requests = offer(&bus.address, "iotmonitor");
    on_the_bus(&bus.address, "iotmonitor").await;
    let (_other, reply) = grab(&bus.address, "iotmonitor").await;
    assert_eq!(reply, RequestNameReply::Exists);
    let caller = call_at(Bus::System, Some(&bus.address), "iotmonitor", Command::Reload);
    let daemon = async { next_command(&mut requests).await.1.send(Ok(())).unwrap() };
    assert_eq!(tokio::join!(caller, daemon).0, Ok(()));
}

#[tokio::test]
async fn a_name_that_another_has_is_not_claimed_and_he_is_named() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    // This owner would allow replacement.
    let (other, reply) = grab(&bus.address, "garden").await;
    assert_eq!(reply, RequestNameReply::PrimaryOwner);
    let settings = |id| settings(&bus.address, id);
    let NameClaim::Held(holder) = claim(&settings("garden")).await else { panic!() };
    assert_eq!(holder.to_string(), format!("PID {}", std::process::id()));
    assert!(matches!(claim(&settings("iotmonitor")).await, NameClaim::Made(_)));
    drop(other);
    assert!(matches!(claim(&settings("garden")).await, NameClaim::Made(_)));
}

#[tokio::test]
async fn a_claim_waits_for_no_bus() {
    assert!(matches!(
        claim(&settings("unix:path=/nonexistent", "iotmonitor")).await,
        NameClaim::Pending
    ));
}

/// The bus was away at the start, and another process was faster when it came back.
#[tokio::test]
async fn a_name_found_taken_later_is_reported_once_and_taken_when_it_is_free() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let (other, _) = grab(&bus.address, "iotmonitor").await;
    let (mut requests, mut events, _handle) = offer_at(&bus.address, "iotmonitor", None);
    let Some(Event::BusNameRefused { reason }) = events.recv().await else { panic!() };
    assert!(reason.contains(&format!("PID {}", std::process::id())), "{reason}");
    drop(other);
    assert_eq!(events.recv().await, Some(Event::BusNameBack));
    let caller = call_at(Bus::System, Some(&bus.address), "iotmonitor", Command::Reload);
    let daemon = async { next_command(&mut requests).await.1.send(Ok(())).unwrap() };
    assert_eq!(tokio::join!(caller, daemon).0, Ok(()));
}

#[tokio::test]
async fn calls_before_the_daemon_has_started_are_answered_when_it_has() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let NameClaim::Made(place) = claim(&settings(&bus.address, "iotmonitor")).await else {
        panic!()
    };
    let caller = call_at(Bus::System, Some(&bus.address), "iotmonitor", Command::Reload);
    let daemon = async {
        on_the_bus(&bus.address, "iotmonitor").await;
        let (mut requests, _events, _handle) = offer_at(&bus.address, "iotmonitor", Some(place));
        next_command(&mut requests).await.1.send(Ok(())).unwrap();
        requests.recv().await
    };
    let outcome = tokio::select! {
        outcome = caller => outcome,
        _ = daemon => unreachable!("there is no other caller"),
    };
    assert_eq!(outcome, Ok(()));
}

fn record(topic: &str, payload: impl Into<Bytes>) -> StateRecord {
    StateRecord {
        topic: TopicName::new(topic).unwrap(),
        payload: payload.into(),
        qos: QoS::AtMostOnce,
        retain: true,
        time: Duration::from_micros(1_700_000_000_123_456),
    }
}

#[tokio::test]
async fn the_past_of_a_device_arrives_as_it_was_reported() {
    let (_bus, mut requests, caller) = called().await;
    let report =
        DeviceReport { name: "lamp".to_owned(), since: Some(7), ..DeviceReport::default() };
    let daemon = async {
        let Some(Request::Histories { devices, length, boundaries, reply }) = requests.recv().await
        else {
            panic!()
        };
        assert_eq!((devices, length), (vec![lamp()], Duration::from_secs(3_600)));
        assert_eq!(boundaries, [7, 9].map(Duration::from_secs));
        reply.send(Ok(vec![report.to_json()])).unwrap();
        let Some(Request::Histories { reply, .. }) = requests.recv().await else { panic!() };
        reply.send(Err(Rejection::Failed("not now".to_owned()))).unwrap();
    };
    let asked = async {
        let hour = Duration::from_secs(3_600);
        let answer = caller.histories(&["lamp"], hour, &[7, 9]).await;
        let unordered = caller.histories(&["lamp"], hour, &[9, 7]).await;
        assert!(matches!(unordered, Err(CallError::Rejected(_))), "{unordered:?}");
        (answer, caller.histories(&["lamp"], hour, &[]).await)
    };
    let ((), (answer, failure)) = tokio::join!(daemon, asked);
    assert_eq!(answer, Ok(vec![report.clone()]));
    assert_eq!(failure, Err(CallError::Rejected("not now".to_owned())));
}

/// An answer has a thousand alerts at most, and there may be more of them.
#[tokio::test]
async fn all_alerts_of_the_time_arrive() {
    const ALL: u64 = 2_000;
    let (_bus, mut requests, caller) = called().await;
    let daemon = async {
        while let Some(Request::Alerts { query, reply }) = requests.recv().await {
            let newest_first = (1..query.before.unwrap_or(ALL + 1)).rev().take(query.limit);
            let alerts = newest_first.map(|id| {
                let record = AlertRecord::plain(Duration::ZERO, AlertKind::Expired, "x");
                AlertReport::of(&AlertRecord { id: Some(id), ..record }).to_json()
            });
            let alerts = alerts.collect::<Vec<_>>().join(",");
            reply.send(Ok(format!("[{alerts}]"))).unwrap();
        }
    };
    let asked = caller.alerts(None, Priority::Info, Duration::from_secs(60));
    let alerts = tokio::select! {
        () = daemon => panic!("no request arrives any more"),
        alerts = asked => alerts.unwrap(),
    };
    let ids: Vec<u64> = alerts.iter().filter_map(|alert| alert.id).collect();
    assert!(ids.iter().copied().eq((1..=ALL).rev()), "{} alerts", ids.len());
}

#[tokio::test]
async fn the_topics_of_a_device_arrive_as_filters() {
    let (_bus, mut requests, caller) = called().await;
    let filters = ["home/+/state", "home/lamp/#"].map(|it| TopicFilter::new(it).unwrap());
    let daemon = async {
        let Some(Request::Topics { device, reply }) = requests.recv().await else { panic!() };
        assert_eq!(device, lamp());
        reply.send(Ok(filters.to_vec())).unwrap();
        let Some(Request::Topics { device, reply }) = requests.recv().await else { panic!() };
        reply.send(Err(Rejection::UnknownDevice(device))).unwrap();
    };
    let asked = async { (caller.topics(&lamp()).await, caller.topics(&lamp()).await) };
    let ((), (answer, unknown)) = tokio::join!(daemon, asked);
    assert_eq!(answer, Ok(filters.to_vec()));
    assert!(matches!(unknown, Err(CallError::UnknownDevice(_))), "{unknown:?}");
}

#[tokio::test]
async fn states_travel_both_ways() {
    let (_bus, mut requests, caller) = called().await;
    let (bytes, huge) = (&b"\0\xff\n"[..], vec![b'x'; (16 << 20) + 1]);
    let daemon = async {
        let next = Some(TopicName::new("b").unwrap());
        for expected in [
            (Selection::All, None),
            (Selection::Device(lamp()), Some(TopicName::new("a").unwrap())),
            (Selection::Filter(TopicFilter::new("home/#").unwrap()), None),
        ] {
            let Some(Request::States { of, after, reply }) = requests.recv().await else {
                panic!()
            };
            assert_eq!((of, after), expected);
            let states = vec![record("a", bytes), record("b", huge.clone())];
            reply.send(Ok(StatePage { states, next: next.clone() })).unwrap();
        }
        let Some(Request::SetState { state, reply }) = requests.recv().await else { panic!() };
        assert_eq!(state, StateRecord { time: Duration::ZERO, ..record("a", bytes) });
        reply.send(Ok(true)).unwrap();
        let Some(Request::ForgetState { topic, clear, reply }) = requests.recv().await else {
            panic!()
        };
        assert_eq!((topic.as_str(), clear), ("a", true));
        reply.send(Ok(Forgotten { recorded: true, cleared: false })).unwrap();
        let Some(Request::ImportStates { states, reply }) = requests.recv().await else { panic!() };
        assert_eq!(states, [record("a", bytes)]);
        reply.send(Ok(Imported { recorded: 1, unclaimed: 2 })).unwrap();
    };
    let calls = async {
        let mut page = (Vec::new(), String::new());
        for (of, after) in [
            (Selection::All, ""),
            (Selection::Device(lamp()), "a"),
            (Selection::Filter(TopicFilter::new("home/#").unwrap()), ""),
        ] {
            page = caller.states(&of, after).await.unwrap();
        }
        let (states, next) = page;
        assert_eq!(next, "b");
        assert_eq!(states[0].payload.as_deref(), Some(bytes));
        assert_eq!((states[1].payload.as_ref(), states[1].size), (None, huge.len() as u64));
        assert!(caller.set_state("a", bytes, 0, true).await.unwrap());
        let forgotten = caller.forget_state("a", true).await.unwrap();
        assert_eq!(forgotten, Forgotten { recorded: true, cleared: false });
        let imported = caller.import_states(&states[..1]).await.unwrap();
        assert_eq!(imported, Imported { recorded: 1, unclaimed: 2 });
        // An invalid state does not reach the daemon.
        let refused = caller.set_state("a/#", b"", 0, false).await;
        assert!(matches!(refused, Err(CallError::Rejected(said)) if said.contains("wildcards")));
        let refused = caller.set_state("a", b"", 2, false).await;
        assert!(matches!(refused, Err(CallError::Rejected(said)) if said.contains("QoS 2")));
    };
    tokio::join!(daemon, calls);
}

/// More waits than calls that are answered at a time: a stop may take a minute and a half.
#[tokio::test]
async fn orders_that_wait_hold_up_no_other_call() {
    const ORDERS: usize = 40;
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let mut requests = offer(&bus.address, "iotmonitor");
    on_the_bus(&bus.address, "iotmonitor").await;
    let connect = || Caller::connect(Bus::System, Some(&bus.address), "iotmonitor");
    let patient = connect().await.unwrap();
    let orders = std::iter::repeat_with(|| patient.order(Command::RestartAgent(lamp()), true));
    let orders = futures_util::future::join_all(orders.take(ORDERS));
    let daemon = async {
        let mut replies = Vec::new();
        while replies.len() < ORDERS {
            match requests.recv().await {
                Some(Request::Order { reply, .. }) => replies.push(reply),
                other => panic!("no order but {other:?}"),
            }
        }
        let hasty = connect().await.unwrap();
        let reload = async { hasty.send(Command::Reload).await };
        let obeyed = async {
            let (command, reply) = next_command(&mut requests).await;
            assert_eq!(command, Command::Reload);
            reply.send(Ok(())).unwrap();
        };
        assert_eq!(tokio::join!(reload, obeyed).0, Ok(()));
        for reply in replies {
            reply.send(Err(Rejection::Failed("it does not end".to_owned()))).unwrap();
        }
    };
    let both = async { tokio::join!(orders, daemon).0 };
    let outcomes = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    let failed = Err(CallError::Rejected("it does not end".to_owned()));
    assert!(outcomes.iter().all(|outcome| *outcome == failed), "{outcomes:?}");
}

#[tokio::test]
async fn calls_from_before_its_name_do_not_keep_a_monitor_from_it() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let stranger = connect(Bus::System, Some(&bus.address), CALL_TIMEOUT).await.unwrap();
    // The bus numbers its connections, so the next name is known.
    assert_eq!(stranger.unique_name().unwrap().as_str(), ":1.0");
    let call = zbus::Message::method_call("/", "Ping")
        .destination(":1.1")
        .interface("org.freedesktop.DBus.Peer")
        .with_flags(zbus::message::Flags::NO_REPLY_EXPECTED);
    let calls = vec![call.build(&()).unwrap(); 256];
    let flood = tokio::spawn(async move {
        loop {
            stranger.send_all(&calls).await.unwrap();
        }
    });
    let claimed = claim(&settings(&bus.address, "iotmonitor")).await;
    flood.abort();
    assert!(matches!(claimed, NameClaim::Made(_)), "{claimed:?}");
}

/// A monitor of version 0.3.0 does not know `Order`, and answers `RestartAgent` at once.
#[tokio::test]
async fn an_earlier_monitor_is_given_the_orders_that_it_knows() {
    let bus = TestBus::start("unix:tmpdir=/tmp");
    let (daemon, _) = grab(&bus.address, "iotmonitor").await;
    let mut calls = zbus::MessageStream::from(&daemon);
    let serving = tokio::spawn(async move {
        while let Some(Ok(call)) = calls.next().await {
            let header = call.header();
            match header.member().map(|member| member.as_str()) {
                Some("Order") => {
                    let name = "org.freedesktop.DBus.Error.UnknownMethod";
                    daemon.reply_error(&header, name, &"no such method").await.unwrap();
                }
                Some("RestartAgent") => daemon.reply(&header, &()).await.unwrap(),
                _ => {}
            }
        }
    });
    let caller = Caller::connect(Bus::System, Some(&bus.address), "iotmonitor").await.unwrap();
    assert_eq!(caller.order(Command::RestartAgent(lamp()), true).await, Ok(()));
    let span = Duration::from_secs(60);
    let refused = caller.order(Command::Pause(lamp(), span), true).await;
    assert_eq!(refused, Err(CallError::Older("systemctl restart iotmonitor".to_owned())));
    serving.abort();
}
