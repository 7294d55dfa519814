//! A start under another identity than the last one's.

use super::expect::{agent, device_name, stateful, watched};
use super::sharing::{cluster, node};
use super::timetable::{BASE, House, filter, message, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::identity::{Identity, IdentityRecord};
use iotmonitor_core::model::message::{Connection, Delivery, FormerPart, Protocol};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::state::StateChange;
use iotmonitor_core::model::unit::UnitsOutcome;
use iotmonitor_core::model::unit_name::UnitName;

/// A house whose store was used by the monitor `attic`, with these devices.
fn renamed(devices: Vec<DeviceSpec>) -> House {
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str().to_owned()).collect();
    let mut house = House::running(devices);
    house.restart();
    house.store.identity = Some(IdentityRecord {
        current: Some(Identity {
            machine: None,
            client_id: "attic".to_owned(),
            node: None,
            base_topic: BASE.to_owned(),
            discovery_prefix: None,
            server: String::new(),
        }),
        ..IdentityRecord::default()
    });
    assert!(names.iter().all(|name| house.store.devices.contains_key(&device_name(name))));
    house.manager.units.clear();
    house.turn_the_page();
    house
}

fn stopped(house: &mut House, count: usize) {
    let outcome = UnitsOutcome::Stopped { count };
    house.happen(Event::FormerUnitsStopped { client_id: "attic".to_owned(), outcome });
}

fn starts(house: &House) -> usize {
    house.log.iter().filter(|(_, action)| matches!(action, Action::StartUnit { .. })).count()
}

#[test]
fn no_agent_starts_before_the_former_units_are_stopped() {
    let mut house = renamed(vec![agent("pump", 30), watched("lamp", 30)]);
    house.power_up();
    house.advance(secs(30));
    assert_eq!(starts(&house), 0);
    let asked = house.log.iter().find_map(|(_, action)| match action {
        Action::StopFormerUnits { client_id, units } => Some((client_id.clone(), units.clone())),
        _ => None,
    });
    let (client_id, units) = asked.expect("they are to be stopped");
    assert_eq!(client_id, "attic");
    assert!(units.contains(&UnitName::for_agent("attic", "pump").unwrap()));
    stopped(&mut house, 1);
    assert_eq!(starts(&house), 1);
    assert_eq!(house.count(AlertKind::IdentityChanged), 1);
}

#[test]
fn the_watching_waits_for_nothing() {
    let mut house = renamed(vec![agent("pump", 30), watched("lamp", 30)]);
    house.power_up();
    house.hear("home/lamp/x");
    assert_eq!(house.status("lamp")["state"], "alive");
}

/// A connection for a former identity, in MQTT 5.
fn connected(part: FormerPart, session_present: bool) -> Event {
    let connection = Connection::Former(part);
    Event::Connected { connection, protocol: Protocol::V5, session_present }
}

/// What the former session holds may be newer than what is recorded.
#[test]
fn states_are_restored_once_the_former_session_is_drained() {
    let mut house = renamed(vec![stateful("lamp")]);
    house.power_up();
    house.advance(secs(3));
    stopped(&mut house, 0);
    let reads = |house: &House| {
        house.log.iter().filter(|(_, action)| matches!(action, Action::ReadStates { .. })).count()
    };
    house.happen(connected(FormerPart::Look, false));
    house.advance(secs(10));
    house.happen(connected(FormerPart::Drain, true));
    let held = message("home/lamp/states/colour", "red");
    let (part, delivery) = (FormerPart::Drain, Delivery(1));
    house.happen(Event::FormerMessage { part, delivery, message: held });
    let recorded = house.log.iter().any(|(_, action)| {
        matches!(action, Action::RecordFormer { change: StateChange::PutUnflagged(_), .. })
    });
    assert!(recorded);
    assert_eq!(reads(&house), 0);
    house.happen(Event::FormerStatesCommitted { through: delivery });
    house.advance(secs(11));
    assert!(house.log.iter().any(|(_, action)| {
        matches!(action, Action::ConnectFormer { part: FormerPart::End, .. })
    }));
    assert_eq!(reads(&house), 1);
}

#[test]
fn a_copied_store_takes_nothing_back_at_the_broker() {
    let mut house = renamed(vec![watched("lamp", 30), watched("door", 30)]);
    let record = house.store.identity.as_mut().unwrap();
    record.current.as_mut().unwrap().machine = Some("there".to_owned());
    house.spec.origin.machine = Some("here".to_owned());
    house.spec.devices.retain(|device| device.name.as_str() == "lamp");
    house.crash();
    house.power_up();
    house.advance(secs(120));
    assert_eq!(house.count(AlertKind::LeftBehind), 1);
    let published = house.all_published().into_iter();
    let emptied: Vec<_> = published.filter(|(_, p)| p.retain && p.payload.is_empty()).collect();
    assert!(emptied.is_empty(), "{emptied:?}");
    assert!(!house.log.iter().any(|(_, action)| {
        matches!(action, Action::StopFormerUnits { .. } | Action::ConnectFormer { .. })
    }));
}

#[test]
fn another_monitor_below_the_same_base_topic_is_reported_once() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(10));
    let said = house.payloads("up");
    for count in &said {
        house.hear_payload("home/monitoring/up", count);
    }
    assert_eq!(house.count(AlertKind::BaseTopicShared), 0, "its own words come back");
    house.hear_payload("home/monitoring/up", "500");
    house.hear_payload("home/monitoring/availability", "offline");
    assert_eq!(house.count(AlertKind::BaseTopicShared), 1);
    house.restart();
    house.turn_the_page();
    house.power_up();
    house.advance(secs(10));
    house.happen(Event::Stopping);
    house.hear_payload("home/monitoring/availability", "offline");
    assert_eq!(house.count(AlertKind::BaseTopicShared), 0, "those were its last words");
}

/// A broker may show no client what is below the base topic; the devices are heard nevertheless.
#[test]
fn a_broker_that_keeps_the_own_words_back_is_no_alert() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    for own in ["up", "availability"] {
        house.broker.refused.insert(filter(&format!("{BASE}/{own}")));
    }
    house.power_up();
    assert_eq!(house.count(AlertKind::FilterRefused), 0);
    assert!(house.monitor.summary().watching);
}

/// A monitor that was by itself becomes a node: its agents, statuses and descriptions are those of the
/// cluster from then on, and only its session is another one.
#[test]
fn the_first_start_in_a_cluster_ends_the_session_of_before_and_loses_no_state() {
    let mut house = House::running(vec![stateful("lamp")]);
    house.restart();
    house.turn_the_page();
    house.spec.cluster = Some(cluster(&[]));
    house.crash();
    house.join(&[]);
    house.power_up();
    house.happen(connected(FormerPart::Look, false));
    house.advance(secs(10));
    house.happen(connected(FormerPart::Drain, true));
    let held = message("home/lamp/states/colour", "red");
    let (part, delivery) = (FormerPart::Drain, Delivery(1));
    house.happen(Event::FormerMessage { part, delivery, message: held });
    house.happen(Event::FormerStatesCommitted { through: delivery });
    house.advance(secs(11));
    house.happen(connected(FormerPart::End, false));
    let connections = house.log.iter().filter_map(|(_, action)| match action {
        Action::ConnectFormer { part, client_id } => Some((*part, client_id.as_str())),
        _ => None,
    });
    let connections: Vec<_> = connections.collect();
    let expected = [
        (FormerPart::Look, "iotmonitor@pi1"),
        (FormerPart::Drain, "iotmonitor"),
        (FormerPart::End, "iotmonitor"),
    ];
    assert_eq!(connections, expected);
    let recorded = house.log.iter().any(|(_, action)| {
        matches!(action, Action::RecordFormer { change: StateChange::PutUnflagged(_), .. })
    });
    assert!(recorded, "what the broker kept for the former session is the node's");
    assert!(!house.log.iter().any(|(_, it)| matches!(it, Action::StopFormerUnits { .. })));
    let cleared =
        house.all_published().into_iter().find(|(_, it)| it.retain && it.payload.is_empty());
    assert_eq!(cleared, None);
    let identity = house.store.identity.as_ref().unwrap();
    assert!(
        identity.former.is_empty() && identity.current.as_ref().unwrap().node == Some(node("pi1"))
    );
    house.turn_the_page();
    house.crash();
    house.join(&[]);
    house.power_up();
    house.advance(secs(60));
    assert!(!house.log.iter().any(|(_, it)| matches!(it, Action::ConnectFormer { .. })), "once");
}
