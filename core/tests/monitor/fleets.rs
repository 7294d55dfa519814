//! Fleets whose members are learned from their messages.

use super::expect::{stateful, watched};
use super::timetable::{House, filter, message, name as device_name, secs, topic};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, QoS};
use iotmonitor_core::model::name_pattern::NamePattern;
use iotmonitor_core::model::spec::{DeviceSpec, FleetSpec, HomeAssistant, MonitorSpec};
use iotmonitor_core::model::state::StateChange;
use iotmonitor_core::model::unit_name::UnitTemplate;
use iotmonitor_core::model::view::Liveness;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeMap;
use std::time::Duration;

/// `home/{name}/sensors/#` with a hello topic and states, and a timeout of 30 s.
pub fn esp() -> FleetSpec {
    let template = DeviceSpec {
        name: device_name("{name}"),
        watch: vec![filter("home/{name}/sensors/#")],
        hello: Some(filter("home/{name}")),
        state: vec![filter("home/{name}/set/#")],
        ..watched("x", 30)
    };
    FleetSpec {
        name: device_name("esp"),
        template,
        exceptions: BTreeMap::new(),
        max_devices: 1_000,
        ignore: Vec::new(),
    }
}

pub fn spec(devices: Vec<DeviceSpec>, fleet: FleetSpec) -> MonitorSpec {
    MonitorSpec { fleets: vec![fleet], ..House::dark(devices).spec }
}

fn running(fleet: FleetSpec) -> House {
    let mut house = House::of(spec(Vec::new(), fleet));
    house.power_up();
    house
}

fn names(house: &House) -> Vec<String> {
    house.monitor.views_after(None, 10_000).into_iter().map(|view| view.name).collect()
}

fn state_of(house: &House, device: &str) -> Option<Liveness> {
    house.monitor.view(&device_name(device)).map(|view| view.state)
}

fn saved_fleet(house: &House, device: &str) -> Option<String> {
    let record = house.store.devices.get(&device_name(device))?;
    record.fleet.as_ref().map(ToString::to_string)
}

fn forget(house: &mut House, device: &str) {
    house.happen(Event::Forgotten { device: device_name(device) });
}

#[test]
fn learned_members_are_in_the_area_of_their_fleet() {
    let mut fleet = esp();
    fleet.template.area = Some("Attic".into());
    let mut house = running(fleet);
    house.hear("home/a/sensors/x");
    house.hear("home/b/sensors/x");
    let area = |house: &House, name: &str| {
        house.monitor.view(&device_name(name)).unwrap().area.map(|area| area.to_string())
    };
    assert_eq!(area(&house, "a").as_deref(), Some("Attic"));
    house.happen(Event::Forgotten { device: device_name("a") });
    house.hear("home/b/sensors/y");
    assert_eq!(area(&house, "b").as_deref(), Some("Attic"));
}

#[test]
fn a_fleet_is_subscribed_to_once_and_its_members_are_not() {
    let mut house = running(esp());
    let filters = |house: &House| house.broker.watch_subscriptions.clone();
    let before = filters(&house);
    assert_eq!(before.get(&filter("home/+/sensors/#")), Some(&QoS::AtMostOnce));
    assert_eq!(before.get(&filter("home/+")), Some(&QoS::AtLeastOnce));
    assert!(house.broker.session.contains_key(&filter("home/+/set/#")));
    house.turn_the_page();
    house.hear("home/attic/sensors/t");
    assert_eq!(house.subscribed(Connection::Watch).len(), 0);
    // Nor with the next connection.
    house.lose_watch();
    house.connect_watch();
    assert_eq!(filters(&house), before);
}

#[test]
fn the_first_message_makes_a_device_and_counts() {
    let mut house = running(esp());
    house.advance(secs(100));
    house.turn_the_page();
    house.hear("home/attic/sensors/t");
    let view = house.monitor.view(&device_name("attic")).unwrap();
    assert_eq!((view.state, view.fleet.as_deref()), (Liveness::Alive, Some("esp")));
    assert_eq!(view.last_contact, Some(house.now().wall));
    let status = house.status("attic");
    assert_eq!((&status["state"], &status["fleet"]), (&"alive".into(), &"esp".into()));
    assert_eq!(house.payloads("status/attic").len(), 1);
    // It has the timeout of its fleet, and recovers like any other.
    house.advance(secs(31));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired));
    assert_eq!(house.count(AlertKind::Expired), 1);
    house.hear("home/attic/sensors/t");
    assert_eq!(house.count(AlertKind::Recovered), 1);
    assert_eq!(names(&house), ["attic"]);
}

#[test]
fn a_first_hello_is_one() {
    let mut house = running(esp());
    house.recorded("home/attic/set/lamp", "on");
    house.advance(secs(5));
    house.turn_the_page();
    house.hear("home/attic");
    assert_eq!(house.payloads("helloTopicCount/attic"), ["1"]);
    assert_eq!(house.restored(), ["home/attic/set/lamp=on"]);
}

#[test]
fn who_is_new_is_one_notice_that_names_the_device_and_its_fleet() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.hear("home/attic/sensors/t");
    let found = house.alerts(AlertKind::DeviceFound);
    let [(_, alert)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(alert.device, Some(device_name("attic")));
    assert!(alert.message.contains("`attic`") && alert.message.contains("`esp`"), "{alert:?}");
}

#[test]
fn what_is_replayed_introduces_nobody() {
    let mut house = running(esp());
    let retained = |at: &str| Message { retain: true, ..message(at, "1") };
    house.happen(Event::WatchMessage(retained("home/attic/sensors/t")));
    house.happen(Event::WatchMessage(retained("home/attic")));
    assert_eq!(names(&house), [""; 0]);
    assert_eq!(house.count(AlertKind::DeviceFound), 0);
}

/// Somebody may publish an order for a device that does not exist.
#[test]
fn a_state_alone_introduces_nobody_and_is_not_recorded() {
    let mut house = running(esp());
    house.state("home/attic/set/lamp", "on");
    assert_eq!(names(&house), [""; 0]);
    assert!(house.store.states.is_empty());
    house.hear("home/attic/sensors/t");
    house.state("home/attic/set/lamp", "on");
    assert_eq!(house.store.states.keys().collect::<Vec<_>>(), [&topic("home/attic/set/lamp")]);
}

/// The state connection may bring the copy of a message first.
#[test]
fn a_state_on_a_topic_on_which_the_device_is_heard_introduces_it_and_is_recorded() {
    let mut fleet = esp();
    fleet.template.watch = vec![filter("home/{name}/#")];
    let mut house = running(fleet);
    let delivery = house.state("home/attic/set/lamp", "on");
    let is_put = |change: &StateChange| matches!(change, StateChange::Put(_));
    assert!(house.records().iter().any(|(of, change)| *of == delivery && is_put(change)));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Unknown));
    assert_eq!(house.status("attic")["state"], "unknown");
    house.hear("home/attic/set/lamp");
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
    assert_eq!(house.count(AlertKind::DeviceFound), 1);
}

#[test]
fn a_will_introduces_nobody_and_a_birth_does() {
    let mut fleet = esp();
    fleet.template.watch = vec![filter("home/{name}/#")];
    fleet.template.availability = vec![TopicName::new("home/{name}/LWT").unwrap()];
    let mut house = running(fleet);
    assert!(house.broker.watch_subscriptions.contains_key(&filter("home/+/LWT")));
    house.hear_payload("home/attic/LWT", "offline");
    assert_eq!(names(&house), [""; 0]);
    house.hear_payload("home/attic/LWT", "online");
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
    house.hear_payload("home/attic/LWT", "offline");
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired));
}

/// As the documentation says: the topic of the death is named, and that of the birth follows from it.
#[test]
fn a_birth_certificate_introduces_its_node_and_a_death_certificate_does_not() {
    let node = "spBv1.0/plant/NBIRTH/press";
    for (death, birth, other) in [
        ("spBv1.0/plant/NDEATH/{name}", node, "spBv1.0/plant/NDATA/press"),
        ("spBv1.0/plant/DDEATH/edge/{name}", "spBv1.0/plant/DBIRTH/edge/press", node),
    ] {
        let mut fleet = esp();
        fleet.template.availability = vec![topic(death)];
        let mut house = running(fleet);
        house.hear(&death.replace("{name}", "press"));
        house.hear(other);
        assert_eq!(names(&house), [""; 0], "{death}");
        house.hear(birth);
        assert_eq!(names(&house), ["press"], "{death}");
        assert_eq!(state_of(&house, "press"), Some(Liveness::Alive), "{death}");
        house.hear(&death.replace("{name}", "press"));
        assert_eq!(state_of(&house, "press"), Some(Liveness::Expired), "{death}");
    }
}

#[test]
fn a_message_of_a_wide_filter_introduces_all_the_same() {
    let bridge = DeviceSpec { watch: vec![filter("home/#")], ..watched("bridge", 60) };
    let mut house = House::of(spec(vec![bridge], esp()));
    house.power_up();
    house.hear("home/attic/sensors/t");
    assert_eq!(state_of(&house, "bridge"), Some(Liveness::Alive));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
}

#[test]
fn a_new_device_is_described_to_home_assistant() {
    let discovery = Some(topic("homeassistant"));
    let home_assistant = HomeAssistant { discovery, commands: false };
    let mut house = House::of(MonitorSpec { home_assistant, ..spec(Vec::new(), esp()) });
    house.power_up();
    house.hear("home/attic/sensors/t");
    let at = "homeassistant/device/iotmonitor/attic/config";
    assert_eq!(house.published(at).len(), 1);
    house.turn_the_page();
    forget(&mut house, "attic");
    assert_eq!(house.payloads(at), [""]);
}

#[test]
fn names_are_checked_and_the_first_that_fails_is_reported() {
    let cellar = DeviceSpec { watch: vec![filter("x/cellar")], ..watched("cellar", 30) };
    let mut house = House::of(spec(vec![cellar], esp()));
    house.power_up();
    let long = format!("home/{}/sensors/t", "x".repeat(256));
    for bad in ["home/a\u{1b}[2J/sensors/t", "home//sensors/t", &long, "home/cellar/sensors/t"] {
        for _ in 0..3 {
            house.hear(bad);
        }
    }
    assert_eq!(names(&house), ["cellar"]);
    let refused = house.alerts(AlertKind::NameRefused);
    let [(_, alert)] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(!alert.message.contains('\u{1b}'), "{alert:?}");
    assert_eq!(house.monitor.summary().names_refused, 12);
    assert_eq!(state_of(&house, "cellar"), Some(Liveness::Unknown), "it is another device");
}

#[test]
fn a_device_of_the_configuration_speaks_on_topics_of_a_fleet() {
    let mut house = House::of(spec(vec![watched("cellar", 30)], esp()));
    house.power_up();
    house.hear("home/cellar/sensors/t");
    assert_eq!(state_of(&house, "cellar"), Some(Liveness::Alive));
    assert_eq!(house.monitor.view(&device_name("cellar")).unwrap().fleet, None);
    assert_eq!(house.count(AlertKind::NameRefused), 0);
    assert_eq!(house.monitor.summary().names_refused, 0);
}

#[test]
fn names_that_the_configuration_ignores_stay_out() {
    let ignore = vec![NamePattern::new("guest*"), NamePattern::new("attic")];
    let mut house = running(FleetSpec { ignore, ..esp() });
    house.hear("home/attic/sensors/t");
    house.hear("home/guest-7/sensors/t");
    house.hear("home/cellar/sensors/t");
    assert_eq!(names(&house), ["cellar"]);
    assert_eq!(house.monitor.summary().names_refused, 0, "a person wants it so");
}

/// As the configuration reads `[device_attic]` with these topics beside the fleet.
fn with_section() -> MonitorSpec {
    let alone = DeviceSpec { watch: vec![filter("special/attic/#")], ..watched("attic", 300) };
    let mut fleet = esp();
    let hello = Some(filter("home/attic"));
    fleet.exceptions.insert(device_name("attic"), DeviceSpec { hello, ..alone.clone() });
    spec(vec![alone], fleet)
}

#[test]
fn a_device_with_a_section_gets_the_keys_of_the_fleet_when_its_name_is_heard() {
    let mut house = House::of(with_section());
    house.power_up();
    house.hear("special/attic/t");
    let view = |house: &House| house.monitor.view(&device_name("attic")).unwrap();
    assert_eq!((view(&house).state, view(&house).fleet), (Liveness::Alive, None));
    // Its watchTopics are its own, but the name is heard.
    house.hear("home/attic/sensors/t");
    assert_eq!(view(&house).fleet.as_deref(), Some("esp"));
    house.hear("home/attic");
    assert_eq!(view(&house).hellos, 1);
    assert_eq!((house.count(AlertKind::DeviceFound), house.count(AlertKind::NameRefused)), (0, 0));
    assert_eq!(names(&house), ["attic"]);
    // It stays so over a crash and a reload, and is heard on its own topics too.
    house.advance(secs(1));
    house.crash();
    house.power_up();
    assert_eq!(view(&house).fleet.as_deref(), Some("esp"));
    assert!(house.broker.watch_subscriptions.contains_key(&filter("special/attic/#")));
    let devices = house.spec.devices.clone();
    house.reload(devices);
    assert_eq!((view(&house).fleet.as_deref(), view(&house).state), (Some("esp"), Liveness::Alive));
    house.advance(secs(290));
    house.hear("special/attic/t");
    house.advance(secs(290));
    assert_eq!(view(&house).state, Liveness::Alive);
    house.advance(secs(60));
    assert_eq!(view(&house).state, Liveness::Expired);
    assert!(!house.monitor.is_forgettable(&device_name("attic")));
}

/// A gateway that hears everything, with a section, is a member as soon as its name is heard.
#[test]
fn a_member_with_a_wide_section_does_not_end_the_learning() {
    let wide = DeviceSpec { watch: vec![filter("home/#")], ..watched("gateway", 300) };
    let mut fleet = esp();
    fleet.template.watch = vec![filter("home/{name}/#")];
    fleet.exceptions.insert(device_name("gateway"), wide.clone());
    let mut house = House::of(spec(vec![wide], fleet));
    house.power_up();
    let attend = |house: &mut House, device: &str| {
        house.hear(&format!("home/{device}/x"));
        assert_eq!(state_of(house, device), Some(Liveness::Alive), "{device}");
        assert_eq!(state_of(house, "gateway"), Some(Liveness::Alive));
    };
    attend(&mut house, "attic");
    attend(&mut house, "gateway");
    assert_eq!(house.status("gateway")["fleet"], "esp");
    attend(&mut house, "cellar");
    house.advance(secs(1));
    house.crash();
    house.power_up();
    attend(&mut house, "shed");
    assert_eq!(house.count(AlertKind::DeviceFound), 3);
    assert_eq!(house.monitor.summary().names_refused, 0);
}

/// `home/{name}/sensors/#` and `tele/{name}/#`, and a device that is heard on both.
fn two_fleets_with_a_section() -> House {
    let alone = DeviceSpec { watch: vec![filter("special/attic/#")], ..watched("attic", 300) };
    let mut tasmota = FleetSpec { name: device_name("tasmota"), ..esp() };
    tasmota.template.watch = vec![filter("tele/{name}/#")];
    (tasmota.template.hello, tasmota.template.state) = (None, Vec::new());
    let mut spec = spec(vec![alone.clone()], esp());
    spec.fleets.push(tasmota);
    for fleet in &mut spec.fleets {
        fleet.exceptions.insert(device_name("attic"), alone.clone());
    }
    House::of(spec)
}

/// Each change would file its filters anew.
#[test]
fn a_section_that_two_fleets_hear_stays_in_the_first() {
    let mut house = two_fleets_with_a_section();
    house.power_up();
    let fleet = |house: &House| house.monitor.view(&device_name("attic")).unwrap().fleet;
    house.hear("tele/attic/x");
    assert_eq!(fleet(&house).as_deref(), Some("tasmota"));
    for _ in 0..3 {
        for at in ["home/attic/sensors/t", "tele/attic/x"] {
            house.hear(at);
            assert_eq!(fleet(&house).as_deref(), Some("tasmota"), "{at}");
        }
    }
    // As any name that is taken.
    assert_eq!(house.count(AlertKind::NameRefused), 1);
    assert_eq!(house.monitor.summary().names_refused, 3);
    house.advance(secs(1));
    house.crash();
    house.power_up();
    assert_eq!(fleet(&house).as_deref(), Some("tasmota"));
    house.hear("special/attic/t");
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
}

/// An empty payload removes what the broker retains, and is sent on as a live message.
#[test]
fn clearing_a_retained_message_introduces_nobody_unless_it_is_a_hello() {
    let mut house = running(esp());
    house.hear_payload("home/attic/sensors/t", "");
    assert_eq!(names(&house), [""; 0]);
    house.hear_payload("home/attic", "");
    assert_eq!(names(&house), ["attic"]);
    // For one that is known it is a contact, as for any other device.
    house.advance(secs(31));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired));
    house.hear_payload("home/attic/sensors/t", "");
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
    // Nor does it make a member of one with a section.
    let mut house = two_fleets_with_a_section();
    house.power_up();
    house.hear_payload("tele/attic/x", "");
    assert_eq!(house.monitor.view(&device_name("attic")).unwrap().fleet, None);
}

#[test]
fn a_burst_of_names_is_summed_up_and_each_is_a_device_at_once() {
    let mut house = running(esp());
    for number in 0..500 {
        house.hear(&format!("home/n{number}/sensors/t"));
    }
    assert_eq!(names(&house).len(), 500);
    assert_eq!(house.count(AlertKind::DeviceFound), 10);
    house.advance(secs(60));
    let found = house.alerts(AlertKind::DeviceFound);
    assert_eq!(found.len(), 11);
    assert!(found[10].1.message.starts_with("490 more devices"), "{:?}", found[10]);
    // It goes on, and then is over.
    for number in 500..600 {
        house.hear(&format!("home/n{number}/sensors/t"));
    }
    house.advance(secs(60));
    assert_eq!(house.count(AlertKind::DeviceFound), 12);
    house.advance(secs(120));
    house.hear("home/late/sensors/t");
    let last = house.alerts(AlertKind::DeviceFound)[12].1.clone();
    assert_eq!(last.device, Some(device_name("late")));
}

#[test]
fn a_full_fleet_is_reported_once_and_so_is_its_end() {
    let mut house = running(FleetSpec { max_devices: 3, ..esp() });
    for device in ["a", "b", "c", "d", "e", "d"] {
        house.hear(&format!("home/{device}/sensors/t"));
    }
    assert_eq!(names(&house), ["a", "b", "c"]);
    let full = house.alerts(AlertKind::FleetFull);
    let [(_, alert)] = full.as_slice() else { panic!("{full:?}") };
    for part in ["`esp`", "3 devices", "maxDevices = 3"] {
        assert!(alert.message.contains(part), "{alert:?}");
    }
    assert_eq!(house.monitor.summary().names_refused, 3);
    house.turn_the_page();
    forget(&mut house, "b");
    assert_eq!(house.count(AlertKind::FleetRoom), 1);
    house.hear("home/d/sensors/t");
    assert_eq!(names(&house), ["a", "c", "d"]);
    assert_eq!(house.count(AlertKind::FleetFull), 1);
    // More room, by the configuration.
    house.spec.fleets[0].max_devices = 10;
    house.reload(Vec::new());
    assert_eq!(house.count(AlertKind::FleetRoom), 2);
    house.hear("home/e/sensors/t");
    assert_eq!(names(&house), ["a", "c", "d", "e"]);
}

#[test]
fn a_restart_neither_repeats_that_a_fleet_is_full_nor_forgets_it() {
    let mut house = running(FleetSpec { max_devices: 2, ..esp() });
    house.hear("home/a/sensors/t");
    house.hear("home/b/sensors/t");
    assert_eq!(house.count(AlertKind::FleetFull), 1);
    house.advance(secs(1));
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!((house.count(AlertKind::FleetFull), house.count(AlertKind::FleetRoom)), (0, 0));
    // More room in the meantime, which ends it, once.
    house.spec.fleets[0].max_devices = 3;
    house.restart();
    house.power_up();
    assert_eq!(house.count(AlertKind::FleetRoom), 1);
    house.restart();
    house.power_up();
    assert_eq!(house.count(AlertKind::FleetRoom), 1);
    // Less room is news again.
    house.spec.fleets[0].max_devices = 1;
    house.restart();
    house.power_up();
    assert_eq!((house.count(AlertKind::FleetFull), house.count(AlertKind::FleetRoom)), (1, 1));
}

/// People who were not notified before the crash are notified after it.
#[test]
fn an_undelivered_notification_that_a_fleet_is_full_survives_a_crash() {
    let mut full = spec(Vec::new(), FleetSpec { max_devices: 1, ..esp() });
    full.alert_unit = Some(UnitTemplate::new("alert@.service").unwrap());
    let mut house = House::of(full);
    house.power_up();
    house.way.fails = true;
    house.hear("home/a/sensors/t");
    house.advance(secs(1));
    house.crash();
    house.way.fails = false;
    house.turn_the_page();
    house.power_up();
    house.advance(secs(60));
    assert_eq!(house.count(AlertKind::FleetFull), 0);
    let notified: Vec<_> = house.way.notified.iter().map(|it| it.message.as_str()).collect();
    assert!(notified.iter().any(|message| message.contains("is full")), "{notified:?}");
}

#[test]
fn strangers_fill_neither_the_store_nor_the_journal() {
    let mut house = running(FleetSpec { max_devices: 100, ..esp() });
    for number in 0..100_000_u32 {
        let name = number.wrapping_mul(2_654_435_761);
        let mut out = Vec::new();
        let at = format!("home/{name:x}/sensors/t");
        house.monitor.handle(house.now(), Event::WatchMessage(message(&at, "1")), &mut out);
        house.log.extend(out.into_iter().map(|action| (house.mono, action)));
    }
    house.advance(secs(3_600));
    assert_eq!(names(&house).len(), 100);
    let alerts = house.log.iter().filter(|(_, action)| matches!(action, Action::Raise(_)));
    // One by one, together, full, and each of them falls silent.
    assert_eq!(alerts.count(), 10 + 1 + 1 + 100 + 1, "the connection is the last");
    house.restart();
    assert_eq!(house.store.devices.len(), 100);
}

#[test]
fn members_are_there_after_a_crash_and_the_dead_among_them_expire() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    let heard = house.now().wall;
    house.advance(secs(1));
    assert_eq!(saved_fleet(&house, "attic"), Some("esp".to_owned()), "it is saved at once");
    house.crash();
    house.turn_the_page();
    house.power_up();
    let view = house.monitor.view(&device_name("attic")).unwrap();
    assert_eq!((view.last_contact, view.fleet.as_deref()), (Some(heard), Some("esp")));
    house.advance(secs(120));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired));
    assert_eq!(house.count(AlertKind::DeviceFound), 0, "it is not new");
}

#[test]
fn what_is_heard_before_the_store_opens_counts_and_finds_nobody_who_is_known() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.advance(secs(1));
    forget(&mut house, "attic");
    house.hear("home/cellar/sensors/t");
    house.advance(secs(2));
    house.crash();
    house.turn_the_page();
    house.connect_watch();
    for device in ["attic", "cellar", "shed"] {
        house.hear(&format!("home/{device}/sensors/t"));
    }
    house.open_store();
    assert_eq!(names(&house), ["cellar", "shed"]);
    assert_eq!(state_of(&house, "cellar"), Some(Liveness::Alive));
    let found = house.alerts(AlertKind::DeviceFound);
    let found: Vec<_> = found.iter().map(|(_, alert)| alert.device.clone()).collect();
    assert_eq!(found, [Some(device_name("shed"))]);
}

#[test]
fn without_a_store_devices_are_learned_all_the_same() {
    let mut house = House::of(spec(Vec::new(), esp()));
    house.connect_watch();
    house.hear("home/attic/sensors/t");
    house.happen(Event::StoreFailed { error: "the disk is gone".to_owned() });
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
    house.hear("home/cellar/sensors/t");
    assert_eq!(names(&house), ["attic", "cellar"]);
    // It comes back, with one that was forgotten.
    let mut earlier = running(esp());
    earlier.hear("home/cellar/sensors/t");
    forget(&mut earlier, "cellar");
    house.store.devices = earlier.store.devices;
    house.open_store();
    assert_eq!(names(&house), ["attic"]);
}

/// As when the broker is faster than the disk.
fn heard_before_the_store(house: &mut House, messages: &[(&str, &str)]) {
    house.advance(secs(2));
    house.crash();
    house.turn_the_page();
    house.connect_watch();
    for (at, payload) in messages {
        house.hear_payload(at, payload);
    }
    house.open_store();
}

#[test]
fn a_configured_device_gets_an_early_message_once() {
    let states = vec![filter("home/bell/set/#")];
    let bell =
        DeviceSpec { hello: Some(filter("home/bell")), state: states, ..watched("bell", 30) };
    let wide = DeviceSpec { hello: Some(filter("home/+")), ..watched("wide", 30) };
    let mut fleet = esp();
    fleet.exceptions.insert(device_name("bell"), bell.clone());
    let mut house = House::of(spec(vec![bell, wide], fleet));
    house.power_up();
    house.hear("home/attic");
    let hellos = |house: &House, device: &str| {
        house.monitor.view(&device_name(device)).map(|view| view.hellos)
    };
    heard_before_the_store(&mut house, &[("home/bell", "1"), ("home/shed", "1")]);
    assert_eq!(hellos(&house, "bell"), Some(1));
    assert_eq!(hellos(&house, "wide"), Some(2));
    // Those that were not known yet get it now.
    assert_eq!(hellos(&house, "shed"), Some(1));
    heard_before_the_store(&mut house, &[("home/attic", "1"), ("home/bell", "1")]);
    assert_eq!((hellos(&house, "attic"), hellos(&house, "bell")), (Some(1), Some(1)));
    assert_eq!(house.monitor.view(&device_name("bell")).unwrap().fleet.as_deref(), Some("esp"));
    assert_eq!(hellos(&house, "wide"), Some(2));
}

/// Its section has topics of its own, so it hears what is the fleet's only as a member.
#[test]
fn a_member_with_a_section_gets_an_early_message_that_only_members_hear() {
    let mut house = House::of(with_section());
    house.power_up();
    house.hear("home/attic");
    assert_eq!(house.monitor.view(&device_name("attic")).unwrap().hellos, 1);
    heard_before_the_store(&mut house, &[("home/attic", "1")]);
    assert_eq!(house.monitor.view(&device_name("attic")).unwrap().hellos, 1);
}

#[test]
fn early_reports_keep_their_word() {
    let mut fleet = esp();
    fleet.template.availability = vec![TopicName::new("home/{name}/LWT").unwrap()];
    let mut house = running(fleet);
    house.hear("home/attic/sensors/t");
    let reports = [
        ("home/attic/LWT", "offline"),
        ("home/shed/LWT", "online"),
        ("home/cellar/LWT", "offline"),
        ("home/loft/LWT", "online"),
        ("home/loft/LWT", "offline"),
    ];
    heard_before_the_store(&mut house, &reports);
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired), "it is known from the store");
    assert_eq!(state_of(&house, "shed"), Some(Liveness::Alive));
    assert_eq!(state_of(&house, "cellar"), None, "a will alone introduces nobody");
    assert_eq!(state_of(&house, "loft"), Some(Liveness::Expired));
}

#[test]
fn one_that_is_forgotten_while_the_store_cannot_be_read_stays_forgotten() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.advance(secs(1));
    house.crash();
    house.connect_watch();
    house.happen(Event::StoreFailed { error: "the disk is gone".to_owned() });
    house.hear("home/attic/sensors/t");
    forget(&mut house, "attic");
    house.open_store();
    house.advance(secs(2));
    let record = house.store.devices.get(&device_name("attic"));
    assert!(record.is_some_and(|record| record.forgotten), "{record:?}");
    house.crash();
    house.power_up();
    house.hear("home/attic/sensors/t");
    assert_eq!(names(&house), [""; 0]);
}

/// The broker sends what it retains once, and perhaps before the store has been read.
#[test]
fn reports_of_members_are_asked_for_again_when_the_store_opens() {
    let mut fleet = esp();
    fleet.template.availability = vec![TopicName::new("home/{name}/LWT").unwrap()];
    let mut house = running(fleet);
    house.hear("home/attic/sensors/t");
    house.advance(secs(1));
    house.crash();
    house.connect_watch();
    house.turn_the_page();
    house.open_store();
    let asked = house.subscribed(Connection::Watch);
    assert!(asked.iter().any(|s| s.filter == filter("home/+/LWT") && s.replay), "{asked:?}");
}

#[test]
fn one_whose_fleet_left_is_gone_as_any_other() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.advance(secs(1));
    house.spec.fleets.clear();
    house.turn_the_page();
    house.reload(Vec::new());
    assert_eq!(names(&house), [""; 0]);
    assert_eq!(house.payloads("status/attic"), [""]);
    house.advance(secs(61));
    assert!(house.store.devices.is_empty());
    assert!(house.unsubscribed(Connection::Watch).contains(&&filter("home/+/sensors/#")));
}

#[test]
fn one_whose_fleet_left_while_the_monitor_was_down_is_gone_too() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.advance(secs(1));
    house.spec.fleets.clear();
    house.restart();
    house.turn_the_page();
    house.power_up();
    assert_eq!(names(&house), [""; 0]);
    assert_eq!(house.payloads("status/attic"), [""]);
    assert!(house.store.devices.is_empty());
}

#[test]
fn a_reload_keeps_members_with_all_their_state() {
    let mut house = running(esp());
    for device in ["cellar", "attic", "shed"] {
        house.hear(&format!("home/{device}"));
    }
    house.advance(secs(20));
    house.hear("home/shed/sensors/t");
    house.happen(Event::Disabled { device: device_name("cellar") });
    house.advance(secs(11));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired));
    let before = house.monitor.views_after(None, 10);
    house.turn_the_page();
    house.reload(vec![watched("bell", 30)]);
    let mut after = house.monitor.views_after(None, 10);
    after.retain(|view| view.name != "bell");
    assert_eq!(after, before);
    assert_eq!(house.count(AlertKind::DeviceFound), 0);
    assert_eq!(house.count(AlertKind::Expired), 0);
    // The deadline of the last one goes on.
    house.advance(secs(20));
    assert_eq!(state_of(&house, "shed"), Some(Liveness::Expired));
    house.hear("home/attic/sensors/t");
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
}

#[test]
fn a_reload_that_ignores_a_member_takes_it_out() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.hear("home/cellar/sensors/t");
    house.advance(secs(1));
    house.spec.fleets[0].ignore = vec![NamePattern::new("att*")];
    house.turn_the_page();
    house.reload(Vec::new());
    assert_eq!(names(&house), ["cellar"]);
    assert_eq!(house.payloads("status/attic"), [""]);
    assert_eq!(saved_fleet(&house, "attic"), None);
    house.hear("home/attic/sensors/t");
    assert_eq!(names(&house), ["cellar"]);
}

#[test]
fn a_member_that_the_configuration_names_now_is_one_of_its_devices() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.advance(secs(1));
    let contact = house.monitor.view(&device_name("attic")).unwrap().last_contact;
    house.reload(vec![watched("attic", 500)]);
    let view = house.monitor.view(&device_name("attic")).unwrap();
    assert_eq!((view.fleet, view.last_contact), (None, contact));
    assert_eq!(view.watch_timeout, Some(secs(500)));
    assert_eq!(saved_fleet(&house, "attic"), None);
    assert!(house.store.devices.contains_key(&device_name("attic")));
    assert!(!house.monitor.is_forgettable(&device_name("attic")));
}

#[test]
fn a_forgotten_device_is_gone_for_good() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.hear("home/cellar/sensors/t");
    house.state("home/attic/set/lamp", "on");
    house.state("home/cellar/set/lamp", "on");
    house.advance(secs(31));
    assert_eq!(house.monitor.summary().expired, 2);
    assert!(house.monitor.is_forgettable(&device_name("attic")));
    house.turn_the_page();
    forget(&mut house, "attic");
    assert_eq!(names(&house), ["cellar"]);
    assert_eq!(house.payloads("status/attic"), [""]);
    assert_eq!(house.count(AlertKind::DeviceForgotten), 1);
    assert_eq!(house.monitor.summary().expired, 1);
    assert_eq!(house.store.states.keys().collect::<Vec<_>>(), [&topic("home/cellar/set/lamp")]);
    let comes_back = |house: &mut House| {
        house.hear("home/attic/sensors/t");
        house.state("home/attic/set/lamp", "off");
        house.advance(secs(120));
        names(house) != ["cellar"]
            || house.store.states.contains_key(&topic("home/attic/set/lamp"))
            || !house.payloads("status/attic").iter().all(String::is_empty)
    };
    assert!(!comes_back(&mut house));
    house.crash();
    house.power_up();
    assert!(!comes_back(&mut house), "after a crash");
    house.reload(Vec::new());
    assert!(!comes_back(&mut house), "after a reload");
    assert_eq!(house.count(AlertKind::DeviceFound), 0);
}

#[test]
fn states_that_another_device_records_too_stay() {
    let wide = DeviceSpec { state: vec![filter("home/#")], ..stateful("wide") };
    let mut house = House::of(spec(vec![wide], esp()));
    house.power_up();
    house.hear("home/attic/sensors/t");
    house.state("home/attic/set/lamp", "on");
    forget(&mut house, "attic");
    assert_eq!(house.store.states.len(), 1);
}

#[test]
fn many_states_of_a_forgotten_device_are_deleted() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    for number in 0..250 {
        house.state(&format!("home/attic/set/{number}"), "on");
    }
    forget(&mut house, "attic");
    assert!(house.store.states.is_empty());
}

#[test]
fn states_that_a_crash_left_of_a_forgotten_device_are_deleted_at_the_next_start() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.hear("home/cellar/sensors/t");
    house.state("home/attic/set/lamp", "on");
    house.state("home/cellar/set/lamp", "on");
    house.advance(secs(2));
    house.store.holds_reads = true;
    forget(&mut house, "attic");
    assert_eq!(house.store.states.len(), 2);
    house.crash();
    house.store.holds_reads = false;
    house.power_up();
    assert_eq!(house.store.states.keys().collect::<Vec<_>>(), [&topic("home/cellar/set/lamp")]);
    assert_eq!(names(&house), ["cellar"]);
    // Once.
    let reads = |house: &House| {
        house.log.iter().filter(|(_, action)| matches!(action, Action::ReadStates { .. })).count()
    };
    house.advance(secs(2));
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!((reads(&house), names(&house)), (0, vec!["cellar".to_owned()]));
}

#[test]
fn a_name_in_the_configuration_brings_a_forgotten_device_back() {
    let mut house = running(esp());
    house.hear("home/attic/sensors/t");
    house.hear("home/cellar/sensors/t");
    forget(&mut house, "attic");
    forget(&mut house, "cellar");
    // As a device of its own.
    house.reload(vec![watched("attic", 30)]);
    assert_eq!(names(&house), ["attic"]);
    // From then on it may be learned again.
    house.reload(Vec::new());
    assert_eq!(names(&house), [""; 0]);
    house.hear("home/cellar/sensors/t");
    house.hear("home/attic/sensors/t");
    assert_eq!(names(&house), ["attic"]);
    house.restart();
    house.power_up();
    assert_eq!(names(&house), ["attic"]);
}

#[test]
fn a_device_that_only_the_configuration_names_cannot_be_forgotten() {
    let mut house = House::of(spec(vec![watched("bell", 30)], esp()));
    house.power_up();
    assert!(!house.monitor.is_forgettable(&device_name("bell")));
    forget(&mut house, "bell");
    assert_eq!(names(&house), ["bell"]);
}

/// Everything that could be due for a device at the time at which it is forgotten.
#[test]
fn nothing_of_a_forgotten_device_happens_later() {
    let mut fleet = esp();
    fleet.template.expire_repeat = Some(secs(10));
    fleet.template.availability = vec![TopicName::new("home/{name}/LWT").unwrap()];
    let mut house = running(fleet);
    house.broker.acknowledges = false;
    for device in ["a", "b", "c"] {
        house.hear(&format!("home/{device}"));
    }
    // A round trip is under way, and a restore.
    house.advance(secs(31));
    house.hear("home/b");
    house.hear_payload("home/c/LWT", "offline");
    house.happen(Event::Paused { device: device_name("a"), span: secs(60) });
    house.happen(Event::Silenced { device: Some(device_name("b")), span: secs(60) });
    for device in ["a", "b", "c"] {
        forget(&mut house, device);
    }
    house.turn_the_page();
    house.broker.acknowledges = true;
    house.settle_acknowledgements();
    house.advance(secs(7_200));
    let quiet = ["expire", "recover", "status"];
    for (below, device) in quiet.iter().flat_map(|below| ["a", "b", "c"].map(|d| (below, d))) {
        house.expect_silence_on(&format!("{below}/{device}"));
    }
    assert_eq!(house.log.iter().filter(|(_, a)| matches!(a, Action::Raise(_))).count(), 0);
    assert!(house.store.devices.values().all(|record| record.forgotten));
    house.reload(Vec::new());
    house.advance(secs(60));
    assert_eq!(names(&house), [""; 0]);
}

/// As a device of the configuration: its silence shows nothing.
#[test]
fn a_member_with_a_filter_that_the_broker_refuses_is_not_judged_by_its_silence() {
    let mut fleet = esp();
    fleet.template.watch.push(filter("tele/{name}/#"));
    let mut house = House::of(spec(vec![watched("bell", 30)], fleet));
    house.broker.refused.insert(filter("tele/+/#"));
    house.power_up();
    house.hear("home/attic/sensors/t");
    house.hear("home/bell/x");
    house.advance(secs(600));
    assert_eq!(state_of(&house, "bell"), Some(Liveness::Expired));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Alive));
    // The broker grants it after all.
    house.broker.refused.clear();
    house.lose_watch();
    house.connect_watch();
    house.advance(secs(600));
    assert_eq!(state_of(&house, "attic"), Some(Liveness::Expired));
}

#[test]
fn a_member_behind_a_gateway_that_is_down_is_not_alarmed() {
    let mut fleet = esp();
    fleet.template.depends_on = vec![device_name("gateway")];
    let mut house = House::of(spec(vec![watched("gateway", 10)], fleet));
    house.power_up();
    house.hear("home/gateway/x");
    house.advance(secs(60));
    assert_eq!(state_of(&house, "gateway"), Some(Liveness::Expired));
    house.hear("home/attic/sensors/t");
    house.turn_the_page();
    house.advance(secs(600));
    assert_eq!(house.count(AlertKind::Expired), 0);
    assert_eq!(house.status("attic")["reason"], "upstream");
}

#[test]
fn the_oldest_of_very_many_forgotten_names_may_come_back() {
    let mut house = running(FleetSpec { max_devices: 2, ..esp() });
    for number in 0..1_001 {
        house.hear(&format!("home/n{number}/sensors/t"));
        house.advance(Duration::from_millis(1_500));
        forget(&mut house, &format!("n{number}"));
    }
    house.advance(secs(2));
    assert_eq!(house.store.devices.len(), 1_000);
    house.hear("home/n1/sensors/t");
    house.hear("home/n0/sensors/t");
    assert_eq!(names(&house), ["n0"]);
}
